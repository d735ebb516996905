//! Accounts by the collections of which they have records: `listReposByCollection`.

use serde_json::{Value, json};
use zlay::sim::{
    account::{Account, record},
    repo::Write,
};

use crate::{
    http::ask,
    site::{Relay, Site},
    stage::Stage,
};

const NAME: &str = "com.example.thing";

fn put(name: &str, rkey: &str) -> Write {
    Write::Put(format!("{name}/{rkey}"), record(name, rkey, 1))
}

/// The same with another record.
fn update(name: &str, rkey: &str) -> Write {
    Write::Put(format!("{name}/{rkey}"), record(name, "something else", 2))
}

fn delete(name: &str, rkey: &str) -> Write {
    Write::Delete(format!("{name}/{rkey}"))
}

/// Status and body of the answer, with these parameters beside the collection.
fn answer(relay: &Relay, name: &str, parameters: &str) -> (u16, Value) {
    let method = "/xrpc/com.atproto.sync.listReposByCollection";
    let target = format!("{method}?collection={name}{parameters}");
    let answer = ask(relay.public, "GET", &target, "", "");
    (answer.status, answer.json())
}

/// A page that ends the list, or begins with another.
fn page(accounts: &[&Account], cursor: Option<&str>) -> (u16, Value) {
    let item = |account: &&Account| json!({ "did": account.did().as_ref() });
    let repos: Vec<Value> = accounts.iter().map(item).collect();
    let mut body = json!({ "repos": repos });
    if let Some(cursor) = cursor {
        body["cursor"] = cursor.into();
    }
    (200, body)
}

#[track_caller]
fn lists(stage: &Stage, name: &str, accounts: &[&Account]) {
    assert_eq!(
        answer(&stage.relay, name, ""),
        page(accounts, None),
        "{name}"
    );
}

fn writes(stage: &mut Stage, account: &mut Account, writes: &[Write]) {
    let commit = account.commit(writes);
    stage.pass(&[&commit]);
}

/// The account's host says something of it.
fn says(stage: &mut Stage, account: &mut Account, status: Option<&'static str>) {
    account.status = status;
    stage.site.network.register(account);
    let event = account.account();
    stage.pass(&[&event]);
}

/// The operator says something of an account, which subscribers are told.
fn rules(stage: &mut Stage, account: &Account, word: &str) {
    let body = json!({ "did": account.did().as_ref() }).to_string();
    stage.relay.decide(&format!("/admin/repo/{word}"), &body);
    let status = (word == "takeDown").then_some("takendown");
    stage.subscriber.told(account, status.is_none(), status);
}

/// An account is in the list of a collection from its first record on until its last one goes, whatever
/// happens to the others.
///
/// Rule 178: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listReposByCollection.json>
#[test]
fn accounts_are_found_by_what_they_have_records_of() {
    let mut stage = Stage::set_up();
    let [mut a, mut b] = [stage.site.account(0), stage.site.account(0)];
    // A name that is like another one's beginning is another name.
    let longer = format!("{NAME}.more");
    lists(&stage, NAME, &[]);
    writes(
        &mut stage,
        &mut a,
        &[put(NAME, "1"), put(NAME, "2"), put(&longer, "1")],
    );
    writes(&mut stage, &mut b, &[put(NAME, "1")]);
    lists(&stage, NAME, &[&a, &b]);
    lists(&stage, &longer, &[&a]);
    writes(
        &mut stage,
        &mut a,
        &[update(NAME, "1"), put(NAME, "3"), delete(NAME, "2")],
    );
    writes(&mut stage, &mut a, &[delete(NAME, "3")]);
    lists(&stage, NAME, &[&a, &b]);
    writes(&mut stage, &mut a, &[delete(NAME, "1")]);
    lists(&stage, NAME, &[&b]);
    lists(&stage, &longer, &[&a]);
    // It comes back as the last one.
    writes(&mut stage, &mut a, &[put(NAME, "4")]);
    lists(&stage, NAME, &[&b, &a]);
    assert_eq!(stage.relay.metric("relay_collection_pairs"), 4);
    assert_eq!(stage.relay.metric("relay_collections"), 3);
    stage.crash();
    lists(&stage, NAME, &[&b, &a]);
    writes(&mut stage, &mut b, &[delete(NAME, "1")]);
    stage.restart();
    lists(&stage, NAME, &[&a]);
    assert_eq!(stage.relay.metric("relay_collection_pairs"), 3);
}

