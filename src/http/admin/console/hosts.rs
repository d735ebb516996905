//! Every host, to be filtered and sorted.

use super::{
    super::{hosts::is_connected, unavailable},
    Context, Query, Response,
    view::{self, Sheet},
};
use crate::{
    control::{HostStatus, HostTerms},
    http::{
        hosts::Detail,
        pages::{
            html::{Html, in_url},
            words::{counted, grouped, when_or},
        },
    },
    limits::CONSOLE_PAGE_ROWS,
};

/// By what hosts can be sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sort {
    Name,
    Accounts,
    Received,
    Rejected,
    Last,
    Added,
}

impl Sort {
    const ALL: [Sort; 6] = [
        Sort::Name,
        Sort::Accounts,
        Sort::Received,
        Sort::Rejected,
        Sort::Last,
        Sort::Added,
    ];

    const fn name(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Accounts => "accounts",
            Sort::Received => "received",
            Sort::Rejected => "rejected",
            Sort::Last => "last",
            Sort::Added => "added",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Accounts => "accounts, most first",
            Sort::Received => "events received, most first",
            Sort::Rejected => "events refused, most first",
            Sort::Last => "last event, latest first",
            Sort::Added => "when they were added, latest first",
        }
    }
}

/// Which hosts are shown.
struct Filter {
    text: String,
    status: String,
    sort: Sort,
    page: usize,
}

impl Filter {
    fn read(query: &Query) -> Filter {
        let text = query.get("q").unwrap_or_default().trim();
        let sort = query.get("sort").unwrap_or_default();
        let page = query.get("page").and_then(|page| page.parse().ok());
        Filter {
            text: text.to_ascii_lowercase(),
            status: query.get("status").unwrap_or_default().to_owned(),
            sort: Sort::ALL
                .into_iter()
                .find(|known| known.name() == sort)
                .unwrap_or(Sort::Name),
            page: page.unwrap_or(0),
        }
    }

    fn takes(&self, host: &Detail) -> bool {
        let is_named = host.row.name.as_str().contains(&self.text);
        let is_so = match self.status.as_str() {
            "" => true,
            "connected" => is_connected(host),
            "failing" => host.row.observed.failures > 0,
            "changed" => host.row.terms != HostTerms::default(),
            status => host.status.name() == status,
        };
        is_named && is_so
    }

    fn sort(&self, hosts: &mut [Detail]) {
        let counted = |host: &Detail| match (&self.sort, host.tally.as_deref()) {
            (Sort::Accounts, _) => host.accounts,
            (Sort::Added, _) => u64::from(host.row.id.0),
            (Sort::Received, Some(tally)) => tally.received.get(),
            (Sort::Last, Some(tally)) => tally.received_at_ms.get(),
            (Sort::Rejected, Some(_)) => rejected(host),
            (Sort::Name | Sort::Received | Sort::Last | Sort::Rejected, _) => 0,
        };
        // Numbers change while they are compared.
        hosts.sort_by_cached_key(|host| {
            (u64::MAX - counted(host), host.row.name.as_str().to_owned())
        });
    }

    /// The address of another page of the same.
    fn address(&self, page: usize) -> String {
        format!(
            "{}?q={}&status={}&sort={}&page={page}",
            view::HOSTS,
            in_url(&self.text),
            in_url(&self.status),
            self.sort.name(),
        )
    }
}

fn rejected(host: &Detail) -> u64 {
    let tally = host.tally.as_deref();
    let refused = tally.map(|tally| tally.refused()).unwrap_or_default();
    refused.iter().map(|(_, count)| count).sum()
}

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let filter = Filter::read(&context.query);
    let details = context.app.hosts.details().map_err(|e| unavailable(&e))?;
    let all = details.len();
    let mut hosts: Vec<Detail> = details.into_iter().filter(|h| filter.takes(h)).collect();
    filter.sort(&mut hosts);
    let mut main = Html::default();
    main.add(&filters(&filter));
    main.markup("<div id=\"hosts\" data-live>");
    main.put(
        "<p class=\"dim\" role=\"status\">{} of {}</p>",
        &[&grouped(hosts.len() as u64), &counted(all as u64, "host")],
    );
    main.add(&table(context, &filter, &hosts));
    main.markup("</div>");
    main.add(&add(context));
    Ok(Sheet {
        title: "Hosts".to_owned(),
        lead: Html::default(),
        section: view::HOSTS,
        is_live: true,
        main,
    })
}

fn filters(filter: &Filter) -> Html {
    let mut html = Html::of(
        "<form class=\"filter\" method=\"get\" action=\"{}\" role=\"search\" data-filter>\
         <div class=\"field grow\"><label for=\"q\">Name contains</label>\
         <input type=\"search\" id=\"q\" name=\"q\" value=\"{}\" autocomplete=\"off\" \
         spellcheck=\"false\"></div>\
         <div class=\"field\"><label for=\"status\">Which</label><select id=\"status\" name=\"status\">",
        &[&view::HOSTS, &filter.text],
    );
    let special = [
        ("", "all"),
        ("connected", "connected"),
        ("failing", "failing"),
        ("changed", "with terms of their own"),
    ];
    let statuses = HostStatus::ALL.map(|status| (status.name(), status.name()));
    for (value, label) in special.into_iter().chain(statuses) {
        html.add(&option(value, label, value == filter.status));
    }
    html.markup(
        "</select></div><div class=\"field\"><label for=\"sort\">By</label>\
         <select id=\"sort\" name=\"sort\">",
    );
    for sort in Sort::ALL {
        html.add(&option(sort.name(), sort.label(), sort == filter.sort));
    }
    html.markup("</select></div><button>Show</button></form>");
    html
}

