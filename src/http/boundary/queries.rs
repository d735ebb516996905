//! The queries about accounts and hosts: what they answer, and what they call an error.

use serde_json::json;

use super::*;
use crate::{
    atproto::{cid::Cid, tid::Tid},
    control::HostStatus,
    http::internal::Internal,
    limits::LIST_REPOS_SCAN_MAX,
    store::{
        Options,
        account::{Listed, Status},
        collections::{Collection, CollectionId, Pair},
    },
};

const SYNC: &str = "/xrpc/com.atproto.sync";

fn head(n: u64) -> Listed {
    Listed {
        rev: Tid::from_micros(n, 0),
        commit: Cid::of_cbor(&n.to_be_bytes()),
    }
}

/// The account of this ordinal, active and with a commit.
fn account(n: u64) -> AccountView {
    AccountView {
        did: Did::parse(&format!("did:web:a{n}.test")).unwrap(),
        ordinal: n,
        host: HostId(7),
        status: Status::ACTIVE,
        head: Some(head(n)),
    }
}

fn without_head(n: u64) -> AccountView {
    AccountView {
        head: None,
        ..account(n)
    }
}

fn with_status(n: u64, active: bool, reason: Option<&str>) -> AccountView {
    let reason = reason.map(Into::into);
    AccountView {
        status: Status { active, reason },
        ..account(n)
    }
}

fn host(id: u32, status: HostStatus) -> HostView {
    HostView {
        id: HostId(id),
        name: Hostname::parse(&format!("h{id}.test")).unwrap(),
        status,
        seq: u64::from(id) * 100,
        accounts: u64::from(id) * 10,
    }
}

fn relay_of(accounts: Vec<AccountView>, hosts: Vec<HostView>) -> Relay {
    let relay = relay();
    *relay.fake.accounts.lock().unwrap() = accounts;
    *relay.fake.hosts.lock().unwrap() = hosts;
    relay
}

/// Status and body of the answer to a query.
fn ask(relay: &Relay, query: &str) -> (u16, Value) {
    get(relay.door.address(), &format!("{SYNC}.{query}"))
}

/// Status and name of an error.
fn error(relay: &Relay, query: &str) -> (u16, String) {
    let (status, body) = ask(relay, query);
    assert!(body["message"].is_string(), "{query}: {body}");
    (status, body["error"].as_str().unwrap().to_owned())
}

/// What the pages of a list are, each with `limit` items, by the value of `name` in every item.
fn pages(relay: &Relay, query: &str, list: &str, name: &str) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, body) = ask(relay, &format!("{query}&cursor={cursor}"));
        assert_eq!(status, 200, "{body}");
        let items = body[list].as_array().unwrap().iter();
        let names = items.map(|item| item[name].as_str().unwrap().to_owned());
        let names: Vec<String> = names.collect();
        let is_empty = names.is_empty();
        pages.push(names);
        match &body["cursor"] {
            Value::Null => return pages,
            next if is_empty => panic!("an empty page with a cursor, {next}"),
            next => cursor = next.as_str().unwrap().to_owned(),
        }
    }
}

/// Rules 169, 170: <https://github.com/bluesky-social/atproto/tree/main/lexicons/com/atproto/sync>
#[test]
fn hosts_are_listed_in_pages() {
    let relay = relay_of(Vec::new(), Vec::new());
    assert_eq!(ask(&relay, "listHosts"), (200, json!({"hosts": []})));
    let hosts: Vec<_> = HostStatus::ALL
        .into_iter()
        .zip([1, 2, 5, 9, 11])
        .map(|(status, id)| host(id, status))
        .collect();
    *relay.fake.hosts.lock().unwrap() = hosts;
    let item = |id: u32, status: &str| {
        json!({
            "hostname": format!("h{id}.test"),
            "seq": id * 100,
            "accountCount": id * 10,
            "status": status,
        })
    };
    let all = json!({"hosts": [
        item(1, "active"),
        item(2, "idle"),
        item(5, "offline"),
        item(9, "throttled"),
        item(11, "banned"),
    ]});
    assert_eq!(ask(&relay, "listHosts"), (200, all.clone()));
    assert_eq!(ask(&relay, "listHosts?limit=5&cursor="), (200, all));
    let all = ["h1.test", "h2.test", "h5.test", "h9.test", "h11.test"];
    for limit in 1..=6 {
        let expected: Vec<_> = all.chunks(limit).collect();
        let query = format!("listHosts?limit={limit}");
        assert_eq!(pages(&relay, &query, "hosts", "hostname"), expected);
    }
    // After a place where there is no host any more, those behind it.
    let (_, body) = ask(&relay, "listHosts?cursor=8&limit=1");
    assert_eq!(body["hosts"], json!([item(9, "throttled")]));
    for cursor in ["0", "12", "4294967296", "x", "%20", "-1", "h9.test"] {
        let answer = error(&relay, &format!("listHosts?cursor={cursor}"));
        assert_eq!(answer, (400, "InvalidRequest".into()), "{cursor}");
    }
}

