//! Who wakes the subscribers that sleep.

use std::time::Instant;

use crossbeam_channel::{Receiver, select};

use super::{Timing, registry::Registry};
use crate::{limits::WAKE_MANY, threads::Stop};

/// Wakes those who wait for frames, until the stop; then waits for the subscribers to end. The first
/// frame after a pause is announced at once; those that follow gather meanwhile.
pub(super) fn tick(registry: &Registry, heard: &Receiver<()>, stop: &Stop, timing: &Timing) {
    let mut next = Instant::now();
    loop {
        select! {
            recv(heard) -> _ => {}
            recv(stop.channel()) -> _ => break,
        }
        let wait = next.saturating_duration_since(Instant::now());
        if !wait.is_zero() && stop.wait(wait) {
            break;
        }
        // What was announced until here is covered by this round.
        let _ = heard.try_recv();
        let woken = registry.wake_sleeping();
        next = Instant::now()
            + if woken < WAKE_MANY {
                timing.wake_gather
            } else {
                timing.wake_gather_many
            };
    }
    registry.wake_all();
    if !registry.wait_empty(2 * timing.close_timeout) {
        let left = registry.list().len();
        log::warn!(subscribers = left; "subscribers did not end in time");
    }
}
