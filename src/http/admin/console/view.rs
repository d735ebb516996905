//! What the operator's pages have in common.

use serde_json::Value;

use super::{super::HOME, App, Context, Order, Response, words};
use crate::http::pages::{
    frame::Frame,
    html::{Html, in_url},
};

/// The navigation.
const LINKS: &[(&str, &str)] = &[
    (HOME, "Overview"),
    (HOSTS, "Hosts"),
    (BANS, "Bans"),
    (TAKEDOWNS, "Takedowns"),
    (SUBSCRIBERS, "Subscribers"),
    (SETTINGS, "Settings"),
    (BACKFILL, "Backfill"),
    (AUDIT, "Audit log"),
];
/// Every host.
pub(super) const HOSTS: &str = "/admin/console/hosts";
/// One host.
pub(super) const HOST: &str = "/admin/console/host";
/// Domains that are banned.
pub(super) const BANS: &str = "/admin/console/bans";
/// Accounts that are taken down.
pub(super) const TAKEDOWNS: &str = "/admin/console/takedowns";
/// Who reads the firehose.
pub(super) const SUBSCRIBERS: &str = "/admin/console/subscribers";
/// What can be changed.
pub(super) const SETTINGS: &str = "/admin/console/settings";
/// What is read from others.
pub(super) const BACKFILL: &str = "/admin/console/backfill";
/// What was done.
pub(super) const AUDIT: &str = "/admin/console/audit";
/// Asks whether something is to be done.
const CONFIRM: &str = "/admin/console/confirm";
/// Does it.
const ACT: &str = "/admin/console/act";

/// A page without what all pages of the operator have.
pub(in super::super) struct Sheet {
    pub(super) title: String,
    /// What stands below it.
    pub(super) lead: Html,
    /// Which entry of the navigation it belongs to.
    pub(super) section: &'static str,
    /// Whether parts of it are kept up to date.
    pub(super) is_live: bool,
    pub(super) main: Html,
}

/// The answer with a page. A person is told what was done last; a script that looks again is not.
pub(super) fn answer(context: &Context<'_>, sheet: Sheet, is_use: bool) -> Response {
    let Context { app, visit, .. } = context;
    let notice = is_use.then(|| app.admin.sessions.take_notice(visit));
    let mut main = Html::default();
    if let Some(Some(notice)) = notice {
        main.put(
            "<p class=\"notice good\" role=\"status\">{}</p>",
            &[&notice],
        );
    }
    main.add(&sheet.main);
    let frame = Frame {
        title: &sheet.title,
        lead: sheet.lead,
        links: LINKS,
        section: sheet.section,
        tools: Html::of(
            "<form method=\"post\" action=\"/admin/logout\">\
             <input type=\"hidden\" name=\"token\" value=\"{}\">\
             <button class=\"small\">Log out</button></form>",
            &[&visit.form_token()],
        ),
        is_live: sheet.is_live,
        main,
        ..Frame::default()
    };
    guarded(frame.answer(&app.pages.site))
}

/// The answer with a page for who is not logged in.
pub(super) fn outside(app: &App, title: &str, main: Html, status: u16) -> Response {
    let frame = Frame {
        title,
        main,
        ..Frame::default()
    };
    guarded(frame.answer(&app.pages.site)).status(status)
}

/// No other page may frame it, load it or hold a handle to its window.
fn guarded(answer: Response) -> Response {
    answer
        .with("X-Frame-Options", "DENY")
        .with("Cross-Origin-Resource-Policy", "same-origin")
        .with("Cross-Origin-Opener-Policy", "same-origin")
}

/// 403: a form that is not of the pages of this log-in.
pub(super) fn refused(app: &App, title: &str, why: &str) -> Response {
    let main = Html::of(
        "<p class=\"notice bad\" role=\"alert\">{}</p><p><a class=\"button\" href=\"{}\">To the operator \
         page</a></p>",
        &[&why, &HOME],
    );
    outside(app, title, main, 403)
}

