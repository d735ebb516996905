//! As much HTTP/1.1 as a simulated server needs: GET requests with keep-alive.

use std::{
    io::{self, ErrorKind, Read},
    time::{Duration, Instant},
};

use super::{
    listen::Waker,
    stream::{Ready, Stream},
};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_IDLE_TIMEOUT, HTTP_WRITE_TIMEOUT};

/// A request without a body.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path, as sent.
    pub(crate) path: String,
    /// What follows the `?`, as sent.
    pub(crate) query: String,
    /// The key of a websocket upgrade.
    pub(crate) websocket: Option<String>,
    /// Whether the client wants to go on using the connection.
    pub(crate) keep_alive: bool,
}

impl Request {
    /// The percent-decoded value of a query parameter.
    pub(crate) fn param(&self, name: &str) -> Option<String> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| percent_decode(value))
    }
}

/// `%3A` becomes `:`; what is not an escape stays.
pub(crate) fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = text
            .get(i + 1..i + 3)
            .filter(|_| bytes[i] == b'%')
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escape.unwrap_or(bytes[i]));
        i += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads the next request; none when the client has gone, was idle for too long, or a stop was
/// asked for. `buffer` keeps what came after the head.
pub(crate) fn read_request(
    stream: &mut Stream,
    buffer: &mut Vec<u8>,
    stop: &Waker,
) -> io::Result<Option<Request>> {
    let deadline = Instant::now() + HTTP_IDLE_TIMEOUT;
    loop {
        if let Some((request, used)) = parse(buffer)? {
            buffer.drain(..used);
            return Ok(Some(request));
        }
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                match stream.wait(false, stop, None, left)? {
                    Ready::Socket | Ready::Woken => {}
                    Ready::Stop | Ready::Timeout => return Ok(None),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn parse(buffer: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let invalid = |what: &'static str| io::Error::new(ErrorKind::InvalidData, what);
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let status = head
        .parse(buffer)
        .map_err(|_| invalid("not an HTTP request"))?;
    let httparse::Status::Complete(used) = status else {
        return if buffer.len() > HTTP_HEAD_BYTES_MAX {
            Err(invalid("an oversized request head"))
        } else {
            Ok(None)
        };
    };
    let header = |name: &str| {
        let mut all = head.headers.iter();
        all.find(|h| h.name.eq_ignore_ascii_case(name))
            .map(|h| String::from_utf8_lossy(h.value).into_owned())
    };
    let target = head.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let connection = header("connection").unwrap_or_default();
    let upgrade = header("upgrade").is_some_and(|u| u.eq_ignore_ascii_case("websocket"));
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        websocket: upgrade.then(|| header("sec-websocket-key")).flatten(),
        keep_alive: !connection.eq_ignore_ascii_case("close"),
    };
    Ok(Some((request, used)))
}

/// Answers with a JSON body.
pub(crate) fn answer(
    stream: &mut Stream,
    stop: &Waker,
    status: &str,
    body: &str,
    keep_alive: bool,
) -> io::Result<()> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: {connection}\r\nServer: zlay-sim\r\n\r\n{body}",
        body.len()
    );
    stream.send_all(response.as_bytes(), stop, HTTP_WRITE_TIMEOUT)
}

/// Waits for `delay` unless a stop is asked for or the client goes.
pub(crate) fn linger(stream: &Stream, stop: &Waker, delay: Duration) -> io::Result<bool> {
    if delay.is_zero() {
        return Ok(true);
    }
    Ok(stream.wait(false, stop, None, delay)? == Ready::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_parsed_when_they_are_whole() {
        let text = b"GET /xrpc/a.b?did=did%3Aplc%3Ax&cursor= HTTP/1.1\r\nHost: x\r\n\
                     Upgrade: WebSocket\r\nSec-WebSocket-Key: k\r\n\r\nrest";
        assert!(parse(&text[..40]).unwrap().is_none());
        let (request, used) = parse(text).unwrap().unwrap();
        assert_eq!(&text[used..], b"rest");
        assert_eq!(request.path, "/xrpc/a.b");
        assert_eq!(request.param("did").as_deref(), Some("did:plc:x"));
        assert_eq!(request.param("cursor").as_deref(), Some(""));
        assert_eq!(request.param("limit"), None);
        assert_eq!(request.websocket.as_deref(), Some("k"));
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn escapes_are_decoded() {
        assert_eq!(percent_decode("did%3aplc:%zz%"), "did:plc:%zz%");
    }
}
