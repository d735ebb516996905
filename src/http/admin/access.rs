//! Who is let in: with the password, or with the cookie of a log-in; and from which page.

use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE64;

use super::{
    Request, Response,
    session::{self, Sessions, Visit},
};
use crate::{
    config::Secret,
    http::rate::RateLimit,
    limits::{ADMIN_FAILURES_MAX, CRAWL_REQUESTS_WINDOW, RATE_ADDRESSES_MAX},
};

/// The only user there is.
const USER: &str = "admin";

/// How a request has shown that it is the operator's.
pub(super) enum Access {
    /// With the password.
    Password,
    /// With the cookie of a log-in.
    Session(Visit),
}

/// Checks the credentials of requests.
#[derive(Debug)]
pub struct Admin {
    /// None: nobody is let in.
    password: Option<Password>,
    failures: RateLimit,
    /// Log-ins of browsers.
    pub(super) sessions: Sessions,
}

#[derive(Debug)]
struct Password {
    /// Siblings have the same one, and are told with it what was done on the page.
    secret: Secret,
    /// Its hash, so that lengths do not show in the time of a comparison.
    hash: digest::Digest,
}

impl Admin {
    /// Lets in who has the password; without one nobody.
    pub fn new(password: Option<&Secret>) -> Admin {
        Admin {
            password: password.map(|secret| Password {
                secret: secret.clone(),
                hash: hash(secret.expose()),
            }),
            failures: RateLimit::new(CRAWL_REQUESTS_WINDOW, RATE_ADDRESSES_MAX),
            sessions: Sessions::default(),
        }
    }

    /// Whether the request is the operator's: `Basic` with the user `admin`, or `Bearer`, or without
    /// either the cookie of a log-in.
    pub(super) fn authorise(&self, request: &Request, now: Instant) -> Result<Access, Refused> {
        if self.password.is_none() {
            return Err(Refused::NoPassword);
        }
        if let Some(credentials) = request.headers.first("authorization") {
            let given = password_in(credentials).unwrap_or_default();
            return self.check(request, &given, now).map(|()| Access::Password);
        }
        // Who is in stays in, whatever somebody else at his address guesses.
        let mut tokens = session::tokens_in(request).peekable();
        let is_browser = tokens.peek().is_some();
        let visit = tokens.find_map(|token| self.sessions.find(token, false, now));
        if let Some(visit) = visit {
            return Ok(Access::Session(visit));
        }
        self.check_failures(request, now)?;
        Err(match is_browser {
            true => Refused::Ended,
            false => Refused::Missing,
        })
    }

    /// Whether this is the password.
    pub(super) fn check(
        &self,
        request: &Request,
        given: &str,
        now: Instant,
    ) -> Result<(), Refused> {
        let password = self.password.as_ref().ok_or(Refused::NoPassword)?;
        self.check_failures(request, now)?;
        let (ours, given) = (&password.hash, hash(given));
        let equal = constant_time::verify_slices_are_equal(ours.as_ref(), given.as_ref());
        equal.map_err(|_| {
            // It was allowed just now; a race lets a few more tries through at most.
            let _ = self.failures.take(request.client, ADMIN_FAILURES_MAX, now);
            log::warn!(client:% = request.client; "a log-in with wrong credentials");
            Refused::Wrong
        })
    }

    /// Whether anybody can be let in.
    pub(super) fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// What siblings are shown; empty where there is none.
    pub(super) fn password(&self) -> &str {
        let password = self.password.as_ref();
        password.map_or("", |password| password.secret.expose())
    }