/// What the admin API has answered, as a page: what went wrong, and what can be done.
pub(super) fn failed(context: &Context<'_>, answer: &Response, order: Option<&Order>) -> Response {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = said["message"].as_str().unwrap_or("It failed");
    let mut main = Html::of(
        "<div class=\"notice bad\" role=\"alert\"><p><strong>{}.</strong></p><p>{}</p></div>",
        &[&message, &words::advice(answer.status)],
    );
    main.markup("<div class=\"acts\">");
    if let Some(order) = order.filter(|_| answer.status >= 429) {
        main.add(&order_form(context, order, Html::of("Try again", &[]), ""));
    }
    let back = order.map_or(HOME.to_owned(), |order| words::back(order, ""));
    main.put("<a class=\"button\" href=\"{}\">Back</a></div>", &[&back]);
    let title = match context.request.method.reads() {
        true => "This can not be shown",
        false => "Not done",
    };
    let sheet = Sheet {
        title: title.to_owned(),
        lead: Html::default(),
        section: order.map_or("", words::section),
        is_live: false,
        main,
    };
    let mut page = self::answer(context, sheet, false).status(answer.status);
    let retry = answer
        .headers
        .iter()
        .find(|(name, _)| *name == "Retry-After");
    page.headers.extend(retry.cloned());
    page
}

/// 303: the answer to a form that was carried out is a page, which can be reloaded without doing it
/// again.
pub(super) fn to(address: &str) -> Response {
    Response::text("text/plain", String::new())
        .status(303)
        .with("Location", address)
        .with("Cache-Control", "no-store")
}

/// The hidden fields of a form that says these; the first ones are what every form says.
pub(super) fn fields(context: &Context<'_>, fields: &[(&str, &str)]) -> Html {
    let mut html = Html::default();
    let token = [("token", context.visit.form_token())];
    for (name, value) in token.iter().chain(fields) {
        html.put(
            "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
            &[name, value],
        );
    }
    html
}

/// The head of a form that does something; the caller closes it.
pub(super) fn form(context: &Context<'_>, class: &'static str, said: &[(&str, &str)]) -> Html {
    Html::of(
        "<form method=\"post\" action=\"{}\" class=\"{}\" data-once>{}",
        &[&ACT, &class, &fields(context, said)],
    )
}

/// A button that does something at once.
pub(super) fn button(context: &Context<'_>, label: &str, said: &[(&str, &str)]) -> Html {
    let mut html = form(context, "inline", said);
    html.put("<button>{}</button></form>", &[&label]);
    html
}

/// A link to the question whether something is to be done. It says nothing that is secret, and may stand
/// where a script changes the page below it.
pub(super) fn question(label: &str, hidden: &str, said: &[(&str, &str)]) -> Html {
    let query: Vec<String> = said
        .iter()
        .map(|(name, value)| format!("{name}={}", in_url(value)))
        .collect();
    let address = format!("{CONFIRM}?{}", query.join("&"));
    Html::of(
        "<a class=\"button danger\" href=\"{}\">{}<span class=\"hidden-text\"> {}</span></a>",
        &[&address, &label, &hidden],
    )
}

/// A form that asks first, with fields of its own; the caller closes it.
pub(super) fn question_form(class: &'static str, act: &str) -> Html {
    Html::of(
        "<form method=\"get\" action=\"{}\" class=\"{}\">\
         <input type=\"hidden\" name=\"act\" value=\"{}\">",
        &[&CONFIRM, &class, &act],
    )
}

/// A form with nothing but a button that does what was said before.
pub(super) fn order_form(
    context: &Context<'_>,
    order: &Order,
    label: Html,
    class: &'static str,
) -> Html {
    let said = super::acts::fields(order);
    let mut said: Vec<(&str, &str)> = said.iter().map(|(n, v)| (*n, v.as_str())).collect();
    said.push(("sure", "yes"));
    let mut html = form(context, "inline", &said);
    html.put("<button class=\"{}\">{}</button></form>", &[&class, &label]);
    html
}

/// A link to the page of a host.
pub(super) fn host_link(name: &str) -> Html {
    Html::of(
        "<a class=\"mono\" href=\"{}?host={}\">{}</a>",
        &[&HOST, &in_url(name), &name],
    )
}

/// A place in a list that comes in pages.
pub(super) fn pager(earlier: Option<String>, later: Option<String>) -> Html {
    if earlier.is_none() && later.is_none() {
        return Html::default();
    }
    let link = |address: Option<String>, label: &str| match address {
        Some(address) => Html::of("<a href=\"{}\">{}</a>", &[&address, &label]),
        None => Html::of("<span class=\"dim\">{}</span>", &[&label]),
    };
    Html::of(
        "<nav class=\"pager\" aria-label=\"Further pages\">{}{}</nav>",
        &[&link(earlier, "← Back"), &link(later, "More →")],
    )
}
