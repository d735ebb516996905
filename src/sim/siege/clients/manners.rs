//! How clients misbehave.

use std::{io::ErrorKind, time::Duration};

use super::crowd::{Client, Manner};
use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX};

/// Subscribers of one attack.
const SUBSCRIBERS: usize = 200;
/// Between two turns of who is in a hurry.
const HURRY: Duration = Duration::from_millis(1);
/// Between two turns of who wants to be slow.
const SLOW: Duration = Duration::from_millis(50);

const UPGRADED: &[u16] = &[101, 429];

/// Every manner.
pub(super) fn all() -> Vec<Manner> {
    let subscribers = |name, about, pause, hello, turn| Manner {
        name,
        about,
        clients: SUBSCRIBERS,
        pause,
        is_narrow: true,
        hello,
        turn,
        statuses: UPGRADED,
    };
    let plain = |name, about, clients, pause, hello, turn, statuses| Manner {
        name,
        about,
        clients,
        pause,
        is_narrow: false,
        hello,
        turn,
        statuses,
    };
    vec![
        subscribers(
            "stopped-readers",
            "subscribers from the oldest event on that read nothing",
            SLOW,
            from_the_oldest,
            |_| Ok(()),
        ),
        subscribers(
            "slow-readers",
            "subscribers from the oldest event on that read a kilobyte at a time",
            SLOW,
            from_the_oldest,
            |client| client.hear(1_024).map(drop),
        ),
        subscribers(
            "ping-flood",
            "subscribers that ping without end and read nothing",
            HURRY,
            live,
            |client| client.say(&PINGS.repeat(1_000)),
        ),
        subscribers(
            "frame-flood",
            "subscribers that send data without end, in pieces and of lengths that never come",
            HURRY,
            live,
            |client| {
                client.hear_all()?;
                match client.number % 2 {
                    0 => client.say(
                        &[PIECE_BEGUN, &[0; 100], PIECE, &[0; 100]]
                            .concat()
                            .repeat(300),
                    ),
                    _ => client.say(&[ENDLESS, &[0; 60_000]].concat()),
                }
            },
        ),
        Manner {
            // Where the upgrade is refused, what they say is taken for a request.
            statuses: &[101, 400, 429],
            ..subscribers(
                "bad-frames",
                "subscribers that break the protocol at once, and come again",
                HURRY,
                live,
                |client| {
                    client.hear_all()?;
                    client.say(BAD[client.number as usize % BAD.len()])
                },
            )
        },
        plain(
            "connection-flood",
            "connections from many addresses, thousands at once, that come again when refused",
            5_000,
            HURRY,
            |_| Vec::new(),
            |client| client.hear_all(),
            &[408, 429],
        ),
        plain(
            "connection-churn",
            "connections that ask once and go, and come again at once",
            64,
            HURRY,
            |_| request("/xrpc/_health", "Connection: close\r\n"),
            |client| client.hear_all(),
            &[200, 429],
        ),
        plain(
            "slow-heads",
            "more connections than there may be, each saying a byte of a request now and then",
            HTTP_CONNECTIONS_MAX + 100,
            SLOW,
            |_| b"GET /xrpc/_health HTTP/1.1\r\nHost: r\r\nX: ".to_vec(),
            |client| {
                client.hear_all()?;
                client.say(b"x")
            },
            &[408, 429],
        ),
        plain(
            "giant-heads",
            "heads and request lines without end",
            100,
            HURRY,
            |number| match number % 3 {
                0 => b"GET /".to_vec(),
                1 => b"GET / HTTP/1.1\r\nX: ".to_vec(),
                _ => "GET / HTTP/1.1\r\nHost: r\r\n".to_owned().into_bytes(),
            },
            |client| {
                client.hear_all()?;
                match client.number % 3 {
                    2 => client.say(&b"X: 1\r\n".repeat(HTTP_HEAD_BYTES_MAX / 6 + 10)),
                    _ => client.say(&vec![b'x'; 2 * HTTP_HEAD_BYTES_MAX]),
                }
            },
            &[414, 429, 431],
        ),
        plain(
            "giant-bodies",
            "bodies of gigabytes, and bodies that are allowed and never end",
            200,
            SLOW,
            |number| match number % 2 {
                0 => post("Content-Length: 9000000000\r\n"),
                _ => post("Content-Length: 8192\r\n"),
            },
            |client| {
                client.hear_all()?;
                match client.number % 2 {
                    0 => client.say(&vec![b'x'; 64 << 10]),
                    _ => client.say(b"x"),
                }
            },
            &[408, 413, 429],
        ),
        plain(
            "pipelines",
            "requests without end, of which no answer is read",
            64,
            HURRY,
            |_| Vec::new(),
            |client| client.say(&request("/xrpc/_health", "").repeat(200)),
            &[],
        ),
        plain(
            "questions",
            "small questions, each a new one, as fast as they are answered",
            64,
            HURRY,
            |number| question(number, 0),
            |client| {
                client.hear_all()?;
                client.say(&question(client.number, client.turns))
            },
            &[400, 404, 429],
        ),
        plain(
            "page-scans",
            "lists of everything, page after page, by a hundred at once",
            100,
            HURRY,
            |_| Vec::new(),
            |client| {
                // The next one once there is an answer.
                if client.turns > 0 && !client.hear(1 << 20)? {
                    return Ok(());
                }
                client.hear_all()?;
                client.say(&match client.turns % 2 {
                    0 => request("/xrpc/com.atproto.sync.listRepos?limit=1000", ""),
                    _ => request(BY_COLLECTION, ""),
                })
            },
            &[200, 429],
        ),
        plain(
            "guesses",
            "log-ins with wrong passwords, each from an address of its own",
            64,
            HURRY,
            |_| Vec::new(),
            |client| {
                client.hear_all()?;
                let from = from(client);
                let guess = format!("{from}Authorization: Bearer guess{}\r\n", client.turns);
                client.say(&request("/admin/pds/list", &guess))
            },
            &[401, 429],
        ),
        plain(
            "crawl-requests",
            "requests to crawl hosts that are none, each from an address of its own",
            64,
            SLOW,
            |_| Vec::new(),
            |client| {
                client.hear_all()?;
                let body = format!("{{\"hostname\":\"localhost:{}\"}}", 1 + client.turns % 9);
                let headers = format!("{}Content-Length: {}\r\n", from(client), body.len());
                client.say(&[post(&headers), body.into_bytes()].concat())
            },
            &[400, 429],
        ),
        plain(
            "bad-heads",
            "heads that two parties could understand differently, other protocols, and nonsense",
            64,
            HURRY,
            |number| HEADS[number as usize % HEADS.len()].to_vec(),
            |client| client.hear_all(),
            &[400, 411, 417, 429, 501, 505],
        ),
        plain(
            "idlers",
            "more connections than there may be, that ask now and then and stay",
            HTTP_CONNECTIONS_MAX + 100,
            SLOW,
            |_| request("/xrpc/_health", ""),
            |client| {
                client.hear_all()?;
                match client.turns % 100 {
                    99 => client.say(&request("/xrpc/_health", "")),
                    _ => Ok(()),
                }
            },
            &[200, 429],
        ),
        plain(
            "half-closed",
            "requests, upgrades among them, by clients that go at once without a farewell",
            64,
            HURRY,
            |number| match number % 2 {
                0 => request("/xrpc/com.atproto.sync.listRepos", ""),
                _ => from_the_oldest(number),
            },
            |_| Err(ErrorKind::ConnectionAborted.into()),
            &[],
        ),
    ]
}

