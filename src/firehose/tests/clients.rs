//! How clients behave, well and badly, and how they are parted with.

use std::time::Instant;

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
    wait_until("it is gone", || relay.firehose.subscribers().is_empty());
    assert_eq!(relay.metrics().subscribers.get(), 0);
    assert_eq!(relay.metrics().subscribers_left.get(Leave::Closed), 1);
}

#[test]
fn a_client_that_vanishes_is_freed() {
    let relay = Relay::new(settings());
    let client = relay.connect(None);
    wait_until("it is there", || relay.firehose.subscribers().len() == 1);
    drop(client);
    wait_until("it is gone", || relay.firehose.subscribers().is_empty());
    left(&relay, Leave::Gone, 1);
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
    wait_until("one is gone", || relay.firehose.subscribers().len() == 1);
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
    settings.timing.close_timeout = PATIENCE;
    let relay = Relay::new(settings);
    let mut slow = relay.connect_narrow(None);
    let mut quick = relay.connect(None);
    let is_cut = || relay.metrics().subscribers_left.get(Leave::TooSlow) == 1;
    let mut last = 0;
    while last < 2000 && !is_cut() {
        last += 1;
        relay.emit([last], 10_000);
        quick.expect([last], 10_000);
    }
    wait_until("it is cut", is_cut);
    // Best effort: it hears why, because it reads again in time.
    slow.expect_error("ConsumerTooSlow");
    relay.emit([last + 1], 10);
    quick.expect([last + 1], 10);
}

