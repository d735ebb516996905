//! Reading the store ahead of a subscriber that is far behind: taking pages apart costs more than
//! sending them, so that both at once are nearly twice as fast as one after the other.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Frame;
use crate::{
    crew, limits,
    store::{Page, Store, StoreError},
    threads::{self, Role, Thread},
};

/// What one read of the store found.
pub(super) type Read = Result<(Page, Vec<Frame>), StoreError>;

/// A thread that reads ahead; dropping this ends it.
pub(super) struct Ahead {
    // Dropped first: without a receiver the thread ends.
    pages: Receiver<Read>,
    _thread: Thread,
    _turn: Turn,
}

/// How many subscribers are read ahead for ([`limits::READ_AHEADS`]); the others have each page read when they need it.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    taken: Arc<AtomicUsize>,
    most: usize,
}

struct Turn(Turns);

impl Turns {
    pub(super) fn new() -> Turns {
        Turns {
            taken: Arc::default(),
            most: crew::for_cores(limits::REPLAY_CORES_EACH, limits::READ_AHEADS),
        }
    }

    fn take(&self) -> Option<Turn> {
        let one_more = |n| (n < self.most).then_some(n + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.ok().map(|_| Turn(self.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ahead {
    /// Reads pages that follow `after`, of frames of up to `frame_bytes_max` bytes; nothing where enough are read
    /// ahead for already.
    pub(super) fn start(
        store: Arc<Store>,
        turns: &Turns,
        after: u64,
        frame_bytes_max: usize,
    ) -> io::Result<Option<Ahead>> {
        let Some(turn) = turns.take() else {
            return Ok(None);
        };
        let (sender, pages) = bounded(limits::READ_AHEAD_PAGES);
        let stack = limits::SERVICE_STACK_BYTES;
        let thread = threads::spawn(Role::Replay, "", stack, move || {
            run(&store, after, frame_bytes_max, &sender);
        })?;
        Ok(Some(Ahead {
            pages,
            _thread: thread,
            _turn: turn,
        }))
    }

    /// The next page; nothing after the last one, which is empty or says why there is no more, or that a larger frame
    /// follows.
    pub(super) fn next(&self) -> Option<Read> {
        self.pages.recv().ok()
    }
}

fn run(store: &Store, mut after: u64, frame_bytes_max: usize, pages: &Sender<Read>) {
    let bytes = limits::READ_AHEAD_PAGE_BYTES;
    loop {
        let mut frames = Vec::new();
        let read = store.read_after(after, bytes, frame_bytes_max, &mut frames);
        let last = frames.last().map(|frame| frame.seq.get());
        let read = read.map(|page| (page, frames));
        if pages.send(read).is_err() {
            return;
        }
        match last {
            Some(last) => after = last,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_few_and_come_back() {
        let turns = Turns::new();
        let mut taken: Vec<_> = (0..turns.most).map(|_| turns.take().unwrap()).collect();
        assert!(turns.take().is_none());
        taken.pop();
        assert!(turns.take().is_some());
    }
}
