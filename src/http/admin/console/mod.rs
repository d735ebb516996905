//! The operator's page: what the admin API can do, in a browser.
//!
//! Every page is made here and works without a script. What changes something is a form that is sent to
//! one route; it is read into the same [`Order`] as the JSON of the admin API, and goes the same way
//! ([`perform`]). What can do harm is shown once more, in words, before it is done. A
//! browser is let in by a log-in ([`session`]), and what it sends must come from a page of ours
//! and say what only the pages of this log-in know.

mod acts;
mod audit;
mod backfill;
mod bans;
mod confirm;
mod host;
mod hosts;
mod login;
mod overview;
mod settings;
mod subscribers;
mod takedowns;
mod view;
mod words;

use std::time::Instant;

use self::view::Sheet;
use super::{
    Access, App, Method, Query, Request, Response, actor, is_of_another_page,
    order::{self, Order},
    perform,
    session::{self, Visit},
};
use crate::host::now_ms;

/// A route of the page.
#[derive(Clone, Copy)]
pub(super) enum Page {
    /// Shows something.
    Show(fn(&Context<'_>) -> Result<Sheet, Response>),
    /// Takes the password.
    Login,
    /// Ends the log-in.
    Logout,
    /// Does something.
    Act,
}

/// The page at a path (without [`PREFIX`](super::PREFIX)).
pub(super) fn page(path: &str) -> Option<Page> {
    use Page::{Act, Login, Logout, Show};
    Some(match path {
        "" => Show(overview::show),
        "login" => Login,
        "logout" => Logout,
        "console/hosts" => Show(hosts::show),
        "console/host" => Show(host::show),
        "console/bans" => Show(bans::show),
        "console/takedowns" => Show(takedowns::show),
        "console/subscribers" => Show(subscribers::show),
        "console/settings" => Show(settings::show),
        "console/backfill" => Show(backfill::show),
        "console/audit" => Show(audit::show),
        "console/confirm" => Show(confirm::show),
        "console/act" => Act,
        _ => return None,
    })
}

/// What a page is made of.
pub(super) struct Context<'a> {
    app: &'a App,
    request: &'a Request,
    visit: &'a Visit,
    query: Query,
    /// Milliseconds since 1970.
    now_ms: u64,
}

/// Answers a request for a page.
pub(super) fn answer(app: &App, request: &Request, page: Page) -> Response {
    let is_right = match page {
        Page::Show(_) => request.method.reads(),
        // An address that is left in the bar after a log-in that failed.
        Page::Login if request.method.reads() => return view::to(super::HOME),
        Page::Login | Page::Logout | Page::Act => request.method == Method::Post,
    };
    if !is_right {
        let allowed = match page {
            Page::Show(_) => "GET, HEAD",
            _ => "POST",
        };
        return Response::method_not_allowed(allowed);
    }
    if !request.method.reads() && is_of_another_page(request) {
        return view::refused(
            app,
            "A form of another page",
            "This form was sent by a page that is not of this relay, and nothing was done. Where you did \
             send it here, the proxy in front of the relay has changed the Host header.",
        );
    }
    if let Page::Login = page {
        return login::enter(app, request);
    }
    let is_use = !is_look(request);
    let Some(visit) = session::visit(app, request, is_use, Instant::now()) else {
        return login::ask(app, request);
    };
    let query = match Query::parse(&request.query) {
        Ok(query) => query,
        Err(answer) => return answer,
    };
    let context = Context {
        app,
        request,
        visit: &visit,
        query,
        now_ms: now_ms(),
    };
    match page {
        Page::Show(show) => match show(&context) {
            Ok(sheet) => view::answer(&context, sheet, is_use),
            Err(answer) => view::failed(&context, &answer, None),
        },
        Page::Login | Page::Logout | Page::Act => change(&context, page),
    }
}

/// A form: it must be one of this log-in.
fn change(context: &Context<'_>, page: Page) -> Response {
    let (app, request, visit) = (context.app, context.request, context.visit);
    let form = std::str::from_utf8(&request.body).unwrap_or("%");
    let form = match Query::parse(form) {
        Ok(form) => form,
        Err(answer) => return view::failed(context, &answer, None),
    };
    if !form
        .get("token")
        .is_some_and(|token| visit.is_said_by(token))
    {
        return view::refused(
            app,
            "A form of another log-in",
            "This form was made before you logged in last, and nothing was done. Open the page anew, and \
             send it again.",
        );
    }
    if let Page::Logout = page {
        return login::leave(app, request, visit);
    }
    let order = match acts::read(app, &form) {
        Ok(order) => order,
        Err(answer) => return view::failed(context, &answer, None),
    };
    if words::asks_first(&order) && form.get("sure") != Some("yes") {
        return match confirm::sheet(context, &order) {
            Ok(sheet) => view::answer(context, sheet, true),
            Err(answer) => view::failed(context, &answer, None),
        };
    }
    do_it(context, &order)
}

/// Does what a form says, as if its words had come to the admin API.
fn do_it(context: &Context<'_>, order: &Order) -> Response {
    let (app, request, visit) = (context.app, context.request, context.visit);
    let as_request = order::as_request(order, request, app.admin.password());
    let actor = actor(request, &Access::Session(visit.clone()));
    match perform(app, order, &as_request, actor) {
        Ok(done) => {
            let notice = words::done(order, &done.answer, app.siblings.count());
            app.admin.sessions.leave_notice(visit, notice);
            view::to(&words::back(order, &done.subject))
        }
        Err(answer) => view::failed(context, &answer, Some(order)),
    }
}

/// Whether it is a script that looks again by itself, and not a person. Where the browser does not say
/// so, the script does: it takes nothing but HTML.
fn is_look(request: &Request) -> bool {
    let headers = &request.headers;
    match headers.first("sec-fetch-dest") {
        Some(destination) => destination == "empty",
        None => headers.first("accept") == Some("text/html"),
    }
}
