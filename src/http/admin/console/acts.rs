//! Forms as orders, and orders as the fields of a form.
//!
//! A form names what it does by the path of the admin API that does the same. A limit that is empty is
//! the default one, and what a form says of a host that is so already is no change.

use serde_json::Value;

use super::{super::read, App, Order, Query, Response, order};
use crate::{
    atproto::{hostname::Hostname, nsid::Nsid},
    backfill::Wanted,
    control::{
        HostTerms,
        settings::{Choice, Setting},
    },
    host::decision::{Change, Place},
    http::hosts::not_found,
    sequencer::event::Ruling,
};

/// What a form wants done.
pub(super) fn read(app: &App, form: &Query) -> Result<Order, Response> {
    let text = |name: &str| {
        let value = form.get(name).map(str::trim).filter(|v| !v.is_empty());
        value.ok_or_else(|| Response::invalid(&format!("{name} is missing")))
    };
    let host = || order::host(text("host")?);
    let domain = || order::domain(text("domain")?);
    let did = || order::did(text("did")?);
    Ok(match form.get("act").unwrap_or_default() {
        "pds/requestCrawl" => Order::Crawl {
            hostname: text("hostname")?.to_owned(),
        },
        "pds/block" => Order::Ban {
            host: host()?,
            banned: true,
        },
        "pds/unblock" => Order::Ban {
            host: host()?,
            banned: false,
        },
        "subs/killUpstream" => Order::Disconnect {
            host: host()?,
            block: form.get("block") == Some("true"),
        },
        "subs/banDomain" => Order::BanDomain {
            domain: domain()?,
            banned: true,
        },
        "subs/unbanDomain" => Order::BanDomain {
            domain: domain()?,
            banned: false,
        },
        "pds/changeLimits" => change(app, host()?, form)?,
        "hosts/resetCursor" => Order::Reset {
            host: host()?,
            to: place(form)?,
        },
        "repo/takeDown" => Order::Rule {
            did: did()?,
            ruling: Ruling::Takedown,
        },
        "repo/reverseTakedown" => Order::Rule {
            did: did()?,
            ruling: Ruling::Reversal,
        },
        "consumers/disconnect" => Order::Dismiss {
            subscriber: text("id")?
                .parse()
                .map_err(|_| Response::invalid("id is not the number of a subscriber"))?,
        },
        "settings/change" => Order::Set(vec![setting(app, form)?]),
        "backfill-collections" => Order::Fill(Wanted::Collections {
            source: read::source(text("source")?)?,
            names: read::named(listed(form.said("collections").unwrap_or_default()))?,
        }),
        "backfill-accounts" => Order::Fill(Wanted::Accounts {
            host: form.get("host").map(|_| host()).transpose()?,
        }),
        "backfill/cancel" => Order::EndFilling,
        _ => {
            return Err(Response::invalid(
                "This form does nothing that is known here",
            ));
        }
    })
}

/// The fields of a form that [`read()`] reads as this order. Alerts of siblings have no form.
pub(super) fn fields(order: &Order) -> Vec<(&'static str, String)> {
    let mut fields = vec![("act", order.path().to_owned())];
    let mut say = |name, value: &str| fields.push((name, value.to_owned()));
    match order {
        Order::Crawl { hostname } => say("hostname", hostname),
        Order::Ban { host, .. } | Order::Alert { host, .. } => say("host", host.as_str()),
        Order::Disconnect { host, block } => {
            say("host", host.as_str());
            say("block", &block.to_string());
        }
        Order::BanDomain { domain, .. } => say("domain", domain.as_str()),
        Order::Change { host, change, .. } => {
            say("host", host.as_str());
            let number = |limit: Option<u64>| limit.map(|n| n.to_string()).unwrap_or_default();
            for (name, limit) in limits(change) {
                if let Some(limit) = limit {
                    say(name, &number(limit));
                }
            }
            if let Some(trusted) = change.trusted {
                say("trusted", trusted.map_or("", yes_or_no));
            }
            if let Some(lenient) = change.lenient {
                say("lenient", yes_or_no(lenient));
            }
        }
        Order::Reset { host, to } => {
            say("host", host.as_str());
            match to {
                Place::Oldest => say("to", "oldest"),
                Place::Live => say("to", "live"),
                Place::After(seq) => {
                    say("to", "after");
                    say("seq", &seq.to_string());
                }
            }
        }
        Order::Rule { did, .. } => say("did", did.as_str()),
        Order::Dismiss { subscriber } => say("id", &subscriber.to_string()),
        Order::Fill(Wanted::Collections { source, names }) => {
            say("source", &source.origin());
            let names: Vec<&str> = names.iter().map(Nsid::as_str).collect();
            say("collections", &names.join("\n"));
        }
        Order::Fill(Wanted::Accounts { host }) => {
            if let Some(host) = host {
                say("host", host.as_str());
            }
        }
        Order::EndFilling => {}
        Order::Set(changes) => {
            for (setting, choice) in changes {
                say("setting", setting.name());
                match choice {
                    Some(choice) => say("value", &shown(choice)),
                    None => say("reset", "yes"),
                }
            }
        }
    }
    fields
}

