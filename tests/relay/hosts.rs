//! How the relay keeps up with hosts that come, go, start anew, and misbehave at one place.

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
}

/// Rule 46: <https://atproto.com/specs/sync#limits>
#[test]
fn a_message_that_is_always_too_large_is_passed_over() {
    let mut stage = Stage::set_up();
    stage.pass([1, 2]);
    let size = zlay::limits::FRAME_BYTES_MAX + 1;
    stage.host.say_raw(3, Bytes::from(vec![0xa0; size]));
    stage.pass([4, 5]);
    assert_eq!(stage.relay.rejects()["frame_malformed"], 3);
    assert_eq!(stage.relay.metric("relay_upstream_skipped_total"), 1);
}

/// Status and error name of the answer to requestCrawl.
fn crawl(relay: &Relay, hostname: &str) -> (u16, String) {
    let (status, body) = relay.request_crawl(hostname);
    let error = body["error"].as_str().unwrap_or_default();
    (status, error.to_owned())
}

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
    assert_eq!(relay.metric("relay_host_connects_total"), 0);
    assert_eq!(relay.metric("relay_host_connect_failures_total"), 0);
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
        stage.relay.metric("relay_host_connect_failures_total") > 0
    });
    // It would be sent on every one of these attempts.
    events.push(stage.say(2));
    let failures = stage.relay.metric("relay_host_connect_failures_total");
    wait_until("it is tried again", || {
        stage.relay.metric("relay_host_connect_failures_total") > failures
    });
    assert_eq!(stage.relay.metric("relay_seq"), 1);
    stage.host.set_relay(false);
    stage.subscriber.expect(&[&events[1]]);
}

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
