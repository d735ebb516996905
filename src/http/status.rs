//! What the relay shows of itself: one snapshot for the page and its JSON twin, from what one thread
//! samples. A look at a page changes nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use serde::Serialize;

use super::{fresh::Fresh, hosts::Hosts, pages::frame::Site};
use crate::{
    atproto::datetime,
    host::now_ms,
    limits::{
        DELAY_SAMPLES, SAMPLE_INTERVAL, SAMPLES_MAX, SAMPLES_PER_HOST_RATE, SNAPSHOT_AGE_MAX,
    },
    metrics::{Metrics, histogram::Buckets},
    reject::Reject,
    store::Space,
    threads::Stop,
};

/// The state of the relay at one moment.
#[derive(Clone, Serialize, Debug)]
pub struct Snapshot {
    /// The version of the software.
    pub version: &'static str,
    /// Of what it was built.
    pub build: Build,
    /// What the relay is called.
    pub name: Option<String>,
    /// How its operator is reached.
    pub contact: Option<String>,
    /// What holds for those who use it.
    pub policy: Option<String>,
    /// When this is, in milliseconds since 1970.
    #[serde(skip)]
    pub now_ms: u64,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Hosts connected now.
    pub hosts_connected: u64,
    /// Hosts by their status.
    pub hosts: BTreeMap<&'static str, u64>,
    /// Events given a seq since the start.
    pub events_sequenced: u64,
    /// The same, per second, lately.
    pub events_per_second: f64,
    /// How that was before.
    pub history: History,
    /// From the time in an event to its publishing, in the last minute.
    pub delay_seconds: Delay,
    /// The last seq.
    pub last_seq: u64,
    /// The oldest seq that can be replayed.
    pub oldest_seq: u64,
    /// What can be replayed.
    pub window: Window,
    /// Why nothing new comes: the disk is full; none: it is not.
    pub disk_full: Option<FullDisk>,
    /// Firehose subscribers now.
    pub subscribers: u64,
    /// Frames sent to subscribers since the start.
    pub frames_sent: u64,
    /// Bytes sent to subscribers since the start.
    pub bytes_sent: u64,
    /// Accounts known.
    pub accounts: u64,
    /// Events that were not forwarded.
    pub rejected_total: u64,
    /// The same by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// Of what the program was built.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct Build {
    /// The version of the software.
    pub version: &'static str,
    /// The commit, where the build was told (`ZLAY_COMMIT`).
    pub commit: Option<&'static str>,
}

/// Rates at times of the same distance.
#[derive(Clone, Serialize, Debug)]
pub struct History {
    /// Seconds between two of them.
    pub interval_seconds: u64,
    /// Events given a seq per second, the latest at the end.
    pub events_per_second: Vec<f64>,
}

/// From the time in an event, as its host says it, to its publishing, in seconds; none: not known yet.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Debug)]
pub struct Delay {
    /// Of half of the events it is not longer.
    pub p50: Option<f64>,
    /// Of 99 in 100 it is not longer.
    pub p99: Option<f64>,
}

/// What can be replayed.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Window {
    /// The oldest seq that can be.
    pub oldest_seq: u64,
    /// When that was published; none: not known yet, or nothing can be replayed.
    pub oldest_time: Option<String>,
    /// The same in milliseconds since 1970.
    #[serde(skip)]
    pub oldest_ms: Option<u64>,
    /// How long ago that is, in seconds.
    pub seconds: Option<u64>,
}

/// A disk that has no room for events.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
pub struct FullDisk {
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Bytes that must be free for hosts to be read again.
    pub needed_bytes: u64,
}

impl fmt::Display for FullDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the disk is full: {} MiB are free, {} MiB are needed; nothing is taken of hosts until \
             there is room, and subscribers are served what there is",
            self.free_bytes >> 20,
            self.needed_bytes.div_ceil(1 << 20)
        )
    }
}

/// Whether the disk is full: the sequencer waits for room, or would with the next event.
pub fn full_disk(metrics: &Metrics) -> Option<FullDisk> {
    let space = Space::last(metrics)?;
    let is_full = metrics.disk_full.get() > 0 || space.is_full();
    is_full.then(|| FullDisk {
        free_bytes: space.free,
        needed_bytes: space.needed(),
    })
}

