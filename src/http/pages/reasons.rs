//! Why events are not forwarded, each reason with what its host's operator can do.

use serde_json::{Value, json};

use super::{frame::Frame, html::Html};
use crate::{
    http::{app::App, response::Response},
    reject::Reject,
};

pub(super) fn page(app: &App) -> Response {
    let mut main = Html::of("<div class=\"reasons\">", &[]);
    for reject in Reject::ALL {
        let name = reject.name();
        main.put(
            "<article class=\"card\" id=\"{}\"><h2 class=\"mono\"><a href=\"#{}\">{}</a></h2><p>",
            &[&name, &name, &name],
        );
        main.marked_up(reject.meaning());
        main.markup("</p><p><strong>What to do:</strong> ");
        main.marked_up(reject.advice());
        let shown = reject.rule().trim_start_matches("https://");
        main.put(
            "</p><p class=\"small\">Rule: <a href=\"{}\">{}</a></p></article>",
            &[&reject.rule(), &shown],
        );
    }
    main.markup("</div>");
    let frame = Frame {
        title: "Reasons",
        lead: Html::of(
            "<p>Why an event may not be forwarded, what the operator of its host can do, and where the \
             protocol says so.</p>",
            &[],
        ),
        section: super::REASONS,
        twin: Some("/reasons.json"),
        main,
        ..Frame::default()
    };
    frame.answer(&app.pages.site)
}

pub(super) fn json() -> Response {
    let reasons: Vec<Value> = Reject::ALL
        .iter()
        .map(|reject| {
            json!({
                "reason": reject.name(),
                "meaning": reject.meaning(),
                "advice": reject.advice(),
                "rule": reject.rule(),
            })
        })
        .collect();
    Response::json(&json!({ "reasons": reasons }))
}
