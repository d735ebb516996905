//! Sequence numbers, where a subscription begins for every kind of cursor, and what remains to be
//! read (<https://atproto.com/specs/event-stream#sequence-numbers>).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use zlay::{
    limits::SUBSCRIBER_STALL_MAX,
    sim::{account::Account, event::Event, wire},
};

use crate::{
    items::{items, keys, text},
    raw::{BINARY, CLOSE, FINAL, Raw},
    site::{Relay, Site, next_commit, wait_until},
    subscriber::{Next, Subscriber},
};

/// The last seq that the protocol knows.
const SEQ_MAX: u64 = (1 << 53) - 1;
/// Between two rounds of the accounts of a host that speak all the time.
const PACE: Duration = Duration::from_millis(2);

/// A relay that has ten events, and their account.
fn ten_events(site: &mut Site) -> (Relay, Account, Vec<Event>) {
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let events: Vec<_> = (0..10).map(|_| site.publish_post(&mut account)).collect();
    Subscriber::from_the_beginning(&relay).expect(&events.iter().collect::<Vec<_>>());
    (relay, account, events)
}

/// Ends a relay in good order.
fn stop(relay: Relay) {
    relay.terminate();
    assert!(relay.ended().0.success());
}

/// The seq of an event.
fn seq(message: &[u8]) -> u64 {
    let frame = wire::read(message).expect("a frame");
    frame.seq.expect("an event")
}

/// Rules 22, 24, 25, 26: <https://atproto.com/specs/event-stream#sequence-numbers>
/// Rule 23: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn a_cursor_says_where_the_stream_begins() {
    let mut site = Site::new(1);
    let (relay, mut account, mut events) = ten_events(&mut site);
    let connect = |cursor| Subscriber::connect(&relay, cursor).unwrap();
    let subscribers = [
        (connect(None), 10),
        (connect(Some("")), 10),
        (connect(Some("0")), 0),
        (connect(Some("1")), 1),
        (connect(Some("7")), 7),
        (connect(Some("007")), 7),
        (connect(Some("%37")), 7),
        (connect(Some("10")), 10),
    ];
    // A live subscriber is one from when its handshake is done: this comes after all of them.
    events.push(site.publish_post(&mut account));
    let events: Vec<_> = events.iter().collect();
    for (mut subscriber, from) in subscribers {
        subscriber.expect(&events[from..]);
    }
}

/// Rule 27: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/subscribeRepos.json>
/// Rule 35: <https://github.com/bluesky-social/atproto/blob/main/packages/ws-client/src/client.ts>
#[test]
fn a_cursor_of_the_future_is_an_error_and_the_end() {
    let mut site = Site::new(1);
    let (relay, mut account, _) = ten_events(&mut site);
    for cursor in ["11", "1000000", "9007199254740993", "9223372036854775807"] {
        let mut raw = Raw::subscribe(&relay, &format!("?cursor={cursor}"));
        let message = raw.message();
        let (_, payload) = items(&message);
        assert_eq!(text(&payload, "error"), "FutureCursor", "{cursor}");
        site.publish_post(&mut account);
        assert_eq!(raw.close_code(), 1008, "{cursor}");
        assert!(raw.is_at_end(), "{cursor}");
    }
}

/// Before the first event every seq is one of the future, and 0 is not.
///
/// Rule 28: <https://github.com/bluesky-social/atproto/blob/main/packages/pds/src/api/com/atproto/sync/subscribeRepos.ts>
#[test]
fn nothing_is_the_past_of_an_empty_relay() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut all = Subscriber::connect(&relay, Some("0")).unwrap();
    for cursor in ["1", "10"] {
        let mut subscriber = Subscriber::connect(&relay, Some(cursor)).unwrap();
        assert_eq!(subscriber.next(), Next::Note(-1, "FutureCursor".into()));
        assert_eq!(subscriber.next(), Next::Close(1008));
    }
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    all.expect(&[&event]);
}

