//! Deadlines, bounds, and the order of things on connections of the public port.

use super::*;
use crate::testing::wait_until;

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
    assert_eq!(last_answer(&exchange(address, long.as_bytes())).0, 414);
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
    assert_eq!(relay.app.metrics.http_requests.total(), 101);
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
    wait_until("there is room again", || {
        get(address, "/xrpc/_health").0 == 200
    });
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
