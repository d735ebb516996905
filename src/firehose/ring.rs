//! The most recent frames, in memory, for everybody who keeps up.

use std::collections::VecDeque;

use super::Frame;
use crate::sync::{
    PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicU64, Ordering},
};

/// A queue of frames bounded in bytes. One writer, many readers; what it no longer holds is in the
/// store.
#[derive(Debug)]
pub struct Ring {
    frames: RwLock<Frames>,
    bytes_max: usize,
    /// The last seq published, readable without the lock.
    head: AtomicU64,
}

#[derive(Debug)]
struct Frames {
    queue: VecDeque<Frame>,
    bytes: usize,
    /// Everything published after this seq is in the queue.
    after: u64,
}

/// What a read of the ring found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The frames that follow.
    Frames,
    /// Nothing follows yet.
    CaughtUp,
    /// What follows has left the ring; the store has it.
    Behind,
}

impl Ring {
    /// An empty ring of at most `bytes_max` bytes (always room for one frame), for a stream whose
    /// last seq is `last`.
    pub fn new(bytes_max: usize, last: u64) -> Ring {
        Ring {
            frames: RwLock::new(Frames {
                queue: VecDeque::new(),
                bytes: 0,
                after: last,
            }),
            bytes_max,
            head: AtomicU64::new(last),
        }
    }

    /// Appends frames, whose seqs grow, and returns the bytes that the ring then holds.
    pub fn push(&self, new: Vec<Frame>) -> usize {
        let Some(last) = new.last().map(|frame| frame.seq.get()) else {
            return self.read().bytes;
        };
        // What leaves is freed outside the lock.
        let mut gone = Vec::new();
        let mut frames = self.frames.write().unwrap_or_else(PoisonError::into_inner);
        frames.bytes += new.iter().map(|frame| frame.bytes.len()).sum::<usize>();
        frames.queue.extend(new);
        while frames.bytes > self.bytes_max && frames.queue.len() > 1 {
            let Some(frame) = frames.queue.pop_front() else {
                break;
            };
            frames.bytes -= frame.bytes.len();
            frames.after = frame.seq.get();
            gone.push(frame);
        }
        let bytes = frames.bytes;
        self.head.store(last, Ordering::SeqCst);
        drop(frames);
        bytes
    }

    /// Appends the frames that follow `after` to `out`: up to `frames_max` of them, and about
    /// `bytes_max` bytes, but at least one if there is one.
    pub fn read_after(
        &self,
        after: u64,
        frames_max: usize,
        bytes_max: usize,
        out: &mut VecDeque<Frame>,
    ) -> Answer {
        let frames = self.read();
        if after < frames.after {
            return Answer::Behind;
        }
        let start = frames.position_after(after);
        if start == frames.queue.len() {
            return Answer::CaughtUp;
        }
        let mut bytes = 0;
        for frame in frames.queue.range(start..).take(frames_max) {
            bytes += frame.bytes.len();
            out.push_back(frame.clone());
            if bytes >= bytes_max {
                break;
            }
        }
        Answer::Frames
    }

    /// Everything published after this seq is in the ring.
    pub fn after(&self) -> u64 {
        self.read().after
    }

    /// The last seq published.
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::SeqCst)
    }

    fn read(&self) -> RwLockReadGuard<'_, Frames> {
        self.frames.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frames {
    /// The index of the first frame after `after`.
    fn position_after(&self, after: u64) -> usize {
        let Some(first) = self.queue.front().map(|frame| frame.seq.get()) else {
            return 0;
        };
        // Seqs have no gaps, nearly always: then the distance is the index.
        let guess = (after + 1).saturating_sub(first);
        let guess = usize::try_from(guess).unwrap_or(usize::MAX);
        match self.queue.get(guess) {
            Some(frame) if frame.seq.get() == after + 1 => guess,
            _ => self.queue.partition_point(|frame| frame.seq.get() <= after),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::atproto::seq::Seq;

    fn frame(seq: u64) -> Frame {
        Frame {
            seq: Seq::new(seq).unwrap(),
            bytes: vec![0; 10].into(),
        }
    }

    fn read(ring: &Ring, after: u64, max: usize) -> (Answer, Vec<u64>) {
        let mut out = VecDeque::new();
        let answer = ring.read_after(after, max, usize::MAX, &mut out);
        (answer, out.iter().map(|f| f.seq.get()).collect())
    }

    #[test]
    fn who_keeps_up_reads_and_who_does_not_is_told() {
        let ring = Ring::new(50, 7);
        assert_eq!(read(&ring, 6, 9), (Answer::Behind, vec![]));
        assert_eq!(read(&ring, 7, 9), (Answer::CaughtUp, vec![]));
        assert_eq!(ring.push((8..=12).map(frame).collect()), 50);
        assert_eq!(read(&ring, 7, 9), (Answer::Frames, vec![8, 9, 10, 11, 12]));
        assert_eq!(read(&ring, 7, 2), (Answer::Frames, vec![8, 9]));
        assert_eq!(ring.push(vec![frame(13), frame(14)]), 50);
        assert_eq!(read(&ring, 8, 9), (Answer::Behind, vec![]));
        assert_eq!(read(&ring, 9, 9).1, [10, 11, 12, 13, 14]);
        assert_eq!(read(&ring, 14, 9), (Answer::CaughtUp, vec![]));
        // Somebody who starts at a seq that is committed and not yet published.
        assert_eq!(read(&ring, 20, 9), (Answer::CaughtUp, vec![]));
        assert_eq!(ring.head(), 14);
        for (bytes_max, count) in [(1, 1), (10, 1), (11, 2)] {
            let mut out = VecDeque::new();
            ring.read_after(9, 9, bytes_max, &mut out);
            assert_eq!(out.len(), count);
        }
    }

    #[test]
    fn a_frame_larger_than_the_ring_is_still_published() {
        let ring = Ring::new(5, 0);
        ring.push(vec![frame(1), frame(2)]);
        assert_eq!(read(&ring, 0, 9), (Answer::Behind, vec![]));
        assert_eq!(read(&ring, 1, 9), (Answer::Frames, vec![2]));
    }

    proptest! {
        /// Whatever the gaps and the size: a reader gets exactly what follows, or is told that it
        /// is behind when something that follows is gone.
        #[test]
        fn a_read_is_whole_or_refused(
            steps in proptest::collection::vec(1u64..4, 1..60),
            kept in 1usize..40,
            after in 0u64..200,
        ) {
            let ring = Ring::new(kept * 10, 0);
            let mut seqs = Vec::new();
            for step in steps {
                seqs.push(seqs.last().unwrap_or(&0) + step);
                ring.push(vec![frame(seqs[seqs.len() - 1])]);
            }
            let expected: Vec<u64> = seqs.iter().copied().filter(|s| *s > after).collect();
            match read(&ring, after, usize::MAX) {
                (Answer::Frames, got) => prop_assert_eq!(got, expected),
                (Answer::CaughtUp, _) => prop_assert!(expected.is_empty()),
                (Answer::Behind, _) => prop_assert!(expected.len() > kept),
            }
        }
    }
}
