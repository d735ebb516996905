//! In the place of `src/metrics.rs`: what the sequencer counts, which nobody reads here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{reject::Reject, store::account::HostId};

#[path = "../../../src/metrics/histogram.rs"]
pub mod histogram;

/// As in `src/metrics.rs`.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds some.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// One more measurement.
    pub fn observe(&self, _: u64) {
        self.inc();
    }
}

/// Numbers of which each has a label: here only their sum.
#[derive(Default, Debug)]
pub struct Family(Counter);

impl Family {
    /// Adds one.
    pub fn inc<L>(&self, _: L) {
        self.0.inc();
    }

    /// One more for as long as what is returned is there.
    pub fn during<L>(&self, _: L) -> impl Drop {
        self.0.inc();
        During(&self.0)
    }
}

struct During<'a>(&'a Counter);

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As in `src/metrics/labels.rs`.
pub mod labels {
    /// Why an event waits.
    #[derive(Clone, Copy, Debug)]
    pub enum Deferral {
        /// Its host is asked for the status of its account.
        AccountStatus,
    }

    /// What a host's thread waits for.
    #[derive(Clone, Copy, Debug)]
    pub enum Wait {
        /// Room in the inbox.
        Inbox,
    }
}

/// As in `src/metrics/hosts.rs`.
pub mod hosts {
    use super::{Arc, Counter, HostId, Reject};

    /// The tallies of all hosts: here all have one.
    #[derive(Default, Debug)]
    pub struct HostTallies(Arc<Tally>);

    impl HostTallies {
        /// The tally of a host.
        pub fn of(&self, _: HostId) -> Arc<Tally> {
            self.0.clone()
        }
    }

    /// What is counted of one host.
    #[derive(Default, Debug)]
    #[allow(missing_docs, reason = "as in the crate")]
    pub struct Tally {
        pub forwarded: Counter,
        pub discontinuous: Counter,
        pub lenient: Counter,
    }

    /// An event that is not forwarded.
    #[derive(Debug)]
    pub struct Refusal;

    impl Refusal {
        /// Of an account, and why.
        pub fn new(_: Reject, _: &str, _: u64, _: u64) -> Refusal {
            Refusal
        }
    }
}

/// What the sequencer counts.
#[derive(Default, Debug)]
#[allow(missing_docs, reason = "as in the crate")]
pub struct Metrics {
    pub hosts: hosts::HostTallies,
    pub refused: Counter,
    pub status_asked: Counter,
    pub deferred: Family,
    pub collections_refused: Counter,
    pub commit_duration: Counter,
    pub batch_events: Counter,
    pub batches: Counter,
    pub events_sequenced: Counter,
    pub last_seq: Counter,
    pub oldest_seq: Counter,
    pub accounts: Counter,
    pub collections: Counter,
    pub collection_pairs: Counter,
    pub held_bytes: Counter,
    pub disk_free: Counter,
    pub disk_size: Counter,
    pub disk_reserve: Counter,
    pub disk_full: Counter,
    pub discontinuous: Counter,
    pub lenient: Counter,
    pub inbox_full: Counter,
    pub inbox_events: Counter,
    pub inbox_bytes: Counter,
    pub hosts_waiting: Family,
}

impl Metrics {
    /// Counts an event that was not forwarded.
    pub fn refuse(&self, _: HostId, _: &hosts::Tally, _: hosts::Refusal) {
        self.refused.inc();
    }

    /// Counts one that was.
    pub fn published(&self, _: Option<u64>, _: u64) {}
}

/// As in `src/metrics.rs`.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