/// A choice of a list.
pub(super) fn option(value: &str, label: &str, is_chosen: bool) -> Html {
    let template = match is_chosen {
        true => "<option value=\"{}\" selected>{}</option>",
        false => "<option value=\"{}\">{}</option>",
    };
    Html::of(template, &[&value, &label])
}

fn table(context: &Context<'_>, filter: &Filter, hosts: &[Detail]) -> Html {
    if hosts.is_empty() {
        return Html::of("<p>There is no such host.</p>", &[]);
    }
    let pages = hosts.len().div_ceil(CONSOLE_PAGE_ROWS);
    let page = filter.page.min(pages - 1);
    let shown = hosts.iter().skip(page * CONSOLE_PAGE_ROWS);
    let mut html = Html::default();
    html.put(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"Hosts\"><table>\
         <caption>By {}; page {} of {}</caption><thead><tr>\
         <th scope=\"col\">Host</th><th scope=\"col\">Status</th>\
         <th scope=\"col\" class=\"num\">Accounts</th><th scope=\"col\" class=\"num\">Received</th>\
         <th scope=\"col\" class=\"num\">Refused</th><th scope=\"col\">Last event</th>\
         <th scope=\"col\">Said of it</th></tr></thead><tbody>",
        &[
            &filter.sort.label(),
            &grouped(page as u64 + 1),
            &grouped(pages as u64),
        ],
    );
    for host in shown.take(CONSOLE_PAGE_ROWS) {
        html.add(&row(context, host));
    }
    html.markup("</tbody></table></div>");
    let earlier = page.checked_sub(1).map(|page| filter.address(page));
    let later = (page + 1 < pages).then(|| filter.address(page + 1));
    html.add(&view::pager(earlier, later));
    html
}

fn row(context: &Context<'_>, host: &Detail) -> Html {
    let tally = host.tally.as_deref();
    let last = tally.map(|tally| tally.received_at_ms.get());
    let accounts = match host.account_limit {
        Some(limit) => format!("{} / {}", grouped(host.accounts), grouped(limit)),
        None => grouped(host.accounts),
    };
    Html::of(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
         <td class=\"num\">{}</td><td>{}</td><td>{}</td></tr>",
        &[
            &view::host_link(host.row.name.as_str()),
            &badge(host),
            &accounts,
            &grouped(tally.map_or(0, |tally| tally.received.get())),
            &grouped(rejected(host)),
            &when_or(last.filter(|at| *at > 0), context.now_ms, "none yet"),
            &said_of(host),
        ],
    )
}

/// The status of a host, coloured.
pub(super) fn badge(host: &Detail) -> Html {
    let template = match host.status {
        HostStatus::Active if is_connected(host) => "<span class=\"badge good\">{}</span>",
        HostStatus::Active | HostStatus::Idle => "<span class=\"badge\">{}</span>",
        HostStatus::Throttled => "<span class=\"badge warn\">{}</span>",
        HostStatus::Offline | HostStatus::Banned => "<span class=\"badge bad\">{}</span>",
    };
    let word = match host.status {
        HostStatus::Active if is_connected(host) => "connected",
        HostStatus::Active => "not connected",
        status => status.name(),
    };
    Html::of(template, &[&word])
}

/// What the operator has said of a host, in a few words.
fn said_of(host: &Detail) -> String {
    let terms = &host.row.terms;
    let mut words = Vec::new();
    match (terms.banned, &host.banned_domain) {
        (true, _) => words.push("blocked".to_owned()),
        (false, Some(domain)) => words.push(format!("banned with {domain}")),
        (false, None) => {}
    }
    match terms.trusted {
        Some(true) => words.push("trusted".to_owned()),
        Some(false) => words.push("not trusted".to_owned()),
        None if host.trusted => words.push("trusted by its domain".to_owned()),
        None => {}
    }
    if terms.lenient {
        words.push("lenient".to_owned());
    }
    let limits = [
        terms.accounts,
        terms.events_per_second,
        terms.events_per_hour,
        terms.events_per_day,
    ];
    if limits.iter().any(Option::is_some) {
        words.push("limits of its own".to_owned());
    }
    words.join(", ")
}

/// The form that adds a host.
fn add(context: &Context<'_>) -> Html {
    let mut html = Html::default();
    html.markup("<h2>Add a host</h2>");
    html.add(&view::form(context, "card", &[("act", "pds/requestCrawl")]));
    html.markup(
        "<div class=\"field\"><label for=\"hostname\">Name or address of a PDS</label>\
         <input type=\"text\" class=\"mono\" id=\"hostname\" name=\"hostname\" required \
         autocomplete=\"off\" spellcheck=\"false\" aria-describedby=\"hostname-help\"></div>\
         <p id=\"hostname-help\" class=\"small dim\">Such as <code>pds.example.com</code>. It is asked \
         whether it is a PDS before it is added. The switch and the limits of requestCrawl do not hold \
         here; bans do.</p><p><button class=\"main\">Add it</button></p></form>",
    );
    html
}
