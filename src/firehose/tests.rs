//! The firehose over real sockets, with another implementation of websockets as the client.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    time::Instant,
};

use tempfile::TempDir;
use tungstenite::{
    Bytes, Message, WebSocket,
    protocol::{Role, WebSocketConfig, frame::coding::CloseCode},
};

use super::*;
use crate::{
    atproto::seq::Seq,
    store,
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

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

/// Waits until `condition` holds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn without_a_cursor_only_what_follows_comes() {
    let relay = Relay::new(settings());
    relay.emit(1..=10, 50);
    let mut live = relay.connect(None);
    let mut empty = relay.connect(Some(""));
    relay.emit(11..=12, 50);
    relay.emit(13..=13, 50);
    live.expect(11..=13, 50);
    empty.expect(11..=13, 50);
}

#[test]
fn what_is_sequenced_before_the_thread_runs_is_live_too() {
    let relay = Relay::new(settings());
    relay.emit(1..=10, 50);
    let socket = TcpStream::connect(relay.listener.local_addr().unwrap()).unwrap();
    let (stream, peer) = relay.listener.accept().unwrap();
    let admission = relay.firehose.admit(peer.ip()).unwrap();
    relay.emit(11..=20, 50);
    let subscription = Subscription {
        admission,
        stream,
        leftover: Vec::new(),
        cursor: Cursor::Live,
        peer,
        user_agent: String::new(),
    };
    relay.firehose.subscribe(subscription).unwrap();
    let mut client = Client(WebSocket::from_raw_socket(socket, Role::Client, None));
    client.expect(11..=20, 50);
}

#[test]
fn a_cursor_in_the_window_is_exclusive_and_complete() {
    let mut settings = settings();
    settings.ring_bytes_max = 500;
    settings.page_bytes_max = 700;
    let relay = Relay::new(settings);
    relay.emit(1..=100, 90);
    let mut clients: Vec<_> = ["0", "1", "50", "97", "99", "100"]
        .map(|cursor| (cursor.parse::<u64>().unwrap(), relay.connect(Some(cursor))))
        .into();
    for (cursor, client) in &mut clients {
        let first = *cursor + 1;
        client.expect(first..=100, 90);
    }
    relay.emit(101..=130, 90);
    for (_, client) in &mut clients {
        client.expect(101..=130, 90);
    }
    assert!(relay.metrics().replay_pages.get() > 10);
}

#[test]
fn an_outdated_cursor_is_told_and_gets_the_whole_window() {
    let relay = Relay::new(settings());
    relay.emit(1..=100, 50);
    relay.store.prune(51_000, None).unwrap();
    assert_eq!(relay.store.window().pruned, 50);
    let mut outdated = relay.connect(Some("49"));
    let info = outdated.message();
    assert!(
        info.starts_with(b"\xa2\x61t\x65#info\x62op\x01"),
        "{info:?}"
    );
    assert!(contains(&info, "OutdatedCursor"));
    outdated.expect(51..=100, 50);
    for cursor in ["0", "50"] {
        relay.connect(Some(cursor)).expect(51..=100, 50);
    }
}

#[test]
fn gaps_are_not_losses() {
    let relay = Relay::new(settings());
    relay.emit([5, 6, 1000], 50);
    relay.connect(Some("1")).expect([5, 6, 1000], 50);
    relay.connect(Some("500")).expect([1000], 50);
    let mut client = relay.connect(Some("6"));
    client.expect([1000], 50);
    relay.emit([1 << 40], 50);
    client.expect([1 << 40], 50);
}

#[test]
fn a_future_cursor_gets_an_error_and_nothing_else() {
    let relay = Relay::new(settings());
    relay.connect(Some("1")).expect_error("FutureCursor");
    relay.emit(1..=3, 50);
    for cursor in ["4", "9007199254740993", "9223372036854775807"] {
        let mut client = relay.connect(Some(cursor));
        let (messages, code, reason) = client.until_close();
        assert_eq!(messages.len(), 1);
        assert_eq!((code, reason.as_str()), (CloseCode::Policy, "FutureCursor"));
        assert!(contains(&messages[0], "Cursor in the future."));
    }
    eventually("all are gone", || relay.firehose.subscribers().is_empty());
}

#[test]
fn replay_becomes_live_without_a_gap_or_a_duplicate() {
    let mut settings = settings();
    settings.ring_bytes_max = 40_000;
    settings.page_bytes_max = 20_000;
    let relay = Relay::new(settings);
    let last = 30_000;
    relay.emit(1..=2000, 200);
    std::thread::scope(|scope| {
        for cursor in ["0", "1000", "1999", "2000", ""] {
            let mut client = relay.connect(Some(cursor));
            let first = cursor.parse().unwrap_or(2000) + 1;
            scope.spawn(move || client.expect(first..=last, 200));
        }
        let mut next = 2001;
        while next <= last {
            let end = (next + fastrand::u64(0..40)).min(last);
            relay.emit(next..=end, 200);
            next = end + 1;
        }
    });
    assert!(relay.metrics().replay_pages.get() > 0);
    assert_eq!(
        relay.metrics().frames_sent.get(),
        5 * 28_000 + 2000 + 1000 + 1
    );
}

