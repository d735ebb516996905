//! What answers where, and what the internal port survives.

use super::{crawling::CRAWL, *};
use crate::{http::internal::Internal, testing::wait_until};

/// Rules 161, 179, 181: <https://atproto.com/specs/xrpc>
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
        ("/memory.json", 404, 200),
        ("/healthz", 404, 200),
        ("/readyz", 404, 200),
        ("/hosts", 200, 200),
        ("/hosts.json", 200, 200),
        ("/accounts", 200, 200),
        ("/accounts/did:web:a.b", 404, 404),
        ("/reasons", 200, 200),
        ("/reasons.json", 200, 200),
        ("/assets/zlay.css", 200, 200),
        ("/assets/zlay.js", 200, 200),
        ("/nothing", 404, 404),
        ("/admin/pds/list", 401, 401),
        ("/xrpc/com.atproto.sync.getBlob", 501, 501),
        ("/xrpc/com.atproto.sync.subscribeRepos", 426, 426),
    ] {
        assert_eq!(get(public, path).0, on_public, "public {path}");
        assert_eq!(get(internal, path).0, on_internal, "internal {path}");
    }
    relay.fake.disk_is_full.store(true, Ordering::Relaxed);
    for path in ["/_health", "/xrpc/_health"] {
        let (status, body) = get(public, path);
        assert_eq!(
            (status, &body["error"]),
            (503, &"DiskFull".into()),
            "{body}"
        );
        let said = body["message"].as_str().unwrap();
        assert!(
            said.contains("99 MiB are free, 144 MiB are needed"),
            "{said}"
        );
    }
    // Who is ended for it comes back to the same disk.
    let (status, body) = get(internal, "/healthz");
    assert_eq!((status, &body["status"]), (200, &"ok".into()));
    assert!(
        body["warnings"][0]
            .as_str()
            .unwrap()
            .contains("the disk is full")
    );
    relay.fake.disk_is_full.store(false, Ordering::Relaxed);
    relay.fake.storage_fails.store(true, Ordering::Relaxed);
    for (address, path) in [(public, "/xrpc/_health"), (internal, "/healthz")] {
        let (status, body) = get(address, path);
        assert_eq!(status, 503);
        assert!(body["error"].is_string(), "{body}");
    }
    let (status, ready) = get(internal, "/readyz");
    assert_eq!((status, &ready["status"]), (200, &json!("ok")));
    let warned = json!({"status": "warning", "message": "disk on fire"});
    assert_eq!(ready["checks"]["disk_space"], warned);
    assert_eq!(ready["warnings"], json!(["disk on fire"]));
    relay.fake.not_ready.store(true, Ordering::Relaxed);
    let (status, ready) = get(internal, "/readyz");
    assert_eq!((status, &ready["error"]), (503, &json!("NotReady")));
    assert_eq!(ready["checks"]["sequencer"]["message"], "stands still");
    assert_eq!(ready["message"], "sequencer: stands still");
    let (_, status) = get(public, "/status.json");
    assert!(status["rejected"]["rev_stale"].is_u64(), "{status}");
    let page = exchange(
        public,
        b"GET / HTTP/1.1\r\nHost: r\r\nAccept: text/html,*/*\r\nConnection: close\r\n\r\n",
    );
    assert!(page.contains("\r\nContent-Type: text/html"), "{page}");
    for source in page.split("src=\"").skip(1) {
        assert!(
            source.starts_with("/assets/"),
            "nothing from outside: {source}"
        );
    }
}

/// Rule 163: <https://atproto.com/specs/xrpc>
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
    wait_until("the port is closed", || {
        TcpStream::connect(address).is_err()
    });
}
