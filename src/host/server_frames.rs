//! The websocket frames of a host, as a server sends them: unmasked, without extensions
//! (<https://www.rfc-editor.org/rfc/rfc6455#section-5>). No sockets here: who has bytes puts them into
//! [`Parser::room`] and says how many have [`Parser::arrived`].

use std::{fmt, ops::Range, str};

use crate::limits::{
    FRAME_BYTES_MAX, HOST_LARGE_MESSAGE_BYTES_FIRST, HOST_MESSAGE_PIECES_MAX,
    HOST_READ_BUFFER_BYTES,
};

/// The longest payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// A message or a control frame that is there as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// A message of bytes.
    Binary,
    /// A message of text. It is not checked to be UTF-8, as nobody reads it.
    Text,
    /// To be answered with the same payload.
    Ping,
    /// The host is there.
    Pong,
    /// The host wants to end. The payload is empty, or a code and a reason in UTF-8.
    Close,
}

/// What no server may send, or may not send to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Violation {
    /// A bit that belongs to extensions, of which none was agreed on.
    ReservedBits,
    /// A kind of frame that does not exist.
    Opcode(u8),
    /// A mask, which only clients use.
    Masked,
    /// A control frame in pieces.
    FragmentedControl,
    /// A control frame over [`CONTROL_BYTES_MAX`].
    LongControl,
    /// A further piece of a message that has not begun.
    NothingToContinue,
    /// A new message within the pieces of another one.
    Unfinished,
    /// A close whose payload is neither empty nor a code and UTF-8.
    Close,
    /// A message in more than [`HOST_MESSAGE_PIECES_MAX`] pieces: empty ones would never be too large.
    Pieces,
    /// A message over [`FRAME_BYTES_MAX`], whole or in pieces.
    TooLarge,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Violation::ReservedBits => "a frame with reserved bits",
            Violation::Opcode(opcode) => return write!(f, "a frame of the unknown kind {opcode}"),
            Violation::Masked => "a masked frame",
            Violation::FragmentedControl => "a control frame in pieces",
            Violation::LongControl => "a control frame of more than 125 bytes",
            Violation::NothingToContinue => "a piece of a message that has not begun",
            Violation::Unfinished => "a new message within the pieces of another one",
            Violation::Close => "a malformed close frame",
            Violation::Pieces => "a message in too many pieces",
            Violation::TooLarge => "a message that is too large",
        })
    }
}

/// Reads the frames of one connection in whatever pieces they arrive.
///
/// There is one buffer of a fixed size. A message that fits in is given as a part of it, neither
/// copied nor allocated. A larger one, or one in pieces, has a buffer of its own, which grows as its
/// bytes arrive and is freed when the next one is asked for: what a host has once sent, or only
/// announces, costs nothing while it is quiet.
#[derive(Debug)]
pub(super) struct Parser {
    buffer: Box<[u8]>,
    /// Where in `buffer` the bytes begin that are not taken yet.
    start: usize,
    /// And where they end.
    end: usize,
    /// A message that is not in `buffer`, up to `filled`; zeros beyond.
    large: Vec<u8>,
    filled: usize,
    /// The kind of the message that is being put into `large`.
    begun: Option<Found>,
    /// In how many pieces it has come so far.
    pieces: u32,
    /// The frame of that message whose header was read last.
    rest: Option<Rest>,
    given: Given,
}

/// What is still to come of a frame.
#[derive(Clone, Copy, Debug)]
struct Rest {
    left: usize,
    is_final: bool,
    /// Of a message in pieces, whose length nobody knows.
    is_piece: bool,
}

/// Where the payload is of what was found last.
#[derive(Clone, Debug)]
enum Given {
    Nothing,
    Buffered(Range<usize>),
    Large,
}

