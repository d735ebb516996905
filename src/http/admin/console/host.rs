//! One host: how it does, and what can be done about it.

use super::{
    super::{hosts::is_connected, unavailable},
    Context, Response,
    hosts::{badge, option},
    order,
    view::{self, Sheet},
};
use crate::{
    control::HostTerms,
    host::quota::Span,
    http::{
        hosts::{Detail, not_found, page},
        pages::{
            html::{Html, in_url},
            words::{grouped, when_or},
        },
    },
};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let name = context.query.get("host").unwrap_or_default();
    let host = order::host(name)?;
    let detail = context.app.hosts.detail(&host);
    let detail = detail.map_err(|e| unavailable(&e))?.ok_or_else(not_found)?;
    let name = host.as_str();
    let mut main = Html::default();
    main.markup("<div class=\"columns\"><div><div id=\"facts\" class=\"card\" data-live>");
    main.add(&facts(context, &detail));
    main.markup("</div>");
    main.put(
        "<p class=\"more\"><a href=\"/hosts/{}\">What anybody may see of it</a></p>",
        &[&in_url(name)],
    );
    main.markup("</div><div>");
    main.add(&connection(context, name, &detail));
    main.add(&cursor(name));
    main.markup("</div></div>");
    main.add(&terms(context, name, &detail));
    Ok(Sheet {
        title: name.to_owned(),
        lead: Html::default(),
        section: view::HOSTS,
        is_live: true,
        main,
    })
}

fn facts(context: &Context<'_>, detail: &Detail) -> Html {
    let known = page(detail);
    let text = |name: &str| known[name].as_str().map(str::to_owned);
    let now = context.now_ms;
    let observed = &detail.row.observed;
    let tally = detail.tally.as_deref();
    let mut html = Html::default();
    html.put(
        "<h2>How it does</h2><dl class=\"facts\"><dt>Status</dt><dd>{}</dd><dt>State</dt><dd>{}</dd>",
        &[&badge(detail), &text("state")],
    );
    if let Some(error) = &observed.last_error {
        html.put(
            "<dt>Last error</dt><dd>{} ({} in a row)</dd>",
            &[error, &grouped(u64::from(observed.failures))],
        );
    }
    let due = detail.state.as_ref().and_then(|state| state.next_ms());
    if let Some(due) = due {
        html.put(
            "<dt>Next attempt</dt><dd>{}</dd>",
            &[&when_or(Some(due), now, "")],
        );
    }
    let last = tally.map(|t| t.received_at_ms.get()).filter(|at| *at > 0);
    html.put(
        "<dt>Connected last</dt><dd>{}</dd><dt>Last event</dt><dd>{}</dd><dt>Added</dt>\
         <dd>{} by {}</dd>",
        &[
            &when_or(observed.last_connected_ms, now, "never"),
            &when_or(last, now, "none since the relay has started"),
            &when_or(Some(detail.row.first_seen_ms), now, ""),
            &detail.row.source.name(),
        ],
    );
    let limit = match detail.account_limit {
        Some(limit) => format!("of {}", grouped(limit)),
        None => "without a limit".to_owned(),
    };
    html.put(
        "<dt>Accounts</dt><dd>{} {}</dd><dt>Cursor</dt><dd>seq {}</dd>",
        &[&grouped(detail.accounts), &limit, &grouped(detail.cursor)],
    );
    if let Some(tally) = tally {
        let refused: u64 = tally.refused().iter().map(|(_, count)| count).sum();
        html.put(
            "<dt>Events</dt><dd>{} received, {} passed on, {} refused</dd>",
            &[
                &grouped(tally.received.get()),
                &grouped(tally.forwarded.get()),
                &grouped(refused),
            ],
        );
    }
    html.markup("</dl>");
    html
}

/// Ends and makes connections.
fn connection(context: &Context<'_>, name: &str, detail: &Detail) -> Html {
    let said = |act| [("act", act), ("host", name)];
    let mut html = Html::default();
    html.markup("<section class=\"card\" aria-labelledby=\"connection\"><h2 id=\"connection\">Connection</h2>");
    if let Some(domain) = &detail.banned_domain {
        html.put(
            "<p>It is banned with the domain <a href=\"{}\">{}</a>.</p>",
            &[&view::BANS, &domain.as_str()],
        );
    }
    html.markup("<div class=\"acts\">");
    if detail.row.terms.banned {
        html.add(&view::button(context, "Unblock", &said("pds/unblock")));
    } else {
        if is_connected(detail) {
            let act = said("subs/killUpstream");
            html.add(&view::question("Disconnect", name, &act));
        } else if detail.banned_domain.is_none() {
            let act = [("act", "pds/requestCrawl"), ("hostname", name)];
            html.add(&view::button(context, "Try again now", &act));
        }
        html.add(&view::question("Block", name, &said("pds/block")));
    }
    html.markup("</div></section>");
    html
}

