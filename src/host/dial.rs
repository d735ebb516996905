//! Connecting to a host: TCP, TLS, websocket, each with a deadline; and the pacing of it, so that a
//! start with thousands of hosts starves nobody.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use rustls::pki_types::ServerName;

use super::{
    pool::Pool,
    stream::Stream,
    tls::{Room, TlsStream, Transport},
    upgrade::upgrade,
};
use crate::{
    atproto::hostname::Endpoint,
    limits::{
        HOST_CONNECT_TIMEOUT, HOST_HANDSHAKE_TIMEOUT, HOST_PING_INTERVAL, HOST_WRITE_TIMEOUT,
    },
    metrics::labels::Connect,
    outbound::Outbound,
    threads::Stop,
};

/// An open stream of a host.
pub(super) type Connection = Stream<Socket>;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// Name resolution, TCP, or an address that is not allowed.
    Connect(io::Error),
    /// TLS.
    Tls(String),
    /// The host did not answer in time.
    Timeout,
    /// The host answered with another status than 101.
    Status(u16),
    /// The answer is not that of a websocket.
    Handshake(String),
    /// The host is a relay itself: listening to it could feed our own stream back to us.
    IsRelay,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Connect(error) => write!(f, "can not connect: {error}"),
            DialError::Tls(error) => write!(f, "TLS: {error}"),
            DialError::Timeout => f.write_str("no answer in time"),
            DialError::Status(status) => write!(f, "answered with HTTP status {status}"),
            DialError::Handshake(error) => write!(f, "websocket handshake: {error}"),
            DialError::IsRelay => f.write_str("is a relay, not a PDS"),
        }
    }
}

impl std::error::Error for DialError {}

impl DialError {
    /// What it is counted as.
    pub(super) fn kind(&self) -> Connect {
        match self {
            DialError::Connect(_) => Connect::Unreachable,
            DialError::Tls(_) => Connect::Tls,
            DialError::Timeout => Connect::Timeout,
            DialError::Status(_) => Connect::Status,
            DialError::Handshake(_) => Connect::Handshake,
            DialError::IsRelay => Connect::IsRelay,
        }
    }
}

/// Who is dialing now: at most so many at the same time.
pub(super) struct Dials {
    free: Receiver<()>,
    give_back: Sender<()>,
}

/// A turn at dialing.
pub(super) struct Turn<'a>(&'a Dials);

impl Dials {
    /// `max` turns.
    pub(super) fn new(max: usize) -> Dials {
        let (give_back, free) = bounded(max);
        for _ in 0..max {
            let _ = give_back.try_send(());
        }
        Dials { free, give_back }
    }

    /// Waits for a turn; none when a stop was asked for.
    pub(super) fn turn(&self, stop: &Stop) -> Option<Turn<'_>> {
        select! {
            recv(self.free) -> _ => Some(Turn(self)),
            recv(stop.channel()) -> _ => None,
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let _ = self.0.give_back.try_send(());
    }
}

/// Where the socket of a connection is kept, so that another thread can end it.
#[derive(Default)]
pub(super) struct Plug(Mutex<Plugged>);

#[derive(Default)]
struct Plugged {
    pulled: bool,
    socket: Option<Arc<TcpStream>>,
}