impl Parser {
    /// For a connection of which `beginning` was read already.
    pub(super) fn new(beginning: &[u8]) -> Parser {
        let mut buffer = vec![0; HOST_READ_BUFFER_BYTES.max(beginning.len())].into_boxed_slice();
        buffer[..beginning.len()].copy_from_slice(beginning);
        Parser {
            buffer,
            start: 0,
            end: beginning.len(),
            large: Vec::new(),
            filled: 0,
            begun: None,
            pieces: 0,
            rest: None,
            given: Given::Nothing,
        }
    }

    /// What is complete next; none where bytes are missing. After a violation the connection is to
    /// be ended.
    pub(super) fn advance(&mut self) -> Result<Option<Found>, Violation> {
        self.forget();
        loop {
            if let Some(rest) = self.rest {
                if !self.collect() {
                    return Ok(None);
                }
                self.rest = None;
                if rest.is_final {
                    self.given = Given::Large;
                    return Ok(self.begun.take());
                }
            }
            let Some(header) = parse_header(&self.buffer[self.start..self.end])? else {
                return Ok(None);
            };
            let payload = self.check(&header)?;
            let is_control = is_control(header.opcode);
            if is_control || (header.is_final && self.begun.is_none()) {
                let whole = header.bytes + payload;
                if whole <= self.end - self.start {
                    let place = self.start + header.bytes..self.start + whole;
                    self.start = place.end;
                    let found = kind(header.opcode);
                    if found == Found::Close {
                        check_close(&self.buffer[place.clone()])?;
                    }
                    self.given = Given::Buffered(place);
                    return Ok(Some(found));
                }
                if whole <= self.buffer.len() {
                    return Ok(None);
                }
            }
            self.start += header.bytes;
            self.rest = Some(Rest {
                left: payload,
                is_final: header.is_final,
                is_piece: !header.is_final || self.begun.is_some(),
            });
            if self.begun.is_none() {
                self.pieces = 0;
            }
            self.pieces += 1;
            if self.pieces > HOST_MESSAGE_PIECES_MAX {
                return Err(Violation::Pieces);
            }
            self.begun.get_or_insert(kind(header.opcode));
        }
    }

    /// Whether a message has begun that is not whole yet, whatever came between its pieces.
    pub(super) fn is_within_message(&self) -> bool {
        self.begun.is_some()
    }

    /// The payload of what [`advance`](Parser::advance) found last.
    pub(super) fn payload(&self) -> &[u8] {
        match &self.given {
            Given::Nothing => &[],
            Given::Buffered(place) => &self.buffer[place.clone()],
            Given::Large => &self.large[..self.filled],
        }
    }

