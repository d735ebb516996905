//! The page of one account: whether it is heard, and if not, why.

use serde_json::{Value, json};

use super::{
    failed,
    frame::{self, Frame},
    host_link,
    hosts::tone,
    html::{Html, in_url},
    list, reason,
    words::{grouped, when},
};
use crate::{
    atproto::{datetime, did::Did, hostname::Hostname},
    host::now_ms,
    http::{
        app::App,
        hosts::{Detail, SUFFIX, refusal},
        query::{self, Query},
        request::Request,
        response::Response,
    },
    metrics::refusals::Known,
    store::account::{Account, Sanction, Status},
};

/// What the page of an account begins with.
pub(super) const PREFIX: &str = "/accounts/";

/// What is known of an account.
struct Found {
    did: Did,
    account: Account,
    host: Option<Hostname>,
    collections: usize,
    /// Its host, where that is known.
    detail: Option<Detail>,
}

/// The form, or where it leads to.
pub(super) fn form(app: &App, request: &Request) -> Response {
    let asked = match Query::parse(&request.query) {
        Ok(query) => query.get("did").map(|did| did.trim().to_owned()),
        Err(answer) => return super::as_page(app, "This can not be asked for", &answer),
    };
    match asked.as_deref() {
        None => with_form(app, 200, "", Html::default()),
        Some(did) if Did::check(did).is_ok() => {
            Response::text("text/plain; charset=utf-8", String::new())
                .status(303)
                .with("Location", format!("{PREFIX}{}", in_url(did)))
                .with("Cache-Control", "no-store")
        }
        Some(text) => with_form(app, 400, text, not_a_did(text)),
    }
}

fn not_a_did(text: &str) -> Html {
    let template = match text.contains('.') && !text.starts_with("did:") {
        true => {
            "<div class=\"notice bad\"><p><code>{}</code> looks like a handle. A relay knows accounts by \
             their DIDs only, which stay the same when a handle changes: apps and the PDS of the account \
             show it, as does <code>https://HANDLE/.well-known/atproto-did</code>.</p></div>"
        }
        false => "<div class=\"notice bad\"><p><code>{}</code> is not a DID.</p></div>",
    };
    Html::of(template, &[&text])
}

fn with_form(app: &App, status: u16, text: &str, notice: Html) -> Response {
    let mut main = notice;
    main.put(
        "<form class=\"filter\" action=\"/accounts\" method=\"get\" role=\"search\">\
         <div class=\"field grow\"><label for=\"did\">DID of the account</label>\
         <input type=\"text\" class=\"mono\" id=\"did\" name=\"did\" value=\"{}\" required maxlength=\"2048\" \
         placeholder=\"did:plc:…\" autocomplete=\"off\" autocapitalize=\"none\" spellcheck=\"false\"></div>\
         <button type=\"submit\" class=\"main\">Look up</button></form>\
         <p class=\"dim\">It shows whether events of the account are forwarded, what its host says of it, \
         and why the last event was not forwarded, if one was not. A DID looks like \
         <code>did:plc:ewvi7nxzyoun6zhxrhs64oiz</code> or <code>did:web:example.com</code>.</p>",
        &[&text],
    );
    let frame = Frame {
        title: "Account look-up",
        lead: Html::of("<p>Why is an account not heard?</p>", &[]),
        section: super::ACCOUNTS,
        main,
        ..Frame::default()
    };
    frame.answer(&app.pages.site).status(status)
}

/// `/accounts/DID`, and `/accounts/DID.json`.
pub(super) fn route(app: &App, request: &Request) -> Response {
    let text = request.path.strip_prefix(PREFIX).unwrap_or_default();
    // No DID that is in use ends so.
    match text.strip_suffix(SUFFIX) {
        Some(did) => for_programs(app, did),
        None => for_people(app, text),
    }
}

fn for_programs(app: &App, text: &str) -> Response {
    let Some(did) = did(text) else {
        return Response::invalid("did is not a DID");
    };
    let last = app.metrics.refused_accounts.of(did.as_str());
    match find(app, &did) {
        Ok(Some(found)) => Response::json(&document(app, &found, last.as_ref())),
        Ok(None) => {
            let mut answer = json!({
                "error": "RepoNotFound",
                "message": "This relay does not know the account",
            });
            if let Some(last) = &last {
                answer["last_rejected"] = rejection(app, last);
            }
            Response::json(&answer).status(404)
        }
        Err(error) => {
            log::error!("did={did} can not be shown: {error}");
            Response::error(500, "InternalServerError", "The account can not be shown")
        }
    }
    .with("Cache-Control", "no-store")
}

