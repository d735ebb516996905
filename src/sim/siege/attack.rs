//! What an attack is.

use std::io;

use super::field::Field;
use crate::threads::{self, Stop};

/// Somebody who is up to no good. One value is made for each run; it is used by one thread at a
/// time, and dropped when it is over, which ends whatever it has started.
pub(super) trait Attack: Send {
    /// The name in the table, such as `flood-valid`.
    fn name(&self) -> &'static str;

    /// What it does, in one line.
    fn about(&self) -> &'static str;

    /// Makes ready what is to be there before the first round of calm, which it is compared with:
    /// hosts that the relay crawls, events, connections.
    fn prepare(&mut self, field: &Field) -> io::Result<()>;

    /// Attacks until `stop`, on a thread of its own; once in each round. It leaves nothing behind
    /// that goes on by itself, or the next round of calm is none.
    fn run(&mut self, field: &Field, stop: &Stop) -> io::Result<()>;

    /// What the relay says of it after the last round, and what was done to it.
    fn seen(&mut self, field: &Field) -> io::Result<Seen>;
}

/// Lets this thread run only when nothing else wants to, and those that it spawns: who attacks is on machines of its own, and
/// is not to take the processor from the relay or from those who behave otherwise than through the relay.
pub(super) fn stand_back() -> io::Result<()> {
    threads::run_when_idle()
}

/// What came of an attack, as the relay tells it to those who ask.
#[derive(Clone, Default, Debug)]
pub(super) struct Seen {
    /// Short, for the table.
    pub(super) words: String,
    /// What should have been to be seen, or have happened, and was not.
    pub(super) amiss: Option<String>,
}
