//! On which terms one host is listened to: the crawler says so, and its thread reads it at every event.
//! `tests/concurrency` tries both in every order.

use super::quota::{Limits, Span};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

/// The terms of one host.
#[derive(Debug)]
pub(super) struct Terms {
    lenient: AtomicBool,
    /// By [`Span`]; [`UNLIMITED`]: no limit.
    events: [AtomicU64; Span::ALL.len()],
    /// Whether the thread waits, or is about to wait, until the host is within a limit.
    waited_for: AtomicBool,
}

const UNLIMITED: u64 = u64::MAX;

impl Terms {
    /// With these.
    pub(super) fn new(lenient: bool, limits: &Limits) -> Terms {
        let terms = Terms {
            lenient: AtomicBool::new(false),
            events: std::array::from_fn(|_| AtomicU64::new(UNLIMITED)),
            waited_for: AtomicBool::new(false),
        };
        let _nobody_waits = terms.set(lenient, limits);
        terms
    }

    /// They are these from now on; true where the thread has to be woken for it.
    #[must_use]
    pub(super) fn set(&self, lenient: bool, limits: &Limits) -> bool {
        self.lenient.store(lenient, Ordering::Relaxed);
        for span in Span::ALL {
            let limit = limits.get(span).unwrap_or(UNLIMITED);
            self.events[span as usize].store(limit, Ordering::Relaxed);
        }
        // Either this sees that the thread waits, or the thread sees the limits.
        fence(Ordering::SeqCst);
        self.waited_for.load(Ordering::Relaxed)
    }

    /// The thread is about to wait. It has to look at the limits once more: whoever sets others after that
    /// wakes it.
    pub(super) fn begin_to_wait(&self) {
        self.waited_for.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The thread has waited.
    pub(super) fn end_to_wait(&self) {
        self.waited_for.store(false, Ordering::Relaxed);
    }

    /// Whether commits without the fields of Sync 1.1 pass.
    pub(super) fn lenient(&self) -> bool {
        self.lenient.load(Ordering::Relaxed)
    }

    /// How many events the host may send.
    pub(super) fn limits(&self) -> Limits {
        let events = self.events.each_ref();
        let limits = events.map(|limit| limit.load(Ordering::Relaxed));
        Limits::new(limits.map(|limit| (limit != UNLIMITED).then_some(limit)))
    }
}
