//! Counters: atomics only, so that counting and reading never wait for anything.

use std::sync::atomic::{AtomicU64, Ordering};

use self::{
    histogram::Histogram,
    hosts::{HostTallies, Refusal, Tally},
    refusals::RefusedAccounts,
};
use crate::{
    host::quota::Span, limits::EVENT_DELAY_SCALE, reject::Reject, sequencer::event::Skip,
    store::account::HostId,
};

pub mod histogram;
pub mod hosts;
pub mod refusals;

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Default, Debug)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Subtracts `n`.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Rejected events by reason.
#[derive(Debug)]
pub struct Rejects([Counter; Reject::ALL.len()]);

impl Default for Rejects {
    fn default() -> Self {
        Rejects(std::array::from_fn(|_| Counter::default()))
    }
}

impl Rejects {
    /// Counts one.
    pub fn inc(&self, reject: Reject) {
        self.0[reject as usize].inc();
    }

    /// How many for this reason.
    pub fn get(&self, reject: Reject) -> u64 {
        self.0[reject as usize].get()
    }

    /// How many for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// Events that had to wait, by the limit that their host was over.
#[derive(Default, Debug)]
pub struct Delays([Counter; Span::ALL.len()]);

impl Delays {
    /// Counts one.
    pub fn inc(&self, span: Span) {
        self.0[span as usize].inc();
    }

    /// How many because of this limit.
    pub fn get(&self, span: Span) -> u64 {
        self.0[span as usize].get()
    }
}

/// Entries of lists that a backfill has not taken, by reason.
#[derive(Default, Debug)]
pub struct Skips([Counter; Skip::ALL.len()]);

impl Skips {
    /// Counts `n`.
    pub fn add(&self, skip: Skip, n: u64) {
        self.0[skip as usize].add(n);
    }

