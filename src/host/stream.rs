//! The event stream of a host: its websocket after the handshake.

use std::{
    fmt,
    io::{self, Read, Write},
};

use tungstenite::protocol::frame::coding::CloseCode;

use super::server_frames::{CONTROL_BYTES_MAX, Found, Parser, Violation};

/// A websocket of which we are the client.
pub(super) struct Stream<S> {
    socket: S,
    parser: Parser,
    is_closed: bool,
}

/// What a host has sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// Bytes.
    Binary,
    /// Text.
    Text,
    /// A ping, which is answered already.
    Ping,
    /// The answer to one.
    Pong,
    /// The end, with its code; it is answered already.
    Close(Option<u16>),
}

/// Why there is no message.
#[derive(Debug)]
pub(super) enum ReadError {
    /// Nothing has come for as long as a read of the socket may wait. The next read goes on where
    /// this one was.
    Quiet,
    /// The message was not whole by the socket's deadline.
    Late,
    /// The connection has ended without a close frame.
    Ended,
    /// Reading, or answering, failed.
    Io(io::Error),
    /// The host does not keep to the protocol.
    Violation(Violation),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Quiet => f.write_str("nothing for a while"),
            ReadError::Late => f.write_str("a message was not whole in time"),
            ReadError::Ended => f.write_str("the connection ended without a closing handshake"),
            ReadError::Io(error) => error.fmt(f),
            ReadError::Violation(violation) => violation.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl<S: Read + Write> Stream<S> {
    /// A websocket whose handshake is done; `beginning` is what was read after it.
    pub(super) fn new(socket: S, beginning: &[u8]) -> Stream<S> {
        Stream {
            socket,
            parser: Parser::new(beginning),
            is_closed: false,
        }
    }

    /// What the websocket runs over.
    pub(super) fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Waits for the next message or control frame. The payload of the one before is gone.
    pub(super) fn read(&mut self) -> Result<Message, ReadError> {
        if self.is_closed {
            return Err(ReadError::Ended);
        }
        loop {
            if let Some(found) = self.parser.advance().map_err(ReadError::Violation)? {
                return self.answer(found).map_err(ReadError::Io);
            }
            match self.socket.read(self.parser.room()) {
                Ok(0) => return Err(ReadError::Ended),
                Ok(count) => self.parser.arrived(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Err(ReadError::Quiet),
                    io::ErrorKind::TimedOut => return Err(ReadError::Late),
                    _ => return Err(ReadError::Io(error)),
                },
            }
        }
    }

    /// The payload of the message that was read last.
    pub(super) fn payload(&self) -> &[u8] {
        self.parser.payload()
    }

    /// Whether a part of a message has come, and perhaps control frames after it.
    pub(super) fn is_within_message(&self) -> bool {
        self.parser.is_within_message()
    }

    /// Asks whether the host is there.
    pub(super) fn send_ping(&mut self) -> io::Result<()> {
        send(&mut self.socket, PING, &[])
    }

    fn answer(&mut self, found: Found) -> io::Result<Message> {
        let payload = self.parser.payload();
        match found {
            Found::Binary => Ok(Message::Binary),
            Found::Text => Ok(Message::Text),
            Found::Pong => Ok(Message::Pong),
            Found::Ping => send(&mut self.socket, PONG, payload).map(|()| Message::Ping),
            Found::Close => {
                self.is_closed = true;
                let code = payload.first_chunk().copied().map(u16::from_be_bytes);
                let is_allowed = code.is_none_or(|code| CloseCode::from(code).is_allowed());
                let protocol = u16::from(CloseCode::Protocol);
                // Whoever ends need not wait for the answer.
                let _ = if is_allowed {
                    send(&mut self.socket, CLOSE, payload)
                } else {
                    send(&mut self.socket, CLOSE, &protocol.to_be_bytes())
                };
                Ok(Message::Close(if is_allowed {
                    code
                } else {
                    Some(protocol)
                }))
            }
        }
    }
}

/// The opcodes of control frames, with the bit of a last fragment.
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// Sends a control frame as a client does: with a mask that nobody can foresee.
fn send(socket: &mut impl Write, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut mask = [0; 4];
    aws_lc_rs::rand::fill(&mut mask).map_err(|_| io::Error::other("no random numbers"))?;
    let len = payload.len().min(CONTROL_BYTES_MAX);
    let mut frame = Vec::with_capacity(2 + mask.len() + len);
    frame.extend([first, 0x80 | len as u8]);
    frame.extend(mask);
    let masked = payload[..len].iter().zip(mask.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    socket
        .write_all(&frame)
        .and_then(|()| socket.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, "the host does not read")
            }
            _ => error,
        })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A socket whose every read is written down: some bytes, or an error.
    #[derive(Default)]
    struct Script {
        reads: VecDeque<Result<Vec<u8>, io::ErrorKind>>,
        written: Vec<u8>,
        flushed: usize,
        is_stuck: bool,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let mut bytes = match self.reads.pop_front() {
                None => return Ok(0),
                Some(read) => read?,
            };
            let rest = bytes.split_off(bytes.len().min(buffer.len()));
            if !rest.is_empty() {
                self.reads.push_front(Ok(rest));
            }
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    impl Write for Script {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            if self.is_stuck {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // Only a little at a time.
            let part = &buffer[..buffer.len().min(3)];
            self.written.extend(part);
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.flushed = self.written.len();
            Ok(())
        }
    }

    fn stream(reads: impl IntoIterator<Item = Result<Vec<u8>, io::ErrorKind>>) -> Stream<Script> {
        let script = Script {
            reads: reads.into_iter().collect(),
            ..Script::default()
        };
        Stream::new(script, &[])
    }

    /// The frames that were sent, unmasked: opcodes and payloads.
    fn sent(stream: &Stream<Script>) -> Vec<(u8, Vec<u8>)> {
        assert_eq!(stream.socket.flushed, stream.socket.written.len());
        let mut bytes = &stream.socket.written[..];
        let mut frames = Vec::new();
        while let [first, second, a, b, c, d, rest @ ..] = bytes {
            assert_eq!(second & 0x80, 0x80, "clients mask");
            let (payload, rest) = rest.split_at(usize::from(second & 0x7f));
            let masked = payload.iter().zip([a, b, c, d].into_iter().cycle());
            frames.push((*first, masked.map(|(byte, mask)| byte ^ mask).collect()));
            bytes = rest;
        }
        assert!(bytes.is_empty());
        frames
    }

    #[test]
    fn a_read_goes_on_where_a_silence_interrupted_it() {
        for len in [5, 300, 70_000] {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let header = match len {
                0..=125 => vec![0x82, len as u8],
                126..=0xffff => [&[0x82, 126], &(len as u16).to_be_bytes()[..]].concat(),
                _ => [&[0x82, 127], &(len as u64).to_be_bytes()[..]].concat(),
            };
            let frame = [&header[..], &payload].concat();
            // Before each byte of the header and a few of the payload.
            for cut in (0..=header.len() + 2).chain([frame.len() - 1]) {
                let (before, after) = frame.split_at(cut);
                let mut reads = vec![Err(io::ErrorKind::WouldBlock), Ok(after.to_vec())];
                if !before.is_empty() {
                    reads.insert(0, Ok(before.to_vec()));
                }
                let mut stream = stream(reads);
                assert!(matches!(stream.read(), Err(ReadError::Quiet)));
                assert!(matches!(stream.read(), Ok(Message::Binary)), "{len} {cut}");
                assert_eq!(stream.payload(), payload, "{len} {cut}");
                assert!(matches!(stream.read(), Err(ReadError::Ended)));
            }
        }
    }

    #[test]
    fn what_came_with_the_handshake_is_the_beginning() {
        let script = Script {
            reads: [Ok(b"c\x81\x01x".to_vec())].into(),
            ..Script::default()
        };
        let mut stream = Stream::new(script, b"\x82\x00\x82\x03ab");
        assert_eq!(stream.read().unwrap(), Message::Binary);
        assert_eq!(stream.payload(), b"");
        assert_eq!(stream.read().unwrap(), Message::Binary);
        assert_eq!(stream.payload(), b"abc");
        assert_eq!(stream.read().unwrap(), Message::Text);
        assert_eq!(stream.payload(), b"x");
    }

    #[test]
    fn a_ping_between_the_pieces_of_a_message_does_not_end_it() {
        let mut stream = stream([Ok(b"\x02\x01a\x89\x00\x80\x01b\x89\x00".to_vec())]);
        assert!(!stream.is_within_message());
        assert_eq!(stream.read().unwrap(), Message::Ping);
        assert!(stream.is_within_message());
        assert_eq!(stream.read().unwrap(), Message::Binary);
        assert_eq!(stream.payload(), b"ab");
        assert!(!stream.is_within_message());
        assert_eq!(stream.read().unwrap(), Message::Ping);
        assert!(!stream.is_within_message());
    }

    #[test]
    fn pings_are_answered_and_sent_as_a_client_does() {
        let mut stream = stream([Ok(b"\x89\x03abc\x8a\x00\x89\x00".to_vec())]);
        for expected in [Message::Ping, Message::Pong, Message::Ping] {
            assert_eq!(stream.read().unwrap(), expected);
        }
        stream.send_ping().unwrap();
        let frames = [(PONG, b"abc".to_vec()), (PONG, vec![]), (PING, vec![])];
        assert_eq!(sent(&stream), frames);
        let masks = [&stream.socket.written[2..6], &stream.socket.written[11..15]];
        assert_ne!(masks[0], masks[1]);
    }

    #[test]
    fn a_host_that_does_not_read_is_given_up() {
        let mut stream = stream([Ok(b"\x89\x00".to_vec())]);
        stream.socket.is_stuck = true;
        assert!(matches!(stream.read(), Err(ReadError::Io(_))));
        assert!(stream.send_ping().is_err());
    }

    #[test]
    fn a_close_is_answered_and_is_the_end() {
        for (payload, code, answer) in [
            (&b""[..], None, &b""[..]),
            (b"\x03\xe8", Some(1000), b"\x03\xe8"),
            (b"\x03\xe9bye", Some(1001), b"\x03\xe9bye"),
            (b"\x0f\xa0", Some(4000), b"\x0f\xa0"),
            // Codes that are never sent.
            (b"\x03\xed", Some(1002), b"\x03\xea"),
            (b"\x00\x00", Some(1002), b"\x03\xea"),
        ] {
            let frame = [&[0x88, payload.len() as u8], payload, b"\x82\x00"].concat();
            let mut stream = stream([Ok(frame)]);
            assert_eq!(stream.read().unwrap(), Message::Close(code));
            assert_eq!(sent(&stream), [(CLOSE, answer.to_vec())]);
            assert!(matches!(stream.read(), Err(ReadError::Ended)));
        }
        let mut stream = stream([Ok(b"\x88\x00".to_vec())]);
        stream.socket.is_stuck = true;
        assert_eq!(stream.read().unwrap(), Message::Close(None));
    }

    #[test]
    fn errors_are_told_apart() {
        type Is = fn(&ReadError) -> bool;
        let table: [(_, Is); 5] = [
            (Err(io::ErrorKind::WouldBlock), |e| {
                matches!(e, ReadError::Quiet)
            }),
            (Err(io::ErrorKind::TimedOut), |e| {
                matches!(e, ReadError::Late)
            }),
            (Err(io::ErrorKind::ConnectionReset), |e| {
                matches!(e, ReadError::Io(_))
            }),
            (Ok(b"\x82".to_vec()), |e| matches!(e, ReadError::Ended)),
            (Ok(b"\xff".to_vec()), |e| {
                matches!(e, ReadError::Violation(Violation::ReservedBits))
            }),
        ];
        for (read, is_right) in table {
            let error = stream([Err(io::ErrorKind::Interrupted), read])
                .read()
                .unwrap_err();
            assert!(is_right(&error), "{error:?}");
        }
    }
}
