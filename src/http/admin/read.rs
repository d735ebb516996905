//! What requests to the admin API say: each function reads one of its methods into an [`Order`]. Pure, and
//! anything may come: the error is the answer.

use serde_json::{Map, Value};

use super::{
    Request, Response,
    order::{self, Order},
};
use crate::{
    atproto::{datetime, did::Did, hostname::Endpoint, hostname::Hostname, nsid::Nsid},
    backfill::Wanted,
    control::settings::{Choice, Setting},
    host::decision::Change,
    http::{body as bodies, query::Query},
    sequencer::event::Ruling,
};

pub(super) fn request_crawl(request: &Request) -> Result<Order, Response> {
    let hostname = bodies::hostname(&request.body)?;
    Ok(Order::Crawl { hostname })
}

pub(super) fn block(request: &Request) -> Result<Order, Response> {
    let (host, banned) = (host(request)?, true);
    Ok(Order::Ban { host, banned })
}

pub(super) fn unblock(request: &Request) -> Result<Order, Response> {
    let (host, banned) = (host(request)?, false);
    Ok(Order::Ban { host, banned })
}

/// Ends a connection. It is made anew soon, unless `block` says that the host is banned from now on.
pub(super) fn disconnect(request: &Request) -> Result<Order, Response> {
    let host = host(request)?;
    let block = match parameter(request, &["block"])? {
        None | Some(Value::Null) => false,
        Some(Value::Bool(block)) => block,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => true,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => false,
        Some(_) => return Err(Response::invalid("block is not true or false")),
    };
    Ok(Order::Disconnect { host, block })
}

pub(super) fn ban_domain(request: &Request) -> Result<Order, Response> {
    let (domain, banned) = (order::domain(&text(request, &["domain"])?)?, true);
    Ok(Order::BanDomain { domain, banned })
}

pub(super) fn unban_domain(request: &Request) -> Result<Order, Response> {
    let (domain, banned) = (order::domain(&text(request, &["domain"])?)?, false);
    Ok(Order::BanDomain { domain, banned })
}

/// Other terms for a host. What is `null` is the default again; what is not there stays.
pub(super) fn change(request: &Request) -> Result<Order, Response> {
    let said = body(request)?;
    let number = |name: &str| match said.get(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(value) => order::limit(name, value).map(|number| Some(Some(number))),
    };
    let switch = |name: &str| match said.get(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::Bool(on)) => Ok(Some(Some(*on))),
        Some(_) => Err(Response::invalid(&format!("{name} is not true or false"))),
    };
    let change = Change {
        lenient: switch("lenient")?.map(|on| on.unwrap_or(false)),
        trusted: switch("trusted")?,
        accounts: number("repo_limit")?,
        events_per_second: number("events_per_second")?,
        events_per_hour: number("events_per_hour")?,
        events_per_day: number("events_per_day")?,
    };
    let silenced = switch("account_limit_alerts_silenced")?.map(|on| on.unwrap_or(false));
    if change == Change::default() && silenced.is_none() {
        let message = "Nothing to change: give repo_limit, events_per_second, events_per_hour, \
                       events_per_day, trusted, lenient or account_limit_alerts_silenced";
        return Err(Response::invalid(message));
    }
    let host = host(request)?;
    Ok(Order::Change {
        host,
        change,
        silenced,
    })
}

pub(super) fn alert_sent(request: &Request) -> Result<Order, Response> {
    let kind = text(request, &["kind"])?;
    if !matches!(kind.as_str(), "warning" | "recovery") {
        return Err(Response::invalid("kind is not \"warning\" or \"recovery\""));
    }
    let sent = text(request, &["sentat"])?;
    datetime::check(&sent).map_err(|error| Response::invalid(&format!("sentAt is {error}")))?;
    let host = host(request)?;
    Ok(Order::Alert { host, kind, sent })
}

/// Another place from which a host is read.
pub(super) fn reset(request: &Request) -> Result<Order, Response> {
    let host = host(request)?;
    let said = parameter(request, &["cursor"])?;
    let to = order::place(&said.unwrap_or_default())?;
    Ok(Order::Reset { host, to })
}

pub(super) fn set_enabled(request: &Request) -> Result<Order, Response> {
    // What the reference relay takes for a yes or a no.
    let enabled = match text(request, &["enabled"])?.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => return Err(Response::invalid("enabled is not true or false")),
    };
    let choice = Choice::Switch(enabled);
    Ok(Order::Set(vec![(Setting::RequestCrawl, Some(choice))]))
}

pub(super) fn set_per_day_limit(request: &Request) -> Result<Order, Response> {
    let limit = text(request, &["limit"])?;
    let limit = limit.parse::<u64>().unwrap_or(u64::MAX).into();
    let setting = Setting::NewHostsPerDay;
    let choice = setting
        .choice(&limit)
        .map_err(|_| Response::invalid("limit is not a number"))?;
    Ok(Order::Set(vec![(setting, Some(choice))]))
}

