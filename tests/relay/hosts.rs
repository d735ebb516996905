//! How the relay keeps up with hosts that come, go, start anew, and misbehave at one place.

use serde_json::Value;
use tungstenite::Bytes;
use zlay::sim::{account::Account, event::Event, feed::Once};

use crate::{
    scripted::{Future, Scripted},
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

/// A relay that crawls a scripted host, an account of that host, and a subscriber.
struct Stage {
    site: Site,
    host: Scripted,
    account: Account,
    relay: Relay,
    subscriber: Subscriber,
}

impl Stage {
    fn set_up() -> Stage {
        let mut site = Site::new(1);
        let host = Scripted::start();
        let relay = site.start();
        assert_eq!(relay.request_crawl(&host.name()).0, 200);
        host.wait_until_asked(1);
        Stage {
            account: host.account(&mut site),
            subscriber: Subscriber::from_the_beginning(&relay),
            site,
            host,
            relay,
        }
    }

    /// The host's page says that so many of its messages were refused, and for what, and that it is
    /// connected all the same.
    fn page_says(&self, reason: &str, count: u64) {
        wait_until("it is connected", || {
            self.relay.of_host(&self.host.name(), "/last_error") == Value::Null
        });
        let page = self.relay.host_page(&self.host.name()).1;
        let refused = &page["events"]["rejected"][reason];
        assert_eq!(refused["count"], count, "{page}");
        assert!(refused["meaning"].as_str().unwrap().ends_with('.'));
        assert_eq!(page["events"]["last_rejected"]["reason"], *reason);
        assert_eq!(page["status"], "active");
    }

    /// The host says a commit of its account.
    fn say(&mut self, seq: u64) -> Event {
        let event = next_commit(&mut self.account);
        self.host.say(seq, &event);
        event
    }

    /// The host says commits, and they arrive.
    fn pass(&mut self, seqs: impl IntoIterator<Item = u64>) -> Vec<Event> {
        let events: Vec<_> = seqs.into_iter().map(|seq| self.say(seq)).collect();
        self.subscriber.expect(&events.iter().collect::<Vec<_>>());
        events
    }
}

/// Rules 39, 40: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn a_host_is_asked_for_what_follows_the_last_event_read() {
    let mut stage = Stage::set_up();
    let mut events = stage.pass([3, 4, 9]);
    stage.host.cut();
    stage.host.wait_until_asked(2);
    events.extend(stage.pass([10]));
    // What is refused is read too.
    let mut copy = stage.account.clone();
    copy.key = stage.site.stranger(0).key;
    stage.host.say(11, &next_commit(&mut copy));
    events.extend(stage.pass([12]));
    stage.host.cut();
    stage.host.wait_until_asked(3);
    assert_eq!(stage.host.asked(), [Some(0), Some(9), Some(12)]);

    // And so it is after the end of the process, however that came.
    stage.relay.terminate();
    assert!(stage.relay.ended().0.success());
    let mut relay = stage.site.start();
    stage.host.wait_until_asked(4);
    assert_eq!(stage.host.asked()[3], Some(12));
    events.push(next_commit(&mut stage.account));
    stage.host.say(20, events.last().unwrap());
    Subscriber::from_the_beginning(&relay).expect(&events.iter().collect::<Vec<_>>());
    relay.kill();
    let relay = stage.site.start();
    stage.host.wait_until_asked(5);
    assert_eq!(stage.host.asked()[4], Some(20));
    Subscriber::from_the_beginning(&relay).expect(&events.iter().collect::<Vec<_>>());
}

/// Rule 39: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn a_host_is_found_again_however_its_connection_ends() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let (mut account, host) = (site.account(0), site.network.host(0).clone());
    for n in 1..=6 {
        subscriber.expect(&[&site.publish_post(&mut account)]);
        let frame = next_commit(&mut account.clone()).frame(host.seq() + 1);
        host.inject(match n % 3 {
            0 => Once::Cut,
            1 => Once::CutInside(frame),
            _ => Once::Close,
        });
        wait_until("the relay comes back", || host.connections() > n);
    }
    subscriber.expect(&[&site.publish_post(&mut account)]);
    assert_eq!(host.outdated(), 0);
}

