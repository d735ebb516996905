//! What hosts may do: how many events they may send, how many accounts they may have, and whom the
//! operator trusts.

use serde_json::{Value, json};
use zlay::{
    limits::TRUSTED_HOST_EVENTS_A_SECOND_MAX,
    reject::Reject,
    sim::{account::Account, event::Event},
};

use crate::{
    site::{Relay, Site, agent, answer, next_commit, wait_until},
    stage::Stage,
};

/// The first host says so much at once.
fn flood(stage: &Stage, account: &mut Account, count: usize) -> Vec<Event> {
    let events: Vec<_> = (0..count).map(|_| next_commit(account)).collect();
    for event in &events {
        stage.site.network.publish(0, event);
    }
    events
}

fn expect(stage: &mut Stage, events: &[Event]) {
    stage.subscriber.expect(&events.iter().collect::<Vec<_>>());
}

/// How often the first host had to wait for a limit.
fn hits(relay: &Relay, host: &str, limit: &str) -> u64 {
    let hits = relay.of_host(host, &format!("/events/limits_hit/{limit}"));
    hits.as_u64().unwrap()
}

/// A site on which nobody is trusted, and where a host has room for so many accounts.
fn strangers(accounts: u64) -> Site {
    let mut site = Site::new(2);
    site.variables.extend([
        ("RELAY_DEFAULT_ACCOUNT_LIMIT", accounts.to_string()),
        ("RELAY_TRUSTED_DOMAINS", "trusted.example".to_owned()),
    ]);
    site
}

/// An account that is one too many: its commit is dropped, and it is called throttled.
fn one_too_many(stage: &mut Stage) -> Account {
    let account = stage.site.account(0);
    let commit = next_commit(&mut account.clone());
    stage.refuse(0, &commit, Reject::AccountLimit);
    account
}

/// The status of an account, as anybody may ask for it.
fn status(relay: &Relay, account: &Account) -> Value {
    let did = account.did();
    let public = relay.public;
    let url = format!("http://{public}/xrpc/com.atproto.sync.getRepoStatus?did={did}");
    // An event is counted when it is judged, and what became of its account is seen once the batch is
    // on the disk.
    let mut body = Value::Null;
    wait_until("the account is known", || {
        let (status, answered) = answer(agent().get(&url).call().unwrap());
        body = answered;
        status == 200
    });
    match body["active"].as_bool().unwrap() {
        true => "active".into(),
        false => body["status"].clone(),
    }
}

/// A limit of one host makes its events wait and loses none of them; nobody else's limits change. It
/// holds after a restart, and taken back it is gone at once, also for what waits already: at two events
/// an hour the next would have to wait for half an hour.
///
/// Rule 54: <https://atproto.com/specs/sync>
#[test]
fn limits_of_a_host_delay_and_drop_nothing_and_can_be_taken_back() {
    let mut stage = Stage::set_up();
    let [host, other] = [0, 1].map(|n| stage.site.network.host(n).name().to_owned());
    let mut account = stage.known_account();
    let common = TRUSTED_HOST_EVENTS_A_SECOND_MAX;
    assert_eq!(
        stage.relay.of_host(&host, "/limits/events_per_second"),
        common
    );
    stage
        .relay
        .change(&host, json!({ "events_per_second": 10 }));
    let limits = json!({"events_per_second": 10, "events_per_hour": null, "events_per_day": null});
    assert_eq!(stage.relay.of_host(&host, "/limits"), limits);
    let events = flood(&stage, &mut account, 30);
    expect(&mut stage, &events);
    assert!(hits(&stage.relay, &host, "events_per_second") >= 15);
    assert_eq!(hits(&stage.relay, &host, "events_per_hour"), 0);
    assert_eq!(
        stage.relay.of_host(&other, "/limits/events_per_second"),
        common
    );

    let an_hour = json!({ "events_per_hour": 2, "events_per_day": 1_000 });
    stage.relay.change(&host, an_hour);
    stage.restart();
    let limits = json!({"events_per_second": 10, "events_per_hour": 2, "events_per_day": 1_000});
    assert_eq!(stage.relay.of_host(&host, "/limits"), limits);
    let own = stage
        .relay
        .look(&format!("/admin/hosts/detail?host={host}"));
    assert_eq!(own["own_terms"]["events_per_hour"], 2);
    let mut events = flood(&stage, &mut account, 6);
    let waiting = events.split_off(2);
    expect(&mut stage, &events);
    wait_until("it is shown as throttled", || {
        stage.relay.of_host(&host, "/status") == "throttled"
    });
    assert_eq!(hits(&stage.relay, &host, "events_per_hour"), 1);
    let until = stage.relay.of_host(&host, "/until");
    assert!(until.is_string(), "{until}");
    stage
        .relay
        .change(&host, json!({ "events_per_hour": null }));
    expect(&mut stage, &waiting);
    wait_until("it is shown as it was", || {
        stage.relay.of_host(&host, "/status") == "active"
    });
    let none = json!({ "events_per_second": null, "events_per_day": null });
    stage.relay.change(&host, none);
    let limits = json!({
        "events_per_second": common,
        "events_per_hour": null,
        "events_per_day": null,
    });
    assert_eq!(stage.relay.of_host(&host, "/limits"), limits);
    assert!(stage.relay.rejects().is_empty());
    assert_eq!(stage.relay.metric("relay_events_discontinuous_total"), 0);
}

