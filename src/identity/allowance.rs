//! How often the directory may be asked for what is known already: a bad signature, a wrong host or
//! an `#identity` may mean that a document has changed, but whoever sends such events in numbers
//! must not make the relay a burden to the directory.

use std::{collections::HashMap, hash::Hash, time::Duration};

use crate::{
    atproto::{did::Did, hostname::Hostname},
    limits,
};

/// How often old times are forgotten, at most.
const FORGET_INTERVAL_MS: u64 = 1_000;
/// Entries below which nothing is forgotten: they are too few to matter.
const FORGET_FROM: usize = 1_024;

/// So many at once, and one more after each `refill`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// The time after which there may be one more.
    pub refill: Duration,
}

/// What the operator can change of it while the relay runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rates {
    /// Forced refreshes because of one host.
    pub refreshes_of_host: Rate,
    /// Forced refreshes of one account.
    pub refreshes_of_account: Rate,
    /// `#identity` events of one host that count at once.
    pub purges_of_host: Rate,
}

/// Counts by account and by host. Accounts are counted apart for each host, or a stranger could use
/// up what the account's own host will need.
#[derive(Debug)]
pub(super) struct Allowance {
    account: Rate,
    host: Rate,
    /// When the account's bucket is full again. Where that is further away than an empty bucket
    /// takes, one was promised in advance.
    accounts: Bounded<(Did, Hostname)>,
    /// When the host's bucket is full again.
    hosts: Bounded<Hostname>,
}

impl Allowance {
    /// For forced refreshes, which are refused beyond it.
    pub(super) fn of_refreshes() -> Allowance {
        Allowance::new(
            Rate {
                burst: 1,
                refill: limits::IDENTITY_FORCED_INTERVAL,
            },
            Rate {
                burst: limits::IDENTITY_FORCED_BURST,
                refill: limits::IDENTITY_FORCED_REFILL,
            },
        )
    }

    /// For purges, which are put off beyond it.
    pub(super) fn of_purges() -> Allowance {
        Allowance::new(
            Rate {
                burst: limits::IDENTITY_PURGE_ACCOUNT_BURST,
                refill: limits::IDENTITY_PURGE_ACCOUNT_REFILL,
            },
            Rate {
                burst: limits::IDENTITY_PURGE_HOST_BURST,
                refill: limits::IDENTITY_PURGE_HOST_REFILL,
            },
        )
    }

    /// From now on there may be so many because of one host, and of one account if that is said.
    pub(super) fn set(&mut self, host: Rate, account: Option<Rate>) {
        self.host = host;
        self.account = account.unwrap_or(self.account);
    }

    fn new(account: Rate, host: Rate) -> Allowance {
        Allowance {
            account,
            host,
            accounts: Bounded::default(),
            hosts: Bounded::default(),
        }
    }

    /// Whether there may be one of `did` because of `host` at `now_ms`; if so, it is counted.
    pub(super) fn take(&mut self, did: &Did, host: &Hostname, now_ms: u64) -> bool {
        let key = (did.clone(), host.clone());
        let (account, of_host) = self.full_at(&key, host, now_ms);
        let allowed = self.account.due(account) <= now_ms
            && self.host.due(of_host) <= now_ms
            && self.make_room(now_ms);
        if allowed {
            self.accounts.times.insert(key, account);
            self.hosts.times.insert(host.clone(), of_host);
        }
        allowed
    }

    /// When there may be one of `did` because of `host`: now, or later. It is counted already; of
    /// one account there is never more than one to come.
    pub(super) fn reserve(&mut self, did: &Did, host: &Hostname, now_ms: u64) -> u64 {
        let key = (did.clone(), host.clone());
        let promised = self.account.due(self.accounts.get(&key, now_ms));
        if promised > now_ms {
            return promised;
        }
        let (account, of_host) = self.full_at(&key, host, now_ms);
        let due = self.account.due(account).max(self.host.due(of_host));
        if !self.make_room(now_ms) {
            return now_ms + self.account.refill();
        }
        if due > now_ms {
            let empty = due + self.account.capacity();
            self.accounts.times.insert(key, empty);
            self.hosts.times.insert(host.clone(), of_host);
            return due;
        }
        self.accounts.times.insert(key, account);
        self.hosts.times.insert(host.clone(), of_host);
        now_ms
    }

    /// When the buckets of the account and of the host would be full again after one more.
    fn full_at(&self, key: &(Did, Hostname), host: &Hostname, now_ms: u64) -> (u64, u64) {
        (
            self.accounts.get(key, now_ms) + self.account.refill(),
            self.hosts.get(host, now_ms) + self.host.refill(),
        )
    }

    fn make_room(&mut self, now_ms: u64) -> bool {
        self.accounts.make_room(now_ms) && self.hosts.make_room(now_ms)
    }
}

