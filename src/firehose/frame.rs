//! The bytes that go to subscribers: websocket frames as a server sends them, unmasked and
//! unfragmented, and the few messages that are the relay's own
//! (<https://www.rfc-editor.org/rfc/rfc6455#section-5.2>).

use bytes::Bytes;

use crate::{
    atproto::{
        cbor::{Reader, Writer},
        datetime,
        did::Did,
        seq::Seq,
    },
    limits,
    store::account::Status,
};

/// A published frame: the complete websocket bytes (header and payload, unmasked), built once and
/// shared by every subscriber and the store. It lies in one block with others ([`super::Packer`]).
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its place in the stream.
    pub seq: Seq,
    /// Websocket header and payload.
    pub bytes: Bytes,
}

/// The opcode of a binary message, with the bit of a last fragment.
const BINARY: u8 = 0x82;
/// The longest payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// The header of a binary message with a payload of `payload_len` bytes: the bytes, and how many
/// of them there are (2, 4 or 10).
pub const fn ws_header(payload_len: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = BINARY;
    let long = (payload_len as u64).to_be_bytes();
    match payload_len {
        0..=125 => {
            header[1] = long[7];
            (header, 2)
        }
        126..=0xffff => {
            header[1] = 126;
            header[2] = long[6];
            header[3] = long[7];
            (header, 4)
        }
        _ => {
            header[1] = 127;
            let mut i = 0;
            while i < 8 {
                header[2 + i] = long[i];
                i += 1;
            }
            (header, 10)
        }
    }
}

/// The websocket bytes of a binary message whose payload is `parts`, one after the other.
pub fn ws_message(parts: &[&[u8]]) -> Bytes {
    let len = parts.iter().map(|part| part.len()).sum();
    let (header, header_len) = ws_header(len);
    let mut out = Vec::with_capacity(header_len + len);
    out.extend_from_slice(&header[..header_len]);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.into()
}

/// A control frame. A payload that is longer than control frames may be is cut.
fn control(opcode: u8, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let mut out = vec![0x80 | opcode, payload.len() as u8];
    out.extend_from_slice(payload);
    out.into()
}

pub(super) fn ping() -> Bytes {
    control(0x9, b"")
}

pub(super) fn pong(payload: &[u8]) -> Bytes {
    control(0xa, payload)
}

pub(super) fn close(code: CloseCode, reason: &str) -> Bytes {
    let mut payload = (code as u16).to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    control(0x8, &payload)
}

/// The answer to a client's close: its own code, as the RFC suggests.
pub(super) fn close_reply(payload: &[u8]) -> Bytes {
    control(0x8, payload.get(..2).unwrap_or_default())
}

/// Why the relay ends a connection. Codes 1000, 1002, 1003, 1007 and 1009 are never sent: the
/// TypeScript client of the network does not come back after them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CloseCode {
    /// The relay stops.
    GoingAway = 1001,
    /// The client got an error frame, or broke the protocol.
    Policy = 1008,
    /// The relay failed.
    Internal = 1011,
}

/// An `#account` of the relay's own: a status that no host has said, at a time in milliseconds since
/// 1970 (<https://atproto.com/specs/account#hosting-status-propagation>).
pub fn account(seq: Seq, did: &Did, now_ms: u64, status: &Status) -> Bytes {
    let mut out = Writer::new();
    out.map(2).text("t").text("#account").text("op").int(1);
    out.map(4 + usize::from(status.reason.is_some()));
    out.text("did").text(did.as_str());
    out.text("seq").uint(seq.get());
    out.text("time").text(&datetime::from_millis(now_ms));
    out.text("active").bool(status.active);
    if let Some(reason) = &status.reason {
        out.text("status").text(reason);
    }
    ws_message(&[&out.into_bytes()])
}

/// The account that a published frame is about; `None`: it is none of ours. What a frame says beside
/// is not looked at, and a field that only looks like the account's is not taken for it.
pub(super) fn account_of(message: &[u8]) -> Option<&str> {
    let header_len = match message.get(1)? {
        0..=125 => 2,
        126 => 4,
        _ => 10,
    };
    let mut reader = Reader::new(message.get(header_len..)?);
    let mut name = "did";
    let mut header = reader.map().ok()?;
    while let Some(key) = header.next_key(&mut reader).ok()? {
        if key == "t" {
            name = match reader.text().ok()? {
                "#commit" => "repo",
                _ => "did",
            };
        } else {
            reader.skip().ok()?;
        }
    }
    let mut payload = reader.map().ok()?;
    while let Some(key) = payload.next_key(&mut reader).ok()? {
        if key == name {
            return reader.text().ok();
        }
        reader.skip().ok()?;
    }
    None
}

/// The info message for a cursor that is older than the window
/// (<https://atproto.com/specs/event-stream#sequence-numbers>).
pub(super) fn outdated_cursor() -> Bytes {
    let mut out = Writer::new();
    out.map(2).text("t").text("#info").text("op").int(1);
    out.map(2);
    out.text("name").text("OutdatedCursor");
    out.text("message");
    out.text("Requested cursor exceeded limit. Possibly missing events");
    ws_message(&[&out.into_bytes()])
}

