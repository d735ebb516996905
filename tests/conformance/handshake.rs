//! How a subscription begins: HTTP and the upgrade.

use zlay::limits::SUBSCRIBERS_PER_ADDRESS_MAX;

use crate::{
    raw::{ACCEPT, Answer, CLOSE, FINAL, Raw, STREAM, UPGRADE},
    site::{Site, wait_until},
    stage::Stage,
};

/// Good requests for the stream from the beginning: the query, and the headers after `Host`. Each
/// is one that some client sends, or that a client may send.
const GOOD: &[(&str, &str, &[&str])] = &[
    (
        "as in the RFC",
        "?cursor=0",
        &["Connection: Upgrade", "Upgrade: websocket"],
    ),
    (
        "behind a proxy that keeps connections",
        "?cursor=0",
        &["Connection: keep-alive, Upgrade", "Upgrade: websocket"],
    ),
    (
        "the list in two lines",
        "?cursor=0",
        &[
            "Connection: keep-alive",
            "Connection: Upgrade",
            "Upgrade: websocket",
        ],
    ),
    (
        "names and values in mixed case",
        "?cursor=0",
        &["cOnNeCtIoN: KEEP-ALIVE,uPgRaDe", "UPGRADE: WebSocket"],
    ),
    (
        "no space, and too many",
        "?cursor=0",
        &["Connection:upgrade", "Upgrade: \t websocket \t"],
    ),
    (
        "unknown parameters before the known one",
        "?wantedCollections=app.bsky.feed.post&compress=true&x&=&cursor=0",
        &["Connection: Upgrade", "Upgrade: websocket"],
    ),
    (
        "unknown parameters after it",
        "?cursor=0&cursors=7&Cursor=8&limit=abc",
        &["Connection: Upgrade", "Upgrade: websocket"],
    ),
    (
        "a sub-protocol that is proposed",
        "?cursor=0",
        &[
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Protocol: xrpc.v1.json, xrpc.v1.cbor",
        ],
    ),
    (
        "a sub-protocol that nobody knows",
        "?cursor=0",
        &[
            "Connection: Upgrade",
            "Upgrade: websocket",
            "sec-websocket-protocol: soap",
        ],
    ),
    (
        "an offer of compression",
        "?cursor=0",
        &[
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        ],
    ),
    (
        "an offer of compression and of what is unknown",
        "?cursor=0",
        &[
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Extensions: x-unknown, permessage-deflate; server_no_context_takeover",
        ],
    ),
];

/// Whatever a good request says beside, the answer is 101 without any option, and the frames after
/// it are the same: binary, in one piece, with no reserved bit set, so not compressed.
///
/// Rules 1, 5: <https://atproto.com/specs/event-stream#websocket-transport>
/// Rule 4: <https://www.rfc-editor.org/rfc/rfc6455#section-4.2.1>
/// Rule 6: <https://github.com/bluesky-social/proposals/tree/main/0015-json-subscriptions>
/// Rule 7: <https://www.rfc-editor.org/rfc/rfc7692#section-6>
#[test]
fn a_good_request_gets_the_plain_stream_whatever_it_offers() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let (identity, status) = (account.identity(), account.account());
    stage.pass(&[&identity, &status]);
    // Long and full of repetition: it would be worth compressing.
    let post = account.post(&"again and again ".repeat(4_000));
    let long = account.commit(&[post]);
    stage.pass(&[&long]);

    let mut frames = None;
    for (what, query, headers) in GOOD {
        let mut raw = Raw::connect(&stage.relay);
        let headers = headers.join("\r\n");
        raw.send(
            format!(
                "GET {STREAM}{query} HTTP/1.1\r\nHost: relay\r\n{headers}\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        let answer = raw.answer(false);
        assert_eq!(answer.status, 101, "{what}: {}", answer.head);
        let header = |name: &str| answer.header(name).map(str::to_ascii_lowercase);
        assert_eq!(header("Upgrade").as_deref(), Some("websocket"), "{what}");
        assert_eq!(header("Connection").as_deref(), Some("upgrade"), "{what}");
        assert_eq!(answer.header("Sec-WebSocket-Accept"), Some(ACCEPT));
        for option in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"] {
            assert_eq!(header(option), None, "{what}: {option}");
        }
        let seen: Vec<_> = (0..5).map(|_| raw.message()).collect();
        assert!(seen[4].len() > 60_000, "{what}: as long as it was sent");
        assert_eq!(*frames.get_or_insert(seen.clone()), seen, "{what}");
    }
}

/// What every refusal says.
fn refused(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.head);
    assert_eq!(answer.header("Sec-WebSocket-Accept"), None, "{what}");
}

