//! The bytes of an event as subscribers get them.

use bytes::Bytes;

use super::event::{Event, Kind};
use crate::{
    atproto::{envelope::Message, seq::Seq, splice},
    firehose::{Packer, frame},
    limits::FRAME_BYTES_MAX,
    store::account::Account,
};

/// The websocket bytes of an event under its seq; none where that would be over the limit of a
/// frame. Public for the benchmarks only.
pub fn published(
    event: &Event,
    account: Option<&Account>,
    seq: Seq,
    packer: &mut Packer,
) -> Option<Bytes> {
    let overridden = match (&event.kind, account) {
        (Kind::Account(said), Some(account)) if account.effective() != said => {
            Some(with_status(&event.frame, account)?)
        }
        _ => None,
    };
    let (payload, place) = match &overridden {
        Some(spliced) => (&spliced.frame[..], &spliced.seq),
        None => (&event.frame[..], &event.seq_at),
    };
    let len = splice::len_with_seq(payload, place, seq);
    if len > FRAME_BYTES_MAX {
        return None;
    }
    let (header, header_len) = frame::ws_header(len);
    Some(packer.pack(header_len + len, |bytes| {
        let (head, rest) = bytes.split_at_mut(header_len);
        head.copy_from_slice(&header[..header_len]);
        splice::write_seq(payload, place, seq, rest);
    }))
}

/// An `#account` that says what this relay says.
fn with_status(payload: &[u8], account: &Account) -> Option<splice::Spliced> {
    let Ok(Message::Event(event)) = Message::parse(payload) else {
        return None;
    };
    let status = account.effective();
    Some(splice::set_status(
        payload,
        &event.layout,
        status.active,
        status.reason.as_deref(),
    ))
}