/// Takes samples and snapshots.
pub struct StatusBoard {
    metrics: Arc<Metrics>,
    hosts: Arc<dyn Hosts>,
    site: Site,
    started: Instant,
    samples: Mutex<Samples>,
    fresh: Fresh<Snapshot>,
}

#[derive(Debug)]
struct Samples {
    /// How many were taken.
    taken: u64,
    at: Instant,
    events: u64,
    /// When the hosts' own rates were taken.
    hosts_at: Instant,
    rates: VecDeque<f64>,
    /// What was counted of delays at each of the last samples, the oldest first.
    delays: VecDeque<Buckets>,
    oldest_ms: Option<u64>,
}

impl StatusBoard {
    /// A board whose uptime counts from now.
    pub fn new(metrics: Arc<Metrics>, hosts: Arc<dyn Hosts>, site: Site) -> StatusBoard {
        let now = Instant::now();
        StatusBoard {
            samples: Mutex::new(Samples {
                taken: 0,
                at: now,
                events: metrics.events_sequenced.get(),
                hosts_at: now,
                rates: VecDeque::new(),
                delays: VecDeque::from([metrics.event_delay.buckets()]),
                oldest_ms: None,
            }),
            metrics,
            hosts,
            site,
            started: now,
            fresh: Fresh::new(SNAPSHOT_AGE_MAX),
        }
    }

    /// Takes samples until the stop. `oldest_ms` tells when the oldest event that can be replayed was
    /// published, in milliseconds since 1970, and may read the disk.
    pub fn run(&self, oldest_ms: impl Fn() -> Option<u64>, stop: &Stop) {
        while !stop.wait(SAMPLE_INTERVAL) {
            self.sample(Instant::now(), oldest_ms());
        }
    }

    /// Takes a sample; only one thread does.
    pub fn sample(&self, now: Instant, oldest_ms: Option<u64>) {
        let events = self.metrics.events_sequenced.get();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.oldest_ms = oldest_ms;
        let passed = now.saturating_duration_since(samples.at).as_secs_f64();
        if passed > 0.0 {
            let rate = events.saturating_sub(samples.events) as f64 / passed;
            if samples.rates.len() == SAMPLES_MAX {
                samples.rates.pop_front();
            }
            samples.rates.push_back((rate * 10.0).round() / 10.0);
            (samples.at, samples.events) = (now, events);
        }
        if samples.delays.len() == DELAY_SAMPLES {
            samples.delays.pop_front();
        }
        samples.delays.push_back(self.metrics.event_delay.buckets());
        samples.taken += 1;
        if samples.taken.is_multiple_of(SAMPLES_PER_HOST_RATE) {
            let passed = now.saturating_duration_since(samples.hosts_at);
            samples.hosts_at = now;
            drop(samples);
            self.metrics.hosts.measure(passed.as_secs_f64());
        }
    }

    /// The state now, or shortly before.
    pub fn snapshot(&self, now: Instant) -> Arc<Snapshot> {
        let taken = self.fresh.get(now, || Ok::<_, Infallible>(self.take(now)));
        match taken {
            Ok(snapshot) => snapshot,
            Err(never) => match never {},
        }
    }

