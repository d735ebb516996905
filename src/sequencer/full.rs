//! What the sequencer does while the disk is full: nothing, but for what must not wait.
//!
//! Nothing of hosts is taken, so that the inbox fills, hosts wait, and TCP with them; their cursors stay
//! where they are, and nothing is lost or comes twice. What the operator decides still passes, out of the
//! reserve: a takedown and a ban are small, and a full disk is no reason why they should not hold. It
//! overtakes what waits, which is what a decision may do.

use std::time::Instant;

use crossbeam_channel::{never, select};

use super::{Sequencer, SequencerError, event::Input};
use crate::{
    limits::{DISK_FULL_REPORT_INTERVAL, DISK_LOOK_INTERVAL},
    store::{Reserve, Space},
    threads::Stop,
};

/// Where it is looked whether there is room.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    reserve: Reserve,
    /// The relay stops: those who wait for room in the inbox are not kept.
    leaving: Stop,
}

impl Sequencer {
    /// Takes nothing of hosts while less than the reserve is free. `leaving` is the stop of those who
    /// send: they end before the sequencer, and must not wait for a disk that stays full.
    pub fn keep_free(&mut self, reserve: Reserve, leaving: Stop) {
        self.disk = Some(Disk { reserve, leaving });
    }

    /// Whether there is no room for a batch, as far as can be seen.
    pub(super) fn finds_disk_full(&self) -> bool {
        self.look().is_some_and(Space::is_full)
    }

    fn look(&self) -> Option<Space> {
        self.disk.as_ref()?.reserve.look(&self.metrics)
    }

    /// Waits until there is room, beginning with `first`; false when the stop comes before. What is
    /// left of hosts then is dropped: it is behind their cursors, and they are asked for it again.
    pub(super) fn wait_for_room(
        &mut self,
        first: Option<Input>,
        stop: &Stop,
    ) -> Result<bool, SequencerError> {
        let mut leaving = match &self.disk {
            Some(disk) => disk.leaving.channel().clone(),
            None => never(),
        };
        self.metrics.disk_full.set(1);
        let mut report_at = Instant::now();
        if let Some(first) = first {
            self.outbox.turns.put_back(first);
        }
        loop {
            let space = self.look();
            while let Some(decision) = self.outbox.turns.decision() {
                self.take_while_full(decision, space)?;
            }
            if space.is_none_or(|space| space.free >= space.needed()) && self.can_write()? {
                self.metrics.disk_full.set(0);
                let free_mb = space.map(|space| space.free >> 20);
                log::info!(free_mb = free_mb; "the disk has room again: hosts are read");
                return Ok(true);
            }
            if let Some(space) = space
                && Instant::now() >= report_at
            {
                report_at = Instant::now() + DISK_FULL_REPORT_INTERVAL;
                log::error!(
                    free_mb = space.free >> 20, needed_mb = space.needed().div_ceil(1 << 20);
                    "the disk is full: nothing is taken of hosts until there is room; subscribers are \
                     served what there is"
                );
            }
            select! {
                recv(self.outbox.receiver) -> input => match input {
                    Ok(input) => self.outbox.turns.push(input),
                    Err(_) => break,
                },
                recv(leaving) -> _ => {
                    self.outbox.budget.close();
                    leaving = never();
                }
                recv(stop.channel()) -> _ => break,
                default(DISK_LOOK_INTERVAL) => {}
            }
        }
        self.outbox.budget.close();
        Ok(false)
    }

    /// Whether the store takes writes: one that has met the end of the disk by itself needs a while to
    /// find that there is room.
    fn can_write(&self) -> Result<bool, SequencerError> {
        match self.store.try_write() {
            Ok(()) => Ok(true),
            Err(error) if error.is_no_space() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A decision while there is no room for what hosts say.
    fn take_while_full(
        &mut self,
        decision: Input,
        space: Option<Space>,
    ) -> Result<(), SequencerError> {
        let is_spent = space.is_some_and(Space::is_spent);
        let mut forming = self.forming();
        match decision {
            // Nothing has to be written for these.
            Input::Reached { done } => {
                let _ = done.send(());
            }
            Input::Ban { .. } | Input::AccountLimit { .. } => self.take(decision, &mut forming)?,
            // The thread of the host waits for the answer, and for nothing else.
            Input::Restart { .. } if is_spent => self.outbox.turns.put_off(decision),
            Input::Rule { .. } | Input::Reset { .. } if is_spent => {
                log::error!("a decision is not taken: the disk is full to the last");
            }
            _ => {
                forming.inputs = 1;
                self.take(decision, &mut forming)?;
                self.write(forming)?;
            }
        }
        Ok(())
    }
}
