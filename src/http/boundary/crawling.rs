//! Requests to crawl, from hosts, the operator and the command line.

use super::*;
use crate::{
    control::HostStatus,
    host::admission::tests::{PDS, fake_host},
    http::client,
};

pub(super) const CRAWL: &str = "/xrpc/com.atproto.sync.requestCrawl";

fn crawl(relay: &Relay, client: u8, body: &str) -> (u16, Value) {
    let forwarded = format!("X-Forwarded-For: 203.0.113.{client}\r\n");
    post(relay.door.address(), CRAWL, &forwarded, body)
}

/// Rules 164, 167: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn a_pds_asks_to_be_crawled() {
    let relay = relay();
    let pds = fake_host("200 OK", PDS);
    let body = format!("{{\"hostname\":\"{pds}\"}}");
    let new = json!({ "hostname": pds, "state": "new, and about to be connected to" });
    assert_eq!(crawl(&relay, 1, &body), (200, new));
    assert_eq!(
        *relay.fake.crawled.lock().unwrap(),
        [format!("http://{pds}")]
    );

    // A known host is not asked again: nobody answers at this one.
    relay.fake.known.lock().unwrap().push("localhost:1".into());
    assert_eq!(
        crawl(&relay, 1, r#"{"hostname":"http://localhost:1/"}"#).0,
        200
    );
    let address = relay.door.address();
    let notify = "/xrpc/com.atproto.sync.notifyOfUpdate";
    let answer = post(address, notify, "", r#"{"hostname":"localhost:1"}"#);
    assert_eq!(answer.0, 200);
    assert_eq!(get(address, notify).0, 405);

    let other = fake_host("200 OK\r\nServer: zlay (atproto-relay)", PDS);
    for (hostname, name) in [
        (other, "InvalidRequest"),
        (fake_host("404 Not Found", "{}"), "HostNotFound"),
        ("localhost:9".to_owned(), "HostNotFound"),
    ] {
        let (status, body) = crawl(&relay, 2, &format!("{{\"hostname\":\"{hostname}\"}}"));
        assert_eq!((status, &body["error"]), (400, &name.into()), "{hostname}");
    }
    let (status, body) = crawl(&relay, 2, r#"{"hostname":"pds.banned.com"}"#);
    assert_eq!((status, &body["error"]), (403, &"HostBanned".into()));
    assert_eq!(relay.fake.crawled.lock().unwrap().len(), 3);
    assert_eq!(get(address, CRAWL).0, 405);
}

/// Rule 165: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn a_bad_request_to_crawl_is_the_clients_error() {
    let relay = start(&[], Bounds::default());
    for body in [
        "",
        "not json",
        "{}",
        "[]",
        r#"{"hostname":""}"#,
        r#"{"hostname":7}"#,
        r#"{"hostname":null}"#,
        r#"{"hostname":"10.0.0.1"}"#,
        r#"{"hostname":"[::1]"}"#,
        r#"{"hostname":"relay"}"#,
        r#"{"hostname":"ftp://pds.example.com"}"#,
        r#"{"hostname":"https://pds.example.com/path"}"#,
        r#"{"hostname":"http://pds.example.com"}"#,
        r#"{"hostname":"pds.example.com:8443"}"#,
        r#"{"hostname":"localhost:2583"}"#,
        r#"{"hostname":"pds.internal"}"#,
    ] {
        let (status, answer) = crawl(&relay, 1, body);
        assert_eq!(
            (status, &answer["error"]),
            (400, &"InvalidRequest".into()),
            "{body}"
        );
    }
    assert!(relay.fake.crawled.lock().unwrap().is_empty());
}

#[test]
fn requests_to_crawl_are_limited() {
    let flags = ["--allow-private-hosts", "--new-hosts-per-day-limit", "2"];
    let relay = start(&flags, Bounds::default());
    let ask = |client| {
        let host = fake_host("200 OK", PDS);
        crawl(&relay, client, &format!("{{\"hostname\":\"{host}\"}}")).0
    };
    assert_eq!(ask(1), 200);
    // A host that is refused does not use the day up.
    assert_eq!(crawl(&relay, 1, r#"{"hostname":"localhost:9"}"#).0, 400);
    assert_eq!(ask(1), 200);
    assert_eq!(ask(2), 429, "the day is full");

    let pds = fake_host("200 OK", PDS);
    let body = format!("{{\"hostname\":\"{pds}\"}}");
    let path = "/admin/pds/requestCrawl";
    let address = relay.door.address();
    assert_eq!(post(address, path, "", &body).0, 401);
    let basic = "Authorization: Basic YWRtaW46c2VzYW1l\r\n";
    assert_eq!(
        post(address, path, basic, &body).0,
        200,
        "the operator has no limit"
    );
    assert_eq!(post(address, "/admin/pds/other", basic, "").0, 501);

    relay.fake.known.lock().unwrap().push("localhost:1".into());
    let known = || crawl(&relay, 3, r#"{"hostname":"localhost:1"}"#).0;
    let statuses: Vec<u16> = (0..12).map(|_| known()).collect();
    assert_eq!(statuses, [&[200; 10][..], &[429; 2]].concat());
}

#[test]
fn a_relay_may_take_no_requests() {
    let relay = start(
        &["--allow-private-hosts", "--disable-request-crawl"],
        Bounds::default(),
    );
    let pds = fake_host("200 OK", PDS);
    let body = format!("{{\"hostname\":\"{pds}\"}}");
    assert_eq!(crawl(&relay, 1, &body).0, 403);
    relay.fake.known.lock().unwrap().push(pds);
    assert_eq!(crawl(&relay, 1, &body).0, 200, "what is known is not new");
}

#[test]
fn the_command_line_asks_a_relay() {
    let relay = relay();
    let url = format!("http://{}/", relay.door.address());
    let config = Cli::try_parse_from(["zlay"]).unwrap().config;
    let outbound = Outbound::new(&config).unwrap();
    let asked = client::Relay::new(&outbound, &url, None).unwrap();
    let pds = fake_host("200 OK", PDS);
    let mut out = Vec::new();
    assert!(asked.crawl(std::slice::from_ref(&pds), &mut out).unwrap());
    let hosts = [pds.clone(), "10.0.0.1".to_owned()];
    assert!(!asked.crawl(&hosts, &mut out).unwrap());
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    let taken = format!("{pds}: new, and about to be connected to");
    assert_eq!(lines[..2], [taken.as_str(), &taken]);
    assert!(lines[2].starts_with("10.0.0.1: InvalidRequest "), "{out}");
}

#[test]
fn the_operators_own_machines_are_not_counted() {
    let relay = relay();
    relay.fake.known.lock().unwrap().push("localhost:1".into());
    for _ in 0..30 {
        let answer = post(
            relay.door.address(),
            CRAWL,
            "",
            r#"{"hostname":"localhost:1"}"#,
        );
        assert_eq!(answer.0, 200);
    }
}

#[test]
fn the_hosts_of_another_relay_are_pulled() {
    let from = relay();
    let pds = fake_host("200 OK", PDS);
    let host = |id, name: &str, status| HostView {
        id: HostId(id),
        name: Hostname::parse(name).unwrap(),
        status,
        seq: 1,
        accounts: 1,
    };
    from.fake.hosts.lock().unwrap().extend([
        host(1, &pds, HostStatus::Active),
        host(2, "localhost:9", HostStatus::Offline),
        host(3, "banned.example.com", HostStatus::Banned),
    ]);
    let flags = ["--allow-private-hosts", "--new-hosts-per-day-limit", "0"];
    let relay = start(&flags, Bounds::default());
    let config = Cli::try_parse_from(["zlay", "--allow-private-hosts"])
        .unwrap()
        .config;
    let outbound = Outbound::new(&config).unwrap();
    let url = format!("http://{}", relay.door.address());
    let from = format!("localhost:{}", from.door.address().port());
    let pull = |password: Option<&str>| {
        let secret = password.map(|password| password.to_owned().into());
        let asked = client::Relay::new(&outbound, &url, secret.as_ref()).unwrap();
        let mut out = Vec::new();
        let taken = asked.pull(&from, &mut out).unwrap();
        (taken, String::from_utf8(out).unwrap())
    };
    // The operator has no limit; of two hosts one does not answer.
    let (taken, out) = pull(Some("sesame"));
    assert!(taken, "{out}");
    assert!(out.contains("2 hosts are listed there"), "{out}");
    assert!(out.contains("localhost:9: HostNotFound"), "{out}");
    assert!(
        out.contains("1 of 2 hosts are crawled, 1 were not taken"),
        "{out}"
    );
    assert_eq!(
        *relay.fake.crawled.lock().unwrap(),
        [format!("http://{pds}")]
    );
    for password in [None, Some("wrong")] {
        let (taken, out) = pull(password);
        assert!(!taken, "{out}");
        assert!(
            out.contains("RELAY_ADMIN_PASSWORD lifts its limits"),
            "{out}"
        );
    }
    let asked = client::Relay::new(&outbound, &url, None).unwrap();
    assert!(asked.pull("not a host", &mut Vec::new()).is_err());
}
