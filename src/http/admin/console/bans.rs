//! Domains that are banned, and hosts that are blocked.

use super::{
    super::unavailable,
    Context, Response,
    view::{self, Sheet},
};
use crate::http::pages::{html::Html, words::grouped};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let hosts = context.app.hosts.details().map_err(|e| unavailable(&e))?;
    let domains = context.app.hosts.banned_domains();
    let mut main = Html::default();
    main.markup("<h2>Domains</h2>");
    if domains.is_empty() {
        main.markup("<p>No domain is banned.</p>");
    } else {
        main.markup(
            "<div class=\"table\"><table><caption>A ban is for the domain and every host below it, \
             known or not</caption><thead><tr><th scope=\"col\">Domain</th>\
             <th scope=\"col\" class=\"num\">Known hosts</th><th scope=\"col\">Change</th></tr></thead>\
             <tbody>",
        );
        for domain in &domains {
            let covered = hosts.iter().filter(|host| domain.covers(&host.row.name));
            let act = [("act", "subs/unbanDomain"), ("domain", domain.as_str())];
            main.put(
                "<tr><th scope=\"row\" class=\"mono\">{}</th><td class=\"num\">{}</td><td>{}</td></tr>",
                &[
                    &domain.as_str(),
                    &grouped(covered.count() as u64),
                    &view::button(context, "Lift the ban", &act),
                ],
            );
        }
        main.markup("</tbody></table></div>");
    }
    main.add(&ban());
    main.markup("<h2>Hosts blocked one by one</h2>");
    let blocked: Vec<_> = hosts.iter().filter(|host| host.row.terms.banned).collect();
    if blocked.is_empty() {
        main.markup("<p>No host is blocked.</p>");
    } else {
        main.markup("<ul>");
        for host in blocked {
            let name = host.row.name.as_str();
            main.put("<li>{}</li>", &[&view::host_link(name)]);
        }
        main.markup("</ul>");
    }
    Ok(Sheet {
        title: "Bans".to_owned(),
        lead: Html::default(),
        section: view::BANS,
        is_live: false,
        main,
    })
}

fn ban() -> Html {
    let mut html = Html::default();
    html.markup("<h2>Ban a domain</h2>");
    html.add(&view::question_form("card", "subs/banDomain"));
    html.markup(
        "<div class=\"field\"><label for=\"domain\">Domain</label>\
         <input type=\"text\" class=\"mono\" id=\"domain\" name=\"domain\" required autocomplete=\"off\" \
         spellcheck=\"false\" aria-describedby=\"domain-help\"></div><p id=\"domain-help\" \
         class=\"small dim\">Two labels or more, such as <code>example.com</code>, without a port. \
         What it would end is shown before it is banned.</p>\
         <p><button class=\"danger\">Ban it…</button></p></form>",
    );
    html
}