/// The limits that a form may change, with what a change says of them.
fn limits(change: &Change) -> [(&'static str, Option<Option<u64>>); 4] {
    [
        ("repo_limit", change.accounts),
        ("events_per_second", change.events_per_second),
        ("events_per_hour", change.events_per_hour),
        ("events_per_day", change.events_per_day),
    ]
}

fn yes_or_no(yes: bool) -> &'static str {
    match yes {
        true => "yes",
        false => "no",
    }
}

fn change(app: &App, host: Hostname, form: &Query) -> Result<Order, Response> {
    let known = app.hosts.detail(&host);
    let known = known.map_err(|e| super::super::unavailable(&e))?;
    let terms = known.ok_or_else(not_found)?.row.terms;
    let change = said_of_terms(form, &terms)?;
    if change == Change::default() {
        let message = "All that the form says of this host is so already";
        return Err(Response::invalid(message));
    }
    Ok(Order::Change {
        host,
        change,
        silenced: None,
    })
}

/// What a form says of a host that is not so yet.
fn said_of_terms(form: &Query, now: &HostTerms) -> Result<Change, Response> {
    let limit = |name: &str, now: Option<u64>| -> Result<_, Response> {
        let Some(text) = form.said(name) else {
            return Ok(None);
        };
        let said = match text.trim() {
            "" => None,
            text => Some(order::limit(name, &number(text))?),
        };
        Ok((said != now).then_some(said))
    };
    let switch = |name: &str| match form.said(name) {
        None => Ok(None),
        Some("") => Ok(Some(None)),
        Some("yes") => Ok(Some(Some(true))),
        Some("no") => Ok(Some(Some(false))),
        Some(_) => Err(Response::invalid(&format!("{name} is not yes or no"))),
    };
    let lenient = switch("lenient")?.map(|on| on.unwrap_or(false));
    Ok(Change {
        lenient: lenient.filter(|on| *on != now.lenient),
        trusted: switch("trusted")?.filter(|trusted| *trusted != now.trusted),
        accounts: limit("repo_limit", now.accounts)?,
        events_per_second: limit("events_per_second", now.events_per_second)?,
        events_per_hour: limit("events_per_hour", now.events_per_hour)?,
        events_per_day: limit("events_per_day", now.events_per_day)?,
    })
}

/// A number as JSON has it; what is none stays a text, which no limit is.
fn number(text: &str) -> Value {
    let digits = text.replace(',', "");
    digits
        .parse::<u64>()
        .map_or_else(|_| text.into(), Value::from)
}

fn place(form: &Query) -> Result<Place, Response> {
    let said = match form.get("to") {
        Some("after") => form.get("seq").map(|seq| number(seq.trim())),
        other => other.map(Value::from),
    };
    order::place(&said.unwrap_or_default())
}

/// A setting and what it is to be; with `reset`, what the configuration says.
fn setting(app: &App, form: &Query) -> Result<(Setting, Option<Choice>), Response> {
    let name = form.get("setting").unwrap_or_default();
    let setting =
        Setting::parse(name).ok_or_else(|| Response::invalid("There is no such setting"))?;
    if form.get("reset") == Some("yes") {
        return Ok((setting, None));
    }
    let text = form.said("value").unwrap_or_default().trim();
    let value = match app.policy.default_of(setting) {
        Choice::Number(_) => number(text),
        Choice::Switch(_) => match text {
            "yes" => true.into(),
            "no" => false.into(),
            other => other.into(),
        },
        Choice::Domains(_) => listed(text).collect(),
    };
    let choice = setting.choice(&value).map_err(|e| Response::invalid(&e))?;
    Ok((setting, Some(choice)))
}

/// Names that are written one after the other.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let names = text.split(|c: char| c.is_whitespace() || c == ',');
    names.filter(|name| !name.is_empty())
}

/// A choice as a field of a form has it.
pub(super) fn shown(choice: &Choice) -> String {
    match choice {
        Choice::Number(number) => number.to_string(),
        Choice::Switch(on) => yes_or_no(*on).to_owned(),
        Choice::Domains(domains) => domains.join("\n"),
    }
}
