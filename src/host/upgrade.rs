//! The opening handshake of a host's websocket (<https://www.rfc-editor.org/rfc/rfc6455#section-4.1>).

use std::io::{self, Read, Write};

use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::dial::DialError;
use crate::{
    USER_AGENT,
    limits::{HTTP_HEADERS_MAX, OUTBOUND_HEAD_BYTES_MAX},
};

/// How much of an answer is read at once, in bytes: what is left over of it is less than a read
/// buffer.
const PIECE_BYTES: usize = 1 << 10;

/// Asks `host` for its event stream from `cursor` on; none: live. What the host has sent of the
/// stream already is returned.
pub(super) fn upgrade(
    socket: &mut (impl Read + Write),
    host: &str,
    cursor: Option<u64>,
) -> Result<Vec<u8>, DialError> {
    let key = generate_key();
    let request = request(host, cursor, &key);
    socket
        .write_all(request.as_bytes())
        .and_then(|()| socket.flush())
        .map_err(broken)?;
    let accept = derive_accept_key(key.as_bytes());
    let mut answer = Vec::new();
    loop {
        if let Some(head_bytes) = read_head(&answer, &accept)? {
            return Ok(answer.split_off(head_bytes));
        }
        if answer.len() >= OUTBOUND_HEAD_BYTES_MAX {
            return Err(refused("its head is too large"));
        }
        let seen = answer.len();
        while !answer[seen..].contains(&b'\n') && answer.len() < OUTBOUND_HEAD_BYTES_MAX {
            read_piece(socket, &mut answer)?;
        }
    }
}

fn request(host: &str, cursor: Option<u64>, key: &str) -> String {
    let query = cursor
        .map(|cursor| format!("?cursor={cursor}"))
        .unwrap_or_default();
    format!(
        "GET /xrpc/com.atproto.sync.subscribeRepos{query} HTTP/1.1\r\nHost: {host}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\nUser-Agent: {USER_AGENT}\r\n\r\n"
    )
}

fn read_piece(socket: &mut impl Read, answer: &mut Vec<u8>) -> Result<(), DialError> {
    let room = PIECE_BYTES.min(OUTBOUND_HEAD_BYTES_MAX - answer.len());
    let mut piece = [0; PIECE_BYTES];
    match socket.read(&mut piece[..room]) {
        Ok(0) => Err(refused("closed before it was done")),
        Ok(count) => {
            answer.extend_from_slice(&piece[..count]);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(broken(error)),
    }
}

/// How long the head of an answer is, once it is complete and agrees to everything.
fn read_head(answer: &[u8], accept: &str) -> Result<Option<usize>, DialError> {
    let mut lines = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut head = httparse::Response::new(&mut lines);
    let bytes = match head.parse(answer) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(DialError::Handshake(format!("its head: {error}"))),
    };
    if values(&head, "server").any(is_marker) {
        return Err(DialError::IsRelay);
    }
    match head.code {
        Some(101) => {}
        Some(status) => return Err(DialError::Status(status)),
        None => return Err(refused("no status")),
    }
    if head.version != Some(1) {
        return Err(refused("HTTP version must be 1.1"));
    }
    if !values(&head, "upgrade").any(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(refused("no \"Upgrade: websocket\""));
    }
    if !values(&head, "connection").any(lists_upgrade) {
        return Err(refused("no \"Connection: upgrade\""));
    }
    if !values(&head, "sec-websocket-accept").eq([accept.as_bytes()]) {
        return Err(refused("\"Sec-WebSocket-Accept\" is not what it must be"));
    }
    for option in ["sec-websocket-extensions", "sec-websocket-protocol"] {
        if values(&head, option).any(|value| !value.is_empty()) {
            return Err(DialError::Handshake(format!(
                "{option}, which was not offered"
            )));
        }
    }
    Ok(Some(bytes))
}

/// The values of all headers of this name.
fn values<'a>(
    head: &'a httparse::Response<'_, '_>,
    name: &'a str,
) -> impl Iterator<Item = &'a [u8]> {
    head.headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.trim_ascii())
}

