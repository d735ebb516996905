//! What came under each sequence number, so that what comes under it later can be compared.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::event::Digest;

/// Half of a digest for each frame: enough to tell frames apart, and little enough for millions.
#[derive(Default, Debug)]
struct Frames {
    first: u64,
    digests: Vec<u64>,
}

/// The frames of a whole run.
#[derive(Default, Debug)]
pub(super) struct Seen(Mutex<Frames>);

impl Seen {
    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the frame that came under `seq`, the next one.
    pub(super) fn add(&self, seq: u64, digest: Digest) {
        let mut frames = self.frames();
        if frames.digests.is_empty() {
            frames.first = seq;
        }
        if seq == frames.first + frames.digests.len() as u64 {
            frames.digests.push(digest.half());
        }
    }

    /// The last sequence number; 0 before the first.
    pub(super) fn last(&self) -> u64 {
        let frames = self.frames();
        (frames.first + frames.digests.len() as u64).saturating_sub(1)
    }

    /// Whether this frame is the one that came under `seq`; none where none did.
    pub(super) fn is_same(&self, seq: u64, digest: Digest) -> Option<bool> {
        let frames = self.frames();
        let at = usize::try_from(seq.checked_sub(frames.first)?).ok()?;
        Some(*frames.digests.get(at)? == digest.half())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_by_seq_and_content() {
        let digest = |text: &str| Digest::of(text.as_bytes(), b"");
        let seen = Seen::default();
        assert_eq!(seen.last(), 0);
        assert_eq!(seen.is_same(7, digest("a")), None);
        seen.add(7, digest("a"));
        seen.add(8, digest("b"));
        assert_eq!(seen.last(), 8);
        assert_eq!(seen.is_same(7, digest("a")), Some(true));
        assert_eq!(seen.is_same(8, digest("a")), Some(false));
        assert_eq!(seen.is_same(6, digest("a")), None);
        assert_eq!(seen.is_same(9, digest("a")), None);
    }
}
