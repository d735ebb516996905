//! A connection of a hostile host: bytes as they are, for as long as the attack is on.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};
use socket2::SockRef;

use super::gate::Gate;

/// The first bytes of websocket frames, as far as they are used here; the bit of a last fragment is
/// [`FINAL`] (<https://www.rfc-editor.org/rfc/rfc6455#section-5.2>).
pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const PING: u8 = 0x9;
pub(super) const FINAL: u8 = 0x80;
/// The bit of a frame that is compressed, where that was agreed on.
pub(super) const RSV1: u8 = 0x40;

/// How long a write may wait before it is looked whether the round is over.
const PATIENCE: Duration = Duration::from_millis(100);

/// The transport.
pub(super) enum Link {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Link {
    fn tcp(&self) -> &TcpStream {
        match self {
            Link::Plain(tcp) => tcp,
            Link::Tls(tls) => &tls.sock,
        }
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Plain(tcp) => tcp.read(buffer),
            Link::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Link::Plain(tcp) => tcp.write(buffer),
            Link::Tls(tls) => tls.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Link::Plain(tcp) => tcp.flush(),
            Link::Tls(tls) => tls.flush(),
        }
    }
}

/// A connection.
pub(super) struct Wire {
    link: Link,
    gate: Arc<Gate>,
    round: u64,
}

impl Wire {
    pub(super) fn new(link: Link, gate: Arc<Gate>) -> io::Result<Wire> {
        link.tcp().set_write_timeout(Some(PATIENCE))?;
        // What is not read yet is lost when the connection is closed, and so is no burden after
        // the round.
        SockRef::from(link.tcp()).set_linger(Some(Duration::ZERO))?;
        Ok(Wire {
            link,
            gate,
            round: 0,
        })
    }

    /// The transport, for what belongs to no round.
    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Waits until the attack is on.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let tcp = self.link.tcp();
        tcp.set_nonblocking(true)?;
        let has_gone = || matches!(tcp.peek(&mut [0]), Ok(0));
        self.round = self.gate.wait(has_gone)?;
        tcp.set_nonblocking(false)
    }

    /// Whether it is on at all.
    pub(super) fn is_on(&self) -> bool {
        self.gate.is_open()
    }

    /// Waits for so long, while it is on.
    pub(super) fn pause(&self, duration: Duration) -> io::Result<()> {
        self.gate.pause(self.round, duration)
    }

    /// Sends bytes as they are, however long the relay takes to read them.
    pub(super) fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.gate.check(self.round)?;
            match self.link.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if is_patience(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.link.flush()
    }

    /// Sends a message in one frame.
    pub(super) fn message(&mut self, payload: &[u8]) -> io::Result<()> {
        self.send(&frame(FINAL | BINARY, payload))
    }

    /// Reads what the relay has sent, and throws it away.
    pub(super) fn discard(&mut self) -> io::Result<()> {
        let mut chunk = [0; 64 << 10];
        self.link.tcp().set_nonblocking(true)?;
        let ended = loop {
            match self.link.read(&mut chunk) {
                Ok(0) => break Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if is_patience(&error) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.link.tcp().set_nonblocking(false)?;
        ended
    }

    /// Ends without any farewell.
    pub(super) fn cut(&self) {
        let _ = self.link.tcp().shutdown(std::net::Shutdown::Both);
    }
}

fn is_patience(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// A frame as a server sends it.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// The header of a frame that says it has so many bytes.
pub(super) fn header(first: u8, payload: u64) -> Vec<u8> {
    let mut header = vec![first];
    match payload {
        0..=125 => header.push(payload as u8),
        126..=0xffff => {
            header.push(126);
            header.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend_from_slice(&payload.to_be_bytes());
        }
    }
    header
}
