//! What only the operator may do: one table of routes; who is let in; what is noted of what was done.
//!
//! Paths and JSON are those of the reference relay, so that its tools work here
//! (<https://github.com/bluesky-social/indigo/blob/main/cmd/relay/handlers_admin.go>), and some of
//! our own. The password is compared in constant time and appears in no log.

mod accounts;
mod hosts;
mod relay;
mod subscribers;

use std::time::Instant;

use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use super::{
    app::App,
    query::Query,
    rate::RateLimit,
    request::{Method, Request},
    response::Response,
};
use crate::{
    config::Secret,
    control::AuditEntry,
    host::now_ms,
    limits::{ADMIN_FAILURES_MAX, CRAWL_REQUESTS_WINDOW, HTTP_RETRY_AFTER, RATE_ADDRESSES_MAX},
};

/// Every admin route begins with this.
pub const PREFIX: &str = "/admin/";

/// The only user there is.
const USER: &str = "admin";

/// What a route does.
#[derive(Clone, Copy)]
enum Act {
    /// Looks something up.
    Read(fn(&App, &Request) -> Result<Response, Response>),
    /// Changes something.
    Write(fn(&App, &Request) -> Result<Deed, Response>),
    /// Changes something, here and at the siblings.
    Forwarded(fn(&App, &Request) -> Result<Deed, Response>),
}

/// Something that was done.
struct Deed {
    /// To whom.
    subject: String,
    /// What else was said.
    detail: Value,
    answer: Response,
}

impl Deed {
    /// What most routes answer. A string: clients read it as one.
    fn done(subject: impl Into<String>, detail: Value) -> Deed {
        Deed {
            subject: subject.into(),
            detail,
            answer: Response::json(&json!({ "success": "true" })),
        }
    }
}

/// The route of a path (without [`PREFIX`]).
fn act(path: &str) -> Option<Act> {
    use Act::{Forwarded, Read, Write};
    Some(match path {
        "pds/list" => Read(hosts::list),
        "hosts" => Read(hosts::details),
        "hosts/detail" => Read(hosts::detail),
        "pds/requestCrawl" | "hosts/requestCrawl" => Forwarded(hosts::request_crawl),
        "pds/block" | "hosts/block" => Forwarded(hosts::block),
        "pds/unblock" | "hosts/unblock" => Forwarded(hosts::unblock),
        "pds/changeLimits" | "hosts/changeLimits" => Forwarded(hosts::change),
        "hosts/resetCursor" => Write(hosts::reset),
        "alerts/accountLimitSent" => Write(hosts::alert_sent),
        "subs/getUpstreamConns" => Read(hosts::connected),
        "subs/killUpstream" => Forwarded(hosts::disconnect),
        "subs/banDomain" => Forwarded(hosts::ban_domain),
        "subs/unbanDomain" => Forwarded(hosts::unban_domain),
        "subs/listDomainBans" => Read(hosts::banned_domains),
        "subs/getEnabled" => Read(relay::enabled),
        "subs/setEnabled" => Write(relay::set_enabled),
        "subs/perDayLimit" => Read(relay::per_day_limit),
        "subs/setPerDayLimit" => Write(relay::set_per_day_limit),
        "settings" => Read(relay::settings),
        "settings/change" => Write(relay::change_settings),
        "audit" => Read(relay::audit),
        "repo/takeDown" | "repo/ban" => Forwarded(accounts::take_down),
        "repo/reverseTakedown" | "repo/unban" => Forwarded(accounts::reverse_takedown),
        "repo/takedowns" => Read(accounts::takedowns),
        "repo/lookup" => Read(accounts::lookup),
        "consumers/list" => Read(subscribers::list),
        _ => return None,
    })
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
    let path = request.path.strip_prefix(PREFIX).unwrap_or_default();
    let Some(act) = act(path) else {
        return Response::error(501, "MethodNotImplemented", "There is no such admin method");
    };
    match act {
        Act::Read(read) if request.method.reads() => read(app, request).unwrap_or_else(|e| e),
        Act::Read(_) => Response::method_not_allowed("GET, HEAD"),
        Act::Write(write) | Act::Forwarded(write) if request.method == Method::Post => {
            match write(app, request) {
                Ok(deed) => {
                    if matches!(act, Act::Forwarded(_)) {
                        app.siblings.forward(request);
                    }
                    note(app, request, path, deed)
                }
                Err(answer) => answer,
            }
        }
        Act::Write(_) | Act::Forwarded(_) => Response::method_not_allowed("POST"),
    }
}

