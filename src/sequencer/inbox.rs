//! The sequencer's inbox, bounded in messages and in bytes. A full inbox makes host threads wait,
//! and TCP with them: nothing is ever dropped here.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::event::Input;
use crate::{
    limits::{INBOX_BYTES_MAX, INBOX_EVENTS_MAX},
    metrics::Metrics,
};

/// The sending end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: Sender<Input>,
    budget: Arc<Budget>,
}

/// The sequencer's end.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) receiver: Receiver<Input>,
    pub(super) budget: Arc<Budget>,
}

/// The sequencer has ended; nothing can be delivered any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed;

impl Inbox {
    /// Both ends.
    pub(super) fn new(metrics: Arc<Metrics>) -> (Inbox, Outbox) {
        let (sender, receiver) = bounded(INBOX_EVENTS_MAX);
        let budget = Arc::new(Budget {
            used: Mutex::new(0),
            freed: Condvar::new(),
            metrics,
        });
        (
            Inbox {
                sender,
                budget: budget.clone(),
            },
            Outbox { receiver, budget },
        )
    }

    /// Delivers a message; waits while the inbox is full.
    pub fn send(&self, input: Input) -> Result<(), Closed> {
        self.budget.acquire(input.bytes());
        self.sender.send(input).map_err(|_| Closed)
    }

    /// Delivers a message to which there is an answer, and waits for that; for so long at the most.
    pub fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Input, within: Duration) -> Option<T> {
        let deadline = Instant::now() + within;
        let (done, answer) = bounded(1);
        self.sender.send_deadline(question(done), deadline).ok()?;
        answer.recv_deadline(deadline).ok()
    }
}

#[cfg(test)]
impl Inbox {
    /// An inbox that a test reads in the sequencer's place.
    pub(crate) fn with_receiver(metrics: Arc<Metrics>) -> (Inbox, Receiver<Input>) {
        let (inbox, outbox) = Inbox::new(metrics);
        (inbox, outbox.receiver)
    }
}

/// Bytes in the inbox.
#[derive(Debug)]
pub(super) struct Budget {
    used: Mutex<usize>,
    freed: Condvar,
    metrics: Arc<Metrics>,
}

impl Budget {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acquire(&self, bytes: usize) {
        let mut used = self.lock();
        // A message is let in whenever there is room at all: one is far smaller than the budget.
        while *used >= INBOX_BYTES_MAX && bytes > 0 {
            used = self
                .freed
                .wait(used)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        self.metrics.inbox_bytes.set(*used as u64);
    }

    pub(super) fn release(&self, bytes: usize) {
        let mut used = self.lock();
        *used -= bytes;
        self.metrics.inbox_bytes.set(*used as u64);
        drop(used);
        self.freed.notify_all();
    }
}
