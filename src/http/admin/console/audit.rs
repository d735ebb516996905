//! What the operator has done.

use super::{
    super::unavailable,
    Context, Response,
    view::{self, Sheet},
    words::listed,
};
use crate::{
    control::AuditEntry,
    http::pages::{html::Html, words::when},
    limits::CONSOLE_PAGE_ROWS,
};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let before = context.query.get("before").map(str::parse).transpose();
    let before = before.map_err(|_| Response::invalid("before is not the number of an entry"))?;
    let entries = context
        .app
        .office
        .audit_before(before, CONSOLE_PAGE_ROWS + 1);
    let mut entries = entries.map_err(|e| unavailable(&e))?;
    let more = entries.len() > CONSOLE_PAGE_ROWS;
    entries.truncate(CONSOLE_PAGE_ROWS);
    let mut main = Html::default();
    main.markup("<p>What was carried out, here and by siblings. Entries are never removed.</p>");
    main.add(&table(context, &entries, "The latest first"));
    let last = entries.last().filter(|_| more);
    let later = last.map(|(number, _)| format!("{}?before={number}", view::AUDIT));
    let earlier = before.map(|_: u64| view::AUDIT.to_owned());
    main.add(&view::pager(earlier, later));
    Ok(Sheet {
        title: "Audit log".to_owned(),
        lead: Html::default(),
        section: view::AUDIT,
        is_live: false,
        main,
    })
}

/// Entries with their numbers.
pub(super) fn table(
    context: &Context<'_>,
    entries: &[(u64, AuditEntry)],
    caption: &'static str,
) -> Html {
    if entries.is_empty() {
        return Html::of("<p>Nothing was done yet.</p>", &[]);
    }
    let mut html = Html::of(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Audit log\"><table>\
         <caption>{}</caption><thead><tr><th scope=\"col\">When</th><th scope=\"col\">What</th>\
         <th scope=\"col\">To whom</th><th scope=\"col\">Also said</th><th scope=\"col\">From</th></tr>\
         </thead><tbody>",
        &[&caption],
    );
    for (_, entry) in entries {
        html.put(
            "<tr><td>{}</td><th scope=\"row\" class=\"mono\">{}</th><td class=\"mono\">{}</td>\
             <td class=\"wide\">{}</td><td class=\"mono\">{}</td></tr>",
            &[
                &when(entry.at_ms, context.now_ms),
                &entry.action,
                &entry.subject,
                &listed(&entry.detail),
                &entry.actor,
            ],
        );
    }
    html.markup("</tbody></table></div>");
    html
}
