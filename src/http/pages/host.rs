//! The page of one host: whether it is heard, and if not, why, and what its owner can do.

use serde_json::json;

use super::{
    account, as_page, failed,
    frame::{self, Frame},
    hosts::tone,
    html::{Html, in_url},
    list::state,
    overview, reason,
    words::{counted, grouped, when, when_or},
};
use crate::{
    atproto::{datetime, hostname::Hostname},
    control::{HostStatus, Source},
    host::{now_ms, quota::Span, state::State, timeline::Kind},
    http::{
        app::App,
        crawl,
        hosts::{self, Detail, in_words},
        query::Query,
        request::{Method, Request},
        response::Response,
        router,
    },
    limits::WAITING_SHOWN_MAX,
    metrics::hosts::{EventKind, Tally},
};

/// What follows the name of a host where a person asks that it be tried now.
pub(super) const RETRY_SUFFIX: &str = "/retry";

/// `/hosts/NAME`, and `/hosts/NAME.json`.
pub(super) fn route(app: &App, request: &Request) -> Response {
    let text = request.path.strip_prefix(hosts::PREFIX).unwrap_or_default();
    // A host may be called so, but then its JSON is at `.json.json`.
    if text.ends_with(hosts::SUFFIX) {
        return hosts::route(&*app.hosts, &request.path);
    }
    let Some(name) = hosts::name(text) else {
        return unknown(app, request, None);
    };
    match app.hosts.detail(&name) {
        Ok(Some(detail)) => page(app, &detail, &request.query),
        Ok(None) => unknown(app, request, Some(&name)),
        Err(error) => failed(app, &format!("host={name}"), &error),
    }
}

/// Asks for the host to be tried now, as `requestCrawl` does for a host that is known; answers with
/// the page of the host, which says what has come of it.
pub(super) fn retry(app: &App, request: &Request, name: &str) -> Response {
    if !is_same_origin(request) {
        let message = "Only a page of this relay may ask for this";
        let answer = Response::error(403, "Forbidden", message);
        return match frame::wants_html(request) {
            true => as_page(app, "This is not allowed", &answer),
            false => answer,
        };
    }
    let Some(name) = hosts::name(name) else {
        return unknown(app, request, None);
    };
    let detail = match app.hosts.detail(&name) {
        Ok(Some(detail)) => detail,
        Ok(None) => return unknown(app, request, Some(&name)),
        Err(error) => return failed(app, &format!("host={name}"), &error),
    };
    let body = json!({ "hostname": detail.row.endpoint().origin() });
    let asked = Request {
        method: Method::Post,
        path: crawl::PATH.to_owned(),
        query: String::new(),
        body: body.to_string().into_bytes(),
        ..request.clone()
    };
    let answer = router::request_crawl(app, &asked);
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let outcome = match (answer.status, said.get("since"), said.get("until")) {
        (200, Some(_), _) => Outcome::Connected,
        (200, _, Some(_)) => Outcome::Waits,
        (200, ..) => Outcome::Tried,
        (429, ..) => Outcome::TooOften,
        (403, ..) => Outcome::Banned,
        _ => Outcome::Failed,
    };
    let address = format!(
        "{}{}?asked={}",
        hosts::PREFIX,
        in_url(name.as_str()),
        outcome.name()
    );
    Response::text("text/plain; charset=utf-8", String::new())
        .status(303)
        .with("Location", address)
        .with("Cache-Control", "no-store")
}

/// What has come of asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Connected,
    Tried,
    Waits,
    TooOften,
    Banned,
    Failed,
}

impl Outcome {
    const ALL: [Outcome; 6] = [
        Outcome::Connected,
        Outcome::Tried,
        Outcome::Waits,
        Outcome::TooOften,
        Outcome::Banned,
        Outcome::Failed,
    ];

    const fn name(self) -> &'static str {
        match self {
            Outcome::Connected => "connected",
            Outcome::Tried => "tried",
            Outcome::Waits => "waits",
            Outcome::TooOften => "too_often",
            Outcome::Banned => "banned",
            Outcome::Failed => "failed",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Outcome::Connected => "The host is connected already: there is nothing to try.",
            Outcome::Tried => "The relay tries the host now. This page shows what comes of it.",
            Outcome::Waits => {
                "The host was tried only a moment ago; the next attempt is as shown below."
            }
            Outcome::TooOften => "You have asked often lately. Please wait a minute.",
            Outcome::Banned => "The operator of this relay has banned the host: it is not tried.",
            Outcome::Failed => "The host can not be tried now. The relay's log says why.",
        }
    }
}