    /// How many for this reason.
    pub fn get(&self, skip: Skip) -> u64 {
        self.0[skip as usize].get()
    }
}

macro_rules! metrics {
    (
        $($kind:ident $field:ident = $name:literal $help:literal,)+
        @histograms
        $($histogram:ident($scale:ident) = $histogram_name:literal $histogram_help:literal,)+
    ) => {
        /// Everything the relay counts, shared by all threads.
        #[derive(Debug)]
        pub struct Metrics {
            /// Events that were not forwarded, by reason.
            pub rejected: Rejects,
            /// Events that waited because their host was over a limit, by the limit.
            pub delayed: Delays,
            /// Entries that a backfill has not taken, by reason.
            pub backfill_skipped: Skips,
            /// What is counted of each host.
            pub hosts: HostTallies,
            /// The last refusal of each account.
            pub refused_accounts: RefusedAccounts,
            $(#[doc = $help] pub $field: $kind,)+
            $(#[doc = $histogram_help] pub $histogram: Histogram,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                Metrics {
                    rejected: Rejects::default(),
                    delayed: Delays::default(),
                    hosts: HostTallies::default(),
                    refused_accounts: RefusedAccounts::default(),
                    backfill_skipped: Skips::default(),
                    $($field: $kind::default(),)+
                    $($histogram: Histogram::new($scale),)+
                }
            }
        }

        impl Metrics {
            /// Every histogram as `(name, help, histogram)`.
            fn histograms(&self) -> Vec<(&'static str, &'static str, &Histogram)> {
                vec![$(($histogram_name, $histogram_help, &self.$histogram),)+]
            }

            /// Every metric as `(name, kind, help, value)`.
            fn samples(&self) -> Vec<(&'static str, &'static str, &'static str, u64)> {
                vec![$(($name, metrics!(@kind $kind), $help, self.$field.get()),)+]
            }
        }
    };
    (@kind Counter) => { "counter" };
    (@kind Gauge) => { "gauge" };
}

metrics! {
    Counter frames_received = "relay_upstream_frames_total" "Frames received from hosts.",
    Counter bytes_received = "relay_upstream_bytes_total" "Bytes of frames received from hosts.",
    Counter frames_ignored = "relay_upstream_ignored_total"
        "Frames of an unknown op or type, and info frames.",
    Counter frames_skipped = "relay_upstream_skipped_total"
        "Frames skipped after the connection was lost at them several times.",
    Gauge hosts_connected = "relay_hosts_connected" "Hosts connected now.",
    Counter host_connects = "relay_host_connects_total" "Connections opened to hosts.",
    Counter host_connect_failures = "relay_host_connect_failures_total"
        "Attempts to connect to a host that failed.",
    Counter host_disconnects = "relay_host_disconnects_total" "Connections to hosts that ended.",
    Counter events_parked = "relay_events_deferred_total"
        "Events that had to wait for an identity.",
    Gauge events_waiting = "relay_events_waiting" "Events that wait for an identity now.",
    Gauge parked_bytes = "relay_parked_bytes" "Bytes of events that wait for an identity.",
    Gauge held_bytes = "relay_held_bytes"
        "Bytes of events held while their hosts are asked about accounts.",
    Counter discontinuous = "relay_events_discontinuous_total"
        "Commits that do not continue the last known one, and were forwarded.",
    Counter lenient = "relay_events_lenient_total"
        "Commits forwarded without Sync 1.1 fields: the relay is lenient, or is so to their host.",
    Counter status_asked = "relay_account_status_asked_total"
        "Times a host was asked whether an account is active again.",
    Counter identity_lookups = "relay_identity_lookups_total" "DID documents asked for.",
    Counter identity_failures = "relay_identity_failures_total"
        "Lookups of a DID document that failed and are tried again.",
    Counter identity_stale_used = "relay_identity_stale_used_total"
        "Times an old document was used because the directory did not answer.",
    Counter identity_refused = "relay_identity_refreshes_refused_total"
        "Times a document was not fetched anew because a host had caused that too often.",
    Counter identity_put_off = "relay_identity_purges_put_off_total"
        "Identity events after which a document stayed in use for a while: there were too many.",
    Gauge identity_cached = "relay_identity_cache_entries" "DID documents in the cache.",
    Gauge identity_queue = "relay_identity_queue_dids" "DIDs that wait for a lookup.",
    Counter events_sequenced = "relay_events_sequenced_total" "Events given a seq.",
    Counter batches = "relay_batches_total" "Batches written.",
    Gauge last_seq = "relay_seq" "The last seq.",
    Gauge oldest_seq = "relay_oldest_seq" "The oldest seq that can be replayed.",
    Gauge store_events_bytes = "relay_store_events_bytes" "Bytes of events on disk.",
    Gauge accounts = "relay_accounts" "Accounts known.",
    Gauge collections = "relay_collections"
        "Collections known, also those of which nobody has records any more.",
    Gauge collection_pairs = "relay_collection_pairs"
        "Pairs of an account and a collection of which it has records.",
    Counter collections_refused = "relay_collections_refused_total"
        "Times a collection of an account was not put into the index: there are too many.",
    Gauge inbox_bytes = "relay_inbox_bytes" "Bytes of events waiting for the sequencer.",
    Gauge ring_bytes = "relay_ring_bytes" "Bytes of recent frames in memory.",
    Gauge subscribers = "relay_subscribers" "Firehose subscribers now.",
    Counter subscribers_accepted = "relay_subscribers_accepted_total" "Subscribers accepted.",
    Counter subscribers_too_slow = "relay_subscribers_too_slow_total"
        "Subscribers cut because they took nothing.",
    Counter subscribers_gone = "relay_subscribers_gone_total"
        "Subscribers that closed or vanished.",
    Counter frames_sent = "relay_subscriber_frames_total" "Frames sent to subscribers.",
    Counter bytes_sent = "relay_subscriber_bytes_total" "Bytes sent to subscribers.",
    Counter replay_pages = "relay_replay_pages_total"
        "Pages read from disk for subscribers that are behind the ring.",
    Counter crawl_requests = "relay_crawl_requests_taken_total" "Requests to crawl that were taken.",
    Counter crawl_refused = "relay_crawl_requests_refused_total"
        "Requests to crawl that were refused, but for those over a limit.",
    Counter crawl_limited = "relay_crawl_requests_limited_total"
        "Requests to crawl that were over a limit.",
    Counter siblings_told = "relay_siblings_told_total"
        "Requests passed on to sibling relays.",
    Counter siblings_failed = "relay_siblings_failed_total"
        "Requests that a sibling relay did not take.",
    Gauge backfill_running = "relay_backfill_running" "Whether a backfill runs: 1, or 0.",
    Counter backfill_imported = "relay_backfill_imported_total"
        "Entries of lists that a backfill has brought in and that were new.",
    Counter backfill_failed_pages = "relay_backfill_page_failures_total"
        "Pages that a backfill could not read.",
    Counter http_requests = "relay_http_requests_total" "Requests answered on the public port.",
    Counter http_refused = "relay_http_refused_total"
        "Connections and requests refused by a limit of the public port.",
    Counter delay_unknown = "relay_event_delay_unknown_total"
        "Events published that do not say when they happened, or say that they will.",
    @histograms
    event_delay(EVENT_DELAY_SCALE) = "relay_event_delay_seconds"
        "From when an event happened, as it says, to when it was published.",
}

impl Metrics {
    /// Counts an event of `host` that was not forwarded, of all hosts and of its own, and remembers
    /// it of its account.
    pub fn refuse(&self, host: HostId, tally: &Tally, refusal: Refusal) {
        self.rejected.inc(refusal.reject);
        self.refused_accounts.note(host, &refusal);
        tally.refuse(refusal);
    }

