//! What only the operator may do: one table of routes; who is let in; what is noted of what was done; and
//! a page for him ([`console`]), which does all this by the same orders.
//!
//! Paths and JSON are those of the reference relay, so that its tools work here
//! (<https://github.com/bluesky-social/indigo/blob/main/cmd/relay/handlers_admin.go>), and some of
//! our own. The password is compared in constant time and appears in no log.

mod accounts;
mod backfill;
mod console;
mod hosts;
mod order;
mod relay;
mod session;
mod subscribers;

use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, digest};
use data_encoding::BASE64;
use serde_json::{Map, Value};

use self::{
    order::{Done, Order},
    session::{Sessions, Visit},
};
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

/// The operator's page; every other admin route begins with [`PREFIX`].
pub const HOME: &str = "/admin";
/// See [`HOME`].
pub const PREFIX: &str = "/admin/";

/// The only user there is.
const USER: &str = "admin";

/// What a route does.
#[derive(Clone, Copy)]
enum Act {
    /// Looks something up.
    Read(fn(&App, &Request) -> Result<Response, Response>),
    /// Reads what is to be done; [`perform`] does it.
    Write(fn(&Request) -> Result<Order, Response>),
    /// Looks something up, and begins it.
    Both(
        fn(&App, &Request) -> Result<Response, Response>,
        fn(&Request) -> Result<Order, Response>,
    ),
}

/// The route of a path (without [`PREFIX`]).
fn act(path: &str) -> Option<Act> {
    use Act::{Both, Read, Write};
    Some(match path {
        "pds/list" => Read(hosts::list),
        "hosts" => Read(hosts::details),
        "hosts/detail" => Read(hosts::detail),
        "pds/requestCrawl" | "hosts/requestCrawl" => Write(hosts::request_crawl),
        "pds/block" | "hosts/block" => Write(hosts::block),
        "pds/unblock" | "hosts/unblock" => Write(hosts::unblock),
        "pds/changeLimits" | "hosts/changeLimits" => Write(hosts::change),
        "hosts/resetCursor" => Write(hosts::reset),
        "alerts/accountLimitSent" => Write(hosts::alert_sent),
        "subs/getUpstreamConns" => Read(hosts::connected),
        "subs/killUpstream" => Write(hosts::disconnect),
        "subs/banDomain" => Write(hosts::ban_domain),
        "subs/unbanDomain" => Write(hosts::unban_domain),
        "subs/listDomainBans" => Read(hosts::banned_domains),
        "subs/getEnabled" => Read(relay::enabled),
        "subs/setEnabled" => Write(relay::set_enabled),
        "subs/perDayLimit" => Read(relay::per_day_limit),
        "subs/setPerDayLimit" => Write(relay::set_per_day_limit),
        "settings" => Read(relay::settings),
        "settings/change" => Write(relay::change_settings),
        "audit" => Read(relay::audit),
        "repo/takeDown" | "repo/ban" => Write(accounts::take_down),
        "repo/reverseTakedown" | "repo/unban" => Write(accounts::reverse_takedown),
        "repo/takedowns" => Read(accounts::takedowns),
        "repo/lookup" => Read(accounts::lookup),
        "backfill-collections" => Both(backfill::collections_status, backfill::begin_collections),
        "backfill-accounts" => Both(backfill::accounts_status, backfill::begin_accounts),
        "backfill/cancel" => Write(backfill::cancel),
        "consumers/list" => Read(subscribers::list),
        "consumers/disconnect" => Write(subscribers::dismiss),
        _ => return None,
    })
}

/// Answers a request for [`HOME`] or under [`PREFIX`].
pub fn route(app: &App, request: &Request) -> Response {
    let path = request.path.strip_prefix(PREFIX).unwrap_or_default();
    if let Some(page) = console::page(path) {
        return console::answer(app, request, page);
    }
    let answer = api(app, request, path).unwrap_or_else(|answer| answer);
    answer.with("Cache-Control", "no-store")
}