/// An account that is not active is hidden, and shown again in its place; one that is deleted is
/// forgotten.
///
/// Rule 178: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listReposByCollection.json>
#[test]
fn who_is_not_active_is_not_listed() {
    let mut stage = Stage::set_up();
    let mut accounts = [0; 3].map(|host| stage.site.account(host));
    for account in &mut accounts {
        writes(&mut stage, account, &[put(NAME, "1")]);
    }
    let [mut a, b, c] = accounts;
    for status in ["deactivated", "suspended", "hibernating"] {
        says(&mut stage, &mut a, Some(status));
        lists(&stage, NAME, &[&b, &c]);
        says(&mut stage, &mut a, None);
        lists(&stage, NAME, &[&a, &b, &c]);
    }
    rules(&mut stage, &b, "takeDown");
    lists(&stage, NAME, &[&a, &c]);
    stage.restart();
    lists(&stage, NAME, &[&a, &c]);
    // The host's word does not go before the operator's.
    stage.site.network.host(0).emit(&b.account());
    stage.subscriber.told(&b, false, Some("takendown"));
    lists(&stage, NAME, &[&a, &c]);
    rules(&mut stage, &b, "reverseTakedown");
    lists(&stage, NAME, &[&a, &b, &c]);
    says(&mut stage, &mut a, Some("deleted"));
    lists(&stage, NAME, &[&b, &c]);
    says(&mut stage, &mut a, None);
    lists(&stage, NAME, &[&b, &c]);
    writes(&mut stage, &mut a, &[put(NAME, "2")]);
    lists(&stage, NAME, &[&b, &c, &a]);
}

/// Rules 169, 178: <https://atproto.com/specs/xrpc#cursors-and-pagination>
#[test]
fn a_list_is_read_one_by_one_while_it_grows() {
    let mut stage = Stage::on(Site::new(2));
    let mut accounts: Vec<Account> = (0..3).map(|_| stage.site.account(0)).collect();
    for account in &mut accounts {
        writes(&mut stage, account, &[put(NAME, "1")]);
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    let late = loop {
        let (status, body) = answer(&stage.relay, NAME, &format!("&limit=1&cursor={cursor}"));
        assert_eq!(status, 200, "{body}");
        let repos = body["repos"].as_array().unwrap();
        assert_eq!(repos.len(), 1, "{body}");
        seen.push(repos[0]["did"].as_str().unwrap().to_owned());
        let Some(next) = body["cursor"].as_str() else {
            break cursor;
        };
        cursor = next.to_owned();
        // Meanwhile somebody comes, and the one who was just seen goes and comes back.
        if seen.len() < 6 {
            let mut new = stage.site.account(0);
            writes(&mut stage, &mut new, &[put(NAME, "1")]);
            accounts.push(new);
        }
        if seen.len() == 2 {
            let mut again = accounts[1].clone();
            writes(&mut stage, &mut again, &[delete(NAME, "1")]);
            writes(&mut stage, &mut again, &[put(NAME, "2")]);
        }
    };
    // Everybody was seen, and twice only the one that has a second place.
    let mut expected: Vec<String> = accounts.iter().map(|a| a.did().to_string()).collect();
    expected.insert(5, expected[1].clone());
    assert_eq!(seen, expected);
    // Whoever comes back with the last cursor finds what is new.
    stage.restart();
    let mut new = stage.site.account(0);
    writes(&mut stage, &mut new, &[put(NAME, "1")]);
    let again = answer(&stage.relay, NAME, &format!("&cursor={late}"));
    let repos = again.1["repos"].as_array().unwrap();
    assert_eq!(repos.last().unwrap()["did"], new.did().as_ref());
    assert_eq!(repos.len(), 2);

    let whole = answer(&stage.relay, NAME, "");
    for parameters in ["&limit=2000", "&limit=&cursor=", "&unknown=1"] {
        assert_eq!(answer(&stage.relay, NAME, parameters), whole);
    }
    for parameters in [
        "&limit=0",
        "&limit=2001",
        "&limit=abc",
        "&limit=1.5",
        "&cursor=abc",
        "&cursor=-1",
        "&cursor=0",
        "&cursor=1000000",
        "&cursor=99999999999999999999",
    ] {
        let (status, body) = answer(&stage.relay, NAME, parameters);
        let error = body["error"].as_str().unwrap();
        assert_eq!((status, error), (400, "InvalidRequest"), "{parameters}");
    }
    for name in [
        "",
        "thing",
        "com.example",
        "com.example.thing%2F1",
        "com.example.*",
    ] {
        let (status, body) = answer(&stage.relay, name, "");
        let error = body["error"].as_str().unwrap();
        assert_eq!((status, error), (400, "InvalidRequest"), "{name}");
    }
}
