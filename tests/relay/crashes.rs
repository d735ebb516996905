//! Ends of the process, sudden and orderly, in the middle of traffic.

use std::time::{Duration, Instant};

use zlay::{
    sim::{Network, account::Account},
    threads::{Stop, stop_pair},
};

use crate::{
    follower::Follower,
    site::{Site, TIMEOUT, next_commit, wait_until},
    subscriber::{Next, Seen, Subscriber},
};

/// Times that the process is killed.
const KILLS: usize = 6;
/// Events that pass between two kills, at least.
const EVENTS_BETWEEN_KILLS: usize = 120;
/// Between two events that are sent.
const PACE: Duration = Duration::from_millis(2);
/// Events that have not come at which sending pauses: a busy machine must not make the hosts
/// forget what the relay has not read.
const OUTSTANDING_MAX: u64 = 500;

/// Eight accounts of each host.
pub(crate) fn accounts(site: &mut Site) -> Vec<Account> {
    let hosts = site.network.len();
    (0..8 * hosts).map(|n| site.account(n % hosts)).collect()
}

/// Sends events of all kinds until the stop. The accounts stay at their hosts: an `#identity` of any
/// other host, a former one included, passes once more when it is read again after a kill.
pub(crate) fn send(network: &Network, accounts: &mut [Account], stop: &Stop) {
    let mut rng = fastrand::Rng::with_seed(3);
    while !stop.wait(PACE) {
        if network.expected().outstanding() >= OUTSTANDING_MAX {
            continue;
        }
        let at = rng.usize(..accounts.len());
        let account = &mut accounts[at];
        let event = match rng.u8(..10) {
            0 => account.identity(),
            1 => account.account(),
            2 => {
                // One commit is not announced; the sync after it says so.
                next_commit(account);
                account.sync().unwrap()
            }
            _ => next_commit(account),
        };
        network.publish(account.host, &event);
    }
}

/// Everything that the relay of the site still has.
fn replay(subscriber: &mut Subscriber, events: usize) -> Vec<Seen> {
    (0..events).map(|_| subscriber.event()).collect()
}

/// Rules 33, 39, 192: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn kills_in_the_middle_of_traffic_lose_and_repeat_nothing() {
    let mut site = Site::new(3);
    let mut accounts = accounts(&mut site);
    let expected = site.network.expected().clone();
    let mut relay = site.start_crawling();
    let follower = Follower::start(&relay, expected.clone());
    let (stopper, stop) = stop_pair();
    std::thread::scope(|scope| {
        // Whatever fails here, the traffic ends, and with it the scope.
        let _stopper = stopper;
        scope.spawn(|| send(&site.network, &mut accounts, &stop));
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
    assert!(site.network.hosts().iter().all(|host| host.outdated() == 0));
    let followed = follower.stop();
    assert!(followed.len() > KILLS * EVENTS_BETWEEN_KILLS);

    // A seq means the same to whoever comes later as to those who saw it first.
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    assert_eq!(replay(&mut subscriber, followed.len()), followed);
    assert_eq!(relay.metric("relay_seq"), followed.len() as u64);
    assert_eq!(relay.metric("relay_panics_total"), 0);
}

/// Rule 17: <https://github.com/bluesky-social/atproto/blob/main/packages/ws-client/src/client.ts>
/// Rule 40: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn a_stop_is_orderly_and_the_rest_comes_after_the_next_start() {
    let mut site = Site::new(3);
    let mut accounts = accounts(&mut site);
    let expected = site.network.expected().clone();
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let (stopper, stop) = stop_pair();
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        let stopper = stopper;
        scope.spawn(|| send(&site.network, &mut accounts, &stop));
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
            .is_some_and(|line| line.contains(" stopped seq="))
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
