//! An answer, and its bytes.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::json;

use super::time::http_date;

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// What the body is.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What every answer says: which software this is, and that browsers may read it from any page.
pub const COMMON_HEADERS: [(&str, &str); 2] = [
    ("Server", crate::SERVER),
    ("Access-Control-Allow-Origin", "*"),
];

impl Response {
    /// 200 with a JSON body.
    pub fn json(value: &impl Serialize) -> Response {
        match serde_json::to_vec(value) {
            Ok(body) => Response {
                status: 200,
                content_type: "application/json",
                headers: Vec::new(),
                body,
            },
            Err(error) => {
                log::error!(error:% = error; "an answer can not be written as JSON");
                Response::error(500, "InternalServerError", "The answer can not be written")
            }
        }
    }

    /// 200 with a body of text.
    pub fn text(content_type: &'static str, body: String) -> Response {
        Response {
            status: 200,
            content_type,
            headers: Vec::new(),
            body: body.into_bytes(),
        }
    }

    /// An error in the form of XRPC (<https://atproto.com/specs/xrpc#error-responses>).
    pub fn error(status: u16, name: &str, message: &str) -> Response {
        Response {
            status,
            ..Response::json(&json!({ "error": name, "message": message }))
        }
    }

    /// 400: the client's request is wrong.
    pub fn invalid(message: &str) -> Response {
        Response::error(400, "InvalidRequest", message)
    }

    /// 429: come back later.
    pub fn too_many(message: &str, after: Duration) -> Response {
        Response::error(429, "RateLimitExceeded", message).retry_after(after)
    }

    /// 405, with the methods that are allowed.
    pub fn method_not_allowed(allowed: &'static str) -> Response {
        Response::error(405, "InvalidRequest", "Method not allowed").with("Allow", allowed)
    }

    /// With one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// With another status.
    pub fn status(mut self, status: u16) -> Response {
        self.status = status;
        self
    }

    /// With a wait, in whole seconds rounded up.
    pub fn retry_after(self, after: Duration) -> Response {
        let seconds = after.as_millis().div_ceil(1_000).max(1);
        self.with("Retry-After", seconds.to_string())
    }

    /// The bytes of the answer over HTTP/1.1. `head_only` leaves the body out; `close` tells the
    /// client that the connection ends.
    pub fn encode(&self, head_only: bool, close: bool, now: SystemTime) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        // Writing to a string does not fail.
        for (name, value) in COMMON_HEADERS {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Date: {}\r\n", http_date(now));
        if !matches!(self.status, 204 | 304) {
            let _ = write!(head, "Content-Type: {}\r\n", self.content_type);
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        let mut connection = if close { vec!["close"] } else { Vec::new() };
        for (name, value) in &self.headers {
            if *name == "Connection" {
                connection.insert(0, value);
            } else {
                let _ = write!(head, "{name}: {value}\r\n");
            }
        }
        if !connection.is_empty() {
            let _ = write!(head, "Connection: {}\r\n", connection.join(", "));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn an_answer_has_one_connection_header() {
        let answer = Response::invalid("no").with("Connection", "Upgrade");
        let text = String::from_utf8(answer.encode(true, true, UNIX_EPOCH)).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(
            text.contains("\r\nConnection: Upgrade, close\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nContent-Length: 41\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        let open = answer.encode(false, false, UNIX_EPOCH);
        let text = String::from_utf8(open).unwrap();
        assert!(text.contains("\r\nConnection: Upgrade\r\n"), "{text}");
        assert!(text.ends_with(r#"{"error":"InvalidRequest","message":"no"}"#));
    }

    #[test]
    fn waits_are_rounded_up() {
        for (ms, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let answer = Response::too_many("", Duration::from_millis(ms));
            assert_eq!(answer.headers, [("Retry-After", seconds.to_owned())]);
        }
    }
}
