//! `#identity`: the document of an account may have changed, its key, its host or its handle
//! (<https://atproto.com/specs/sync#identity-events>).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use zlay::{
    limits,
    reject::Reject,
    sim::{
        account::Account,
        clock,
        event::{self, Event},
        keys::{Curve, Key},
    },
};

use crate::{
    site::{next_commit, wait_until},
    stage::Stage,
};

/// An `#identity` of an account with some handle.
fn identity(account: &Account, handle: Option<&str>) -> Event {
    event::identity(account.did(), handle, clock::micros())
}

/// The account has a new key, and the directory knows; what it was is returned.
fn rotate(stage: &Stage, account: &mut Account, curve: Curve) -> Account {
    let old = account.clone();
    account.key = another_key(account, curve);
    stage.site.network.register(account);
    old
}

/// A key that is not the account's.
fn another_key(account: &Account, curve: Curve) -> Arc<Key> {
    let mut seed = [0; 8];
    seed.copy_from_slice(&account.key.compressed()[1..9]);
    let mut rng = fastrand::Rng::with_seed(u64::from_be_bytes(seed));
    Arc::new(Key::random(curve, &mut rng))
}

/// A commit that continues the account's last one and is signed by somebody else.
fn forged(account: &Account) -> Event {
    let mut forger = account.clone();
    forger.key = another_key(account, account.key.curve());
    next_commit(&mut forger)
}

/// So many of them there may have been more in the time since, one in each interval.
fn since(start: Instant, interval: Duration) -> u64 {
    start.elapsed().as_millis() as u64 / interval.as_millis() as u64 + 1
}

/// Rule 126: <https://atproto.com/specs/sync>
#[test]
fn a_handle_passes_where_the_directory_says_the_same() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let confirmed = account.handle.clone();
    let shouted = confirmed.to_uppercase();
    for handle in [None, Some(&*confirmed), Some(&*shouted)] {
        stage.pass(&[&identity(&account, handle)]);
    }
    for handle in ["somebody-else.test", "not a handle", "handle.invalid", ""] {
        let event = identity(&account, Some(handle));
        stage.pass_as(0, &event, &event.without_handle().unwrap());
    }
    // The directory knows a new one, which is believed at once; then none.
    account.handle = "new.sim.test".into();
    stage.site.network.register(&account);
    stage.pass(&[&account.identity()]);
    let document = account.document(&stage.site.network.host(0).url());
    let mut document: Value = serde_json::from_str(&document).unwrap();
    document["alsoKnownAs"] = json!([]);
    let plc = stage.site.network.plc();
    plc.set(account.did(), &document.to_string());
    let event = account.identity();
    stage.pass_as(0, &event, &event.without_handle().unwrap());
    stage.pass(&[&next_commit(&mut account)]);
}

/// Rule 127: <https://atproto.com/specs/sync>
#[test]
fn after_an_identity_event_only_the_new_key_signs() {
    let mut stage = Stage::set_up();
    for curve in [Curve::K256, Curve::P256] {
        let mut account = stage.known_account();
        let mut old = rotate(&stage, &mut account, curve);
        stage.pass(&[&account.identity()]);
        let (late, later) = (next_commit(&mut old), next_commit(&mut old));
        stage.drops(&mut account, &late, Reject::SignatureInvalid);
        stage.drops(&mut account, &later, Reject::SignatureInvalid);
        let sync = old.sync().unwrap();
        stage.drops(&mut account, &sync, Reject::SignatureInvalid);
    }
}

/// Rule 128: <https://atproto.com/specs/sync>
#[test]
fn a_new_key_without_a_word_is_found_by_asking_once() {
    let mut stage = Stage::set_up();
    for curve in [Curve::K256, Curve::P256] {
        let mut account = stage.known_account();
        let asked = stage.asked_for(&account);
        let mut old = rotate(&stage, &mut account, curve);
        let commits: Vec<_> = (0..10).map(|_| next_commit(&mut account)).collect();
        stage.pass(&commits.iter().collect::<Vec<_>>());
        assert_eq!(stage.asked_for(&account), asked + 1);
        stage.drops(
            &mut account,
            &next_commit(&mut old),
            Reject::SignatureInvalid,
        );
    }
}