    /// Counts how long it took an event to be published, from when it happened, as it says, to
    /// `now_ms`; both in milliseconds since 1970.
    pub fn published(&self, happened_ms: Option<u64>, now_ms: u64) {
        match happened_ms.and_then(|happened| now_ms.checked_sub(happened)) {
            Some(delay) => self.event_delay.observe(delay),
            None => self.delay_unknown.inc(),
        }
    }

    /// The Prometheus text form.
    pub fn render(&self) -> String {
        use std::fmt::Write;

        let mut out = String::new();
        for (name, kind, help, value) in self.samples() {
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
        for (name, help, histogram) in self.histograms() {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} histogram\n");
            histogram.buckets().render(&mut out, name, "");
        }
        out.push_str("# HELP relay_events_rejected_total Events not forwarded, by reason.\n");
        out.push_str("# TYPE relay_events_rejected_total counter\n");
        for reject in Reject::ALL {
            let value = self.rejected.get(*reject);
            let _ = writeln!(
                out,
                "relay_events_rejected_total{{reason=\"{reject}\"}} {value}"
            );
        }
        out.push_str(
            "# HELP relay_events_delayed_total Events that waited because their host was over a \
             limit, by the time that the limit is for.\n",
        );
        out.push_str("# TYPE relay_events_delayed_total counter\n");
        for span in Span::ALL {
            let (name, value) = (span.name(), self.delayed.get(span));
            let _ = writeln!(
                out,
                "relay_events_delayed_total{{limit=\"{name}\"}} {value}"
            );
        }
        out.push_str(
            "# HELP relay_backfill_skipped_total Entries of lists that a backfill has not taken, by \
             reason.\n",
        );
        out.push_str("# TYPE relay_backfill_skipped_total counter\n");
        for skip in Skip::ALL {
            let (name, value) = (skip.name(), self.backfill_skipped.get(skip));
            let _ = writeln!(
                out,
                "relay_backfill_skipped_total{{reason=\"{name}\"}} {value}"
            );
        }
        out.push_str("# HELP relay_threads Threads running, by role.\n");
        out.push_str("# TYPE relay_threads gauge\n");
        for role in crate::threads::Role::ALL {
            let value = crate::threads::running(role);
            let _ = writeln!(out, "relay_threads{{role=\"{}\"}} {value}", role.name());
        }
        out.push_str("# HELP relay_panics_total Panics survived by ending one connection.\n");
        out.push_str("# TYPE relay_panics_total counter\n");
        let _ = writeln!(out, "relay_panics_total {}", crate::threads::panics());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_rendered_once() {
        let metrics = Metrics::default();
        metrics.events_sequenced.add(3);
        metrics.rejected.inc(Reject::RevStale);
        let text = metrics.render();
        assert!(text.contains("\nrelay_events_sequenced_total 3\n"));
        assert!(text.contains("relay_events_rejected_total{reason=\"rev_stale\"} 1\n"));
        let histograms = metrics.histograms().into_iter().map(|(name, ..)| name);
        for name in metrics
            .samples()
            .into_iter()
            .map(|(name, ..)| name)
            .chain(histograms)
        {
            assert_eq!(
                text.matches(&format!("# TYPE {name} ")).count(),
                1,
                "{name}"
            );
        }
    }

    #[test]
    fn a_delay_is_known_where_the_event_says_when_it_happened() {
        let metrics = Metrics::default();
        metrics.published(Some(1_000), 1_040);
        metrics.published(Some(1_000), 87_401_000);
        metrics.published(Some(1_041), 1_040);
        metrics.published(None, 1_040);
        let delays = metrics.event_delay.buckets();
        assert_eq!((delays.count(), delays.sum()), (2, 87_400.04));
        assert_eq!(metrics.delay_unknown.get(), 2);
        let text = metrics.render();
        assert!(text.contains("\nrelay_event_delay_seconds_bucket{le=\"0.05\"} 1\n"));
    }
}
