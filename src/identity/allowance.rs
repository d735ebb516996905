//! How often an account's document may be fetched anew although it is known: a bad signature or a
//! wrong host may mean that the document has changed, but whoever sends such events in numbers
//! must not make the relay a burden to the directory.

use std::{collections::HashMap, hash::Hash};

use crate::{
    atproto::{did::Did, hostname::Hostname},
    limits,
};

/// Counts forced refreshes by account and by host.
#[derive(Default, Debug)]
pub(super) struct Forced {
    /// When the next refresh of the account on behalf of the host is allowed. Counted apart for each
    /// host, or a stranger could use up the refresh that the account's new host will need.
    dids: Bounded<(Did, Hostname)>,
    /// When the host's allowance is full again: it is a bucket of
    /// [`limits::IDENTITY_FORCED_BURST`] that fills by one in
    /// [`limits::IDENTITY_FORCED_REFILL`].
    hosts: Bounded<Hostname>,
}

impl Forced {
    /// Whether `host` may cause a refresh of `did` at `now_ms`; if so, it is counted.
    pub(super) fn allow(&mut self, did: &Did, host: &Hostname, now_ms: u64) -> bool {
        let refill = millis(limits::IDENTITY_FORCED_REFILL);
        let burst = u64::from(limits::IDENTITY_FORCED_BURST) * refill;
        let full_at = self.hosts.get(host, now_ms) + refill;
        let account = (did.clone(), host.clone());
        let allowed = self.dids.get(&account, now_ms) <= now_ms
            && full_at <= now_ms + burst
            && self.dids.make_room(now_ms)
            && self.hosts.make_room(now_ms);
        if allowed {
            let next = now_ms + millis(limits::IDENTITY_FORCED_INTERVAL);
            self.dids.times.insert(account, next);
            self.hosts.times.insert(host.clone(), full_at);
        }
        allowed
    }
}

/// Times in the future, by key; those that have passed are forgotten when there are too many.
#[derive(Debug)]
struct Bounded<K> {
    times: HashMap<K, u64>,
    /// Forgetting is tried no sooner than this: it looks at every entry.
    forget_at: u64,
}

impl<K> Default for Bounded<K> {
    fn default() -> Self {
        Bounded {
            times: HashMap::new(),
            forget_at: 0,
        }
    }
}

impl<K: Hash + Eq> Bounded<K> {
    /// The time of `key`, or now if it has passed.
    fn get(&self, key: &K, now_ms: u64) -> u64 {
        self.times.get(key).copied().unwrap_or(0).max(now_ms)
    }

    /// Whether one more key can be kept.
    fn make_room(&mut self, now_ms: u64) -> bool {
        let full = self.times.len() >= limits::IDENTITY_FORCED_MAX;
        if full && now_ms >= self.forget_at {
            self.times.retain(|_, time| *time > now_ms);
            self.forget_at = now_ms + millis(limits::IDENTITY_FORCED_REFILL);
        }
        self.times.len() < limits::IDENTITY_FORCED_MAX
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(n: usize) -> Did {
        Did::parse(&format!("did:web:n{n}.test")).unwrap()
    }

    #[test]
    fn a_host_has_an_account_refreshed_once_in_its_interval() {
        let interval = millis(limits::IDENTITY_FORCED_INTERVAL);
        let host = Hostname::parse("a.test").unwrap();
        let other = Hostname::parse("b.test").unwrap();
        let mut forced = Forced::default();
        assert!(forced.allow(&did(1), &host, 1000));
        assert!(!forced.allow(&did(1), &host, 1000 + interval - 1));
        assert!(forced.allow(&did(1), &other, 1000 + interval - 1));
        assert!(!forced.allow(&did(1), &other, 1000 + interval));
        assert!(forced.allow(&did(1), &host, 1000 + interval));
        assert!(forced.allow(&did(2), &host, 1000 + interval));
    }

    #[test]
    fn a_host_has_a_burst_and_then_a_rate() {
        let burst = limits::IDENTITY_FORCED_BURST as usize;
        let refill = millis(limits::IDENTITY_FORCED_REFILL);
        let host = Hostname::parse("a.test").unwrap();
        let mut forced = Forced::default();
        for n in 0..burst {
            assert!(forced.allow(&did(n), &host, 5000), "{n}");
        }
        assert!(!forced.allow(&did(burst), &host, 5000));
        assert!(forced.allow(&did(burst), &host, 5000 + refill));
        assert!(!forced.allow(&did(burst + 1), &host, 5000 + refill));
        let other = Hostname::parse("b.test").unwrap();
        assert!(forced.allow(&did(burst + 1), &other, 5000));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let host = |n| Hostname::parse(&format!("h{n}.test")).unwrap();
        let mut forced = Forced::default();
        for n in 0..limits::IDENTITY_FORCED_MAX {
            assert!(forced.allow(&did(n), &host(n), 0));
        }
        let n = limits::IDENTITY_FORCED_MAX;
        assert!(!forced.allow(&did(n), &host(n), 0));
        let later = millis(limits::IDENTITY_FORCED_INTERVAL);
        assert!(forced.allow(&did(n), &host(n), later));
        assert_eq!(forced.dids.times.len(), 1);
    }
}