    fn check_failures(&self, request: &Request, now: Instant) -> Result<(), Refused> {
        self.failures
            .check(request.client, ADMIN_FAILURES_MAX, now)
            .map_err(Refused::TooMany)
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// Nobody is.
    NoPassword,
    /// His address has sent too many wrong passwords; for so long none is looked at.
    TooMany(Duration),
    /// He has shown nothing.
    Missing,
    /// He has shown the cookie of a log-in that does not hold any more.
    Ended,
    /// The password is another one.
    Wrong,
}

impl From<Refused> for Response {
    fn from(refused: Refused) -> Response {
        match refused {
            Refused::NoPassword => {
                Response::error(403, "Forbidden", "This relay has no admin password")
            }
            Refused::TooMany(after) => Response::too_many("Too many failed log-ins", after),
            Refused::Missing => unauthorised("Admin password is needed"),
            // Asked for a password in a header, a browser would open a window of its own.
            Refused::Ended => {
                Response::error(401, "AuthenticationRequired", "The log-in has ended")
            }
            Refused::Wrong => unauthorised("Wrong admin credentials"),
        }
    }
}

pub(super) fn of_another_page() -> Response {
    let message = "This is for the operator, not for another page in his browser";
    Response::error(403, "Forbidden", message)
}

/// Whether the request comes from a page that is not the relay's own. A browser adds the operator's
/// log-in to whatever a page makes it send, and says in these headers which page that was
/// (<https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>).
pub(super) fn is_of_another_page(request: &Request) -> bool {
    let headers = &request.headers;
    if let Some(site) = headers.first("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = headers.first("origin") else {
        return false;
    };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_none() || host != headers.first("host")
}

fn unauthorised(message: &str) -> Response {
    Response::error(401, "AuthenticationRequired", message).with(
        "WWW-Authenticate",
        "Basic realm=\"zlay\", charset=\"UTF-8\"",
    )
}

fn password_in(credentials: &str) -> Option<String> {
    let (scheme, value) = credentials.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64.decode(value.as_bytes()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    (user == USER).then(|| password.to_owned())
}

fn hash(text: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::http::request::{Headers, Method};

    fn request(authorization: Option<&str>) -> Request {
        let mut headers = Headers::default();
        if let Some(value) = authorization {
            headers.push("Authorization", value.as_bytes());
        }
        Request {
            method: Method::Get,
            path: "/admin/pds/list".to_owned(),
            query: String::new(),
            headers,
            body: Vec::new(),
            client: IpAddr::from([192, 0, 2, 1]),
        }
    }

    fn admin() -> Admin {
        Admin::new(Some(&"open:sesame".to_owned().into()))
    }

    fn status(admin: &Admin, authorization: Option<&str>) -> Result<(), u16> {
        let outcome = admin.authorise(&request(authorization), Instant::now());
        outcome
            .map(drop)
            .map_err(|refused| Response::from(refused).status)
    }

    /// Rule 181: <https://atproto.com/specs/xrpc#authentication>
    #[test]
    fn the_password_opens_in_both_forms() {
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
        let admin = admin();
        assert_eq!(status(&admin, Some(&basic("admin:open:sesame"))), Ok(()));
        assert_eq!(status(&admin, Some("bearer open:sesame")), Ok(()));
        for wrong in [
            basic("root:open:sesame"),
            basic("admin:open"),
            basic("open:sesame"),
            "Basic ###".to_owned(),
            "Bearer ".to_owned(),
            "Bearer open:sesame2".to_owned(),
            "Digest open:sesame".to_owned(),
            "open:sesame".to_owned(),
        ] {
            assert_eq!(status(&admin, Some(&wrong)), Err(401), "{wrong}");
        }
        let refused = admin.authorise(&request(None), Instant::now());
        let answer = Response::from(refused.err().unwrap());
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers[0].0, "WWW-Authenticate");
    }

    #[test]
    fn a_page_of_somebody_else_is_told_from_the_operator() {
        let of = |lines: &[(&str, &str)]| {
            let mut request = request(None);
            for (name, value) in lines {
                request.headers.push(name, value.as_bytes());
            }
            is_of_another_page(&request)
        };
        let host = ("Host", "relay.test:3000");
        assert!(!of(&[host]));
        assert!(!of(&[host, ("Sec-Fetch-Site", "same-origin")]));
        assert!(!of(&[host, ("Sec-Fetch-Site", "none")]));
        assert!(!of(&[host, ("Origin", "https://relay.test:3000")]));
        assert!(of(&[host, ("Sec-Fetch-Site", "cross-site")]));
        assert!(of(&[host, ("Sec-Fetch-Site", "same-site")]));
        assert!(of(&[host, ("Origin", "https://evil.test")]));
        assert!(of(&[host, ("Origin", "null")]));
        assert!(of(&[("Origin", "https://relay.test:3000")]));
    }

    #[test]
    fn without_a_password_nobody_is_let_in() {
        let admin = Admin::new(None);
        assert_eq!(status(&admin, None), Err(403));
        assert_eq!(status(&admin, Some("Bearer ")), Err(403));
    }

    #[test]
    fn guessing_ends() {
        let admin = admin();
        for _ in 0..ADMIN_FAILURES_MAX {
            assert_eq!(status(&admin, Some("Bearer guess")), Err(401));
        }
        assert_eq!(status(&admin, Some("Bearer open:sesame")), Err(429));
    }
}
