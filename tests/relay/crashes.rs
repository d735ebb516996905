//! Ends of the process, sudden and orderly, in the middle of traffic.

use std::time::{Duration, Instant};

use zlay::{
    sim::traffic::{Mix, Traffic},
    threads::stop_pair,
};

use crate::{
    follower::Follower,
    site::{Site, TIMEOUT, wait_until},
    subscriber::{Next, Seen, Subscriber},
};

/// Times that the process is killed.
const KILLS: usize = 6;
/// Events that pass between two kills, at least.
const EVENTS_BETWEEN_KILLS: usize = 120;

fn mix() -> Mix {
    Mix {
        seed: 3,
        accounts: 8,
        records: 10,
        rate: 400.0,
        ..Mix::default()
    }
}

/// Everything that the relay of the site still has.
fn replay(subscriber: &mut Subscriber, events: usize) -> Vec<Seen> {
    (0..events).map(|_| subscriber.event()).collect()
}

#[test]
fn kills_in_the_middle_of_traffic_lose_and_repeat_nothing() {
    let site = Site::new(3);
    let expected = site.network.expected().clone();
    let mut relay = site.start_crawling();
    let follower = Follower::start(&relay, expected.clone());
    let mut traffic = Traffic::new(site.network.clone(), mix());
    let (stopper, stop) = stop_pair();
    std::thread::scope(|scope| {
        // Whatever fails here, the traffic ends, and with it the scope.
        let _stopper = stopper;
        scope.spawn(|| traffic.run(&stop, Instant::now() + 10 * TIMEOUT));
        for _ in 0..KILLS {
            let before = follower.count();
            wait_until("events pass", || {
                follower.count() >= before + EVENTS_BETWEEN_KILLS
            });
            relay.kill();
            relay = site.start();
            follower.turn_to(&relay);
        }
        let before = follower.count();
        wait_until("events pass", || {
            follower.count() >= before + EVENTS_BETWEEN_KILLS
        });
    });
    // What is missing in the end is said by name.
    let deadline = Instant::now() + TIMEOUT;
    while expected.outstanding() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let differences = expected.verdict();
    assert!(differences.none(), "{differences:#?}");
    let followed = follower.stop();
    assert!(followed.len() > KILLS * EVENTS_BETWEEN_KILLS);

    // A seq means the same to whoever comes later as to those who saw it first.
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    assert_eq!(replay(&mut subscriber, followed.len()), followed);
    assert_eq!(relay.metric("relay_seq"), followed.len() as u64);
    assert_eq!(relay.metric("relay_panics_total"), 0);
}

#[test]
fn a_stop_is_orderly_and_the_rest_comes_after_the_next_start() {
    let site = Site::new(3);
    let expected = site.network.expected().clone();
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut traffic = Traffic::new(site.network.clone(), mix());
    let (stopper, stop) = stop_pair();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let stopper = stopper;
        scope.spawn(|| traffic.run(&stop, Instant::now() + 10 * TIMEOUT));
        let code = loop {
            match subscriber.next() {
                Next::Event(event) => {
                    expected.observe(&event.did, event.digest, &event.kind);
                    seen.push(event);
                }
                Next::Close(code) => break code,
                other => panic!("{other:?}"),
            }
            if seen.len() == 200 {
                relay.terminate();
            }
        };
        assert_eq!(code, 1001, "going away: come back");
        // Some more is said while nobody listens.
        std::thread::sleep(Duration::from_millis(100));
        drop(stopper);
    });
    let (status, log) = relay.ended();
    assert_eq!(status.code(), Some(0));
    assert!(
        log.last()
            .is_some_and(|line| line.contains("stopped at seq"))
    );
    assert!(seen.len() >= 200);

    let relay = site.start();
    let last = seen.last().unwrap().seq.to_string();
    let mut subscriber = Subscriber::connect(&relay, Some(&last)).unwrap();
    while expected.outstanding() > 0 {
        let event = subscriber.event();
        expected.observe(&event.did, event.digest, &event.kind);
        seen.push(event);
    }
    let differences = expected.verdict();
    assert!(differences.none(), "{differences:#?}");
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    assert_eq!(replay(&mut subscriber, seen.len()), seen);
}
