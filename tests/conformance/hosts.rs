//! What the relay does as the client of a host.

use std::{io::ErrorKind, net::TcpListener, time::Duration};

use ipld_core::{ipld, ipld::Ipld};
use serde_json::json;
use tungstenite::Bytes;
use zlay::{
    limits::{
        FRAME_BYTES_MAX, HOST_BACKOFF_FIRST, HOST_BACKOFF_MAX, HOST_BRIEF_FAILURES_MAX,
        HOST_FAILURES_OFFLINE,
    },
    reject::Reject,
    sim::{
        event::{self, Event, header},
        feed::Once,
        forge, wire,
    },
};

use crate::{
    items::{Map, encoded, items},
    plain::Plain,
    raw::Raw,
    scripted::{Future, Scripted},
    site::{Relay, Site, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// Status and error name of the answer to requestCrawl.
fn crawl(relay: &Relay, hostname: &str) -> (u16, String) {
    let (status, body) = relay.request_crawl(hostname);
    let error = body["error"].as_str().unwrap_or_default();
    (status, error.to_owned())
}

/// The status of a host, as anybody may ask for it.
fn status(relay: &Relay, host: &str) -> String {
    let target = format!("/xrpc/com.atproto.sync.getHostStatus?hostname={host}");
    let answer = Raw::ask(relay, "GET", &target, "Host: relay\r\n");
    assert_eq!(answer.status, 200, "{}", answer.head);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    body["status"].as_str().unwrap().to_owned()
}

/// The delays between attempts at a host that the relay has announced in its log.
fn delays(relay: &Relay, host: &str) -> Vec<Duration> {
    let host = format!(" host={host} ");
    let log = relay.log.lock().unwrap();
    let lines = log.iter().filter(|line| line.contains(&host));
    let delays = lines.filter_map(|line| line.rsplit_once(" next_attempt_ms="));
    let delays = delays.map(|(_, ms)| ms.split(' ').next().unwrap().parse().unwrap());
    delays.map(Duration::from_millis).collect()
}

/// Each delay is twice the one before, up to the longest, but for the half that is left to chance.
fn assert_doubling(delays: &[Duration]) {
    for (n, delay) in (0..).zip(delays) {
        let most = HOST_BACKOFF_MAX.min(HOST_BACKOFF_FIRST * 2u32.pow(n));
        let is_between = (most / 2..=most).contains(delay);
        assert!(is_between, "{n}: {delay:?} of {delays:?}");
    }
}

/// The operator asks the relay to crawl a host, which ends its waiting, until it has done so.
fn ask_until(relay: &Relay, host: &str, is_so: impl Fn() -> bool) {
    let body = json!({ "hostname": host }).to_string();
    wait_until("the relay tries a host again", || {
        is_so() || {
            let (status, answer) = relay.admin("/admin/pds/requestCrawl", Some(&body));
            assert_eq!(status, 200, "{answer}");
            false
        }
    });
}

/// Rule 38: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn a_host_that_asks_is_subscribed_to() {
    let mut site = Site::new(0);
    let relay = site.start();
    let host = Scripted::start();
    assert_eq!(crawl(&relay, &host.name()).0, 200);
    host.wait_until_asked(1);
    let heads = host.heads();
    let subscription = heads.last().unwrap().to_ascii_lowercase();
    let line = "get /xrpc/com.atproto.sync.subscriberepos";
    assert!(subscription.starts_with(line), "{subscription}");
    for header in [
        format!("host: {}", host.name()),
        "connection: upgrade".into(),
        "upgrade: websocket".into(),
        "sec-websocket-version: 13".into(),
    ] {
        assert!(
            subscription.contains(&format!("\r\n{header}\r\n")),
            "{subscription}"
        );
    }
    wait_until("it is connected", || {
        relay.metric("relay_hosts_connected") == 1
    });
    // Asking again neither fails nor leads to a second connection.
    assert_eq!(crawl(&relay, &host.name()).0, 200);
    let mut account = host.account(&mut site);
    let event = next_commit(&mut account);
    host.say(1, &event);
    Subscriber::from_the_beginning(&relay).expect(&[&event]);
    assert_eq!(host.asked().len(), 1);
}

/// Hosts whose cursors include the event that was read last: it is not emitted a second time,
/// however the relay ended.
///
/// Rules 39, 40: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn after_a_restart_every_host_goes_on_where_it_was() {
    let mut site = Site::with_tls(3);
    let mut relay = site.start_crawling();
    let mut accounts = [0, 1, 2].map(|host| site.account(host));
    let mut events = Vec::new();
    for killed in [true, false, true] {
        for _ in 0..4 {
            events.extend(
                accounts
                    .each_mut()
                    .map(|account| site.publish_post(account)),
            );
        }
        let all: Vec<_> = events.iter().collect();
        Subscriber::from_the_beginning(&relay).expect(&all);
        for host in site.network.hosts() {
            host.set_inclusive(true);
        }
        let before: Vec<_> = site
            .network
            .hosts()
            .iter()
            .map(|h| h.connections())
            .collect();
        if killed {
            relay.kill();
        } else {
            relay.terminate();
            assert!(relay.ended().0.success());
        }
        relay = site.start();
        // Nobody has asked it to.
        wait_until("it is back at all of them", || {
            let mut hosts = site.network.hosts().iter().zip(&before);
            hosts.all(|(host, before)| host.connections() > *before)
        });
        wait_until("what is sent twice is known", || {
            relay.rejects().values().sum::<u64>() >= 3
        });
        let names: Vec<_> = relay.rejects().into_keys().collect();
        assert!(
            names
                .iter()
                .all(|name| *name == "duplicate" || *name == "rev_stale")
        );
    }
    events.extend(
        accounts
            .each_mut()
            .map(|account| site.publish_post(account)),
    );
    let all: Vec<_> = events.iter().collect();
    Subscriber::from_the_beginning(&relay).expect(&all);
    assert_eq!(relay.metric("relay_seq"), all.len() as u64);
    assert!(site.network.hosts().iter().all(|host| host.outdated() == 0));
}

