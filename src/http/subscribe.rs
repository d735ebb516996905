//! The upgrade of `com.atproto.sync.subscribeRepos` to a websocket
//! (<https://atproto.com/specs/event-stream#websocket-transport>).

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
};

use tungstenite::handshake::derive_accept_key;

use super::{
    query::Query,
    request::{Method, Request},
    response::{COMMON_HEADERS, Response},
};
use crate::firehose::{Cursor, Firehose, SubscriberInfo, Subscription, TooMany};

/// Where the firehose is.
pub const PATH: &str = "/xrpc/com.atproto.sync.subscribeRepos";

/// A request that may become a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upgrade {
    /// The value of `Sec-WebSocket-Accept`.
    accept_key: String,
    /// Where to begin.
    pub cursor: Cursor,
    /// How the client calls itself.
    pub user_agent: String,
}

/// A websocket whose handshake is done.
#[derive(Debug)]
pub struct Handover {
    /// The socket, blocking and without timeouts.
    pub stream: TcpStream,
    /// What the client has sent after its handshake.
    pub leftover: Vec<u8>,
    /// Where to begin.
    pub cursor: Cursor,
    /// Who it is; behind a proxy with the proxy's port.
    pub peer: SocketAddr,
    /// How it calls itself.
    pub user_agent: String,
}

/// A place among the subscribers; called with the websocket to take it. An error means that there
/// is no thread for it, and that the websocket is closed.
pub type Seat = Box<dyn FnOnce(Handover) -> io::Result<()> + Send>;

/// The firehose, as the front door needs it: first a seat, so that a client for which there is no
/// room is told so in HTTP, then the handshake, then the stream.
pub trait Subscribe: Send + Sync {
    /// A seat for this client, if there is room.
    fn admit(self: Arc<Self>, client: IpAddr) -> Result<Seat, TooMany>;

    /// Who subscribes now.
    fn subscribers(&self) -> Vec<SubscriberInfo>;

    /// Sends the subscriber of this number away; false where there is none.
    fn dismiss(&self, id: u64) -> bool;

    /// When the first event at or above this seq was written, in milliseconds since 1970; none where
    /// there is none, or it can not be read. It reads the disk once.
    fn written_ms(&self, seq: u64) -> Option<u64>;
}

impl Subscribe for Firehose {
    fn admit(self: Arc<Self>, client: IpAddr) -> Result<Seat, TooMany> {
        let admission = Firehose::admit(&self, client)?;
        Ok(Box::new(move |handover| {
            self.subscribe(Subscription {
                admission,
                stream: handover.stream,
                leftover: handover.leftover,
                cursor: handover.cursor,
                peer: handover.peer,
                user_agent: handover.user_agent,
            })
        }))
    }

    fn subscribers(&self) -> Vec<SubscriberInfo> {
        Firehose::subscribers(self)
    }

    fn dismiss(&self, id: u64) -> bool {
        Firehose::dismiss(self, id)
    }

    fn written_ms(&self, seq: u64) -> Option<u64> {
        Firehose::written_ms(self, seq)
    }
}

/// Checks a request for [`PATH`]. The error is the answer to the client. Offers of sub-protocols
/// and compression are ignored: without an answer to them the stream is the plain one.
pub fn check(request: &Request) -> Result<Upgrade, Response> {
    if request.method != Method::Get {
        return Err(Response::method_not_allowed("GET"));
    }
    let headers = &request.headers;
    if !headers.lists("upgrade", "websocket") || !headers.lists("connection", "upgrade") {
        return Err(upgrade_required("This is a WebSocket endpoint"));
    }
    if headers.first("sec-websocket-version") != Some("13") {
        return Err(
            upgrade_required("WebSocket version 13 is needed").with("Sec-WebSocket-Version", "13")
        );
    }
    let mut keys = headers.all("sec-websocket-key");
    let key = keys.next().filter(|key| is_nonce(key));
    let Some(key) = key.filter(|_| keys.next().is_none()) else {
        return Err(Response::invalid(
            "Sec-WebSocket-Key is missing or malformed",
        ));
    };
    Ok(Upgrade {
        accept_key: derive_accept_key(key.as_bytes()),
        cursor: parse_cursor(&request.query)?,
        user_agent: headers.first("user-agent").unwrap_or_default().to_owned(),
    })
}