/// Notes what was done, by whom and when.
fn note(app: &App, request: &Request, path: &str, deed: Deed) -> Response {
    let via = request.headers.first("via").map(|via| {
        let via: String = via.chars().filter(|c| !c.is_control()).take(100).collect();
        format!(" via {via}")
    });
    let entry = AuditEntry {
        at_ms: now_ms(),
        actor: format!("{}{}", request.client, via.unwrap_or_default()),
        action: path.to_owned(),
        subject: deed.subject,
        detail: deed.detail,
    };
    log::info!(
        action:% = entry.action, subject:% = entry.subject, detail:% = entry.detail,
        client:% = entry.actor;
        "the operator decides"
    );
    if let Err(error) = app.office.audit(&entry) {
        log::error!(error:% = error; "what the operator has decided is not in the audit log");
    }
    deed.answer
}

/// What can not be done now, and may be later.
fn unavailable(error: &str) -> Response {
    log::error!(error:% = error; "what the operator asks for can not be done now");
    let message = "The relay can not do that now";
    Response::error(503, "InternalServerError", message).retry_after(HTTP_RETRY_AFTER)
}

/// The body, with its names in lower case: clients differ in how they write them. None: no names.
fn body(request: &Request) -> Result<Map<String, Value>, Response> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => {
            let lower = fields.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v));
            Ok(lower.collect())
        }
        _ => Err(Response::invalid("The request body is not a JSON object")),
    }
}

/// A parameter, which is in the query or in the body.
fn parameter(request: &Request, names: &[&str]) -> Result<Option<Value>, Response> {
    let query = Query::parse(&request.query)?;
    if let Some(value) = names.iter().find_map(|name| query.get(name)) {
        return Ok(Some(value.into()));
    }
    let mut body = body(request)?;
    Ok(names.iter().find_map(|name| body.remove(*name)))
}

/// A parameter that is text and must be there.
fn text(request: &Request, names: &[&str]) -> Result<String, Response> {
    match parameter(request, names)? {
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        _ => {
            let name = names.first().copied().unwrap_or_default();
            let message = format!("{name} is missing, or is not a string");
            Err(Response::invalid(&message))
        }
    }
}

/// A number of things on a page, from the query.
fn page_size(query: &Query, name: &str, most: usize) -> Result<usize, Response> {
    let Some(size) = query.get(name) else {
        return Ok(most);
    };
    let size = size.parse().ok().filter(|size| (1..=most).contains(size));
    size.ok_or_else(|| Response::invalid(&format!("{name} is not a number from 1 to {most}")))
}

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
            failures: RateLimit::new(CRAWL_REQUESTS_WINDOW, RATE_ADDRESSES_MAX),
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
            .check(request.client, ADMIN_FAILURES_MAX, now)
            .map_err(|after| Response::too_many("Too many failed log-ins", after))?;
        let Some(credentials) = request.headers.first("authorization") else {
            return Err(unauthorised("Admin password is needed"));
        };
        let given = hash(password_in(credentials).as_deref().unwrap_or_default());
        let equal = constant_time::verify_slices_are_equal(password.as_ref(), given.as_ref());
        equal.map_err(|_| {
            // It was allowed just now; a race lets a few more tries through at most.
            let _ = self.failures.take(request.client, ADMIN_FAILURES_MAX, now);
            log::warn!(client:% = request.client; "a log-in with wrong credentials");
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
    use crate::{
        control::settings::Setting,
        http::request::{Headers, Method},
    };

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
    fn the_manual_has_every_route_and_every_setting() {
        let manual = include_str!("../../../docs/admin.md");
        let routes = include_str!("mod.rs").split("fn act(").nth(1).unwrap();
        let routes = routes.split("=> return None").next().unwrap();
        let routes: Vec<&str> = routes.split('"').skip(1).step_by(2).collect();
        assert!(routes.len() > 30 && routes.iter().all(|path| act(path).is_some()));
        let settings = Setting::ALL.iter().map(|setting| setting.name());
        for name in routes.into_iter().chain(settings) {
            let marks = [
                format!("/admin/{name}`"),
                format!("(or `{name}`)"),
                format!("| `{name}` |"),
            ];
            assert!(marks.iter().any(|mark| manual.contains(mark)), "{name}");
        }
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