fn lists_upgrade(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

/// Whether this is the marker by which relays know each other.
fn is_marker(server: &[u8]) -> bool {
    String::from_utf8_lossy(server)
        .to_ascii_lowercase()
        .contains("atproto-relay")
}

fn refused(why: &str) -> DialError {
    DialError::Handshake(why.to_owned())
}

fn broken(error: io::Error) -> DialError {
    match error.kind() {
        // A write that waited for too long would block.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => DialError::Timeout,
        _ => DialError::Handshake(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that answers with what `answer` makes of the right key, in reads of `piece` bytes.
    struct Host<A> {
        asked: Vec<u8>,
        answer: A,
        answered: usize,
        piece: usize,
    }

    impl<A: Fn(&str) -> Vec<u8>> Read for Host<A> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let asked = String::from_utf8(self.asked.clone()).unwrap();
            let mut lines = asked.split("\r\n");
            let key = lines.find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let answer = (self.answer)(&derive_accept_key(key.unwrap().as_bytes()));
            let rest = &answer[self.answered..];
            let part = &rest[..rest.len().min(self.piece).min(buffer.len())];
            buffer[..part.len()].copy_from_slice(part);
            self.answered += part.len();
            Ok(part.len())
        }
    }

    impl<A> Write for Host<A> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            self.asked.extend(buffer);
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ask(piece: usize, answer: impl Fn(&str) -> Vec<u8>) -> Result<Vec<u8>, DialError> {
        let mut host = Host {
            asked: Vec::new(),
            answer,
            answered: 0,
            piece,
        };
        let mut stream = upgrade(&mut host, "pds.example.com", Some(7))?;
        host.read_to_end(&mut stream).unwrap();
        Ok(stream)
    }

    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nServer: nginx\r\n\
        Upgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\
        Sec-WebSocket-Accept: KEY\r\n\r\n";

    #[test]
    fn the_request_is_that_of_a_websocket() {
        let request = request("pds.example.com:8080", None, "a2V5");
        assert!(
            request.starts_with("GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("\r\nHost: pds.example.com:8080\r\n"));
        assert!(request.ends_with(&format!("\r\nUser-Agent: {USER_AGENT}\r\n\r\n")));
        let request = super::request("a", Some(12), "a2V5");
        assert!(request.starts_with("GET /xrpc/com.atproto.sync.subscribeRepos?cursor=12 HTTP"));
    }

    #[test]
    fn nothing_after_the_head_is_lost() {
        let payload: Vec<u8> = (0..3_000).map(|i| (i % 256) as u8).collect();
        for piece in [1, 2, 7, 100, usize::MAX] {
            let answer = |key: &str| [GOOD.replace("KEY", key).as_bytes(), &payload].concat();
            assert_eq!(ask(piece, answer).unwrap(), payload, "{piece}");
        }
        assert_eq!(ask(5, |key| GOOD.replace("KEY", key).into()).unwrap(), b"");
    }

    #[test]
    fn an_answer_that_does_not_agree_is_refused() {
        let lines = "Header: x\r\n".repeat(HTTP_HEADERS_MAX);
        for (from, to) in [
            ("Upgrade: WebSocket\r\n", ""),
            ("Upgrade: WebSocket", "Upgrade: h2c"),
            ("Connection: keep-alive, upgrade\r\n", ""),
            ("keep-alive, upgrade", "keep-alive, upgraded"),
            ("Sec-WebSocket-Accept: KEY\r\n", ""),
            ("Accept: KEY", "Accept: dGhlIHNhbXBsZSBub25jZQ=="),
            ("Accept: KEY", "Accept: KEY\r\nSec-WebSocket-Accept: KEY"),
            ("Server", "Sec-WebSocket-Protocol: chat\r\nServer"),
            (
                "Server",
                "Sec-WebSocket-Extensions: permessage-deflate\r\nServer",
            ),
            ("HTTP/1.1", "HTTP/1.0"),
            ("HTTP/1.1", "SSH-2.0"),
            ("Server", &format!("{lines}Server")),
            ("\r\n\r\n", "\r\n"),
        ] {
            let answer = |key: &str| GOOD.replace(from, to).replace("KEY", key).into();
            let refused = ask(usize::MAX, answer);
            assert!(
                matches!(refused, Err(DialError::Handshake(_))),
                "{from} {to}"
            );
        }
        assert!(matches!(
            ask(9, |_| b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec()),
            Err(DialError::Status(404))
        ));
    }

    #[test]
    fn a_relay_is_known_by_its_marker_whatever_it_answers() {
        let marked = |answer: &str| answer.replace("nginx", "zlay/1 (ATProto-Relay)");
        let refusal = "HTTP/1.1 429 Too Many Requests\r\nServer: nginx\r\n\r\n";
        for answer in [GOOD, refusal] {
            let answer = |key: &str| marked(answer).replace("KEY", key).into();
            assert!(matches!(ask(50, answer), Err(DialError::IsRelay)));
        }
    }

    #[test]
    fn a_head_without_an_end_is_given_up() {
        for filler in ["x", "x: y\r\n", "\n"] {
            let endless = |_: &str| {
                let start = b"HTTP/1.1 101 Switching Protocols\r\nx: ";
                [&start[..], &filler.repeat(1 << 20).into_bytes()].concat()
            };
            let mut host = Host {
                asked: Vec::new(),
                answer: endless,
                answered: 0,
                piece: usize::MAX,
            };
            let refused = upgrade(&mut host, "a", None);
            assert!(!matches!(refused, Err(DialError::Timeout)), "{filler:?}");
            assert!(host.answered <= OUTBOUND_HEAD_BYTES_MAX, "{filler:?}");
        }
    }

    /// A socket that is out of time.
    struct Late;

    impl Read for Late {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::TimedOut.into())
        }
    }

    impl Write for Late {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_answer_in_time_is_no_refusal() {
        let refused = upgrade(&mut Late, "a", None);
        assert!(matches!(refused, Err(DialError::Timeout)));
    }
}
