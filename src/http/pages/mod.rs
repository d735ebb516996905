//! The pages that people see in a browser, and what some of them are for programs: the same snapshot,
//! as JSON.

mod accounts;
pub mod assets;
mod chart;
pub mod frame;
mod host;
mod hosts;
pub mod html;
mod list;
mod overview;
mod reasons;
pub mod words;

use self::{frame::Site, html::Html, list::Line};
use super::{
    app::App,
    fresh::Fresh,
    request::{Method, Request},
    response::Response,
};
use crate::{limits::SNAPSHOT_AGE_MAX, reject::Reject};

/// Where accounts are looked up, and what the page of each begins with.
pub const ACCOUNTS: &str = "/accounts";
/// What each reason means.
pub const REASONS: &str = "/reasons";
/// Every host.
pub const HOSTS: &str = "/hosts";

/// What the pages have in common.
#[derive(Debug)]
pub struct Pages {
    /// Whose relay it is.
    pub site: Site,
    /// The hosts in their list.
    lines: Fresh<Vec<Line>>,
}

impl Pages {
    /// Pages of this relay.
    pub fn new(site: Site) -> Pages {
        Pages {
            site,
            lines: Fresh::new(SNAPSHOT_AGE_MAX),
        }
    }
}

/// The front page: a page, or text for a terminal.
pub fn front(app: &App, request: &Request) -> Response {
    overview::route(app, request)
}

/// `/status.json`
pub fn status_json(app: &App) -> Response {
    overview::json(app)
}

/// Whether a path is of a page here that reads the store.
pub fn reads(path: &str) -> bool {
    [HOSTS, ACCOUNTS].iter().any(|prefix| {
        let rest = path.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
    })
}

/// Answers a request for `/hosts`, `/accounts` or `/reasons`, or what is below or beside them.
pub fn route(app: &App, request: &Request) -> Response {
    let path = request.path.as_str();
    if let Some(name) = path
        .strip_prefix(super::hosts::PREFIX)
        .and_then(|rest| rest.strip_suffix(host::RETRY_SUFFIX))
    {
        return match request.method {
            Method::Post => host::retry(app, request, name),
            _ => Response::method_not_allowed("POST"),
        };
    }
    if !request.method.reads() {
        return Response::method_not_allowed("GET, HEAD");
    }
    match path {
        "/hosts" => hosts::page(app, request),
        "/hosts.json" => hosts::json(app, request),
        "/accounts" => accounts::form(app, request),
        "/reasons" => reasons::page(app),
        "/reasons.json" => reasons::json(),
        _ if path.starts_with(super::hosts::PREFIX) => host::route(app, request),
        _ if path.starts_with(accounts::PREFIX) => accounts::route(app, request),
        _ => nothing(app, request),
    }
}

/// Where there is nothing.
pub fn nothing(app: &App, request: &Request) -> Response {
    let answer = Response::error(404, "NotFound", "There is nothing at this path");
    match frame::wants_html(request) {
        true => as_page(app, "Nothing is here", &answer),
        false => answer,
    }
}

/// A reason, with a link to what it means.
fn reason(reject: Reject) -> Html {
    let name = reject.name();
    Html::of(
        "<a class=\"mono\" href=\"/reasons#{}\">{}</a>",
        &[&name, &name],
    )
}

/// An account, with a link to its page where it can have one.
fn account(did: &str) -> Html {
    if crate::atproto::did::Did::check(did).is_err() {
        return Html::of("<span class=\"mono\">{}</span>", &[&did]);
    }
    let address = html::in_url(did);
    Html::of(
        "<a class=\"mono\" href=\"/accounts/{}\">{}</a>",
        &[&address, &did],
    )
}

/// A host, with a link to its page.
fn host_link(name: &str) -> Html {
    let address = html::in_url(name);
    Html::of(
        "<a class=\"mono\" href=\"/hosts/{}\">{}</a>",
        &[&address, &name],
    )
}

/// 500 for a browser.
fn failed(app: &App, what: &str, error: &str) -> Response {
    log::error!("{what} can not be shown: {error}");
    let main = Html::of(
        "<p>What this page shows can not be read now. The relay's log says why.</p>",
        &[],
    );
    frame::error(&app.pages.site, 500, "This can not be shown", main)
}

/// An answer for programs with the message of `response`, as a page for a browser.
fn as_page(app: &App, title: &str, response: &Response) -> Response {
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let message = body["message"].as_str().unwrap_or_default();
    let main = Html::of("<p>{}.</p>", &[&message.trim_end_matches('.')]);
    frame::error(&app.pages.site, response.status, title, main)
}
