//! Events of accounts that their host once said are inactive, held while the host is asked whether
//! that still is so: the word that an account is active again may have been lost
//! (<https://atproto.com/specs/account#account-status-events>).
//!
//! Pure: the sequencer asks and tells, this keeps the limits. What is held is bounded, and so is how
//! often an account and a host are asked about.

use std::collections::{BTreeMap, HashMap};

use super::event::{Event, Kind, Upstream};
use crate::{
    atproto::did::Did,
    limits::{
        STATUS_ACCOUNTS_MAX, STATUS_HELD_BYTES_MAX, STATUS_INTERVAL, STATUS_PER_HOST_MAX,
        STATUS_WINDOW,
    },
    store::account::HostId,
};

/// What is held, and who was asked about lately.
#[derive(Default, Debug)]
pub(super) struct Held {
    accounts: HashMap<Did, Vec<Event>>,
    bytes: usize,
    /// The epoch and upstream seq of what is held, of each host, and how many events are held under it: over
    /// a new connection a host may say something else with the last seq of the one before.
    places: HashMap<HostId, BTreeMap<(u32, u64), usize>>,
    /// The question that each host has not answered yet: one at a time, so that a host which takes
    /// its time does not keep the others waiting.
    asking: HashMap<HostId, Did>,
    /// When an account was last asked about, in milliseconds.
    asked: HashMap<Did, u64>,
    /// The next time to forget old ones, in milliseconds.
    forget_at: u64,
    /// How often each host was asked since the time, in milliseconds.
    hosts: HashMap<HostId, (u64, u32)>,
    /// Up to where a host would be processed, were it not for what is held.
    owed: HashMap<HostId, Upstream>,
}

impl Held {
    /// Whether something of the account is held: what comes later waits behind it.
    pub(super) fn holds(&self, did: &Did) -> bool {
        self.accounts.contains_key(did)
    }

    /// Whether its host may be asked about the account because of `event`, which would then be the
    /// first to be held.
    pub(super) fn may_ask(&mut self, event: &Event, now_ms: u64) -> bool {
        let lately = |asked: &u64| now_ms.saturating_sub(*asked) < millis(STATUS_INTERVAL);
        let of_host = self.hosts.get(&event.host);
        let busy = of_host.is_some_and(|(since, count)| {
            now_ms.saturating_sub(*since) < millis(STATUS_WINDOW) && *count >= STATUS_PER_HOST_MAX
        });
        matches!(event.kind, Kind::Commit(_) | Kind::Sync(_))
            && !self.asked.get(&event.did).is_some_and(lately)
            && !busy
            && !self.asking.contains_key(&event.host)
            && self.has_room(event)
            && self.has_memory(now_ms)
    }

    /// Whether one more account can be remembered. Those asked about long ago are forgotten when
    /// there are too many; looking at all of them is done once in a while only.
    fn has_memory(&mut self, now_ms: u64) -> bool {
        if self.asked.len() >= STATUS_ACCOUNTS_MAX && now_ms >= self.forget_at {
            let horizon = now_ms.saturating_sub(millis(STATUS_INTERVAL));
            self.asked.retain(|_, asked| *asked > horizon);
            self.forget_at = now_ms.saturating_add(millis(STATUS_WINDOW));
        }
        self.asked.len() < STATUS_ACCOUNTS_MAX
    }

    /// Whether one more event can be held.
    pub(super) fn has_room(&self, event: &Event) -> bool {
        self.bytes + event.frame.len() <= STATUS_HELD_BYTES_MAX
    }

    /// What is held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that the host was asked about the account.
    pub(super) fn asked(&mut self, event: &Event, now_ms: u64) {
        self.asked.insert(event.did.clone(), now_ms);
        self.asking.insert(event.host, event.did.clone());
        let (since, count) = self.hosts.entry(event.host).or_insert((now_ms, 0));
        if now_ms.saturating_sub(*since) >= millis(STATUS_WINDOW) {
            (*since, *count) = (now_ms, 0);
        }
        *count += 1;
    }

    /// Notes that there is an answer about the account, or that there will be none.
    pub(super) fn answered(&mut self, did: &Did) {
        self.asking.retain(|_, asked| asked != did);
    }

    /// Holds an event behind those of its account.
    pub(super) fn push(&mut self, event: Event) {
        self.bytes += event.frame.len();
        let place = (event.upstream.epoch, event.upstream.seq);
        let places = self.places.entry(event.host).or_default();
        *places.entry(place).or_default() += 1;
        self.accounts
            .entry(event.did.clone())
            .or_default()
            .push(event);
    }

