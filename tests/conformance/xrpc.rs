//! The queries about hosts and accounts, requests to crawl, and what all of XRPC has in common
//! (<https://atproto.com/specs/xrpc>).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use zlay::{limits::CRAWL_REQUESTS_MAX, reject::Reject, sim::account::Account};

use crate::{
    http::{Answer, ask},
    site::{PASSWORD, Relay, Site, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

const SYNC: &str = "/xrpc/com.atproto.sync";
const LEXICON_STATUSES: [&str; 5] = ["active", "idle", "offline", "throttled", "banned"];

fn get(relay: &Relay, target: &str) -> Answer {
    ask(relay.public, "GET", target, "", "")
}

/// The body of a query's answer, which must be a good one.
fn query(relay: &Relay, query: &str) -> Value {
    let answer = get(relay, &format!("{SYNC}.{query}"));
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.json()
}

/// Status and name of the error that an answer must be.
fn error_of(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    let name = body["error"].as_str().unwrap_or_else(|| panic!("{body}"));
    let message = &body["message"];
    assert!(message.is_string() || message.is_null(), "{body}");
    (answer.status, name.to_owned())
}

/// The same of a query.
fn error(relay: &Relay, query: &str) -> (u16, String) {
    error_of(&get(relay, &format!("{SYNC}.{query}")))
}

fn invalid() -> (u16, String) {
    (400, "InvalidRequest".to_owned())
}

fn post(relay: &Relay, method: &str, body: &str) -> Answer {
    let target = format!("{SYNC}.{method}");
    let headers = "Content-Type: application/json\r\n";
    ask(relay.public, "POST", &target, headers, body)
}

/// Follows the cursors of a list from its beginning to its end, an item at a time, and calls `turn`
/// with the number of items between two pages; the names of the items.
fn one_by_one(relay: &Relay, list: &str, mut turn: impl FnMut(usize)) -> Vec<String> {
    let (items, name) = match list {
        "listHosts" => ("hosts", "hostname"),
        _ => ("repos", "did"),
    };
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = query(relay, &format!("{list}?limit=1&cursor={cursor}"));
        let items = page[items].as_array().unwrap();
        assert!(items.len() <= 1, "{page}");
        let names = items.iter().map(|item| item[name].as_str().unwrap());
        seen.extend(names.map(str::to_owned));
        match &page["cursor"] {
            Value::Null => return seen,
            next => cursor = next.as_str().unwrap().to_owned(),
        }
        turn(seen.len());
    }
}

/// What the relay should say of the account's last commit.
fn latest(account: &Account) -> Value {
    let (cid, rev) = account.head().unwrap();
    json!({"cid": cid.to_string(), "rev": rev.to_string()})
}

/// Rules 160, 161, 162: <https://atproto.com/specs/xrpc#error-responses>
#[test]
fn every_error_is_json_with_a_name() {
    let site = Site::new(1);
    let relay = site.start();
    for (method, target, expected) in [
        ("GET", "com.example.nothing", (501, "MethodNotImplemented")),
        ("POST", "com.example.nothing", (501, "MethodNotImplemented")),
        ("GET", "", (501, "MethodNotImplemented")),
        (
            "GET",
            "com.atproto.sync.listReposByCollection?collection=post",
            (400, "InvalidRequest"),
        ),
        (
            "GET",
            "com.atproto.sync.getBlob?did=did:web:a.b",
            (501, "MethodNotImplemented"),
        ),
        (
            "GET",
            "com.atproto.server.describeServer",
            (501, "MethodNotImplemented"),
        ),
        (
            "POST",
            "com.atproto.sync.listHosts",
            (405, "InvalidRequest"),
        ),
        (
            "POST",
            "com.atproto.sync.listRepos",
            (405, "InvalidRequest"),
        ),
        (
            "POST",
            "com.atproto.sync.listReposByCollection",
            (405, "InvalidRequest"),
        ),
        (
            "PUT",
            "com.atproto.sync.getHostStatus?hostname=a.b",
            (405, "InvalidRequest"),
        ),
        (
            "DELETE",
            "com.atproto.sync.getRepo?did=did:web:a.b",
            (405, "InvalidRequest"),
        ),
        (
            "POST",
            "com.atproto.sync.getRepoStatus?did=did:web:a.b",
            (405, "InvalidRequest"),
        ),
        (
            "POST",
            "com.atproto.sync.getLatestCommit?did=did:web:a.b",
            (405, "InvalidRequest"),
        ),
        (
            "GET",
            "com.atproto.sync.requestCrawl",
            (405, "InvalidRequest"),
        ),
        (
            "PUT",
            "com.atproto.sync.requestCrawl",
            (405, "InvalidRequest"),
        ),
        (
            "GET",
            "com.atproto.sync.notifyOfUpdate",
            (405, "InvalidRequest"),
        ),
        ("POST", "_health", (405, "InvalidRequest")),
        (
            "POST",
            "com.atproto.sync.subscribeRepos",
            (405, "InvalidRequest"),
        ),
        (
            "GET",
            "com.atproto.sync.subscribeRepos",
            (426, "InvalidRequest"),
        ),
        (
            "GET",
            "com.atproto.sync.listHosts?limit=%zz",
            (400, "InvalidRequest"),
        ),
        ("GET", "com.atproto.sync.getRepo", (400, "InvalidRequest")),
        (
            "GET",
            "com.atproto.sync.getRepo?did=did:web:a.b&since=x",
            (400, "InvalidRequest"),
        ),
        (
            "GET",
            "com.atproto.sync.getHostStatus?hostname=a.b",
            (404, "HostNotFound"),
        ),
    ] {
        let answer = ask(relay.public, method, &format!("/xrpc/{target}"), "", "");
        let (status, name) = expected;
        assert_eq!(
            error_of(&answer),
            (status, name.to_owned()),
            "{method} {target}"
        );
    }
    // And what is refused before anybody has looked at the path.
    let target = format!("{SYNC}.listHosts");
    for (headers, expected) in [
        (
            format!("X: {}\r\n", "x".repeat(20_000)),
            (431, "InvalidRequest"),
        ),
        (
            "Content-Length: 1000000\r\n".to_owned(),
            (413, "PayloadTooLarge"),
        ),
        (
            "Transfer-Encoding: chunked\r\n".to_owned(),
            (411, "InvalidRequest"),
        ),
        ("Host: another\r\n".to_owned(), (400, "InvalidRequest")),
        ("no colon\r\n".to_owned(), (400, "InvalidRequest")),
    ] {
        let answer = ask(relay.public, "GET", &target, &headers, "");
        assert_eq!(error_of(&answer), (expected.0, expected.1.to_owned()));
    }
}

/// Rules 163, 179: <https://atproto.com/specs/xrpc>
#[test]
fn browsers_may_read_every_answer() {
    let mut stage = Stage::set_up();
    let account = stage.known_account();
    let did = account.did();
    for (target, status) in [
        ("/_health".to_owned(), 200),
        ("/xrpc/_health".to_owned(), 200),
        ("/xrpc/com.example.nothing".to_owned(), 501),
        (format!("{SYNC}.listHosts"), 200),
        (format!("{SYNC}.listRepos"), 200),
        (format!("{SYNC}.getRepoStatus?did={did}"), 200),
        (format!("{SYNC}.getRepoStatus?did=did:web:a.b"), 404),
        (format!("{SYNC}.getLatestCommit?did={did}"), 200),
        (format!("{SYNC}.getRepo?did={did}"), 302),
        (format!("{SYNC}.getRepo?did=x"), 400),
        (format!("{SYNC}.subscribeRepos"), 426),
    ] {
        let target = target.as_str();
        let answer = get(&stage.relay, target);
        assert_eq!(answer.status, status, "{target}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let server = answer.header("server").unwrap();
        assert!(server.contains("atproto-relay"), "{server}");
        let preflight = "Origin: https://example.com\r\nAccess-Control-Request-Method: GET\r\n";
        let answer = ask(stage.relay.public, "OPTIONS", target, preflight, "");
        assert!([200, 204].contains(&answer.status), "{target}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let methods = answer.header("access-control-allow-methods").unwrap();
        assert!(
            methods.contains("GET") && methods.contains("POST"),
            "{methods}"
        );
        let headers = answer.header("access-control-allow-headers").unwrap();
        let headers = headers.to_ascii_lowercase();
        for name in ["origin", "content-type", "accept", "authorization"] {
            assert!(headers.contains(name), "{headers}");
        }
    }
    for path in ["/_health", "/xrpc/_health"] {
        let health = get(&stage.relay, path).json();
        assert_eq!(health["status"], "ok");
        assert!(health["version"].is_string(), "{health}");
    }
}

/// Rule 164: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn a_host_that_asks_is_crawled_once_however_often_it_asks() {
    let mut site = Site::new(1);
    let relay = site.start();
    let host = site.network.host(0).clone();
    let body = |name: &str| json!({ "hostname": name }).to_string();
    let answer = post(&relay, "requestCrawl", &body(host.name()));
    assert_eq!(answer.status, 200, "{answer:?}");
    wait_until("it is connected to", || host.connected() == 1);
    let url = host.url();
    for (method, name) in [
        ("requestCrawl", host.name()),
        ("requestCrawl", &host.name().to_uppercase()),
        ("requestCrawl", &url),
        ("requestCrawl", &url.replace("http", "ws")),
        ("notifyOfUpdate", host.name()),
    ] {
        let answer = post(&relay, method, &body(name));
        assert_eq!(answer.status, 200, "{method} {name}: {answer:?}");
    }
    // Its events come, and by the one connection.
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    let mut account = site.account(0);
    subscriber.expect(&[&site.publish_post(&mut account)]);
    assert_eq!((host.connections(), host.connected()), (1, 1));
    assert_eq!(
        query(&relay, "listHosts")["hosts"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// Beside that all is well, an answer says to people what becomes of the request: the host is new, it is
/// connected and since when, it is tried at once, or it was tried only just now and waits until then. To
/// whom asks too often it says when to ask again. Asking changes nothing but when a host is tried.
///
/// Rule 164: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn an_answer_says_what_becomes_of_the_request() {
    let site = Site::new(1);
    let relay = site.start();
    let host = site.network.host(0).clone();
    let body = json!({ "hostname": host.name() }).to_string();
    let crawl = || {
        let answer = post(&relay, "requestCrawl", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["hostname"], host.name());
        answer
    };
    let new = json!({ "hostname": host.name(), "state": "new, and about to be connected to" });
    assert_eq!(crawl(), new);
    wait_until("it is connected", || {
        relay.of_host(host.name(), "/state") == "connected"
    });
    let since = relay.of_host(host.name(), "/since");
    for _ in 0..3 {
        let answer = crawl();
        let said = (&answer["state"], &answer["since"]);
        assert_eq!(said, (&"connected already".into(), &since));
    }
    // Once it is not there any more, each second time it is left to wait.
    host.set_refuses(true);
    host.inject(zlay::sim::feed::Once::Cut);
    let failures = || relay.of_host(host.name(), "/failures").as_u64();
    wait_until("two attempts have failed", || failures() >= Some(2));
    let before = relay.host_page(host.name()).1;
    assert_eq!(crawl()["state"], "about to be connected to");
    wait_until("it was tried", || failures() > before["failures"].as_u64());
    let answer = crawl();
    let state = answer["state"].as_str().unwrap();
    assert!(state.starts_with("tried just now"), "{state}");
    let until = answer["until"].as_str().unwrap();
    assert!(until > before["until"].as_str().unwrap(), "{answer}");
    host.set_refuses(false);

    let asker = "X-Forwarded-For: 203.0.113.9\r\n";
    let path = "/xrpc/com.atproto.sync.requestCrawl";
    let mut taken = 0;
    let refused = loop {
        let answer = ask(relay.public, "POST", path, asker, &body);
        if answer.status != 200 {
            break answer;
        }
        taken += 1;
    };
    assert_eq!(taken, CRAWL_REQUESTS_MAX);
    let error = (429, "RateLimitExceeded".to_owned());
    assert_eq!(error_of(&refused), error);
    let seconds = refused.header("retry-after").unwrap().parse::<u64>();
    assert!((1..=60).contains(&seconds.unwrap()));
    wait_until("it is connected again", || host.connected() == 1);
    assert_eq!(relay.listed(), [host.name()]);
}

/// Rule 165: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn what_is_no_host_is_not_crawled() {
    let bodies = |names: &[&str]| -> Vec<String> {
        let body = |name: &&str| json!({ "hostname": name }).to_string();
        names.iter().map(body).collect()
    };
    let mut no_hosts: Vec<String> = [
        "",
        "hostname=pds.example.com",
        "{\"hostname\":\"pds.example.com\"",
        "null",
        "[]",
        "\"pds.example.com\"",
        "{}",
        "{\"host\":\"pds.example.com\"}",
        "{\"hostname\":null}",
        "{\"hostname\":7}",
        "{\"hostname\":[\"pds.example.com\"]}",
    ]
    .map(str::to_owned)
    .into();
    no_hosts.extend(bodies(&[
        "",
        " ",
        "127.0.0.1",
        "127.0.0.1:2583",
        "http://10.0.0.1/",
        "0x7f000001",
        "[::1]",
        "::1",
        "relay",
        "com",
        "ftp://pds.example.com",
        "file:///etc/passwd",
        "https://pds.example.com/path",
        "https://user@pds.example.com",
        "pds.example.com?x=y",
        "pds..example.com",
        "-.example.com",
        "pds_1.example.com",
        "pds.example.com:0",
        "pds.example.com:99999",
        "did:web:pds.example.com",
    ]));
    // On the open network these are none either.
    let mut private = bodies(&[
        "localhost",
        "localhost:2583",
        "http://pds.example.com",
        "ws://pds.example.com",
        "pds.example.com:8443",
        "pds.local",
        "pds.internal",
        "pds.test",
    ]);
    let mut site = Site::new(1);
    private.extend(bodies(&[site.network.host(0).name()]));
    for (allowed, bodies) in [
        ("true", vec![&no_hosts]),
        ("false", vec![&no_hosts, &private]),
    ] {
        site.variables = vec![("RELAY_ALLOW_PRIVATE_HOSTS", allowed.to_owned())];
        let relay = site.start();
        for body in bodies.into_iter().flatten() {
            for method in ["requestCrawl", "notifyOfUpdate"] {
                let answer = post(&relay, method, body);
                assert_eq!(error_of(&answer), invalid(), "{method} {body}");
            }
        }
        assert_eq!(query(&relay, "listHosts"), json!({"hosts": []}));
    }
    assert_eq!(site.network.host(0).connections(), 0);
}

/// Rule 167: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn a_host_that_does_not_answer_is_not_listed() {
    let site = Site::new(1);
    let relay = site.start();
    let host = site.network.host(0);
    host.set_refuses(true);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    for name in [host.name(), &format!("localhost:{port}")] {
        let (status, body) = relay.request_crawl(name);
        assert_eq!((status, &body["error"]), (400, &"HostNotFound".into()));
        let unknown = error(&relay, &format!("getHostStatus?hostname={name}"));
        assert_eq!(unknown, (404, "HostNotFound".to_owned()));
    }
    assert_eq!(query(&relay, "listHosts"), json!({"hosts": []}));
}

/// Rules 168, 170, 171: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listHosts.json>
#[test]
fn hosts_are_listed_as_they_are() {
    let mut site = Site::new(3);
    let relay = site.start();
    assert_eq!(query(&relay, "listHosts"), json!({"hosts": []}));
    assert_eq!(query(&relay, "listRepos"), json!({"repos": []}));
    // In the order in which they come, whatever their names.
    let order = [2, 0, 1];
    let in_order = order.map(|n| site.network.host(n).clone());
    for host in &in_order {
        assert_eq!(relay.request_crawl(host.name()).0, 200);
    }
    site.wait_until_connected();
    let name = in_order[2].name();
    let silent = json!({"hostname": name, "seq": 0, "accountCount": 0, "status": "active"});
    assert_eq!(query(&relay, "listHosts")["hosts"][2], silent);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    for host in [2, 2, 0] {
        let mut account = site.account(host);
        for _ in 0..3 {
            subscriber.expect(&[&site.publish_post(&mut account)]);
        }
    }
    let check = |relay: &Relay| {
        let list = query(relay, "listHosts");
        assert_eq!(list.get("cursor"), None);
        let hosts = list["hosts"].as_array().unwrap();
        assert_eq!(hosts.len(), 3);
        for (item, (host, accounts)) in hosts.iter().zip(in_order.iter().zip([2, 1, 0])) {
            assert_eq!(item["hostname"], host.name());
            assert_eq!(item["accountCount"], accounts);
            assert_eq!(item["seq"], host.seq(), "as far as it was read");
            let status = item["status"].as_str().unwrap();
            assert!(LEXICON_STATUSES.contains(&status), "{status}");
            let one = query(relay, &format!("getHostStatus?hostname={}", host.name()));
            assert_eq!(one, *item);
        }
    };
    check(&relay);
    let not_found = (404, "HostNotFound".to_owned());
    assert_eq!(
        error(&relay, "getHostStatus?hostname=pds.example.com"),
        not_found
    );
    for parameters in ["", "?hostname=", "?hostname=relay", "?hostname=127.0.0.1"] {
        let answer = error(&relay, &format!("getHostStatus{parameters}"));
        assert_eq!(answer, invalid(), "{parameters}");
    }
    // The first answer after a start is as good as any.
    drop(relay);
    check(&site.start());
}

/// Rule 169: <https://atproto.com/specs/xrpc#cursors-and-pagination>
#[test]
fn lists_come_in_pages_of_any_allowed_size() {
    let mut stage = Stage::on(Site::new(3));
    let accounts: Vec<Account> = (0..4).map(|_| stage.known_account()).collect();
    // Known, and without a commit: it is on no page.
    let silent = stage.site.account(1);
    stage.pass_from(1, &[&silent.identity()]);
    let last = stage.site.account(1);
    let mut last = stage.seen(last);
    let relay = &stage.relay;
    for list in ["listHosts", "listRepos"] {
        for limit in [
            "0",
            "1001",
            "-1",
            "abc",
            "1.5",
            "1e2",
            "99999999999999999999",
        ] {
            let answer = error(relay, &format!("{list}?limit={limit}"));
            assert_eq!(answer, invalid(), "{list} {limit}");
        }
        for cursor in ["abc", "-1", "0", "1000000", "99999999999999999999"] {
            let answer = error(relay, &format!("{list}?cursor={cursor}"));
            assert_eq!(answer, invalid(), "{list} {cursor}");
        }
        let all = query(relay, list);
        for parameters in ["?limit=1000", "?limit=&cursor=", "?unknown=1"] {
            assert_eq!(query(relay, &format!("{list}{parameters}")), all);
        }
        assert_eq!(all.get("cursor"), None);
    }
    let hosts = one_by_one(relay, "listHosts", |_| {});
    let network = &stage.site.network;
    let names: Vec<_> = network.hosts().iter().map(|host| host.name()).collect();
    assert_eq!(hosts, names);
    let mut dids = vec![stage.bystander.did().to_string()];
    dids.extend(accounts.iter().map(|account| account.did().to_string()));
    dids.push(last.did().to_string());
    assert_eq!(one_by_one(relay, "listRepos", |_| {}), dids);
    // A page that is exactly full is the last one where nothing follows.
    let page = query(relay, "listRepos?limit=6");
    assert_eq!(
        (page["repos"].as_array().unwrap().len(), page.get("cursor")),
        (6, None)
    );
    let page = query(relay, "listRepos?limit=5");
    let cursor = page["cursor"].as_str().unwrap();
    let page = query(relay, &format!("listRepos?limit=5&cursor={cursor}"));
    assert_eq!(page["repos"][0]["did"], dids[5].as_str());
    let next = next_commit(&mut last);
    stage.pass_from(1, &[&next]);
}

/// Rules 172, 173: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listRepos.json>
#[test]
fn accounts_are_listed_with_their_last_commit_while_more_are_added() {
    let mut stage = Stage::set_up();
    let mut accounts: Vec<Account> = (0..3).map(|_| stage.known_account()).collect();
    accounts[0].status = Some("deactivated");
    let gone = accounts[0].account();
    stage.site.network.register(&accounts[0]);
    stage.pass(&[&gone]);
    let next = next_commit(&mut accounts[1]);
    stage.pass(&[&next]);
    let item = |account: &Account| {
        let (head, rev) = account.head().unwrap();
        let mut item = json!({
            "did": account.did().as_ref(),
            "head": head.to_string(),
            "rev": rev.to_string(),
            "active": account.status.is_none(),
        });
        if let Some(status) = account.status {
            item["status"] = status.into();
        }
        item
    };
    let expected: Vec<_> = [&stage.bystander]
        .into_iter()
        .chain(&accounts)
        .map(item)
        .collect();
    assert_eq!(
        query(&stage.relay, "listRepos"),
        json!({ "repos": expected })
    );

    // Between two pages there is always one account more, and one that says something again.
    let mut first = stage.bystander.clone();
    let mut added = Vec::new();
    let Stage {
        site,
        relay,
        subscriber,
        ..
    } = &mut stage;
    let seen = one_by_one(relay, "listRepos", |pages| {
        if pages > 6 {
            return;
        }
        let mut account = site.account(pages % 2);
        let again = site.publish_post(&mut first);
        let new = site.publish_post(&mut account);
        subscriber.expect(&[&again, &new]);
        added.push(account);
    });
    let all = [&first].into_iter().chain(&accounts).chain(&added);
    let expected: Vec<_> = all
        .clone()
        .map(|account| account.did().to_string())
        .collect();
    assert_eq!(seen, expected);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 10);
    let expected: Vec<_> = all.map(item).collect();
    assert_eq!(query(relay, "listRepos"), json!({ "repos": expected }));
}

/// Rules 174, 180: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getRepoStatus.json>
#[test]
fn an_account_has_a_status() {
    let mut stage = Stage::set_up();
    let account = stage.known_account();
    let silent = stage.site.account(0);
    stage.pass(&[&silent.account()]);
    let relay = &stage.relay;
    let (_, rev) = account.head().unwrap();
    let did = account.did().to_string();
    let expected = json!({"did": did, "active": true, "rev": rev.to_string()});
    for spelling in [
        did.clone(),
        did.replace(':', "%3A"),
        did.replace(':', "%3a"),
        did.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ] {
        assert_eq!(
            query(relay, &format!("getRepoStatus?did={spelling}")),
            expected
        );
        assert_eq!(
            query(relay, &format!("getRepoStatus?x=&%64id={spelling}")),
            expected
        );
        assert_eq!(
            query(relay, &format!("getLatestCommit?did={spelling}")),
            latest(&account)
        );
    }
    let without_commit = json!({"did": silent.did().as_ref(), "active": true});
    let status = query(relay, &format!("getRepoStatus?did={}", silent.did()));
    assert_eq!(status, without_commit);
    let stranger = stage.site.stranger(0);
    for did in [
        &**stranger.did(),
        "did:web:a.b",
        "did:example:somebody",
        "did:web:a.b%253A80",
    ] {
        let not_found = (404, "RepoNotFound".to_owned());
        for method in ["getRepoStatus", "getLatestCommit", "getRepo"] {
            assert_eq!(
                error(relay, &format!("{method}?did={did}")),
                not_found,
                "{did}"
            );
        }
    }
    let long = format!("did:web:{}", "a".repeat(2_048));
    for did in [
        "",
        "alice.example.com",
        "did:",
        "did:plc:",
        "DID:web:a.b",
        "did:web:a%20",
        &long,
    ] {
        for method in ["getRepoStatus", "getLatestCommit", "getRepo"] {
            assert_eq!(
                error(relay, &format!("{method}?did={did}")),
                invalid(),
                "{did}"
            );
        }
    }
    assert_eq!(error(relay, "getRepoStatus"), invalid());
}

/// Rules 117, 175: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getLatestCommit.json>
#[test]
fn the_latest_commit_is_the_last_that_was_accepted() {
    let mut stage = Stage::set_up();
    let mut account = stage.site.account(0);
    let of = |stage: &Stage, account: &Account| {
        query(
            &stage.relay,
            &format!("getLatestCommit?did={}", account.did()),
        )
    };
    stage.pass(&[&account.identity()]);
    let none_yet = error(
        &stage.relay,
        &format!("getLatestCommit?did={}", account.did()),
    );
    assert_eq!(none_yet, (404, "RepoNotFound".to_owned()));
    let first = next_commit(&mut account);
    stage.pass(&[&first]);
    assert_eq!(of(&stage, &account), latest(&account));
    let second = next_commit(&mut account);
    stage.pass(&[&second]);
    assert_eq!(of(&stage, &account), latest(&account));

    let mut forged = account.clone();
    forged.key = stage.bystander.key.clone();
    let stolen = next_commit(&mut forged);
    let sync = forged.sync().unwrap();
    for (event, reject) in [
        (&stolen, Reject::SignatureInvalid),
        (&sync, Reject::SignatureInvalid),
        (&first, Reject::RevStale),
    ] {
        stage.refuse(0, event, reject);
        assert_eq!(
            of(&stage, &account),
            latest(&account),
            "{reject} changes nothing"
        );
    }
    // From a host that is not the account's.
    let elsewhere = next_commit(&mut account.clone());
    stage.refuse(1, &elsewhere, Reject::WrongHost);
    assert_eq!(of(&stage, &account), latest(&account));

    // A commit that nobody has announced, and the sync that says so.
    next_commit(&mut account);
    assert_ne!(of(&stage, &account), latest(&account));
    let sync = account.sync().unwrap();
    stage.pass(&[&sync]);
    assert_eq!(of(&stage, &account), latest(&account));
    let third = next_commit(&mut account);
    stage.pass(&[&third]);
    assert_eq!(of(&stage, &account), latest(&account));
}

/// Rules 134, 145: <https://atproto.com/specs/account#hosting-status>
#[test]
fn what_is_not_active_is_not_served() {
    let mut stage = Stage::set_up();
    for (status, expected) in [
        ("deactivated", (403, "RepoDeactivated")),
        ("takendown", (403, "RepoTakendown")),
        ("suspended", (403, "RepoSuspended")),
        ("deleted", (404, "RepoNotFound")),
        ("on holiday", (403, "RepoDeactivated")),
    ] {
        let mut account = stage.known_account();
        let did = account.did().clone();
        account.status = Some(status);
        stage.site.network.register(&account);
        stage.pass(&[&account.account()]);
        let said = query(&stage.relay, &format!("getRepoStatus?did={did}"));
        assert_eq!(
            said,
            json!({"did": &*did, "active": false, "status": status})
        );
        for method in ["getLatestCommit", "getRepo"] {
            let (code, name) = error(&stage.relay, &format!("{method}?did={did}"));
            assert_eq!((code, name.as_str()), expected, "{method} {status}");
        }
        // Active again, it is where it was.
        account.status = None;
        stage.site.network.register(&account);
        stage.pass(&[&account.account()]);
        let said = query(&stage.relay, &format!("getRepoStatus?did={did}"));
        let (_, rev) = account.head().unwrap();
        assert_eq!(
            said,
            json!({"did": &*did, "active": true, "rev": rev.to_string()})
        );
        let said = query(&stage.relay, &format!("getLatestCommit?did={did}"));
        assert_eq!(said, latest(&account));
        let next = next_commit(&mut account);
        stage.pass(&[&next]);
    }
}

/// Rules 149, 176: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/getRepo.json>
#[test]
fn an_account_that_moves_is_counted_and_found_at_its_new_host() {
    for site in [Site::new(2), Site::with_tls(2)] {
        let mut stage = Stage::on(site);
        let mut account = stage.known_account();
        let hosts = [0, 1].map(|n| stage.site.network.host(n).clone());
        let counts = |stage: &Stage| {
            let list = query(&stage.relay, "listHosts");
            let of = |n: usize| list["hosts"][n]["accountCount"].as_u64().unwrap();
            for host in &hosts {
                let one = query(
                    &stage.relay,
                    &format!("getHostStatus?hostname={}", host.name()),
                );
                assert!(
                    list["hosts"].as_array().unwrap().contains(&one),
                    "{one} {list}"
                );
            }
            (of(0), of(1))
        };
        let is_at = |stage: &Stage, account: &Account| {
            let did = account.did();
            for parameters in [
                format!("did={did}"),
                format!("did={}&since=3jzfcijpj2z2a", did.replace(':', "%3A")),
                format!("since=3jzfcijpj2z2a&did={did}&x=a%20b"),
            ] {
                let query = format!("{SYNC}.getRepo?{parameters}");
                let answer = get(&stage.relay, &query);
                assert!([302, 307].contains(&answer.status), "{answer:?}");
                let url = format!("{}{query}", hosts[account.host].url());
                assert_eq!(answer.header("location"), Some(url.as_str()));
            }
        };
        assert_eq!(counts(&stage), (2, 0));
        is_at(&stage, &account);
        account.host = 1;
        stage.site.network.register(&account);
        // The document alone moves nothing: nobody has said anything yet.
        assert_eq!(counts(&stage), (2, 0));
        let (identity, commit) = (account.identity(), next_commit(&mut account));
        stage.pass_from(1, &[&identity, &account.account(), &commit]);
        assert_eq!(counts(&stage), (1, 1));
        is_at(&stage, &account);
        // The old host's farewell does not take it back.
        account.status = Some("deactivated");
        stage.refuse(0, &account.account(), Reject::WrongHost);
        account.status = None;
        assert_eq!(counts(&stage), (1, 1));
        is_at(&stage, &account);
        let next = next_commit(&mut account);
        stage.pass_from(1, &[&next]);
        let unknown = stage.site.account(0);
        let answer = error(&stage.relay, &format!("getRepo?did={}", unknown.did()));
        assert_eq!(answer, (404, "RepoNotFound".to_owned()));
    }
}

/// Rule 181: <https://atproto.com/specs/xrpc#authentication>
#[test]
fn what_is_the_operators_needs_the_password() {
    let site = Site::new(1);
    let relay = site.start();
    let basic = |pair: String| {
        let pair = data_encoding::BASE64.encode(pair.as_bytes());
        format!("Authorization: Basic {pair}\r\n")
    };
    let host = site.network.host(0).name();
    let body = json!({ "hostname": host }).to_string();
    let crawl = |headers: &str| {
        let path = "/admin/pds/requestCrawl";
        ask(relay.public, "POST", path, headers, &body)
    };
    for headers in [
        String::new(),
        basic("admin:".to_owned()),
        basic("admin:wrong".to_owned()),
        basic(format!("root:{PASSWORD}")),
        "Authorization: Bearer wrong\r\n".to_owned(),
        format!("Authorization: {PASSWORD}\r\n"),
    ] {
        let answer = crawl(&headers);
        let unauthorised = (401, "AuthenticationRequired".to_owned());
        assert_eq!(error_of(&answer), unauthorised, "{headers}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic"), "{challenge}");
    }
    for path in ["/admin/nothing", "/admin/pds/list", "/admin/console/hosts"] {
        assert_eq!(get(&relay, path).status, 401, "{path}");
    }
    assert_eq!(query(&relay, "listHosts"), json!({"hosts": []}));
    assert_eq!(crawl(&basic(format!("admin:{PASSWORD}"))).status, 200);
    assert_eq!(query(&relay, "listHosts")["hosts"][0]["hostname"], host);
}
