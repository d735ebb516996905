//! Where a subscription begins, for every kind of cursor
//! (<https://atproto.com/specs/event-stream#sequence-numbers>).

use zlay::sim::event::Event;

use crate::{
    site::{Relay, Site},
    subscriber::{Next, Subscriber},
};

/// A relay that has ten events, and their account.
fn ten_events(site: &mut Site) -> (Relay, zlay::sim::account::Account, Vec<Event>) {
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let events: Vec<_> = (0..10).map(|_| site.publish_post(&mut account)).collect();
    Subscriber::from_the_beginning(&relay).expect(&events.iter().collect::<Vec<_>>());
    (relay, account, events)
}

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
        (connect(Some("10")), 10),
    ];
    // A live subscriber is one from when its handshake is done: this comes after all of them.
    events.push(site.publish_post(&mut account));
    let events: Vec<_> = events.iter().collect();
    for (mut subscriber, from) in subscribers {
        subscriber.expect(&events[from..]);
    }
}

#[test]
fn a_cursor_of_the_future_is_an_error_and_the_end() {
    let mut site = Site::new(1);
    let (relay, ..) = ten_events(&mut site);
    for cursor in ["11", "1000000", "9223372036854775807"] {
        let mut subscriber = Subscriber::connect(&relay, Some(cursor)).unwrap();
        assert_eq!(subscriber.next(), Next::Note(-1, "FutureCursor".into()));
        assert_eq!(subscriber.next(), Next::Close(1008));
    }
}

#[test]
fn what_is_no_cursor_is_refused_before_the_stream() {
    let site = Site::new(1);
    let relay = site.start();
    for cursor in ["abc", "-1", "1.5", "1e3", "+5", "9223372036854775808"] {
        let (status, body) = Subscriber::connect(&relay, Some(cursor)).err().unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["error"]), (400, &"InvalidRequest".into()));
    }
}
