//! How many accounts a host may have looked up that turn out not to be its own.
//!
//! Anybody can make up DIDs, or take those of others, and each that nobody has asked for before costs
//! the directory a request. Whoever does so in numbers is slowed down, alone: its lookups wait, and
//! then its events, and then it is not read any more. Nothing is refused for it, because the next
//! account may be real.
//!
//! A host has a bucket of lookups, which fills up again by itself. A lookup that shows an account of
//! the host gives back what it has taken, and makes the bucket larger. So a host whose accounts are
//! real never waits, however many of them are new at once; and one that has a hundred thousand of them
//! may lose thousands in the directory in a day without anybody waiting for it.

use std::{collections::HashMap, time::Duration};

use crate::{atproto::hostname::Hostname, limits};

/// How often the buckets of those who have long not been heard of are forgotten, at most.
const FORGET_INTERVAL_MS: u64 = 1_000;

#[derive(Default, Debug)]
pub(super) struct Budget {
    hosts: HashMap<Hostname, Bucket>,
    /// Forgetting is tried no sooner than this: it looks at every bucket.
    forget_at: u64,
}

#[derive(Clone, Copy, Default, Debug)]
struct Bucket {
    /// When it is full again, if nothing more is taken.
    full_at: u64,
    /// How many accounts of the host were seen.
    real: u32,
}

/// How long an empty bucket of any size takes to fill.
fn span() -> u64 {
    millis(limits::IDENTITY_STRANGERS_REFILL) * u64::from(limits::IDENTITY_STRANGERS_BURST)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Bucket {
    /// The time that one lookup takes out of it.
    fn step(self) -> u64 {
        let size = limits::IDENTITY_STRANGERS_BURST.saturating_add(self.real);
        span() / u64::from(size.min(limits::IDENTITY_STRANGERS_BURST_MAX))
    }

    /// When there is a lookup in it.
    fn due(self) -> u64 {
        (self.full_at + self.step()).saturating_sub(span())
    }
}

impl Budget {
    /// When `host` may have a lookup: now, or later.
    pub(super) fn due(&self, host: &Hostname, now_ms: u64) -> u64 {
        let bucket = self.hosts.get(host);
        bucket.map_or(now_ms, |bucket| bucket.due().max(now_ms))
    }

    /// Whether something is missing in its bucket.
    pub(super) fn owes(&self, host: &Hostname, now_ms: u64) -> bool {
        self.hosts
            .get(host)
            .is_some_and(|bucket| bucket.full_at > now_ms)
    }

    /// Takes one lookup, which is there; what it was is returned.
    pub(super) fn take(&mut self, host: &Hostname, now_ms: u64) -> u64 {
        self.make_room(now_ms);
        let bucket = self.hosts.entry(host.clone()).or_default();
        let step = bucket.step();
        bucket.full_at = bucket.full_at.max(now_ms) + step;
        step
    }

    /// Gives back what was taken: the account is the host's, or nobody could say.
    pub(super) fn give_back(&mut self, host: &Hostname, taken: u64) {
        if let Some(bucket) = self.hosts.get_mut(host) {
            bucket.full_at = bucket.full_at.saturating_sub(taken);
        }
    }

    /// The host has one account more.
    pub(super) fn grow(&mut self, host: &Hostname) {
        if let Some(bucket) = self.hosts.get_mut(host) {
            bucket.real = bucket.real.saturating_add(1);
        }
    }

    /// Hosts are admitted one by one, so that there are never so many of them; if there are, those
    /// that owe nothing begin anew.
    fn make_room(&mut self, now_ms: u64) {
        if self.hosts.len() >= limits::IDENTITY_ALLOWANCE_MAX && now_ms >= self.forget_at {
            self.hosts.retain(|_, bucket| bucket.full_at > now_ms);
            self.forget_at = now_ms + FORGET_INTERVAL_MS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::host;

    const NOW: u64 = 1_700_000_000_000;
    const BURST: u32 = limits::IDENTITY_STRANGERS_BURST;

    /// Takes what there is.
    fn empty(budget: &mut Budget, host: &Hostname, now_ms: u64) -> u32 {
        let mut taken = 0;
        while budget.due(host, now_ms) <= now_ms {
            budget.take(host, now_ms);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_host_has_a_burst_and_then_a_rate_and_others_have_their_own() {
        let mut budget = Budget::default();
        let refill = millis(limits::IDENTITY_STRANGERS_REFILL);
        assert_eq!(empty(&mut budget, &host("a"), NOW), BURST);
        assert_eq!(budget.due(&host("a"), NOW), NOW + refill);
        assert_eq!(budget.due(&host("b"), NOW), NOW);
        assert_eq!(empty(&mut budget, &host("a"), NOW + 10 * refill), 10);
        assert_eq!(empty(&mut budget, &host("a"), NOW + 20 * span()), BURST);
    }

    #[test]
    fn a_host_of_real_accounts_never_waits() {
        let mut budget = Budget::default();
        for _ in 0..100_000 {
            assert_eq!(budget.due(&host("a"), NOW), NOW);
            let taken = budget.take(&host("a"), NOW);
            budget.give_back(&host("a"), taken);
            budget.grow(&host("a"));
        }
        // By now it may be wrong more often, and recovers as fast.
        let max = limits::IDENTITY_STRANGERS_BURST_MAX;
        assert_eq!(empty(&mut budget, &host("a"), NOW), max);
        assert_eq!(empty(&mut budget, &host("a"), NOW + span() / 10), max / 10);
    }

    #[test]
    fn every_other_account_may_be_made_up() {
        let mut budget = Budget::default();
        empty(&mut budget, &host("a"), NOW);
        let refill = millis(limits::IDENTITY_STRANGERS_REFILL);
        let mut now = NOW + refill;
        for _ in 0..100 {
            let taken = budget.take(&host("a"), now);
            assert!(budget.due(&host("a"), now) > now);
            budget.give_back(&host("a"), taken);
            budget.grow(&host("a"));
            assert_eq!(budget.due(&host("a"), now), now);
            now += 1;
        }
        assert!(empty(&mut budget, &host("a"), now) >= 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut budget = Budget::default();
        for n in 0..=limits::IDENTITY_ALLOWANCE_MAX as u64 {
            budget.take(&host(&format!("h{n}")), NOW + n * span());
        }
        assert_eq!(budget.hosts.len(), 1);
    }
}
