//! The thread that keeps the event log inside its window.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::Store;
use crate::{metrics::Metrics, threads::Stop};

/// How much can be replayed, and how often that is enforced.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Events older than this are dropped.
    pub age_max: Duration,
    /// Events beyond this many bytes on disk are dropped, oldest first.
    pub bytes_max: Option<u64>,
    /// How often; [`crate::limits::RETENTION_INTERVAL`].
    pub interval: Duration,
}

/// Enforces `retention` until `stop`. An error is logged and tried again at the next interval: a
/// log that is too long harms nobody until the disk is full, which is an error of the writer.
pub fn run(store: &Arc<Store>, retention: Retention, metrics: &Metrics, stop: &Stop) {
    loop {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let keep_after = now.saturating_sub(retention.age_max).as_millis() as u64;
        let before = store.window().pruned;
        match store.prune(keep_after, retention.bytes_max) {
            Ok(pruned) if pruned.through > before => log::info!(
                "events up to {} have left the window; {} MB of events, {} MB before",
                pruned.through,
                pruned.bytes_after >> 20,
                pruned.bytes_before >> 20,
            ),
            Ok(_) => {}
            Err(error) => log::error!("freeing old events failed, tried again later: {error}"),
        }
        let window = store.window();
        metrics.oldest_seq.set(window.oldest.unwrap_or(0));
        metrics.store_events_bytes.set(store.events_bytes());
        if stop.wait(retention.interval) {
            return;
        }
    }
}