/// A message with this header and the payload of an event.
fn with_header(header: Ipld, event: &Event, seq: u64) -> Bytes {
    let (_, payload) = items(&event.frame(seq));
    Bytes::from(encoded(&[header, Ipld::Map(payload)]))
}

/// Messages of types and ops that nobody knows, and those that only say something about the host's
/// stream. The payload is that of a commit which would otherwise pass.
///
/// Rules 41, 42, 49: <https://atproto.com/specs/event-stream#framing>
#[test]
fn what_is_not_an_event_is_passed_over() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let host = stage.site.network.host(0).clone();
    let mut ignored = stage.relay.metric("relay_upstream_ignored_total");
    let mut messages: Vec<Bytes> = Vec::new();
    let commit = next_commit(&mut account.clone());
    let types = ["#foo", "#handle", "#tombstone", "#migrate", "#labels", ""];
    for t in types {
        messages.push(with_header(
            ipld!({"t": t, "op": 1}),
            &commit,
            host.seq() + 1,
        ));
    }
    messages.push(with_header(ipld!({"op": 1}), &commit, host.seq() + 1));
    for op in [2, 0, 3, -2, i64::from(i32::MAX), i64::MIN] {
        let header = ipld!({"t": "#commit", "op": op});
        messages.push(with_header(header, &commit, host.seq() + 1));
    }
    for name in ["OutdatedCursor", "SomethingNew"] {
        messages.push(event::info(name, "for people"));
    }
    messages.push(encoded(&[ipld!({"t": "#info", "op": 1}), ipld!({"name": "Bare"})]).into());
    for message in messages {
        host.inject(Once::Binary(message.clone()));
        stage.pass(&[&next_commit(&mut account)]);
        ignored += 1;
        let now = stage.relay.metric("relay_upstream_ignored_total");
        assert_eq!(now, ignored, "{message:?}");
    }
    assert!(stage.relay.rejects().is_empty());
    assert_eq!(host.connections(), 1);
}

