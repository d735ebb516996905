//! The thread that writes into the control store what nobody waits for: how hosts do, how far they
//! were read, and the last seq. Thousands of hosts change in the same second, when a network fails or
//! comes back; here that is one write.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Control, ControlError, Cursor, Mirror, Observed};
use crate::{
    limits::{KEEP_INTERVAL, MIRROR_CURSORS_INTERVAL, MIRROR_SEQ_INTERVAL},
    store::{Store, account::HostId},
    threads::Stop,
};

/// What is to be kept; of each host only the latest.
#[derive(Default, Debug)]
pub struct Keeper(Mutex<HashMap<HostId, Observed>>);

impl Keeper {
    /// This was seen of a host.
    pub fn observed(&self, host: HostId, observed: Observed) {
        self.waiting().insert(host, observed);
    }

    /// Writes until the stop is asked for, and then once more.
    pub fn run(&self, control: &dyn Control, store: &Store, stop: &Stop) {
        let mut mirrored = Mirrored::default();
        let mut troubled = false;
        loop {
            let last = stop.wait(KEEP_INTERVAL);
            let done = self
                .keep(control)
                .and_then(|()| mirrored.keep(control, store, Instant::now(), last));
            match done {
                Ok(()) if troubled => {
                    troubled = false;
                    log::info!("control store: what had to wait is kept");
                }
                Err(error) if !troubled => {
                    troubled = true;
                    log::error!("what was seen of hosts waits to be kept: {error}");
                }
                Ok(()) | Err(_) => {}
            }
            if last {
                return;
            }
        }
    }

    /// Writes what waits; what can not be written waits on, unless there is something later.
    fn keep(&self, control: &dyn Control) -> Result<(), ControlError> {
        let waiting: Vec<_> = self.waiting().drain().collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let kept = control.observe(&waiting);
        if kept.is_err() {
            let mut later = self.waiting();
            for (host, observed) in waiting {
                later.entry(host).or_insert(observed);
            }
        }
        kept
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, Observed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was mirrored, and when.
#[derive(Default)]
struct Mirrored {
    seq: u64,
    seq_at: Option<Instant>,
    cursors: HashMap<HostId, Cursor>,
    cursors_at: Option<Instant>,
}

impl Mirrored {
    /// Mirrors what is due, or everything where it is the last time.
    fn keep(
        &mut self,
        control: &dyn Control,
        store: &Store,
        now: Instant,
        last: bool,
    ) -> Result<(), ControlError> {
        let due = |at: Option<Instant>, interval: Duration| {
            last || at.is_none_or(|at| now.saturating_duration_since(at) >= interval)
        };
        if !due(self.seq_at, MIRROR_SEQ_INTERVAL) {
            return Ok(());
        }
        let with_cursors = due(self.cursors_at, MIRROR_CURSORS_INTERVAL);
        let mut mirror = Mirror {
            // Before the cursors: they may be of later events, never of earlier ones.
            seq: store.last_seq(),
            at_ms: crate::host::now_ms(),
            cursors: Vec::new(),
        };
        if with_cursors {
            let hosts = store
                .hosts()
                .map_err(|error| ControlError::Backend(error.to_string()))?;
            for (host, record) in hosts {
                let cursor = Cursor {
                    seq: record.cursor,
                    epoch: record.epoch,
                };
                if self.cursors.get(&host) != Some(&cursor) {
                    mirror.cursors.push((host, cursor));
                }
            }
        }
        control.mirror(&mirror)?;
        (self.seq, self.seq_at) = (mirror.seq, Some(now));
        if with_cursors {
            self.cursors_at = Some(now);
            self.cursors.extend(mirror.cursors);
        }
        Ok(())
    }
}

/// The seq that is certainly beyond every one that was given before `now_ms`, where the mirror is all
/// that is left: a relay gives far fewer a second, and there are enough of them.
pub fn seq_beyond(mirror: &Mirror, now_ms: u64) -> u64 {
    use crate::limits::{MIRROR_SEQ_MARGIN, MIRROR_SEQ_MARGIN_A_SECOND};
    let seconds = now_ms.saturating_sub(mirror.at_ms).div_ceil(1_000);
    let margin = seconds.saturating_mul(MIRROR_SEQ_MARGIN_A_SECOND);
    mirror
        .seq
        .saturating_add(MIRROR_SEQ_MARGIN)
        .saturating_add(margin)
}

/// A control store and a keeper, as the crawler uses them.
#[derive(Clone)]
pub struct Keeping {
    /// Where decisions are kept.
    pub control: Arc<dyn Control>,
    /// Where observations go.
    pub keeper: Arc<Keeper>,
}