/// Rule 129: <https://atproto.com/specs/sync>
#[test]
fn bad_signatures_of_an_account_cost_the_directory_one_request() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let (start, asked) = (Instant::now(), stage.asked_for(&account));
    for _ in 0..100 {
        let network = &stage.site.network;
        network.publish_invalid(0, &forged(&account), Reject::SignatureInvalid);
    }
    stage.pass(&[&next_commit(&mut account)]);
    assert_eq!(stage.refused(Reject::SignatureInvalid), 100);
    let most = since(start, limits::IDENTITY_FORCED_INTERVAL);
    assert!(stage.asked_for(&account) - asked <= most);
    // And a new key that is announced is believed all the same.
    rotate(&stage, &mut account, Curve::K256);
    stage.pass(&[&account.identity(), &next_commit(&mut account)]);
}

/// Rule 129: <https://atproto.com/specs/sync>
#[test]
fn bad_signatures_of_many_accounts_cost_the_directory_few_requests() {
    const ACCOUNTS: u64 = 200;
    let mut stage = Stage::set_up();
    let mut accounts: Vec<_> = (0..ACCOUNTS).map(|_| stage.site.account(0)).collect();
    let firsts: Vec<_> = accounts.iter_mut().map(next_commit).collect();
    stage.pass(&firsts.iter().collect::<Vec<_>>());
    let elsewhere = stage.site.account(1);
    let mut elsewhere = stage.seen(elsewhere);

    let (start, asked) = (Instant::now(), stage.site.network.plc().requests());
    for account in &accounts {
        let network = &stage.site.network;
        network.publish_invalid(0, &forged(account), Reject::SignatureInvalid);
    }
    wait_until("all are refused", || {
        stage.refused(Reject::SignatureInvalid) == ACCOUNTS
    });
    let most = u64::from(limits::IDENTITY_FORCED_BURST);
    let most = most + since(start, limits::IDENTITY_FORCED_REFILL);
    let requests = stage.site.network.plc().requests() - asked;
    assert!(requests <= most, "{requests} > {most}");
    let refused = stage.relay.metric("relay_identity_refreshes_refused_total");
    assert_eq!(refused + requests, ACCOUNTS);

    // New keys that are announced are believed, and on other hosts those that are not.
    for account in accounts.iter_mut().take(5) {
        rotate(&stage, account, Curve::P256);
        stage.pass(&[&account.identity(), &next_commit(account)]);
    }
    rotate(&stage, &mut elsewhere, Curve::P256);
    stage.pass_from(1, &[&next_commit(&mut elsewhere)]);
}

/// Rule 129: <https://atproto.com/specs/sync>
#[test]
fn identity_events_in_numbers_pass_and_cost_the_directory_few_requests() {
    const PUT_OFF: &str = "relay_identity_purges_put_off_total";
    let mut stage = Stage::set_up();
    for host in [0, 1] {
        let mut account = stage.known_account();
        let (start, put_off) = (Instant::now(), stage.relay.metric(PUT_OFF));
        // What its host may have fetched anew for a bad signature is used up.
        stage.refuse(0, &forged(&account), Reject::SignatureInvalid);
        for _ in 0..100 {
            stage.pass_from(host, &[&identity(&account, None)]);
            stage.pass(&[&next_commit(&mut account)]);
        }
        assert!(stage.relay.metric(PUT_OFF) > put_off);
        let burst = u64::from(limits::IDENTITY_PURGE_ACCOUNT_BURST);
        let purges = burst + since(start, limits::IDENTITY_PURGE_ACCOUNT_REFILL);
        // Beside them there were the first commit and the forgery.
        let most = purges + 2;
        let asked = stage.asked_for(&account);
        assert!(asked <= most, "{asked} > {most}");

        // The document has changed at last, and nothing is refused for the noise before; it may
        // have to wait for two seconds.
        let mut old = rotate(&stage, &mut account, Curve::P256);
        stage.pass_from(host, &[&identity(&account, None)]);
        stage.pass(&[&next_commit(&mut account)]);
        let late = next_commit(&mut old);
        stage.drops(&mut account, &late, Reject::SignatureInvalid);
    }
}