/// An event with fields that nobody knows, in the payload, in its ops and in the header; and what
/// is to come of it: the header is the relay's own, and a payload has no `$type`.
fn with_extras(event: &Event) -> (Event, Event) {
    const SEQ: u64 = 1 << 40;
    let (mut frame_header, mut payload) = items(&event.frame(SEQ));
    for (map, keys) in [
        (&mut frame_header, ["a", "zzz"].as_slice()),
        (&mut payload, &["x", "xxxx", "zzzzzzzzzzzzzzzz"]),
    ] {
        for key in keys {
            map.insert((*key).to_owned(), ipld!({"new": [1, null, true], "n": -7}));
        }
    }
    if let Some(Ipld::List(ops)) = payload.get_mut("ops") {
        for op in ops {
            let Ipld::Map(op) = op else { panic!("{op:?}") };
            op.insert("note".to_owned(), Ipld::String("new".into()));
        }
    }
    let of = |header: &[u8], payload: &Map| {
        let payload = encoded(&[Ipld::Map(payload.clone())]);
        let frame = [header, &payload].concat();
        let seq_at = wire::read(&frame).expect("a frame").seq_at;
        Event {
            head: frame[..seq_at.start].to_vec(),
            tail: frame[seq_at.end..].to_vec(),
            ..event.clone()
        }
    };
    let awaited = of(&header(event.kind.name()), &payload);
    let type_name = format!("com.atproto.sync.subscribeRepos{}", event.kind.name());
    payload.insert("$type".to_owned(), Ipld::String(type_name));
    let sent = of(&encoded(&[Ipld::Map(frame_header)]), &payload);
    (sent, awaited)
}

/// Rules 10, 11, 43: <https://atproto.com/specs/event-stream#framing>
#[test]
fn unknown_fields_do_no_harm() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    next_commit(&mut account);
    let mut events = vec![account.sync().unwrap(), next_commit(&mut account)];
    events.extend([account.identity(), account.account()]);
    account.status = Some("deactivated");
    events.push(account.account());
    account.status = None;
    events.push(account.account());
    for event in &events {
        let (sent, awaited) = with_extras(event);
        stage.site.network.host(0).emit(&sent);
        stage.subscriber.expect(&[&awaited]);
    }
    stage.pass(&[&next_commit(&mut account)]);
    assert!(stage.relay.rejects().is_empty());
    assert_eq!(stage.site.network.host(0).connections(), 1);
}

/// What is not the one encoding of a payload, to stand after a good header.
const BROKEN_PAYLOADS: &[(&str, &[u8])] = &[
    ("none", b""),
    ("a map without a length", b"\xbf\x61x\x01\xff"),
    ("a long integer", b"\xa1\x61x\x18\x01"),
    ("keys out of order", b"\xa2\x62bb\x01\x61a\x02"),
    ("a key twice", b"\xa2\x61a\x01\x61a\x02"),
    ("a key that is a number", b"\xa1\x01\x02"),
    ("a float", b"\xa1\x61x\xfa\x3f\x80\x00\x00"),
    ("undefined", b"\xa1\x61x\xf7"),
    ("a tag other than that of links", b"\xa1\x61x\xc1\x01"),
    ("text that is not UTF-8", b"\xa1\x61x\x61\xff"),
    ("a billion items", b"\xa1\x61x\x9a\x40\x00\x00\x00"),
    ("a thousand levels", &[0x81; 1_000]),
];

/// Messages that are not two canonical items, made of one that is.
fn broken(frame: &Bytes) -> Vec<(&'static str, Bytes)> {
    let header = header("#commit");
    let after = |(what, payload): &(&'static str, &[u8])| {
        let message = [&header[..], payload].concat();
        (*what, Bytes::from(message))
    };
    let mut messages: Vec<_> = BROKEN_PAYLOADS.iter().map(after).collect();
    messages.extend([
        ("nothing", Bytes::new()),
        ("half of it", frame.slice(..frame.len() / 2)),
        ("all but its last byte", frame.slice(..frame.len() - 1)),
        ("a byte more", [frame, &b"\xf6"[..]].concat().into()),
        (
            "an item more",
            [frame, &b"\xa1\x61x\x01"[..]].concat().into(),
        ),
        (
            "a list before it",
            [&b"\x82\x01\x02"[..], frame].concat().into(),
        ),
        ("noise", frame.iter().map(|byte| byte ^ 0x5a).collect()),
        ("JSON", Bytes::from_static(b"{\"t\":\"#commit\",\"op\":1}")),
    ]);
    messages
}