/// The form that reads a host from another place.
fn cursor(name: &str) -> Html {
    let mut html = Html::default();
    html.markup("<section class=\"card\" aria-labelledby=\"cursor\"><h2 id=\"cursor\">Cursor</h2>");
    html.add(&view::question_form("", "hosts/resetCursor"));
    html.put(
        "<input type=\"hidden\" name=\"host\" value=\"{}\">\
         <fieldset><legend>Read it from</legend>\
         <label><input type=\"radio\" name=\"to\" value=\"oldest\" checked> the oldest that it still has\
         </label><label><input type=\"radio\" name=\"to\" value=\"live\"> now on</label>\
         <label><input type=\"radio\" name=\"to\" value=\"after\"> what follows this seq of its own</label>\
         </fieldset><div class=\"field\"><label for=\"seq\">Seq</label>\
         <input type=\"text\" inputmode=\"numeric\" id=\"seq\" name=\"seq\" autocomplete=\"off\"></div>\
         <p><button class=\"danger\">Reset the cursor…</button></p></form></section>",
        &[&name],
    );
    html
}

/// The form with what is said of this very host.
fn terms(context: &Context<'_>, name: &str, detail: &Detail) -> Html {
    let terms = &detail.row.terms;
    let mut html = Html::default();
    html.markup("<h2 id=\"terms\">Terms</h2><p class=\"dim\">What is empty is the default.</p>");
    let said = [("act", "pds/changeLimits"), ("host", name)];
    html.add(&view::form(context, "card", &said));
    html.markup("<div class=\"columns\">");
    for (field, label, own, holds) in limits(terms, detail) {
        let shown = own.map(|limit| limit.to_string()).unwrap_or_default();
        let help = format!("{field}-help");
        html.put(
            "<div class=\"field\"><label for=\"{}\">{}</label>\
             <input type=\"text\" inputmode=\"numeric\" id=\"{}\" name=\"{}\" value=\"{}\" \
             autocomplete=\"off\" aria-describedby=\"{}\"><span id=\"{}\" class=\"small dim\">\
             Holds now: {}</span></div>",
            &[&field, &label, &field, &field, &shown, &help, &help, &holds],
        );
    }
    html.markup(
        "<div class=\"field\"><label for=\"trusted\">Trusted: no limits but of events a second</label>\
         <select id=\"trusted\" name=\"trusted\">",
    );
    let choices = [
        ("", "as its domain says", None),
        ("yes", "yes", Some(true)),
        ("no", "no", Some(false)),
    ];
    for (value, label, trusted) in choices {
        html.add(&option(value, label, trusted == terms.trusted));
    }
    html.markup(
        "</select></div><div class=\"field\"><label for=\"lenient\">Lenient: commits may lack the fields \
         of Sync 1.1</label><select id=\"lenient\" name=\"lenient\">",
    );
    for (value, lenient) in [("no", false), ("yes", true)] {
        html.add(&option(value, value, lenient == terms.lenient));
    }
    html.markup(
        "</select></div></div><p><button class=\"main\">Change the terms</button></p></form>",
    );
    html
}

/// Each limit: its field, what it is called, what is said of this host, what holds.
fn limits(
    terms: &HostTerms,
    detail: &Detail,
) -> [(&'static str, &'static str, Option<u64>, String); 4] {
    let holds = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), grouped);
    let events = |span| holds(detail.limits.get(span));
    [
        (
            "repo_limit",
            "Accounts",
            terms.accounts,
            holds(detail.account_limit),
        ),
        (
            "events_per_second",
            "Events a second",
            terms.events_per_second,
            events(Span::Second),
        ),
        (
            "events_per_hour",
            "Events an hour",
            terms.events_per_hour,
            events(Span::Hour),
        ),
        (
            "events_per_day",
            "Events a day",
            terms.events_per_day,
            events(Span::Day),
        ),
    ]
}