/// Rule 130: <https://atproto.com/specs/sync>
#[test]
fn what_another_host_says_of_an_identity_moves_nothing() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let accounts = stage.relay.metric("relay_accounts");
    let discontinuous = stage.relay.metric("relay_events_discontinuous_total");
    for status in [None, Some("deactivated"), None] {
        if status != account.status {
            account.status = status;
            stage.site.network.register(&account);
            stage.pass(&[&account.account()]);
        }
        let event = account.identity();
        stage.pass_as(1, &event, &event.without_handle().unwrap());
        stage.pass_from(1, &[&identity(&account, None)]);
        if status.is_none() {
            stage.pass(&[&next_commit(&mut account)]);
        } else {
            let commit = next_commit(&mut account.clone());
            stage.refuse(0, &commit, Reject::AccountInactive);
        }
        // It has not made the other host the account's own.
        let commit = next_commit(&mut account.clone());
        stage.refuse(1, &commit, Reject::WrongHost);
    }
    assert_eq!(stage.relay.metric("relay_accounts"), accounts);
    let now = stage.relay.metric("relay_events_discontinuous_total");
    assert_eq!(now, discontinuous);
}

/// Rules 131, 133: <https://atproto.com/specs/account>
#[test]
fn an_identity_event_passes_whatever_the_status_and_does_not_change_it() {
    let mut stage = Stage::set_up();
    for status in ["deactivated", "takendown", "suspended", "deleted", "other"] {
        let mut account = stage.known_account();
        stage.pass(&[&account.identity(), &next_commit(&mut account)]);
        account.status = Some(status);
        // The host says the same when it is asked.
        stage.site.network.register(&account);
        stage.pass(&[&account.account()]);
        for _ in 0..2 {
            stage.pass(&[&account.identity()]);
            let commit = next_commit(&mut account.clone());
            stage.refuse(0, &commit, Reject::AccountInactive);
        }
        account.status = None;
        stage.site.network.register(&account);
        stage.pass(&[&account.account(), &account.identity()]);
        stage.pass(&[&next_commit(&mut account)]);
    }
}

/// Rule 132: <https://atproto.com/specs/did>
#[test]
fn an_identity_event_of_no_account_is_dropped_and_the_connection_stays() {
    let mut stage = Stage::set_up();
    let long = format!("did:plc:{}", "a".repeat(2_049 - 8));
    let invalid = [
        "",
        "nobody",
        "did:plc",
        "did:plc:",
        "did:PLC:ewvi7nxzyoun6zhxrhs64oiz",
        "DID:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "did:m123:ewvi7nxzyoun6zhxrhs64oiz",
        "did:plc:ewvi7nxzyoun6zhxrhs64oi%",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz:",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz#atproto",
        "did:plc:ewvi7nxzyoun 6zhxrhs64oiz",
        "jan.sim.test",
        &long,
    ];
    // A DID as it may be written, and yet none of this network.
    let unsupported = [
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:plc:ewvi7nxzyoun6zhxrhs64oi",
        "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
        "did:web:example.com:path",
        "did:example:123",
    ];
    let invalid = invalid.map(|did| (did, Reject::DidInvalid));
    let unsupported = unsupported.map(|did| (did, Reject::DidMethodUnsupported));
    let asked = stage.site.network.plc().requests();
    for (did, reject) in [&invalid[..], &unsupported[..]].concat() {
        let event = event::identity(&did.into(), None, clock::micros());
        stage.refuse(0, &event, reject);
    }
    assert_eq!(stage.site.network.host(0).connections(), 1);
    assert_eq!(stage.site.network.plc().requests(), asked);
}
