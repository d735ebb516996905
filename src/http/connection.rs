//! One connection of the public port: bytes in and out, every step with a deadline.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{
    front_door::Times,
    head::{self, Checked, Head},
    response::Response,
    wake::{Wake, Woken},
};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_LINGER_BYTES_MAX, HTTP_UNSENT_BYTES_MAX};

/// Bytes taken from the socket at once.
const READ_BYTES: usize = 4 << 10;

/// A connection and what was read from it but not yet used. The buffer never holds more than a
/// head, a body and one read.
pub(super) struct Connection {
    stream: Arc<TcpStream>,
    buffer: Vec<u8>,
    wake: Arc<Wake>,
    times: Times,
    /// Until when the client has to have taken what it has asked for, since it did not take it at once.
    patience: Option<Instant>,
}

/// Why there is no further request.
#[derive(Debug)]
pub(super) enum End {
    /// The client is gone or idle, or the relay stops: nothing more is said.
    Quiet,
    /// The client is told why.
    Refused(Response),
}

impl Connection {
    /// Takes a socket over; it becomes non-blocking.
    pub(super) fn new(stream: TcpStream, wake: Arc<Wake>, times: Times) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // Megabytes of answers that nobody reads would lie in the kernel otherwise.
        SockRef::from(&stream).set_tcp_notsent_lowat(HTTP_UNSENT_BYTES_MAX)?;
        Ok(Connection {
            stream: Arc::new(stream),
            buffer: Vec::new(),
            wake,
            times,
            patience: None,
        })
    }

    /// Reads the next head. The deadline is for all of it, from its first byte; until then the
    /// client may be silent for the idle time.
    pub(super) fn read_head(&mut self, first: bool) -> Result<Head, End> {
        let silence = if first {
            self.times.head
        } else {
            self.times.idle
        };
        let mut deadline = Instant::now() + silence;
        let mut started = false;
        let (mut searched, mut checked) = (0, Checked::NotYet);
        loop {
            self.skip_empty_lines();
            if !started && !self.buffer.is_empty() {
                started = true;
                deadline = Instant::now() + self.times.head;
            }
            if checked == Checked::NotYet {
                checked = head::check_beginning(&self.buffer, searched).map_err(End::Refused)?;
            }
            let end = head::end(&self.buffer, searched);
            if end.unwrap_or(self.buffer.len()) > HTTP_HEAD_BYTES_MAX {
                let beginning = &self.buffer[..HTTP_HEAD_BYTES_MAX];
                return Err(End::Refused(head::too_long(beginning)));
            }
            if let Some(end) = end {
                let head = head::parse(&self.buffer[..end]).map_err(End::Refused)?;
                self.buffer.drain(..end);
                return Ok(head);
            }
            searched = self.buffer.len().saturating_sub(3);
            match self.fill(deadline) {
                Err(Unread::Late) if started => return Err(too_slow()),
                Err(_) => return Err(End::Quiet),
                Ok(()) => {}
            }
        }
    }

    /// Reads the body that belongs to `head`.
    pub(super) fn read_body(&mut self, head: &Head) -> Result<Vec<u8>, End> {
        let deadline = Instant::now() + self.times.head;
        if head.expects_continue && self.buffer.len() < head.body_bytes {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                .map_err(|_| End::Quiet)?;
        }
        while self.buffer.len() < head.body_bytes {
            match self.fill(deadline) {
                Err(Unread::Late) => return Err(too_slow()),
                Err(Unread::Over) => return Err(End::Quiet),
                Ok(()) => {}
            }
        }
        Ok(self.buffer.drain(..head.body_bytes).collect())
    }

    /// Writes all of `bytes`, or fails when the client takes too long over it. Who asks on and on and
    /// takes little of the answers has no more time for many of them than for one: a full socket can let
    /// another few bytes in for hours.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&*self.stream).write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let patience = self.times.write;
                    let deadline = *self
                        .patience
                        .get_or_insert_with(|| Instant::now() + patience);
                    // A socket can be said to be ready and take nothing.
                    if Instant::now() >= deadline
                        || self.wake.writable(&*self.stream, deadline)? == Woken::Late
                    {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Ends the connection so that the last answer arrives: a socket that is closed while it
    /// holds unread bytes is reset, and the reset overtakes the answer.
    pub(super) fn finish(mut self, patience: Duration) {
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + patience;
        let mut thrown_away = 0;
        while thrown_away < HTTP_LINGER_BYTES_MAX {
            self.buffer.clear();
            if self.fill(deadline).is_err() {
                return;
            }
            thrown_away += self.buffer.len();
        }
    }

    /// The socket, blocking again, and what the client has sent beyond the last request.
    pub(super) fn into_parts(self) -> io::Result<(TcpStream, Vec<u8>)> {
        self.stream.set_nonblocking(false)?;
        let stream = match Arc::try_unwrap(self.stream) {
            Ok(stream) => stream,
            Err(shared) => shared.try_clone()?,
        };
        Ok((stream, self.buffer))
    }

    /// The other end, as others may look at it.
    pub(super) fn line(&self) -> Line {
        Line(Arc::clone(&self.stream))
    }

    /// Clients may send empty lines before a request
    /// (<https://www.rfc-editor.org/rfc/rfc9112#name-message-parsing>).
    fn skip_empty_lines(&mut self) {
        let empty = self
            .buffer
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'));
        let empty = empty.count();
        self.buffer.drain(..empty);
    }

    /// Reads what there is, waiting for the first byte of it.
    fn fill(&mut self, deadline: Instant) -> Result<(), Unread> {
        let mut chunk = [0; READ_BYTES];
        loop {
            match (&*self.stream).read(&mut chunk) {
                Ok(0) => return Err(Unread::Over),
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    // A client that dribbles is never waited for, so it must not escape here.
                    return if Instant::now() < deadline {
                        Ok(())
                    } else {
                        Err(Unread::Late)
                    };
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // It has not asked for more before it had this.
                    self.patience = None;
                    if Instant::now() >= deadline {
                        return Err(Unread::Late);
                    }
                    match self.wake.readable(&*self.stream, Some(deadline)) {
                        Ok(Woken::Ready) => {}
                        Ok(Woken::Late) => return Err(Unread::Late),
                        Ok(Woken::Stop) | Err(_) => return Err(Unread::Over),
                    }
                }
                Err(_) => return Err(Unread::Over),
            }
        }
    }
}

