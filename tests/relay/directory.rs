//! The PLC directory fails: what is known goes on, what is not waits, and nothing is lost.

use zlay::sim::{account::Account, event::Event, plc::PlcFaults};

use crate::{
    site::{Relay, Site, next_commit, wait_until},
    subscriber::Subscriber,
};

/// The directory answers every request with an error, or no longer.
fn set_down(site: &Site, fail: bool) {
    site.network.plc().set_faults(PlcFaults {
        fail,
        ..PlcFaults::default()
    });
}

/// Waits until so many events wait for an identity.
pub(crate) fn wait_until_waiting(relay: &Relay, events: u64) {
    wait_until("events wait", || {
        relay.metric("relay_events_waiting") == events
    });
}

/// Sends the first events of an account, of which one is not signed by the account; returns those
/// that must arrive.
pub(crate) fn publish_first_events(
    site: &Site,
    account: &mut Account,
    stranger: &Account,
) -> Vec<Event> {
    let mut events = vec![account.account()];
    events.extend((0..3).map(|_| next_commit(account)));
    for (n, event) in events.iter().enumerate() {
        if n == 2 {
            let mut forged = account.clone();
            forged.key = stranger.key.clone();
            let forged = next_commit(&mut forged);
            let reject = zlay::reject::Reject::SignatureInvalid;
            site.network.publish_invalid(account.host, &forged, reject);
        }
        site.network.publish(account.host, event);
    }
    events
}

/// Rule 152: <https://atproto.com/specs/sync>
/// Rule 193: <https://atproto.com/specs/sync#event-ordering>
#[test]
fn unknown_accounts_wait_while_all_others_go_on() {
    let mut site = Site::new(2);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut known = [site.account(0), site.account(1)];
    for account in &mut known {
        let event = site.publish_post(account);
        subscriber.expect(&[&event]);
    }
    set_down(&site, true);
    let mut unknown = [site.account(0), site.account(0), site.account(1)];
    let mut awaited = Vec::new();
    for account in &mut unknown {
        awaited.extend(publish_first_events(&site, account, &known[0]));
    }
    wait_until_waiting(&relay, 15);
    for account in &mut known {
        let events: Vec<_> = (0..20).map(|_| site.publish_post(account)).collect();
        subscriber.expect(&events.iter().collect::<Vec<_>>());
    }
    assert_eq!(relay.metric("relay_events_waiting"), 15);
    assert_eq!(relay.metric("relay_seq"), 42);
    let failures =
        relay.metric("relay_identity_lookups_total{method=\"plc\",result=\"unreachable\"}");
    wait_until("the directory is asked again", || {
        relay.metric("relay_identity_lookups_total{method=\"plc\",result=\"unreachable\"}")
            > failures
    });
    assert!(relay.rejects().is_empty());

    set_down(&site, false);
    subscriber.expect(&awaited.iter().collect::<Vec<_>>());
    // What was forged has waited like the rest, and was refused.
    wait_until_waiting(&relay, 0);
    assert_eq!(relay.rejects()["signature_invalid"], 3);
    let events: Vec<_> = unknown.iter_mut().map(|a| site.publish_post(a)).collect();
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    assert_eq!(site.network.host(0).connections(), 1);
}

/// Rule 152: <https://atproto.com/specs/sync>
/// Rule 192: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn what_waits_when_the_process_is_killed_arrives_once() {
    let mut site = Site::new(1);
    let mut relay = site.start_crawling();
    let mut known = site.account(0);
    let mut events = vec![site.publish_post(&mut known)];
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    subscriber.expect(&[&events[0]]);
    set_down(&site, true);
    let mut unknown = site.account(0);
    let waiting = publish_first_events(&site, &mut unknown, &known);
    wait_until_waiting(&relay, 5);
    // These overtake what waits, and will be sent again with it.
    let overtaking: Vec<_> = (0..5).map(|_| site.publish_post(&mut known)).collect();
    subscriber.expect(&overtaking.iter().collect::<Vec<_>>());
    relay.kill();

    // The directory is still away. Now the relay knows nobody any more, and all of them wait.
    relay = site.start();
    wait_until_waiting(&relay, 10);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    events.extend(overtaking);
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    relay.kill();

    relay = site.start();
    wait_until_waiting(&relay, 10);
    set_down(&site, false);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    events.extend(waiting);
    subscriber.expect(&events.iter().collect::<Vec<_>>());
    wait_until_waiting(&relay, 0);
    let last = [
        site.publish_post(&mut unknown),
        site.publish_post(&mut known),
    ];
    subscriber.expect(&last.iter().collect::<Vec<_>>());
    let rejects = relay.rejects();
    assert_eq!(rejects["signature_invalid"], 1);
    assert_eq!(rejects["duplicate"], 5, "what had overtaken it");
    assert_eq!(rejects.len(), 2, "{rejects:?}");
}
