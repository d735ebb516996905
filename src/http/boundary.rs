//! The two ports over real sockets, with a fake relay behind them.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use serde_json::Value;

use super::{
    app::{App, Health, Parts},
    crawl::{Crawl, CrawlAnswer, Standing},
    front_door::{Bounds, FrontDoor, Times, listen},
    internal::Internal,
    subscribe::{Firehose, Seat, Subscription},
};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    config::Cli,
    host::admission::{
        Admission,
        tests::{PDS, fake_host},
    },
    metrics::Metrics,
    outbound::Outbound,
};

/// Everything that the ports are connected to, and what came out of them.
#[derive(Default)]
pub(super) struct Fake {
    storage_fails: AtomicBool,
    known: Mutex<Vec<String>>,
    crawled: Mutex<Vec<String>>,
    subscribed: Mutex<Vec<(Option<u64>, Vec<u8>, String, IpAddr)>>,
    full: AtomicBool,
}

impl Health for Fake {
    fn storage(&self) -> Result<(), String> {
        match self.storage_fails.load(Ordering::Relaxed) {
            true => Err("disk on fire".into()),
            false => Ok(()),
        }
    }

    fn live(&self) -> Result<(), String> {
        self.storage()
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Crawl for Fake {
    fn standing(&self, host: &Hostname) -> Standing {
        if host.name().ends_with("banned.com") {
            Standing::Banned
        } else if self
            .known
            .lock()
            .unwrap()
            .iter()
            .any(|known| known == host.as_str())
        {
            Standing::Known
        } else {
            Standing::New
        }
    }

    fn request_crawl(&self, endpoint: Endpoint) -> CrawlAnswer {
        self.crawled.lock().unwrap().push(endpoint.origin());
        CrawlAnswer::Started
    }
}

impl Firehose for Arc<Fake> {
    fn admit(&self, _client: IpAddr) -> Option<Seat> {
        if self.full.load(Ordering::Relaxed) {
            return None;
        }
        let fake = Arc::clone(self);
        Some(Box::new(move |subscription: Subscription| {
            let Subscription {
                mut stream,
                leftover,
                cursor,
                client,
                user_agent,
            } = subscription;
            let seen = (cursor, leftover, user_agent, client);
            fake.subscribed.lock().unwrap().push(seen);
            stream.write_all(b"frames").unwrap();
        }))
    }
}

struct Relay {
    fake: Arc<Fake>,
    app: Arc<App>,
    door: FrontDoor,
}

pub(super) fn app(fake: &Arc<Fake>, flags: &[&str], password: bool) -> Arc<App> {
    let mut config = Cli::try_parse_from([&["zlay"], flags].concat())
        .unwrap()
        .config;
    if password {
        config.admin_password = Some("sesame".to_owned().into());
    }
    let outbound = Outbound::new(&config).unwrap();
    let parts = Parts {
        metrics: Arc::new(Metrics::default()),
        health: Arc::clone(fake) as Arc<dyn Health>,
        firehose: Arc::new(Arc::clone(fake)),
        crawl: Arc::clone(fake) as Arc<dyn Crawl>,
        admission: Admission::new(&config, outbound),
    };
    Arc::new(App::new(&config, parts))
}

fn start(flags: &[&str], bounds: Bounds) -> Relay {
    let fake = Arc::new(Fake::default());
    let app = app(&fake, flags, true);
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let door = FrontDoor::start(listener, Arc::clone(&app), bounds).unwrap();
    Relay { fake, app, door }
}

fn relay() -> Relay {
    start(&["--allow-private-hosts"], Bounds::default())
}

/// Deadlines that a test can wait for.
fn hurried() -> Bounds {
    Bounds {
        times: Times {
            head: Duration::from_millis(150),
            idle: Duration::from_millis(150),
            write: Duration::from_millis(500),
        },
        ..Bounds::default()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    // Only so that a test that fails does not hang.
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// Sends bytes and reads until the relay closes the connection.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Status and JSON body of the last answer in `text`.
fn last_answer(text: &str) -> (u16, Value) {
    let at = text
        .rfind("HTTP/1.1 ")
        .unwrap_or_else(|| panic!("no answer in {text:?}"));
    let (head, body) = text[at..].split_once("\r\n\r\n").unwrap();
    let status = head[9..12].parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(super) fn get(address: SocketAddr, target: &str) -> (u16, Value) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
    last_answer(&exchange(address, request.as_bytes()))
}

fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    last_answer(&exchange(address, request.as_bytes()))
}

#[test]
fn a_half_open_head_meets_its_deadline() {
    let relay = start(&[], hurried());
    let address = relay.door.address();
    let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: r\r\nX-Slow: ");
    assert_eq!(last_answer(&answer).0, 408);
    let answer = exchange(
        address,
        b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 9\r\n\r\nhalf",
    );
    assert_eq!(last_answer(&answer).0, 408);
    assert_eq!(exchange(address, b""), "", "silence is not answered");

    // One byte again and again does not move the deadline.
    let mut stream = connect(address);
    let mut reader = stream.try_clone().unwrap();
    let feeder = std::thread::spawn(move || {
        let bytes = b"GET /".iter().chain(std::iter::repeat(&b'a'));
        for byte in bytes.take(10_000) {
            if stream.write_all(&[*byte]).is_err() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    });
    let answer = rest(&mut reader);
    drop(reader);
    assert_eq!(last_answer(&answer).0, 408);
    assert!(
        feeder.join().unwrap(),
        "the connection must have been closed"
    );
    assert_eq!(get(address, "/xrpc/_health").0, 200);
}

#[test]
fn what_is_too_large_is_refused_unread() {
    let relay = relay();
    let address = relay.door.address();
    let long = format!("GET /{} HTTP/1.1\r\nHost: r\r\n\r\n", "a".repeat(17 << 10));
    assert_eq!(last_answer(&exchange(address, long.as_bytes())).0, 431);
    let endless = vec![b'a'; 200_000];
    assert_eq!(last_answer(&exchange(address, &endless)).0, 431);
    let many = format!(
        "GET / HTTP/1.1\r\nHost: r\r\n{}\r\n",
        "X: 1\r\n".repeat(100)
    );
    assert_eq!(last_answer(&exchange(address, many.as_bytes())).0, 431);
    for length in ["8193", "200000000000", "99999999999999999999999999"] {
        let huge = format!("POST / HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n");
        let (status, body) = last_answer(&exchange(address, huge.as_bytes()));
        assert_eq!((status, &body["error"]), (413, &"PayloadTooLarge".into()));
    }
    assert_eq!(relay.app.metrics.http_refused.get(), 6);
}

#[test]
fn an_answer_survives_a_body_that_nobody_reads() {
    let relay = relay();
    let mut request = b"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 100000\r\n\r\n".to_vec();
    request.resize(request.len() + 100_000, b'x');
    for _ in 0..20 {
        assert_eq!(
            last_answer(&exchange(relay.door.address(), &request)).0,
            413
        );
    }
}

#[test]
fn bodies_of_unclear_length_are_refused() {
    let relay = relay();
    let address = relay.door.address();
    for (lines, expected) in [
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", 400),
        ("Content-Length: -1\r\n", 400),
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: r\r\n{lines}\r\n3\r\nabc\r\n0\r\n\r\n");
        let answer = exchange(address, request.as_bytes());
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert_eq!(last_answer(&answer).0, expected, "{lines}");
    }
    let hello = exchange(address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n\n");
    assert_eq!(last_answer(&hello).0, 400);
}

#[test]
fn requests_in_one_go_are_answered_in_order() {
    let relay = relay();
    let mut all = String::new();
    for n in 0..50 {
        all.push_str(&format!("GET /nothing/{n} HTTP/1.1\r\nHost: r\r\n\r\n"));
        all.push_str("POST /xrpc/x.y.z HTTP/1.1\r\nHost: r\r\nContent-Length: 4\r\n\r\nGET \r\n");
    }
    all.push_str("HEAD /xrpc/_health HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
    let answer = exchange(relay.door.address(), all.as_bytes());
    let statuses: Vec<&str> = answer
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses.len(), 101);
    assert!(statuses[..100].chunks(2).all(|pair| pair == ["404", "501"]));
    assert_eq!(statuses[100], "200");
    assert!(
        answer.ends_with("\r\nConnection: close\r\n\r\n"),
        "HEAD has no body"
    );
    assert_eq!(relay.app.metrics.http_requests.get(), 101);
}

#[test]
fn a_client_may_wait_to_be_asked_for_the_body() {
    let relay = relay();
    let mut stream = connect(relay.door.address());
    let head = "POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1\r\nHost: r\r\n\
                Connection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut told = [0; 25];
    stream.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    assert_eq!(last_answer(&rest(&mut stream)).0, 400);
}

#[test]
fn who_is_over_the_cap_is_told_so() {
    let bounds = Bounds {
        connections_max: 8,
        ..Bounds::default()
    };
    let relay = start(&[], bounds);
    let address = relay.door.address();
    let mut inside: Vec<TcpStream> = (0..8).map(|_| connect(address)).collect();
    for _ in 0..20 {
        let answer = exchange(address, b"GET / HTTP/1.1\r\nHost: r\r\n\r\n");
        let (status, body) = last_answer(&answer);
        assert_eq!((status, &body["error"]), (429, &"RateLimitExceeded".into()));
        assert!(answer.contains("\r\nRetry-After: 10\r\n"), "{answer}");
        assert!(answer.contains("\r\nServer: zlay/"), "{answer}");
    }
    // Who was inside is still served, and who leaves makes room.
    let mut first = inside.remove(0);
    first.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(rest(&mut first).starts_with("HTTP/1.1 200 OK\r\n"));
    drop(first);
    let mut served = false;
    while !served {
        served = get(address, "/xrpc/_health").0 == 200;
    }
    assert!(relay.app.metrics.http_refused.get() >= 20);
}

#[test]
fn a_stop_ends_idle_connections_and_the_port() {
    let relay = relay();
    let address = relay.door.address();
    let mut idle = connect(address);
    let mut half = connect(address);
    half.write_all(b"GET / HT").unwrap();
    idle.write_all(b"GET /nothing HTTP/1.1\r\nHost: r\r\n\r\n")
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).unwrap();
    drop(relay.door);
    assert!(rest(&mut idle).ends_with('}'));
    let _ = half.read_to_end(&mut Vec::new());
    assert!(TcpStream::connect(address).is_err());
}

const UPGRADE: &str = "Host: r\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nUser-Agent: test/1\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Extensions: permessage-deflate\r\n";

#[test]
fn a_subscriber_leaves_with_its_socket() {
    let relay = relay();
    let address = relay.door.address();
    let subscribe = |query: &str, forwarded: &str| {
        let target = format!("/xrpc/com.atproto.sync.subscribeRepos{query}");
        let head = format!("GET {target} HTTP/1.1\r\n{UPGRADE}{forwarded}\r\n");
        exchange(address, &[head.as_bytes(), b"\x89\x80abcd"].concat())
    };
    let answer = subscribe("?cursor=7", "X-Forwarded-For: 203.0.113.9\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(!answer.contains("Extensions"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nframes"), "{answer}");
    let (cursor, leftover, user_agent, client) = relay.fake.subscribed.lock().unwrap().remove(0);
    assert_eq!((cursor, user_agent.as_str()), (Some(7), "test/1"));
    assert_eq!(leftover, b"\x89\x80abcd");
    assert_eq!(client, IpAddr::from([203, 0, 113, 9]));

    assert_eq!(
        last_answer(&subscribe("?cursor=abc", "Connection: close\r\n")).0,
        400
    );
    relay.fake.full.store(true, Ordering::Relaxed);
    let answer = subscribe("", "Connection: close\r\n");
    assert_eq!(last_answer(&answer).0, 429);
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    let (status, body) = get(address, "/xrpc/com.atproto.sync.subscribeRepos?cursor=1");
    assert_eq!((status, &body["error"]), (426, &"InvalidRequest".into()));
    let (status, body) = post(address, "/xrpc/com.atproto.sync.subscribeRepos", "", "");
    assert_eq!((status, &body["error"]), (405, &"InvalidRequest".into()));
    assert!(relay.fake.subscribed.lock().unwrap().is_empty());
}

const CRAWL: &str = "/xrpc/com.atproto.sync.requestCrawl";

fn crawl(relay: &Relay, client: u8, body: &str) -> (u16, Value) {
    let forwarded = format!("X-Forwarded-For: 203.0.113.{client}\r\n");
    post(relay.door.address(), CRAWL, &forwarded, body)
}

#[test]
fn a_pds_asks_to_be_crawled() {
    let relay = relay();
    let pds = fake_host("200 OK", PDS);
    let body = format!("{{\"hostname\":\"{pds}\"}}");
    assert_eq!(crawl(&relay, 1, &body), (200, serde_json::json!({})));
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
    assert_eq!(relay.fake.crawled.lock().unwrap().len(), 2);
    let address = relay.door.address();
    assert_eq!(get(address, CRAWL).0, 405);
}

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
fn every_route_answers_on_its_port() {
    let relay = relay();
    let internal = Internal::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&relay.app)).unwrap();
    let (public, internal) = (relay.door.address(), internal.address());
    for (path, on_public, on_internal) in [
        ("/", 200, 200),
        ("/status.json", 200, 200),
        ("/_health", 200, 200),
        ("/xrpc/_health", 200, 200),
        ("/metrics", 404, 200),
        ("/healthz", 404, 200),
        ("/readyz", 404, 200),
        ("/nothing", 404, 404),
        ("/admin/pds/list", 401, 401),
        ("/xrpc/com.atproto.sync.getBlob", 501, 501),
        ("/xrpc/com.atproto.sync.subscribeRepos", 426, 426),
    ] {
        assert_eq!(get(public, path).0, on_public, "public {path}");
        assert_eq!(get(internal, path).0, on_internal, "internal {path}");
    }
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    for (address, path) in [(public, "/xrpc/_health"), (internal, "/healthz")] {
        let (status, body) = get(address, path);
        assert_eq!(status, 503);
        assert!(body["error"].is_string(), "{body}");
    }
    assert_eq!(get(internal, "/readyz").0, 200);
    let (_, status) = get(public, "/status.json");
    assert!(status["rejected"]["rev_stale"].is_u64(), "{status}");
    let page = exchange(
        public,
        b"GET / HTTP/1.1\r\nHost: r\r\nAccept: text/html,*/*\r\nConnection: close\r\n\r\n",
    );
    assert!(page.contains("\r\nContent-Type: text/html"), "{page}");
    assert!(!page.contains("src="), "nothing from outside");
}

#[test]
fn browsers_may_ask_from_any_page() {
    let relay = relay();
    let request = "OPTIONS /xrpc/com.atproto.sync.requestCrawl HTTP/1.1\r\nHost: r\r\n\
                   Origin: https://example.com\r\nConnection: close\r\n\r\n";
    let answer = exchange(relay.door.address(), request.as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 204 No Content\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("\r\nAccess-Control-Allow-Origin: *\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nAccess-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n"));
    assert!(!answer.contains("Content-Length"), "{answer}");
}

#[test]
fn without_a_password_there_is_no_admin() {
    let fake = Arc::new(Fake::default());
    let app = app(&fake, &[], false);
    let internal = Internal::start("127.0.0.1:0".parse().unwrap(), app).unwrap();
    let (status, body) = get(internal.address(), "/admin/pds/list");
    assert_eq!((status, &body["error"]), (403, &"Forbidden".into()));
}

#[test]
fn the_internal_port_survives_what_kills_its_library() {
    let relay = relay();
    let internal = Internal::start("127.0.0.1:0".parse().unwrap(), Arc::clone(&relay.app)).unwrap();
    let address = internal.address();
    let mut open = Vec::new();
    for length in ["200000000000", "9000000000000000000"] {
        let mut stream = connect(address);
        let head = format!("POST /metrics HTTP/1.1\r\nHost: r\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 413");
        open.push(stream);
    }
    drop(open);
    assert_eq!(get(address, "/metrics").0, 200);
    let chunked = "POST / HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(last_answer(&exchange(address, chunked.as_bytes())).0, 411);
    let (status, _) = post(address, CRAWL, "", r#"{"hostname":"localhost:9"}"#);
    assert_eq!(status, 400, "requests that wait have a thread of their own");
    drop(internal);
    // Its accepting thread closes the port when it wakes up.
    while TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn the_command_line_asks_a_relay() {
    let relay = relay();
    let url = format!("http://{}/", relay.door.address());
    let config = Cli::try_parse_from(["zlay"]).unwrap().config;
    let tls = Outbound::new(&config).unwrap().tls();
    let pds = fake_host("200 OK", PDS);
    let mut out = Vec::new();
    assert!(super::client::crawl(&[pds.clone()], &url, &tls, &mut out).unwrap());
    let hosts = [pds.clone(), "10.0.0.1".to_owned()];
    assert!(!super::client::crawl(&hosts, &url, &tls, &mut out).unwrap());
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..2], [format!("{pds}: ok"), format!("{pds}: ok")]);
    assert!(lines[2].starts_with("10.0.0.1: InvalidRequest "), "{out}");
}
