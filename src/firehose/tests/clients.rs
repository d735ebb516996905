//! How clients behave, well and badly, and how they are parted with.

use super::*;

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
    assert_eq!(relay.metrics().subscribers_left.get(Leave::Closed), 1);
}

#[test]
fn a_client_that_vanishes_is_freed() {
    let relay = Relay::new(settings());
    let client = relay.connect(None);
    eventually("it is there", || relay.firehose.subscribers().len() == 1);
    drop(client);
    eventually("it is gone", || relay.firehose.subscribers().is_empty());
    assert_eq!(relay.metrics().subscribers_left.get(Leave::Gone), 1);
}

/// Rules 16, 18: <https://atproto.com/specs/event-stream#websocket-transport>
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

/// Rule 34: <https://atproto.com/specs/event-stream#error-frames>
/// Rule 35: <https://github.com/bluesky-social/atproto>
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
        relay.metrics().subscribers_left.get(Leave::TooSlow) == 1
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
    assert_eq!(relay.metrics().subscribers_left.get(Leave::TooSlow), 0);
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
