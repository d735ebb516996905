//! How the relay does, for probes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    control::Control,
    http::{
        app::{Check, Health, Outcome},
        status::{FullDisk, full_disk},
    },
    limits::{CONTROL_DOWN_MAX, DISK_FREE_PERCENT_WARN, HOSTS_STALL_MAX, INGEST_STALL_MAX},
    metrics::Metrics,
    store::Space,
};

/// What has happened to the relay.
#[derive(Default)]
pub(super) struct State {
    broken: AtomicBool,
    listening: AtomicBool,
    stopping: AtomicBool,
}

impl State {
    pub(super) fn set_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }

    /// Both ports are open.
    pub(super) fn set_listening(&self) {
        self.listening.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Health from the counters: reading it waits for nothing.
pub(super) struct RelayHealth {
    state: Arc<State>,
    metrics: Arc<Metrics>,
    control: Arc<dyn Control>,
    /// Of the sequencer: batches.
    batches: Mutex<Progress>,
    /// Of the threads of hosts: frames that they read, and times that they had waited for one.
    turns: Mutex<Progress>,
    outage: Mutex<Outage>,
}

impl RelayHealth {
    pub(super) fn new(
        state: Arc<State>,
        metrics: Arc<Metrics>,
        control: Arc<dyn Control>,
    ) -> RelayHealth {
        RelayHealth {
            state,
            metrics,
            control,
            batches: Mutex::new(Progress::begin(Instant::now())),
            turns: Mutex::new(Progress::begin(Instant::now())),
            outage: Mutex::default(),
        }
    }
}

impl RelayHealth {
    /// How long the control store has not been available, and why.
    fn control_down(&self, now: Instant) -> Option<(Duration, String)> {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        outage.seen(self.control.available(), now)
    }
}

/// Since when the control store is not available, as far as was looked; none: it is.
#[derive(Default)]
struct Outage(Option<Instant>);

impl Outage {
    /// How long it has lasted, and what it is.
    fn seen(&mut self, available: Result<(), String>, now: Instant) -> Option<(Duration, String)> {
        let Err(error) = available else {
            self.0 = None;
            return None;
        };
        let down = now.saturating_duration_since(*self.0.get_or_insert(now));
        Some((down, format!("the control store is not available: {error}")))
    }
}

/// When something last made progress, as far as was looked.
struct Progress {
    count: u64,
    since: Instant,
}

impl Progress {
    fn begin(now: Instant) -> Progress {
        Progress {
            count: 0,
            since: now,
        }
    }

    /// How long something was to be done without any of it being done: `count` is what was.
    fn stalled(&mut self, count: u64, is_due: bool, now: Instant) -> Duration {
        if count != self.count || !is_due {
            *self = Progress { count, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

impl RelayHealth {
    /// Whether what waits for the sequencer is written.
    fn sequencer(&self, now: Instant) -> Result<(), String> {
        let (batches, inbox) = (self.metrics.batches.get(), self.metrics.inbox_bytes.get());
        // A start helps nothing where the disk is full: who waits then is not stuck.
        let is_due = inbox > 0 && self.metrics.disk_full.get() == 0;
        let mut progress = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = progress.stalled(batches, is_due, now);
        if stalled < INGEST_STALL_MAX {
            return Ok(());
        }
        Err(format!(
            "{inbox} bytes of events wait and nothing was written for {stalled:.0?}"
        ))
    }

    /// Whether connected hosts are read. A host that says nothing is asked whether it is there, so
    /// that a quiet network makes progress too; hosts that wait for a limit, for identities or for
    /// the sequencer are not to be read now.
    fn hosts(&self, now: Instant) -> Result<(), String> {
        let metrics = &self.metrics;
        let connected = metrics.hosts_connected.get();
        let turns = metrics.frames.total() + metrics.host_pings.get();
        let is_due = connected > metrics.hosts_waiting.total();
        let mut progress = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = progress.stalled(turns, is_due, now);
        if stalled < HOSTS_STALL_MAX {
            return Ok(());
        }
        Err(format!(
            "{connected} hosts are connected and nothing was read of any for {stalled:.0?}"
        ))
    }

    fn control(&self, now: Instant) -> Outcome {
        match self.control_down(now) {
            None => Outcome::Ok,
            // The relay goes on without it, and whoever takes it out of service for that cuts every
            // subscriber: not for a database that is started anew.
            Some((down, error)) if down >= CONTROL_DOWN_MAX => Outcome::Failed(error),
            Some((_, error)) => Outcome::Warning(error),
        }
    }

    fn listeners(&self) -> Outcome {
        if self.state.stopping.load(Ordering::Relaxed) {
            return Outcome::Failed("the relay is stopping".into());
        }
        match self.state.listening.load(Ordering::Relaxed) {
            true => Outcome::Ok,
            false => Outcome::Failed("the public port does not listen yet".into()),
        }
    }
}

/// What is to be said of the disk; nothing before it was looked at.
fn disk_space(metrics: &Metrics) -> Outcome {
    let Some(space) = Space::last(metrics) else {
        return Outcome::Ok;
    };
    // Not that it is not ready: whoever takes it out of service cuts subscribers off from what there is.
    if let Some(full) = full_disk(metrics) {
        return Outcome::Warning(full.to_string());
    }
    if space.free < space.size / 100 * DISK_FREE_PERCENT_WARN {
        let (free, size) = (space.free >> 20, space.size >> 20);
        return Outcome::Warning(format!("{free} MiB of {size} MiB are free"));
    }
    Outcome::Ok
}

impl Health for RelayHealth {
    fn storage(&self) -> Result<(), String> {
        match self.state.broken.load(Ordering::Relaxed) {
            true => Err("the event store has failed".into()),
            false => Ok(()),
        }
    }

    fn full_disk(&self) -> Option<FullDisk> {
        full_disk(&self.metrics)
    }

    fn live(&self) -> Result<(), String> {
        let now = Instant::now();
        self.storage()?;
        self.sequencer(now)?;
        self.hosts(now)
    }

    fn ready(&self) -> Vec<Check> {
        let now = Instant::now();
        let check = |part, outcome| Check { part, outcome };
        vec![
            check("listeners", self.listeners()),
            check("store", self.storage().into()),
            check("control_store", self.control(now)),
            check("sequencer", self.sequencer(now).into()),
            check("hosts", self.hosts(now).into()),
            check("disk_space", disk_space(&self.metrics)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::labels::{FrameType, Wait};

    #[test]
    fn an_outage_lasts_from_when_it_was_first_seen() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut outage = Outage::default();
        let mut lasts = |available: Result<(), &str>, seconds| {
            let seen = outage.seen(available.map_err(str::to_owned), after(seconds));
            seen.map(|(down, error)| {
                assert!(error.contains("control store") && error.contains("no server"));
                down.as_secs()
            })
        };
        assert_eq!(lasts(Ok(()), 10), None);
        assert_eq!(lasts(Err("no server"), 20), Some(0));
        assert_eq!(lasts(Err("no server"), 50), Some(30));
        assert_eq!(lasts(Ok(()), 60), None);
        assert_eq!(lasts(Err("no server"), 70), Some(0));
    }

    #[test]
    fn only_waiting_without_progress_is_a_stall() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::begin(start);
        assert_eq!(progress.stalled(0, false, after(100)), Duration::ZERO);
        assert_eq!(
            progress.stalled(0, true, after(150)),
            Duration::from_secs(50)
        );
        assert_eq!(
            progress.stalled(0, true, after(190)),
            Duration::from_secs(90)
        );
        assert_eq!(progress.stalled(1, true, after(200)), Duration::ZERO);
    }

    fn health(metrics: &Arc<Metrics>) -> (tempfile::TempDir, Arc<State>, RelayHealth) {
        let dir = tempfile::TempDir::new().unwrap();
        let control = crate::control::embedded::Embedded::open(dir.path()).unwrap();
        let state = Arc::new(State::default());
        let health = RelayHealth::new(state.clone(), metrics.clone(), Arc::new(control));
        (dir, state, health)
    }

    #[test]
    fn a_quiet_network_is_alive_and_threads_that_stand_still_are_not() {
        let metrics = Arc::new(Metrics::default());
        let (_dir, _, health) = health(&metrics);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        metrics.hosts_connected.set(3);
        // Nobody says anything, and each is asked whether it is there.
        for n in 0..100 {
            metrics.host_pings.inc();
            assert_eq!(health.hosts(after(30 * n)), Ok(()), "{n}");
        }
        // All wait for something else: for hours, where that is what the operator wants.
        let limited = [(); 3].map(|()| metrics.hosts_waiting.during(Wait::Limit));
        assert_eq!(health.hosts(after(9_000)), Ok(()));
        assert_eq!(health.hosts(after(90_000)), Ok(()));
        drop(limited);
        assert_eq!(health.hosts(after(90_000)), Ok(()));
        let error = health.hosts(after(90_300)).unwrap_err();
        assert!(error.contains("3 hosts"), "{error}");
        metrics.frames.inc(FrameType::Commit);
        assert_eq!(health.hosts(after(90_301)), Ok(()));
        metrics.hosts_connected.set(0);
        assert_eq!(health.hosts(after(180_000)), Ok(()));
    }

    #[test]
    fn every_part_that_is_not_ready_is_named() {
        let metrics = Arc::new(Metrics::default());
        let (_dir, state, health) = health(&metrics);
        let failed = |health: &RelayHealth| {
            let failed = |check: Check| match check.outcome {
                Outcome::Failed(why) => Some((check.part, why)),
                _ => None,
            };
            let failed: Vec<_> = health.ready().into_iter().filter_map(failed).collect();
            failed.into_iter().map(|(part, _)| part).collect::<Vec<_>>()
        };
        assert_eq!(failed(&health), ["listeners"]);
        state.set_listening();
        assert!(failed(&health).is_empty());
        state.set_broken();
        assert_eq!(failed(&health), ["store"]);
        state.set_stopping();
        assert_eq!(failed(&health), ["listeners", "store"]);
        assert!(health.live().is_err());
    }

    #[test]
    fn a_disk_that_fills_up_is_told_of_before_it_is_full() {
        let metrics = Arc::new(Metrics::default());
        let (_dir, state, health) = health(&metrics);
        state.set_listening();
        assert_eq!(disk_space(&metrics), Outcome::Ok);
        metrics.disk_size.set(100 << 30);
        metrics.disk_reserve.set(2 << 30);
        metrics.disk_free.set(50 << 30);
        assert_eq!(disk_space(&metrics), Outcome::Ok);
        metrics.disk_free.set(9 << 30);
        let warned = disk_space(&metrics);
        assert!(
            matches!(&warned, Outcome::Warning(said) if said.contains("9216 MiB of 102400")),
            "{warned:?}"
        );
        assert!(health.full_disk().is_none());
        metrics.disk_free.set(1 << 30);
        let warned = disk_space(&metrics);
        let words = "the disk is full: 1024 MiB are free, 2304 MiB are needed";
        assert!(matches!(&warned, Outcome::Warning(said) if said.contains(words)));
        // What is full for the sequencer is so until that goes on.
        metrics.disk_free.set(9 << 30);
        metrics.disk_full.set(1);
        assert!(health.full_disk().is_some());
        assert!(matches!(disk_space(&metrics), Outcome::Warning(_)));
    }

    #[test]
    fn a_full_disk_is_no_reason_to_be_started_again() {
        let metrics = Arc::new(Metrics::default());
        let (_dir, _, health) = health(&metrics);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        metrics.inbox_bytes.set(5);
        metrics.disk_full.set(1);
        assert_eq!(health.sequencer(after(10)), Ok(()));
        assert_eq!(health.sequencer(after(9_000)), Ok(()));
        // It counts from when there was room.
        metrics.disk_full.set(0);
        assert_eq!(health.sequencer(after(9_050)), Ok(()));
        assert!(health.sequencer(after(9_100)).is_err());
    }
}
