//! The thread that keeps the event log inside its window.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
pub fn run(store: &Store, retention: Retention, metrics: &Metrics, stop: &Stop) {
    loop {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let keep_after = now.saturating_sub(retention.age_max).as_millis() as u64;
        let before = store.window().pruned;
        match store.prune(keep_after, retention.bytes_max) {
            Ok(pruned) if pruned.through > before => log::info!(
                through_seq = pruned.through,
                events_mb = pruned.bytes_after >> 20,
                before_mb = pruned.bytes_before >> 20;
                "events that have left the window are freed"
            ),
            Ok(_) => {}
            Err(error) => {
                log::error!(error:% = error; "old events can not be freed; tried again later")
            }
        }
        let window = store.window();
        metrics.oldest_seq.set(window.oldest.unwrap_or(0));
        metrics.pruned_seq.set(window.pruned);
        if stop.wait(retention.interval) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use tempfile::TempDir;

    use super::*;
    use crate::{
        atproto::seq::Seq,
        store::Options,
        threads::{self, Role, stop_pair},
    };

    /// Rule 36: <https://atproto.com/specs/event-stream#sequence-numbers>
    #[test]
    fn the_window_follows_the_clock_until_the_stop() {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(Store::open(dir.path(), Options::default()).unwrap());
        let metrics = Arc::new(Metrics::default());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let age_max = Duration::from_secs(3600);
        let mut batch = store.batch();
        let old = (now - age_max).as_millis() as u64 - 1;
        for (seq, time) in [(1, 0), (2, old), (3, now.as_millis() as u64), (4, old)] {
            batch.put_event(Seq::new(seq).unwrap(), time, b"frame");
        }
        store.commit(batch).unwrap();
        let (stopper, stop) = stop_pair();
        let retention = Retention {
            age_max,
            bytes_max: None,
            interval: Duration::from_millis(1),
        };
        let running = (Arc::clone(&store), Arc::clone(&metrics));
        let thread = threads::spawn(Role::Retention, "", 1 << 20, move || {
            run(&running.0, retention, &running.1, &stop);
        })
        .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while metrics.oldest_seq.get() != 3 {
            assert!(Instant::now() < deadline, "{:?}", store.window());
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(stopper);
        drop(thread);
        assert_eq!(store.window().pruned, 2);
    }
}
