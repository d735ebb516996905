//! What the frames of the firehose look like, to the byte, and how the connection around them is
//! kept.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ipld_core::ipld::Ipld;
use zlay::{
    limits::SUBSCRIBER_PING_INTERVAL,
    sim::{account::record, repo::Write},
};

use crate::{
    items::{Map, int, items, keys, text},
    raw::{BINARY, CLOSE, CONTINUATION, FINAL, PING, PONG, Raw, TEXT},
    site::{Site, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// The type of a post.
const POST: &str = "app.bsky.feed.post";
/// The header of each type of event, in hexadecimal.
const HEADERS: &[(&str, &str)] = &[
    ("#commit", "a261746723636f6d6d6974626f7001"),
    ("#sync", "a26174652373796e63626f7001"),
    ("#identity", "a2617469236964656e74697479626f7001"),
    ("#account", "a2617468236163636f756e74626f7001"),
];

/// The fields of each, in the order in which they must come.
const FIELDS: &[(&str, &str)] = &[
    (
        "#commit",
        "ops rev seq repo time blobs since blocks commit rebase tooBig prevData",
    ),
    ("#sync", "did rev seq time blocks"),
    ("#identity", "did seq time handle"),
    ("#account", "did seq time active status"),
];

/// What the table says of a type.
fn of<'a>(table: &[(&str, &'a str)], t: &str) -> &'a str {
    let row = table.iter().find(|(name, _)| *name == t);
    row.unwrap_or_else(|| panic!("{t}")).1
}

/// Checks everything about one event; its header and payload.
fn check(message: &[u8]) -> (Map, Map) {
    let (header, payload) = items(message);
    let t = text(&header, "t");
    let hex = HEXLOWER.encode(message);
    assert!(hex.starts_with(of(HEADERS, t)), "{t}: {hex:.60}");
    assert_eq!(keys(&header), ["t", "op"]);
    assert_eq!(int(&header, "op"), 1);
    assert!(!payload.contains_key("$type"));
    // As the bytes are canonical, their order is that of the keys; what may be absent is.
    let mut expected: Vec<_> = of(FIELDS, t).split(' ').collect();
    let optional = ["prevData", "handle", "status"];
    expected.retain(|key| payload.contains_key(*key) || !optional.contains(key));
    assert_eq!(keys(&payload), expected, "{t}");
    if let Some(Ipld::List(ops)) = payload.get("ops") {
        for op in ops {
            let Ipld::Map(op) = op else { panic!("{op:?}") };
            let mut expected = vec!["cid", "path", "prev", "action"];
            expected.retain(|key| op.contains_key(*key) || *key != "prev");
            assert_eq!(keys(op), expected);
        }
    }
    (header, payload)
}

/// All four types of event with and without what is optional, live and from the store, decoded by
/// another implementation. The sequence is moved so that every length of an integer occurs.
///
/// Rules 9, 10: <https://atproto.com/specs/event-stream#framing>
/// Rule 11: <https://dasl.ing/drisl.html>
#[test]
fn every_frame_is_two_canonical_maps_and_nothing_else() {
    let mut site = Site::new(1);
    let mut account = site.account(0);
    let mut all: Vec<Vec<u8>> = Vec::new();
    // On both sides of the last integer of each length.
    for first in [20, 252, 65_532, (1u64 << 32) - 4] {
        let initial = ("RELAY_INITIAL_SEQ_NUMBER", first.to_string());
        site.variables = vec![initial];
        let relay = site.start_crawling();
        let mut live = Raw::subscribe(&relay, "");
        let identity = account.identity();
        let nameless = identity.without_handle().unwrap();
        let mut events = vec![identity, nameless, account.account()];
        account.status = Some("deactivated");
        events.push(account.account());
        account.status = None;
        events.push(account.account());
        let path = format!("{POST}/{first}");
        let (post, changed) = (record(POST, "as it was", 1), record(POST, "changed", 1));
        for writes in [
            &[Write::Put(path.clone(), post)][..],
            &[Write::Put(path.clone(), changed)],
            &[Write::Delete(path)],
            &[],
        ] {
            events.push(account.commit(writes));
        }
        next_commit(&mut account);
        events.push(account.sync().unwrap());
        for event in &events {
            site.network.publish(0, event);
        }
        for seq in (first..).take(events.len()) {
            let message = live.message();
            let (_, payload) = check(&message);
            assert_eq!(int(&payload, "seq"), i128::from(seq));
            all.push(message);
        }
        let mut replay = Raw::subscribe(&relay, "?cursor=0");
        for message in &all {
            assert_eq!(replay.message(), *message);
        }
        drop((live, replay));
        relay.terminate();
        assert!(relay.ended().0.success());
    }
    // Every type was there, and every field of it.
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in &all {
        let (header, payload) = items(message);
        let seen = fields.entry(text(&header, "t").to_owned()).or_default();
        seen.extend(payload.keys().cloned());
    }
    for (t, expected) in FIELDS {
        let seen = &fields[*t];
        for field in expected.split(' ') {
            assert!(seen.iter().any(|f| f == field), "no {t} with {field}");
        }
    }
}

