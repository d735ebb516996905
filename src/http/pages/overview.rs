//! The front page: how the relay does, for browsers, for terminals and for programs.

use std::time::Instant;

use super::{
    chart,
    frame::{Frame, Site, wants_html},
    html::Html,
    reason,
    words::{brief, bytes, counted, duration, grouped, when},
};
use crate::{
    control::HostStatus,
    http::{app::App, request::Request, response::Response, status::Snapshot, subscribe},
    limits::SAMPLES_MAX,
    reject::Reject,
};

/// The page, or text for who does not ask for HTML.
pub(super) fn route(app: &App, request: &Request) -> Response {
    let now = app.status.snapshot(Instant::now());
    let firehose = firehose(request);
    let response = match wants_html(request) {
        true => page(&app.pages.site, &now, &firehose),
        false => {
            let text = banner(&app.pages.site, &now, &firehose);
            Response::text("text/plain; charset=utf-8", text).with("Cache-Control", "no-store")
        }
    };
    response.with("Vary", "Accept")
}

/// The same for programs.
pub(super) fn json(app: &App) -> Response {
    let now = app.status.snapshot(Instant::now());
    match serde_json::to_value(&*now) {
        Ok(value) => Response::json(&value).with("Cache-Control", "no-store"),
        Err(error) => {
            log::error!(error:% = error; "the status can not be shown");
            Response::error(500, "InternalServerError", "The status can not be shown")
        }
    }
}

/// Where the firehose is, by the name by which the client has reached us.
fn firehose(request: &Request) -> String {
    match reached_at(request) {
        Some((true, host)) => format!("wss://{host}{}", subscribe::PATH),
        Some((false, host)) => format!("ws://{host}{}", subscribe::PATH),
        None => subscribe::PATH.to_owned(),
    }
}

/// The name by which the client has reached us, and whether over TLS; none: it says none that is one.
pub(super) fn reached_at(request: &Request) -> Option<(bool, &str)> {
    let own = |c: char| c.is_ascii_alphanumeric() || "-.:[]_".contains(c);
    let host = request.headers.first("host")?;
    let is_name = !host.is_empty() && host.len() <= 255 && host.chars().all(own);
    // Whoever ends TLS before us says so.
    let is_secure = request.headers.lists("x-forwarded-proto", "https");
    is_name.then_some((is_secure, host))
}

/// For terminals.
fn banner(site: &Site, now: &Snapshot, firehose: &str) -> String {
    let window = match (now.window.seconds, &now.window.oldest_time) {
        (Some(seconds), Some(time)) => {
            format!(
                "{}, since {time} (seq {})",
                duration(seconds),
                now.oldest_seq
            )
        }
        _ => format!("from seq {}", now.oldest_seq),
    };
    let mut lines = vec![
        ("firehose", firehose.to_owned()),
        ("window", window),
        ("status", "/status.json".to_owned()),
        ("hosts", "/hosts.json, /hosts/NAME.json".to_owned()),
        ("accounts", "/accounts/DID.json".to_owned()),
        ("health", "/xrpc/_health".to_owned()),
    ];
    let contact = site.contact.as_deref();
    let contact = contact.map(|c| c.strip_prefix("mailto:").unwrap_or(c));
    lines.extend(contact.map(|contact| ("contact", contact.to_owned())));
    lines.extend(site.policy.clone().map(|policy| ("policy", policy)));
    let name = match &site.name {
        Some(name) => format!("{name}: "),
        None => String::new(),
    };
    let mut text = format!("{name}zlay {}, an AT Protocol relay\n\n", now.version);
    for (key, value) in lines {
        text.push_str(&format!("{key:<10}{value}\n"));
    }
    text.push_str(&format!(
        "\nup {}, {} connected, {} events, {:.1} a second, {}\n",
        duration(now.uptime_seconds),
        counted(now.hosts_connected, "host"),
        grouped(now.events_sequenced),
        now.events_per_second,
        counted(now.subscribers, "subscriber"),
    ));
    if let Some(full) = &now.disk_full {
        text.push_str(&format!("no new events: {full}\n"));
    }
    text
}

fn page(site: &Site, now: &Snapshot, firehose: &str) -> Response {
    let mut main = Html::default();
    notices(&mut main, now);
    figures(&mut main, now);
    main.add(&chart::rates(
        "rate",
        "Events a second",
        &now.history.events_per_second,
        now.history.interval_seconds,
        SAMPLES_MAX,
    ));
    main.markup("<div class=\"columns\"><section>");
    subscribe_section(&mut main, now, firehose);
    main.markup("</section><section>");
    hosts_section(&mut main, now);
    main.markup("</section></div>");
    rejected(&mut main, now);
    let frame = Frame {
        title: "Overview",
        lead: Html::of(
            "<p>An AT Protocol relay: it hears every host that it knows, checks every event, and \
             serves them all as one stream.</p>",
            &[],
        ),
        section: "/",
        twin: Some("/status.json"),
        is_live: true,
        main,
        ..Frame::default()
    };
    frame.answer(site)
}

/// Why nothing new comes, where that is so.
fn notices(main: &mut Html, now: &Snapshot) {
    main.markup("<div id=\"notices\" data-live>");
    if let Some(full) = &now.disk_full {
        main.put(
            "<p class=\"notice bad\"><strong>No new events:</strong> {}.</p>",
            &[&full.to_string()],
        );
    }
    main.markup("</div>");
}

