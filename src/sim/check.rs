//! A firehose consumer that compares what a relay emits with what it must emit.

use std::{
    io::{self, ErrorKind},
    net::{TcpStream, ToSocketAddrs},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tungstenite::{Message, WebSocket, client::client_with_config, protocol::WebSocketConfig};

use super::{
    event::Digest,
    expected::{Expected, Observation},
    seen::Seen,
    wire,
    workers::Workers,
};
use crate::{limits::FRAME_BYTES_MAX, threads::Stop};

/// The stack of the checker's thread, in bytes.
const STACK_BYTES: usize = 1 << 20;
/// Connecting to the relay.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A read without a frame: when the checker looks whether it shall stop.
const READ_TIMEOUT: Duration = Duration::from_millis(250);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);

/// Numbers of a checker.
#[derive(Default, Debug)]
pub struct Stats {
    /// Frames received.
    pub frames: AtomicU64,
    /// Bytes of frames received.
    pub bytes: AtomicU64,
    /// Connections made to the relay.
    pub connections: AtomicU64,
    /// The last sequence number.
    pub seq: AtomicU64,
    /// Whether it is connected now.
    pub connected: AtomicBool,
    /// Delays from sending to receiving since they were last taken, in microseconds.
    delays: Mutex<Vec<u64>>,
    /// The same of events whose delay is told apart.
    delays_apart: Mutex<Vec<u64>>,
}

impl Stats {
    /// The median and the 99th percentile of the delays since the last call, in microseconds.
    pub fn take_delays(&self) -> Option<(u64, u64)> {
        let mut delays =
            std::mem::take(&mut *self.delays.lock().unwrap_or_else(PoisonError::into_inner));
        delays.sort_unstable();
        let last = delays.len().checked_sub(1)?;
        Some((delays[last / 2], delays[last * 99 / 100]))
    }

    /// All delays since they were last taken, in microseconds, and those that are told apart.
    pub fn take_all_delays(&self) -> [Vec<u64>; 2] {
        [&self.delays, &self.delays_apart].map(|delays| {
            std::mem::take(&mut *delays.lock().unwrap_or_else(PoisonError::into_inner))
        })
    }
}

/// A running checker; dropping it ends it.
#[derive(Debug)]
pub struct Checker {
    /// Its numbers.
    pub stats: Arc<Stats>,
    _workers: Workers,
}

impl Checker {
    /// Subscribes to the relay at `address` (`host:port`, plain) from the beginning, and again from
    /// where it was whenever the connection is lost.
    pub fn start(address: &str, expected: Arc<Expected>) -> io::Result<Checker> {
        Checker::start_noting(address, expected, None)
    }

    /// The same; what comes is noted in `seen`.
    pub(super) fn start_noting(
        address: &str,
        expected: Arc<Expected>,
        seen: Option<Arc<Seen>>,
    ) -> io::Result<Checker> {
        let stats = Arc::new(Stats::default());
        let run = Run {
            address: address.to_owned(),
            expected,
            seen,
            stats: stats.clone(),
        };
        let workers = Workers::one("check", STACK_BYTES, move |stop| run.run(stop))?;
        Ok(Checker {
            stats,
            _workers: workers,
        })
    }
}

struct Run {
    address: String,
    expected: Arc<Expected>,
    seen: Option<Arc<Seen>>,
    stats: Arc<Stats>,
}

impl Run {
    fn run(&self, stop: &Stop) {
        while !stop.requested() {
            let cursor = self.stats.seq.load(Ordering::Relaxed);
            match connect(&self.address, cursor) {
                Ok(websocket) => {
                    self.stats.connections.fetch_add(1, Ordering::Relaxed);
                    self.stats.connected.store(true, Ordering::Relaxed);
                    self.read(websocket, stop);
                    self.stats.connected.store(false, Ordering::Relaxed);
                }
                Err(error) => log::debug!("connecting to the relay {}: {error}", self.address),
            }
            if stop.wait(RETRY) {
                return;
            }
        }
    }

    fn read(&self, mut websocket: WebSocket<TcpStream>, stop: &Stop) {
        while !stop.requested() {
            match websocket.read() {
                Ok(Message::Binary(frame)) => self.check(&frame),
                Ok(Message::Text(text)) => {
                    let start: String = text.chars().take(80).collect();
                    self.expected
                        .note_other(format!("the relay sent text: {start}"));
                }
                Ok(Message::Close(frame)) => log::info!("the relay closes: {frame:?}"),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if is_timeout(&error) => {}
                Err(error) => {
                    log::info!("connection to the relay lost: {error}");
                    return;
                }
            }
        }
        let _ = websocket.close(None);
        let _ = websocket.flush();
    }

    fn check(&self, bytes: &[u8]) {
        self.stats.frames.fetch_add(1, Ordering::Relaxed);
        self.stats
            .bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let Some(frame) = wire::read(bytes) else {
            self.expected
                .note_other(format!("not a frame, {} bytes", bytes.len()));
            return;
        };
        let Some(seq) = frame.seq else {
            let (op, t, name) = (frame.op, frame.t, frame.name);
            self.expected
                .note_other(format!("the relay says op {op} {t} {name}"));
            return;
        };
        let before = self.stats.seq.swap(seq, Ordering::Relaxed);
        if before != 0 && seq != before + 1 {
            self.expected.note_gap(format!("seq {seq} after {before}"));
        }
        let digest = Digest::of(&bytes[..frame.seq_at.start], &bytes[frame.seq_at.end..]);
        if let Some(seen) = &self.seen {
            seen.add(seq, digest);
        }
        let (delays, delay) = match self.expected.observe(frame.did, digest, frame.t) {
            Observation::Expected(delay) => (&self.stats.delays, delay),
            Observation::Apart(delay) => (&self.stats.delays_apart, delay),
            _ => return,
        };
        delays
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(delay);
    }
}

/// Subscribes to the relay at `address` with this cursor. Reads end after [`READ_TIMEOUT`].
pub(super) fn connect(address: &str, cursor: u64) -> io::Result<WebSocket<TcpStream>> {
    let mut last = io::Error::new(ErrorKind::NotFound, "no address");
    for socket in address.to_socket_addrs()? {
        let stream = match TcpStream::connect_timeout(&socket, CONNECT_TIMEOUT) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        let url = format!("ws://{address}/xrpc/com.atproto.sync.subscribeRepos?cursor={cursor}");
        let config = WebSocketConfig::default()
            .read_buffer_size(64 << 10)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let (websocket, _) = client_with_config(url, stream, Some(config))
            .map_err(|error| io::Error::other(error.to_string()))?;
        websocket.get_ref().set_read_timeout(Some(READ_TIMEOUT))?;
        return Ok(websocket);
    }
    Err(last)
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
