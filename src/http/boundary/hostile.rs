//! Clients of the public port that mean harm, or speak something else.

use std::{net::Shutdown, sync::atomic::AtomicBool, thread};

use super::*;
use crate::{
    limits::{HTTP_BODY_BYTES_MAX, HTTP_HEADERS_MAX, LIST_THREADS},
    testing::wait_until,
};

const HEALTH: &str = "GET /xrpc/_health HTTP/1.1\r\nHost: r\r\n";
const LISTS: [&str; 3] = [
    "/xrpc/com.atproto.sync.listRepos",
    "/xrpc/com.atproto.sync.listHosts",
    "/xrpc/com.atproto.sync.listReposByCollection?collection=app.bsky.feed.post",
];

/// Deadlines that no test lives to see.
fn patient() -> Bounds {
    let hour = Duration::from_secs(3_600);
    Bounds {
        times: Times {
            head: hour,
            idle: hour,
            write: hour,
        },
        ..Bounds::default()
    }
}

/// How many answers are in a text.
fn answers(text: &str) -> usize {
    text.matches("\r\nServer: ").count()
}

/// Status and JSON body of the one answer in a text, which ends the connection.
fn only_answer(text: &str) -> (u16, Value) {
    assert_eq!(answers(text), 1, "{text}");
    assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// Who speaks another protocol waits for an answer before it says more. It gets one at once, and the
/// connection ends.
#[test]
fn other_protocols_are_refused_at_their_first_words() {
    let relay = start(&[], patient());
    let address = relay.door.address();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh";
    for (what, said, expected) in [
        ("TLS", &hello[..], 400),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n", 400),
        ("SMTP", b"EHLO mail.example.com\r\n", 400),
        ("a binary protocol", b"\0\0\0\x10", 400),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", 505),
        ("HTTP/0.9", b"GET /\r\n", 400),
        (
            "a proxy's preface",
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
            400,
        ),
        (
            "a tunnel",
            b"CONNECT pds.example.com:443 HTTP/1.1\r\nHost: r\r\n\r\n",
            400,
        ),
    ] {
        let (status, body) = only_answer(&exchange(address, said));
        assert_eq!(
            (status, &body["error"]),
            (expected, &"InvalidRequest".into()),
            "{what}"
        );
    }
}

/// Heads that two parties could understand differently: whatever follows on such a connection is never
/// taken for a request.
#[test]
fn no_request_is_smuggled_behind_another() {
    let relay = start(&["--allow-private-hosts"], patient());
    let address = relay.door.address();
    let crawl = "POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1";
    for (line, headers, expected) in [
        (crawl, "Content-Length: 0\r\nContent-Length: 5", 400),
        (crawl, "Content-Length: 5\r\nContent-Length: 5", 400),
        (crawl, "Content-Length: 5, 5", 400),
        (crawl, "Content-Length: 0x5", 400),
        (crawl, "Content-Length: 5 5", 400),
        (crawl, "Content-Length: \u{a0}5", 400),
        (crawl, "Content-Length: 18446744073709551616", 413),
        (crawl, "Content-Length : 5", 400),
        (
            crawl,
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            400,
        ),
        (
            crawl,
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            400,
        ),
        (crawl, "Transfer-Encoding: chunked", 411),
        (crawl, "Transfer-Encoding: chunked, identity", 411),
        (crawl, "Transfer-Encoding: xchunked", 411),
        (crawl, "Transfer-Encoding:", 411),
        (crawl, "Transfer-Encoding : chunked", 400),
        (crawl, "Transfer-Encoding\t: chunked", 400),
        (crawl, "Transfer-\0Encoding: chunked", 400),
        (crawl, "X: a\r\n Transfer-Encoding: chunked", 400),
        (crawl, "X: a\rTransfer-Encoding: chunked", 400),
        (crawl, "X: a\0b", 400),
        (crawl, "X: a\x7fb", 400),
        (crawl, "\r: a", 400),
        (crawl, "no colon", 400),
        (crawl, "Host: other", 400),
        (
            "GET /xrpc/_health HTTP/1.1",
            "Transfer-Encoding: chunked",
            411,
        ),
        ("GET /xrpc/_health HTTP/1.1", "Expect: a-coffee", 417),
        ("GET /xrpc/_health HTTP/9.9", "X: a", 505),
        ("GET /xrpc/_health  HTTP/1.1", "X: a", 400),
        ("GET /xrpc/_health HTTP/1.1 ", "X: a", 400),
        ("GET /\0 HTTP/1.1", "X: a", 400),
        ("GET /\x01 HTTP/1.1", "X: a", 400),
        ("GET xrpc/_health HTTP/1.1", "X: a", 400),
        ("GET ftp://r/ HTTP/1.1", "X: a", 400),
        ("GET r:80 HTTP/1.1", "X: a", 400),
        ("(GET) / HTTP/1.1", "X: a", 400),
    ] {
        // The body is a chunk to one party, and a second request to another.
        let request = format!("{line}\r\nHost: r\r\n{headers}\r\n\r\n0\r\n\r\n{HEALTH}\r\n");
        let (status, _) = only_answer(&exchange(address, request.as_bytes()));
        assert_eq!(status, expected, "{line} {headers:?}");
    }
    assert!(relay.fake.crawled.lock().unwrap().is_empty());
}

/// What is unusual and still clear is answered, and so is what follows.
#[test]
fn what_is_unusual_and_clear_is_answered() {
    let relay = relay();
    let address = relay.door.address();
    for (request, expected) in [
        (
            "GET http://elsewhere.example/xrpc/_health HTTP/1.1\r\nHost: r\r\n\r\n",
            200,
        ),
        ("GET HTTP://r/xrpc/_health HTTP/1.1\r\nHost: r\r\n\r\n", 400),
        (
            "GET https://r/xrpc/_health?a#b HTTP/1.1\r\nHost: r\r\n\r\n",
            200,
        ),
        ("GET /xrpc/_health HTTP/1.1\nHost: r\n\n", 200),
        ("\r\n\r\n\nGET /xrpc/_health HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("GET //xrpc/_health HTTP/1.1\r\nHost: r\r\n\r\n", 404),
        (
            "GET /xrpc/../admin/pds/list HTTP/1.1\r\nHost: r\r\n\r\n",
            501,
        ),
        (
            "GET /%2e%2e/admin/pds/list HTTP/1.1\r\nHost: r\r\n\r\n",
            404,
        ),
        ("GET /%61dmin/pds/list HTTP/1.1\r\nHost: r\r\n\r\n", 404),
        ("GET /ADMIN/pds/list HTTP/1.1\r\nHost: r\r\n\r\n", 404),
        ("OPTIONS * HTTP/1.1\r\nHost: r\r\n\r\n", 204),
        ("GET * HTTP/1.1\r\nHost: r\r\n\r\n", 404),
        ("BREW /xrpc/_health HTTP/1.1\r\nHost: r\r\n\r\n", 405),
        ("get /xrpc/_health HTTP/1.1\r\nHost: r\r\n\r\n", 405),
        ("TRACE / HTTP/1.1\r\nHost: r\r\nCookie: secret\r\n\r\n", 405),
        (
            "GET /xrpc/_health HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\n\r\nGET /",
            200,
        ),
        (
            "GET /xrpc/_health HTTP/1.1\r\nHost: r\r\nX: \u{ff}\u{fe}\r\n\r\n",
            200,
        ),
    ] {
        let all = format!("{request}{HEALTH}Connection: close\r\n\r\n");
        let answer = exchange(address, all.as_bytes());
        let first: u16 = answer["HTTP/1.1 ".len()..][..3].parse().unwrap();
        assert_eq!(first, expected, "{request:?}");
        assert!(!answer.contains("secret"), "{answer}");
        let both = if expected == 400 { 1 } else { 2 };
        assert_eq!(answers(&answer), both, "{request:?}: {answer}");
    }
}

#[test]
fn headers_are_counted() {
    let relay = relay();
    // With Host and Connection there are as many as there may be.
    for (more, expected) in [(HTTP_HEADERS_MAX - 2, 200), (HTTP_HEADERS_MAX - 1, 431)] {
        let lines = "X: 1\r\n".repeat(more);
        let request = format!("{HEALTH}Connection: close\r\n{lines}\r\n");
        let answer = exchange(relay.door.address(), request.as_bytes());
        assert_eq!(last_answer(&answer).0, expected, "{more}");
    }
}

/// A client that is not asked for its body before it is known that it may come.
#[test]
fn nobody_is_asked_for_a_body_that_is_refused() {
    let relay = relay();
    let address = relay.door.address();
    let post = |headers: &str, body: &str| {
        let head = "POST /xrpc/com.atproto.sync.requestCrawl HTTP/1.1\r\nHost: r\r\n\
                    Connection: close\r\n";
        exchange(address, format!("{head}{headers}\r\n{body}").as_bytes())
    };
    let too_long = HTTP_BODY_BYTES_MAX + 1;
    for (headers, body, statuses) in [
        (
            format!("Expect: 100-continue\r\nContent-Length: {too_long}\r\n"),
            "",
            &[413][..],
        ),
        (
            "Expect: 100-CONTINUE\r\nContent-Length: 2\r\n".into(),
            "{}",
            &[400],
        ),
        (
            "Expect: 100-continue, x\r\nContent-Length: 2\r\n".into(),
            "{}",
            &[417],
        ),
        ("Expect: \r\nContent-Length: 2\r\n".into(), "{}", &[417]),
        ("Expect: 100-continue\r\n".into(), "", &[400]),
        (
            "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n".into(),
            "",
            &[411],
        ),
    ] {
        let answer = post(&headers, body);
        let seen: Vec<u16> = answer
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|answer| answer[..3].parse().unwrap())
            .collect();
        // Of one that came with its body it does not matter whether it was asked for.
        let last = seen.iter().filter(|status| **status != 100);
        assert!(last.eq(statuses), "{headers:?}: {answer}");
        assert!(
            statuses == [400] || answers(&answer) == 1,
            "{headers:?}: {answer}"
        );
    }
}

/// A client that asks on and on and reads nothing costs one answer that does not fit, and then its
/// connection; others are served meanwhile.
#[test]
fn who_asks_without_reading_is_parted_with() {
    let relay = start(&[], hurried());
    let address = relay.door.address();
    let mut stream = connect(address);
    let asker = thread::spawn(move || {
        // Long answers, so that few of them fill what the kernel holds.
        let many = "GET / HTTP/1.1\r\nHost: r\r\nAccept: text/html\r\n\r\n".repeat(1_000);
        // Until the relay does not read any more, and then has closed.
        while stream.write_all(many.as_bytes()).is_ok() {}
    });
    wait_until("it is parted with", || {
        assert_eq!(get(address, "/xrpc/_health").0, 200);
        asker.is_finished()
    });
    asker.join().unwrap();
    wait_until("no connection is left", || {
        relay.app.metrics.http_connections.get() == 0
    });
}

/// A client that has said all that it has to say and closes its side still gets every answer.
#[test]
fn a_half_closed_connection_is_answered_to_the_end() {
    let relay = relay();
    let mut stream = connect(relay.door.address());
    let three = format!("{HEALTH}\r\n").repeat(3);
    stream
        .write_all(format!("{three}GET / HT").as_bytes())
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = rest(&mut stream);
    assert_eq!(answers(&answer), 3, "{answer}");
    assert!(answer.ends_with('}'), "{answer}");
}

/// Where more than half of the places are taken, nobody keeps one between two requests.
#[test]
fn who_idles_makes_room_where_it_is_crowded() {
    let bounds = Bounds {
        connections_max: 8,
        ..patient()
    };
    let relay = start(&[], bounds);
    let address = relay.door.address();
    let mut inside: Vec<TcpStream> = (0..8).map(|_| connect(address)).collect();
    wait_until("all are inside", || {
        relay.app.metrics.http_connections.get() == 8
    });
    let mut closed = 0;
    for stream in &mut inside {
        stream
            .write_all(format!("{HEALTH}\r\n").as_bytes())
            .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut chunk = [0; 512];
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0);
            answer.extend_from_slice(&chunk[..read]);
        }
        if String::from_utf8(answer)
            .unwrap()
            .contains("Connection: close")
        {
            closed += 1;
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
            // Its place is free a moment later.
            let left = 8 - closed;
            wait_until("one less is inside", || {
                relay.app.metrics.http_connections.get() == left
            });
        }
    }
    assert_eq!(closed, 4);
    assert_eq!(get(address, "/xrpc/_health").0, 200);
}

