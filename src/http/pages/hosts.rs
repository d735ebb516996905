//! The list of hosts: filtered, in order, and page by page.

use std::{sync::Arc, time::Instant};

use serde_json::json;

use super::{
    as_page, failed,
    frame::Frame,
    host_link,
    html::Html,
    list::{Line, Sort, Wish, pages},
    overview,
    words::{counted, grouped, when_or},
};
use crate::{
    control::HostStatus,
    host::now_ms,
    http::{app::App, request::Request, response::Response},
};

fn lines(app: &App) -> Result<Arc<Vec<Line>>, String> {
    app.pages.lines.get(Instant::now(), || {
        let details = app.hosts.details()?;
        Ok(details.iter().map(Line::new).collect())
    })
}

pub(super) fn json(app: &App, request: &Request) -> Response {
    let wish = match Wish::parse(&request.query) {
        Ok(wish) => wish,
        Err(answer) => return answer,
    };
    let lines = match lines(app) {
        Ok(lines) => lines,
        Err(error) => {
            log::error!(error:% = error; "hosts can not be listed");
            let message = "The hosts can not be listed";
            return Response::error(500, "InternalServerError", message);
        }
    };
    let (page, matching) = wish.of(&lines);
    let body = json!({
        "total": lines.len(),
        "matching": matching,
        "page": wish.page,
        "pages": pages(matching),
        "hosts": page,
    });
    Response::json(&body).with("Cache-Control", "no-store")
}

pub(super) fn page(app: &App, request: &Request) -> Response {
    let wish = match Wish::parse(&request.query) {
        Ok(wish) => wish,
        Err(answer) => return as_page(app, "This can not be asked for", &answer),
    };
    let lines = match lines(app) {
        Ok(lines) => lines,
        Err(error) => return failed(app, "the list of hosts", &error),
    };
    let (shown, matching) = wish.of(&lines);
    let mut main = Html::default();
    presets(&mut main, &wish);
    form(&mut main, &wish);
    main.markup("<div id=\"list\" data-live>");
    table(&mut main, &wish, &shown, (lines.len(), matching));
    pager(&mut main, &wish, pages(matching));
    main.markup("</div>");
    let twin = wish.query(|_| ()).replacen("/hosts", "/hosts.json", 1);
    let frame = Frame {
        title: "Hosts",
        lead: Html::of(
            "<p>Every host that this relay knows. The page of a host says why it is not heard, if so.</p>",
            &[],
        ),
        section: super::HOSTS,
        twin: Some(&twin),
        is_live: true,
        main,
        ..Frame::default()
    };
    frame.answer(&app.pages.site)
}

fn presets(main: &mut Html, wish: &Wish) {
    main.markup("<ul class=\"chips\" aria-label=\"Lists\" id=\"presets\" data-live>");
    let is_plain = wish.status.is_none() && !wish.failing && wish.text.is_empty();
    let is_largest = is_plain && wish.sort == Sort::Accounts && wish.descending;
    let is_busiest = is_plain && wish.sort == Sort::Rate && wish.descending;
    for (address, name, current) in [
        ("/hosts", "All", is_plain && wish.sort == Sort::Name),
        ("/hosts?sort=accounts", "Largest", is_largest),
        ("/hosts?sort=rate", "Busiest", is_busiest),
        (
            "/hosts?show=failing&sort=last_error",
            "Failing",
            wish.failing,
        ),
    ] {
        let template = match current {
            true => "<li><a href=\"{}\" aria-current=\"true\">{}</a></li>",
            false => "<li><a href=\"{}\">{}</a></li>",
        };
        main.put(template, &[&address, &name]);
    }
    main.markup("</ul>");
}

fn form(main: &mut Html, wish: &Wish) {
    main.put(
        "<form class=\"filter\" action=\"/hosts\" method=\"get\" data-filter role=\"search\">\
         <div class=\"field grow\"><label for=\"q\">Part of the name</label>\
         <input type=\"search\" id=\"q\" name=\"q\" value=\"{}\" maxlength=\"253\" autocomplete=\"off\" \
         autocapitalize=\"none\" spellcheck=\"false\"></div>\
         <div class=\"field\"><label for=\"status\">Status</label>\
         <select id=\"status\" name=\"status\"><option value=\"\">any</option>",
        &[&wish.text],
    );
    for status in HostStatus::ALL {
        let template = match wish.status == Some(status) {
            true => "<option value=\"{}\" selected>{}: {}</option>",
            false => "<option value=\"{}\">{}: {}</option>",
        };
        let name = status.name();
        main.put(template, &[&name, &name, &overview::meaning(status)]);
    }
    main.markup("</select></div>");
    let mut hidden = |name: &str, value: &str| {
        let template = "<input type=\"hidden\" name=\"{}\" value=\"{}\">";
        main.put(template, &[&name, &value]);
    };
    if wish.failing {
        hidden("show", "failing");
    }
    if wish.sort != Sort::Name || wish.descending {
        hidden("sort", wish.sort.name());
        hidden("order", if wish.descending { "desc" } else { "asc" });
    }
    main.markup("<button type=\"submit\">Filter</button></form>");
}

