//! The bytes of an event as subscribers get them.

use std::{mem, ops::Range};

use bytes::Bytes;

use super::{
    event::{Event, Kind},
    payload::LargeMessage,
};
use crate::{
    atproto::{envelope::Message, seq::Seq, splice},
    firehose::{Packer, frame},
    limits::FRAME_BYTES_MAX,
    store::{
        Large, Outline,
        account::{Account, Status},
    },
};

/// The websocket bytes of an event under its seq, and where they are in the store already.
#[derive(Debug)]
pub struct Published {
    /// Header and payload.
    pub bytes: Bytes,
    pub(super) stored: Option<(Large, Place)>,
}

impl From<Bytes> for Published {
    fn from(bytes: Bytes) -> Published {
        Published {
            bytes,
            stored: None,
        }
    }
}

/// What of a large message is not in its pieces.
#[derive(Debug)]
pub(super) struct Place {
    head: usize,
    seq: Range<usize>,
}

impl Place {
    pub(super) fn outline<'a>(&self, message: &'a [u8]) -> Outline<'a> {
        Outline {
            len: message.len(),
            head: &message[..self.head],
            at: self.seq.start - self.head,
            insert: &message[self.seq.clone()],
        }
    }
}

/// The status that an event has to say, where its host says another one.
pub(super) fn overridden<'a>(event: &Event, account: Option<&'a Account>) -> Option<&'a Status> {
    match (&event.kind, account?.effective()) {
        (Kind::Account(said), status) if said != status => Some(status),
        _ => None,
    }
}

/// The websocket bytes of an event under its seq; none where that would be over the limit of a
/// frame. A large frame is taken out of the event. Public for the benchmarks only.
pub fn published(
    event: &mut Event,
    account: Option<&Account>,
    seq: Seq,
    now_ms: u64,
    packer: &mut Packer,
) -> Option<Published> {
    let overridden = match overridden(event, account) {
        // To look into it and to copy it would keep everybody waiting; what there is to say is said without it.
        Some(status) if event.frame.is_large() => {
            return Some(frame::account(seq, &event.did, now_ms, status).into());
        }
        Some(status) => Some(with_status(&event.frame, status)?),
        None => None,
    };
    let (payload, place) = match &overridden {
        Some(spliced) => (&spliced.frame[..], &spliced.seq),
        None => (&event.frame[..], &event.seq_at),
    };
    let len = splice::len_with_seq(payload, place, seq);
    if len > FRAME_BYTES_MAX {
        return None;
    }
    if event.frame.is_large() {
        let message = mem::take(&mut event.frame).into_message(&event.seq_at, seq);
        let LargeMessage { bytes, head, seq } = message;
        let large = event.stored.take();
        let stored = large.map(|large| (large, Place { head, seq }));
        return Some(Published { bytes, stored });
    }
    let (header, header_len) = frame::ws_header(len);
    let bytes = packer.pack(header_len + len, |bytes| {
        let (head, rest) = bytes.split_at_mut(header_len);
        head.copy_from_slice(&header[..header_len]);
        splice::write_seq(payload, place, seq, rest);
    });
    Some(bytes.into())
}

/// An `#account` that says what this relay says.
fn with_status(payload: &[u8], status: &Status) -> Option<splice::Spliced> {
    let Ok(Message::Event(event)) = Message::parse(payload) else {
        return None;
    };
    Some(splice::set_status(
        payload,
        &event.layout,
        status.active,
        status.reason.as_deref(),
    ))
}
