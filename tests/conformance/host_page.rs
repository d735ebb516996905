//! What anybody may know of a host: how it does, and what became of its events.

use std::collections::BTreeMap;

use zlay::{
    reject::Reject,
    sim::forge::{self, Flaw},
};

use crate::{
    site::{Relay, next_commit, wait_until},
    stage::Stage,
};

/// How many events of a host were refused for each reason, as its page says it.
fn refused(relay: &Relay, host: &str) -> BTreeMap<String, u64> {
    let rejected = relay.of_host(host, "/events/rejected");
    let reasons = rejected.as_object().unwrap().iter();
    reasons
        .map(|(reason, value)| {
            assert!(value["meaning"].as_str().unwrap().ends_with('.'), "{value}");
            (reason.clone(), value["count"].as_u64().unwrap())
        })
        .collect()
}

/// Events that are invalid, stale, of an account of another host, of an inactive one and of one
/// that can not be resolved are told apart at the host that sent them, and so are those that do not
/// continue what was there.
///
/// Rule 196: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn a_host_is_told_why_its_events_are_not_forwarded() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(1);
    let names = [0, 1].map(|host| stage.site.network.host(host).name().to_owned());
    let mut account = stage.known_account();
    let other = stage.bystander.did().clone();
    for flaw in [Flaw::WrongKey, Flaw::FlippedByte, Flaw::RevStale] {
        let event = forge::forge(&account, &other, flaw, &mut rng);
        stage.drops(&mut account, &event, flaw.reject());
    }
    let elsewhere = next_commit(&mut account.clone());
    stage.refuse(1, &elsewhere, Reject::WrongHost);
    let unknown = next_commit(&mut stage.site.stranger(0));
    stage.refuse(0, &unknown, Reject::IdentityNotFound);
    let mut inactive = stage.known_account();
    inactive.status = Some("deactivated");
    stage.site.network.register(&inactive);
    stage.pass(&[&inactive.account()]);
    let late = next_commit(&mut inactive);
    stage.refuse(0, &late, Reject::AccountInactive);
    let _lost = next_commit(&mut account);
    stage.pass(&[&next_commit(&mut account)]);

    let relay = &stage.relay;
    let counts = |reasons: &[(Reject, u64)]| {
        let named = reasons.iter().map(|(r, n)| (r.name().to_owned(), *n));
        named.collect::<BTreeMap<_, _>>()
    };
    let expected = counts(&[
        (Reject::SignatureInvalid, 1),
        (Reject::BlockHash, 1),
        (Reject::RevStale, 1),
        (Reject::IdentityNotFound, 1),
        (Reject::AccountInactive, 1),
    ]);
    assert_eq!(refused(relay, &names[0]), expected);
    assert_eq!(refused(relay, &names[1]), counts(&[(Reject::WrongHost, 1)]));
    assert_eq!(relay.of_host(&names[0], "/events/discontinuous"), 1);
    assert_eq!(relay.of_host(&names[1], "/events/discontinuous"), 0);
    assert_eq!(relay.of_host(&names[1], "/events/forwarded"), 0);
    let forwarded = relay.of_host(&names[0], "/events/forwarded");
    assert_eq!(forwarded, relay.metric("relay_events_sequenced_total"));

    let last = relay.of_host(&names[1], "/events/last_rejected");
    assert_eq!(last["reason"], "wrong_host");
    assert_eq!(last["did"], **account.did());
    assert_eq!(last["seq"], stage.site.network.host(1).seq());
    assert!(last["time"].is_string(), "{last}");
    let last = relay.of_host(&names[0], "/events/last_rejected");
    assert_eq!(
        (&last["reason"], &last["did"]),
        (&"account_inactive".into(), &(&**inactive.did()).into())
    );
}

/// Whether the relay is connected to a host, and if not why and until when, is there for anybody.
///
/// Rule 196: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn a_host_is_told_how_it_does() {
    let stage = Stage::set_up();
    let host = stage.site.network.host(0).clone();
    let (status, page) = stage.relay.host_page(host.name());
    assert_eq!(status, 200);
    assert_eq!(
        (&page["status"], &page["state"]),
        (&"active".into(), &"connected".into()),
        "{page}"
    );
    assert_eq!(page["hostname"], *host.name());
    assert_eq!(
        (&page["seq"], &page["accounts"]),
        (&1.into(), &1.into()),
        "{page}"
    );
    assert!(
        page["since"].is_string() && page["first_seen"].is_string(),
        "{page}"
    );
    // The name may come as browsers write it.
    let escaped = host.name().replace(':', "%3A");
    assert_eq!(stage.relay.host_page(&escaped).1["hostname"], *host.name());

    host.set_refuses(true);
    host.inject(zlay::sim::feed::Once::Cut);
    wait_until("the page says what is wrong", || {
        let (_, page) = stage.relay.host_page(host.name());
        page["until"].is_string() && page["last_error"].is_string()
    });
    let state = stage.relay.of_host(host.name(), "/state");
    assert!(
        state.as_str().unwrap().starts_with("not connected"),
        "{state}"
    );
}
