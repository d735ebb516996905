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
    http::app::Health,
    limits::{CONTROL_DOWN_MAX, INGEST_STALL_MAX},
    metrics::Metrics,
};

/// What has happened to the relay.
#[derive(Default)]
pub(super) struct State {
    broken: AtomicBool,
    stopping: AtomicBool,
}

impl State {
    pub(super) fn set_broken(&self) {
        self.broken.store(true, Ordering::Relaxed);
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
    progress: Mutex<Progress>,
    outage: Mutex<Outage>,
}

impl RelayHealth {
    pub(super) fn new(
        state: Arc<State>,
        metrics: Arc<Metrics>,
        control: Arc<dyn Control>,
    ) -> RelayHealth {
        let progress = Progress {
            batches: 0,
            since: Instant::now(),
        };
        RelayHealth {
            state,
            metrics,
            control,
            progress: Mutex::new(progress),
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

/// When the sequencer last made progress, as far as was looked.
struct Progress {
    batches: u64,
    since: Instant,
}

impl Progress {
    /// How long events have waited without a batch being written.
    fn stalled(&mut self, batches: u64, waiting: bool, now: Instant) -> Duration {
        if batches != self.batches || !waiting {
            *self = Progress {
                batches,
                since: now,
            };
        }
        now.saturating_duration_since(self.since)
    }
}

impl Health for RelayHealth {
    fn storage(&self) -> Result<(), String> {
        match self.state.broken.load(Ordering::Relaxed) {
            true => Err("the event store has failed".into()),
            false => Ok(()),
        }
    }

    fn live(&self) -> Result<(), String> {
        self.storage()?;
        let (batches, inbox) = (self.metrics.batches.get(), self.metrics.inbox_bytes.get());
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = progress.stalled(batches, inbox > 0, Instant::now());
        if stalled < INGEST_STALL_MAX {
            return Ok(());
        }
        Err(format!(
            "{inbox} bytes of events wait and nothing was written for {stalled:.0?}"
        ))
    }

    fn ready(&self) -> Result<(), String> {
        if self.state.stopping.load(Ordering::Relaxed) {
            return Err("the relay is stopping".into());
        }
        self.live()?;
        match self.control_down(Instant::now()) {
            // The relay goes on without it, and whoever takes it out of service for that cuts every
            // subscriber: not for a database that is started anew.
            Some((down, error)) if down >= CONTROL_DOWN_MAX => Err(error),
            _ => Ok(()),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let control = self.control_down(Instant::now());
        control.map(|(_, error)| error).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut progress = Progress {
            batches: 0,
            since: start,
        };
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
}
