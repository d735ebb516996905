//! Who is let in to the operator's page.

use std::time::{Duration, Instant};

use super::{
    super::{HOME, PREFIX, access::Refused, session},
    App, Method, Query, Request, Response, Visit, view,
};
use crate::{
    control::AuditEntry,
    host::now_ms,
    http::pages::{
        html::Html,
        words::{counted, duration},
    },
    limits::{ADMIN_SESSION_AGE_MAX, ADMIN_SESSION_IDLE_MAX},
};

/// Asks for the password. Who has asked for a page of the operator's sees it afterwards.
pub(super) fn ask(app: &App, request: &Request) -> Response {
    if !app.admin.has_password() {
        return closed(app);
    }
    let had_session = session::tokens_in(request).next().is_some();
    let (status, word) = match (request.path.as_str(), request.method) {
        (_, Method::Post) => (
            401,
            Some("You are not logged in any more; nothing was done."),
        ),
        _ if had_session => (401, Some("The log-in has ended.")),
        // A page that looks again by itself has no use for a form.
        _ if super::is_look(request) => (401, None),
        (HOME | PREFIX, _) => (200, None),
        _ => (401, None),
    };
    let next = match request.method.reads() {
        true => address(request),
        false => HOME.to_owned(),
    };
    form(app, &next, word, status)
}

/// Takes the password.
pub(super) fn enter(app: &App, request: &Request) -> Response {
    let (now, form_text) = (Instant::now(), std::str::from_utf8(&request.body));
    let given = Query::parse(form_text.unwrap_or_default()).unwrap_or_default();
    let next = given
        .get("next")
        .filter(|next| is_ours(next))
        .unwrap_or(HOME);
    let password = given.get("password").unwrap_or_default();
    match app.admin.check(request, password, now) {
        Ok(()) => {}
        Err(Refused::NoPassword) => return closed(app),
        Err(Refused::TooMany(after)) => return too_many(app, next, after),
        Err(Refused::Missing | Refused::Ended | Refused::Wrong) => {
            return form(app, next, Some("That is not the password."), 401);
        }
    }
    let sessions = &app.admin.sessions;
    // A browser has one at a time.
    if let Some(before) = session::visit(app, request, true, now) {
        sessions.end(&before);
    }
    let Some(token) = sessions.begin(now) else {
        log::error!("nobody can log in: the system has no random numbers");
        return form(app, next, Some("The relay can not let you in now."), 500);
    };
    note(app, request, "login");
    view::to(next).with("Set-Cookie", session::set_cookie(request, &token))
}

/// Ends the log-in.
pub(super) fn leave(app: &App, request: &Request, visit: &Visit) -> Response {
    app.admin.sessions.end(visit);
    note(app, request, "logout");
    view::to(HOME).with("Set-Cookie", session::clear_cookie(request))
}

fn note(app: &App, request: &Request, action: &str) {
    log::info!(action = action, client:% = request.client; "the operator logs in or out");
    let entry = AuditEntry {
        at_ms: now_ms(),
        actor: request.client.to_string(),
        action: action.to_owned(),
        subject: "operator page".to_owned(),
        detail: serde_json::Value::Null,
    };
    if let Err(error) = app.office.audit(&entry) {
        log::error!(error:% = error; "a log-in is not in the audit log");
    }
}

/// Path and query.
fn address(request: &Request) -> String {
    match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    }
}

/// Whether an address is one of the operator's pages: a form may have been made by anybody.
fn is_ours(address: &str) -> bool {
    let path = address.split('?').next().unwrap_or_default();
    let page = path.strip_prefix(PREFIX).and_then(super::page);
    let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && (path == HOME || matches!(page, Some(super::Page::Show(_))))
}

fn form(app: &App, next: &str, word: Option<&str>, status: u16) -> Response {
    let mut main = Html::default();
    if let Some(word) = word {
        main.put(
            "<p class=\"notice bad\" id=\"why\" role=\"alert\">{}</p>",
            &[&word],
        );
    }
    main.put(
        "<form class=\"card login\" method=\"post\" action=\"/admin/login\">\
         <input type=\"hidden\" name=\"next\" value=\"{}\">\
         <div class=\"field\"><label for=\"password\">Password</label>",
        &[&next],
    );
    main.markup(match word {
        Some(_) => {
            "<input type=\"password\" id=\"password\" name=\"password\" required autofocus \
             autocomplete=\"current-password\" aria-describedby=\"why\">"
        }
        None => {
            "<input type=\"password\" id=\"password\" name=\"password\" required autofocus \
             autocomplete=\"current-password\">"
        }
    });
    main.put(
        "</div><p class=\"small dim\">It is the relay's <code>RELAY_ADMIN_PASSWORD</code>. A log-in holds \
         for {}, or {} without use, and until the relay is restarted.</p>\
         <p><button class=\"main\">Log in</button></p></form>",
        &[
            &counted(ADMIN_SESSION_AGE_MAX.as_secs() / 3_600, "hour"),
            &counted(ADMIN_SESSION_IDLE_MAX.as_secs() / 3_600, "hour"),
        ],
    );
    view::outside(app, "Operator log-in", main, status)
}

fn too_many(app: &App, next: &str, after: Duration) -> Response {
    let seconds = after.as_secs().saturating_add(1);
    let word = format!(
        "Too many wrong passwords came from your address. Try again in {}.",
        duration(seconds)
    );
    form(app, next, Some(&word), 429).retry_after(after)
}

fn closed(app: &App) -> Response {
    let main = Html::of(
        "<div class=\"notice warn\"><p>This relay has no admin password, so nobody is let in here. Its \
         operator sets <code>RELAY_ADMIN_PASSWORD</code> in the environment of the relay and restarts \
         it.</p></div>",
        &[],
    );
    view::outside(app, "The operator page is closed", main, 403)
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_pages_of_ours_are_gone_on_to() {
        for good in [
            "/admin",
            "/admin/",
            "/admin/console/hosts",
            "/admin/console/host?host=a.b%3A1&x=1",
        ] {
            assert!(is_ours(good), "{good}");
        }
        for bad in [
            "",
            "/",
            "//evil.test/admin",
            "https://evil.test",
            "/admin/login",
            "/admin/logout",
            "/admin/console/act",
            "/admin/pds/list",
            "/administrator",
            "/admin/../x",
            "/admin\\evil",
            "/admin?\r\nSet-Cookie: a=b",
            "/admin? x",
        ] {
            assert!(!is_ours(bad), "{bad}");
        }
    }
}