    /// Lets the events of an account go.
    pub(super) fn release(&mut self, did: &Did) -> Vec<Event> {
        let events = self.accounts.remove(did).unwrap_or_default();
        for event in &events {
            self.bytes -= event.frame.len();
            self.leave(event.host, (event.upstream.epoch, event.upstream.seq));
        }
        events
    }

    /// One event fewer is held in this place.
    fn leave(&mut self, host: HostId, place: (u32, u64)) {
        let Some(places) = self.places.get_mut(&host) else {
            return;
        };
        if let Some(count) = places.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                places.remove(&place);
            }
        }
        if places.is_empty() {
            self.places.remove(&host);
        }
    }

    /// How far the host may be said to be processed, where it would be up to `cursor`: not past
    /// anything of it that is held. The rest is owed to it.
    pub(super) fn cursor(&mut self, host: HostId, epoch: u32, cursor: u64) -> u64 {
        let places = self.places.get(&host);
        let oldest = places.and_then(|places| places.range((epoch, 0)..=(epoch, u64::MAX)).next());
        let Some(limit) = oldest
            .map(|((_, seq), _)| seq - 1)
            .filter(|limit| *limit < cursor)
        else {
            return cursor;
        };
        let new = Upstream {
            epoch,
            seq: 0,
            cursor,
        };
        let owed = self.owed.entry(host).or_insert(new);
        // What is owed of an epoch that is over moves nothing, and must not hide what still does.
        if owed.epoch < epoch {
            *owed = new;
        } else if owed.epoch == epoch {
            owed.cursor = owed.cursor.max(cursor);
        }
        limit
    }

    /// What is owed to a host; to be offered again after something of it was let go.
    pub(super) fn take_owed(&mut self, host: HostId) -> Option<Upstream> {
        self.owed.remove(&host)
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atproto::{
        cid::Cid,
        prove::{Proven, Touched},
        tid::Tid,
    };

    /// A commit of the account `n`, on a host of its own.
    fn event(n: u32) -> Event {
        let cid = Cid::of_cbor(b"x");
        Event {
            host: HostId(n),
            upstream: Upstream {
                epoch: 0,
                seq: 1,
                cursor: 1,
            },
            did: Did::parse(&format!("did:web:n{n}.test")).unwrap(),
            authority_at: Some(1),
            happened_ms: None,
            kind: Kind::Commit(Proven {
                rev: Tid::from_raw(1),
                since: None,
                commit: cid,
                data: cid,
                prev_data: None,
                legacy: false,
                touched: Touched::default(),
            }),
            frame: crate::sequencer::event::Payload::default(),
            seq_at: 0..0,
            stored: None,
        }
    }

    #[test]
    fn what_is_owed_is_of_the_latest_epoch() {
        let mut held = Held::default();
        for epoch in [0, 1] {
            let mut event = event(7);
            (event.upstream.epoch, event.upstream.seq) = (epoch, 5);
            held.push(event);
        }
        let host = HostId(7);
        assert_eq!(held.cursor(host, 0, 90), 4);
        assert_eq!(held.cursor(host, 1, 8), 4);
        assert_eq!(held.cursor(host, 0, 95), 4);
        assert_eq!(held.cursor(host, 1, 7), 4);
        let owed = held.take_owed(host).map(|owed| (owed.epoch, owed.cursor));
        assert_eq!(owed, Some((1, 8)));
    }

    #[test]
    fn a_cursor_stays_while_anything_is_held_under_its_seq() {
        let (mut held, host) = (Held::default(), HostId(7));
        for n in [1, 2] {
            let mut event = event(n);
            (event.host, event.upstream.seq) = (host, 5);
            held.push(event);
        }
        for n in [1, 2] {
            assert_eq!(held.cursor(host, 0, 9), 4, "of account {n}");
            let did = Did::parse(&format!("did:web:n{n}.test")).unwrap();
            assert_eq!(held.release(&did).len(), 1);
        }
        assert_eq!(held.cursor(host, 0, 9), 9);
        assert!(held.places.is_empty());
    }

    #[test]
    fn who_was_asked_about_is_forgotten_in_time() {
        let (mut held, start) = (Held::default(), millis(STATUS_INTERVAL));
        let count = u32::try_from(STATUS_ACCOUNTS_MAX).unwrap();
        for n in 0..count {
            assert!(held.may_ask(&event(n), start), "{n}");
            held.asked(&event(n), start);
        }
        assert!(
            !held.may_ask(&event(count), start),
            "as many as are remembered"
        );
        let later = start + millis(STATUS_INTERVAL);
        assert!(!held.may_ask(&event(count), later - 1));
        assert!(held.may_ask(&event(count), later - 1 + millis(STATUS_WINDOW)));
        assert!(held.asked.is_empty());
    }
}