/// Rule 50: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_host_that_says_future_cursor_is_heard_from_then_on() {
    let mut stage = Stage::set_up();
    stage.pass([1_000, 1_001]);
    stage.host.start_anew(Future::Refuse);
    // Asked for what it never said, it refuses; then it is asked for nothing in particular.
    stage.host.wait_until_asked(3);
    assert_eq!(stage.host.asked(), [Some(0), Some(1_001), None]);
    stage.pass([1, 2, 3]);
    stage.host.cut();
    stage.host.wait_until_asked(4);
    assert_eq!(stage.host.asked()[3], Some(3));
    stage.pass([4]);
    assert!(stage.relay.rejects().is_empty());
    // What was passed over is said to whoever asks, also later.
    let name = stage.host.name();
    let says_so = |relay: &Relay| {
        let skipped = relay.of_host(&name, "/last_skipped");
        assert_eq!(skipped["reason"], "the host sent the error FutureCursor");
        assert!(skipped["time"].is_string(), "{skipped}");
        let path = format!("/admin/hosts/detail?host={name}");
        assert_eq!(relay.look(&path)["last_skipped"], skipped);
    };
    says_so(&stage.relay);
    stage.subscriber.leave();
    stage.relay.terminate();
    assert!(stage.relay.ended().0.success());
    let relay = stage.site.start();
    stage.host.wait_until_asked(5);
    assert_eq!(stage.host.asked()[4], Some(4));
    says_so(&relay);
}

/// A host is away for a while, and nobody asks for it: it is tried again by itself, and what it said
/// meanwhile comes.
///
/// Rules 39, 51: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn a_host_that_was_away_is_found_again_without_a_word() {
    let mut site = Site::new(2);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let (mut account, host) = (site.account(0), site.network.host(0).clone());
    subscriber.expect(&[&site.publish_post(&mut account)]);
    host.set_refuses(true);
    host.inject(Once::Cut);
    wait_until("some attempts have failed", || {
        relay.of_host(host.name(), "/failures").as_u64() >= Some(3)
    });
    let page = relay.host_page(host.name()).1;
    assert_eq!(page["status"], "active", "not yet offline");
    assert!(page["state"].as_str().unwrap().contains("not connected"));
    assert!(page["until"].is_string() && page["last_error"].is_string());
    let events: Vec<_> = (0..5).map(|_| site.publish_post(&mut account)).collect();
    // Others are not concerned.
    let mut other = site.account(1);
    subscriber.expect(&[&site.publish_post(&mut other)]);
    host.set_refuses(false);
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    wait_until("its page says that all is well", || {
        relay.of_host(host.name(), "/failures") == 0
    });
    let page = relay.host_page(host.name()).1;
    let rest = (&page["last_error"], &page["last_skipped"]);
    assert_eq!(rest, (&Value::Null, &Value::Null), "{page}");
    assert_eq!(host.outdated(), 0);
    assert!(relay.rejects().is_empty());
}

/// A host that has announced itself says its first word while the relay is off, and another one while it
/// is banned: neither is missed, though there was nothing to go on from.
///
/// Rule 40: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn the_first_word_of_a_host_is_not_missed() {
    let mut site = Site::new(2);
    let mut relay = site.start_crawling();
    let (mut first, mut second) = (site.account(0), site.account(1));
    relay.kill();
    let event = site.publish_post(&mut first);
    relay = site.start();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    subscriber.expect(&[&event]);
    let host = site.network.host(1).clone();
    relay.ban(host.name(), true);
    wait_until("the connection ends", || host.connected() == 0);
    let event = site.publish_post(&mut second);
    relay.ban(host.name(), false);
    subscriber.expect(&[&event]);
}