/// What programs are answered, and scripts of the operator's page.
fn api(app: &App, request: &Request, path: &str) -> Result<Response, Response> {
    if !request.method.reads() && is_of_another_page(request) {
        return Err(of_another_page());
    }
    let access = app.admin.authorise(request, Instant::now())?;
    if let Access::Session(visit) = &access {
        check_script(request, visit)?;
    }
    let Some(act) = act(path) else {
        let message = "There is no such admin method";
        return Err(Response::error(501, "MethodNotImplemented", message));
    };
    match act {
        Act::Read(read) | Act::Both(read, _) if request.method.reads() => read(app, request),
        Act::Write(read) | Act::Both(_, read) if request.method == Method::Post => {
            let order = read(request)?;
            perform(app, &order, request, actor(request, &access)).map(|done| done.answer)
        }
        Act::Read(_) => Err(Response::method_not_allowed("GET, HEAD")),
        Act::Both(..) => Err(Response::method_not_allowed("GET, HEAD, POST")),
        Act::Write(_) => Err(Response::method_not_allowed("POST")),
    }
}

/// A browser shows its cookie for whatever makes it ask. So what a session opens is only for a script of
/// the operator's page, which is of the same origin and, to change something, says what is in that page
/// alone.
fn check_script(request: &Request, visit: &Visit) -> Result<(), Response> {
    if is_of_another_page(request) {
        return Err(of_another_page());
    }
    let said = request.headers.first(session::TOKEN_HEADER);
    if request.method.reads() || said.is_some_and(|said| visit.is_said_by(said)) {
        return Ok(());
    }
    let message = "A log-in of the operator's page changes something only with its token";
    Err(Response::error(403, "Forbidden", message))
}

/// Does what the operator says, wherever he has said it: it is carried out, passed on to the siblings as
/// `request`, and noted as done by `actor`.
fn perform(app: &App, order: &Order, request: &Request, actor: String) -> Result<Done, Response> {
    let done = order.carry_out(app)?;
    if order.is_for_siblings() {
        app.siblings.forward(request);
    }
    let path = request.path.strip_prefix(PREFIX).unwrap_or_default();
    let entry = AuditEntry {
        at_ms: now_ms(),
        actor,
        action: path.to_owned(),
        subject: done.subject.clone(),
        detail: order.detail(),
    };
    log::info!(
        "admin: {} {} {} by {}",
        entry.action,
        entry.subject,
        entry.detail,
        entry.actor
    );
    if let Err(error) = app.office.audit(&entry) {
        log::error!("admin: what was done is not in the audit log: {error}");
    }
    Ok(done)
}

/// From where something is done, for the audit log.
fn actor(request: &Request, access: &Access) -> String {
    let via = request.headers.first("via").map(|via| {
        let via: String = via.chars().filter(|c| !c.is_control()).take(100).collect();
        format!(" via {via}")
    });
    let page = match access {
        Access::Password => "",
        Access::Session(_) => ", operator page",
    };
    format!("{}{}{page}", request.client, via.unwrap_or_default())
}

/// What can not be done now, and may be later.
fn unavailable(error: &str) -> Response {
    log::error!("admin: {error}");
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

/// How a request has shown that it is the operator's.
enum Access {
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
    sessions: Sessions,
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
    fn authorise(&self, request: &Request, now: Instant) -> Result<Access, Refused> {
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
    fn check(&self, request: &Request, given: &str, now: Instant) -> Result<(), Refused> {
        let password = self.password.as_ref().ok_or(Refused::NoPassword)?;
        self.check_failures(request, now)?;
        let (ours, given) = (&password.hash, hash(given));
        let equal = constant_time::verify_slices_are_equal(ours.as_ref(), given.as_ref());
        equal.map_err(|_| {
            // It was allowed just now; a race lets a few more tries through at most.
            let _ = self.failures.take(request.client, ADMIN_FAILURES_MAX, now);
            log::warn!("admin: wrong credentials from {}", request.client);
            Refused::Wrong
        })
    }

    /// Whether anybody can be let in.
    fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// What siblings are shown; empty where there is none.
    fn password(&self) -> &str {
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
enum Refused {
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

fn of_another_page() -> Response {
    let message = "This is for the operator, not for another page in his browser";
    Response::error(403, "Forbidden", message)
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