impl Plug {
    /// Ends the connection, and every later one.
    pub(super) fn pull(&self) {
        let mut plugged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plugged.pulled = true;
        if let Some(socket) = plugged.socket.take() {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Ends the connection that there is now, if there is one.
    pub(super) fn cut(&self) {
        let plugged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &plugged.socket {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Whether the connection was ended by another thread.
    pub(super) fn is_pulled(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pulled
    }

    /// Keeps the socket, unless the plug is pulled.
    fn insert(&self, socket: &Arc<TcpStream>) -> io::Result<()> {
        let mut plugged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plugged.pulled {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        plugged.socket = Some(socket.clone());
        Ok(())
    }

    /// Forgets the socket, which then closes with its connection.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).socket = None;
    }
}

/// Opens the event stream of a host from `cursor` on; none: live.
pub(super) fn dial(
    outbound: &Outbound,
    endpoint: &Endpoint,
    cursor: Option<u64>,
    plug: &Plug,
    rooms: &Arc<Pool<Room>>,
) -> Result<Connection, DialError> {
    let tcp = outbound
        .connect(endpoint, HOST_CONNECT_TIMEOUT)
        .map_err(DialError::Connect)?;
    tcp.set_write_timeout(Some(HOST_WRITE_TIMEOUT))
        .map_err(DialError::Connect)?;
    let tcp = Arc::new(tcp);
    plug.insert(&tcp).map_err(DialError::Connect)?;
    let tcp = Timed {
        tcp,
        deadline: Instant::now() + HOST_HANDSHAKE_TIMEOUT,
        hasty: true,
    };
    let mut socket = if endpoint.tls {
        let name = ServerName::try_from(endpoint.host.name().to_owned())
            .map_err(|_| DialError::Tls("not a name that a certificate can have".into()))?;
        let tls = TlsStream::connect(outbound.tls(), name, tcp, rooms).map_err(tls_error)?;
        Socket::Tls(Box::new(tls))
    } else {
        Socket::Plain(tcp)
    };
    let beginning = upgrade(&mut socket, endpoint.host.as_str(), cursor)?;
    socket.timed().settle().map_err(DialError::Connect)?;
    Ok(Stream::new(socket, &beginning))
}

fn tls_error(error: io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::TimedOut => DialError::Timeout,
        _ => DialError::Tls(error.to_string()),
    }
}

/// The transport of a connection.
pub(super) enum Socket {
    /// `ws`.
    Plain(Timed),
    /// `wss`.
    Tls(Box<TlsStream<Timed>>),
}

impl Socket {
    /// The TCP socket below.
    pub(super) fn timed(&mut self) -> &mut Timed {
        match self {
            Socket::Plain(timed) => timed,
            Socket::Tls(stream) => stream.transport(),
        }
    }
}

/// A TCP socket whose reads stop at a deadline, also for a peer that drips one byte now and then:
/// a socket's own timeout begins anew with every byte.
pub(super) struct Timed {
    tcp: Arc<TcpStream>,
    deadline: Instant,
    /// During handshakes each read waits for no longer than the deadline. Afterwards it waits for
    /// a ping interval, and then says so.
    hasty: bool,
}

impl Timed {
    /// The next message must be whole within `patience`.
    pub(super) fn expect_within(&mut self, patience: Duration) {
        self.deadline = Instant::now() + patience;
    }

    fn settle(&mut self) -> io::Result<()> {
        self.hasty = false;
        self.expect_word_within(HOST_PING_INTERVAL)
    }

    /// A read that brings nothing ends after `patience`.
    pub(super) fn expect_word_within(&self, patience: Duration) -> io::Result<()> {
        self.tcp.set_read_timeout(Some(patience))
    }

    /// Does something that waits as a read does.
    fn within_deadline<R>(&self, read: impl FnOnce(&TcpStream) -> io::Result<R>) -> io::Result<R> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !self.hasty {
            return read(&self.tcp);
        }
        self.tcp.set_read_timeout(Some(left))?;
        read(&self.tcp).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => error,
        })
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.within_deadline(|mut tcp| tcp.read(buffer))
    }
}

impl Transport for Timed {
    fn wait(&mut self) -> io::Result<()> {
        self.within_deadline(|tcp| tcp.peek(&mut [0])).map(drop)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self.tcp).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.tcp).flush()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(timed) => timed.read(buffer),
            Socket::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(timed) => timed.write(buffer),
            Socket::Tls(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Socket::Plain(timed) => timed.flush(),
            Socket::Tls(stream) => stream.flush(),
        }
    }
}