/// Each ends the connection of that host and nothing else. The relay comes back after a moment,
/// asks for what follows the last event, and goes on.
///
/// Rules 44, 45: <https://atproto.com/specs/event-stream#framing>
#[test]
fn what_is_not_a_message_ends_the_connection_and_no_more() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let other = stage.site.account(1);
    let other = stage.site.publish_post(&mut { other });
    stage.subscriber.expect(&[&other]);
    let host = stage.site.network.host(0).clone();
    let commit = next_commit(&mut account.clone());
    let messages = broken(&commit.frame(1 << 40)).into_iter();
    let mut ways: Vec<_> = messages.map(|(what, b)| (what, Once::Binary(b))).collect();
    ways.push(("text", Once::Text("hello".into())));
    ways.push(("text of a message", Once::Text(r#"{"op":1}"#.into())));
    for (what, way) in ways {
        let (malformed, connections) = (stage.refused(Reject::FrameMalformed), host.connections());
        host.inject(way);
        ask_until(&stage.relay, host.name(), || {
            host.connections() > connections
        });
        stage.pass(&[&next_commit(&mut account)]);
        assert_eq!(
            stage.refused(Reject::FrameMalformed),
            malformed + 1,
            "{what}"
        );
        assert_eq!(host.connections(), connections + 1, "{what}");
    }
    assert_eq!(stage.site.network.host(1).connections(), 1);
    assert_eq!(stage.relay.metric("relay_panics_total"), 0);
    assert_eq!(stage.relay.rejects().len(), 1);
    // It would have waited a little each time, and a few seconds in the end, had it not been asked.
    let most = HOST_BACKOFF_FIRST * 2u32.pow(HOST_BRIEF_FAILURES_MAX - 1);
    for delay in delays(&stage.relay, host.name()) {
        assert!(
            (HOST_BACKOFF_FIRST / 2..=most).contains(&delay),
            "{delay:?}"
        );
    }
}

/// The memory of the relay that is in use, in bytes.
fn memory(relay: &Relay) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.child.id())).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib = line.trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() << 10
}

/// The limit itself is no fault; a byte more ends the connection, whether it is announced at once
/// or comes in pieces, and none of it is kept.
///
/// Rule 46: <https://atproto.com/specs/sync#limits>
#[test]
fn a_message_that_is_too_large_is_not_even_received() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let host = stage.site.network.host(0).clone();
    // Of a type that nobody knows, so that nothing is wrong with it but its size.
    let start = [&header("#large")[..], b"\xa1\x61x\x5a"].concat();
    let rest = FRAME_BYTES_MAX - start.len() - 4;
    let size = u32::try_from(rest).unwrap().to_be_bytes();
    let largest = [&start[..], &size, &vec![0; rest]].concat();
    assert_eq!(largest.len(), FRAME_BYTES_MAX);
    host.inject(Once::Binary(largest.into()));
    stage.pass(&[&next_commit(&mut account)]);
    assert_eq!(stage.relay.metric("relay_upstream_ignored_total"), 1);
    assert_eq!(host.connections(), 1);

    let before = memory(&stage.relay);
    for n in 1..=12 {
        host.inject(forge::oversized());
        ask_until(&stage.relay, host.name(), || host.connections() > n);
        stage.pass(&[&next_commit(&mut account)]);
        assert_eq!(stage.refused(Reject::FrameMalformed), n);
        assert_eq!(host.connections(), n + 1);
    }
    let scripted = Scripted::start();
    assert_eq!(crawl(&stage.relay, &scripted.name()).0, 200);
    scripted.wait_until_asked(1);
    let mut liar = scripted.account(&mut stage.site);
    let mut say = |stage: &mut Stage, seq: u64| {
        let event = next_commit(&mut liar);
        scripted.say(seq, &event);
        stage.subscriber.expect(&[&event]);
    };
    say(&mut stage, 1);
    // Four exabytes, of which none comes.
    scripted.say_wire(
        2,
        Bytes::from_static(b"\x82\x7f\x3f\xff\xff\xff\xff\xff\xff\xff"),
    );
    say(&mut stage, 3);
    // Pieces of a million bytes without an end.
    let mut pieces = Vec::new();
    for n in 0..8 {
        pieces.extend([if n == 0 { 0x02 } else { 0x00 }, 127]);
        pieces.extend(1_000_000u64.to_be_bytes());
        pieces.extend(vec![0xa0; 1_000_000]);
    }
    scripted.say_wire(4, pieces.into());
    say(&mut stage, 5);
    let grown = memory(&stage.relay).saturating_sub(before);
    assert!(
        grown < 32 << 20,
        "{grown} bytes for 68 MB that were refused"
    );
}