/// Accounts that wait for a place get it in the order in which they came, as soon as there is one,
/// without a word of theirs; everybody reads of it in the stream. Places are made by the operator for one
/// host and for all, and by accounts that are deleted. A lower limit takes nobody's place.
///
/// Rule 195: <https://atproto.com/specs/sync>
#[test]
fn accounts_are_let_in_oldest_first_as_soon_as_there_is_room() {
    // One place is the bystander's, who has it in the end, too.
    let mut stage = Stage::on(strangers(2));
    let host = stage.site.network.host(0).name().to_owned();
    let mut first = stage.known_account();
    let waiting: Vec<_> = (0..5).map(|_| one_too_many(&mut stage)).collect();
    for account in &waiting {
        assert_eq!(status(&stage.relay, account), "throttled");
    }
    assert_eq!(stage.relay.of_host(&host, "/accounts"), 2);

    stage.relay.change(&host, json!({ "repo_limit": 4 }));
    for account in &waiting[..2] {
        stage.subscriber.told(account, true, None);
        assert_eq!(status(&stage.relay, account), "active");
    }
    stage.sentinel();
    assert_eq!(stage.relay.of_host(&host, "/accounts"), 4);
    // The first one goes, and its place is the next one's.
    first.status = Some("deleted");
    stage.site.network.register(&first);
    stage.pass(&[&first.account()]);
    stage.subscriber.told(&waiting[2], true, None);
    stage.sentinel();

    // There are more than this now, and they stay.
    stage.relay.change(&host, json!({ "repo_limit": 1 }));
    stage.sentinel();
    for account in &waiting[..3] {
        stage.pass(&[&next_commit(&mut account.clone())]);
    }
    assert_eq!(status(&stage.relay, &waiting[3]), "throttled");
    stage.restart();
    stage.site.wait_until_connected();
    assert_eq!(stage.relay.of_host(&host, "/account_limit"), 1);
    let newcomer = one_too_many(&mut stage);
    stage.sentinel();

    // Its own limit taken back, it is the common one, which is raised.
    stage.relay.change(&host, json!({ "repo_limit": null }));
    stage.sentinel();
    assert_eq!(stage.relay.of_host(&host, "/account_limit"), 2);
    stage.relay.set(&json!({ "default_account_limit": 5 }));
    stage.subscriber.told(&waiting[3], true, None);
    stage.sentinel();
    stage.relay.set(&json!({ "default_account_limit": 7 }));
    stage.subscriber.told(&waiting[4], true, None);
    stage.subscriber.told(&newcomer, true, None);
    stage.sentinel();
    assert_eq!(stage.relay.of_host(&host, "/accounts"), 7);
    assert_eq!(stage.relay.metric("relay_events_discontinuous_total"), 0);
}

/// The operator trusts a host, and distrusts one of a trusted domain; both hold after a restart, and
/// taken back the domain decides again.
///
/// Rules 54, 195: <https://atproto.com/specs/sync#security-considerations>
#[test]
fn a_host_is_trusted_by_the_operators_word_or_else_by_its_domain() {
    let mut stage = Stage::on(strangers(1));
    let host = stage.site.network.host(0).name().to_owned();
    let shown = |stage: &Stage| {
        let page = stage.relay.host_page(&host).1;
        let limit = page["limits"]["events_per_hour"].clone();
        assert_eq!(limit.is_null(), page["account_limit"].is_null(), "{page}");
        assert_eq!(limit.is_null(), page["trusted"].as_bool().unwrap());
        let path = format!("/admin/hosts/detail?host={host}");
        let own = stage.relay.look(&path)["own_terms"]["trusted"].clone();
        (page["trusted"].as_bool().unwrap(), own)
    };
    assert_eq!(shown(&stage), (false, Value::Null));
    let second = one_too_many(&mut stage);
    stage.relay.change(&host, json!({ "trusted": true }));
    stage.subscriber.told(&second, true, None);
    assert_eq!(shown(&stage), (true, true.into()));
    stage.restart();
    assert_eq!(shown(&stage), (true, true.into()));
    stage.known_account();

    // Now its domain is trusted, and it is not.
    stage
        .relay
        .set(&json!({ "trusted_domains": ["localhost"] }));
    let other = stage.site.network.host(1).name();
    assert_eq!(stage.relay.of_host(other, "/trusted"), true);
    stage.relay.change(&host, json!({ "trusted": false }));
    assert_eq!(shown(&stage), (false, false.into()));
    // The three that are there stay.
    stage.sentinel();
    let fourth = one_too_many(&mut stage);
    stage.restart();
    assert_eq!(shown(&stage), (false, false.into()));
    stage.sentinel();
    stage.relay.change(&host, json!({ "trusted": null }));
    stage.subscriber.told(&fourth, true, None);
    assert_eq!(shown(&stage), (true, Value::Null));
    stage.relay.set(&json!({ "trusted_domains": null }));
    assert_eq!(shown(&stage), (false, Value::Null));
    stage.sentinel();
}