/// The line to a client.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<TcpStream>);

impl Line {
    /// Whether nobody is there any more. Who has only said that it asks for nothing further can not be told from who
    /// has gone; no client says so that then waits for an answer.
    pub(super) fn is_dead(&self) -> bool {
        match self.0.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        }
    }
}

/// Why nothing was read.
enum Unread {
    /// The deadline has passed.
    Late,
    /// The client is gone, or the relay stops.
    Over,
}

fn too_slow() -> End {
    End::Refused(Response::error(
        408,
        "InvalidRequest",
        "The request took too long",
    ))
}

/// Tells a client that there is no room, without waiting long for it to take that in.
pub(super) fn refuse(stream: TcpStream, wake: Arc<Wake>, answer: &Response, patience: Duration) {
    let times = Times {
        head: patience,
        idle: patience,
        write: patience,
    };
    let Ok(mut connection) = Connection::new(stream, wake, times) else {
        return;
    };
    // The request is read first, where it comes at once: some clients do not look for an answer
    // before they have sent it.
    let head_only = match connection.read_head(true) {
        Ok(head) => head.method == super::request::Method::Head,
        Err(_) => false,
    };
    let bytes = answer.encode(head_only, true, std::time::SystemTime::now());
    if connection.write(&bytes).is_ok() {
        connection.finish(patience);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::SockRef;

    use super::*;

    fn pair() -> (TcpStream, Line) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, Line(Arc::new(stream)))
    }

    /// What the client has done arrives a moment later, in another thread of the kernel perhaps.
    fn dies(line: &Line) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !line.is_dead() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        line.is_dead()
    }

    #[test]
    fn a_line_is_dead_when_the_client_has_gone() {
        let (client, line) = pair();
        assert!(!line.is_dead());
        drop(client);
        assert!(dies(&line));
        let (client, line) = pair();
        SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        assert!(dies(&line), "it was reset");
    }

    #[test]
    fn who_says_more_is_there() {
        let (mut client, line) = pair();
        client.write_all(b"GET").unwrap();
        let mut read = [0; 3];
        while line.0.peek(&mut read).is_err() {
            std::thread::yield_now();
        }
        assert!(!line.is_dead());
        let mut stream = &*line.0;
        assert_eq!(stream.read(&mut read).unwrap(), 3, "it was only looked at");
        assert!(!line.is_dead());
    }
}
