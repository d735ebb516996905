//! What only the operator may do: one table of routes; who is let in; what is noted of what was done; and
//! a page for him (`console`), which does all this by the same orders.
//!
//! Paths and JSON are those of the reference relay, so that its tools work here
//! (<https://github.com/bluesky-social/indigo/blob/main/cmd/relay/handlers_admin.go>), and some of
//! our own. The password is compared in constant time and appears in no log.

mod access;
mod accounts;
mod backfill;
mod carry_out;
mod console;
mod hosts;
mod order;
mod read;
mod relay;
mod session;
mod subscribers;

use std::time::Instant;

pub use self::access::Admin;
use self::{
    access::{Access, is_of_another_page, of_another_page},
    carry_out::Done,
    order::Order,
    session::Visit,
};
use super::{
    app::App,
    query::Query,
    request::{Method, Request},
    response::Response,
};
use crate::{control::AuditEntry, host::now_ms, limits::HTTP_RETRY_AFTER};

/// The operator's page; every other admin route begins with [`PREFIX`].
pub const HOME: &str = "/admin";
/// See [`HOME`].
pub const PREFIX: &str = "/admin/";

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
        "pds/requestCrawl" | "hosts/requestCrawl" => Write(read::request_crawl),
        "pds/block" | "hosts/block" => Write(read::block),
        "pds/unblock" | "hosts/unblock" => Write(read::unblock),
        "pds/changeLimits" | "hosts/changeLimits" => Write(read::change),
        "hosts/resetCursor" => Write(read::reset),
        "alerts/accountLimitSent" => Write(read::alert_sent),
        "subs/getUpstreamConns" => Read(hosts::connected),
        "subs/killUpstream" => Write(read::disconnect),
        "subs/banDomain" => Write(read::ban_domain),
        "subs/unbanDomain" => Write(read::unban_domain),
        "subs/listDomainBans" => Read(hosts::banned_domains),
        "subs/getEnabled" => Read(relay::enabled),
        "subs/setEnabled" => Write(read::set_enabled),
        "subs/perDayLimit" => Read(relay::per_day_limit),
        "subs/setPerDayLimit" => Write(read::set_per_day_limit),
        "settings" => Read(relay::settings),
        "settings/change" => Write(read::change_settings),
        "audit" => Read(relay::audit),
        "repo/takeDown" | "repo/ban" => Write(read::take_down),
        "repo/reverseTakedown" | "repo/unban" => Write(read::reverse_takedown),
        "repo/takedowns" => Read(accounts::takedowns),
        "repo/lookup" => Read(accounts::lookup),
        "backfill-collections" => Both(backfill::collections_status, read::begin_collections),
        "backfill-accounts" => Both(backfill::accounts_status, read::begin_accounts),
        "backfill/cancel" => Write(read::cancel),
        "consumers/list" => Read(subscribers::list),
        "consumers/disconnect" => Write(read::dismiss),
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
        action:% = entry.action, subject:% = entry.subject, detail:% = entry.detail,
        client:% = entry.actor;
        "the operator decides"
    );
    if let Err(error) = app.office.audit(&entry) {
        log::error!(error:% = error; "what the operator has decided is not in the audit log");
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
    log::error!(error:% = error; "what the operator asks for can not be done now");
    let message = format!("The relay can not do that now: {error}");
    Response::error(503, "InternalServerError", &message).retry_after(HTTP_RETRY_AFTER)
}

/// A number of things on a page, from the query.
fn page_size(query: &Query, name: &str, most: usize) -> Result<usize, Response> {
    let Some(size) = query.get(name) else {
        return Ok(most);
    };
    let size = size.parse().ok().filter(|size| (1..=most).contains(size));
    size.ok_or_else(|| Response::invalid(&format!("{name} is not a number from 1 to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::settings::Setting;

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
}