#[test]
fn all_subscribers_see_the_same_bytes() {
    let relay = Relay::new(settings());
    let mut one = relay.connect(None);
    relay.emit(1..=500, 300);
    let mut two = relay.connect(Some("0"));
    for _ in 1..=500 {
        assert_eq!(one.message(), two.message());
    }
    eventually("both are counted", || {
        let counts: Vec<u64> = relay
            .firehose
            .subscribers()
            .iter()
            .map(|s| s.frames)
            .collect();
        counts == [500, 500]
    });
}

#[test]
fn frames_of_every_length_arrive_whole() {
    let relay = Relay::new(settings());
    let lengths = [8, 125, 126, 0xffff, 0x1_0000, 4_999_990];
    let mut live = relay.connect(None);
    for (seq, len) in (1..).zip(lengths) {
        relay.emit([seq], len);
        live.expect([seq], len);
    }
    let mut replay = relay.connect(Some("0"));
    for (seq, len) in (1..).zip(lengths) {
        replay.expect([seq], len);
    }
}

#[test]
fn pings_are_answered_while_the_backlog_flows() {
    let mut settings = settings();
    settings.ring_bytes_max = 1;
    settings.page_bytes_max = 4000;
    let relay = Relay::new(settings);
    relay.emit(1..=20_000, 1000);
    let mut client = relay.connect(Some("0"));
    client.expect(1..=10, 1000);
    client
        .0
        .send(Message::Ping(Bytes::from_static(b"are you there")))
        .unwrap();
    let mut frames = 0;
    loop {
        match client.0.read().unwrap() {
            Message::Binary(_) => frames += 1,
            Message::Pong(payload) => {
                assert_eq!(payload, "are you there");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // It came in the middle, and the stream goes on where it was.
    assert!(frames < 20_000 - 10, "{frames}");
    client.expect(11 + frames..=20_000, 1000);
}

#[test]
fn messages_of_a_client_are_ignored() {
    let relay = Relay::new(settings());
    let mut client = relay.connect(None);
    client.0.send(Message::text("hello")).unwrap();
    client.0.send(Message::binary(vec![0x88; 300_000])).unwrap();
    client.0.send(Message::Pong(Bytes::new())).unwrap();
    client
        .0
        .send(Message::Ping(Bytes::from_static(b"1")))
        .unwrap();
    assert_eq!(
        client.0.read().unwrap(),
        Message::Pong(Bytes::from_static(b"1"))
    );
    relay.emit(1..=3, 50);
    client.expect(1..=3, 50);
}

#[test]
fn bytes_that_came_with_the_request_are_heard() {
    let relay = Relay::new(settings());
    let socket = TcpStream::connect(relay.listener.local_addr().unwrap()).unwrap();
    let (stream, peer) = relay.listener.accept().unwrap();
    let subscription = Subscription {
        admission: relay.firehose.admit(peer.ip()).unwrap(),
        stream,
        // A ping with an empty mask, cut in its payload.
        leftover: vec![0x89, 0x82, 0, 0, 0, 0, b'h'],
        cursor: Cursor::Live,
        peer,
        user_agent: String::new(),
    };
    relay.firehose.subscribe(subscription).unwrap();
    (&socket).write_all(b"i").unwrap();
    let mut client = WebSocket::from_raw_socket(socket, Role::Client, None);
    assert_eq!(
        client.read().unwrap(),
        Message::Pong(Bytes::from_static(b"hi"))
    );
}

#[test]
fn a_client_that_breaks_the_protocol_is_closed() {
    let relay = Relay::new(settings());
    let mut client = relay.connect(None);
    // Not masked.
    client.0.get_mut().write_all(&[0x89, 0x00]).unwrap();
    let (messages, code, _) = client.until_close();
    assert_eq!((messages.len(), code), (0, CloseCode::Policy));
}

#[test]
fn a_close_is_answered_and_frees_the_slot() {
    let relay = Relay::new(settings());
    relay.emit(1..=1000, 1000);
    let mut client = relay.connect(Some("0"));
    client.expect(1..=5, 1000);
    client.0.close(None).unwrap();
    loop {
        match client.0.read() {
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => break,
            Err(error) => panic!("{error}"),
        }
    }
    eventually("it is gone", || relay.firehose.subscribers().is_empty());
    assert_eq!(relay.metrics().subscribers.get(), 0);
    assert_eq!(relay.metrics().subscribers_gone.get(), 1);
}

#[test]
fn a_client_that_vanishes_is_freed() {
    let relay = Relay::new(settings());
    let client = relay.connect(None);
    eventually("it is there", || relay.firehose.subscribers().len() == 1);
    drop(client);
    eventually("it is gone", || relay.firehose.subscribers().is_empty());
    assert_eq!(relay.metrics().subscribers_gone.get(), 1);
}

#[test]
fn idle_clients_are_asked_and_those_who_never_answer_are_cut() {
    let mut settings = settings();
    settings.timing.ping_interval = Duration::from_millis(20);
    settings.timing.silent_max = Duration::from_secs(1);
    let relay = Relay::new(settings);
    let mut answers = relay.connect(None);
    let silent = relay.connect(None);
    // Longer than the silent one is given.
    let until = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < until {
        assert!(matches!(answers.0.read().unwrap(), Message::Ping(_)));
        // The answer goes out with the flush.
        answers.0.flush().unwrap();
    }
    eventually("one is gone", || relay.firehose.subscribers().len() == 1);
    relay.emit(1..=1, 50);
    answers.expect(1..=1, 50);
    drop(silent);
}

#[test]
fn a_client_that_takes_nothing_is_cut_and_delays_nobody() {
    let mut settings = settings();
    settings.timing.stall_max = Duration::from_millis(500);
    settings.timing.close_timeout = Duration::from_secs(10);
    let relay = Relay::new(settings);
    let mut slow = relay.connect_narrow(None);
    let mut quick = relay.connect(None);
    for seq in 1..=2000 {
        relay.emit([seq], 10_000);
        quick.expect([seq], 10_000);
    }
    eventually("it is cut", || {
        relay.metrics().subscribers_too_slow.get() == 1
    });
    // Best effort: it hears why, because it reads again in time.
    slow.expect_error("ConsumerTooSlow");
    relay.emit([2001], 10);
    quick.expect([2001], 10);
}

#[test]
fn a_client_that_reads_slowly_is_served_to_the_end() {
    let mut settings = settings();
    settings.timing.stall_max = Duration::from_secs(1);
    let relay = Relay::new(settings);
    for seqs in (1..=400).collect::<Vec<_>>().chunks(50) {
        relay.emit(seqs.iter().copied(), 10_000);
    }
    let mut client = relay.connect_narrow(Some("0"));
    // For longer than it might take nothing, and too slowly to empty a long queue in the kernel.
    for seq in 1..=100 {
        client.expect([seq], 10_000);
        std::thread::sleep(Duration::from_millis(20));
    }
    client.expect(101..=400, 10_000);
    assert_eq!(relay.metrics().subscribers_too_slow.get(), 0);
}

#[test]
fn a_stream_that_begins_while_the_window_moves_is_whole() {
    let mut settings = settings();
    settings.ring_bytes_max = 1;
    settings.page_bytes_max = 20_000;
    let relay = Relay::new(settings);
    let last = 5000;
    for seqs in (1..=last).collect::<Vec<_>>().chunks(100) {
        relay.emit(seqs.iter().copied(), 100);
    }
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            for seq in (1..=4500).step_by(10) {
                relay.store.prune(seq * 1000, None).unwrap();
            }
        });
        let mut begun = 0;
        while !pruning.is_finished() || begun == 0 {
            let mut client = relay.connect(Some("0"));
            let first = client.message();
            // The window may overtake it: then it is told, and never given a stream with a hole.
            if first.starts_with(b"\xa1") {
                continue;
            }
            let mut seq = u64::from_be_bytes(first[..8].try_into().unwrap());
            while seq < last {
                let message = client.message();
                if contains(&message, "ConsumerTooSlow") {
                    break;
                }
                seq += 1;
                assert_eq!(*message, payload(seq, 100));
            }
            begun += 1;
        }
    });
}