    /// Where the next bytes of the connection belong; never empty after
    /// [`advance`](Parser::advance) has found nothing.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.forget();
        if let Some(rest) = self.direct() {
            self.grow(rest);
            let until = self.large.len().min(self.filled + rest.left);
            return &mut self.large[self.filled..until];
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes were put into the room.
    pub(super) fn arrived(&mut self, count: usize) {
        match self.direct() {
            Some(rest) => self.fill(rest, count),
            None => self.end = self.buffer.len().min(self.end + count),
        }
    }

    /// The frame whose payload is read without the detour over the buffer. The end of it is read
    /// with what follows: a read for a few bytes costs more than copying them.
    fn direct(&self) -> Option<Rest> {
        self.rest
            .filter(|rest| self.start == self.end && rest.left >= self.buffer.len())
    }

    /// Moves what the buffer has of the frame that is put into `large`; whether that is all of it.
    fn collect(&mut self) -> bool {
        while let Some(rest) = self.rest.filter(|rest| rest.left > 0) {
            if self.start == self.end {
                return false;
            }
            self.grow(rest);
            let spare = self.large.len() - self.filled;
            let count = rest.left.min(self.end - self.start).min(spare);
            let from = &self.buffer[self.start..self.start + count];
            self.large[self.filled..self.filled + count].copy_from_slice(from);
            self.start += count;
            self.fill(rest, count);
        }
        true
    }

    /// `count` bytes more are in `large`.
    fn fill(&mut self, mut rest: Rest, count: usize) {
        self.filled += count;
        rest.left = rest.left.saturating_sub(count);
        self.rest = Some(rest);
    }

    /// Makes room in `large`, where there is none, for as much as has arrived so far and is still to
    /// come: who announces a large message has to send it.
    fn grow(&mut self, rest: Rest) {
        if self.filled < self.large.len() {
            return;
        }
        let step = self.filled.max(HOST_LARGE_MESSAGE_BYTES_FIRST);
        let more = rest.left.min(step);
        if rest.is_piece {
            // There may be thousands of small ones.
            self.large.reserve(more);
        } else {
            self.large.reserve_exact(more);
        }
        self.large.resize(self.filled + more, 0);
    }

    /// Frees what was given.
    fn forget(&mut self) {
        if matches!(self.given, Given::Large) {
            self.large = Vec::new();
            self.filled = 0;
        }
        self.given = Given::Nothing;
    }

    /// Whether this frame may come now; the length of its payload.
    fn check(&self, header: &Header) -> Result<usize, Violation> {
        match (header.opcode, self.begun) {
            (CONTINUATION, None) => return Err(Violation::NothingToContinue),
            (TEXT | BINARY, Some(_)) => return Err(Violation::Unfinished),
            _ => {}
        }
        usize::try_from(header.payload)
            .ok()
            .filter(|payload| *payload <= FRAME_BYTES_MAX - self.filled.min(FRAME_BYTES_MAX))
            .ok_or(Violation::TooLarge)
    }
}

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const fn is_control(opcode: u8) -> bool {
    opcode & 0x8 != 0
}

const fn kind(opcode: u8) -> Found {
    match opcode {
        TEXT => Found::Text,
        PING => Found::Ping,
        PONG => Found::Pong,
        CLOSE => Found::Close,
        _ => Found::Binary,
    }
}

/// The beginning of a frame.
#[derive(Debug)]
struct Header {
    opcode: u8,
    is_final: bool,
    /// How long it is itself.
    bytes: usize,
    /// How long the payload says it is.
    payload: u64,
}

/// The header at the beginning of `bytes`, once it is complete.
fn parse_header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let Some((first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let (opcode, is_final) = (first & 0x0f, first & 0x80 != 0);
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    if !matches!(opcode, CONTINUATION..=BINARY | CLOSE..=PONG) {
        return Err(Violation::Opcode(opcode));
    }
    if is_control(opcode) && !is_final {
        return Err(Violation::FragmentedControl);
    }
    let Some((second, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let short = second & 0x7f;
    if second & 0x80 != 0 {
        return Err(Violation::Masked);
    }
    if is_control(opcode) && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(Violation::LongControl);
    }
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(length) = rest.get(..length_bytes) else {
        return Ok(None);
    };
    let long = length.iter().fold(0, |n, b| (n << 8) | u64::from(*b));
    Ok(Some(Header {
        opcode,
        is_final,
        bytes: 2 + length_bytes,
        payload: if length_bytes == 0 {
            u64::from(short)
        } else {
            long
        },
    }))
}

fn check_close(payload: &[u8]) -> Result<(), Violation> {
    let reason = match payload {
        [] => return Ok(()),
        [_, _, reason @ ..] => reason,
        [_] => return Err(Violation::Close),
    };
    str::from_utf8(reason)
        .map(drop)
        .map_err(|_| Violation::Close)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::protocol::frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    };

    use super::*;

    /// A frame as a server sends it, by another implementation.
    fn server(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            opcode,
            is_final,
            ..FrameHeader::default()
        };
        let mut out = Vec::new();
        header.format(payload.len() as u64, &mut out).unwrap();
        out.extend(payload);
        out
    }

    fn binary(payload: &[u8]) -> Vec<u8> {
        server(OpCode::Data(Data::Binary), true, payload)
    }

    type All = Vec<(Found, Vec<u8>)>;

    /// Feeds `bytes` in pieces of at most these sizes, over and over.
    fn feed(parser: &mut Parser, mut bytes: &[u8], cuts: &[usize]) -> Result<All, Violation> {
        let mut all = Vec::new();
        let mut cuts = cuts.iter().cycle();
        loop {
            while let Some(found) = parser.advance()? {
                all.push((found, parser.payload().to_vec()));
            }
            if bytes.is_empty() {
                return Ok(all);
            }
            let room = parser.room();
            assert!(!room.is_empty());
            let cut = *cuts.next().unwrap();
            let (part, rest) = bytes.split_at(cut.min(room.len()).min(bytes.len()));
            room[..part.len()].copy_from_slice(part);
            parser.arrived(part.len());
            bytes = rest;
        }
    }

    fn all(bytes: &[u8]) -> Result<All, Violation> {
        feed(&mut Parser::new(&[]), bytes, &[usize::MAX])
    }

    #[test]
    fn violations_are_found_as_early_as_possible() {
        let too_large = (FRAME_BYTES_MAX as u64 + 1).to_be_bytes();
        let too_large = [&[0x82, 127], &too_large[..]].concat();
        let after_a_piece = [&[0x02, 1, 0, 0x80, 127], &too_large[2..9], &[0x40]].concat();
        for (bad, violation) in [
            (&[0xc2][..], Violation::ReservedBits),
            (&[0xa2], Violation::ReservedBits),
            (&[0x92], Violation::ReservedBits),
            (&[0x83], Violation::Opcode(3)),
            (&[0x87], Violation::Opcode(7)),
            (&[0x8b], Violation::Opcode(11)),
            (&[0x8f], Violation::Opcode(15)),
            (&[0x82, 0x85], Violation::Masked),
            (&[0x89, 0x80], Violation::Masked),
            (&[0x09], Violation::FragmentedControl),
            (&[0x08], Violation::FragmentedControl),
            (&[0x89, 126], Violation::LongControl),
            (&[0x88, 127], Violation::LongControl),
            (&[0x80, 0], Violation::NothingToContinue),
            (&[0x00, 0], Violation::NothingToContinue),
            (&[0x02, 1, 0, 0x82, 0], Violation::Unfinished),
            (&[0x02, 0, 0x01, 0], Violation::Unfinished),
            (&[0x82, 0, 0x80, 0], Violation::NothingToContinue),
            (&[0x88, 1, 3], Violation::Close),
            (&[0x88, 3, 3, 0xe8, 0xff], Violation::Close),
            (&too_large, Violation::TooLarge),
            (
                &[&[0x82, 127][..], &[0xff; 8]].concat(),
                Violation::TooLarge,
            ),
            (&after_a_piece, Violation::TooLarge),
        ] {
            assert_eq!(all(bad), Err(violation), "{bad:02x?}");
            assert!(all(&bad[..bad.len() - 1]).is_ok(), "{bad:02x?}");
        }
    }

    #[test]
    fn what_fits_is_given_as_a_part_of_the_buffer() {
        let largest = HOST_READ_BUFFER_BYTES - 4;
        let mut parser = Parser::new(&[]);
        for len in [0, 1, 125, 126, 4_500, largest] {
            let bytes = binary(&vec![7; len]);
            // Not even where it comes byte by byte, after something else.
            for cuts in [&[usize::MAX][..], &[1], &[3, 5_000]] {
                feed(&mut parser, &binary(b"before"), cuts).unwrap();
                let (last, bytes) = bytes.split_last().unwrap();
                assert_eq!(feed(&mut parser, bytes, cuts), Ok(vec![]));
                parser.room()[0] = *last;
                parser.arrived(1);
                assert_eq!(parser.advance(), Ok(Some(Found::Binary)));
                assert_eq!(parser.payload(), vec![7; len]);
                assert!(matches!(parser.given, Given::Buffered(_)));
                assert_eq!(parser.large.capacity(), 0);
            }
        }
        let found = feed(&mut parser, &binary(&vec![7; largest + 1]), &[1_000]);
        assert_eq!(found, Ok(vec![(Found::Binary, vec![7; largest + 1])]));
    }

    #[test]
    fn the_room_of_a_large_message_is_as_large_and_gone_when_the_next_is_asked_for() {
        let payload: Vec<u8> = (0..500_000u32).map(|i| (i % 251) as u8).collect();
        let mut parser = Parser::new(&[]);
        // And a few kilobytes of what follows.
        let bytes = [binary(&payload), vec![0x82, 126, 0xf, 0xff, 1, 2, 3]].concat();
        let mut bytes = &bytes[..];
        while parser.advance().unwrap().is_none() {
            let room = parser.room();
            let (part, rest) = bytes.split_at(room.len().min(bytes.len()));
            room[..part.len()].copy_from_slice(part);
            parser.arrived(part.len());
            bytes = rest;
        }
        assert!(parser.payload() == payload);
        assert!(parser.large.capacity() < payload.len() + 64);
        assert_eq!(parser.advance(), Ok(None));
        assert_eq!(parser.large.capacity(), 0);
        assert_eq!(parser.buffer.len(), HOST_READ_BUFFER_BYTES);
    }

    #[test]
    fn what_is_only_announced_is_not_allocated() {
        let announced = |bytes: usize| [&[0x82, 127], &bytes.to_be_bytes()[..]].concat();
        let mut parser = Parser::new(&[]);
        let found = feed(&mut parser, &announced(FRAME_BYTES_MAX + 1), &[1]);
        assert_eq!(found, Err(Violation::TooLarge));
        assert_eq!(parser.large.capacity(), 0);

        let mut parser = Parser::new(&[]);
        let found = feed(&mut parser, &announced(FRAME_BYTES_MAX), &[1]);
        assert_eq!(found, Ok(vec![]));
        let mut sent = 0;
        for part in [1, 50_000, 50_000, 200_000, 1_000_000] {
            sent += part;
            feed(&mut parser, &vec![0; part], &[usize::MAX]).unwrap();
            // Only the room for the next bytes is made before they come.
            parser.room();
            let most = (2 * sent).max(HOST_LARGE_MESSAGE_BYTES_FIRST);
            let capacity = parser.large.capacity();
            assert!(capacity <= most, "{capacity} for {sent}");
        }
    }

    #[test]
    fn a_message_in_pieces_is_limited_as_a_whole() {
        let opcode = |n| OpCode::Data(if n == 0 { Data::Binary } else { Data::Continue });
        let mut parser = Parser::new(&[]);
        for n in 0..5 {
            let piece = server(opcode(n), n == 4, &vec![n; FRAME_BYTES_MAX / 5]);
            let found = feed(&mut parser, &piece, &[usize::MAX]).unwrap();
            assert_eq!(found.len(), usize::from(n == 4));
        }
        let mut parser = Parser::new(&[]);
        feed(
            &mut parser,
            &server(opcode(0), false, &[0; 100_000]),
            &[usize::MAX],
        )
        .unwrap();
        let rest = server(opcode(1), true, &vec![0; FRAME_BYTES_MAX - 99_999]);
        assert_eq!(
            feed(&mut parser, &rest[..10], &[10]),
            Err(Violation::TooLarge)
        );
    }

    #[test]
    fn a_message_has_so_many_pieces_at_most() {
        let most = HOST_MESSAGE_PIECES_MAX as usize;
        let continued = server(OpCode::Data(Data::Continue), false, b"");
        let ping = server(OpCode::Control(Control::Ping), true, b"");
        let mut bytes = server(OpCode::Data(Data::Binary), false, b"");
        bytes.extend(continued.repeat(most - 2));
        // Pings between them are no pieces, and the next message begins anew.
        bytes.extend(ping.repeat(2));
        let mut parser = Parser::new(&[]);
        for _ in 0..2 {
            let found = feed(&mut parser, &bytes, &[usize::MAX]).unwrap();
            assert_eq!(found.len(), 2);
            assert!(parser.is_within_message());
            let last = server(OpCode::Data(Data::Continue), true, b"");
            let found = feed(&mut parser, &last, &[usize::MAX]);
            assert_eq!(found, Ok(vec![(Found::Binary, vec![])]));
            assert!(!parser.is_within_message());
        }
        feed(&mut parser, &bytes, &[usize::MAX]).unwrap();
        feed(&mut parser, &continued, &[usize::MAX]).unwrap();
        let found = feed(&mut parser, &continued, &[usize::MAX]);
        assert_eq!(found, Err(Violation::Pieces));
    }

    #[test]
    fn a_close_has_nothing_or_a_code_and_a_reason() {
        for payload in [&b""[..], b"\x03\xe8", b"\x03\xe9back soon", b"\x00\x00"] {
            let frame = server(OpCode::Control(Control::Close), true, payload);
            assert_eq!(all(&frame), Ok(vec![(Found::Close, payload.to_vec())]));
        }
    }

    /// A message: its kind, its payload, where it is cut into pieces, and whether there are pings
    /// between those.
    type Sent = (u8, Vec<u8>, Vec<usize>, bool);

    fn messages() -> impl Strategy<Value = Vec<Sent>> {
        let payload = (proptest::collection::vec(any::<u8>(), 0..126), 0usize..4)
            .prop_map(|(bytes, times)| bytes.repeat([1, 3, 80, 900][times]));
        let cuts = proptest::collection::vec(0usize..12_000, 0..4);
        proptest::collection::vec((0u8..7, payload, cuts, any::<bool>()), 0..10)
    }

    /// What a server sends, and what is to be found in it.
    fn wire(messages: Vec<Sent>) -> (Vec<u8>, All) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (kind, payload, cuts, with_pings) in messages {
            let short = payload[..payload.len().min(CONTROL_BYTES_MAX)].to_vec();
            let (control, data) = match kind {
                0 => (Control::Ping, Found::Ping),
                1 => (Control::Pong, Found::Pong),
                2 => (Control::Pong, Found::Text),
                _ => (Control::Pong, Found::Binary),
            };
            if kind < 2 {
                bytes.extend(server(OpCode::Control(control), true, &short));
                expected.push((data, short));
                continue;
            }
            let mut opcode = OpCode::Data(if kind == 2 { Data::Text } else { Data::Binary });
            let mut rest = &payload[..];
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                bytes.extend(server(opcode, false, piece));
                opcode = OpCode::Data(Data::Continue);
                rest = after;
                if with_pings {
                    bytes.extend(server(OpCode::Control(Control::Ping), true, &short));
                    expected.push((Found::Ping, short.clone()));
                }
            }
            bytes.extend(server(opcode, true, rest));
            expected.push((data, payload));
        }
        (bytes, expected)
    }

    proptest! {
        #[test]
        fn any_split_of_the_input_gives_the_same(
            messages in messages(),
            small in proptest::collection::vec(1usize..9, 1..40),
            large in proptest::collection::vec(1usize..20_000, 1..10),
        ) {
            let (bytes, expected) = wire(messages);
            for cuts in [&[usize::MAX][..], &small, &large] {
                let found = feed(&mut Parser::new(&[]), &bytes, cuts);
                prop_assert_eq!(found, Ok(expected.clone()));
            }
            let (beginning, rest) = bytes.split_at(bytes.len() / 2);
            let found = feed(&mut Parser::new(beginning), rest, &large);
            prop_assert_eq!(found, Ok(expected));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, cut in 1usize..9) {
            let whole = all(&bytes);
            prop_assert_eq!(feed(&mut Parser::new(&[]), &bytes, &[cut]), whole);
        }
    }
}