/// Changes settings by name; `null` takes a change back. All names and values are checked first.
pub(super) fn change_settings(request: &Request) -> Result<Order, Response> {
    let said = body(request)?;
    if said.is_empty() {
        return Err(Response::invalid(
            "Nothing to change: the body names no setting",
        ));
    }
    let mut changes = Vec::new();
    for (name, value) in &said {
        let Some(setting) = Setting::parse(name) else {
            let known = Setting::ALL.map(Setting::name).join(", ");
            let message = format!("{name} is not a setting; there are {known}");
            return Err(Response::invalid(&message));
        };
        let choice = match value {
            Value::Null => None,
            value => Some(setting.choice(value).map_err(|e| Response::invalid(&e))?),
        };
        changes.push((setting, choice));
    }
    Ok(Order::Set(changes))
}

pub(super) fn take_down(request: &Request) -> Result<Order, Response> {
    rule(request, Ruling::Takedown)
}

pub(super) fn reverse_takedown(request: &Request) -> Result<Order, Response> {
    rule(request, Ruling::Reversal)
}

fn rule(request: &Request, ruling: Ruling) -> Result<Order, Response> {
    let did = did(request)?;
    Ok(Order::Rule { did, ruling })
}

/// Who has records of what, from another relay.
pub(super) fn begin_collections(request: &Request) -> Result<Order, Response> {
    let source = source(&text(request, &["source"])?)?;
    let names = collections(request)?;
    Ok(Order::Fill(Wanted::Collections { source, names }))
}

/// Accounts, from one host or from all.
pub(super) fn begin_accounts(request: &Request) -> Result<Order, Response> {
    let host = match parameter(request, &["host", "hostname"])? {
        None | Some(Value::Null) => None,
        Some(_) => Some(order::host(&text(request, &["host", "hostname"])?)?),
    };
    Ok(Order::Fill(Wanted::Accounts { host }))
}

/// Ends the one that runs; saying it twice is no error.
pub(super) fn cancel(_: &Request) -> Result<Order, Response> {
    Ok(Order::EndFilling)
}

/// Another relay, or an index.
pub(super) fn source(name: &str) -> Result<Endpoint, Response> {
    Endpoint::parse(name).map_err(|error| Response::invalid(&format!("source is {error}")))
}

/// The names in `collections`: separated by commas, or an array of JSON.
fn collections(request: &Request) -> Result<Vec<Nsid>, Response> {
    let wrong = || Response::invalid("collections is neither a list of names nor text");
    let names: Vec<String> = match parameter(request, &["collections"])? {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        Some(Value::Array(names)) => {
            let text = |name: Value| name.as_str().map(|name| name.trim().to_owned());
            let names: Option<_> = names.into_iter().map(text).collect();
            names.ok_or_else(wrong)?
        }
        Some(_) => return Err(wrong()),
    };
    named(names.iter().map(String::as_str))
}

/// Collections by name; empty names are none.
pub(super) fn named<'a>(names: impl Iterator<Item = &'a str>) -> Result<Vec<Nsid>, Response> {
    let named = names.filter(|name| !name.is_empty());
    let parsed = named.map(|name| {
        let shown: String = name.chars().take(Nsid::LEN_MAX).collect();
        Nsid::parse(name)
            .map_err(|error| Response::invalid(&format!("{shown:?} in collections is {error}")))
    });
    parsed.collect()
}

/// Sends a subscriber away; nothing keeps it from coming again.
pub(super) fn dismiss(request: &Request) -> Result<Order, Response> {
    let id = match parameter(request, &["id"])? {
        Some(Value::String(text)) => text.parse().ok(),
        other => other.as_ref().and_then(Value::as_u64),
    };
    let subscriber = id.ok_or_else(|| Response::invalid("id is not the number of a subscriber"))?;
    Ok(Order::Dismiss { subscriber })
}

/// A host: `host` or `hostname`, in the query or in the body.
pub(super) fn host(request: &Request) -> Result<Hostname, Response> {
    order::host(&text(request, &["host", "hostname"])?)
}

/// The account that a request is about.
pub(super) fn did(request: &Request) -> Result<Did, Response> {
    order::did(&text(request, &["did"])?)
}

/// The body, with its names in lower case: clients differ in how they write them. None: no names.
fn body(request: &Request) -> Result<Map<String, Value>, Response> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => {
            let lower = fields.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v));
            Ok(lower.collect())
        }
        _ => Err(Response::invalid("The request body is not a JSON object")),
    }
}

/// A parameter, which is in the query or in the body.
fn parameter(request: &Request, names: &[&str]) -> Result<Option<Value>, Response> {
    let query = Query::parse(&request.query)?;
    if let Some(value) = names.iter().find_map(|name| query.get(name)) {
        return Ok(Some(value.into()));
    }
    let mut body = body(request)?;
    Ok(names.iter().find_map(|name| body.remove(*name)))
}

/// A parameter that is text and must be there.
fn text(request: &Request, names: &[&str]) -> Result<String, Response> {
    match parameter(request, names)? {
        Some(Value::String(text)) => Ok(text.trim().to_owned()),
        _ => {
            let name = names.first().copied().unwrap_or_default();
            let message = format!("{name} is missing, or is not a string");
            Err(Response::invalid(&message))
        }
    }
}
