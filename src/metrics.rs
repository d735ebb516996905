//! Counters: atomics only, so that counting and reading never wait for anything.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use self::{
    family::{Family, Label},
    histogram::Histogram,
    hosts::{HostTallies, Refusal, Tally},
    labels::{
        Backend, Code, Connect, CrawlResult, Deferral, DidMethod, Disconnect, Done, FrameType,
        LagOver, LagStat, Leave, LookupResult, Operation, Route, StoreKind, Tier, Wait,
    },
    refusals::RefusedAccounts,
    text::Text,
};
use crate::{
    control::HostStatus,
    host::quota::Span,
    limits::{BATCH_EVENTS_SCALE, BRIEF_SCALE, EVENT_DELAY_SCALE, REQUEST_SCALE, VERIFY_SCALE},
    reject::Reject,
    sequencer::event::Skip,
    store::account::HostId,
};

pub mod account_name;
pub mod family;
pub mod histogram;
pub mod hosts;
pub mod labels;
pub mod refusals;
pub mod text;

/// Something that is counted or measured.
trait Metric {
    /// What Prometheus calls it.
    fn kind(&self) -> &'static str;

    /// Writes its samples.
    fn samples(&self, text: &mut Text);
}

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

/// A number of milliseconds that is shown in seconds: a time since 1970, or a span.
#[derive(Debug)]
pub struct Millis(AtomicU64);

/// What stands for a value that is not known.
const NOT_KNOWN: u64 = u64::MAX;

impl Default for Millis {
    fn default() -> Millis {
        Millis(AtomicU64::new(NOT_KNOWN))
    }
}

impl Millis {
    /// Sets it; none: it is not known.
    pub fn set(&self, milliseconds: Option<u64>) {
        let value = milliseconds.unwrap_or(NOT_KNOWN);
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now, if it is known.
    pub fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|value| *value != NOT_KNOWN)
    }
}

impl Metric for Counter {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn samples(&self, text: &mut Text) {
        text.labelled("", Some(self.get()));
    }
}

impl Metric for Gauge {
    fn kind(&self) -> &'static str {
        "gauge"
    }

    fn samples(&self, text: &mut Text) {
        text.labelled("", Some(self.get()));
    }
}

impl Metric for Millis {
    fn kind(&self) -> &'static str {
        "gauge"
    }

    fn samples(&self, text: &mut Text) {
        text.labelled("", self.get().map(|value| value as f64 / 1e3));
    }
}

impl Metric for Histogram {
    fn kind(&self) -> &'static str {
        "histogram"
    }

    fn samples(&self, text: &mut Text) {
        text.buckets("", &self.buckets());
    }
}

impl<L: Label> Metric for Family<L, Counter> {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn samples(&self, text: &mut Text) {
        for (label, counter) in self.iter() {
            let shown = !L::SPARSE || counter.get() > 0;
            text.labelled(&label.text(), shown.then(|| counter.get()));
        }
    }
}

impl<L: Label> Metric for Family<L, Gauge> {
    fn kind(&self) -> &'static str {
        "gauge"
    }

    fn samples(&self, text: &mut Text) {
        for (label, gauge) in self.iter() {
            let shown = !L::SPARSE || gauge.get() > 0;
            text.labelled(&label.text(), shown.then(|| gauge.get()));
        }
    }
}

impl<L: Label> Metric for Family<L, Histogram> {
    fn kind(&self) -> &'static str {
        "histogram"
    }

    fn samples(&self, text: &mut Text) {
        for (label, histogram) in self.iter() {
            text.buckets(&label.text(), &histogram.buckets());
        }
    }
}

impl Metric for Rejects {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn samples(&self, text: &mut Text) {
        for reject in Reject::ALL {
            text.sample(&[("reason", reject.name())], Some(self.get(*reject)));
        }
    }
}

impl Metric for Delays {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn samples(&self, text: &mut Text) {
        for span in Span::ALL {
            text.sample(&[("limit", span.name())], Some(self.get(span)));
        }
    }
}