#[test]
fn a_host_that_goes_back_without_a_word_is_heard_from_where_it_is() {
    let mut stage = Stage::set_up();
    stage.pass([1_000, 1_001]);
    stage.host.start_anew(Future::Replay);
    stage.pass([1, 2]);
    stage.host.cut();
    stage.host.wait_until_asked(3);
    assert_eq!(stage.host.asked(), [Some(0), Some(1_001), Some(2)]);
    // The same numbers as in its first life are not the same events.
    stage.pass(3..8);
    stage.pass([1_000, 1_001, 1_002]);
    assert!(stage.relay.rejects().is_empty());
}

/// Rule 45: <https://atproto.com/specs/event-stream#framing>
#[test]
fn a_frame_that_always_breaks_the_connection_is_passed_over() {
    let mut stage = Stage::set_up();
    stage.pass([1, 2]);
    // A payload that is a map without a length, which is not canonical.
    let header = zlay::sim::event::header("#commit");
    let poison = Bytes::from([&header[..], &[0xbf, 0xff]].concat());
    stage.host.say_raw(3, poison.clone());
    stage.pass([4, 5]);
    assert_eq!(stage.host.asked(), [Some(0), Some(2), Some(2)]);
    assert_eq!(stage.relay.rejects()["frame_malformed"], 3);
    assert_eq!(stage.relay.metric("relay_upstream_skipped_total"), 1);
    // It is behind: nothing reminds of it when the connection is lost for another reason.
    stage.host.cut();
    stage.host.wait_until_asked(4);
    assert_eq!(stage.host.asked()[3], Some(5));
    stage.pass([6]);
    // The next one has as many chances as the first.
    stage.host.say_raw(7, poison);
    stage.pass([8]);
    assert_eq!(stage.host.asked()[4..], [Some(6), Some(6)]);
    stage.page_says("frame_malformed", 6);
}

/// Rule 46: <https://atproto.com/specs/sync#limits>
#[test]
fn a_message_that_is_always_too_large_is_passed_over() {
    let mut stage = Stage::set_up();
    stage.pass([1, 2]);
    let size = zlay::limits::FRAME_BYTES_MAX + 1;
    stage.host.say_raw(3, Bytes::from(vec![0xa0; size]));
    let name = stage.host.name();
    wait_until("its page says what is wrong", || {
        let why = stage.relay.of_host(&name, "/last_error");
        why == "a message is over 5,000,000 bytes"
    });
    stage.pass([4, 5]);
    assert_eq!(stage.relay.rejects()["frame_malformed"], 3);
    assert_eq!(stage.relay.metric("relay_upstream_skipped_total"), 1);
    stage.page_says("frame_malformed", 3);
}

/// A host that says nothing, and one whose first message comes byte by byte and does not end: that is
/// what their pages say, and neither delays anybody. The message is an event like any other once it is
/// whole. What ends such connections takes minutes, and is shown by the tests of `host`.
///
/// Rule 54: <https://atproto.com/specs/sync>
#[test]
fn hosts_that_say_nothing_or_say_it_slowly_delay_nobody() {
    let mut stage = Stage::set_up();
    let silent = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&silent.name()).0, 200);
    silent.wait_until_asked(1);
    let slow = Scripted::start();
    assert_eq!(stage.relay.request_crawl(&slow.name()).0, 200);
    slow.wait_until_asked(1);
    let mut account = slow.account(&mut stage.site);
    let event = next_commit(&mut account);
    let frame = event.frame(1);
    let len = u16::try_from(frame.len()).unwrap().to_be_bytes();
    let wire: Bytes = [&[0x82, 126][..], &len, &frame].concat().into();
    let (most, last) = (wire.slice(..wire.len() - 1), wire.slice(wire.len() - 1..));
    for byte in most.chunks(1) {
        slow.say_wire(1, Bytes::copy_from_slice(byte));
    }
    stage.pass([1, 2, 3]);
    for host in [&silent, &slow] {
        wait_until("its page says that it is connected", || {
            stage.relay.of_host(&host.name(), "/state") == "connected"
        });
        let page = stage.relay.host_page(&host.name()).1;
        assert_eq!(page["status"], "active");
        let events = &page["events"];
        assert_eq!(
            (&events["received"], &events["last_received"]),
            (&0.into(), &Value::Null)
        );
        assert!(page["last_connected"].is_string());
        assert_eq!(host.asked().len(), 1);
    }
    stage.pass([4]);
    slow.say_wire(1, last);
    stage.subscriber.expect(&[&event]);
    assert_eq!(
        stage.relay.of_host(&slow.name(), "/events/received"),
        1,
        "the bytes were one message"
    );
    assert!(stage.relay.rejects().is_empty());
}

