//! A client that looks at every byte: requests are sent as they are written, and answers and
//! websocket frames are read as they are on the wire.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::site::{Relay, TIMEOUT};

/// Where the firehose is.
pub(crate) const STREAM: &str = "/xrpc/com.atproto.sync.subscribeRepos";
/// The headers of an upgrade, with the key of the example in RFC 6455.
pub(crate) const UPGRADE: &str = "Host: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                                  Sec-WebSocket-Version: 13\r\n\
                                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// The answer to that key.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The opcodes of websocket frames (<https://www.rfc-editor.org/rfc/rfc6455#section-5.2>).
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
/// The bit of a last fragment, in the first byte.
pub(crate) const FINAL: u8 = 0x80;

/// A connection to the public port.
pub(crate) struct Raw {
    stream: TcpStream,
    /// Read and not yet looked at.
    buffer: Vec<u8>,
}

/// The answer to a request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A websocket frame, by its own account not masked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct WsFrame {
    /// The first byte: the bit of a last fragment, three reserved bits, the opcode.
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The name of the error in the body, which is to be JSON.
    pub(crate) fn error(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }
}

impl Raw {
    /// Connects.
    pub(crate) fn connect(relay: &Relay) -> Raw {
        Raw::connect_narrow(relay.public, None)
    }

    /// The same with a receive buffer of about so many bytes, so that who does not read is soon
    /// noticed.
    pub(crate) fn connect_narrow(relay: SocketAddr, buffer: Option<usize>) -> Raw {
        let socket = Socket::new(Domain::for_address(relay), Type::STREAM, None).unwrap();
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.connect(&relay.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw {
            stream,
            buffer: Vec::new(),
        }
    }

    /// One request, and its answer.
    pub(crate) fn ask(relay: &Relay, method: &str, target: &str, headers: &str) -> Answer {
        let mut raw = Raw::connect(relay);
        raw.send(format!("{method} {target} HTTP/1.1\r\n{headers}\r\n").as_bytes());
        raw.answer(method == "HEAD")
    }

    /// A subscription with this query, such as `?cursor=0`.
    pub(crate) fn subscribe(relay: &Relay, query: &str) -> Raw {
        Raw::connect(relay).upgraded(query)
    }

    /// The same on this connection.
    pub(crate) fn upgraded(mut self, query: &str) -> Raw {
        self.send(format!("GET {STREAM}{query} HTTP/1.1\r\n{UPGRADE}\r\n").as_bytes());
        let answer = self.answer(false);
        assert_eq!(answer.status, 101, "{}", answer.head);
        self
    }

    /// Waits so long for what comes next.
    pub(crate) fn be_patient(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).unwrap();
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a websocket frame as a client does: masked, in one piece.
    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        const MASK: [u8; 4] = [0x3a, 0x01, 0xf0, 0x7c];
        let mut frame = vec![first];
        match payload.len() {
            len @ 0..=125 => frame.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(byte, mask)| byte ^ mask));
        self.send(&frame);
    }

    /// Reads the answer to a request; `bodiless`: whatever it says of a body, there is none.
    pub(crate) fn answer(&mut self, bodiless: bool) -> Answer {
        let end = loop {
            let end = self.buffer.windows(4).position(|w| w == b"\r\n\r\n");
            match end {
                Some(at) => break at + 4,
                None => assert!(self.more(), "closed before an answer"),
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse();
        let mut answer = Answer {
            status: status.unwrap(),
            head,
            body: Vec::new(),
        };
        let length = answer.header("Content-Length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        if !bodiless {
            answer.body = self.exactly(length).expect("the whole body");
        }
        answer
    }

    /// Reads a frame; none when the connection has ended before it.
    pub(crate) fn frame(&mut self) -> Option<WsFrame> {
        let head = self.exactly(2)?;
        assert_eq!(head[1] & 0x80, 0, "servers do not mask");
        let length = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.exactly(2)?.try_into().unwrap())),
            127 => u64::from_be_bytes(self.exactly(8)?.try_into().unwrap()),
            short => u64::from(short),
        };
        Some(WsFrame {
            first: head[0],
            payload: self.exactly(usize::try_from(length).unwrap())?,
        })
    }

    /// Reads the next message of the stream, which is one binary frame without any reserved bit.
    pub(crate) fn message(&mut self) -> Vec<u8> {
        loop {
            let frame = self.frame().expect("a message");
            match frame.first {
                first if first == FINAL | BINARY => return frame.payload,
                first if first == FINAL | PING || first == FINAL | PONG => {}
                first => panic!("a frame that begins with {first:02x}"),
            }
        }
    }

    /// Reads the close frame, which must be next; its code.
    pub(crate) fn close_code(&mut self) -> u16 {
        let frame = self.frame().expect("a close frame");
        assert_eq!(frame.first, FINAL | CLOSE);
        u16::from_be_bytes(frame.payload[..2].try_into().unwrap())
    }

    /// Whether the other side has closed, and nothing came before that.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.buffer.is_empty() && !self.more()
    }

    /// Goes away without a farewell of any kind: what is sent to it now is answered with a reset.
    pub(crate) fn vanish(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    fn exactly(&mut self, bytes: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < bytes {
            if !self.more() {
                return None;
            }
        }
        Some(self.buffer.drain(..bytes).collect())
    }

    /// Waits for more bytes; false at the end.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                read > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("waited in vain: {error}"),
        }
    }
}
