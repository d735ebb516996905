//! The replay window as numbers that can be read at any time without waiting.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// What can be replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The highest seq ever removed; 0: none. Whoever has seen up to here misses nothing.
    pub pruned: u64,
    /// The oldest seq that can be read, if any can.
    pub oldest: Option<u64>,
    /// The highest seq ever assigned; 0: none.
    pub last: u64,
}

/// The window's moving parts. `pruned` and `last` only grow; `oldest` has two writers (the
/// sequencer, when the window was empty, and retention), which take turns under `moving`.
#[derive(Default, Debug)]
pub(super) struct WindowCell {
    pruned: AtomicU64,
    /// 0: the window is empty.
    oldest: AtomicU64,
    last: AtomicU64,
    moving: Mutex<()>,
}

impl WindowCell {
    pub(super) fn new(window: Window) -> WindowCell {
        WindowCell {
            pruned: AtomicU64::new(window.pruned),
            oldest: AtomicU64::new(window.oldest.unwrap_or(0)),
            last: AtomicU64::new(window.last),
            moving: Mutex::new(()),
        }
    }

    /// A state of the window. The order of reading mirrors the order of writing, so that at every
    /// instant `pruned < oldest <= last`.
    pub(super) fn get(&self) -> Window {
        let pruned = self.pruned();
        let oldest = self.oldest.load(Ordering::Acquire);
        Window {
            pruned,
            oldest: (oldest != 0).then_some(oldest),
            last: self.last(),
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    pub(super) fn pruned(&self) -> u64 {
        self.pruned.load(Ordering::Acquire)
    }

    /// Events `first` to `last` were added.
    pub(super) fn append(&self, first: u64, last: u64) {
        let _turn = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        // The end moves first: an oldest beyond the end would be no window at all.
        self.last.store(last, Ordering::Release);
        if self.oldest.load(Ordering::Acquire) == 0 {
            self.oldest.store(first, Ordering::Release);
        }
    }

    /// Seqs up to `last` are not to be given any more; nothing was added.
    pub(super) fn raise(&self, last: u64) {
        let _turn = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        self.last.fetch_max(last, Ordering::AcqRel);
    }

    /// Everything up to `through` leaves the window; `oldest` finds what is then the oldest. It
    /// runs while nothing can be appended.
    pub(super) fn prune<E>(
        &self,
        through: u64,
        oldest: impl FnOnce() -> Result<Option<u64>, E>,
    ) -> Result<(), E> {
        let _turn = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = oldest()?.unwrap_or(0);
        // The oldest moves first: whoever sees the new bound sees an oldest above it.
        self.oldest.store(oldest, Ordering::Release);
        self.pruned.store(through, Ordering::Release);
        Ok(())
    }
}