    fn take(&self, now: Instant) -> Snapshot {
        let (metrics, now_ms) = (&self.metrics, now_ms());
        let rejected = Reject::ALL
            .iter()
            .map(|r| (r.name(), metrics.rejected.get(*r)));
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (rates, oldest_ms) = (Vec::from(samples.rates.clone()), samples.oldest_ms);
        let earlier = samples.delays.front().cloned();
        drop(samples);
        let delays = metrics.event_delay.buckets();
        let delays = earlier.map_or(delays.clone(), |earlier| delays.since(&earlier));
        let seconds = |q| delays.quantile(q).map(|s| (s * 1_000.0).round() / 1_000.0);
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            build: Build {
                version: env!("CARGO_PKG_VERSION"),
                commit: option_env!("ZLAY_COMMIT"),
            },
            name: self.site.name.clone(),
            contact: self.site.contact.clone(),
            policy: self.site.policy.clone(),
            now_ms,
            uptime_seconds: now.saturating_duration_since(self.started).as_secs(),
            hosts_connected: metrics.hosts_connected.get(),
            hosts: self.hosts.statuses(),
            events_sequenced: metrics.events_sequenced.get(),
            events_per_second: rates.last().copied().unwrap_or(0.0),
            history: History {
                interval_seconds: SAMPLE_INTERVAL.as_secs(),
                events_per_second: rates,
            },
            delay_seconds: Delay {
                p50: seconds(0.5),
                p99: seconds(0.99),
            },
            last_seq: metrics.last_seq.get(),
            oldest_seq: metrics.oldest_seq.get(),
            window: Window {
                oldest_seq: metrics.oldest_seq.get(),
                oldest_time: oldest_ms.map(datetime::from_millis),
                oldest_ms,
                seconds: oldest_ms.map(|at| now_ms.saturating_sub(at) / 1_000),
            },
            disk_full: full_disk(metrics),
            subscribers: metrics.subscribers.get(),
            frames_sent: metrics.frames_sent.get(),
            bytes_sent: metrics.bytes_sent.get(),
            accounts: metrics.accounts.get(),
            rejected_total: metrics.rejected.total(),
            rejected: rejected.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::boundary::Fake;

    fn board(metrics: &Arc<Metrics>) -> StatusBoard {
        let hosts = Arc::new(Fake::default());
        StatusBoard::new(metrics.clone(), hosts, Site::default())
    }

    #[test]
    fn rates_are_of_the_time_between_samples_and_looking_changes_nothing() {
        let metrics = Arc::new(Metrics::default());
        metrics.events_sequenced.add(1_000);
        let board = board(&metrics);
        let at = |seconds| board.started + Duration::from_secs(seconds);
        assert_eq!(board.snapshot(at(0)).events_per_second, 0.0);
        metrics.events_sequenced.add(50);
        assert_eq!(board.snapshot(at(2)).events_per_second, 0.0, "no sample");
        board.sample(at(4), Some(1_000));
        let now = board.snapshot(at(4));
        assert_eq!((now.events_per_second, now.uptime_seconds), (12.5, 4));
        assert_eq!(
            now.window.oldest_time.as_deref(),
            Some("1970-01-01T00:00:01.000Z")
        );
        board.sample(at(4), None);
        board.sample(at(6), None);
        let now = board.snapshot(at(6));
        assert_eq!(now.history.events_per_second, [12.5, 0.0]);
        for second in 7..2_000 {
            board.sample(at(second), None);
        }
        let now = board.snapshot(at(2_000));
        assert_eq!(now.history.events_per_second.len(), SAMPLES_MAX);
    }

    #[test]
    fn delays_are_those_of_the_last_minute() {
        let metrics = Arc::new(Metrics::default());
        let board = board(&metrics);
        let at = |seconds| board.started + Duration::from_secs(seconds);
        assert_eq!(board.snapshot(at(0)).delay_seconds, Delay::default());
        for _ in 0..100 {
            metrics.published(Some(0), 3_000_000);
        }
        board.sample(at(2), None);
        let delay = board.snapshot(at(2)).delay_seconds;
        assert!(
            delay.p50.is_some(),
            "what came before the first sample counts"
        );
        for second in 1..100 {
            board.sample(at(2 + second * 2), None);
            metrics.published(Some(1_000), 1_001);
        }
        let delay = board.snapshot(at(300)).delay_seconds;
        assert!(delay.p99.unwrap() < 1.0, "{delay:?}");
    }

    #[test]
    fn every_reason_is_there() {
        let metrics = Arc::new(Metrics::default());
        metrics.rejected.inc(Reject::RevStale);
        let snapshot = board(&metrics).snapshot(Instant::now());
        assert_eq!(snapshot.rejected.len(), Reject::ALL.len());
        assert_eq!(
            (snapshot.rejected["rev_stale"], snapshot.rejected_total),
            (1, 1)
        );
    }
}
