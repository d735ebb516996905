//! A connection that does not block, plain or TLS, and waiting for it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use socket2::SockRef;

use super::listen::Waker;

/// The server's end of a connection.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ready {
    /// The connection can be read or written.
    Socket,
    /// The other waker was woken (and is drained).
    Woken,
    /// The stop was asked for.
    Stop,
    /// Nothing happened in time.
    Timeout,
}

impl Stream {
    pub(crate) fn new(tcp: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Stream> {
        Ok(match tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(session, tcp)))
            }
        })
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// Ends the connection without any farewell.
    pub(crate) fn cut(&self) {
        let _ = self.tcp().shutdown(Shutdown::Both);
    }

    /// Lets the connection end with a reset.
    pub(crate) fn reset_on_close(&self) -> io::Result<()> {
        SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO))
    }

    /// Waits until the connection can be read (or, with `write`, written).
    pub(crate) fn wait(
        &self,
        write: bool,
        stop: &Waker,
        wake: Option<&Waker>,
        timeout: Duration,
    ) -> io::Result<Ready> {
        let mut flags = PollFlags::IN;
        if write || matches!(self, Stream::Tls(tls) if tls.conn.wants_write()) {
            flags |= PollFlags::OUT;
        }
        let mut fds = vec![
            PollFd::new(self.tcp(), flags),
            PollFd::new(stop, PollFlags::IN),
        ];
        if let Some(wake) = wake {
            fds.push(PollFd::new(wake, PollFlags::IN));
        }
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::Woken),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[1] {
            return Ok(Ready::Stop);
        }
        if let (Some(true), Some(wake)) = (ready.get(2), wake) {
            wake.drain();
            return Ok(Ready::Woken);
        }
        Ok(if ready[0] {
            Ready::Socket
        } else {
            Ready::Timeout
        })
    }

    /// Writes everything, waiting as long as it takes, up to `timeout`.
    pub(crate) fn send_all(
        &mut self,
        mut bytes: &[u8],
        stop: &Waker,
        timeout: Duration,
    ) -> io::Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let done = if bytes.is_empty() {
                self.flush().map(|()| 0)
            } else {
                self.write(bytes)
            };
            match done {
                Ok(_) if bytes.is_empty() => return Ok(()),
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    match self.wait(true, stop, None, left)? {
                        Ready::Socket | Ready::Woken => {}
                        Ready::Timeout => return Err(ErrorKind::TimedOut.into()),
                        Ready::Stop => return Err(ErrorKind::ConnectionAborted.into()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}
