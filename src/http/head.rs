//! The head of a request: from bytes to what the front door needs to know.

use super::{
    request::{Headers, Method},
    response::Response,
};
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEADERS_MAX};

/// A parsed head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Headers,
    /// Bytes of the body that follows; at most [`HTTP_BODY_BYTES_MAX`].
    pub(super) body_bytes: usize,
    /// Whether the client wants the connection to stay.
    pub(super) keep_alive: bool,
    /// Whether the client waits to be told before it sends the body.
    pub(super) expects_continue: bool,
}

/// Where the head in `buffer` ends, after the empty line. Bytes before `from` are known not to
/// hold the end.
pub(super) fn end(buffer: &[u8], from: usize) -> Option<usize> {
    let newlines = (from..buffer.len()).filter(|i| buffer[*i] == b'\n');
    for i in newlines {
        match &buffer[i + 1..] {
            [b'\n', ..] => return Some(i + 2),
            [b'\r', b'\n', ..] => return Some(i + 3),
            _ => {}
        }
    }
    None
}

/// Checks what can be said before the head is complete. A client that speaks something else, such as TLS,
/// waits for an answer before it says more, and one whose request line is bad learns nothing from what
/// follows. Bytes before `from` are known to hold no end of a line.
pub(super) fn check_beginning(buffer: &[u8], from: usize) -> Result<Checked, Response> {
    if buffer.first().is_some_and(|byte| !byte.is_ascii_graphic()) {
        return Err(malformed());
    }
    let rest = buffer.get(from..).unwrap_or_default();
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Ok(Checked::NotYet);
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse(&buffer[..=from + end]) {
        // Of header lines nothing has come.
        Ok(_) => Ok(Checked::Line),
        Err(error) => Err(not_read(error, buffer)),
    }
}

/// How far [`check_beginning`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Checked {
    /// The request line is not complete.
    NotYet,
    /// The request line is good.
    Line,
}

/// Parses a complete head. The error is the answer to the client; what follows such a head on the
/// connection can not be trusted.
pub(super) fn parse(bytes: &[u8]) -> Result<Head, Response> {
    let mut lines = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(malformed()),
        Err(error) => return Err(not_read(error, bytes)),
    }
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else {
        return Err(malformed());
    };
    let minor = parsed.version.unwrap_or(0);
    let mut headers = Headers::default();
    for line in parsed.headers.iter() {
        // Of an older client it must be passed over
        // (<https://www.rfc-editor.org/rfc/rfc9110#section-7.8>).
        if minor == 0 && line.name.eq_ignore_ascii_case("upgrade") {
            continue;
        }
        headers.push(line.name, line.value);
    }
    if minor >= 1 && headers.all("host").count() != 1 {
        return Err(Response::invalid("A request has exactly one Host header"));
    }
    let (path, query) = split_target(target).ok_or_else(malformed)?;
    let keep_alive = if minor >= 1 {
        !headers.lists("connection", "close")
    } else {
        headers.lists("connection", "keep-alive")
    };
    Ok(Head {
        method: Method::parse(method),
        path,
        query,
        body_bytes: body_bytes(&headers)?,
        keep_alive,
        expects_continue: expects_continue(&headers, minor)?,
        headers,
    })
}

/// The answer to a head that is longer than a head may be; `beginning` has as much of it as that.
pub(super) fn too_long(beginning: &[u8]) -> Response {
    let line_ends = beginning.contains(&b'\n');
    if !line_ends && beginning.contains(&b' ') {
        return Response::error(414, "InvalidRequest", "The request target is too long");
    }
    too_large()
}

/// 431: the head is over a limit.
pub(super) fn too_large() -> Response {
    Response::error(431, "InvalidRequest", "The request head is too large")
}

/// 413: the body is over the limit.
pub(super) fn body_too_large() -> Response {
    Response::error(413, "PayloadTooLarge", "The request body is too large")
}

fn malformed() -> Response {
    Response::invalid("Malformed HTTP request")
}

/// What a head is answered that can not be parsed.
fn not_read(error: httparse::Error, bytes: &[u8]) -> Response {
    match error {
        httparse::Error::TooManyHeaders => too_large(),
        httparse::Error::Version if names_a_version(bytes) => {
            Response::error(505, "InvalidRequest", "Only HTTP/1.1 is spoken here")
        }
        _ => malformed(),
    }
}

/// Whether the third word of a request line is some version of HTTP.
fn names_a_version(bytes: &[u8]) -> bool {
    let mut words = bytes.split(|byte| *byte == b' ');
    words.nth(2).is_some_and(|word| word.starts_with(b"HTTP/"))
}

