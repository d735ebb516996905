//! Every forgery that the simulator knows is refused for its reason and changes nothing.

use std::collections::BTreeMap;

use zlay::sim::{
    account::Account,
    forge::{self, Flaw},
};

use crate::{
    site::{Site, next_commit},
    subscriber::Subscriber,
};

/// The flaws that the simulator injects at random, each at least once.
///
/// Rules 80, 81, 82, 83, 84, 85, 87, 88, 89, 90, 91, 92, 93: <https://atproto.com/specs/sync#commit-validation>
/// Rules 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105: <https://atproto.com/specs/sync#commit-validation>
/// Rules 106, 107, 108, 109, 110, 111, 112, 113, 114: <https://atproto.com/specs/sync#commit-validation>
/// Rules 120, 121, 122, 132: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn every_forgery_is_refused_for_its_reason_and_changes_nothing() {
    let mut site = Site::new(1);
    let relay = site.start_crawling();
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut bystander = site.account(0);
    subscriber.expect(&[&site.publish_post(&mut bystander)]);
    let mut rng = fastrand::Rng::with_seed(11);
    // An account each: a signature that does not hold makes the relay ask for the account's
    // document anew, and that not often.
    for flaw in Flaw::ALL {
        let mut account: Account = site.account(0);
        let history: Vec<_> = (0..3).map(|_| site.publish_post(&mut account)).collect();
        subscriber.expect(&history.iter().collect::<Vec<_>>());
        let before = relay.rejects();

        let forged = forge::forge(&account, bystander.did(), *flaw, &mut rng);
        site.network.publish_invalid(0, &forged, flaw.reject());
        let (next, sentinel) = (next_commit(&mut account), next_commit(&mut bystander));
        site.network.publish(0, &next);
        site.network.publish(0, &sentinel);

        // `next` continues the last commit before the forgery.
        subscriber.expect(&[&next, &sentinel]);
        let mut after = before;
        *after.entry(flaw.reject().name().to_owned()).or_default() += 1;
        assert_eq!(relay.rejects(), after, "{flaw:?}");
    }
    let counted: BTreeMap<String, u64> = relay.rejects();
    let injected = site.network.expected().rejects().into_iter();
    let injected: BTreeMap<String, u64> = injected.map(|(k, v)| (k.to_owned(), v)).collect();
    assert_eq!(counted, injected);
    // Whatever was let through did so unbroken, and one connection was enough for all of it.
    assert_eq!(relay.metric("relay_events_discontinuous_total"), 0);
    assert_eq!(site.network.host(0).connections(), 1);
}