#[test]
fn who_falls_out_of_the_window_is_cut() {
    let mut settings = settings();
    settings.ring_bytes_max = 1;
    settings.page_bytes_max = 1000;
    let relay = Relay::new(settings);
    relay.emit(1..=1, 100);
    let mut client = relay.connect(Some("0"));
    client.expect(1..=1, 100);
    // Enough that the sockets' buffers cannot hold it.
    for seqs in (2..=3001).collect::<Vec<_>>().chunks(100) {
        relay.emit(seqs.iter().copied(), 10_000);
    }
    relay.store.prune(2_999_000, None).unwrap();
    client.expect_error("ConsumerTooSlow");
}

#[test]
fn at_the_stop_everybody_is_told_and_the_thread_waits_for_them() {
    let mut relay = Relay::new(settings());
    relay.emit(1..=10, 50);
    let mut clients = [relay.connect(None), relay.connect(Some("0"))];
    clients[1].expect(1..=10, 50);
    relay.stopper.take();
    for client in &mut clients {
        let (messages, code, _) = client.until_close();
        assert_eq!((messages.len(), code), (0, CloseCode::Away));
    }
    drop(clients);
    relay.ticker.take();
    assert!(relay.firehose.subscribers().is_empty());
}

#[test]
fn one_more_than_the_limit_is_not_admitted() {
    let mut settings = settings();
    settings.subscribers_max = (10, 2);
    let relay = Relay::new(settings);
    let clients = [relay.connect(None), relay.connect(None)];
    let address = "127.0.0.1".parse().unwrap();
    assert_eq!(relay.firehose.admit(address).unwrap_err(), TooMany::Address);
    drop(clients);
    eventually("a slot is free", || relay.firehose.admit(address).is_ok());
}
