//! The thread that looks at what can not be counted where it happens, so that metrics and probes wait
//! neither for the disk nor for anybody's lock.

use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};

use crate::{
    control::{Control, HostStatus},
    firehose::Firehose,
    host::{now_ms, table::HostTable},
    limits::WATCH_INTERVAL,
    metrics::{
        Metrics,
        family::Label,
        labels::{LagOver, LagStat, StoreKind},
    },
    store::{Disk, Reserve, Store},
    threads::Stop,
};

/// What is looked at.
pub(super) struct Watch {
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Arc<Store>,
    pub(super) control: Arc<dyn Control>,
    pub(super) firehose: Arc<Firehose>,
    pub(super) hosts: Arc<HostTable>,
    pub(super) reserve: Reserve,
    /// The oldest seq that was seen, and when it was published; 0: none was.
    pub(super) oldest: (AtomicU64, AtomicU64),
}

impl Watch {
    /// Looks again and again, until the stop.
    pub(super) fn run(&self, stop: &Stop) {
        loop {
            self.look();
            if stop.wait(WATCH_INTERVAL) {
                return;
            }
        }
    }

    fn look(&self) {
        let metrics = &self.metrics;
        for (status, count) in HostStatus::ALL.into_iter().zip(self.hosts.counts()) {
            metrics.hosts_by_status.at(status).set(count);
        }
        let up = self.control.available().is_ok();
        metrics.control_up.set(u64::from(up));
        show_lags(metrics, &self.firehose.lags());
        show_disk(metrics, self.store.disk());
        self.look_at_window();
        // Noted by looking.
        let _ = self.reserve.look(metrics);
        metrics.watched.set(Some(now_ms()));
    }

    fn look_at_window(&self) {
        let window = self.store.window();
        let oldest = window.oldest.unwrap_or(0);
        self.metrics.pruned_seq.set(window.pruned);
        if oldest == 0 {
            self.metrics.oldest_at.set(None);
            self.metrics.window.set(Some(0));
            return;
        }
        let (seq, at) = &self.oldest;
        if seq.load(Ordering::Relaxed) != oldest {
            // Read once for each oldest event: it is on disk.
            let Ok(Some(published)) = self.store.published_ms(oldest) else {
                return;
            };
            at.store(published, Ordering::Relaxed);
            seq.store(oldest, Ordering::Relaxed);
        }
        let at = at.load(Ordering::Relaxed);
        self.metrics.oldest_at.set(Some(at));
        self.metrics.window.set(Some(now_ms().saturating_sub(at)));
    }
}

/// Shows how far subscribers are behind, those that are least behind first.
fn show_lags(metrics: &Metrics, lags: &[u64]) {
    let last = lags.len().saturating_sub(1);
    let at = |percent: usize| lags.get(last * percent / 100).copied().unwrap_or(0);
    for (stat, percent) in [
        (LagStat::Median, 50),
        (LagStat::P90, 90),
        (LagStat::P99, 99),
        (LagStat::Max, 100),
    ] {
        metrics.subscriber_lag.at(stat).set(at(percent));
    }
    for over in LagOver::all() {
        let within = lags.partition_point(|lag| *lag <= over.bound());
        let lagging = (lags.len() - within) as u64;
        metrics.subscribers_lagging.at(over).set(lagging);
    }
}

fn show_disk(metrics: &Metrics, disk: Disk) {
    for (kind, bytes) in [
        (StoreKind::Events, disk.events_bytes),
        (StoreKind::Accounts, disk.accounts_bytes),
        (StoreKind::Index, disk.index_bytes),
        (StoreKind::Other, disk.other_bytes),
    ] {
        metrics.store_bytes.at(kind).set(bytes);
    }
    metrics.store_pending.set(disk.pending_bytes);
    metrics.store_level0.set(disk.level0_files);
    metrics.store_background.set(disk.jobs);
    metrics.store_stopped.set(u64::from(disk.stopped));
    metrics.store_delayed.set(disk.delayed_rate);
    let known = metrics.store_errors.get();
    metrics.store_errors.add(disk.errors.saturating_sub(known));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_shown_by_rank_and_by_size() {
        let metrics = Metrics::default();
        let stat = |stat| metrics.subscriber_lag.at(stat).get();
        let lagging = || {
            let all = metrics.subscribers_lagging.iter();
            all.map(|(_, gauge)| gauge.get()).collect::<Vec<_>>()
        };
        show_lags(&metrics, &[0, 0, 5, 20_000, 7_000_000]);
        assert_eq!(stat(LagStat::Median), 5);
        assert_eq!(
            (stat(LagStat::P90), stat(LagStat::Max)),
            (20_000, 7_000_000)
        );
        assert_eq!(lagging(), [3, 2, 2, 2, 2, 1, 1]);
        show_lags(&metrics, &[]);
        assert_eq!(stat(LagStat::Max), 0);
        assert_eq!(lagging(), [0; 7]);
    }

    #[test]
    fn errors_are_counted_once() {
        let metrics = Metrics::default();
        let disk = |errors| Disk {
            errors,
            level0_files: 3,
            ..Disk::default()
        };
        for errors in [1, 1, 4] {
            show_disk(&metrics, disk(errors));
        }
        assert_eq!(
            (metrics.store_errors.get(), metrics.store_level0.get()),
            (4, 3)
        );
    }
}
