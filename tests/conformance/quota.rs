//! How much a host may send: what is over a limit waits, and nobody else does.

use std::time::{Duration, Instant};

use zlay::{
    limits::HOST_EVENTS_A_SECOND_MAX,
    sim::{account::Account, event::Event},
};

use crate::{
    site::{Site, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

/// Events that keep a host waiting for four seconds.
const FLOOD: u64 = 5 * HOST_EVENTS_A_SECOND_MAX;
const DELAYED: &str = "relay_events_delayed_total{limit=\"second\"}";

/// Two hosts that are not trusted.
fn strangers() -> Stage {
    let mut site = Site::new(2);
    let trusted = ("RELAY_TRUSTED_DOMAINS", "*.example.com".to_owned());
    site.variables.push(trusted);
    Stage::on(site)
}

/// The first host says very much at once.
fn flood(stage: &Stage, account: &mut Account, count: u64) -> Vec<Event> {
    let events: Vec<_> = (0..count).map(|_| next_commit(account)).collect();
    for event in &events {
        stage.site.network.publish(0, event);
    }
    events
}

/// The flood takes as long as the limit says, all of it arrives in order, and an event of another
/// host, sent after all of it, is there before it is over. The wait is to be seen meanwhile, and it
/// takes some seconds because it is what is shown.
///
/// Rules 54, 55: <https://atproto.com/specs/sync>
#[test]
fn a_flooding_host_is_delayed_and_another_is_not() {
    let mut stage = strangers();
    let mut account = stage.known_account();
    let mut other = stage.site.account(1);
    stage.pass_from(1, &[&next_commit(&mut other)]);
    let names = [0, 1].map(|host| stage.site.network.host(host).name().to_owned());

    let began = Instant::now();
    let events = flood(&stage, &mut account, FLOOD);
    let meanwhile = next_commit(&mut other);
    stage.site.network.publish(1, &meanwhile);
    let mut before = Vec::new();
    loop {
        let seen = stage.subscriber.event();
        if seen.did == **other.did() {
            assert_eq!(seen.digest, meanwhile.digest());
            break;
        }
        before.push(seen.digest);
    }
    let (early, late) = events.split_at(before.len());
    assert!(
        !late.is_empty(),
        "the other host did not wait for the flood"
    );
    let early: Vec<_> = early.iter().map(Event::digest).collect();
    assert_eq!(before, early);

    wait_until("the host is shown as throttled", || {
        stage.relay.of_host(&names[0], "/status") == "throttled"
    });
    let state = stage.relay.of_host(&names[0], "/state");
    assert!(
        state.as_str().unwrap().contains("events per second"),
        "{state}"
    );
    stage.subscriber.expect(&late.iter().collect::<Vec<_>>());
    // What a quiet host may say at once, and then so many a second.
    let least = (FLOOD - HOST_EVENTS_A_SECOND_MAX) / HOST_EVENTS_A_SECOND_MAX;
    assert!(began.elapsed() >= Duration::from_secs(least) - Duration::from_millis(100));

    assert!(stage.relay.metric(DELAYED) > 0);
    assert!(stage.relay.of_host(&names[0], "/events/delayed").as_u64() > Some(0));
    assert_eq!(stage.relay.of_host(&names[1], "/events/delayed"), 0);
    assert!(stage.relay.rejects().is_empty());
    wait_until("it is active again", || {
        stage.relay.of_host(&names[0], "/status") == "active"
    });
    for host in stage.site.network.hosts() {
        assert_eq!(host.connections(), 1, "the connection was kept");
    }
}

/// A ban and a stop do not wait for a host that waits, and what had to wait is not lost.
///
/// Rule 54: <https://atproto.com/specs/sync>
#[test]
fn a_wait_ends_with_a_ban_and_with_a_stop() {
    let mut stage = strangers();
    let mut account = stage.known_account();
    let host = stage.site.network.host(0).clone();
    let mut events = flood(&stage, &mut account, FLOOD);
    wait_until("it waits", || stage.relay.metric(DELAYED) > 0);
    stage
        .relay
        .decide(&format!("/admin/pds/block?host={}", host.name()), "");
    wait_until("the connection ends", || host.connected() == 0);
    assert_eq!(stage.relay.of_host(host.name(), "/status"), "banned");
    stage
        .relay
        .decide(&format!("/admin/pds/unblock?host={}", host.name()), "");
    let before = stage.relay.metric(DELAYED);
    events.extend(flood(&stage, &mut account, 2 * HOST_EVENTS_A_SECOND_MAX));
    wait_until("it waits again", || stage.relay.metric(DELAYED) > before);

    stage.subscriber.leave();
    let Stage {
        site,
        relay,
        bystander,
        ..
    } = stage;
    relay.terminate();
    assert!(relay.ended().0.success());
    let relay = site.start();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let earlier: Vec<_> = (0..2).map(|_| subscriber.event().did).collect();
    assert_eq!(earlier, [&**bystander.did(), &**account.did()]);
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    assert!(relay.rejects().is_empty(), "{:?}", relay.rejects());
}

/// A trusted host may say the same at once.
///
/// Rule 54: <https://atproto.com/specs/sync#security-considerations>
#[test]
fn a_trusted_host_does_not_wait() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let events = flood(&stage, &mut account, FLOOD);
    stage.subscriber.expect(&events.iter().collect::<Vec<_>>());
    assert_eq!(stage.relay.metric(DELAYED), 0);
    let host = stage.site.network.host(0).name();
    assert_eq!(stage.relay.of_host(host, "/trusted"), true);
}