#[test]
fn a_client_that_reads_slowly_is_served_to_the_end() {
    let mut settings = settings();
    settings.timing.stall_max = Duration::from_secs(3);
    let relay = Relay::new(settings);
    for seqs in (1..=400).collect::<Vec<_>>().chunks(50) {
        relay.emit(seqs.iter().copied(), 10_000);
    }
    let mut client = relay.connect_narrow(Some("0"));
    // For longer than it might take nothing, and too slowly to empty a long queue in the kernel.
    for seq in 1..=100 {
        client.expect([seq], 10_000);
        std::thread::sleep(Duration::from_millis(40));
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
    wait_until("a slot is free", || relay.firehose.admit(address).is_ok());
}

/// Who breaks the protocol leaves its place taken for a while, for its own address alone.
#[test]
fn who_breaks_the_protocol_comes_again_only_so_often() {
    let mut settings = settings();
    settings.subscribers_max = (10, 2);
    let relay = Relay::new(settings);
    let address = "127.0.0.1".parse().unwrap();
    for _ in 0..2 {
        let mut client = relay.connect(None);
        client.0.get_mut().write_all(&[0x89, 0x00]).unwrap();
        client.until_close();
        drop(client);
        wait_until("it is gone", || relay.firehose.subscribers().is_empty());
    }
    assert_eq!(relay.firehose.admit(address).unwrap_err(), TooMany::Address);
    assert!(relay.firehose.admit("127.0.0.2".parse().unwrap()).is_ok());
}

/// Waits until so many are counted that left for this reason, which comes a moment after they are gone.
fn left(relay: &Relay, leave: Leave, count: u64) {
    wait_until("they are counted", || {
        relay.metrics().subscribers_left.get(leave) == count
    });
}

/// A header and the beginning of a payload, masked with zeros, as a client sends them.
fn masked(first: u8, length: u64) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(0x80 | length as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame
}

/// Whatever breaks the protocol of websockets ends the subscription at once with code 1008, and nobody
/// else's.
#[test]
fn every_violation_is_closed_with_the_same_code() {
    let relay = Relay::new(settings());
    let mut other = relay.connect(None);
    let no_end = [&[0x82, 0xff][..], &[0xff; 8], &[0; 4]].concat();
    for (what, bytes) in [
        ("data that is not masked", &b"\x82\x05hello"[..]),
        ("text that is not masked", b"\x81\x05hello"),
        ("a ping that is not masked", b"\x89\x00"),
        ("a reserved bit", b"\xc2\x80\0\0\0\0"),
        ("another reserved bit", b"\x91\x80\0\0\0\0"),
        ("a reserved opcode", b"\x83\x80\0\0\0\0"),
        ("a reserved opcode of control", b"\x8f\x80\0\0\0\0"),
        ("a ping in pieces", b"\x09\x80\0\0\0\0"),
        ("a close in pieces", b"\x08\x82\0\0\0\0"),
        ("a ping that is too long", b"\x89\xfe\0\x7e\0\0\0\0"),
        ("a close that is too long", b"\x88\xff"),
        ("a length that can not be", &no_end),
        (
            "another request",
            b"GET /xrpc/_health HTTP/1.1\r\nHost: r\r\n\r\n",
        ),
        ("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc"),
        ("zeros", &[0; 64]),
    ] {
        let mut client = relay.connect(None);
        client.0.get_mut().write_all(bytes).unwrap();
        let (messages, code, reason) = client.until_close();
        assert_eq!((messages.len(), code), (0, CloseCode::Policy), "{what}");
        assert_eq!(reason, "ProtocolError", "{what}");
    }
    wait_until("all are gone", || relay.firehose.subscribers().len() == 1);
    assert_eq!(relay.metrics().subscribers_left.get(Leave::Protocol), 15);
    relay.emit(1..=3, 50);
    other.expect(1..=3, 50);
}

/// Messages that never end: one in endless pieces, and one of which only the length ever comes. They cost
/// nothing, and the stream goes on; so does one whose pieces make no sense.
#[test]
fn messages_without_end_change_nothing() {
    let relay = Relay::new(settings());
    let mut pieces = relay.connect(None);
    let mut giant = relay.connect(None);
    let begun = masked(0x82, i64::MAX as u64);
    giant.0.get_mut().write_all(&begun).unwrap();
    // As many as are listened to at once.
    for n in 1..=30 {
        // Begun again and again, and gone on with what was never begun.
        for first in [0x01, 0x00, 0x02, 0x80, 0x00] {
            let frame = [masked(first, 300), vec![b'x'; 300]].concat();
            pieces.0.get_mut().write_all(&frame).unwrap();
        }
        giant.0.get_mut().write_all(&[0x88; 1_500]).unwrap();
        relay.emit([n], 50);
        pieces.expect([n], 50);
        giant.expect([n], 50);
    }
    // Between two pieces there may be a ping.
    let ping = [masked(0x89, 2), b"hi".to_vec()].concat();
    pieces.0.get_mut().write_all(&ping).unwrap();
    let pong = Message::Pong(Bytes::from_static(b"hi"));
    assert_eq!(pieces.0.read().unwrap(), pong);
}

/// Pings without end, of which nobody reads the answers, and more than is ever listened to: the stream of
/// the others goes on, the last ping that was heard is answered, and the client is cut as any other that
/// takes nothing.
#[test]
fn a_flood_of_pings_delays_nobody() {
    let mut settings = settings();
    settings.timing.stall_max = Duration::from_secs(1);
    let relay = Relay::new(settings);
    let mut quick = relay.connect(None);
    let flooding = relay.connect_narrow(None);
    let mut socket = flooding.0.get_ref().try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let ping = [masked(0x89, 125), vec![b'x'; 125]].concat();
        while socket.write_all(&ping.repeat(100)).is_ok() {}
    });
    for seq in 1..=2_000 {
        relay.emit([seq], 10_000);
        quick.expect([seq], 10_000);
    }
    wait_until("it is cut", || {
        relay.metrics().subscribers_left.get(Leave::TooSlow) == 1
    });
    drop(flooding);
    flood.join().unwrap();
    relay.emit([2_001], 10);
    quick.expect([2_001], 10);
}

/// Who says more than is listened to is not woken for each frame any more, and misses none; nor does it stay longer
/// than others when the relay stops.
#[test]
fn who_says_too_much_gets_every_frame_at_its_own_pace() {
    let mut relay = Relay::new(settings());
    let mut talking = relay.connect(None);
    let words = limits::SUBSCRIBER_SAID_BYTES_BURST + (64 << 10);
    let socket = talking.0.get_mut();
    socket.write_all(&masked(0x82, words as u64)).unwrap();
    socket.write_all(&vec![0; words]).unwrap();
    for seq in 1..=20 {
        relay.emit([seq], 100);
        talking.expect([seq], 100);
    }
    relay.stopper.take();
    let (messages, code, _) = talking.until_close();
    assert_eq!((messages.len(), code), (0, CloseCode::Away));
}

