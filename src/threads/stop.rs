//! How threads are told to stop.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Tells threads to stop, by being dropped.
#[derive(Debug)]
pub struct Stopper(#[expect(dead_code, reason = "dropping it is the message")] Sender<()>);

/// Whether and when to stop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(Receiver<()>);

/// A token and what triggers it.
pub fn stop_pair() -> (Stopper, Stop) {
    let (sender, receiver) = bounded(0);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Whether the stop was asked for.
    pub fn requested(&self) -> bool {
        matches!(
            self.0.try_recv(),
            Err(crossbeam_channel::TryRecvError::Disconnected)
        )
    }

    /// Waits up to `timeout`; true when the stop was asked for.
    pub fn wait(&self, timeout: Duration) -> bool {
        matches!(
            self.0.recv_timeout(timeout),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected)
        )
    }

    /// A channel that becomes ready (disconnected) with the stop, for `select!`.
    pub fn channel(&self) -> &Receiver<()> {
        &self.0
    }
}
