//! An answer, and its bytes.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

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
    pub fn json(value: &Value) -> Response {
        Response {
            status: 200,
            content_type: "application/json",
            headers: Vec::new(),
            body: value.to_string().into_bytes(),
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
        if self.status != 204 {
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
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
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

/// `Sun, 06 Nov 1994 08:49:37 GMT`
/// (<https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats>).
fn http_date(time: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Counted from 1 March of the year 0, so that the leap day is the last of its year:
    // https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        second / 3_600,
        second / 60 % 60,
        second % 60,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_standard() {
        let date = |seconds| http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(1_798_761_599), "Thu, 31 Dec 2026 23:59:59 GMT");
    }

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