/// Hundreds of questions that were never asked before: each has its own answer, and none is kept.
#[test]
fn questions_may_all_be_different() {
    let relay = relay();
    let mut all = String::new();
    for n in 0..150 {
        let account = format!("/xrpc/com.atproto.sync.getRepoStatus?did=did:web:n{n}.example");
        let list = format!(
            "/xrpc/com.atproto.sync.listRepos?limit={}&x={n}",
            n % 1_000 + 1
        );
        let page = format!("/hosts?q=n{n}&sort=n{n}&page={n}");
        for target in [account, list, page] {
            all.push_str(&format!("GET {target} HTTP/1.1\r\nHost: r\r\n\r\n"));
        }
    }
    all.push_str(&format!("{HEALTH}Connection: close\r\n\r\n"));
    let mut stream = connect(relay.door.address());
    let mut writer = stream.try_clone().unwrap();
    let asker = thread::spawn(move || writer.write_all(all.as_bytes()).unwrap());
    let answer = rest(&mut stream);
    asker.join().unwrap();
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
    assert_eq!(statuses.len(), 451);
    for three in statuses[..450].chunks(3) {
        assert_eq!(three[..2], ["404", "200"]);
        assert!(["200", "400"].contains(&three[2]), "{three:?}");
    }
}

/// However many wait for pages of lists, everything else is answered, and so are they.
#[test]
fn lists_keep_nothing_else_waiting() {
    let relay = relay();
    let address = relay.door.address();
    // What a slow disk would do.
    let disk = relay.fake.accounts.lock().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..3 * LIST_THREADS.end())
        .map(|_| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let status = get(address, LISTS[0]).0;
                (status, done.load(Ordering::SeqCst))
            })
        })
        .collect();
    let waiting = 3 * *LIST_THREADS.end() as u64;
    wait_until("all wait for a list", || {
        relay.app.metrics.http_connections.get() == waiting
    });
    for path in ["/xrpc/_health", "/", "/status.json", "/nothing"] {
        assert_ne!(get(address, path).0, 500);
    }
    assert_eq!(get(address, "/xrpc/com.atproto.sync.subscribeRepos").0, 426);
    done.store(true, Ordering::SeqCst);
    drop(disk);
    for asker in askers {
        assert_eq!(asker.join().unwrap(), (200, true));
    }
    for list in LISTS {
        assert_eq!(get(address, list).0, 200);
        assert_eq!(post(address, list, "", "").0, 405);
    }
}
