//! Identity events that are published while the cursor of their host stays before them, because something
//! older of it is parked or held. No account need tell that they come again: it may have moved away since,
//! and any host may say that there is news of an account. The cursor alone does not either, until it has
//! passed them.
//!
//! Pure, and forgotten with the process: after a restart such an event may be published once more, and it
//! says nothing that subscribers would take amiss (<https://atproto.com/specs/sync#identity-events>).

use std::collections::{BTreeSet, HashMap};

use crate::{atproto::did::Did, limits::AHEAD_EVENTS_MAX, store::account::HostId};

/// What is published past the cursors of hosts, of the epoch that each is in.
#[derive(Default, Debug)]
pub(super) struct Ahead {
    hosts: HashMap<HostId, BTreeSet<(u64, Did)>>,
    count: usize,
}

impl Ahead {
    /// Whether the host has said this with this seq, of this account.
    pub(super) fn contains(&self, host: HostId, seq: u64, did: &Did) -> bool {
        let events = self.hosts.get(&host);
        events.is_some_and(|events| events.contains(&(seq, did.clone())))
    }

    /// Notes that it has, unless too much is noted already.
    pub(super) fn note(&mut self, host: HostId, seq: u64, did: &Did) {
        if self.count < AHEAD_EVENTS_MAX {
            let events = self.hosts.entry(host).or_default();
            self.count += usize::from(events.insert((seq, did.clone())));
        }
    }

    /// The cursor of the host is here: what it has passed needs no note.
    pub(super) fn reached(&mut self, host: HostId, cursor: u64) {
        let Some(events) = self.hosts.get_mut(&host) else {
            return;
        };
        while events.first().is_some_and(|(seq, _)| *seq <= cursor) {
            events.pop_first();
            self.count -= 1;
        }
        if events.is_empty() {
            self.hosts.remove(&host);
        }
    }

    /// The host's stream is read anew, with other seqs.
    pub(super) fn restart(&mut self, host: HostId) {
        let events = self.hosts.remove(&host).unwrap_or_default();
        self.count -= events.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(n: usize) -> Did {
        Did::parse(&format!("did:web:n{n}.test")).unwrap()
    }

    #[test]
    fn what_is_ahead_is_known_until_the_cursor_has_passed_it() {
        let (mut ahead, home, away) = (Ahead::default(), HostId(1), HostId(2));
        for seq in [7, 5, 9, 5] {
            ahead.note(home, seq, &did(1));
        }
        ahead.note(away, 5, &did(1));
        assert!(ahead.contains(home, 5, &did(1)) && ahead.contains(home, 9, &did(1)));
        // With the same seq a host may say something else over a new connection.
        assert!(!ahead.contains(home, 5, &did(2)) && !ahead.contains(away, 7, &did(1)));
        ahead.reached(home, 7);
        let left = [5, 7, 9].map(|seq| ahead.contains(home, seq, &did(1)));
        assert_eq!((left, ahead.count), ([false, false, true], 2));
        ahead.restart(home);
        ahead.restart(home);
        assert!(!ahead.contains(home, 9, &did(1)) && ahead.contains(away, 5, &did(1)));
        ahead.reached(away, u64::MAX);
        assert!(ahead.hosts.is_empty() && ahead.count == 0);
    }

    #[test]
    fn only_so_many_are_known() {
        let (mut ahead, host) = (Ahead::default(), HostId(1));
        for seq in 0..=AHEAD_EVENTS_MAX as u64 {
            ahead.note(host, seq, &did(1));
        }
        let last = AHEAD_EVENTS_MAX as u64;
        assert!(ahead.contains(host, last - 1, &did(1)) && !ahead.contains(host, last, &did(1)));
        ahead.reached(host, 0);
        ahead.note(host, last, &did(1));
        assert!(ahead.contains(host, last, &did(1)));
    }
}
