//! What a subscriber gets: where its stream begins, and that it is whole.

use super::*;

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
    assert!(relay.metrics().replay_reads.get(Tier::Store) > 10);
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
    wait_until("all are gone", || relay.firehose.subscribers().is_empty());
}

/// Rule 32: <https://atproto.com/specs/event-stream#sequence-numbers>
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
    assert!(relay.metrics().replay_reads.get(Tier::Store) > 0);
    // The last write is counted after it has arrived.
    let sent = 5 * 28_000 + 2000 + 1000 + 1;
    wait_until("all are counted", || {
        relay.metrics().frames_sent.get() >= sent
    });
    assert_eq!(relay.metrics().frames_sent.get(), sent);
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
    wait_until("both are counted", || {
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