impl Rate {
    fn refill(self) -> u64 {
        u64::try_from(self.refill.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long an empty bucket takes to fill.
    fn capacity(self) -> u64 {
        u64::from(self.burst) * self.refill()
    }

    /// When a bucket that is full again at that time is not empty any more.
    fn due(self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.capacity())
    }
}

/// Times in the future, by key. Those that have passed say nothing more, and are forgotten whenever there
/// are twice as many entries as were left the last time: what is kept follows from who asks now, not
/// from who ever did.
#[derive(Debug)]
struct Bounded<K> {
    times: HashMap<K, u64>,
    /// Forgetting is tried no sooner than this: it looks at every entry.
    forget_at: u64,
    /// And with no fewer entries than this.
    forget_from: usize,
}

impl<K> Default for Bounded<K> {
    fn default() -> Self {
        Bounded {
            times: HashMap::new(),
            forget_at: 0,
            forget_from: FORGET_FROM,
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
        if self.times.len() >= self.forget_from && now_ms >= self.forget_at {
            self.times.retain(|_, time| *time > now_ms);
            let twice = self.times.len() * 2;
            self.forget_from = twice.clamp(FORGET_FROM, limits::IDENTITY_ALLOWANCE_MAX);
            self.times.shrink_to(self.forget_from);
            self.forget_at = now_ms + FORGET_INTERVAL_MS;
        }
        self.times.len() < limits::IDENTITY_ALLOWANCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::{host, web};

    fn millis(duration: Duration) -> u64 {
        duration.as_millis() as u64
    }

    /// Rule 129: <https://atproto.com/specs/sync>
    #[test]
    fn a_host_has_an_account_refreshed_once_in_its_interval() {
        let interval = millis(limits::IDENTITY_FORCED_INTERVAL);
        let (host, other) = (host("a"), host("b"));
        let mut forced = Allowance::of_refreshes();
        assert!(forced.take(&web(1), &host, 1000));
        assert!(!forced.take(&web(1), &host, 1000 + interval - 1));
        assert!(forced.take(&web(1), &other, 1000 + interval - 1));
        assert!(!forced.take(&web(1), &other, 1000 + interval));
        assert!(forced.take(&web(1), &host, 1000 + interval));
        assert!(forced.take(&web(2), &host, 1000 + interval));
    }

    /// Rule 129: <https://atproto.com/specs/sync>
    #[test]
    fn a_host_has_a_burst_and_then_a_rate() {
        let burst = limits::IDENTITY_FORCED_BURST as usize;
        let refill = millis(limits::IDENTITY_FORCED_REFILL);
        let mut forced = Allowance::of_refreshes();
        for n in 0..burst {
            assert!(forced.take(&web(n), &host("a"), 5000), "{n}");
        }
        assert!(!forced.take(&web(burst), &host("a"), 5000));
        assert!(forced.take(&web(burst), &host("a"), 5000 + refill));
        assert!(!forced.take(&web(burst + 1), &host("a"), 5000 + refill));
        assert!(forced.take(&web(burst + 1), &host("b"), 5000));
    }

    #[test]
    fn one_to_come_is_promised_to_an_account_and_no_more() {
        let refill = millis(limits::IDENTITY_PURGE_ACCOUNT_REFILL);
        let mut purges = Allowance::of_purges();
        for _ in 0..limits::IDENTITY_PURGE_ACCOUNT_BURST {
            assert_eq!(purges.reserve(&web(1), &host("a"), 5000), 5000);
        }
        let due = 5000 + refill;
        for now in [5000, 5001, due - 1] {
            assert_eq!(purges.reserve(&web(1), &host("a"), now), due);
        }
        assert_eq!(purges.reserve(&web(1), &host("b"), 5000), 5000);
        assert_eq!(purges.reserve(&web(2), &host("a"), 5000), 5000);
        // The promise is kept by then, and the next one is as far away.
        assert_eq!(purges.reserve(&web(1), &host("a"), due), due + refill);
        let full = due + refill + millis(limits::IDENTITY_PURGE_ACCOUNT_REFILL) * 100;
        assert_eq!(purges.reserve(&web(1), &host("a"), full), full);
    }

    #[test]
    fn what_a_host_is_promised_comes_one_after_another() {
        let burst = limits::IDENTITY_PURGE_HOST_BURST as usize;
        let refill = millis(limits::IDENTITY_PURGE_HOST_REFILL);
        let mut purges = Allowance::of_purges();
        for n in 0..burst {
            assert_eq!(purges.reserve(&web(n), &host("a"), 5000), 5000, "{n}");
        }
        for n in 1..=100 {
            let due = 5000 + n as u64 * refill;
            for _ in 0..3 {
                assert_eq!(purges.reserve(&web(burst + n), &host("a"), 5000), due);
            }
        }
        assert_eq!(purges.reserve(&web(burst), &host("b"), 5000), 5000);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let hosts = |n| host(&format!("h{n}"));
        let mut forced = Allowance::of_refreshes();
        for n in 0..limits::IDENTITY_ALLOWANCE_MAX {
            assert!(forced.take(&web(n), &hosts(n), 0));
        }
        let n = limits::IDENTITY_ALLOWANCE_MAX;
        assert!(!forced.take(&web(n), &hosts(n), 0));
        let now = FORGET_INTERVAL_MS;
        assert!(forced.reserve(&web(n), &hosts(n), now) > now);
        let later = millis(limits::IDENTITY_FORCED_INTERVAL);
        assert!(forced.take(&web(n), &hosts(n), later));
        assert_eq!(forced.accounts.times.len(), 1);
    }

    #[test]
    fn who_asked_long_ago_takes_no_room() {
        let interval = millis(limits::IDENTITY_FORCED_INTERVAL);
        let mut forced = Allowance::of_refreshes();
        // Ten in an interval, for ever.
        for n in 0..FORGET_FROM * 20 {
            let now = n as u64 * interval / 10;
            assert!(forced.take(&web(n), &host(&format!("h{n}")), now));
            assert!(forced.accounts.times.len() <= FORGET_FROM + 1);
            assert!(forced.hosts.times.len() <= FORGET_FROM + 1);
        }
        let kept = forced.accounts.times.capacity();
        assert!(kept <= 4 * FORGET_FROM, "{kept}");
    }
}
