//! In the place of `src/firehose/bell.rs`: what an eventfd does, and waiting for it.

use std::{io, sync::PoisonError};

use crate::sync::{Condvar, Mutex, MutexGuard};

#[derive(Debug)]
pub(super) struct Bell(Mutex<bool>, Condvar);

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        Ok(Bell(Mutex::new(false), Condvar::new()))
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self) {
        *self.lock() = true;
        self.1.notify_all();
    }

    pub(super) fn silence(&self) {
        *self.lock() = false;
    }

    /// Waits until it rings; no time passes here.
    pub(super) fn wait(&self) {
        let mut rings = self.lock();
        while !*rings {
            rings = self.1.wait(rings).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