/// A websocket frame of a server, up to 65,535 bytes long.
fn ws_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        long => {
            frame.push(126);
            frame.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Up to the last number that there is; the host is then asked for what follows that one. One of the
/// messages comes in pieces with a ping between them, and is one message all the same.
///
/// Rule 48: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn any_gap_between_two_seqs_is_right() {
    const LAST: u64 = (1 << 53) - 1;
    let mut site = Site::new(0);
    let relay = site.start();
    let host = Scripted::start();
    assert_eq!(crawl(&relay, &host.name()).0, 200);
    host.wait_until_asked(1);
    let mut account = host.account(&mut site);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut pass = |seq: u64, in_pieces: bool| {
        let event = next_commit(&mut account);
        if in_pieces {
            let frame = event.frame(seq);
            let pieces = [
                ws_frame(0x02, &frame[..100]),
                ws_frame(0x00, &frame[100..200]),
                ws_frame(0x89, b"are you there?"),
                ws_frame(0x80, &frame[200..]),
            ];
            host.say_wire(seq, pieces.concat().into());
        } else {
            host.say(seq, &event);
        }
        subscriber.expect(&[&event]);
    };
    for seq in [5, 6, 1_000, 1 << 32, 1 << 40] {
        pass(seq, false);
    }
    pass(LAST - 2, true);
    host.cut();
    host.wait_until_asked(2);
    assert_eq!(host.asked(), [Some(0), Some(LAST - 2)]);
    pass(LAST, false);
    host.cut();
    host.wait_until_asked(3);
    assert_eq!(host.asked()[2], Some(LAST));
    assert!(relay.rejects().is_empty());
}

/// Rule 47: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_seq_that_does_not_increase_is_not_read() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let host = stage.site.network.host(0).clone();
    let mut refused = 0;
    for back in [0, 1, host.seq() - 1] {
        // An event of an account that was never seen, and one that would be the next commit.
        let mut stranger = stage.site.account(0);
        let events = [
            next_commit(&mut stranger),
            next_commit(&mut account.clone()),
        ];
        for event in &events {
            host.emit_at(event, host.seq() - back);
            refused += 1;
        }
        stage.pass(&[&next_commit(&mut account)]);
        assert_eq!(stage.refused(Reject::SeqNotIncreasing), refused);
    }
    assert_eq!(host.connections(), 1);
    assert_eq!(stage.relay.metric("relay_events_discontinuous_total"), 0);
}