/// Rule 31: <https://atproto.com/specs/event-stream#websocket-transport>
#[test]
fn what_is_no_cursor_is_refused_before_the_stream() {
    let mut site = Site::new(1);
    let (relay, ..) = ten_events(&mut site);
    let accepted = relay.metric("relay_subscribers_accepted_total");
    for cursor in [
        "abc",
        "1.5",
        "1e3",
        "0x10",
        "%205",
        "5%20",
        "-5",
        "-1",
        "-0",
        "+5",
        "%2B5",
        "5,6",
        "null",
        "%00",
        "%D9%A5",
        "9223372036854775808",
        "99999999999999999999999",
    ] {
        let (status, body) = Subscriber::connect(&relay, Some(cursor)).err().unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]), (400, &"InvalidRequest".into()));
        assert!(body["message"].is_string(), "{cursor}");
    }
    let now = relay.metric("relay_subscribers_accepted_total");
    assert_eq!(now, accepted, "none of them was a subscriber");
}

/// What two see while it happens is what a third reads later from any seq on, byte for byte, and
/// what a fourth reads from the next process.
///
/// Rules 19, 20, 21: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_seq_means_the_same_bytes_to_everybody_at_any_time() {
    let mut site = Site::new(2);
    let relay = site.start_crawling();
    let mut live = [Raw::subscribe(&relay, ""), Raw::subscribe(&relay, "")];
    let mut accounts = [site.account(0), site.account(1)];
    let mut events = 0;
    for n in 0..30 {
        for account in &mut accounts {
            if n % 10 == 3 {
                site.network.publish(account.host, &account.identity());
                site.network.publish(account.host, &account.account());
                events += 2;
            }
            site.publish_post(account);
            events += 1;
        }
    }
    let [first, second] = live.each_mut().map(|raw| {
        let messages = (0..events).map(|_| raw.message());
        messages.collect::<Vec<_>>()
    });
    assert_eq!(first, second);
    let seqs: Vec<_> = first.iter().map(|message| seq(message)).collect();
    assert!(seqs.is_sorted_by(|before, after| before < after));
    assert!(seqs[0] >= 1 && seqs.iter().all(|seq| *seq <= SEQ_MAX));
    let same_from = |relay: &Relay, at: usize| {
        let mut raw = Raw::subscribe(relay, &format!("?cursor={}", seqs[at]));
        for message in &first[at + 1..] {
            assert_eq!(raw.message(), *message);
        }
    };
    for at in [0, 1, events / 2, events - 2] {
        same_from(&relay, at);
    }
    stop(relay);
    let relay = site.start();
    for at in [0, events / 2] {
        same_from(&relay, at);
    }
    let event = site.publish_post(&mut accounts[0]);
    let mut raw = Raw::subscribe(&relay, &format!("?cursor={}", seqs[events - 1]));
    let message = raw.message();
    assert!(message.ends_with(&event.tail));
    assert!(seq(&message) > seqs[events - 1] && seq(&message) <= SEQ_MAX);
}

/// The oldest file of the log leaves, because the log takes more room than it may: what was in it
/// is gone, who asks for it is told so first, and for everybody else nothing has changed.
///
/// Rules 10, 29, 36: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_cursor_from_before_the_window_is_told_what_it_missed() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..4 {
        // What can not be compressed.
        let text: String = (0..600_000).map(|_| rng.alphanumeric()).collect();
        let post = account.post(&text);
        let event = account.commit(&[post]);
        site.network.publish(0, &event);
        subscriber.expect(&[&event]);
    }
    // What a process has written is a file of its own for the next one.
    stop(relay);
    let relay = site.start_crawling();
    let kept: Vec<_> = (0..6).map(|_| site.publish_post(&mut account)).collect();
    let mut kept: Vec<_> = kept.iter().collect();
    Subscriber::connect(&relay, Some("4"))
        .unwrap()
        .expect(&kept);
    stop(relay);
    site.variables = vec![("RELAY_RETENTION_BYTES", "1M".into())];
    let relay = site.start_crawling();
    wait_until("the oldest have left", || {
        relay.metric("relay_oldest_seq") == 5
    });

    let mut raw = Raw::subscribe(&relay, "?cursor=3");
    let message = raw.message();
    assert!(
        HEXLOWER
            .encode(&message)
            .starts_with("a261746523696e666f626f7001a2")
    );
    let (_, payload) = items(&message);
    assert_eq!(keys(&payload), ["name", "message"]);
    assert_eq!(text(&payload, "name"), "OutdatedCursor");
    assert_eq!(seq(&raw.message()), 5);

    let last = site.publish_post(&mut account);
    kept.push(&last);
    for (cursor, is_old, from) in [
        ("1", true, 0),
        ("3", true, 0),
        // Whoever has seen the last that left misses nothing.
        ("4", false, 0),
        ("0", false, 0),
        ("5", false, 1),
        ("10", false, 6),
    ] {
        let mut subscriber = Subscriber::connect(&relay, Some(cursor)).unwrap();
        if is_old {
            assert_eq!(subscriber.next(), Next::Note(1, "OutdatedCursor".into()));
        }
        subscriber.expect(&kept[from..]);
    }
}

