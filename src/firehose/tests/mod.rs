//! The firehose over real sockets, with another implementation of websockets as the client.

mod clients;
mod hidden;
mod large;
mod stream;

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
};

use tempfile::TempDir;
use tungstenite::{
    Bytes, Message, WebSocket,
    protocol::{Role, WebSocketConfig, frame::coding::CloseCode},
};

use super::{frame::ws_message, *};
use crate::{
    atproto::seq::Seq,
    metrics::labels::{Leave, Tier},
    store,
    testing::wait_until,
    threads::{Stopper, stop_pair},
};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

struct Relay {
    // In the order in which they have to go.
    stopper: Option<Stopper>,
    ticker: Option<Thread>,
    firehose: Arc<Firehose>,
    store: Arc<Store>,
    listener: TcpListener,
    _dir: TempDir,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopper.take();
        self.ticker.take();
    }
}

fn settings() -> Settings {
    let mut settings = Settings::new(256 << 10);
    settings.timing.wake_gather = Duration::from_millis(1);
    settings.timing.close_timeout = Duration::from_secs(2);
    settings
}

impl Relay {
    fn new(settings: Settings) -> Relay {
        let dir = TempDir::new().unwrap();
        let options = store::Options {
            fsync: false,
            cache_bytes: 1 << 20,
            events_buffer_bytes: 256 << 10,
            other_buffer_bytes: 64 << 10,
            ..store::Options::default()
        };
        let store = Arc::new(Store::open(dir.path(), options).unwrap());
        let (stopper, stop) = stop_pair();
        let metrics = Arc::new(Metrics::default());
        let (firehose, ticker) =
            Firehose::start(Arc::clone(&store), metrics, settings, stop).unwrap();
        Relay {
            stopper: Some(stopper),
            ticker: Some(ticker),
            firehose,
            store,
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            _dir: dir,
        }
    }

    /// Commits and publishes the events `seqs`, `len` bytes each, as the sequencer does.
    fn emit(&self, seqs: impl IntoIterator<Item = u64>, len: usize) {
        let mut batch = self.store.batch();
        let mut frames = Vec::new();
        for seq in seqs {
            let seq = Seq::new(seq).unwrap();
            let bytes = ws_message(&[&payload(seq.get(), len)]);
            batch.put_event(seq, seq.get() * 1000, &bytes);
            frames.push(Frame { seq, bytes });
        }
        self.store.commit(batch).unwrap();
        self.firehose.publish(frames);
    }

    /// Commits and publishes frames.
    fn emit_frames(&self, frames: &[Frame]) {
        let mut batch = self.store.batch();
        for frame in frames {
            batch.put_event(frame.seq, frame.seq.get() * 1000, &frame.bytes);
        }
        self.store.commit(batch).unwrap();
        self.firehose.publish(frames.to_vec());
    }

    /// A subscriber whose upgrade was answered.
    fn connect(&self, cursor: Option<&str>) -> Client {
        let socket = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        self.connect_with(cursor, socket)
    }

    /// The same with a small buffer at the client, so that the relay's side is soon full.
    fn connect_narrow(&self, cursor: Option<&str>) -> Client {
        let (ipv4, tcp) = (socket2::Domain::IPV4, socket2::Type::STREAM);
        let socket = socket2::Socket::new(ipv4, tcp, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let address = self.listener.local_addr().unwrap();
        socket.connect(&address.into()).unwrap();
        self.connect_with(cursor, socket.into())
    }

    fn connect_with(&self, cursor: Option<&str>, socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (stream, peer) = self.listener.accept().unwrap();
        self.firehose
            .subscribe(Subscription {
                admission: self.firehose.admit(peer.ip()).unwrap(),
                stream,
                leftover: Vec::new(),
                cursor: Cursor::parse(cursor).unwrap(),
                peer,
                user_agent: "test".into(),
            })
            .unwrap();
        let config = WebSocketConfig::default().read_buffer_size(4096);
        Client(WebSocket::from_raw_socket(
            socket,
            Role::Client,
            Some(config),
        ))
    }

    fn metrics(&self) -> &Metrics {
        &self.firehose.metrics
    }
}

/// A payload that says its seq.
fn payload(seq: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seq);
    let mut payload = seq.to_be_bytes().to_vec();
    payload.resize_with(len.max(8), || random.u8(..));
    payload
}

struct Client(WebSocket<TcpStream>);

impl Client {
    /// The next message of the stream.
    fn message(&mut self) -> Bytes {
        loop {
            match self.0.read().unwrap() {
                Message::Binary(payload) => return payload,
                Message::Pong(_) | Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads the events `seqs`, of `len` bytes, and nothing else.
    fn expect(&mut self, seqs: impl IntoIterator<Item = u64>, len: usize) {
        for seq in seqs {
            let message = self.message();
            let got = u64::from_be_bytes(message[..8].try_into().unwrap());
            assert_eq!(got, seq);
            assert_eq!(*message, payload(seq, len));
        }
    }

    /// Reads these frames, byte for byte, and nothing else.
    fn expect_frames(&mut self, frames: &[Frame]) {
        for frame in frames {
            assert_eq!(*self.message(), *content(frame), "seq {}", frame.seq);
        }
    }

    /// Reads up to the close frame; how many messages came before, and the frame.
    fn until_close(&mut self) -> (Vec<Bytes>, CloseCode, String) {
        let mut messages = Vec::new();
        loop {
            match self.0.read().unwrap() {
                Message::Binary(payload) => messages.push(payload),
                Message::Close(Some(close)) => {
                    return (messages, close.code, close.reason.to_string());
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Expects the end with an error message before it.
    fn expect_error(&mut self, name: &str) {
        let (messages, code, reason) = self.until_close();
        assert_eq!((code, reason.as_str()), (CloseCode::Policy, name));
        let last = messages.last().unwrap();
        assert!(last.starts_with(b"\xa1\x62op\x20\xa2\x65error"), "{last:?}");
        assert!(contains(last, name), "{last:?}");
    }
}

/// The payload of a frame.
fn content(frame: &Frame) -> &[u8] {
    let header_len = match frame.bytes[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    &frame.bytes[header_len..]
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}
