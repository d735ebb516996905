//! Who reads the firehose, and how far behind.

use super::{
    super::subscribers::{Lag, since_ms},
    Context, Response,
    view::{self, Sheet},
};
use crate::{
    firehose::SubscriberInfo,
    http::pages::{
        html::Html,
        words::{bytes, counted, duration, grouped, when},
    },
    limits::CONSOLE_PAGE_ROWS,
};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let mut list = context.app.firehose.subscribers();
    // Who needs somebody to look at him comes first.
    list.sort_by_key(|one| (one.position, one.id));
    let mut main = Html::default();
    main.markup("<div id=\"subscribers\" data-live>");
    main.put(
        "<p class=\"dim\">{}</p>",
        &[&counted(list.len() as u64, "subscriber")],
    );
    if !list.is_empty() {
        main.add(&table(context, &list));
    }
    main.markup(
        "</div><p class=\"small dim more\">The lag in events is what the relay has beyond the last event that \
         was sent; the lag in time is for how long the next of them waits to be sent. Addresses are seen \
         here alone, and on no public page.</p>",
    );
    Ok(Sheet {
        title: "Subscribers".to_owned(),
        lead: Html::default(),
        section: view::SUBSCRIBERS,
        is_live: true,
        main,
    })
}

fn table(context: &Context<'_>, list: &[SubscriberInfo]) -> Html {
    let last_seq = context.app.metrics.last_seq.get();
    let pages = list.len().div_ceil(CONSOLE_PAGE_ROWS);
    let page = context.query.get("page").and_then(|page| page.parse().ok());
    let page: usize = page.unwrap_or(0).min(pages - 1);
    let mut html = Html::of(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Subscribers\"><table>\
         <caption>Who is behind the farthest comes first; page {} of {}</caption><thead><tr>\
         <th scope=\"col\">Address</th><th scope=\"col\">Agent</th><th scope=\"col\">Since</th>\
         <th scope=\"col\" class=\"num\">Events sent</th><th scope=\"col\" class=\"num\">Sent</th>\
         <th scope=\"col\" class=\"num\">Lag</th><th scope=\"col\" class=\"num\">Lag in time</th>\
         <th scope=\"col\">Change</th></tr></thead><tbody>",
        &[&grouped(page as u64 + 1), &grouped(pages as u64)],
    );
    let shown = list.iter().skip(page * CONSOLE_PAGE_ROWS);
    for one in shown.take(CONSOLE_PAGE_ROWS) {
        let lag = Lag::of(context.app, one, last_seq, context.now_ms);
        html.add(&row(context, one, lag));
    }
    html.markup("</tbody></table></div>");
    let address = |page: usize| format!("{}?page={page}", view::SUBSCRIBERS);
    let later = (page + 1 < pages).then(|| address(page + 1));
    html.add(&view::pager(page.checked_sub(1).map(address), later));
    html
}

fn row(context: &Context<'_>, one: &SubscriberInfo, lag: Lag) -> Html {
    let id = one.id.to_string();
    let peer = one.peer.to_string();
    let agent = match one.user_agent.as_str() {
        "" => Html::of("<span class=\"dim\">not said</span>", &[]),
        agent => Html::of("{}", &[&agent]),
    };
    let seconds = match lag.seconds {
        Some(seconds) => duration(seconds),
        None => "not known".to_owned(),
    };
    let act = [("act", "consumers/disconnect"), ("id", id.as_str())];
    Html::of(
        "<tr><th scope=\"row\" class=\"mono\">{}</th><td class=\"wide\">{}</td><td>{}</td>\
         <td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
         <td class=\"num\">{}</td><td>{}</td></tr>",
        &[
            &peer,
            &agent,
            &when(since_ms(one), context.now_ms),
            &grouped(one.frames),
            &bytes(one.bytes),
            &grouped(lag.events),
            &seconds,
            &view::question("Disconnect", &peer, &act),
        ],
    )
}