/// Everything is too old for a window of no length; what comes then is there until retention looks
/// again. A seq is not given a second time.
///
/// Rules 30, 36, 37: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn what_is_older_than_the_window_leaves_and_a_gap_is_no_loss() {
    let mut site = Site::new(1);
    let (relay, mut account, _) = ten_events(&mut site);
    stop(relay);
    site.variables = vec![
        ("RELAY_RETENTION_HOURS", "0".into()),
        ("RELAY_INITIAL_SEQ_NUMBER", "1000".into()),
    ];
    let relay = site.start_crawling();
    let first = |cursor: &str| Raw::subscribe(&relay, cursor).message();
    wait_until("all of them have left", || {
        let message = first("?cursor=9");
        let (header, _) = items(&message);
        text(&header, "t") == "#info"
    });
    let events: Vec<_> = (0..2).map(|_| site.publish_post(&mut account)).collect();
    let mut raw = Raw::subscribe(&relay, "?cursor=1");
    assert_eq!(text(&items(&raw.message()).1, "name"), "OutdatedCursor");
    for (n, event) in (1000..).zip(&events) {
        let message = raw.message();
        assert_eq!(seq(&message), n);
        assert!(message.ends_with(&event.tail));
    }
    // 11 to 999 were never given: whoever has seen 10, or asks for anything after it, misses
    // nothing.
    for cursor in ["0", "10", "11", "500", "999"] {
        assert_eq!(seq(&first(&format!("?cursor={cursor}"))), 1000, "{cursor}");
    }
    assert_eq!(seq(&first("?cursor=1000")), 1001);
}

/// The first seq of a relay, and that of one that has given others, where it is told to begin
/// higher; where it is told to begin lower, it goes on.
///
/// Rules 30, 37: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_relay_can_be_told_to_begin_with_a_higher_seq() {
    let mut site = Site::new(1);
    let mut account = site.account(0);
    let mut seqs: Vec<u64> = Vec::new();
    for (initial, expected) in [
        ("100", 100),
        ("5000000000", 5_000_000_000),
        ("7", 5_000_000_002),
    ] {
        site.variables = vec![("RELAY_INITIAL_SEQ_NUMBER", initial.into())];
        let relay = site.start_crawling();
        let mut live = Raw::subscribe(&relay, "");
        for n in 0..2 {
            site.publish_post(&mut account);
            assert_eq!(seq(&live.message()), expected + n);
            seqs.push(expected + n);
        }
        for cursor in [1, 99, 100, 101, 4_000_000_000, 4_999_999_999, 5_000_000_000] {
            let later = seqs.iter().filter(|seq| **seq > cursor);
            let mut raw = match later.clone().count() {
                0 => continue,
                _ => Raw::subscribe(&relay, &format!("?cursor={cursor}")),
            };
            for expected in later {
                assert_eq!(seq(&raw.message()), *expected, "from {cursor}");
            }
        }
        drop(live);
        stop(relay);
    }
}