#[test]
fn who_keeps_up_has_everything_when_the_relay_stops() {
    for _ in 0..10 {
        let mut relay = Relay::new(settings());
        let mut quick = relay.connect(None);
        relay.emit([1], 100);
        quick.expect([1], 100);
        // Nobody is woken for these: frames gather for a moment.
        relay.emit(2..=200, 100);
        relay.stopper.take();
        let (messages, code, _) = quick.until_close();
        assert_eq!((messages.len(), code), (199, CloseCode::Away));
    }
}

/// A client that says goodbye and then neither closes nor reads holds its slot no longer than the
/// handshake may take, however much it goes on to say.
#[test]
fn a_close_and_then_silence_frees_the_slot() {
    let mut settings = settings();
    settings.timing.close_timeout = Duration::from_millis(200);
    let relay = Relay::new(settings);
    let goodbye = [masked(0x88, 2), 1000u16.to_be_bytes().to_vec()].concat();
    let mut silent = relay.connect(None);
    silent.0.get_mut().write_all(&goodbye).unwrap();
    let mut talking = relay.connect(None);
    talking.0.get_mut().write_all(&goodbye).unwrap();
    let mut socket = talking.0.get_ref().try_clone().unwrap();
    let talk = std::thread::spawn(move || while socket.write_all(&[0; 10_000]).is_ok() {});
    wait_until("both are gone", || relay.firehose.subscribers().is_empty());
    let (messages, code, _) = silent.until_close();
    assert_eq!((messages.len(), code), (0, CloseCode::Normal));
    talk.join().unwrap();
}

/// A client that closes its sending side only is one that has left: websockets have no half.
#[test]
fn a_half_closed_socket_is_the_end() {
    let relay = Relay::new(settings());
    relay.emit(1..=100, 1_000);
    for cursor in [None, Some("0")] {
        let client = relay.connect(cursor);
        let socket = client.0.get_ref();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        wait_until("it is gone", || relay.firehose.subscribers().is_empty());
    }
    assert_eq!(relay.metrics().subscribers_left.get(Leave::Gone), 2);
}

/// Who is reset is noticed also while it talks more than it is listened to.
#[test]
fn a_talker_that_is_reset_is_gone() {
    let relay = Relay::new(settings());
    let mut client = relay.connect(None);
    let socket = client.0.get_mut();
    socket.write_all(&masked(0x82, i64::MAX as u64)).unwrap();
    let burst = limits::SUBSCRIBER_SAID_BYTES_BURST;
    socket.write_all(&vec![0; burst + (64 << 10)]).unwrap();
    let options = socket2::SockRef::from(&*socket);
    options.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    wait_until("it is gone", || relay.firehose.subscribers().is_empty());
    left(&relay, Leave::Gone, 1);
}

/// All read the whole window at once: each gets every event once and in order, more of them than the store
/// is read ahead for, and who is live meanwhile gets the next.
#[test]
fn the_whole_window_is_replayed_by_many_at_once() {
    let mut settings = settings();
    settings.ring_bytes_max = 1 << 20;
    settings.subscribers_max = (100, 100);
    let relay = Relay::new(settings);
    let last = 5_000;
    for seqs in (1..=last).collect::<Vec<_>>().chunks(500) {
        relay.emit(seqs.iter().copied(), 2_000);
    }
    let mut live = relay.connect(None);
    std::thread::scope(|scope| {
        let scans: Vec<_> = (0..50)
            .map(|_| {
                let mut client = relay.connect(Some("0"));
                scope.spawn(move || client.expect(1..=last, 2_000))
            })
            .collect();
        let mut seq = last;
        while seq < last + 10 || !scans.iter().all(|scan| scan.is_finished()) {
            seq += 1;
            relay.emit([seq], 100);
            live.expect([seq], 100);
        }
    });
    assert!(relay.metrics().replay_reads.get(Tier::Store) > 50);
}