/// Nothing comes after an error frame but the close frame and the end of the connection, though the
/// client neither answers nor closes, and though events flow.
///
/// Rules 12, 13: <https://atproto.com/specs/event-stream#error-frames>
#[test]
fn an_error_frame_is_the_last() {
    let mut stage = Stage::set_up();
    let mut raw = Raw::subscribe(&stage.relay, "?cursor=1000");
    let message = raw.message();
    assert!(HEXLOWER.encode(&message).starts_with("a1626f7020a2"));
    let (header, payload) = items(&message);
    assert_eq!(keys(&header), ["op"]);
    assert_eq!(int(&header, "op"), -1);
    assert_eq!(keys(&payload), ["error", "message"]);
    assert_eq!(text(&payload, "error"), "FutureCursor");
    assert!(!text(&payload, "message").is_empty());
    stage.sentinel();
    assert_eq!(raw.close_code(), 1008);
    stage.sentinel();
    assert!(raw.is_at_end());
}

/// Messages of any kind, whole and in pieces, however long: the stream goes on as if there were
/// none, and pings among them are answered.
///
/// Rule 14: <https://atproto.com/specs/event-stream#framing>
#[test]
fn messages_of_a_subscriber_change_nothing() {
    let mut stage = Stage::set_up();
    let mut raw = Raw::subscribe(&stage.relay, "");
    let frames: &[(u8, Vec<u8>)] = &[
        (FINAL | TEXT, b"hello".to_vec()),
        (FINAL | TEXT, Vec::new()),
        (FINAL | TEXT, br#"{"type":"options_update"}"#.to_vec()),
        // Not UTF-8, which is nobody's business here.
        (FINAL | TEXT, vec![0xff, 0xfe]),
        (FINAL | BINARY, b"\xa1\x62op\x20\xa1\x65error\x61x".to_vec()),
        (FINAL | BINARY, vec![0x88; 300_000]),
        (TEXT, b"in ".to_vec()),
        (CONTINUATION, b"three ".to_vec()),
        (FINAL | PING, b"between".to_vec()),
        (FINAL | CONTINUATION, b"pieces".to_vec()),
        (FINAL | PONG, b"unasked".to_vec()),
    ];
    for (first, payload) in frames {
        raw.send_frame(*first, payload);
        let ping = *first == FINAL | PING;
        if ping {
            let pong = raw.frame().expect("an answer");
            assert_eq!((pong.first, pong.payload), (FINAL | PONG, payload.clone()));
        }
        let event = next_commit(&mut stage.bystander);
        stage.pass(&[&event]);
        let message = raw.message();
        assert!(message.ends_with(&event.tail), "after {first:02x}");
    }
    assert_eq!(stage.relay.metric("relay_subscribers"), 2);
    assert_eq!(
        stage
            .relay
            .metric("relay_subscriber_disconnects_total{reason=\"gone\"}"),
        0
    );
}

/// A subscriber that is far behind and reads little asks whether anybody is there: the answer comes
/// in the middle of the backlog, not behind it.
///
/// Rule 15: <https://www.rfc-editor.org/rfc/rfc6455#section-5.5.3>
#[test]
fn pings_are_answered_in_the_middle_of_a_replay() {
    const EVENTS: usize = 50;
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    // 35 MB: more than lies between two programs.
    for n in 0..EVENTS {
        let post = account.post(&format!("{n}").repeat(700_000 / n.to_string().len()));
        let event = account.commit(&[post]);
        site.network.publish(0, &event);
        subscriber.expect(&[&event]);
    }
    let mut raw = Raw::connect_narrow(relay.public, Some(16 << 10)).upgraded("?cursor=0");
    raw.message();
    let mut events = 1;
    for payload in [&b""[..], b"are you there?", &[0x80; 125]] {
        raw.send_frame(FINAL | PING, payload);
        let pong = loop {
            let frame = raw.frame().expect("a frame");
            if frame.first == FINAL | PONG {
                break frame;
            }
            assert_eq!(frame.first, FINAL | BINARY);
            events += 1;
        };
        assert_eq!(pong.payload, payload);
        assert!(events < EVENTS, "only at the end of the replay");
    }
    for _ in events..EVENTS {
        raw.message();
    }
    let event = site.publish_post(&mut account);
    assert!(raw.message().ends_with(&event.tail));
}

/// Who is sent nothing is pinged, and stays when it answers. This takes as long as the relay waits
/// before it pings.
///
/// Rule 16: <https://atproto.com/specs/event-stream#websocket-transport>
#[test]
fn a_quiet_subscriber_is_pinged() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut raw = Raw::subscribe(&relay, "");
    raw.be_patient(2 * SUBSCRIBER_PING_INTERVAL);
    let ping = raw.frame().expect("a ping");
    assert_eq!(ping.first, FINAL | PING);
    raw.send_frame(FINAL | PONG, &ping.payload);
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    assert!(raw.message().ends_with(&event.tail));
    assert_eq!(relay.metric("relay_subscribers"), 1);
}