/// Whether the client waits for a word of ours before it sends the body; that is all it may expect.
fn expects_continue(headers: &Headers, minor: u8) -> Result<bool, Response> {
    if minor == 0 {
        return Ok(false);
    }
    let mut expected = headers.all("expect").peekable();
    let is_there = expected.peek().is_some();
    match expected.all(|value| value.eq_ignore_ascii_case("100-continue")) {
        true => Ok(is_there),
        false => Err(Response::error(
            417,
            "InvalidRequest",
            "Nothing but 100-continue can be expected here",
        )),
    }
}

/// How long the body is. Only a single plain `Content-Length` is understood, since every further
/// way to say it is a way for two parties to understand a request differently
/// (<https://www.rfc-editor.org/rfc/rfc9112#name-message-body-length>).
fn body_bytes(headers: &Headers) -> Result<usize, Response> {
    let mut lengths = headers.all("content-length");
    let length = lengths.next();
    if headers.first("transfer-encoding").is_some() {
        return Err(if length.is_some() {
            malformed()
        } else {
            Response::error(411, "InvalidRequest", "Send the body with a Content-Length")
        });
    }
    let Some(length) = length else {
        return Ok(0);
    };
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    if lengths.next().is_some() || !digits {
        return Err(malformed());
    }
    match length.parse() {
        Ok(bytes) if bytes <= HTTP_BODY_BYTES_MAX => Ok(bytes),
        _ => Err(body_too_large()),
    }
}