const BY_COLLECTION: &str =
    "/xrpc/com.atproto.sync.listReposByCollection?collection=app.bsky.feed.post&limit=2000";

/// A ping of four bytes, masked with zeros.
const PINGS: &[u8] = b"\x89\x84\0\0\0\0ping";
/// The beginning of a message in pieces, and a further piece, of 100 bytes.
const PIECE_BEGUN: &[u8] = b"\x02\xe4\0\0\0\0";
const PIECE: &[u8] = b"\x00\xe4\0\0\0\0";
/// A message of 2^40 bytes.
const ENDLESS: &[u8] = b"\x82\xff\0\0\x01\0\0\0\0\0\0\0\0\0";
/// Frames that no client may send.
const BAD: &[&[u8]] = &[
    b"\x82\x05hello",
    b"\x89\x00",
    b"\xc2\x80\0\0\0\0",
    b"\x83\x80\0\0\0\0",
    b"\x09\x80\0\0\0\0",
    b"\x89\xfe\x01\0",
    b"GET / HTTP/1.1\r\n\r\n",
];

/// Heads that end a connection.
const HEADS: &[&[u8]] = &[
    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"SSH-2.0-x\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n",
    b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /xrpc/a.b.c HTTP/1.0\r\n\r\n",
    b"\0",
];

fn request(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: r\r\n{headers}\r\n").into_bytes()
}

fn post(headers: &str) -> Vec<u8> {
    let path = "/xrpc/com.atproto.sync.requestCrawl";
    format!("POST {path} HTTP/1.1\r\nHost: r\r\n{headers}\r\n").into_bytes()
}

fn question(number: u64, turn: u64) -> Vec<u8> {
    let account =
        format!("/xrpc/com.atproto.sync.getRepoStatus?did=did:web:n{number}.t{turn}.test");
    request(&account, "")
}

/// An address that a proxy would name, another one each time.
fn from(client: &Client) -> String {
    let [_, _, a, b] = ((client.number * 1_000 + client.turns) as u32).to_be_bytes();
    format!(
        "X-Forwarded-For: 198.{}.{a}.{b}\r\n",
        18 + client.number % 2
    )
}

fn upgrade(query: &str) -> Vec<u8> {
    let path = "/xrpc/com.atproto.sync.subscribeRepos";
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    request(&format!("{path}{query}"), headers)
}

fn from_the_oldest(_: u64) -> Vec<u8> {
    upgrade("?cursor=0")
}

fn live(_: u64) -> Vec<u8> {
    upgrade("")
}