/// Rule 171: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getHostStatus.json>
#[test]
fn a_host_has_a_status() {
    let relay = relay_of(Vec::new(), vec![host(3, HostStatus::Offline)]);
    let body = json!({
        "hostname": "h3.test", "seq": 300, "accountCount": 30, "status": "offline",
    });
    for name in ["h3.test", "H3.test", "https%3A%2F%2Fh3.test"] {
        let answer = ask(&relay, &format!("getHostStatus?hostname={name}"));
        assert_eq!(answer, (200, body.clone()), "{name}");
    }
    let not_found = (404, "HostNotFound".to_owned());
    assert_eq!(error(&relay, "getHostStatus?hostname=h4.test"), not_found);
    for query in ["", "?hostname=", "?host=h3.test", "?hostname=10.0.0.1"] {
        let answer = error(&relay, &format!("getHostStatus{query}"));
        assert_eq!(answer, (400, "InvalidRequest".into()), "{query}");
    }
}

/// Rules 169, 170: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listRepos.json>
#[test]
fn accounts_are_listed_in_pages() {
    let relay = relay_of(Vec::new(), Vec::new());
    assert_eq!(ask(&relay, "listRepos"), (200, json!({"repos": []})));
    assert_eq!(error(&relay, "listRepos?cursor=1").0, 400);
    *relay.fake.accounts.lock().unwrap() = vec![
        account(1),
        without_head(2),
        with_status(3, false, Some("deactivated")),
        with_status(4, false, None),
        without_head(5),
        with_status(6, true, Some("desynchronized")),
        without_head(7),
    ];
    let item = |n: u64, status: Value| {
        let mut item = json!({
            "did": format!("did:web:a{n}.test"),
            "head": head(n).commit.to_string(),
            "rev": head(n).rev.to_string(),
        });
        item.as_object_mut()
            .unwrap()
            .extend(status.as_object().unwrap().clone());
        item
    };
    let all = json!({"repos": [
        item(1, json!({"active": true})),
        item(3, json!({"active": false, "status": "deactivated"})),
        item(4, json!({"active": false})),
        item(6, json!({"active": true, "status": "desynchronized"})),
    ]});
    assert_eq!(ask(&relay, "listRepos"), (200, all.clone()));
    assert_eq!(ask(&relay, "listRepos?limit=4"), (200, all));
    let all = [1, 3, 4, 6].map(|n| format!("did:web:a{n}.test"));
    for limit in 1..=5 {
        let expected: Vec<_> = all.chunks(limit).collect();
        let query = format!("listRepos?limit={limit}");
        assert_eq!(pages(&relay, &query, "repos", "did"), expected);
    }
    // Also the places of those that are not listed have something behind them.
    assert_eq!(
        ask(&relay, "listRepos?cursor=7"),
        (200, json!({"repos": []}))
    );
    for cursor in [
        "0",
        "8",
        "01",
        "18446744073709551615",
        "99999999999999999999",
        "x",
    ] {
        let answer = error(&relay, &format!("listRepos?cursor={cursor}"));
        assert_eq!(answer, (400, "InvalidRequest".into()), "{cursor}");
    }
}