/// Rule 2: <https://atproto.com/specs/xrpc#lexicon-http-endpoints>
#[test]
fn the_stream_is_got_and_never_posted_to() {
    let site = Site::new(1);
    let relay = site.start();
    for headers in ["Host: relay\r\n", UPGRADE] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "HEAD"] {
            let headers = format!("{headers}Content-Length: 0\r\n");
            let answer = Raw::ask(&relay, method, STREAM, &headers);
            refused(&answer, 405, method);
            assert!(answer.header("Allow").unwrap().contains("GET"));
            if method != "HEAD" {
                assert_eq!(answer.error(), "InvalidRequest", "{method}");
            }
        }
    }
    assert_eq!(relay.metric("relay_subscribers_accepted_total"), 0);
}

/// Who comes without a websocket, or with one of another version, is told in the way of HTTP and
/// in the way of XRPC what is needed.
///
/// Rule 3: <https://www.rfc-editor.org/rfc/rfc9110#name-426-upgrade-required>
#[test]
fn who_does_not_ask_for_a_websocket_is_told_to() {
    let site = Site::new(1);
    let relay = site.start();
    for (what, headers) in [
        ("a plain request", "Host: relay\r\n".to_owned()),
        (
            "only half of it",
            UPGRADE.replace("Upgrade: websocket\r\n", ""),
        ),
        (
            "only the other half",
            UPGRADE.replace("Connection: Upgrade\r\n", ""),
        ),
        (
            "another upgrade",
            UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c"),
        ),
        (
            "another version",
            UPGRADE.replace("Version: 13", "Version: 8"),
        ),
    ] {
        for query in ["", "?cursor=0"] {
            let answer = Raw::ask(&relay, "GET", &format!("{STREAM}{query}"), &headers);
            refused(&answer, 426, what);
            let upgrade = answer.header("Upgrade").unwrap();
            assert!(upgrade.eq_ignore_ascii_case("websocket"), "{what}");
            let connection = answer.header("Connection").unwrap().to_ascii_lowercase();
            assert!(connection.contains("upgrade"), "{what}: {connection}");
            assert_eq!(answer.error(), "InvalidRequest", "{what}");
        }
    }
}

/// Over the limit, one more is refused at once and in HTTP; the place of who leaves is free again,
/// and other addresses are not concerned.
///
/// Rule 8: <https://atproto.com/specs/event-stream#websocket-transport>
#[test]
fn too_many_subscriptions_of_one_address_are_refused_with_a_wait() {
    let site = Site::new(1);
    let relay = site.start();
    let mut subscribers: Vec<_> = (0..SUBSCRIBERS_PER_ADDRESS_MAX)
        .map(|_| Raw::subscribe(&relay, ""))
        .collect();
    let elsewhere = format!("{UPGRADE}X-Forwarded-For: 203.0.113.9\r\n");
    for query in ["", "?cursor=0", "?cursor=5"] {
        let target = format!("{STREAM}{query}");
        let answer = Raw::ask(&relay, "GET", &target, UPGRADE);
        refused(&answer, 429, query);
        assert_eq!(answer.error(), "RateLimitExceeded");
        let wait = answer.header("Retry-After").expect("how long to wait");
        assert!(wait.parse::<u64>().unwrap() > 0);
        let answer = Raw::ask(&relay, "GET", &target, &elsewhere);
        assert_eq!(answer.status, 101, "{query}");
    }
    let mut leaver = subscribers.pop().unwrap();
    leaver.send_frame(FINAL | CLOSE, &1000u16.to_be_bytes());
    assert_eq!(leaver.close_code(), 1000);
    wait_until("a place is free", || {
        Raw::ask(&relay, "GET", STREAM, UPGRADE).status == 101
    });
}

/// Who is gone as soon as it is there, again and again, is held back by the limit too, although it has no more than one
/// subscription at a time; others are not.
///
/// Rule 8: <https://atproto.com/specs/event-stream#websocket-transport>
#[test]
fn subscribers_that_go_at_once_keep_their_places_taken_for_a_while() {
    let site = Site::new(1);
    let relay = site.start();
    let mut times = 0;
    let answer = loop {
        let answer = Raw::ask(&relay, "GET", STREAM, UPGRADE);
        if answer.status != 101 {
            break answer;
        }
        times += 1;
    };
    refused(&answer, 429, "gone at once");
    assert_eq!(times, SUBSCRIBERS_PER_ADDRESS_MAX);
    let elsewhere = format!("{UPGRADE}X-Forwarded-For: 203.0.113.9\r\n");
    assert_eq!(Raw::ask(&relay, "GET", STREAM, &elsewhere).status, 101);
}
