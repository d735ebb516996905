//! Whether the attack is on. While it is not, hosts keep their connections and say nothing; what is
//! open when it ends is cut, so that nothing of it is still on its way in the calm that follows.

use std::{
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Shared by all hosts of an attack.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How often it was opened.
    round: u64,
    is_open: bool,
    /// There is no further round.
    is_over: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// The attack begins.
    pub(super) fn open(&self) {
        self.change(|state| {
            state.round += 1;
            state.is_open = true;
        });
    }

    /// The attack is over for now.
    pub(super) fn close(&self) {
        self.change(|state| state.is_open = false);
    }

    /// There will be no further one.
    pub(super) fn end(&self) {
        self.change(|state| {
            state.is_open = false;
            state.is_over = true;
        });
    }

    /// Whether it is on now.
    pub(super) fn is_open(&self) -> bool {
        self.lock().is_open
    }

    /// Whether there is no further round.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Waits until it is on; the number of the round. An error where there will be none, or
    /// `has_gone` says that nobody waits any more, which is asked now and then.
    pub(super) fn wait(&self, mut has_gone: impl FnMut() -> bool) -> io::Result<u64> {
        const LOOK: Duration = Duration::from_millis(200);
        let mut state = self.lock();
        while !state.is_open {
            if state.is_over || has_gone() {
                return Err(ended());
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state.round)
    }

    /// An error where the round is over.
    pub(super) fn check(&self, round: u64) -> io::Result<()> {
        let state = self.lock();
        if state.is_open && state.round == round {
            Ok(())
        } else {
            Err(ended())
        }
    }

    /// Waits for so long; an error as soon as the round is over.
    pub(super) fn pause(&self, round: u64, duration: Duration) -> io::Result<()> {
        let until = Instant::now() + duration;
        let mut state = self.lock();
        loop {
            if !state.is_open || state.round != round {
                return Err(ended());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the round is over")
}