/// Rule 173: <https://atproto.com/specs/xrpc#cursors-and-pagination>
#[test]
fn accounts_that_are_added_come_on_later_pages() {
    let relay = relay_of((1..=3).map(account).collect(), Vec::new());
    let (_, body) = ask(&relay, "listRepos?limit=2");
    let cursor = body["cursor"].as_str().unwrap();
    relay.fake.accounts.lock().unwrap().push(account(4));
    let expected = [["did:web:a3.test"], ["did:web:a4.test"]];
    let mut last = cursor.to_owned();
    for dids in expected {
        let (_, body) = ask(&relay, &format!("listRepos?limit=1&cursor={last}"));
        let found: Vec<_> = body["repos"].as_array().unwrap().iter().collect();
        let found: Vec<_> = found.iter().map(|r| r["did"].as_str().unwrap()).collect();
        assert_eq!(found, dids);
        last = body["cursor"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!(last, "");
}

/// Clients take a page without accounts for the end, whatever its cursor says.
#[test]
fn a_page_of_accounts_is_empty_only_at_the_end() {
    let many = LIST_REPOS_SCAN_MAX as u64 * 2;
    let last = 3 * many;
    let accounts = (1..=last).map(|n| match n {
        1 => account(n),
        n if n == many || n == last => account(n),
        _ => without_head(n),
    });
    let relay = relay_of(accounts.collect(), Vec::new());
    let found = pages(&relay, "listRepos?limit=1", "repos", "did");
    let all = [1, many, last].map(|n| [format!("did:web:a{n}.test")]);
    assert_eq!(found, all);
    // A page that has some does not look for more without end.
    let found = pages(&relay, "listRepos?limit=1000", "repos", "did");
    assert_eq!(found.concat(), all.concat());
    assert_eq!(found.len(), 3);
    relay.fake.reads.store(0, Ordering::Relaxed);
    assert_eq!(ask(&relay, "listRepos?limit=1000").0, 200);
    let reads = relay.fake.reads.load(Ordering::Relaxed);
    assert!(reads <= LIST_REPOS_SCAN_MAX.div_ceil(1_000), "{reads}");
    // Nobody who is listed is left.
    relay.fake.accounts.lock().unwrap().pop();
    let cursor = format!("listRepos?cursor={many}");
    assert_eq!(ask(&relay, &cursor), (200, json!({"repos": []})));
}

/// Rules 174, 140: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getRepoStatus.json>
#[test]
fn an_account_has_a_status() {
    let accounts = vec![
        account(1),
        without_head(2),
        with_status(3, false, Some("takendown")),
        with_status(4, true, Some("throttled")),
        with_status(5, false, Some("on holiday")),
        with_status(6, false, None),
    ];
    let relay = relay_of(accounts, Vec::new());
    let status = |n: u64| ask(&relay, &format!("getRepoStatus?did=did:web:a{n}.test"));
    let did = |n: u64| format!("did:web:a{n}.test");
    let rev = |n: u64| head(n).rev.to_string();
    for (n, body) in [
        (1, json!({"did": did(1), "active": true, "rev": rev(1)})),
        (2, json!({"did": did(2), "active": true})),
        (
            3,
            json!({"did": did(3), "active": false, "status": "takendown"}),
        ),
        (
            4,
            json!({"did": did(4), "active": true, "status": "throttled", "rev": rev(4)}),
        ),
        (
            5,
            json!({"did": did(5), "active": false, "status": "on holiday"}),
        ),
        (6, json!({"did": did(6), "active": false})),
    ] {
        assert_eq!(status(n), (200, body));
    }
    let not_found = (404, "RepoNotFound".to_owned());
    assert_eq!(
        error(&relay, "getRepoStatus?did=did:web:a9.test"),
        not_found
    );
    for query in ["", "?did=", "?did=a1.test", "?did=did:web:", "?did=%ff"] {
        for method in ["getRepoStatus", "getLatestCommit", "getRepo"] {
            let answer = error(&relay, &format!("{method}{query}"));
            assert_eq!(answer, (400, "InvalidRequest".into()), "{method}{query}");
        }
    }
}

/// Rule 145: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getLatestCommit.json>
#[test]
fn what_is_not_active_is_not_served() {
    let statuses = [
        (Some("takendown"), 403, "RepoTakendown"),
        (Some("suspended"), 403, "RepoSuspended"),
        (Some("deactivated"), 403, "RepoDeactivated"),
        (Some("throttled"), 403, "RepoDeactivated"),
        (None, 403, "RepoDeactivated"),
        (Some("deleted"), 404, "RepoNotFound"),
    ];
    let accounts = (1..).zip(statuses);
    let accounts = accounts.map(|(n, (reason, ..))| with_status(n, false, reason));
    let relay = relay_of(accounts.collect(), vec![host(7, HostStatus::Active)]);
    for (n, (reason, status, name)) in (1..).zip(statuses) {
        for method in ["getLatestCommit", "getRepo"] {
            let answer = error(&relay, &format!("{method}?did=did:web:a{n}.test"));
            assert_eq!(answer, (status, name.to_owned()), "{method} {reason:?}");
        }
    }
    *relay.fake.accounts.lock().unwrap() = vec![account(1), without_head(2)];
    let body = json!({"cid": head(1).commit.to_string(), "rev": head(1).rev.to_string()});
    let latest = |n: u64| ask(&relay, &format!("getLatestCommit?did=did:web:a{n}.test"));
    assert_eq!(latest(1), (200, body));
    assert_eq!(
        (latest(2).0, &latest(2).1["error"]),
        (404, &"RepoNotFound".into())
    );
    assert_eq!(
        (latest(3).0, &latest(3).1["error"]),
        (404, &"RepoNotFound".into())
    );
}

/// Rule 176: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getRepo.json>
#[test]
fn a_repository_is_at_the_accounts_host() {
    let relay = relay_of(vec![account(1)], vec![host(7, HostStatus::Active)]);
    for query in [
        "did=did:web:a1.test",
        "did=did%3Aweb%3Aa1.test&since=3jzfcijpj2z2a&x=%20+y",
    ] {
        let request =
            format!("GET {SYNC}.getRepo?{query} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
        let answer = exchange(relay.door.address(), request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
        let location = format!("\r\nLocation: https://h7.test{SYNC}.getRepo?{query}\r\n");
        assert!(answer.contains(&location), "{answer}");
        assert!(answer.contains("\r\nAccess-Control-Allow-Origin: *\r\n"));
    }
    let query = "getRepo?did=did:web:a1.test&since=yesterday";
    assert_eq!(error(&relay, query), (400, "InvalidRequest".into()));
    relay.fake.hosts.lock().unwrap().clear();
    let not_found = (404, "RepoNotFound".to_owned());
    assert_eq!(error(&relay, "getRepo?did=did:web:a1.test"), not_found);
}

/// Rules 169, 178: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listReposByCollection.json>
#[test]
fn accounts_of_a_collection_are_listed_in_pages() {
    let relay = relay();
    let query = "listReposByCollection?collection=com.example.c";
    assert_eq!(ask(&relay, query), (200, json!({"repos": []})));
    let unknown = (400, "InvalidRequest".to_owned());
    assert_eq!(error(&relay, &format!("{query}&cursor=1")), unknown);
    let did = |n: u64| Did::parse(&format!("did:web:a{n}.test")).unwrap();
    let list = [2, 3, 7, 8].map(|n| (n, did(n))).into();
    let mut collections = relay.fake.collections.lock().unwrap();
    collections.insert("com.example.c".to_owned(), (list, 9));
    drop(collections);
    let item = |n: u64| json!({"did": format!("did:web:a{n}.test")});
    let all = json!({"repos": [item(2), item(3), item(7), item(8)]});
    for parameters in ["", "&limit=4", "&limit=2000", "&limit=&cursor=", "&x=y"] {
        assert_eq!(
            ask(&relay, &format!("{query}{parameters}")),
            (200, all.clone())
        );
    }
    let page = json!({"repos": [item(2), item(3), item(7)], "cursor": "7"});
    assert_eq!(ask(&relay, &format!("{query}&limit=3")), (200, page));
    for (limit, count) in [(1, 4), (2, 2), (3, 2)] {
        let pages = pages(&relay, &format!("{query}&limit={limit}"), "repos", "did");
        assert_eq!(pages.len(), count);
        let dids = [2, 3, 7, 8].map(|n| did(n).to_string());
        assert_eq!(pages.concat(), dids);
    }
    // Places that were given out, also those where nothing is left.
    for (cursor, rest) in [(1, 4), (5, 2), (8, 0), (9, 0)] {
        let (status, body) = ask(&relay, &format!("{query}&cursor={cursor}"));
        assert_eq!(
            (status, body["repos"].as_array().unwrap().len()),
            (200, rest)
        );
    }
    for bad in [
        "&cursor=10",
        "&cursor=x",
        "&limit=0",
        "&limit=2001",
        "&limit=x",
    ] {
        assert_eq!(error(&relay, &format!("{query}{bad}")), unknown, "{bad}");
    }
    for bad in [
        "",
        "?collection=",
        "?collection=c",
        "?collection=com.example.c/x",
    ] {
        let answer = error(&relay, &format!("listReposByCollection{bad}"));
        assert_eq!(answer, unknown, "{bad}");
    }
}

/// Clients take a page without accounts for the end, whatever its cursor says: many accounts that are
/// hidden, and many numbers of which nothing is left, are passed over in as many scans as it takes.
#[test]
fn a_page_of_a_collection_is_empty_only_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let did = |n: u64| Did::parse(&format!("did:web:a{n}.test")).unwrap();
    let (id, name) = (CollectionId(1), "com.example.c");
    let (shown, last) = ([1, 60, 61, 500], 900);
    let mut batch = store.batch();
    for number in (1..=100).chain([500, 600]) {
        let collection = id;
        let is_hidden = !shown.contains(&number);
        batch.put_pair(Pair { collection, number }, &did(number), is_hidden);
    }
    batch.put_collection(name, Collection { id, last });
    store.commit(batch).unwrap();
    let relay = relay();
    let entries = 7;
    let bounds = ScanBounds { entries, span: 9 };
    *relay.fake.lists.lock().unwrap() = Some((store, bounds));
    let query = format!("listReposByCollection?collection={name}");
    let all = shown.map(|n| did(n).to_string());
    for limit in 1..=5 {
        let query = format!("{query}&limit={limit}");
        assert_eq!(pages(&relay, &query, "repos", "did").concat(), all);
    }
    let end = (200, json!({"repos": []}));
    assert_eq!(ask(&relay, &format!("{query}&cursor=500")), end);
    assert_eq!(ask(&relay, &format!("{query}&cursor={last}")), end);
    assert_eq!(error(&relay, &format!("{query}&cursor=901")).0, 400);
    // Nobody is shown any more.
    let lists = relay.fake.lists.lock().unwrap();
    let (store, _) = lists.as_ref().unwrap();
    let mut batch = store.batch();
    for number in shown {
        let collection = id;
        batch.put_pair(Pair { collection, number }, &did(number), true);
    }
    store.commit(batch).unwrap();
    drop(lists);
    assert_eq!(ask(&relay, &query), end);
}

/// Rules 160, 161, 162: <https://atproto.com/specs/xrpc#error-responses>
#[test]
fn queries_are_asked_with_get_and_fail_in_json() {
    let relay = relay_of(vec![account(1)], vec![host(7, HostStatus::Active)]);
    let address = relay.door.address();
    let internal = Internal::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&relay.app)).unwrap();
    let queries = [
        "listHosts",
        "getHostStatus?hostname=h7.test",
        "listRepos",
        "getRepoStatus?did=did:web:a1.test",
        "getLatestCommit?did=did:web:a1.test",
        "getRepo?did=did:web:a1.test",
        "listReposByCollection?collection=app.bsky.feed.post",
    ];
    for query in queries {
        let path = format!("{SYNC}.{query}");
        let status = get(internal.address(), &path).0;
        assert!([200, 302].contains(&status), "{query}: {status}");
        let (status, body) = post(address, &path, "", "{}");
        assert_eq!((status, &body["error"]), (405, &"InvalidRequest".into()));
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
        let answer = exchange(address, head.as_bytes());
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 302"));
    }
    for method in ["getRecord", "listhosts", "listHosts/"] {
        let answer = error(&relay, method);
        assert_eq!(answer, (501, "MethodNotImplemented".into()), "{method}");
    }
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    for query in queries {
        let answer = error(&relay, query);
        assert_eq!(answer, (500, "InternalServerError".into()), "{query}");
        let (_, body) = ask(&relay, query);
        assert!(!body.to_string().contains("fire"), "{body}");
    }
}
