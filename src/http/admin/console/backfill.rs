//! What is read from others to fill the relay: how far it is, and forms that begin and end it.

use super::{
    Context, Response,
    view::{self, Sheet},
};
use crate::{
    backfill::{Kind, Status},
    http::pages::{
        html::Html,
        words::{grouped, when_or},
    },
};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let mut main = Html::default();
    main.markup(
        "<p>A relay knows what it has heard. A backfill reads the rest from others: first the accounts, \
         from the hosts; then, after an hour or a day of events, who has records of what, from another \
         relay. There is one at a time; it goes on after a restart.</p><div class=\"cards\">",
    );
    for kind in [Kind::Accounts, Kind::Collections] {
        main.add(&one(context, kind));
    }
    main.markup("</div>");
    Ok(Sheet {
        title: "Backfill".to_owned(),
        lead: Html::default(),
        section: view::BACKFILL,
        is_live: true,
        main,
    })
}

fn one(context: &Context<'_>, kind: Kind) -> Html {
    let status = context.app.backfill.status(kind);
    let mut html = Html::of(
        "<section class=\"card\" aria-labelledby=\"{}-title\"><h2 id=\"{}-title\">{}</h2>\
         <div id=\"{}-progress\" data-live>",
        &[&kind.name(), &kind.name(), &title(kind), &kind.name()],
    );
    match &status {
        Some(status) => html.add(&progress(context, status)),
        None => html.markup("<p>There was none yet.</p>"),
    };
    html.markup("</div>");
    html.add(&begin(context, kind));
    html.markup("</section>");
    html
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Accounts => "Accounts, from the hosts",
        Kind::Collections => "Collections, from another relay",
    }
}

fn progress(context: &Context<'_>, status: &Status) -> Html {
    let progress = &status.progress;
    let now = context.now_ms;
    let at = usize::try_from(progress.completed).unwrap_or(usize::MAX);
    let present = status.items.get(at).filter(|_| progress.is_running());
    let mut html = Html::of(
        "<dl class=\"facts\"><dt>State</dt><dd>{}</dd><dt>From</dt><dd class=\"mono\">{}</dd>\
         <dt>Lists</dt><dd>{} of {} behind it, {} of them not readable</dd>\
         <dt>Brought in</dt><dd>{} new, {} known already</dd>",
        &[
            &progress.state(),
            &progress.source.as_deref().unwrap_or("all hosts"),
            &grouped(progress.completed),
            &grouped(progress.total),
            &grouped(progress.failed),
            &grouped(progress.imported),
            &grouped(progress.known),
        ],
    );
    if let Some(present) = present {
        html.put(
            "<dt>Reads now</dt><dd class=\"mono\">{}</dd>",
            &[&present.as_str()],
        );
    }
    for (reason, count) in &progress.skipped {
        html.put(
            "<dt>Not taken: {}</dt><dd>{}</dd>",
            &[reason, &grouped(*count)],
        );
    }
    if let Some(trouble) = &progress.trouble {
        html.put(
            "<dt>Last error</dt><dd>{}; tried again {}</dd>",
            &[
                &trouble.error,
                &when_or(Some(trouble.next_try_ms), now, "soon"),
            ],
        );
    }
    html.put(
        "<dt>Begun</dt><dd>{}</dd><dt>Ended</dt><dd>{}</dd></dl>",
        &[
            &when_or(Some(progress.started_ms), now, ""),
            &when_or(progress.ended_ms, now, "not yet"),
        ],
    );
    if progress.is_running() {
        let act = [("act", "backfill/cancel")];
        let name = progress.kind.name();
        html.put(
            "<div class=\"acts\">{}</div>",
            &[&view::question("End it", name, &act)],
        );
    }
    html
}

/// The form that begins one.
fn begin(context: &Context<'_>, kind: Kind) -> Html {
    let mut html = Html::default();
    match kind {
        Kind::Accounts => {
            html.markup("<h3>Begin</h3>");
            html.add(&view::form(context, "", &[("act", "backfill-accounts")]));
            html.markup(
                "<div class=\"field\"><label for=\"host\">Host; empty for all of them</label>\
                 <input type=\"text\" class=\"mono\" id=\"host\" name=\"host\" autocomplete=\"off\" \
                 spellcheck=\"false\"></div>",
            );
        }
        Kind::Collections => {
            html.markup("<h3>Begin</h3>");
            html.add(&view::form(context, "", &[("act", "backfill-collections")]));
            html.markup(
                "<div class=\"field\"><label for=\"source\">Relay or index that is asked</label>\
                 <input type=\"text\" class=\"mono\" id=\"source\" name=\"source\" required \
                 autocomplete=\"off\" spellcheck=\"false\"></div>\
                 <div class=\"field\"><label for=\"collections\">Collections beside those that are known \
                 here</label><textarea class=\"mono\" id=\"collections\" name=\"collections\" rows=\"3\" \
                 spellcheck=\"false\"></textarea></div>",
            );
        }
    }
    html.markup("<p><button class=\"main\">Begin</button></p></form>");
    html
}