/// Path and query of a request target; the host of an absolute one does not matter here.
pub(super) fn split_target(target: &str) -> Option<(String, String)> {
    let after_scheme = target
        .strip_prefix("http://")
        .or_else(|| target.strip_prefix("https://"));
    let target = match after_scheme {
        Some(rest) => match rest.find(['/', '?']) {
            Some(at) => &rest[at..],
            None => "/",
        },
        None => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if path.is_empty() { "/" } else { path };
    (path.starts_with('/') || path == "*").then(|| (path.to_owned(), query.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(lines: &[&str]) -> Result<Head, u16> {
        let text = format!("{}\r\n\r\n", lines.join("\r\n"));
        assert_eq!(end(text.as_bytes(), 0), Some(text.len()));
        parse(text.as_bytes()).map_err(|answer| answer.status)
    }

    #[test]
    fn a_head_is_found_where_it_ends() {
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r\nGET", 0), Some(18));
        assert_eq!(end(b"GET / HTTP/1.1\n\nGET", 0), Some(16));
        assert_eq!(end(b"GET / HTTP/1.1\r\nHost: a\r\n\r", 0), None);
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for known in 0..=text.len() - 3 {
            assert_eq!(end(text, known.saturating_sub(3)), Some(text.len()));
        }
    }

    #[test]
    fn the_target_is_taken_apart() {
        let head = status(&["GET /xrpc/a.b.c?x=1?2 HTTP/1.1", "Host: relay"]).unwrap();
        assert_eq!(
            (head.path.as_str(), head.query.as_str()),
            ("/xrpc/a.b.c", "x=1?2")
        );
        assert!(head.keep_alive);
        let split = |target| split_target(target).unwrap();
        assert_eq!(split("http://h:1/p?q"), ("/p".into(), "q".into()));
        assert_eq!(split("https://h"), ("/".into(), String::new()));
        assert_eq!(split("http://h?q"), ("/".into(), "q".into()));
        assert_eq!(split("*"), ("*".into(), String::new()));
        assert_eq!(split_target("xrpc"), None);
    }

    #[test]
    fn the_body_has_one_way_to_say_its_length() {
        let post = |lines: &[&str]| {
            let mut all = vec!["POST / HTTP/1.1", "Host: a"];
            all.extend_from_slice(lines);
            status(&all).map(|head| head.body_bytes)
        };
        assert_eq!(post(&[]), Ok(0));
        assert_eq!(post(&["Content-Length: 8192"]), Ok(8_192));
        assert_eq!(post(&["Content-Length: 8193"]), Err(413));
        assert_eq!(post(&["Content-Length: 99999999999999999999999"]), Err(413));
        assert_eq!(post(&["Content-Length: 5", "Content-Length: 5"]), Err(400));
        assert_eq!(post(&["Content-Length: 5, 5"]), Err(400));
        assert_eq!(post(&["Content-Length: +5"]), Err(400));
        assert_eq!(post(&["Content-Length: "]), Err(400));
        assert_eq!(post(&["Transfer-Encoding: chunked"]), Err(411));
        let both = ["Transfer-Encoding: chunked", "Content-Length: 5"];
        assert_eq!(post(&both), Err(400));
    }

    #[test]
    fn bad_heads_are_named() {
        assert_eq!(status(&["GET / HTTP/1.1"]).err(), Some(400), "no Host");
        assert_eq!(
            status(&["GET / HTTP/1.1", "Host: a", "host: b"]).err(),
            Some(400)
        );
        assert_eq!(status(&["GET / HTTP/2.0", "Host: a"]).err(), Some(505));
        assert_eq!(status(&["GET /", "Host: a"]).err(), Some(400));
        assert_eq!(status(&["GET / HTTP/1.1", "Host : a"]).err(), Some(400));
        for (line, expected) in [
            ("X: a\0b", 400),
            ("X: a\rb", 400),
            ("X: a\u{b}b", 400),
            ("X\0: a", 400),
            (": a", 400),
            ("X: a\r\n folded", 400),
            ("X: a\r\n\tfolded", 400),
            ("Expect: 200-ok", 417),
            ("Expect: 100-continue\r\nExpect: more", 417),
        ] {
            assert_eq!(
                status(&["GET / HTTP/1.1", "Host: a", line]).err(),
                Some(expected),
                "{line:?}"
            );
        }
        for line in [
            "GET /\0 HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET /\tx HTTP/1.1",
            "G\0T / HTTP/1.1",
            "CONNECT a:443 HTTP/1.1",
            "GET ../admin HTTP/1.1",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(status(&[line, "Host: a"]).err(), Some(400), "{line:?}");
        }
        let mut many = vec!["GET / HTTP/1.1".to_owned(), "Host: a".to_owned()];
        many.extend((0..HTTP_HEADERS_MAX).map(|n| format!("x-{n}: 1")));
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(status(&many).err(), Some(431));
    }

    #[test]
    fn what_is_no_request_shows_before_its_end() {
        let check = |bytes: &[u8]| check_beginning(bytes, 0).map_err(|answer| answer.status);
        assert_eq!(check(b"\x16\x03\x01\x02\0\x01"), Err(400), "a TLS hello");
        assert_eq!(check(b"\0"), Err(400));
        assert_eq!(check(b" GET"), Err(400));
        assert_eq!(check(b"SSH-2.0-OpenSSH_9\r\n"), Err(400));
        assert_eq!(check(b"EHLO mail.example.com\r\n"), Err(400));
        assert_eq!(check(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), Err(400));
        assert_eq!(check(b"PRI * HTTP/2.0\r\n"), Err(505));
        for beginning in [&b""[..], b"G", b"GET / HTTP/1.1", b"GET / HTTP/1.1\r"] {
            assert_eq!(check(beginning), Ok(Checked::NotYet));
        }
        for line in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"GET / HTTP/1.0\n",
            b"GET / HTTP/1.1\r\nHo",
        ] {
            for known in [0, 7] {
                assert_eq!(check_beginning(line, known).ok(), Some(Checked::Line));
            }
        }
    }

    #[test]
    fn the_limit_that_was_met_is_named() {
        assert_eq!(too_long(b"GET /aaaa").status, 414);
        assert_eq!(too_long(b"GET /aaaa HTTP/1.1\r\nX: aaaa").status, 431);
        assert_eq!(too_long(b"aaaa").status, 431);
    }

    #[test]
    fn what_comes_beside_a_length_is_not_trimmed_off() {
        let length = "Content-Length: 5\u{a0}";
        assert_eq!(
            status(&["POST / HTTP/1.1", "Host: a", length]).err(),
            Some(400)
        );
    }

    #[test]
    fn an_old_client_upgrades_nothing() {
        let lines = [
            "GET / HTTP/1.0",
            "Upgrade: websocket",
            "Expect: 100-continue",
        ];
        let head = status(&lines).unwrap();
        assert_eq!(head.headers.first("upgrade"), None);
        assert!(!head.expects_continue);
    }

    #[test]
    fn connections_stay_as_the_version_says() {
        let keeps = |lines: &[&str]| status(lines).unwrap().keep_alive;
        assert!(!keeps(&[
            "GET / HTTP/1.1",
            "Host: a",
            "Connection: foo, Close"
        ]));
        assert!(!keeps(&["GET / HTTP/1.0"]));
        assert!(keeps(&["GET / HTTP/1.0", "Connection: Keep-Alive"]));
    }
}