fn for_people(app: &App, text: &str) -> Response {
    let Some(did) = did(text) else {
        let text = query::decode(text).unwrap_or_default();
        return with_form(app, 400, &text, not_a_did(&text));
    };
    let last = app.metrics.refused_accounts.of(did.as_str());
    match find(app, &did) {
        Ok(Some(found)) => page(app, &found, last.as_ref()),
        Ok(None) => unknown(app, &did, last.as_ref()),
        Err(error) => failed(app, &format!("did={did}"), &error),
    }
}

/// The DID in a path.
fn did(text: &str) -> Option<Did> {
    Did::parse(&query::decode(text)?).ok()
}

fn find(app: &App, did: &Did) -> Result<Option<Found>, String> {
    let Some((account, host)) = app.accounts.account(did)? else {
        return Ok(None);
    };
    let detail = match &host {
        Some(host) => app.hosts.detail(host)?,
        None => None,
    };
    Ok(Some(Found {
        did: did.clone(),
        collections: app.accounts.collections(account.ordinal)?,
        account,
        host,
        detail,
    }))
}

fn status(status: &Status) -> Value {
    json!({ "active": status.active, "status": status.reason })
}

fn rejection(app: &App, known: &Known) -> Value {
    let mut value = refusal(&known.refusal);
    let reject = known.refusal.reject;
    value["host"] = host_of(app, known).into();
    value["meaning"] = reject.meaning().into();
    value["advice"] = reject.advice().into();
    value["rule"] = reject.rule().into();
    value
}

/// The name of the host that sent what was refused.
fn host_of(app: &App, known: &Known) -> Option<String> {
    let endpoint = app.catalog.endpoint(known.host);
    endpoint.map(|endpoint| endpoint.host.to_string())
}

fn document(app: &App, found: &Found, last: Option<&Known>) -> Value {
    let account = &found.account;
    let head = account.head.map(|head| {
        json!({
            "rev": head.rev.to_string(),
            "commit": head.commit.to_string(),
            "time": datetime::from_millis(head.rev.micros() / 1_000),
        })
    });
    let (words, _) = in_words(found);
    let limit = found
        .detail
        .as_ref()
        .and_then(|detail| detail.account_limit);
    json!({
        "did": found.did.as_str(),
        "here": status(account.effective()),
        "upstream": status(&account.upstream),
        "reason": words,
        "host": found.host.as_ref().map(Hostname::as_str),
        "host_status": found.detail.as_ref().map(|detail| detail.status.name()),
        "host_account_limit": limit,
        "head": head,
        "upstream_seq": Some(account.seen.seq).filter(|seq| *seq > 0),
        "collections": found.collections,
        "last_rejected": last.map(|last| rejection(app, last)),
    })
}

/// Why it is heard or not, and the look of that.
fn in_words(found: &Found) -> (&'static str, &'static str) {
    let account = &found.account;
    match (account.local.sanction, account.local.throttled) {
        (Some(Sanction::Takedown), _) => (
            "The operator of this relay has taken the account down.",
            "badge bad",
        ),
        (Some(Sanction::Suspension), _) => (
            "The operator of this relay has suspended the account.",
            "badge bad",
        ),
        (None, true) => (
            "Its host has as many accounts as it may have here, without this one.",
            "badge warn",
        ),
        (None, false) => match (account.upstream.active, account.upstream.reason.as_deref()) {
            (true, _) => ("Its events are forwarded.", "badge good"),
            (false, Some("deactivated")) => {
                ("Its owner has deactivated it, its host says.", "badge")
            }
            (false, Some("deleted")) => ("It is deleted, its host says.", "badge"),
            (false, Some("takendown")) => ("Its host has taken it down.", "badge"),
            (false, Some("suspended")) => ("Its host has suspended it.", "badge"),
            (false, _) => ("It is not active, its host says.", "badge"),
        },
    }
}

/// A status as one word.
fn word(status: &Status) -> &str {
    match (status.active, status.reason.as_deref()) {
        (true, None) => "active",
        (_, Some(reason)) => reason,
        (false, None) => "inactive",
    }
}

