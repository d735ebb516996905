//! A subscriber that reads as fast as it can, counts frames and looks into none.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// Bytes of one read.
const BUFFER_BYTES: usize = 256 << 10;
/// Nothing for this long: everything there was has come.
const QUIET: Duration = Duration::from_millis(500);
/// The answer to the request, and the first frame after it.
const FIRST_TIMEOUT: Duration = Duration::from_secs(30);
/// The head of the answer.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What came, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) frames: u64,
    /// From the request to the last byte.
    pub(super) took: Duration,
}

impl Run {
    /// Frames a second.
    pub(super) fn rate(&self) -> f64 {
        self.frames as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Reads the stream of the relay at `address` (`host:port`, plain) from `cursor` until `frames` have
/// come, or nothing more comes.
pub(super) fn replay(address: &str, cursor: u64, frames: u64) -> io::Result<Run> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(FIRST_TIMEOUT))?;
    write!(
        stream,
        "GET /xrpc/com.atproto.sync.subscribeRepos?cursor={cursor} HTTP/1.1\r\n\
         Host: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
         User-Agent: zlay-sim\r\n\r\n"
    )?;
    let rest = answer(&mut stream)?;
    count(&mut stream, &rest, frames, start)
}

/// Reads frames that come without a request, such as those of a bare loop of writes.
pub(super) fn count(
    stream: &mut TcpStream,
    first: &[u8],
    frames: u64,
    start: Instant,
) -> io::Result<Run> {
    let mut counter = Counter::default();
    counter.feed(first);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut last = start.elapsed();
    stream.set_read_timeout(Some(FIRST_TIMEOUT))?;
    let mut patient = true;
    while counter.frames < frames {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                counter.feed(&buffer[..n]);
                last = start.elapsed();
                if patient {
                    patient = false;
                    stream.set_read_timeout(Some(QUIET))?;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Run {
        frames: counter.frames,
        took: last,
    })
}

/// Reads the head of a 101; what came after it.
fn answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk)?;
        head.extend_from_slice(&chunk[..n]);
        if let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            if !head.starts_with(b"HTTP/1.1 101") {
                let head = String::from_utf8_lossy(&head[..end]).into_owned();
                return Err(io::Error::other(format!("no websocket: {head}")));
            }
            return Ok(head.split_off(end + 4));
        }
        if n == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("no answer to the request for a websocket"));
        }
    }
}

/// Counts the binary frames of a server in whatever pieces they come.
#[derive(Default, Debug)]
struct Counter {
    header: Vec<u8>,
    payload: u64,
    frames: u64,
}

impl Counter {
    fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            let take = usize::try_from(self.payload).map_or(bytes.len(), |n| n.min(bytes.len()));
            self.payload -= take as u64;
            bytes = &bytes[take..];
            let Some((byte, rest)) = bytes.split_first() else {
                return;
            };
            self.header.push(*byte);
            bytes = rest;
            if let Some(len) = length(&self.header) {
                self.frames += u64::from(self.header[0] & 0x0f == 2);
                self.payload = len;
                self.header.clear();
            }
        }
    }
}

/// The length of the payload, once the header is complete
/// (<https://www.rfc-editor.org/rfc/rfc6455#section-5.2>); frames of servers have no mask.
fn length(header: &[u8]) -> Option<u64> {
    let [_, short, rest @ ..] = header else {
        return None;
    };
    let wanted = match short & 0x7f {
        126 => 2,
        127 => 8,
        short => return Some(short.into()),
    };
    (rest.len() == wanted).then(|| rest.iter().fold(0, |n, b| (n << 8) | u64::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_in_any_pieces() {
        let mut bytes = Vec::new();
        for len in [0usize, 5, 125, 126, 70_000] {
            let (header, used) = crate::firehose::frame::ws_header(len);
            bytes.extend_from_slice(&header[..used]);
            bytes.resize(bytes.len() + len, 0x82);
        }
        // A ping is none.
        bytes.extend_from_slice(&[0x89, 1, 7]);
        for piece in [1, 2, 7, 1_000, bytes.len()] {
            let mut counter = Counter::default();
            bytes.chunks(piece).for_each(|chunk| counter.feed(chunk));
            assert_eq!((counter.frames, counter.payload), (5, 0));
        }
    }
}