/// A host that says to every cursor, and to none, that it lies in the future. The operator's word
/// makes the relay try at once; left alone it waits longer each time, and it asks for nothing in
/// particular.
///
/// Rule 50: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_host_that_knows_no_cursor_is_left_alone_more_and_more() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let host = Scripted::start();
    assert_eq!(crawl(&relay, &host.name()).0, 200);
    host.wait_until_asked(1);
    let mut account = host.account(&mut site);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let event = next_commit(&mut account);
    host.say(1_000, &event);
    subscriber.expect(&[&event]);
    host.set_error(Some("FutureCursor"));
    host.start_anew(Future::Refuse);
    for times in 2..=8 {
        ask_until(&relay, &host.name(), || host.asked().len() >= times);
    }
    let asked = host.asked();
    assert_eq!(asked[..2], [Some(0), Some(1_000)]);
    assert!(asked[2..].iter().all(Option::is_none), "{asked:?}");
    wait_until("it has said how long it waits", || {
        delays(&relay, &host.name()).len() >= 7
    });
    assert_doubling(&delays(&relay, &host.name()));
    let shown = || status(&relay, &host.name());
    wait_until("it is shown as idle", || shown() == "idle");
    // Others are not concerned, and it may come back.
    let mut other = site.account(0);
    subscriber.expect(&[&site.publish_post(&mut other)]);
    host.set_error(None);
    let event = next_commit(&mut account);
    let connected = || relay.metric("relay_hosts_connected") == 2;
    ask_until(&relay, &host.name(), connected);
    host.say(1, &event);
    subscriber.expect(&[&event]);
    // Its sequence starts anew once more, and this time it says nothing of it.
    let before = next_commit(&mut account);
    host.say(50, &before);
    subscriber.expect(&[&before]);
    host.start_anew(Future::Replay);
    let after = next_commit(&mut account);
    host.say(2, &after);
    subscriber.expect(&[&after]);
    wait_until("it is shown as active", || shown() == "active");
    assert!(relay.rejects().is_empty());
}

/// Left alone the relay waits twice as long each time; the operator's word ends each wait at once, and
/// so does the host's own. What it said while it was away is not lost, nor is it forgotten over a restart:
/// then it is tried without a word of anybody.
///
/// Rule 51: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn a_host_that_is_not_there_is_tried_ever_more_rarely_until_it_asks() {
    let mut stage = Stage::set_up();
    let host = stage.site.network.host(0).clone();
    host.set_refuses(true);
    host.inject(Once::Cut);
    let offline = usize::try_from(HOST_FAILURES_OFFLINE).unwrap();
    ask_until(&stage.relay, host.name(), || {
        delays(&stage.relay, host.name()).len() >= offline
    });
    let delays = delays(&stage.relay, host.name());
    assert_doubling(&delays);
    // It would not be tried for a while.
    assert!(delays.last().unwrap() > &Duration::from_secs(30));
    let shown = |stage: &Stage| status(&stage.relay, host.name());
    wait_until("it is shown as offline", || shown(&stage) == "offline");
    let page = stage.relay.host_page(host.name()).1;
    assert!(page["failures"].as_u64() >= Some(HOST_FAILURES_OFFLINE.into()));
    assert!(page["until"].is_string() && page["last_error"].is_string());
    let said = stage.site.publish_post(&mut stage.bystander);
    host.set_refuses(false);
    assert_eq!(crawl(&stage.relay, host.name()).0, 200);
    stage.subscriber.expect(&[&said]);
    wait_until("it is shown as active", || shown(&stage) == "active");
    assert_eq!(host.connections(), 2);

    host.set_refuses(true);
    host.inject(Once::Cut);
    ask_until(&stage.relay, host.name(), || shown(&stage) == "offline");
    let said = stage.site.publish_post(&mut stage.bystander);
    stage.restart();
    assert_eq!(shown(&stage), "offline");
    host.set_refuses(false);
    stage.subscriber.expect(&[&said]);
    wait_until("it is shown as active", || shown(&stage) == "active");
}

/// Who says in any way that it is a relay is not crawled, and is when it no longer does.
///
/// Rule 52: <https://github.com/bluesky-social/indigo/blob/main/cmd/relay/HACKING.md>
#[test]
fn relays_are_not_crawled() {
    let site = Site::new(0);
    let relay = site.start();
    let invalid = (400, "InvalidRequest".to_owned());
    for server in [
        "atproto-relay",
        "indigo/0.1 (atproto-relay)",
        "relay/2 ATPROTO-RELAY (rust)",
        zlay::USER_AGENT,
    ] {
        let pds = r#"{"did":"did:web:localhost","availableUserDomains":[]}"#;
        let other = Plain::start(move |_| (format!("200 OK\r\nServer: {server}"), pds.into()));
        assert_eq!(crawl(&relay, &other.name()), invalid, "{server}");
        assert_eq!(other.heads().len(), 1, "{server}");
    }
    let host = Scripted::start();
    host.set_relay(true);
    assert_eq!(crawl(&relay, &host.name()), invalid);
    host.set_relay(false);
    assert_eq!(crawl(&relay, &host.name()).0, 200);
    host.wait_until_asked(1);
    // It becomes one: its stream is not read.
    host.set_relay(true);
    host.cut();
    wait_until("it is tried and refused", || relay.failed_connects() > 0);
    assert_eq!(relay.metric("relay_hosts_connected"), 0);
}