/// Two hosts speak all the time. Meanwhile subscribers come with old cursors: what they read is on
/// the disk, and then in memory, and then new, and nothing is missing or there twice.
///
/// Rules 25, 32: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_replay_becomes_live_while_events_flow() {
    let mut site = Site::new(2);
    let relay = site.start_crawling();
    let mut accounts = [0, 1].map(|host| [0; 4].map(|_| site.account(host)));
    let mut events: u64 = 0;
    for _ in 0..50 {
        for account in accounts.as_flattened_mut() {
            site.publish_post(account);
            events += 1;
        }
    }
    wait_until("the past is over", || relay.metric("relay_seq") == events);
    // The memory of the next process has none of this.
    stop(relay);
    let relay = site.start_crawling();
    let ended = AtomicBool::new(false);
    let mut speaker = site.account(0);
    let last = next_commit(&mut speaker);
    let whole = std::thread::scope(|scope| {
        let (network, relay, ended, tail) = (&site.network, &relay, &ended, &last.tail);
        // Whatever fails here, they end, and with them the scope.
        let _ender = Ender(ended);
        for accounts in &mut accounts {
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    for account in &mut *accounts {
                        network.publish(account.host, &next_commit(account));
                    }
                    std::thread::sleep(PACE);
                }
            });
        }
        let read = move |cursor: u64| {
            let mut raw = Raw::subscribe(relay, &format!("?cursor={cursor}"));
            let mut messages: Vec<Vec<u8>> = Vec::new();
            for expected in cursor + 1.. {
                let message = raw.message();
                assert_eq!(seq(&message), expected, "from {cursor}");
                let is_last = message.ends_with(tail);
                messages.push(message);
                if is_last {
                    break;
                }
            }
            messages
        };
        let cursors = [0, 1, events / 2, events - 1, events];
        let readers = cursors.map(|cursor| scope.spawn(move || read(cursor)));
        wait_until("all have come and much has happened since", || {
            let count = |name| relay.metric(name);
            count("relay_subscribers") == 5 && count("relay_seq") >= events + 500
        });
        network.publish(0, &last);
        let read = readers.map(|reader| reader.join().unwrap());
        assert!(read.iter().all(|messages| read[0].ends_with(messages)));
        read[0].len() as u64
    });
    assert!(whole > events + 500);
    assert!(relay.metric("relay_replay_reads_total{tier=\"store\"}") > 0);
}

/// Tells others to end, also when a test fails.
struct Ender<'a>(&'a AtomicBool);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One subscriber stops reading. It is cut when it has taken nothing for a minute, which this test
/// waits for; until then and after it, another one is served without delay.
///
/// Rules 34, 35: <https://atproto.com/specs/event-stream#error-frames>
#[test]
fn who_stops_reading_is_cut_and_delays_nobody() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let mut quick = Subscriber::from_the_beginning(&relay);
    let mut slow = Raw::connect_narrow(relay.public, Some(16 << 10)).upgraded("");
    let too_slow = || relay.metric("relay_subscriber_disconnects_total{reason=\"too_slow\"}") == 1;
    // More than the sockets hold, then a few at a time.
    let large = "x".repeat(500_000);
    let deadline = Instant::now() + 4 * SUBSCRIBER_STALL_MAX;
    let mut events = 0;
    while !too_slow() {
        assert!(Instant::now() < deadline, "it is never cut");
        let text = if events < 40 { &large } else { "short" };
        let post = account.post(text);
        let event = account.commit(&[post]);
        site.network.publish(0, &event);
        quick.expect(&[&event]);
        events += 1;
        if events > 40 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    // What was on its way still arrives, and the connection ends. Why it is over is told before
    // that as far as it can be: the relay tries for a few seconds only, so it may not come. A test
    // of the firehose, which gives it more time, shows that it does.
    let mut last = Vec::new();
    while let Some(frame) = slow.frame() {
        match frame.first {
            first if first == FINAL | BINARY => last = frame.payload,
            first => {
                assert_eq!(first, FINAL | CLOSE);
                assert!(frame.payload.starts_with(&1008u16.to_be_bytes()));
                assert_eq!(text(&items(&last).1, "error"), "ConsumerTooSlow");
            }
        }
    }
    let event = next_commit(&mut account);
    site.network.publish(0, &event);
    quick.expect(&[&event]);
    wait_until("it is gone", || relay.metric("relay_subscribers") == 1);
}
