//! Subscribers and other clients that mean harm, against the whole program: the hosts' events go on, who
//! behaves gets them, and whatever was refused was refused with the right status.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use zlay::limits::{ADMIN_FAILURES_MAX, CRAWL_REQUESTS_MAX, HTTP_CONNECTIONS_MAX};

use crate::{
    http::{ask, exchange},
    site::{Relay, Site, TIMEOUT, next_commit, wait_until},
    stage::Stage,
    subscriber::Subscriber,
};

const STREAM: &str = "/xrpc/com.atproto.sync.subscribeRepos";

/// The head of a good upgrade, but for its end.
const UPGRADE: &str = "HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// A subscriber whose socket nobody reads once the head of the answer is there; `address` is what a proxy
/// would say of it.
fn subscribe(relay: &Relay, query: &str, address: &str) -> TcpStream {
    let mut stream = connect(relay.public);
    let request = format!("GET {STREAM}{query} {UPGRADE}X-Forwarded-For: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// What the relay's process has open.
fn descriptors(relay: &Relay) -> usize {
    let pid = relay.child.id();
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

/// Each kind of bad request once, in one go, while events flow: the answers are those of the table, the
/// relay counts them, nobody else notices, and nothing is left of it.
#[test]
fn bad_requests_have_their_answers_and_nobody_else_notices() {
    let mut stage = Stage::set_up();
    let relay = stage.relay.public;
    let before = descriptors(&stage.relay);
    let get = "GET /xrpc/com.atproto.sync.listRepos HTTP/1.1\r\nHost: r\r\n";
    let post = "POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1\r\nHost: r\r\n";
    let long = format!("GET /xrpc/{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    let many = format!("{get}{}\r\n", "X: 1\r\n".repeat(100));
    let cases = [
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("GET / HTTP/3.0\r\nHost: r\r\n\r\n".to_owned(), 505),
        ("\0\0\0\0".to_owned(), 400),
        (long, 414),
        (many, 431),
        (format!("{get}X: {}\r\n\r\n", "x".repeat(20_000)), 431),
        (format!("{get}X: a\0b\r\n\r\n"), 400),
        (format!("{get}X: a\rb\r\n\r\n"), 400),
        (
            format!("{get}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            411,
        ),
        (format!("{get}Expect: tea\r\n\r\n"), 417),
        (format!("{post}Content-Length: 9000\r\n\r\n"), 413),
        (
            format!("{post}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            400,
        ),
        (
            format!("{post}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
            400,
        ),
        (
            format!("{post}Connection: close\r\nContent-Length: 3\r\n\r\n[1]"),
            400,
        ),
        (
            format!("{post}Connection: close\r\nContent-Length: 3\r\n\r\n\u{0}\u{1}\u{2}"),
            400,
        ),
        (format!("{get}Content-Length: 5\r\n\r\nhalf"), 408),
        (format!("{get}X-Slow: "), 408),
        (
            format!("DELETE {STREAM} {UPGRADE}Connection: close\r\n\r\n"),
            405,
        ),
        (
            format!("GET {STREAM}?cursor=-1 {UPGRADE}Connection: close\r\n\r\n"),
            400,
        ),
        (
            format!("GET {STREAM} {UPGRADE}Sec-WebSocket-Key: x\r\nConnection: close\r\n\r\n"),
            400,
        ),
        (
            format!("GET {STREAM} HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
            426,
        ),
        ("GET /xrpc/com.example.x HTTP/1.0\r\n\r\n".to_owned(), 501),
        ("GET /admin/pds/list HTTP/1.0\r\n\r\n".to_owned(), 401),
        ("GET /metrics HTTP/1.0\r\n\r\n".to_owned(), 404),
        ("GET /readyz HTTP/1.0\r\n\r\n".to_owned(), 404),
        ("GET /memory.json HTTP/1.0\r\n\r\n".to_owned(), 404),
    ];
    thread::scope(|scope| {
        for (request, expected) in &cases {
            scope.spawn(move || {
                let answer = exchange(relay, request.as_bytes());
                assert_eq!(answer.status, *expected, "{request:.90}: {answer:?}");
                assert!(answer.json()["error"].is_string(), "{request:.90}");
            });
        }
        for _ in 0..10 {
            stage.sentinel();
        }
    });
    // On the internal port, which has a library's manners, the same is refused as well.
    let internal = stage.relay.internal;
    assert!(internal.ip().is_loopback());
    for (request, expected) in [
        (
            "POST /xrpc/_health HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: 9000\r\n\r\n",
            413,
        ),
        (
            "GET /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: x\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: r\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            411,
        ),
        (
            "GET /nothing HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n",
            404,
        ),
        (
            "DELETE /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n",
            405,
        ),
    ] {
        let mut stream = connect(internal);
        stream.write_all(request.as_bytes()).unwrap();
        // Of a body that never comes nothing is waited for by a client that closes.
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{request}: {answer}"
        );
        let error = answer.split("\r\n\r\n").nth(1).unwrap();
        assert!(error.starts_with("{\"error\":"), "{request}: {answer}");
    }
    stage.sentinel();
    assert_eq!(stage.relay.metric("relay_panics_total"), 0);
    wait_until("nothing is left of them", || {
        descriptors(&stage.relay) <= before + 8
    });
}

/// Dozens of each: those who stop reading in the middle of a replay, those who never read, those who talk
/// without end, those who only ever say half a frame. Who behaves gets every event.
#[test]
fn bad_subscribers_delay_nobody() {
    const EACH: u8 = 20;
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for _ in 0..20 {
        let post = account.post(&"x".repeat(200_000));
        let event = account.commit(&[post]);
        stage.pass(&[&event]);
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut sockets = Vec::new();
    let mut talkers = Vec::new();
    for n in 0..EACH {
        let address = format!("203.0.113.{n}");
        // In the replay, and live.
        sockets.push(subscribe(&stage.relay, "?cursor=0", &address));
        sockets.push(subscribe(&stage.relay, "", &address));
        let mut half = subscribe(&stage.relay, "", &address);
        half.write_all(&[0x82, 0xff, 0x7f, 0xff]).unwrap();
        sockets.push(half);
        let mut talks = subscribe(&stage.relay, "?cursor=0", &address);
        let done = Arc::clone(&done);
        talkers.push(thread::spawn(move || {
            talks.set_nonblocking(true).unwrap();
            let pings = b"\x89\x84\0\0\0\0ping".repeat(1_000);
            let mut at = 0;
            while !done.load(Ordering::Relaxed) {
                // Also where the relay does not listen any more.
                match talks.write(&pings[at..]) {
                    Ok(said) => at = (at + said) % pings.len(),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(1));
                    }
                    Err(_) => return,
                }
            }
        }));
    }
    let all = u64::from(EACH) * 4 + 1;
    wait_until("all are there", || {
        stage.relay.metric("relay_subscribers") == all
    });
    for _ in 0..100 {
        stage.sentinel();
    }
    let events = stage.subscriber.last();
    let mut replay = Subscriber::from_the_beginning(&stage.relay);
    while replay.event().seq < events {}
    done.store(true, Ordering::Relaxed);
    for talker in talkers {
        talker.join().unwrap();
    }
    drop(sockets);
    wait_until("all are gone", || {
        stage.relay.metric("relay_subscribers") == 2
    });
    stage.sentinel();
    assert_eq!(stage.relay.metric("relay_panics_total"), 0);
}

/// Fifty who read everything there is at once, and as many who list everything there is: all of them get
/// all of it, and who is live gets what happens meanwhile.
#[test]
fn scans_of_everything_by_many_at_once_are_whole() {
    let mut stage = Stage::set_up();
    for _ in 0..20 {
        let account = stage.known_account();
        let mut account = stage.seen(account);
        let events: Vec<_> = (0..20).map(|_| next_commit(&mut account)).collect();
        stage.pass(&events.iter().collect::<Vec<_>>());
    }
    let last = stage.subscriber.last();
    let public = stage.relay.public;
    let mut scans: Vec<_> = (0..50)
        .map(|_| Subscriber::from_the_beginning(&stage.relay))
        .collect();
    thread::scope(|scope| {
        for scan in &mut scans {
            scope.spawn(move || while scan.event().seq < last {});
        }
        for _ in 0..50 {
            scope.spawn(move || {
                let list = "/xrpc/com.atproto.sync.listRepos?limit=3";
                let (mut cursor, mut seen) = (String::new(), BTreeMap::new());
                loop {
                    let page = ask(public, "GET", &format!("{list}{cursor}"), "", "").json();
                    for repo in page["repos"].as_array().unwrap() {
                        let did = repo["did"].as_str().unwrap().to_owned();
                        assert_eq!(seen.insert(did, ()), None, "no account twice");
                    }
                    match page["cursor"].as_str() {
                        Some(next) => {
                            let before = std::mem::replace(&mut cursor, format!("&cursor={next}"));
                            assert_ne!(before, cursor);
                        }
                        None => break,
                    }
                }
                // The bystander as well.
                assert_eq!(seen.len(), 21);
            });
        }
        for _ in 0..20 {
            stage.sentinel();
        }
    });
}

/// With few descriptors, connections of strangers take none of those that the store and the internal port
/// need, however many come: the relay goes on, says so, and takes strangers again once they are fewer.
#[test]
fn a_flood_of_connections_leaves_descriptors_for_the_store() {
    const ALLOWED: usize = 300;
    let mut site = Site::new(1);
    let relay = site.start_with_descriptors(ALLOWED);
    let url = site.network.hosts()[0].url();
    let host = url.trim_start_matches("http://");
    assert_eq!(relay.request_crawl(host).0, 200);
    site.wait_until_connected();
    let mut account = site.account(0);
    let mut subscriber = Subscriber::from_the_beginning(&relay);
    subscriber.expect(&[&site.publish_post(&mut account)]);
    let mut idle = Vec::new();
    let mut refused = 0;
    for n in 0..HTTP_CONNECTIONS_MAX {
        let stream = connect(relay.public);
        // Some say half a request, some all of it, and some nothing.
        let said: &[u8] = match n % 3 {
            0 => b"GET / HT",
            1 => b"GET /xrpc/_health HTTP/1.1\r\nHost: r\r\n\r\n",
            _ => b"",
        };
        // Who is refused is not heard.
        let _ = (&stream).write_all(said);
        idle.push(stream);
        if n % 100 == 99 {
            subscriber.expect(&[&site.publish_post(&mut account)]);
            refused = relay.metric("relay_http_refused_total");
            assert!(descriptors(&relay) < ALLOWED);
        }
    }
    assert!(refused > 100, "{refused}");
    assert_eq!(relay.metric("relay_panics_total"), 0);
    drop(idle);
    wait_until("strangers are answered again", || {
        let mut stream = connect(relay.public);
        let asked = stream.write_all(b"GET /xrpc/_health HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        asked.is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200 ")
    });
    subscriber.expect(&[&site.publish_post(&mut account)]);
    subscriber.leave();
    relay.terminate();
    assert!(relay.ended().0.success());
}

/// Who guesses passwords, and who asks for crawls without end, is stopped at his address; the operator and
/// other hosts are not.
#[test]
fn guesses_and_requests_to_crawl_are_limited_by_address() {
    let mut stage = Stage::set_up();
    let relay = &stage.relay;
    let from = |n: u8| format!("X-Forwarded-For: 203.0.113.{n}\r\n");
    let list = |headers: &str| ask(relay.public, "GET", "/admin/pds/list", headers, "");
    let right = "Authorization: Bearer correct horse battery staple\r\n";
    for n in 0..ADMIN_FAILURES_MAX + 5 {
        let wrong = format!("{}Authorization: Bearer guess{n}\r\n", from(1));
        let answer = list(&wrong);
        let limited = n >= ADMIN_FAILURES_MAX;
        assert_eq!(answer.status, if limited { 429 } else { 401 }, "{n}");
        assert_eq!(answer.header("retry-after").is_some(), limited);
    }
    assert_eq!(list(&format!("{}{right}", from(1))).status, 429);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let log_in = |headers: &str| {
        let headers = format!("{headers}{form}");
        ask(
            relay.public,
            "POST",
            "/admin/login",
            &headers,
            "password=guess",
        )
        .status
    };
    assert_eq!(log_in(&from(1)), 429);
    assert_eq!(log_in(&from(2)), 401);
    assert_eq!(list(&format!("{}{right}", from(2))).status, 200);
    assert_eq!(list(right).status, 200);

    let url = stage.site.network.hosts()[0].url();
    let body = format!("{{\"hostname\":\"{}\"}}", url.trim_start_matches("http://"));
    let crawl = |n: u8| {
        let path = "/xrpc/com.atproto.sync.requestCrawl";
        ask(relay.public, "POST", path, &from(n), &body).status
    };
    let statuses: Vec<u16> = (0..2 * CRAWL_REQUESTS_MAX).map(|_| crawl(3)).collect();
    let (taken, limited) = statuses.split_at(CRAWL_REQUESTS_MAX as usize);
    assert!(taken.iter().all(|status| *status == 200), "{statuses:?}");
    assert!(limited.iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(crawl(4), 200);
    stage.sentinel();
}

impl Site {
    /// Starts a relay that may have so many descriptors.
    fn start_with_descriptors(&self, allowed: usize) -> Relay {
        let full = self.command();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("ulimit -n {allowed} && exec \"$0\"")])
            .arg(full.get_program());
        for (name, value) in full.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.start_by(command)
    }
}
