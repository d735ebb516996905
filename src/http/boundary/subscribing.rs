//! From the public port to the firehose.

use tungstenite::{Message, client::IntoClientRequest};

use super::*;
use crate::{
    firehose::{Firehose, Settings},
    store::{self, Store},
    threads::stop_pair,
};

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
    assert_eq!((cursor, user_agent.as_str()), (Cursor::From(7), "test/1"));
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

#[test]
fn a_websocket_client_reaches_the_firehose() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), store::Options::default()).unwrap());
    let (stopper, stop) = stop_pair();
    let settings = Settings::new(256 << 10);
    let metrics = Arc::new(Metrics::default());
    let (firehose, ticker) = Firehose::start(store, metrics, settings, stop).unwrap();
    let fake = Arc::new(Fake::default());
    let app = app_with(&fake, firehose, &[], false);
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let door = FrontDoor::start(listener, app, Bounds::default()).unwrap();

    let host = format!("ws://{}", door.address());
    let url = format!("{host}/xrpc/com.atproto.sync.subscribeRepos?cursor=5");
    let stream = connect(door.address());
    let (mut socket, _) = tungstenite::client(url.into_client_request().unwrap(), stream).unwrap();
    // Nothing has a seq yet, so that 5 is in the future.
    let Message::Binary(frame) = socket.read().unwrap() else {
        panic!("not a frame");
    };
    assert!(frame.windows(12).any(|w| w == b"FutureCursor"), "{frame:?}");
    assert!(socket.read().unwrap().is_close());
    // Answers the close, so that nobody waits for that.
    assert!(socket.read().is_err());
    drop(door);
    // The firehose waits for its subscribers.
    drop(socket);
    drop((stopper, ticker));
}
