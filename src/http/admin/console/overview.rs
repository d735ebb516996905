//! How the relay does, at a glance, and what was done last.

use std::time::Instant;

use super::{
    super::{HOME, hosts::is_connected, unavailable},
    Context, Response, audit,
    view::{self, Sheet},
};
use crate::{
    control::HostStatus,
    http::{
        app::Outcome,
        hosts::Detail,
        pages::{
            html::Html,
            words::{bytes, duration, grouped, when_or},
        },
    },
    limits::CONSOLE_RECENT_ACTS,
    metrics::labels::StoreKind,
};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let app = context.app;
    let hosts = app.hosts.details().map_err(|e| unavailable(&e))?;
    let mut main = Html::default();
    main.add(&warnings(context));
    main.markup("<div id=\"figures\" data-live>");
    main.add(&figures(context, &hosts));
    main.markup("</div><h2>Hosts by status</h2><div id=\"statuses\" data-live>");
    main.add(&statuses(&hosts));
    main.markup("</div><h2>Done last</h2><div id=\"done\" data-live>");
    // Without the control store the rest of the page is worth seeing all the same.
    match app.office.audit_before(None, CONSOLE_RECENT_ACTS) {
        Ok(entries) => main.add(&audit::table(context, &entries, "The latest first")),
        Err(error) => {
            log::error!(error:% = error; "the control store does not answer");
            main.markup("<p class=\"notice bad\">The control store does not answer now.</p>")
        }
    };
    main.put(
        "</div><p class=\"more\"><a href=\"{}\">The whole audit log</a></p>",
        &[&view::AUDIT],
    );
    Ok(Sheet {
        title: "Operator".to_owned(),
        lead: Html::default(),
        section: HOME,
        is_live: true,
        main,
    })
}

/// What is wrong, as the probes say it.
fn warnings(context: &Context<'_>) -> Html {
    let health = &context.app.health;
    let mut wrong: Vec<(&str, String)> = Vec::new();
    let mut note = |outcome: Outcome| {
        let (kind, why) = match outcome {
            Outcome::Ok => return,
            Outcome::Warning(why) => ("warn", why),
            Outcome::Failed(why) => ("bad", why),
        };
        if !wrong.iter().any(|(_, known)| *known == why) {
            wrong.push((kind, why));
        }
    };
    note(health.live().into());
    for check in health.ready() {
        note(check.outcome);
    }
    let mut html = Html::default();
    html.markup("<div id=\"warnings\" data-live>");
    if wrong.is_empty() {
        html.markup("<p class=\"notice good\">Everything works.</p>");
    }
    for (kind, why) in &wrong {
        let template = match *kind {
            "bad" => "<p class=\"notice bad\"><strong>Wrong:</strong> {}</p>",
            _ => "<p class=\"notice warn\"><strong>Warning:</strong> {}</p>",
        };
        html.put(template, &[why]);
    }
    html.markup("</div>");
    html
}

fn figures(context: &Context<'_>, hosts: &[Detail]) -> Html {
    let app = context.app;
    let now = app.status.snapshot(Instant::now());
    let connected = hosts.iter().filter(|host| is_connected(host)).count();
    let oldest = app.firehose.written_ms(now.oldest_seq);
    let figure = |name: &str, value: String, note: Html| {
        Html::of(
            "<div><dt>{}</dt><dd class=\"figure\">{}</dd><dd class=\"note\">{}</dd></div>",
            &[&name, &value, &note],
        )
    };
    let said = |text: String| Html::of("{}", &[&text]);
    let mut html = Html::default();
    html.markup("<dl class=\"figures\">");
    html.add(&figure(
        "Events a second",
        format!("{:.1}", now.events_per_second),
        said(format!("last seq {}", grouped(now.last_seq))),
    ));
    html.add(&figure(
        "Hosts connected",
        grouped(connected as u64),
        said(format!("of {}", grouped(hosts.len() as u64))),
    ));
    html.add(&figure(
        "Subscribers",
        grouped(app.metrics.subscribers.get()),
        said(format!("{} sent", bytes(app.metrics.bytes_sent.get()))),
    ));
    html.add(&figure(
        "Replay window",
        bytes(app.metrics.store_bytes.at(StoreKind::Events).get()),
        Html::of(
            "from seq {}, {}",
            &[
                &grouped(now.oldest_seq),
                &when_or(oldest, context.now_ms, "empty"),
            ],
        ),
    ));
    html.add(&figure(
        "Up",
        duration(now.uptime_seconds),
        said(format!("zlay {}", env!("CARGO_PKG_VERSION"))),
    ));
    html.markup("</dl>");
    html
}

fn statuses(hosts: &[Detail]) -> Html {
    let mut html = Html::default();
    html.markup(
        "<div class=\"table\"><table><caption>Each status links to its hosts</caption><thead><tr>\
         <th scope=\"col\">Status</th><th scope=\"col\" class=\"num\">Hosts</th>\
         <th scope=\"col\" class=\"num\">Accounts</th></tr></thead><tbody>",
    );
    for status in HostStatus::ALL {
        let (mut count, mut accounts) = (0_u64, 0_u64);
        for host in hosts.iter().filter(|host| host.status == status) {
            count += 1;
            accounts = accounts.saturating_add(host.accounts);
        }
        html.put(
            "<tr><th scope=\"row\"><a href=\"{}?status={}\">{}</a></th><td class=\"num\">{}</td>\
             <td class=\"num\">{}</td></tr>",
            &[
                &view::HOSTS,
                &status.name(),
                &status.name(),
                &grouped(count),
                &grouped(accounts),
            ],
        );
    }
    html.markup("</tbody></table></div>");
    html
}