fn figures(main: &mut Html, now: &Snapshot) {
    let seconds = |s: Option<f64>| match s {
        Some(s) => Html::of("{}", &[&brief((s * 1_000.0) as u64)]),
        None => Html::of("<small>not known yet</small>", &[]),
    };
    let window = match now.window.seconds {
        Some(seconds) => Html::of("{}", &[&duration(seconds)]),
        None => Html::of("<small>not known yet</small>", &[]),
    };
    let known: u64 = now.hosts.values().sum();
    let figures: [(&str, Html, String); 6] = [
        (
            "Events a second",
            Html::of("{}", &[&format!("{:.1}", now.events_per_second)]),
            format!("{} since the start", grouped(now.events_sequenced)),
        ),
        (
            "Hosts connected",
            Html::of("{}", &[&grouped(now.hosts_connected)]),
            format!("of {} known", grouped(known)),
        ),
        (
            "Delay, median",
            seconds(now.delay_seconds.p50),
            "from event to publishing".to_owned(),
        ),
        (
            "Delay, p99",
            seconds(now.delay_seconds.p99),
            "in the last minute".to_owned(),
        ),
        (
            "Replay window",
            window,
            format!("from seq {}", grouped(now.oldest_seq)),
        ),
        (
            "Subscribers",
            Html::of("{}", &[&grouped(now.subscribers)]),
            format!("{} sent", bytes(now.bytes_sent)),
        ),
    ];
    main.markup("<dl class=\"figures\" id=\"figures\" data-live>");
    for (name, value, note) in &figures {
        let template =
            "<div><dt>{}</dt><dd class=\"figure\">{}</dd><dd class=\"note\">{}</dd></div>";
        main.put(template, &[name, value, note]);
    }
    main.markup("</dl>");
}

fn subscribe_section(main: &mut Html, now: &Snapshot, firehose: &str) {
    main.put(
        "<h2>Subscribe</h2><pre tabindex=\"0\" aria-label=\"Address of the firehose\">{}</pre>",
        &[&firehose],
    );
    let oldest = match now.window.oldest_ms {
        Some(at) => when(at, now.now_ms),
        None => Html::of("<span class=\"dim\">not known yet</span>", &[]),
    };
    main.put(
        "<dl class=\"facts\" id=\"stream\" data-live>\
         <dt>Oldest seq</dt><dd>{}, {}</dd><dt>Last seq</dt><dd>{}</dd>\
         <dt>Accounts</dt><dd>{}</dd><dt>Up</dt><dd>{}</dd>",
        &[
            &grouped(now.oldest_seq),
            &oldest,
            &grouped(now.last_seq),
            &grouped(now.accounts),
            &duration(now.uptime_seconds),
        ],
    );
    main.put("<dt>Version</dt><dd>zlay {}", &[&now.version]);
    if let Some(commit) = now.build.commit {
        main.put(" (<code>{}</code>)", &[&commit]);
    }
    main.markup("</dd></dl>");
}

fn hosts_section(main: &mut Html, now: &Snapshot) {
    main.markup(
        "<h2>Hosts</h2><div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Hosts by status\" \
         id=\"hosts\" data-live><table>\
         <caption>Known hosts by how they do</caption><thead><tr><th scope=\"col\">Status</th>\
         <th scope=\"col\" class=\"num\">Hosts</th></tr></thead><tbody>",
    );
    for status in HostStatus::ALL {
        let count = now.hosts.get(status.name()).copied().unwrap_or(0);
        main.put(
            "<tr><th scope=\"row\"><a href=\"/hosts?status={}\">{}</a> \
             <span class=\"dim small\">{}</span></th><td class=\"num\">{}</td></tr>",
            &[
                &status.name(),
                &status.name(),
                &meaning(status),
                &grouped(count),
            ],
        );
    }
    main.markup("</tbody></table></div>");
}

/// What a status is, for people.
pub(super) const fn meaning(status: HostStatus) -> &'static str {
    match status {
        HostStatus::Active => "connected, or about to be",
        HostStatus::Idle => "about to be read from now on",
        HostStatus::Offline => "not reached many times in a row",
        HostStatus::Throttled => "over its limit of events, read with a delay",
        HostStatus::Banned => "not listened to, by decision of the operator",
    }
}

fn rejected(main: &mut Html, now: &Snapshot) {
    main.put(
        "<h2>Events not forwarded</h2><div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Events not forwarded\" \
         id=\"rejected\" data-live><table>\
         <caption>{} since the start, by reason</caption><thead><tr><th scope=\"col\">Reason</th>\
         <th scope=\"col\" class=\"num\">Events</th><th scope=\"col\">What it means</th></tr></thead>\
         <tbody>",
        &[&counted(now.rejected_total, "event")],
    );
    let count = |reject: &Reject| now.rejected.get(reject.name()).copied().unwrap_or(0);
    let mut counts: Vec<(Reject, u64)> = Reject::ALL.iter().map(|r| (*r, count(r))).collect();
    counts.retain(|(_, count)| *count > 0);
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    if counts.is_empty() {
        main.markup("<tr><td colspan=\"3\">None: everything that came was forwarded.</td></tr>");
    }
    for (reject, count) in counts {
        main.put(
            "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"wide\">",
            &[&reason(reject), &grouped(count)],
        );
        main.marked_up(reject.meaning());
        main.markup("</td></tr>");
    }
    main.markup("</tbody></table></div>");
}