impl Metric for Skips {
    fn kind(&self) -> &'static str {
        "counter"
    }

    fn samples(&self, text: &mut Text) {
        for skip in Skip::ALL {
            text.sample(&[("reason", skip.name())], Some(self.get(skip)));
        }
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
    ($($field:ident: $kind:ty $([$new:expr])? = $name:literal $help:literal,)+) => {
        /// Everything the relay counts, shared by all threads.
        #[derive(Debug)]
        pub struct Metrics {
            /// What is counted of each host.
            pub hosts: HostTallies,
            /// The last refusal of each account.
            pub refused_accounts: RefusedAccounts,
            $(#[doc = $help] pub $field: $kind,)+
        }

        impl Default for Metrics {
            fn default() -> Self {
                Metrics {
                    hosts: HostTallies::default(),
                    refused_accounts: RefusedAccounts::default(),
                    $($field: metrics!(@new $kind $(, $new)?),)+
                }
            }
        }

        impl Metrics {
            /// Every metric with its name and what it is.
            fn all(&self) -> Vec<(&'static str, &'static str, &dyn Metric)> {
                vec![$(($name, $help, &self.$field as &dyn Metric),)+]
            }
        }
    };
    (@new $kind:ty) => { <$kind>::default() };
    (@new $kind:ty, $new:expr) => { $new };
}

metrics! {
    hosts_by_status: Family<HostStatus, Gauge> = "relay_hosts" "Hosts known, by status.",
    hosts_connected: Gauge = "relay_hosts_connected" "Hosts connected now.",
    hosts_waiting: Family<Wait, Gauge> = "relay_hosts_waiting"
        "Threads of connected hosts that do not read because they wait for something else.",
    connects: Family<Connect, Counter> = "relay_host_connects_total"
        "Attempts to connect to a host, by what came of them.",
    disconnects: Family<Disconnect, Counter> = "relay_host_disconnects_total"
        "Connections to hosts that ended, by reason.",
    host_pings: Counter = "relay_host_pings_total"
        "Times that a host said nothing for so long that it was asked whether it is there.",
    frames: Family<FrameType, Counter> = "relay_upstream_frames_total"
        "Frames received from hosts, by type.",
    bytes_received: Counter = "relay_upstream_bytes_total" "Bytes of frames received from hosts.",
    last_frame: Millis = "relay_upstream_last_frame_timestamp_seconds"
        "When the last frame came from any host, in seconds since 1970.",
    frames_ignored: Counter = "relay_upstream_ignored_total"
        "Frames of an unknown op or type, and info frames.",
    frames_skipped: Counter = "relay_upstream_skipped_total"
        "Frames skipped after the connection was lost at them several times.",
    crawl_requests: Family<CrawlResult, Counter> = "relay_crawl_requests_total"
        "Requests to crawl a host, by what became of them.",
    siblings_told: Counter = "relay_siblings_told_total"
        "Requests passed on to sibling relays.",
    siblings_failed: Counter = "relay_siblings_failed_total"
        "Requests that a sibling relay did not take.",
    rejected: Rejects = "relay_events_rejected_total" "Events not forwarded, by reason.",
    delayed: Delays = "relay_events_delayed_total"
        "Events that waited because their host was over a limit, by the time that the limit is for.",
    deferred: Family<Deferral, Counter> = "relay_events_deferred_total"
        "Events that had to wait before they could be judged, by what for.",
    discontinuous: Counter = "relay_events_discontinuous_total"
        "Commits that do not continue the last known one, and were forwarded.",
    lenient: Counter = "relay_events_lenient_total"
        "Commits forwarded without Sync 1.1 fields: the relay is lenient, or is so to their host.",
    verify_duration: Histogram [Histogram::new(VERIFY_SCALE)] = "relay_verify_duration_seconds"
        "How long it took to prove a commit or a sync: decoding, hashes, signature, tree.",
    events_waiting: Gauge = "relay_events_waiting" "Events that wait for an identity now.",
    parked_bytes: Gauge = "relay_parked_bytes" "Bytes of events that wait for an identity.",
    held_bytes: Gauge = "relay_held_bytes"
        "Bytes of events held while their hosts are asked about accounts.",
    status_asked: Counter = "relay_account_status_asked_total"
        "Times a host was asked whether an account is active again.",
    identity_lookups: Family<(DidMethod, LookupResult), Counter> = "relay_identity_lookups_total"
        "DID documents asked for, by method and by what came of it.",
    identity_duration: Histogram [Histogram::new(REQUEST_SCALE)]
        = "relay_identity_lookup_duration_seconds" "How long it took to get an answer, or none.",
    identity_stale_used: Counter = "relay_identity_stale_used_total"
        "Times an old document was used because the directory did not answer.",
    identity_doubted: Counter = "relay_identity_doubted_total"
        "Answers of the directory that were not believed: it did not know others either.",
    identity_hosts_held: Gauge = "relay_identity_hosts_held"
        "Hosts whose lookups wait because too many accounts turned out not to be theirs.",
    identity_refused: Counter = "relay_identity_refreshes_refused_total"
        "Times a document was not fetched anew because a host had caused that too often.",
    identity_put_off: Counter = "relay_identity_purges_put_off_total"
        "Identity events after which a document stayed in use for a while: there were too many.",
    identity_cached: Gauge = "relay_identity_cache_entries" "DID documents in the cache.",
    identity_queue: Gauge = "relay_identity_queue_dids" "DIDs that wait for a lookup.",
    events_sequenced: Counter = "relay_events_sequenced_total" "Events given a seq.",
    event_delay: Histogram [Histogram::new(EVENT_DELAY_SCALE)] = "relay_event_delay_seconds"
        "From when an event happened, as it says, to when it was published.",
    delay_unknown: Counter = "relay_event_delay_unknown_total"
        "Events published that do not say when they happened, or say that they will.",
    batches: Counter = "relay_batches_total" "Batches written.",
    batch_events: Histogram [Histogram::new(BATCH_EVENTS_SCALE)] = "relay_batch_events"
        "Events given a seq, by batch.",
    commit_duration: Histogram [Histogram::new(BRIEF_SCALE)] = "relay_batch_commit_duration_seconds"
        "How long it took to write a batch and to have it on disk.",
    inbox_events: Gauge = "relay_inbox_events" "Events waiting for the sequencer.",
    inbox_bytes: Gauge = "relay_inbox_bytes" "Bytes of events waiting for the sequencer.",
    inbox_full: Counter = "relay_inbox_full_total"
        "Times that a host's thread had to wait because the sequencer's inbox was full.",
    last_seq: Gauge = "relay_seq" "The last seq.",
    oldest_seq: Gauge = "relay_oldest_seq" "The oldest seq that can be replayed.",
    pruned_seq: Gauge = "relay_pruned_seq" "The last seq that has left the window; 0: none has.",
    oldest_at: Millis = "relay_oldest_event_timestamp_seconds"
        "When the oldest event that can be replayed was published, in seconds since 1970.",
    window: Millis = "relay_window_seconds" "How much can be replayed.",
    window_promised: Millis = "relay_window_promised_seconds"
        "How much is to be replayable, as it is configured.",
    accounts: Gauge = "relay_accounts" "Accounts known.",
    collections: Gauge = "relay_collections"
        "Collections known, also those of which nobody has records any more.",
    collection_pairs: Gauge = "relay_collection_pairs"
        "Pairs of an account and a collection of which it has records.",
    collections_refused: Counter = "relay_collections_refused_total"
        "Times a collection of an account was not put into the index: there are too many.",
    backfill_running: Gauge = "relay_backfill_running" "Whether a backfill runs: 1, or 0.",
    backfill_imported: Counter = "relay_backfill_imported_total"
        "Entries of lists that a backfill has brought in and that were new.",
    backfill_skipped: Skips = "relay_backfill_skipped_total"
        "Entries of lists that a backfill has not taken, by reason.",
    backfill_failed_pages: Counter = "relay_backfill_page_failures_total"
        "Pages that a backfill could not read.",
    store_bytes: Family<StoreKind, Gauge> = "relay_store_bytes"
        "Bytes of the event store in files, by what they hold.",
    store_stopped: Gauge = "relay_store_write_stopped"
        "1 while RocksDB takes no writes because compaction is too far behind.",
    store_delayed: Gauge = "relay_store_delayed_write_bytes_per_second"
        "The rate to which RocksDB slows writes down while compaction is behind; 0: it does not.",
    store_pending: Gauge = "relay_store_pending_compaction_bytes"
        "Bytes that RocksDB still has to rewrite.",
    store_level0: Gauge = "relay_store_level0_files"
        "Files at level 0 of the column family that has most of them.",
    store_background: Gauge = "relay_store_background_jobs"
        "Flushes and compactions that run now.",
    store_errors: Counter = "relay_store_background_errors_total"
        "Flushes and compactions that failed.",
    disk_free: Gauge = "relay_disk_free_bytes" "Bytes free for the relay where its data is.",
    disk_size: Gauge = "relay_disk_size_bytes" "Bytes of that file system.",
    disk_reserve: Gauge = "relay_disk_reserve_bytes"
        "Bytes of it that are left to the store itself.",
    disk_full: Gauge = "relay_disk_full"
        "1 while nothing is taken of hosts because the disk is full, or 0.",
    ring_bytes: Gauge = "relay_ring_bytes" "Bytes of recent frames in memory.",
    large_frames_bytes: Gauge = "relay_large_frames_bytes"
        "Bytes of frames over 256 KiB that are kept in memory while subscribers take them.",
    subscribers: Gauge = "relay_subscribers" "Firehose subscribers now.",
    subscribers_accepted: Counter = "relay_subscribers_accepted_total" "Subscribers accepted.",
    subscribers_left: Family<Leave, Counter> = "relay_subscriber_disconnects_total"
        "Subscriptions that ended, by reason.",
    subscriber_lag: Family<LagStat, Gauge> = "relay_subscriber_lag_events"
        "How many events subscribers are behind.",
    subscribers_lagging: Family<LagOver, Gauge> = "relay_subscribers_lagging"
        "Subscribers that are more than so many events behind.",
    frames_sent: Counter = "relay_subscriber_frames_total" "Frames sent to subscribers.",
    bytes_sent: Counter = "relay_subscriber_bytes_total" "Bytes sent to subscribers.",
    replay_reads: Family<Tier, Counter> = "relay_replay_reads_total"
        "Times that a subscriber took what follows, by where it was.",
    http_requests: Family<(Route, Code), Counter> = "relay_http_requests_total"
        "Requests answered on the public port, by what they are for and by status.",
    http_duration: Family<Route, Histogram> [Family::new(|| Histogram::new(REQUEST_SCALE))]
        = "relay_http_request_duration_seconds"
        "From a request to its answer on the public port.",
    http_connections: Gauge = "relay_http_connections"
        "Connections to the public port now, but for subscribers.",
    http_refused: Counter = "relay_http_refused_total"
        "Connections and requests refused by a limit of the public port.",
    control_up: Gauge = "relay_control_up" "1 while the control store can be used.",
    control_backend: Family<Backend, Gauge> = "relay_control_info"
        "Where the control store is; always 1.",
    control_operations: Family<(Operation, Done), Counter> = "relay_control_operations_total"
        "What was asked of the control store, and whether it was done.",
    control_duration: Histogram [Histogram::new(REQUEST_SCALE)]
        = "relay_control_operation_duration_seconds" "How long it took.",
    watched: Millis = "relay_watched_timestamp_seconds"
        "When hosts, store, disk, lag and control store were last looked at.",
}

/// A span as histograms count it.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
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
        let mut text = Text::default();
        for (name, help, metric) in self.all() {
            text.metric(metric.kind(), name, help);
            metric.samples(&mut text);
        }
        text.gauge("relay_threads", "Threads running, by role.");
        for role in crate::threads::Role::ALL {
            text.sample(
                &[("role", role.name())],
                Some(crate::threads::running(role)),
            );
        }
        text.counter(
            "relay_panics_total",
            "Panics survived by ending one connection.",
        );
        text.sample(&[], Some(crate::threads::panics()));
        text.into_string()
    }
}

#[cfg(test)]
mod tests;