/// Whether a form of ours was posted and not one of another page. Browsers say where a request comes
/// from (<https://www.w3.org/TR/fetch-metadata/>, and `Origin` on every POST); a program that says
/// nothing is no browser, and could ask `requestCrawl` just as well.
fn is_same_origin(request: &Request) -> bool {
    if let Some(site) = request.headers.first("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = request.headers.first("origin") else {
        return true;
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let host = request.headers.first("host");
    authority.is_some_and(|authority| host.is_some_and(|h| h.eq_ignore_ascii_case(authority)))
}

/// 404, and how to be crawled.
fn unknown(app: &App, request: &Request, name: Option<&Hostname>) -> Response {
    let Some(name) = name else {
        let main = Html::of(
            "<p>A host is named as in <code>pds.example.com</code>. \
             <a href=\"/hosts\">Look it up in the list</a>.</p>",
            &[],
        );
        return frame::error(&app.pages.site, 404, "This is not the name of a host", main);
    };
    let mut main = Html::of(
        "<p>This relay has never heard of <code>{}</code>. A host becomes known when it asks to be \
         crawled, which every PDS does by itself for the relays in its configuration; anybody may do it \
         for it:</p>",
        &[&name.as_str()],
    );
    let relay = match overview::reached_at(request) {
        Some((true, host)) => format!("https://{host}"),
        Some((false, host)) => format!("http://{host}"),
        None => "https://THIS-RELAY".to_owned(),
    };
    main.put(
        "<pre tabindex=\"0\" aria-label=\"Command\">curl -X POST {}{} \\\n  \
         -H 'Content-Type: application/json' \\\n  -d '{\"hostname\":\"{}\"}'</pre>",
        &[&relay, &crawl::PATH, &name.as_str()],
    );
    main.markup(
        "<p>With the reference PDS: set <code>PDS_CRAWLERS</code> to this relay, separated by commas from \
         others. Look up a similar name in the <a href=\"/hosts\">list of hosts</a>.</p>",
    );
    frame::error(&app.pages.site, 404, "This host is not known", main)
}

fn page(app: &App, detail: &Detail, query: &str) -> Response {
    let now = now_ms();
    let name = detail.row.name.as_str();
    let nothing = Tally::default();
    let tally = detail.tally.as_deref().unwrap_or(&nothing);
    let mut main = Html::default();
    if let Some(outcome) = Query::parse(query).ok().and_then(|query| {
        let asked = query.get("asked")?.to_owned();
        Outcome::ALL.into_iter().find(|o| o.name() == asked)
    }) {
        main.put(
            "<div class=\"notice\" role=\"status\"><p>{}</p></div>",
            &[&outcome.words()],
        );
    }
    main.markup("<div id=\"advice\" data-live>");
    advice(&mut main, app, detail, tally);
    main.markup("</div>");
    figures(&mut main, detail, tally, now);
    main.markup("<div class=\"columns\"><section>");
    connection(&mut main, detail, tally, now);
    main.markup("</section><section>");
    timeline(&mut main, detail, now);
    main.markup("</section></div>");
    rejected(&mut main, tally, now);
    main.markup("<div class=\"columns\"><section>");
    by_type(&mut main, detail, tally);
    main.markup("</section><section>");
    limits(&mut main, detail, tally);
    main.markup("</section></div>");
    let (words, since, _) = in_words(detail);
    let word = state(detail);
    let mut lead = Html::of(
        "<p id=\"state\" data-live><span class=\"{}\">{}</span>",
        &[&tone(word), &word],
    );
    if words != word {
        lead.put(" {};", &[&words]);
    }
    if let Some(since) = since {
        lead.put(" since {}", &[&when(since, now)]);
    }
    lead.markup("</p>");
    let twin = format!("{}{}{}", hosts::PREFIX, in_url(name), hosts::SUFFIX);
    let frame = Frame {
        title: name,
        lead,
        section: super::HOSTS,
        twin: Some(&twin),
        is_live: true,
        main,
        ..Frame::default()
    };
    frame.answer(&app.pages.site)
}

/// What the owner of the host can do, where anything is to be done.
fn advice(main: &mut Html, app: &App, detail: &Detail, tally: &Tally) {
    let contact = app.pages.site.contact_link();
    let ask = match &contact {
        Some(contact) => Html::of("Ask the operator of this relay: {}.", &[contact]),
        None => Html::of("Ask the operator of this relay.", &[]),
    };
    if detail.status == HostStatus::Banned {
        main.put(
            "<div class=\"notice bad\"><h2>This host is banned</h2><p>The operator of this relay has \
             decided not to listen to it. {}</p></div>",
            &[&ask],
        );
        return;
    }
    if let Some(waiting) = detail.waiting.filter(|waiting| *waiting > 0) {
        let more = match waiting >= WAITING_SHOWN_MAX as u64 {
            true => " or more",
            false => "",
        };
        main.put(
            "<div class=\"notice warn\"><h2>{}{} are not heard</h2><p>The host has {} of the {} that it \
             may have here; further ones are shown as <code>throttled</code> and their events are not \
             forwarded ({}). Accounts that the host reports as deleted make room for others, which are \
             then let in by themselves. For a higher limit: {}</p></div>",
            &[
                &counted(waiting, "account"),
                &more,
                &counted(detail.accounts, "account"),
                &detail.account_limit.map_or("∞".to_owned(), grouped),
                &reason(crate::reject::Reject::AccountLimit),
                &ask,
            ],
        );
    }
    match &detail.state {
        Some(State::BackingOff { why, .. } | State::Offline { why, .. }) => {
            main.put(
                "<div class=\"notice bad\"><h2>The relay can not connect</h2><p>The last attempt ended \
                 with: <code>{}</code></p><p>It is tried again by itself, after longer and longer waits of \
                 up to hours. Check that <code>wss://{}/xrpc/com.atproto.sync.subscribeRepos</code> can \
                 be reached from outside, with a valid certificate and websockets let through by the \
                 proxy before the PDS; then ask for another attempt:</p>",
                &[why, &detail.row.name.as_str()],
            );
            retry_form(main, detail.row.name.as_str());
            main.markup("</div>");
        }
        Some(State::Throttled { span, .. }) => {
            main.put(
                "<div class=\"notice warn\"><h2>It sends more than it may</h2><p>It is over its limit of \
                 events per {}. They are read with a delay; none is lost. If this lasts: {}</p></div>",
                &[&span.name(), &ask],
            );
        }
        _ => {}
    }
    let refused: u64 = tally.refused().iter().map(|(_, count)| count).sum();
    let received = tally.received.get();
    let repeated: u64 = tally
        .refused()
        .iter()
        .filter(|(reject, _)| reject.is_repetition())
        .map(|(_, count)| count)
        .sum();
    let refused = refused.saturating_sub(repeated);
    if refused > 0 && refused.saturating_mul(REJECTED_SHARE_SHOWN) >= received {
        main.put(
            "<div class=\"notice warn\"><h2>Many of its events are not forwarded</h2><p>{} of {}; the \
             reasons are <a href=\"#rejected\">below</a>, each with what can be done about it.</p></div>",
            &[&grouped(refused), &counted(received, "event")],
        );
    }
}

/// Where at least one in so many events is refused, the page says so at its top.
const REJECTED_SHARE_SHOWN: u64 = 20;

fn retry_form(main: &mut Html, name: &str) {
    main.put(
        "<form method=\"post\" action=\"/hosts/{}/retry\" data-once>\
         <button type=\"submit\" class=\"main\">Try again now</button></form>",
        &[&in_url(name)],
    );
}

fn figures(main: &mut Html, detail: &Detail, tally: &Tally, now: u64) {
    let refused: u64 = tally.refused().iter().map(|(_, count)| count).sum();
    let last = Some(tally.received_at_ms.get()).filter(|at| *at > 0);
    main.put(
        "<dl class=\"figures\" id=\"figures\" data-live>\
         <div><dt>Events received</dt><dd class=\"figure\">{}</dd>\
         <dd class=\"note\">{} a second lately</dd></div>\
         <div><dt>Forwarded</dt><dd class=\"figure\">{}</dd><dd class=\"note\">since the relay began, {}</dd></div>\
         <div><dt>Not forwarded</dt><dd class=\"figure\">{}</dd>\
         <dd class=\"note\"><a href=\"#rejected\">by reason</a></dd></div>\
         <div><dt>Last event</dt><dd class=\"figure\">{}</dd><dd class=\"note\">when it came</dd></div>",
        &[
            &grouped(tally.received.get()),
            &format!("{:.1}", tally.rate_milli.get() as f64 / 1_000.0),
            &grouped(tally.forwarded.get()),
            &when(detail.counted_since_ms, now),
            &grouped(refused),
            &when_or(last, now, "none yet"),
        ],
    );
    let (limit, meter) = match detail.account_limit {
        Some(limit) => {
            let percent = (detail.accounts.saturating_mul(100) / limit.max(1)).min(100);
            let template = match percent {
                90.. => {
                    "<svg class=\"meter full\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" \
                     aria-hidden=\"true\"><rect width=\"{}\" height=\"8\"/></svg>"
                }
                _ => {
                    "<svg class=\"meter\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" \
                     aria-hidden=\"true\"><rect width=\"{}\" height=\"8\"/></svg>"
                }
            };
            let meter = Html::of(template, &[&percent]);
            (format!("of {} that it may have", grouped(limit)), meter)
        }
        None => ("without a limit".to_owned(), Html::default()),
    };
    main.put(
        "<div><dt>Accounts</dt><dd class=\"figure\">{}</dd><dd class=\"note\">{}</dd><dd>{}</dd></div></dl>",
        &[&grouped(detail.accounts), &limit, &meter],
    );
}

fn connection(main: &mut Html, detail: &Detail, tally: &Tally, now: u64) {
    let (row, observed) = (&detail.row, &detail.row.observed);
    let next = detail.state.as_ref().and_then(State::next_ms);
    let connected = detail.state.as_ref().and_then(State::connected_ms);
    main.markup("<h2>Connection</h2><dl class=\"facts\" id=\"connection\" data-live>");
    let mut fact = |name: &str, value: Html| {
        main.put("<dt>{}</dt><dd>{}</dd>", &[&name, &value]);
    };
    fact("Connected since", when_or(connected, now, "not connected"));
    let attempt = detail.timeline.attempt_ms();
    fact(
        "Last attempt",
        when_or(attempt, now, "none since the relay began"),
    );
    if connected.is_none() {
        fact(
            "Next attempt",
            when_or(next, now, "as soon as it is asked for"),
        );
    }
    let seen = match connected {
        Some(_) => Some(now),
        None => observed.last_seen_ms,
    };
    fact("Last connected", when_or(seen, now, "never"));
    let error = observed.last_error.as_deref();
    fact(
        "Last error",
        match error {
            Some(error) => Html::of("<code>{}</code>", &[&error]),
            None => Html::of(
                "<span class=\"dim\">none since it was connected</span>",
                &[],
            ),
        },
    );
    if observed.failures > 0 {
        fact(
            "Failed in a row",
            Html::of("{}", &[&grouped(observed.failures.into())]),
        );
    }
    let last = Some(tally.received_at_ms.get()).filter(|at| *at > 0);
    fact(
        "Last frame",
        when_or(last, now, "none since the relay began"),
    );
    let happened = Some(tally.happened_at_ms.get()).filter(|at| *at > 0);
    fact("Its event was of", when_or(happened, now, "not known"));
    fact(
        "Cursor (its seq)",
        Html::of("{}", &[&grouped(detail.cursor)]),
    );
    if let Some(skipped) = observed.skipped_ms {
        let why = observed.skipped_why.as_deref();
        let mut html = when(skipped, now);
        if let Some(why) = why {
            html.put(": {}", &[&why]);
        }
        fact("Events passed over", html);
    }
    let source = match row.source {
        Source::Request => "by requestCrawl",
        Source::Operator => "by the operator",
        Source::Discovery => "from the list of another relay",
    };
    fact(
        "Known",
        Html::of("{}, {}", &[&when(row.first_seen_ms, now), &source]),
    );
    if detail.trusted {
        fact("Trusted", Html::of("yes: wider limits hold", &[]));
    }
    if detail.lenient {
        fact(
            "Lenient",
            Html::of("its commits pass without the fields of Sync 1.1", &[]),
        );
    }
    main.markup("</dl>");
}

fn timeline(main: &mut Html, detail: &Detail, now: u64) {
    main.markup("<h2>What became of it</h2><div id=\"timeline\" data-live>");
    if detail.timeline.latest().next().is_none() {
        main.markup("<p class=\"dim\">Nothing since the relay began.</p></div>");
        return;
    }
    main.markup("<ol class=\"timeline\">");
    for entry in detail.timeline.latest() {
        main.markup(match entry.kind {
            Kind::Connected => "<li class=\"good\">",
            Kind::Throttled | Kind::BackingOff | Kind::Idle => "<li class=\"warn\">",
            Kind::Offline => "<li class=\"bad\">",
        });
        main.put(
            "{} <span class=\"dim\">{}",
            &[&entry.kind.words(), &when(entry.since_ms, now)],
        );
        if entry.times > 1 && !entry.kind.is_connected() {
            let times = counted(u64::from(entry.times), "attempt");
            main.put("; {}, the last {}", &[&times, &when(entry.last_ms, now)]);
        }
        main.markup("</span>");
        if let Some(why) = &entry.why {
            main.put("<br><span class=\"error-text\">{}</span>", &[why]);
        }
        main.markup("</li>");
    }
    main.markup("</ol></div>");
}

fn rejected(main: &mut Html, tally: &Tally, now: u64) {
    main.markup(
        "<h2 id=\"rejected\">Events not forwarded</h2>\
         <div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Events not forwarded\" \
         id=\"reasons\" data-live><table>\
         <caption>By reason, each with the last event that it was true of</caption><thead><tr>\
         <th scope=\"col\">Reason</th><th scope=\"col\" class=\"num\">Events</th>\
         <th scope=\"col\">What it means, and what can be done</th><th scope=\"col\">Last event</th>\
         </tr></thead><tbody>",
    );
    let mut refused = tally.refused();
    refused.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let last = tally.last_refusals();
    if refused.is_empty() {
        main.markup("<tr><td colspan=\"4\">None: everything that came was forwarded.</td></tr>");
    }
    for (reject, count) in refused {
        main.put(
            "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"wide\">",
            &[&reason(reject), &grouped(count)],
        );
        main.marked_up(reject.meaning());
        main.markup("<br><span class=\"dim small\">");
        main.marked_up(reject.advice());
        main.put(
            " <a href=\"{}\">The rule</a></span></td><td class=\"did\">",
            &[&reject.rule()],
        );
        if let Some(last) = last.iter().find(|last| last.reject == reject) {
            main.add(&when(last.at_ms, now));
            if let Some(did) = &last.did {
                main.put("<br>{}", &[&account(&did.text())]);
            }
            if let Some(seq) = last.seq {
                main.put("<br><span class=\"dim small\">seq {}</span>", &[&seq]);
            }
        }
        main.markup("</td></tr>");
    }
    main.markup("</tbody></table></div>");
}

fn by_type(main: &mut Html, detail: &Detail, tally: &Tally) {
    let since = datetime::from_millis(detail.counted_since_ms);
    main.put(
        "<h2>Events by type</h2><div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Events by type\" \
         id=\"types\" data-live><table>\
         <caption>Received since {} UTC</caption><thead><tr><th scope=\"col\">Type</th>\
         <th scope=\"col\" class=\"num\">Events</th></tr></thead><tbody>",
        &[&since[..16].replace('T', " ")],
    );
    for kind in EventKind::ALL {
        let name = match kind {
            EventKind::Other => "info and unknown".to_owned(),
            kind => format!("#{}", kind.name()),
        };
        main.put(
            "<tr><th scope=\"row\" class=\"mono\">{}</th><td class=\"num\">{}</td></tr>",
            &[&name, &grouped(tally.kinds.get(kind))],
        );
    }
    main.markup("</tbody></table></div>");
}

fn limits(main: &mut Html, detail: &Detail, tally: &Tally) {
    main.markup(
        "<h2>Limits</h2><div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Limits\" \
         id=\"limits\" data-live><table>\
         <caption>What it may send, and how often events had to wait for that</caption><thead><tr>\
         <th scope=\"col\">Limit</th><th scope=\"col\" class=\"num\">Allowed</th>\
         <th scope=\"col\" class=\"num\">Events that waited</th></tr></thead><tbody>",
    );
    for span in Span::ALL {
        let allowed = detail.limits.get(span).map_or("∞".to_owned(), grouped);
        main.put(
            "<tr><th scope=\"row\">Events per {}</th><td class=\"num\">{}</td>\
             <td class=\"num\">{}</td></tr>",
            &[&span.name(), &allowed, &grouped(tally.delayed.get(span))],
        );
    }
    main.put(
        "<tr><th scope=\"row\">Identities looked up anew because of it</th>\
         <td class=\"num\"></td><td class=\"num\">{} refused</td></tr></tbody></table></div>",
        &[&grouped(tally.refreshes_refused.get())],
    );
}