/// Status and error name of the answer to requestCrawl.
fn crawl(relay: &Relay, hostname: &str) -> (u16, String) {
    let (status, body) = relay.request_crawl(hostname);
    let error = body["error"].as_str().unwrap_or_default();
    (status, error.to_owned())
}

/// Rules 164, 165, 167: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
/// Rule 38: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
/// Rule 52: <https://github.com/bluesky-social/indigo/blob/main/cmd/relay/HACKING.md>
#[test]
fn hosts_that_can_not_be_crawled_are_refused_with_the_reason() {
    let site = Site::new(1);
    let relay = site.start();
    let relaying = Scripted::start();
    relaying.set_relay(true);
    let invalid = (400, "InvalidRequest".to_owned());
    let not_found = (400, "HostNotFound".to_owned());
    assert_eq!(crawl(&relay, &relaying.name()), invalid);
    // Another zlay is a relay too.
    let other = Site::new(1);
    let other_relay = other.start();
    let port = other_relay.public.port();
    assert_eq!(crawl(&relay, &format!("localhost:{port}")), invalid);
    assert_eq!(crawl(&relay, "10.0.0.1"), invalid);
    assert_eq!(crawl(&relay, "localhost:1/path"), invalid);
    let host = site.network.host(0);
    host.set_refuses(true);
    assert_eq!(crawl(&relay, host.name()), not_found);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    assert_eq!(crawl(&relay, &format!("localhost:{port}")), not_found);
    // None of them was kept, and what is right now is not held against the host.
    host.set_refuses(false);
    assert_eq!(
        relay.metric("relay_host_connects_total{result=\"connected\"}"),
        0
    );
    assert_eq!(relay.failed_connects(), 0);
    assert_eq!(crawl(&relay, host.name()).0, 200);
    site.wait_until_connected();
    assert_eq!(
        crawl(&relay, host.name()).0,
        200,
        "asking again is no error"
    );
    assert_eq!(host.connections(), 1);
}

/// Rule 52: <https://github.com/bluesky-social/indigo/blob/main/cmd/relay/HACKING.md>
#[test]
fn a_host_that_becomes_a_relay_is_not_listened_to() {
    let mut stage = Stage::set_up();
    let mut events = stage.pass([1]);
    stage.host.set_relay(true);
    stage.host.cut();
    wait_until("it is tried and refused", || {
        stage.relay.failed_connects() > 0
    });
    // It would be sent on every one of these attempts.
    events.push(stage.say(2));
    let failures = stage.relay.failed_connects();
    wait_until("it is tried again", || {
        stage.relay.failed_connects() > failures
    });
    assert_eq!(stage.relay.metric("relay_seq"), 1);
    stage.host.set_relay(false);
    stage.subscriber.expect(&[&events[1]]);
}

/// Rule 139: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn an_account_is_heard_again_though_the_word_of_it_was_lost() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut live = Subscriber::connect(&relay, None).unwrap();
    let mut alice = site.account(0);
    let first = next_commit(&mut alice);
    site.network.publish(0, &first);
    alice.status = Some("deactivated");
    site.network.register(&alice);
    let gone = alice.account();
    site.network.publish(0, &gone);
    // It is active again, and its host says so only when it is asked.
    alice.status = None;
    site.network.register(&alice);
    let second = next_commit(&mut alice);
    site.network.publish(0, &second);
    live.expect(&[&first, &gone, &second]);
    assert_eq!(relay.metric("relay_account_status_asked_total"), 1);
    assert!(relay.rejects().is_empty(), "{:?}", relay.rejects());
}