/// An error message; the stream is closed after it
/// (<https://atproto.com/specs/event-stream#error-frames>).
pub(super) fn error(name: &str, message: &str) -> Bytes {
    let mut out = Writer::new();
    out.map(1).text("op").int(-1);
    out.map(2);
    out.text("error").text(name);
    out.text("message").text(message);
    ws_message(&[&out.into_bytes()])
}

const _: () = assert!(limits::FRAME_BYTES_MAX > 0xffff);

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// The payload of one complete message of [`ws_message`]; `None`: it is not one.
    fn ws_payload(message: &[u8]) -> Option<&[u8]> {
        let header_len = match message.get(1)? {
            0..=125 => 2,
            126 => 4,
            _ => 10,
        };
        let payload = message.get(header_len..)?;
        let (header, len) = ws_header(payload.len());
        (header_len == len && header[..len] == message[..len]).then_some(payload)
    }

    /// Rule 12: <https://atproto.com/specs/event-stream#error-frames>
    #[test]
    fn the_relays_own_messages_have_the_exact_bytes() {
        let hex = |message: Bytes| HEXLOWER.encode(ws_payload(&message).unwrap());
        assert_eq!(
            hex(error("FutureCursor", "Cursor in the future.")),
            "a1626f7020a2656572726f726c467574757265437572736f72676d65737361676575437572736f7220696e\
             20746865206675747572652e"
        );
        assert_eq!(
            hex(error("ConsumerTooSlow", "Stream consumer too slow")),
            "a1626f7020a2656572726f726f436f6e73756d6572546f6f536c6f77676d657373616765781853747265616d\
             20636f6e73756d657220746f6f20736c6f77"
        );
        assert_eq!(
            hex(outdated_cursor()),
            "a261746523696e666f626f7001a2646e616d656e4f75746461746564437572736f72676d6573736167657838\
             52657175657374656420637572736f72206578636565646564206c696d69742e20506f737369626c79206d69\
             7373696e67206576656e7473"
        );
    }

    #[test]
    fn headers_are_the_shortest_and_as_a_client_reads_them() {
        use tungstenite::protocol::frame::FrameHeader;

        for (len, header_len) in [
            (0, 2),
            (125, 2),
            (126, 4),
            (0xffff, 4),
            (0x1_0000, 10),
            (limits::FRAME_BYTES_MAX, 10),
        ] {
            let payload = vec![7; len];
            let message = ws_message(&[&payload[..len / 2], &payload[len / 2..]]);
            assert_eq!(message.len(), header_len + len);
            let mut input = std::io::Cursor::new(&*message);
            let (header, read) = FrameHeader::parse(&mut input).unwrap().unwrap();
            assert_eq!(read, len as u64);
            assert!(header.is_final && header.mask.is_none());
            assert_eq!(ws_payload(&message), Some(&*payload));
            assert_eq!(ws_payload(&message[..message.len() - 1]), None);
        }
        assert_eq!(ws_payload(&ping()), None);
    }

    /// A message of this type with a payload of these pairs.
    fn message(t: &str, pairs: &[(&str, &str)]) -> Bytes {
        let mut out = Writer::new();
        out.map(2).text("t").text(t).text("op").int(1);
        out.map(pairs.len());
        for (key, value) in pairs {
            out.text(key).text(value);
        }
        ws_message(&[&out.into_bytes()])
    }

    #[test]
    fn the_account_of_a_frame_is_where_its_type_has_it() {
        let other = ("did", "did:web:other");
        let (did, repo) = (("did", "did:web:a"), ("repo", "did:web:a"));
        for t in ["#identity", "#account", "#sync", "#of_tomorrow"] {
            let found = message(t, &[did, ("seq", "1"), ("repo", "did:web:other")]);
            assert_eq!(account_of(&found), Some("did:web:a"), "{t}");
            assert_eq!(account_of(&message(t, &[repo])), None);
        }
        // A commit's field of another name is an extension that its host may have added.
        let found = message("#commit", &[other, ("rev", "x"), repo]);
        assert_eq!(account_of(&found), Some("did:web:a"));
        assert_eq!(account_of(&message("#commit", &[other])), None);
        let long = "x".repeat(70_000);
        let found = message("#commit", &[("ops", &long), repo]);
        assert_eq!(account_of(&found), Some("did:web:a"));
        for cut in (0..100).chain(69_990..found.len()) {
            assert_eq!(account_of(&found[..cut]), None, "{cut}");
        }
        assert_eq!(account_of(&error("A", "b")), None);
        let none = Status::inactive("takendown");
        let own = Did::parse("did:web:a").unwrap();
        let seq = Seq::new(7).unwrap();
        assert_eq!(account_of(&account(seq, &own, 0, &none)), Some("did:web:a"));
    }

    #[test]
    fn control_frames_are_cut_where_they_must_be() {
        assert_eq!(*ping(), [0x89, 0]);
        assert_eq!(*pong(b"x"), [0x8a, 1, b'x']);
        assert_eq!(*close(CloseCode::GoingAway, "bye"), *b"\x88\x05\x03\xe9bye");
        assert_eq!(close(CloseCode::Policy, &"x".repeat(200)).len(), 2 + 125);
        assert_eq!(*close_reply(b"\x03\xe8bye"), *b"\x88\x02\x03\xe8");
        assert_eq!(*close_reply(b""), [0x88, 0]);
    }
}
