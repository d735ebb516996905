//! The payload of an event on its way from the host to subscribers.

use std::{
    fmt,
    ops::{Deref, Range},
};

use bytes::Bytes;

use crate::{
    atproto::{seq::Seq, splice},
    firehose::frame,
    limits::{LARGE_EVENT_BYTES, WS_HEADER_BYTES_MAX},
};

/// Room in front of a large payload: for the header of a websocket message, and for a seq that is longer than the
/// upstream's.
const ROOM_BYTES: usize = WS_HEADER_BYTES_MAX + splice::uint_len(u64::MAX);

/// The payload of an event. A large one becomes the message for subscribers where it is: to copy it takes
/// milliseconds, for which all others would wait.
#[derive(Default)]
pub struct Payload {
    bytes: Vec<u8>,
    start: usize,
}

impl Payload {
    /// Whether it is too large to be copied, or to be written at once.
    pub fn is_large(&self) -> bool {
        self.len() > LARGE_EVENT_BYTES
    }

    /// The websocket message of a large payload with `seq` in the place of the upstream's.
    pub(super) fn into_message(mut self, place: &Range<usize>, seq: Seq) -> LargeMessage {
        let (header, head) = frame::ws_header(splice::len_with_seq(&self, place, seq));
        let number = splice::uint_len(seq.get());
        // What is behind the seq stays where it is.
        let seq_at = self.start + place.end - number;
        let before = seq_at - place.start;
        let start = before - head;
        self.bytes
            .copy_within(self.start..self.start + place.start, before);
        splice::write_uint(seq.get(), &mut self.bytes[seq_at..seq_at + number]);
        self.bytes[start..before].copy_from_slice(&header[..head]);
        LargeMessage {
            bytes: Bytes::from(self.bytes).slice(start..),
            head,
            seq: seq_at - start..seq_at - start + number,
        }
    }
}

/// The websocket message of a large event.
pub(super) struct LargeMessage {
    pub(super) bytes: Bytes,
    /// The bytes of its header.
    pub(super) head: usize,
    /// Where its seq is.
    pub(super) seq: Range<usize>,
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl From<&[u8]> for Payload {
    fn from(bytes: &[u8]) -> Payload {
        let start = if bytes.len() > LARGE_EVENT_BYTES {
            ROOM_BYTES
        } else {
            0
        };
        let mut room = Vec::with_capacity(start + bytes.len());
        room.resize(start, 0);
        room.extend_from_slice(bytes);
        Payload { bytes: room, start }
    }
}

impl From<Vec<u8>> for Payload {
    fn from(mut bytes: Vec<u8>) -> Payload {
        if bytes.len() > LARGE_EVENT_BYTES {
            return Payload::from(&bytes[..]);
        }
        // As small as it is: thousands of them may wait.
        bytes.shrink_to_fit();
        Payload { bytes, start: 0 }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::atproto::cbor::Writer;

    proptest! {
        #[test]
        fn a_large_message_is_what_a_copy_would_be(
            before in prop_oneof![0usize..100, Just(LARGE_EVENT_BYTES)],
            is in 0u32..64,
            was in 0u32..64,
        ) {
            let seq = Seq::new((1u64 << is).min(Seq::MAX.get())).unwrap();
            let mut number = Writer::new();
            number.uint(1 << was);
            let number = number.into_bytes();
            let mut payload: Vec<u8> = (0..before).map(|n| n as u8).collect();
            payload.extend_from_slice(&number);
            payload.extend((0..LARGE_EVENT_BYTES).map(|n| n as u8));
            let place = before..before + number.len();
            let copied = splice::put_seq(&payload, &place, seq, Vec::new());
            let expected = frame::ws_message(&[&copied]);
            let payload = Payload::from(&payload[..]);
            prop_assert!(payload.is_large());
            let LargeMessage { bytes, head, seq: at } = payload.into_message(&place, seq);
            prop_assert!(bytes == expected);
            prop_assert_eq!(&bytes[head + before..at.end], &expected[at]);
        }
    }
}
