//! Accounts that are taken down; and what is known of one, before it is.

use super::{
    super::unavailable,
    Context, Response, order,
    view::{self, Sheet},
};
use crate::{
    atproto::hostname::Hostname,
    http::pages::{
        html::{Html, in_url},
        words::grouped,
    },
    limits::CONSOLE_PAGE_ROWS,
    store::account::{Account, Sanction, Status},
};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let mut main = Html::default();
    main.markup("<h2>Look an account up</h2>");
    main.add(&look_up(context));
    if let Some(did) = context.query.get("did") {
        main.add(&account(context, did.trim())?);
    }
    main.markup("<h2>Taken down</h2>");
    main.add(&list(context)?);
    Ok(Sheet {
        title: "Takedowns".to_owned(),
        lead: Html::default(),
        section: view::TAKEDOWNS,
        is_live: false,
        main,
    })
}

fn look_up(context: &Context<'_>) -> Html {
    let did = context.query.get("did").unwrap_or_default();
    Html::of(
        "<form class=\"filter\" method=\"get\" action=\"{}\"><div class=\"field grow\">\
         <label for=\"did\">DID</label><input type=\"text\" class=\"mono\" id=\"did\" name=\"did\" \
         value=\"{}\" required autocomplete=\"off\" spellcheck=\"false\"></div>\
         <button>Show the account</button></form>",
        &[&view::TAKEDOWNS, &did],
    )
}

/// An account, and what can be done about it.
fn account(context: &Context<'_>, text: &str) -> Result<Html, Response> {
    let mut html = Html::default();
    let Ok(did) = order::did(text) else {
        html.markup("<p class=\"notice bad\" role=\"alert\">This is not a DID.</p>");
        return Ok(html);
    };
    let found = context.app.accounts.account(&did);
    let Some((account, host)) = found.map_err(|e| unavailable(&e))? else {
        html.put(
            "<p class=\"notice warn\" role=\"alert\">No event of {} was ever seen here, so that nothing \
             can be said of it.</p>",
            &[&did.as_str()],
        );
        return Ok(html);
    };
    html.put(
        "<div class=\"card\"><h3 class=\"mono\">{}</h3>{}<div class=\"acts\">",
        &[&did.as_str(), &facts(&account, host.as_ref())],
    );
    if account.local.sanction == Some(Sanction::Takedown) {
        let act = [("act", "repo/reverseTakedown"), ("did", did.as_str())];
        html.add(&view::button(context, "Reverse the takedown", &act));
    } else {
        let act = [("act", "repo/takeDown"), ("did", did.as_str())];
        html.add(&view::question("Take it down", did.as_str(), &act));
    }
    html.markup("</div></div>");
    Ok(html)
}

/// What is known of an account.
pub(super) fn facts(account: &Account, host: Option<&Hostname>) -> Html {
    let mut against = Vec::new();
    match account.local.sanction {
        Some(Sanction::Takedown) => against.push("a takedown"),
        Some(Sanction::Suspension) => against.push("a suspension"),
        None => {}
    }
    if account.local.throttled {
        against.push("its host is full");
    }
    if against.is_empty() {
        against.push("nothing");
    }
    let mut html = Html::default();
    html.put(
        "<dl class=\"facts\"><dt>Host</dt><dd>{}</dd><dt>Status here</dt><dd>{}</dd>\
         <dt>Status at its host</dt><dd>{}</dd><dt>Against it here</dt><dd>{}</dd>",
        &[
            &match host {
                Some(host) => view::host_link(host.as_str()),
                None => Html::of("not known", &[]),
            },
            &status(account.effective()),
            &status(&account.upstream),
            &against.join(", "),
        ],
    );
    if let Some(head) = &account.head {
        html.put(
            "<dt>Last rev</dt><dd class=\"mono\">{}</dd>",
            &[&head.rev.to_string()],
        );
    }
    html.put(
        "<dt>Last seq at its host</dt><dd>{}</dd></dl>",
        &[&grouped(account.seen.seq)],
    );
    html
}

fn status(status: &Status) -> String {
    match (status.active, &status.reason) {
        (true, None) => "active".to_owned(),
        (true, Some(note)) => format!("active, {note}"),
        (false, Some(reason)) => reason.to_string(),
        (false, None) => "inactive".to_owned(),
    }
}

fn list(context: &Context<'_>) -> Result<Html, Response> {
    let after = context.query.get("after").unwrap_or_default();
    let dids = context.app.accounts.takedowns(after, CONSOLE_PAGE_ROWS + 1);
    let mut dids = dids.map_err(|e| unavailable(&e))?;
    let more = dids.len() > CONSOLE_PAGE_ROWS;
    dids.truncate(CONSOLE_PAGE_ROWS);
    if dids.is_empty() {
        return Ok(Html::of("<p>No account is taken down.</p>", &[]));
    }
    let mut html = Html::default();
    html.markup(
        "<div class=\"table\"><table><caption>By DID</caption><thead><tr>\
         <th scope=\"col\">Account</th><th scope=\"col\">Host</th><th scope=\"col\">Change</th></tr>\
         </thead><tbody>",
    );
    for did in &dids {
        let found = context.app.accounts.account(did);
        let host = found
            .map_err(|e| unavailable(&e))?
            .and_then(|(_, host)| host);
        let act = [("act", "repo/reverseTakedown"), ("did", did.as_str())];
        html.put(
            "<tr><th scope=\"row\"><a class=\"mono\" href=\"{}?did={}\">{}</a></th><td>{}</td>\
             <td>{}</td></tr>",
            &[
                &view::TAKEDOWNS,
                &in_url(did.as_str()),
                &did.as_str(),
                &host.map(|host| view::host_link(host.as_str())),
                &view::button(context, "Reverse", &act),
            ],
        );
    }
    html.markup("</tbody></table></div>");
    let last = dids.last().filter(|_| more);
    let later = last.map(|did| format!("{}?after={}", view::TAKEDOWNS, in_url(did.as_str())));
    let earlier = (!after.is_empty()).then(|| view::TAKEDOWNS.to_owned());
    html.add(&view::pager(earlier, later));
    Ok(html)
}
