//! Large frames on their way to subscribers. A page is short, but for a frame that is larger than a page: with a few
//! megabytes for each subscriber that waits for its socket, memory would be bounded by nothing but their number.
//!
//! So a large frame that was read is kept here as long as somebody sends it, once for all of them, as far as there is
//! room. Where there is none, a subscriber has it only while its socket takes bytes, and only a few have such a frame
//! at once: who would have to wait for its socket gives it back, and reads it again when it can go on.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    metrics::Metrics,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// The large frames that are kept, and who may have one beside them.
#[derive(Debug)]
pub(super) struct LargeFrames {
    state: Mutex<State>,
    /// A turn has come back.
    returned: Condvar,
    bytes_max: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    kept: HashMap<u64, Kept>,
    bytes: usize,
    turns_left: usize,
}

#[derive(Debug)]
struct Kept {
    bytes: Bytes,
    holders: usize,
}

impl State {
    /// The frame of this seq, if it is kept, for one holder more.
    fn hold(&mut self, seq: u64) -> Option<Bytes> {
        let kept = self.kept.get_mut(&seq)?;
        kept.holders += 1;
        Some(kept.bytes.clone())
    }
}

/// Keeps a frame; when the last is dropped, the frame goes.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<LargeFrames>,
    seq: u64,
}

/// Lets its holder have a frame that is not kept, as long as it need not wait for its socket.
#[derive(Debug)]
pub(super) struct Turn(Arc<LargeFrames>);

impl LargeFrames {
    /// Room for frames of `bytes_max` bytes in all, and `turns` beside them.
    pub(super) fn new(bytes_max: usize, turns: usize, metrics: Arc<Metrics>) -> LargeFrames {
        LargeFrames {
            state: Mutex::new(State {
                kept: HashMap::new(),
                bytes: 0,
                turns_left: turns,
            }),
            returned: Condvar::new(),
            bytes_max,
            metrics,
        }
    }

    /// The frame of this seq, if it is kept.
    pub(super) fn take(self: &Arc<Self>, seq: u64) -> Option<(Place, Bytes)> {
        let bytes = self.lock().hold(seq)?;
        let of = Arc::clone(self);
        Some((Place { of, seq }, bytes))
    }

    /// Keeps a frame: as it is kept already, or as it is given, or not at all where there is no room.
    pub(super) fn keep(self: &Arc<Self>, seq: u64, bytes: &Bytes) -> Option<(Place, Bytes)> {
        let mut state = self.lock();
        let held = state.hold(seq).or_else(|| {
            if state.bytes + bytes.len() > self.bytes_max {
                return None;
            }
            let kept = Kept {
                bytes: bytes.clone(),
                holders: 1,
            };
            state.kept.insert(seq, kept);
            state.bytes += bytes.len();
            self.metrics.large_frames_bytes.set(state.bytes as u64);
            Some(bytes.clone())
        });
        let of = Arc::clone(self);
        held.map(|bytes| (Place { of, seq }, bytes))
    }

    /// A turn, if there is one within `patience`.
    pub(super) fn turn(self: &Arc<Self>, patience: Duration) -> Option<Turn> {
        let state = self.lock();
        let waited = self
            .returned
            .wait_timeout_while(state, patience, |state| state.turns_left == 0);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.turns_left = state.turns_left.checked_sub(1)?;
        Some(Turn(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        let Some(kept) = state.kept.get_mut(&self.seq) else {
            return;
        };
        kept.holders -= 1;
        if kept.holders == 0 {
            let gone = state.kept.remove(&self.seq);
            state.bytes -= gone.as_ref().map_or(0, |kept| kept.bytes.len());
            self.of.metrics.large_frames_bytes.set(state.bytes as u64);
            // What leaves is freed outside the lock.
            drop(state);
            drop(gone);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().turns_left += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn large_frames(bytes_max: usize, turns: usize) -> Arc<LargeFrames> {
        Arc::new(LargeFrames::new(bytes_max, turns, Arc::default()))
    }

    #[test]
    fn a_frame_is_kept_once_and_as_long_as_somebody_holds_it() {
        let large = large_frames(100, 0);
        assert!(large.take(1).is_none());
        let (first, bytes) = large.keep(1, &vec![1; 60].into()).unwrap();
        assert_eq!(bytes, vec![1; 60]);
        // There is no room for another one; and one that is there already needs none.
        assert!(large.keep(2, &vec![2; 41].into()).is_none());
        let (second, shared) = large.keep(1, &vec![1; 60].into()).unwrap();
        let (third, taken) = large.take(1).unwrap();
        assert_eq!(
            [shared.as_ptr(), taken.as_ptr()],
            [bytes.as_ptr(), bytes.as_ptr()]
        );
        let (other, _) = large.keep(3, &vec![3; 40].into()).unwrap();
        assert_eq!(large.metrics.large_frames_bytes.get(), 100);
        drop((first, third));
        assert!(large.take(1).is_some());
        drop(second);
        assert!(large.take(1).is_none());
        assert_eq!(large.metrics.large_frames_bytes.get(), 40);
        drop(other);
        assert_eq!(large.metrics.large_frames_bytes.get(), 0);
        assert!(large.keep(2, &vec![2; 100].into()).is_some());
    }

    #[test]
    fn turns_are_few_and_come_back() {
        let large = large_frames(0, 2);
        let none = Duration::ZERO;
        let turns = [large.turn(none).unwrap(), large.turn(none).unwrap()];
        assert!(large.turn(none).is_none());
        thread::scope(|scope| {
            let waits = scope.spawn(|| large.turn(Duration::from_secs(60)).is_some());
            drop(turns);
            assert!(waits.join().unwrap());
        });
        assert!(large.turn(none).is_some());
    }
}
