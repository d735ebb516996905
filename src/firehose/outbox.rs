//! What waits to be written to one subscriber, and how far it was written.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write},
};

use bytes::Bytes;

use super::Frame;
use crate::limits;

/// Bytes on their way to one subscriber: shared frames in the order of the stream, and urgent
/// frames (pongs, pings, the relay's own messages), which go before them but never inside one that
/// is partly written.
#[derive(Default, Debug)]
pub(super) struct Outbox {
    /// Partly written, and how many bytes of it.
    begun: Option<(Chunk, usize)>,
    urgent: VecDeque<Bytes>,
    /// What the stream brings; filled by the subscriber. One that is large is the last.
    pub(super) frames: VecDeque<Frame>,
    /// A large frame that comes after all of these, and is not in memory now.
    aside: Option<Aside>,
}

/// Where a frame goes on that is not in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Aside {
    pub(super) seq: u64,
    /// So many bytes of it were written.
    pub(super) offset: usize,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    /// Of a frame of the stream.
    seq: Option<u64>,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Written {
    pub(super) bytes: usize,
    /// Frames of the stream that were written to their end.
    pub(super) frames: u64,
    /// The seq of the last of them.
    pub(super) seq: Option<u64>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_none()
            && self.urgent.is_empty()
            && self.frames.is_empty()
            && self.aside.is_none()
    }

    /// Whether what follows in the stream may be queued: no frame is, and none of more than `large` bytes is being
    /// written, or to be.
    pub(super) fn wants_frames(&mut self, large: usize) -> bool {
        self.frames.is_empty() && self.aside.is_none() && self.large(large).is_none()
    }

    /// The frame of more than `large` bytes that is in it: its seq, and its bytes.
    pub(super) fn large(&mut self, large: usize) -> Option<(u64, &mut Bytes)> {
        let begun = self.begun.as_mut();
        let begun = begun.and_then(|(chunk, _)| Some((chunk.seq?, &mut chunk.bytes)));
        let last = self.frames.back_mut();
        let last = last.map(|frame| (frame.seq.get(), &mut frame.bytes));
        let mut both = [begun, last].into_iter().flatten();
        both.find(|(_, bytes)| bytes.len() > large)
    }

    /// Takes a frame of more than `large` bytes out of memory; where there is none, nothing.
    pub(super) fn put_aside(&mut self, large: usize) {
        let begun = self
            .begun
            .take_if(|(chunk, _)| chunk.seq.is_some() && chunk.bytes.len() > large);
        if let Some((chunk, offset)) = begun {
            let seq = chunk.seq.unwrap_or_default();
            self.aside = Some(Aside { seq, offset });
            return;
        }
        let last = self.frames.back().filter(|frame| frame.bytes.len() > large);
        if let Some(seq) = last.map(|frame| frame.seq.get()) {
            self.frames.pop_back();
            self.push_aside(seq);
        }
    }

    /// Queues a large frame that was not yet read.
    pub(super) fn push_aside(&mut self, seq: u64) {
        self.aside = Some(Aside { seq, offset: 0 });
    }

    /// What has to be brought back before anything else can be written.
    pub(super) fn awaits(&self) -> Option<Aside> {
        let comes_next = self.begun.is_none() && self.frames.is_empty();
        self.aside.filter(|_| comes_next)
    }

    /// Puts the frame that was awaited in its place.
    pub(super) fn bring_back(&mut self, frame: Frame) {
        let offset = self.aside.take().map_or(0, |aside| aside.offset);
        if offset == 0 {
            self.frames.push_back(frame);
            return;
        }
        let seq = Some(frame.seq.get());
        let bytes = frame.bytes;
        self.begun = Some((Chunk { bytes, seq }, offset));
    }

    /// Whether a frame was begun whose end is not in memory: no word can be said before it.
    pub(super) fn is_torn(&self) -> bool {
        self.aside.is_some_and(|aside| aside.offset > 0)
    }

    /// Queues a frame that goes first. Of many that wait for a client which does not read, the
    /// oldest is dropped: only the last ping needs an answer.
    pub(super) fn push_urgent(&mut self, bytes: Bytes) {
        if self.urgent.len() >= limits::SUBSCRIBER_URGENT_FRAMES_MAX {
            self.urgent.pop_front();
        }
        self.urgent.push_back(bytes);
    }

    /// Drops what was not begun: the stream ends with what is queued from now on.
    pub(super) fn clear(&mut self) {
        self.urgent.clear();
        self.frames.clear();
        self.aside.take_if(|aside| aside.offset == 0);
    }

    /// Writes as much as one call takes.
    pub(super) fn write(&mut self, socket: &mut impl Write) -> io::Result<Written> {
        let mut slices: Vec<IoSlice<'_>> = Vec::new();
        if let Some((chunk, offset)) = &self.begun {
            slices.push(IoSlice::new(&chunk.bytes[*offset..]));
        }
        slices.extend(self.urgent.iter().map(|bytes| IoSlice::new(bytes)));
        let frames = self.frames.iter().take(limits::SUBSCRIBER_WRITE_FRAMES_MAX);
        slices.extend(frames.map(|frame| IoSlice::new(&frame.bytes)));
        let bytes = socket.write_vectored(&slices)?;
        if bytes == 0 && !slices.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(self.advance(bytes))
    }

    /// Takes `bytes` written bytes off the queue.
    fn advance(&mut self, bytes: usize) -> Written {
        let mut written = Written {
            bytes,
            ..Written::default()
        };
        let mut left = bytes;
        while left > 0 {
            let Some((chunk, offset)) = self.begun.take().or_else(|| self.next()) else {
                break;
            };
            let rest = chunk.bytes.len() - offset;
            if left < rest {
                self.begun = Some((chunk, offset + left));
                break;
            }
            left -= rest;
            if let Some(seq) = chunk.seq {
                written.frames += 1;
                written.seq = Some(seq);
            }
        }
        written
    }

    fn next(&mut self) -> Option<(Chunk, usize)> {
        if let Some(bytes) = self.urgent.pop_front() {
            return Some((Chunk { bytes, seq: None }, 0));
        }
        let frame = self.frames.pop_front()?;
        let chunk = Chunk {
            bytes: frame.bytes,
            seq: Some(frame.seq.get()),
        };
        Some((chunk, 0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::atproto::seq::Seq;

    /// Takes a few bytes at a time.
    struct Sip(Vec<u8>, usize);

    impl Write for Sip {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = &bytes[..bytes.len().min(self.1)];
            self.0.extend_from_slice(taken);
            Ok(taken.len())
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
            self.write(&all)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame(seq: u64, len: usize) -> Frame {
        Frame {
            seq: Seq::new(seq).unwrap(),
            bytes: vec![seq as u8; len].into(),
        }
    }

    #[test]
    fn urgent_frames_go_between_frames() {
        let mut outbox = Outbox::default();
        outbox.frames.extend([frame(1, 4), frame(2, 4)]);
        let mut sip = Sip(Vec::new(), 2);
        let written = outbox.write(&mut sip).unwrap();
        assert_eq!((written.bytes, written.frames, written.seq), (2, 0, None));
        outbox.push_urgent(vec![0xaa; 3].into());
        sip.1 = 100;
        let written = outbox.write(&mut sip).unwrap();
        assert_eq!(
            (written.bytes, written.frames, written.seq),
            (9, 2, Some(2))
        );
        assert_eq!(sip.0, [1, 1, 1, 1, 0xaa, 0xaa, 0xaa, 2, 2, 2, 2]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_begun_is_always_finished() {
        let mut outbox = Outbox::default();
        outbox.frames.extend([frame(1, 4), frame(2, 4)]);
        let mut sip = Sip(Vec::new(), 1);
        outbox.write(&mut sip).unwrap();
        outbox.clear();
        outbox.push_urgent(vec![9].into());
        sip.1 = 100;
        outbox.write(&mut sip).unwrap();
        assert_eq!(sip.0, [1, 1, 1, 1, 9]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn pongs_for_a_client_that_does_not_read_are_bounded() {
        let mut outbox = Outbox::default();
        for i in 0..1000u32 {
            outbox.push_urgent(i.to_be_bytes().to_vec().into());
        }
        assert_eq!(outbox.urgent.len(), limits::SUBSCRIBER_URGENT_FRAMES_MAX);
        assert_eq!(**outbox.urgent.back().unwrap(), 999u32.to_be_bytes());
    }

    #[test]
    fn a_large_frame_is_put_aside_and_brought_back_where_it_was() {
        const LARGE: usize = 10;
        let whole = frame(3, LARGE + 1);
        for sip in 0..=1 {
            let mut outbox = Outbox::default();
            outbox.put_aside(LARGE);
            assert!(outbox.wants_frames(LARGE) && outbox.is_empty());
            outbox.frames.extend([frame(1, 2), whole.clone()]);
            let mut socket = Sip(Vec::new(), 2 + sip);
            outbox.write(&mut socket).unwrap();
            assert!(!outbox.wants_frames(LARGE));
            assert_eq!(outbox.large(LARGE).map(|(seq, _)| seq), Some(3));
            outbox.put_aside(LARGE);
            let aside = Aside {
                seq: 3,
                offset: sip,
            };
            assert_eq!(outbox.awaits(), Some(aside));
            assert_eq!(outbox.large(LARGE), None);
            assert!(!outbox.wants_frames(LARGE) && !outbox.is_empty());
            assert_eq!(outbox.is_torn(), sip > 0);
            // What is urgent waits as long as the frame is torn.
            outbox.push_urgent(vec![0xaa].into());
            outbox.bring_back(whole.clone());
            assert_eq!(outbox.awaits(), None);
            socket.1 = 100;
            let written = outbox.write(&mut socket).unwrap();
            assert_eq!(written.seq, Some(3));
            assert!(outbox.is_empty());
            let expected: &[u8] = match sip {
                0 => b"\x01\x01\xaa\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03",
                _ => b"\x01\x01\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\x03\xaa",
            };
            assert_eq!(socket.0, expected);
        }
    }

    #[test]
    fn an_end_forgets_a_large_frame_that_was_not_begun_and_no_other() {
        let mut outbox = Outbox::default();
        outbox.push_aside(7);
        outbox.clear();
        assert!(outbox.is_empty());
        outbox.frames.push_back(frame(7, 3));
        outbox.write(&mut Sip(Vec::new(), 1)).unwrap();
        outbox.put_aside(2);
        outbox.clear();
        assert!(outbox.is_torn());
    }

    proptest! {
        #[test]
        fn every_byte_is_written_once_in_order(
            lens in proptest::collection::vec(1usize..50, 1..200),
            sips in proptest::collection::vec(1usize..400, 1..30),
        ) {
            let mut outbox = Outbox::default();
            let frames: Vec<Frame> = lens.iter().zip(1..).map(|(l, s)| frame(s, *l)).collect();
            outbox.frames.extend(frames.iter().cloned());
            let mut sip = Sip(Vec::new(), 0);
            let mut total = Written::default();
            for size in sips.iter().cycle() {
                if outbox.is_empty() {
                    break;
                }
                sip.1 = *size;
                let written = outbox.write(&mut sip).unwrap();
                total.bytes += written.bytes;
                total.frames += written.frames;
                total.seq = written.seq.or(total.seq);
            }
            let expected: Vec<u8> = frames.iter().flat_map(|f| f.bytes.to_vec()).collect();
            prop_assert_eq!(total.bytes, expected.len());
            prop_assert_eq!(sip.0, expected);
            prop_assert_eq!(total.frames, frames.len() as u64);
            prop_assert_eq!(total.seq, Some(frames.len() as u64));
        }
    }
}