/// Who was live from the beginning, and who began with a replay.
///
/// Rule 17: <https://github.com/bluesky-social/atproto/blob/main/packages/ws-client/src/client.ts>
#[test]
fn at_a_stop_subscribers_are_told_to_come_back() {
    let mut stage = Stage::set_up();
    let mut live = Raw::subscribe(&stage.relay, "");
    let mut replaying = Raw::subscribe(&stage.relay, "?cursor=0");
    replaying.message();
    stage.sentinel();
    live.message();
    replaying.message();
    stage.subscriber.leave();
    stage.relay.terminate();
    for raw in [&mut live, &mut replaying] {
        assert_eq!(raw.close_code(), 1001);
        raw.send_frame(FINAL | CLOSE, &1001u16.to_be_bytes());
        assert!(raw.is_at_end());
    }
    let Stage {
        relay, subscriber, ..
    } = stage;
    drop(subscriber);
    assert_eq!(relay.ended().0.code(), Some(0));
}

/// Those who leave in good order, who only close, who reset the connection, and who do so in the
/// middle of a replay.
///
/// Rule 18: <https://github.com/bluesky-social/indigo/blob/main/cmd/relay/relay/broadcast.go>
#[test]
fn who_goes_is_forgotten() {
    let mut stage = Stage::set_up();
    let subscribers = |stage: &Stage| {
        let metrics = stage.relay.metrics();
        let threads = metrics["relay_threads{role=\"subscriber\"}"];
        (metrics["relay_subscribers"], threads)
    };
    let before = subscribers(&stage);
    for query in ["", "?cursor=0"] {
        let mut polite = Raw::subscribe(&stage.relay, query);
        let closed = Raw::subscribe(&stage.relay, query);
        let reset = Raw::subscribe(&stage.relay, query);
        wait_until("all are there", || subscribers(&stage).0 == before.0 + 3);
        polite.send_frame(FINAL | CLOSE, &1000u16.to_be_bytes());
        drop(closed);
        reset.vanish();
        // The client's own code comes back, after what was on its way.
        let answer = loop {
            let frame = polite.frame().expect("a close frame");
            if frame.first != FINAL | BINARY {
                break frame;
            }
        };
        assert_eq!(answer.first, FINAL | CLOSE);
        wait_until("all are forgotten", || subscribers(&stage) == before);
        stage.sentinel();
    }
}