/// Nothing is connected to that is not on the public network, whatever it is called; the listener
/// that they lead to is there and hears nothing. Names that resolve to such addresses are refused
/// at the connection, which the tests of `outbound` show.
///
/// Rule 53: <https://atproto.com/specs/sync#security-considerations>
#[test]
fn strangers_can_not_point_the_relay_at_private_addresses() {
    let mut site = Site::new(0);
    site.variables = vec![("RELAY_ALLOW_PRIVATE_HOSTS", "false".into())];
    let relay = site.start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for name in [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.88.99.1",
        "8.8.8.8",
        "::1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
        "[2001::1]",
        "[fc00::1]",
        "[fe80::1]",
        "[fe80::1%25lo]",
        "[2606:4700::1111]",
        "pds",
        "intranet",
        "pds.local",
        "pds.localhost",
        "pds.internal",
        "pds.home.arpa",
        "pds.test",
        "user@pds.example.com",
        "pds.example.com/path",
    ] {
        for name in [
            name.to_owned(),
            format!("{name}:{port}"),
            format!("http://{name}:{port}"),
            format!("https://{name}"),
            format!("wss://{name}:{port}/"),
        ] {
            let (status, error) = crawl(&relay, &name);
            assert_eq!((status, &*error), (400, "InvalidRequest"), "{name}");
        }
    }
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
    assert_eq!(
        relay.metric("relay_host_connects_total{result=\"connected\"}"),
        0
    );
    assert_eq!(relay.failed_connects(), 0);
}

/// A host that answers with a redirect, to the check and to the subscription: neither is followed,
/// so that nobody is led to where they were not allowed to go.
///
/// Rule 53: <https://atproto.com/specs/sync#security-considerations>
#[test]
fn redirects_of_a_host_are_not_followed() {
    let site = Site::new(0);
    let relay = site.start();
    let pds = r#"{"did":"did:web:localhost","availableUserDomains":[]}"#;
    let target = Plain::start(move |_| ("200 OK".into(), pds.into()));
    let location = format!("Location: http://{}/there", target.name());
    let to = location.clone();
    let checked = Plain::start(move |_| (format!("302 Found\r\n{to}"), String::new()));
    let not_found = (400, "HostNotFound".to_owned());
    assert_eq!(crawl(&relay, &checked.name()), not_found);
    let subscribed = Plain::start(move |path| match path {
        "/xrpc/com.atproto.server.describeServer" => ("200 OK".into(), pds.into()),
        _ => (
            format!("307 Temporary Redirect\r\n{location}"),
            String::new(),
        ),
    });
    assert_eq!(crawl(&relay, &subscribed.name()).0, 200);
    wait_until("it has been tried twice", || relay.failed_connects() >= 2);
    assert_eq!(target.heads(), Vec::<String>::new());
    assert_eq!(checked.heads().len(), 1);
}

/// One account says much among many others, some of which are new; its document is forgotten and
/// asked for again in the middle. What is its own comes in its own order.
///
/// Rule 55: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn the_events_of_an_account_keep_their_order() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let mut events = Vec::new();
    let mut others = Vec::new();
    for n in 0..300 {
        events.push(match n % 50 {
            20 => account.identity(),
            40 => account.account(),
            41 => {
                // One commit is not announced; the sync after it says so.
                next_commit(&mut account);
                account.sync().unwrap()
            }
            _ => next_commit(&mut account),
        });
        if n % 10 == 0 {
            let host = others.len() % 2;
            others.push(stage.site.account(host));
        }
        let len = others.len();
        let other = &mut others[n % len];
        let word = next_commit(other);
        stage.site.network.publish(other.host, &word);
        stage.site.network.publish(0, events.last().unwrap());
        events.push(word);
    }
    let events: Vec<_> = events.iter().collect();
    stage.subscriber.expect(&events);
    assert!(stage.relay.rejects().is_empty());
}