fn table(main: &mut Html, wish: &Wish, lines: &[&Line], (total, matching): (usize, usize)) {
    let total = counted(total as u64, "host");
    let caption = match (matching, lines.len()) {
        (0, _) => format!("None of {total} fits"),
        (_, 0) => format!("There is no page {}", wish.page),
        (matching, _) => format!("{} of {total}", grouped(matching as u64)),
    };
    main.put(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Hosts\"><table class=\"dense\">\
         <caption>{}</caption><thead><tr>",
        &[&caption],
    );
    for sort in Sort::ALL {
        head(main, wish, sort);
    }
    main.markup("</tr></thead><tbody>");
    let now = now_ms();
    for line in lines {
        row(main, line, now);
    }
    if lines.is_empty() {
        main.markup("<tr><td colspan=\"10\">No host. <a href=\"/hosts\">Show all</a></td></tr>");
    }
    main.markup("</tbody></table></div>");
}

fn head(main: &mut Html, wish: &Wish, sort: Sort) {
    let is_current = wish.sort == sort;
    main.markup(match (is_current, wish.descending, sort.is_number()) {
        (true, true, true) => "<th scope=\"col\" class=\"num\" aria-sort=\"descending\">",
        (true, false, true) => "<th scope=\"col\" class=\"num\" aria-sort=\"ascending\">",
        (true, true, false) => "<th scope=\"col\" aria-sort=\"descending\">",
        (true, false, false) => "<th scope=\"col\" aria-sort=\"ascending\">",
        (false, _, true) => "<th scope=\"col\" class=\"num\">",
        (false, _, false) => "<th scope=\"col\">",
    });
    let address = wish.query(|wish| {
        wish.descending = match is_current {
            true => !wish.descending,
            false => sort.descends(),
        };
        (wish.sort, wish.page) = (sort, 1);
    });
    let arrow = match (is_current, wish.descending) {
        (false, _) => "",
        (true, true) => " ↓",
        (true, false) => " ↑",
    };
    let template = "<a href=\"{}\">{}<span aria-hidden=\"true\">{}</span></a></th>";
    main.put(template, &[&address, &sort.title(), &arrow]);
}

/// The look of a state: red only where the operator of the host should act.
pub(super) fn tone(state: &str) -> &'static str {
    match state {
        "connected" => "badge good",
        "over its limit" | "waiting to retry" | "catching up" => "badge warn",
        "not reached" | "banned" => "badge bad",
        _ => "badge",
    }
}

fn row(main: &mut Html, line: &Line, now_ms: u64) {
    let last_event = (line.last_event_ms > 0).then_some(line.last_event_ms);
    let limit = match line.account_limit {
        Some(limit) => grouped(limit),
        None => "∞".to_owned(),
    };
    main.put(
        "<tr><th scope=\"row\">{}</th><td><span class=\"{}\">{}</span></td>\
         <td class=\"num\">{} <span class=\"dim\">/ {}</span></td><td class=\"num\">{}</td>\
         <td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
         <td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"wide error-text\">{}</td></tr>",
        &[
            &host_link(&line.hostname),
            &tone(line.state),
            &line.state,
            &grouped(line.accounts),
            &limit,
            &format!("{:.1}", line.per_second),
            &grouped(line.received),
            &grouped(line.forwarded),
            &grouped(line.rejected),
            &grouped(line.seq),
            &when_or(last_event, now_ms, "none yet"),
            &line.last_error,
        ],
    );
}

fn pager(main: &mut Html, wish: &Wish, pages: usize) {
    if pages < 2 {
        return;
    }
    main.markup("<nav class=\"pager\" aria-label=\"Pages of the list\"><span>");
    if wish.page > 1 {
        let address = wish.query(|wish| wish.page = (wish.page - 1).min(pages));
        main.put("<a href=\"{}\" rel=\"prev\">← Previous</a>", &[&address]);
    }
    let (page, all) = (grouped(wish.page as u64), grouped(pages as u64));
    main.put("</span><span>Page {} of {}</span><span>", &[&page, &all]);
    if wish.page < pages {
        let address = wish.query(|wish| wish.page += 1);
        main.put("<a href=\"{}\" rel=\"next\">Next →</a>", &[&address]);
    }
    main.markup("</span></nav>");
}