fn page(app: &App, found: &Found, last: Option<&Known>) -> Response {
    let now = now_ms();
    let account = &found.account;
    let (words, look) = in_words(found);
    let effective = account.effective();
    let lead = Html::of(
        "<p id=\"state\" data-live><span class=\"{}\">{}</span> {}</p>",
        &[&look, &word(effective), &words],
    );
    let mut main = Html::default();
    main.markup("<div id=\"advice\" data-live>");
    advice(&mut main, app, found);
    main.markup("</div><div class=\"columns\"><section><h2>Status</h2>");
    main.put(
        "<dl class=\"facts\" id=\"facts\" data-live><dt>Here</dt><dd>{}</dd>\
         <dt>At its host</dt><dd>{}</dd><dt>Host</dt><dd>",
        &[&word(effective), &word(&account.upstream)],
    );
    match (&found.host, &found.detail) {
        (Some(host), Some(detail)) => {
            let state = list::state(detail);
            let template = "{} <span class=\"{}\">{}</span>";
            main.put(template, &[&host_link(host.as_str()), &tone(state), &state]);
        }
        _ => {
            main.markup("<span class=\"dim\">not known any more</span>");
        }
    }
    main.markup("</dd><dt>Last rev</dt><dd>");
    match &account.head {
        Some(head) => {
            let at = when(head.rev.micros() / 1_000, now);
            main.put("<code>{}</code>, {}", &[&head.rev.to_string(), &at]);
        }
        None => {
            main.markup("<span class=\"dim\">no commit of it was seen yet</span>");
        }
    }
    main.markup("</dd><dt>Last event processed</dt><dd>");
    match account.seen.seq {
        0 => main.markup("<span class=\"dim\">none since its host began to count anew</span>"),
        seq => main.put("seq {} of its host", &[&grouped(seq)]),
    };
    main.put(
        "</dd><dt>Collections</dt><dd>{}</dd></dl></section><section>",
        &[&grouped(found.collections as u64)],
    );
    rejected(&mut main, app, last, now);
    main.markup("</section></div>");
    let twin = format!("{PREFIX}{}{SUFFIX}", in_url(found.did.as_str()));
    let frame = Frame {
        title: found.did.as_str(),
        lead,
        section: super::ACCOUNTS,
        twin: Some(&twin),
        is_live: true,
        main,
        ..Frame::default()
    };
    frame.answer(&app.pages.site)
}

fn advice(main: &mut Html, app: &App, found: &Found) {
    let account = &found.account;
    let ask = match app.pages.site.contact_link() {
        Some(contact) => Html::of("Ask the operator of this relay: {}.", &[&contact]),
        None => Html::of("Ask the operator of this relay.", &[]),
    };
    if account.local.sanction.is_some() {
        let template = "<div class=\"notice bad\"><p>Its events are not forwarded, and those of before \
                        are not served. {}</p></div>";
        main.put(template, &[&ask]);
    } else if account.local.throttled {
        let host = found.host.as_ref().map(|host| host_link(host.as_str()));
        let limit = found
            .detail
            .as_ref()
            .and_then(|detail| detail.account_limit);
        main.put(
            "<div class=\"notice warn\"><h2>Its host is over its limit of accounts</h2><p>{} may have {} \
             accounts here, and this one came later. It is let in when others are deleted there, or when \
             the limit is raised. {}</p></div>",
            &[&host, &limit.map_or("no more".to_owned(), grouped), &ask],
        );
    } else if !account.upstream.active {
        main.markup(
            "<div class=\"notice\"><p>This relay repeats what the host of the account says of it. When the \
             account is active again there, its host says so, and it is heard.</p></div>",
        );
    }
}

fn rejected(main: &mut Html, app: &App, last: Option<&Known>, now: u64) {
    main.markup("<h2>Last event not forwarded</h2><div id=\"rejected\" data-live>");
    let Some(last) = last else {
        main.markup(
            "<p class=\"dim\">None is remembered. The relay remembers the last one of some thousand \
             accounts since it began.</p></div>",
        );
        return;
    };
    let reject = last.refusal.reject;
    main.put("<div class=\"card\"><h3>{}</h3><p>", &[&reason(reject)]);
    main.marked_up(reject.meaning());
    main.markup("</p><p class=\"dim\">");
    main.marked_up(reject.advice());
    main.put(
        " <a href=\"{}\">The rule</a></p><p class=\"small\">{}",
        &[&reject.rule(), &when(last.refusal.at_ms, now)],
    );
    if let Some(seq) = last.refusal.seq {
        main.put(", seq {}", &[&seq]);
    }
    if let Some(host) = host_of(app, last) {
        main.put(" of {}", &[&host_link(&host)]);
    }
    main.markup("</p></div></div>");
}

/// 404, and what that means.
fn unknown(app: &App, did: &Did, last: Option<&Known>) -> Response {
    let mut main = Html::of(
        "<p>No event of <code>{}</code> was forwarded since this relay began. That is so when:</p><ul>\
         <li>its host is not crawled: <a href=\"/hosts\">look the host up</a>;</li>\
         <li>nothing has happened in the account since: a post is enough;</li>\
         <li>every event of it was refused, as is shown below if so.</li></ul>",
        &[&did.as_str()],
    );
    rejected(&mut main, app, last, now_ms());
    frame::error(&app.pages.site, 404, "This account is not known", main)
}
