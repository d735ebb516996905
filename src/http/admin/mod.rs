//! Who may do what only the operator may. The password is compared in constant time and appears
//! in no log.

mod accounts;
mod hosts;

use std::time::Instant;

use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE64;

use super::{app::App, rate::RateLimit, request::Request, response::Response};
use crate::{
    config::Secret,
    limits::{ADMIN_FAILURES_MAX, CRAWL_REQUESTS_WINDOW, RATE_ADDRESSES_MAX},
};

/// Every admin route begins with this.
pub const PREFIX: &str = "/admin/";

/// A host is to be crawled, whatever the limits say.
pub const REQUEST_CRAWL: &str = "/admin/pds/requestCrawl";

/// The only user there is.
const USER: &str = "admin";

/// Checks the credentials of requests.
#[derive(Debug)]
pub struct Admin {
    /// The hash of the password, so that lengths do not show in the time of a comparison; none:
    /// nobody is let in.
    password: Option<digest::Digest>,
    failures: RateLimit,
}

impl Admin {
    /// Lets in who has the password; without one nobody.
    pub fn new(password: Option<&Secret>) -> Admin {
        Admin {
            password: password.map(|secret| hash(secret.expose())),
            failures: RateLimit::new(
                ADMIN_FAILURES_MAX,
                CRAWL_REQUESTS_WINDOW,
                RATE_ADDRESSES_MAX,
            ),
        }
    }

    /// Whether the request is the operator's: `Basic` with the user `admin`, or `Bearer`. The
    /// error is the answer to the client.
    pub fn authorise(&self, request: &Request, now: Instant) -> Result<(), Response> {
        let Some(password) = &self.password else {
            return Err(Response::error(
                403,
                "Forbidden",
                "This relay has no admin password",
            ));
        };
        self.failures
            .check(request.client, now)
            .map_err(|after| Response::too_many("Too many failed log-ins", after))?;
        let Some(credentials) = request.headers.first("authorization") else {
            return Err(unauthorised("Admin password is needed"));
        };
        let given = hash(password_in(credentials).as_deref().unwrap_or_default());
        let equal = constant_time::verify_slices_are_equal(password.as_ref(), given.as_ref());
        equal.map_err(|_| {
            // It was allowed just now; a race lets a few more tries through at most.
            let _ = self.failures.take(request.client, now);
            log::warn!("admin: wrong credentials from {}", request.client);
            unauthorised("Wrong admin credentials")
        })
    }
}

/// Whether the request comes from a page that is not the relay's own. A browser adds the operator's
/// log-in to whatever a page makes it send, and says in these headers which page that was
/// (<https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>).
fn is_of_another_page(request: &Request) -> bool {
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

/// Answers a request under [`PREFIX`].
pub fn route(app: &App, request: &Request) -> Response {
    if !request.method.reads() && is_of_another_page(request) {
        let message = "This is for the operator, not for another page in his browser";
        return Response::error(403, "Forbidden", message);
    }
    if let Err(answer) = app.admin.authorise(request, Instant::now()) {
        return answer;
    }
    match request.path.as_str() {
        REQUEST_CRAWL => app.desk.operator(request),
        _ => hosts::route(app, request)
            .or_else(|| accounts::route(app, request))
            .unwrap_or_else(|| {
                Response::error(501, "MethodNotImplemented", "There is no such admin method")
            }),
    }
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
        Admin {
            password: Some(hash("open:sesame")),
            ..Admin::new(None)
        }
    }

    fn status(admin: &Admin, authorization: Option<&str>) -> Result<(), u16> {
        let outcome = admin.authorise(&request(authorization), Instant::now());
        outcome.map_err(|answer| answer.status)
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
        let answer = admin.authorise(&request(None), Instant::now()).unwrap_err();
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
