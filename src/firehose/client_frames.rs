//! What a subscriber sends: control frames count, everything else is passed over unread, because
//! servers ignore messages of clients (<https://atproto.com/specs/event-stream#framing>).

use super::frame::CONTROL_BYTES_MAX;

/// The longest header of a frame: two bytes, a long length, a mask.
const HEADER_BYTES_MAX: usize = 14;

/// Something that the relay reacts to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ClientFrame {
    /// To be answered with the same payload.
    Ping(Vec<u8>),
    /// The client is there.
    Pong,
    /// The client wants to end; the payload is to be answered.
    Close(Vec<u8>),
}

/// A frame that no client may send (<https://www.rfc-editor.org/rfc/rfc6455#section-5>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Violation;

/// Reads a client's bytes in whatever pieces they arrive, keeping at most one header and one
/// control payload.
#[derive(Default, Debug)]
pub(super) struct Parser {
    header: Vec<u8>,
    payload: Option<Payload>,
}

#[derive(Debug)]
struct Payload {
    opcode: u8,
    mask: [u8; 4],
    left: u64,
    /// Of a control frame, unmasked so far.
    kept: Vec<u8>,
}

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

impl Parser {
    /// Reads `bytes` and appends what they complete to `found`; how many frames end in them, whatever they are.
    /// After a violation the connection is to be closed.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        found: &mut Vec<ClientFrame>,
    ) -> Result<usize, Violation> {
        let mut frames = 0;
        loop {
            let Some(payload) = &mut self.payload else {
                let Some((byte, rest)) = bytes.split_first() else {
                    return Ok(frames);
                };
                bytes = rest;
                self.header.push(*byte);
                self.payload = parse_header(&self.header)?;
                continue;
            };
            let take = usize::try_from(payload.left).map_or(bytes.len(), |n| n.min(bytes.len()));
            let (part, rest) = bytes.split_at(take);
            bytes = rest;
            payload.left -= take as u64;
            if is_control(payload.opcode) {
                let at = payload.kept.len();
                let unmasked = part.iter().zip(at..).map(|(b, i)| b ^ payload.mask[i % 4]);
                payload.kept.extend(unmasked);
            }
            if payload.left > 0 {
                return Ok(frames);
            }
            let done = self.payload.take();
            self.header.clear();
            frames += 1;
            found.extend(done.and_then(|payload| match payload.opcode {
                PING => Some(ClientFrame::Ping(payload.kept)),
                PONG => Some(ClientFrame::Pong),
                CLOSE => Some(ClientFrame::Close(payload.kept)),
                _ => None,
            }));
        }
    }
}

const fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

/// The frame that `header` begins, once it is complete.
fn parse_header(header: &[u8]) -> Result<Option<Payload>, Violation> {
    debug_assert!(header.len() <= HEADER_BYTES_MAX);
    let [first, second, rest @ ..] = header else {
        return match header {
            // Reserved bits belong to extensions, and none was negotiated.
            [first] if first & 0x70 != 0 => Err(Violation),
            _ => Ok(None),
        };
    };
    let opcode = first & 0x0f;
    let is_final = first & 0x80 != 0;
    let is_masked = second & 0x80 != 0;
    let short = usize::from(second & 0x7f);
    let is_known = matches!(opcode, 0x0..=0x2 | CLOSE | PING | PONG);
    let control_ok = !is_control(opcode) || (is_final && short <= CONTROL_BYTES_MAX);
    if !is_known || !is_masked || !control_ok {
        return Err(Violation);
    }
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, mask)) = rest.split_at_checked(length_bytes) else {
        return Ok(None);
    };
    let Ok(mask) = <[u8; 4]>::try_from(mask) else {
        return Ok(None);
    };
    let long = length.iter().fold(0, |n, b| (n << 8) | u64::from(*b));
    let left = if length_bytes == 0 {
        short as u64
    } else {
        long
    };
    if left > i64::MAX as u64 {
        return Err(Violation);
    }
    Ok(Some(Payload {
        opcode,
        mask,
        left,
        kept: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    };

    use super::*;

    /// A frame as a client sends it, by another implementation.
    fn client(opcode: OpCode, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            opcode,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut out = Vec::new();
        header.format(payload.len() as u64, &mut out).unwrap();
        out.extend(
            payload
                .iter()
                .zip(0..)
                .map(|(b, i): (&u8, usize)| b ^ mask[i % 4]),
        );
        out
    }

    fn all(bytes: &[u8]) -> Result<Vec<ClientFrame>, Violation> {
        let mut found = Vec::new();
        Parser::default().feed(bytes, &mut found)?;
        Ok(found)
    }

    #[test]
    fn violations_are_found_as_early_as_possible() {
        for bad in [
            &[0xc2][..],   // a reserved bit
            &[0x82, 0x05], // not masked
            &[0x83, 0x80], // a reserved opcode
            &[0x8b, 0x80], // a reserved control opcode
            &[0x09, 0x80], // a fragmented ping
            &[0x89, 0xfe], // a long ping
        ] {
            assert_eq!(all(bad), Err(Violation), "{bad:02x?}");
        }
        let mut endless = vec![0x82, 0xff, 0x80];
        endless.extend([0; 11]);
        assert_eq!(all(&endless), Err(Violation));
    }

    #[test]
    fn messages_of_any_length_are_passed_over() {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        // 5 GB announced; nothing of it is kept.
        let mut start = vec![0x82, 0xff];
        start.extend(5_000_000_000u64.to_be_bytes());
        start.extend([1, 2, 3, 4]);
        parser.feed(&start, &mut found).unwrap();
        for _ in 0..100 {
            parser.feed(&[0x89; 50_000], &mut found).unwrap();
        }
        assert!(found.is_empty());
        assert!(parser.payload.as_ref().unwrap().kept.is_empty());
        assert_eq!(parser.payload.unwrap().left, 4_995_000_000);
    }

    fn frames() -> impl Strategy<Value = Vec<(u8, [u8; 4], Vec<u8>)>> {
        let payload = proptest::collection::vec(any::<u8>(), 0..126);
        proptest::collection::vec((0u8..6, any::<[u8; 4]>(), payload), 0..12)
    }

    proptest! {
        #[test]
        fn any_split_of_the_input_gives_the_same(
            frames in frames(),
            cuts in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (kind, mask, payload) in frames {
                let (opcode, payload) = match kind {
                    0 => (OpCode::Data(Data::Text), payload.repeat(3)),
                    1 => (OpCode::Data(Data::Binary), payload.repeat(600)),
                    2 => (OpCode::Data(Data::Continue), payload),
                    3 => (OpCode::Control(Control::Ping), payload),
                    4 => (OpCode::Control(Control::Pong), payload),
                    _ => (OpCode::Control(Control::Close), payload),
                };
                bytes.extend(client(opcode, mask, &payload));
                match kind {
                    3 => expected.push(ClientFrame::Ping(payload)),
                    4 => expected.push(ClientFrame::Pong),
                    5 => expected.push(ClientFrame::Close(payload)),
                    _ => {}
                }
            }
            prop_assert_eq!(all(&bytes), Ok(expected.clone()));
            let mut parser = Parser::default();
            let (mut rest, mut found) = (&bytes[..], Vec::new());
            for cut in cuts.iter().cycle() {
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                parser.feed(part, &mut found).unwrap();
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = all(&bytes);
        }
    }
}