/// 426: a client that came without websocket, or with the wrong one.
pub fn upgrade_required(message: &str) -> Response {
    Response::error(426, "InvalidRequest", message)
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
}

impl Upgrade {
    /// The answer that switches protocols.
    pub fn switching(&self) -> Vec<u8> {
        let mut head = String::from("HTTP/1.1 101 Switching Protocols\r\n");
        for (name, value) in COMMON_HEADERS {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Connection: Upgrade\r\nUpgrade: websocket\r\n");
        head.push_str(&format!(
            "Sec-WebSocket-Accept: {}\r\n\r\n",
            self.accept_key
        ));
        head.into_bytes()
    }
}

fn parse_cursor(query: &str) -> Result<Cursor, Response> {
    let query = Query::parse(query)?;
    Cursor::parse(query.get("cursor")).map_err(|error| Response::invalid(&error.to_string()))
}

/// Whether the key is 16 bytes in base64 (<https://www.rfc-editor.org/rfc/rfc6455#section-4.1>).
fn is_nonce(key: &str) -> bool {
    data_encoding::BASE64
        .decode(key.as_bytes())
        .is_ok_and(|nonce| nonce.len() == 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::Headers;

    const GOOD: [(&str, &str); 4] = [
        ("Upgrade", "WebSocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn request(query: &str, lines: &[(&str, &str)]) -> Request {
        let mut headers = Headers::default();
        for (name, value) in lines {
            headers.push(name, value.as_bytes());
        }
        Request {
            method: Method::Get,
            path: PATH.to_owned(),
            query: query.to_owned(),
            headers,
            body: Vec::new(),
            client: IpAddr::from([127, 0, 0, 1]),
        }
    }

    #[test]
    fn a_websocket_is_recognised() {
        let mut lines = GOOD.to_vec();
        lines.push(("Sec-WebSocket-Protocol", "xrpc.v9.json"));
        lines.push(("Sec-WebSocket-Extensions", "permessage-deflate"));
        let upgrade = check(&request("cursor=5&unknown=1", &lines)).unwrap();
        assert_eq!(upgrade.cursor, Cursor::From(5));
        let answer = String::from_utf8(upgrade.switching()).unwrap();
        // The example of RFC 6455, section 1.3.
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(!answer.contains("Sec-WebSocket-Protocol"));
        assert!(!answer.contains("Sec-WebSocket-Extensions"));
        assert_eq!(
            check(&request("cursor=", &GOOD)).unwrap().cursor,
            Cursor::Live
        );
        assert_eq!(check(&request("", &GOOD)).unwrap().cursor, Cursor::Live);
        assert_eq!(
            check(&request("cursor=0", &GOOD)).unwrap().cursor,
            Cursor::From(0)
        );
    }

    #[test]
    fn what_is_not_a_websocket_is_told_how() {
        for missing in 0..2 {
            let mut lines = GOOD.to_vec();
            lines.remove(missing);
            let answer = check(&request("", &lines)).unwrap_err();
            assert_eq!(answer.status, 426);
            assert!(answer.headers.contains(&("Connection", "Upgrade".into())));
            assert!(answer.headers.contains(&("Upgrade", "websocket".into())));
        }
        let mut old = GOOD;
        old[2].1 = "8";
        let answer = check(&request("", &old)).unwrap_err();
        assert_eq!(answer.status, 426);
        assert!(
            answer
                .headers
                .contains(&("Sec-WebSocket-Version", "13".into()))
        );
        for key in ["", "short", "c2hvcnQ="] {
            let mut bad = GOOD;
            bad[3].1 = key;
            assert_eq!(check(&request("", &bad)).unwrap_err().status, 400, "{key}");
        }
        let mut twice = GOOD.to_vec();
        twice.push(GOOD[3]);
        assert_eq!(check(&request("", &twice)).unwrap_err().status, 400);
        for method in [Method::Post, Method::Head, Method::Other] {
            let mut other = request("", &GOOD);
            other.method = method;
            assert_eq!(check(&other).unwrap_err().status, 405);
        }
    }

    #[test]
    fn a_cursor_is_a_plain_number() {
        for cursor in [
            "abc",
            "-1",
            "1.5",
            "1e3",
            "0x10",
            "%205",
            "+5",
            "99999999999999999999",
        ] {
            let answer = check(&request(&format!("cursor={cursor}"), &GOOD)).unwrap_err();
            assert_eq!(answer.status, 400, "{cursor}");
        }
    }
}
