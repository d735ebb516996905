//! What the relay shows of itself: one snapshot for the page and its JSON twin.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{metrics::Metrics, reject::Reject};

/// Events a second are averaged over at least this time.
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the relay at one moment.
#[derive(Clone, Serialize, Debug)]
pub struct Snapshot {
    /// The version of the software.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Hosts connected now.
    pub hosts_connected: u64,
    /// Events given a seq since the start.
    pub events_sequenced: u64,
    /// The same, per second, since the snapshot before.
    pub events_per_second: f64,
    /// The last seq.
    pub last_seq: u64,
    /// The oldest seq that can be replayed.
    pub oldest_seq: u64,
    /// Firehose subscribers now.
    pub subscribers: u64,
    /// Events that were not forwarded.
    pub rejected_total: u64,
    /// The same by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// Takes snapshots.
#[derive(Debug)]
pub struct StatusBoard {
    metrics: Arc<Metrics>,
    started: Instant,
    rate: Mutex<Rate>,
}

#[derive(Debug)]
struct Rate {
    since: Instant,
    events: u64,
    per_second: f64,
}

impl StatusBoard {
    /// A board whose uptime counts from now.
    pub fn new(metrics: Arc<Metrics>) -> StatusBoard {
        let now = Instant::now();
        StatusBoard {
            rate: Mutex::new(Rate {
                since: now,
                events: metrics.events_sequenced.get(),
                per_second: 0.0,
            }),
            metrics,
            started: now,
        }
    }

    /// The state now.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let metrics = &self.metrics;
        let events = metrics.events_sequenced.get();
        let rejected = Reject::ALL
            .iter()
            .map(|r| (r.name(), metrics.rejected.get(*r)));
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: now.saturating_duration_since(self.started).as_secs(),
            hosts_connected: metrics.hosts_connected.get(),
            events_sequenced: events,
            events_per_second: self.events_per_second(events, now),
            last_seq: metrics.last_seq.get(),
            oldest_seq: metrics.oldest_seq.get(),
            subscribers: metrics.subscribers.get(),
            rejected_total: metrics.rejected.total(),
            rejected: rejected.collect(),
        }
    }

    fn events_per_second(&self, events: u64, now: Instant) -> f64 {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(rate.since);
        if passed >= RATE_INTERVAL {
            let per_second = events.saturating_sub(rate.events) as f64 / passed.as_secs_f64();
            *rate = Rate {
                since: now,
                events,
                per_second: (per_second * 10.0).round() / 10.0,
            };
        }
        rate.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between_snapshots() {
        let metrics = Arc::new(Metrics::default());
        metrics.events_sequenced.add(1_000);
        let board = StatusBoard::new(Arc::clone(&metrics));
        let at = |seconds| board.snapshot(board.started + Duration::from_secs(seconds));
        assert_eq!(at(0).events_per_second, 0.0);
        metrics.events_sequenced.add(50);
        assert_eq!(at(0).events_per_second, 0.0, "too short to say");
        assert_eq!(at(4).events_per_second, 12.5);
        assert_eq!(at(4).events_per_second, 12.5);
        assert_eq!(at(6).events_per_second, 0.0);
        assert_eq!(at(6).uptime_seconds, 6);
    }

    #[test]
    fn every_reason_is_there() {
        let metrics = Arc::new(Metrics::default());
        metrics.rejected.inc(Reject::RevStale);
        let snapshot = StatusBoard::new(metrics).snapshot(Instant::now());
        assert_eq!(snapshot.rejected.len(), Reject::ALL.len());
        assert_eq!(
            (snapshot.rejected["rev_stale"], snapshot.rejected_total),
            (1, 1)
        );
    }
}
