//! What the operator says of hosts.

use serde_json::{Value, json};

use super::{
    App, Request, Response, body,
    order::{self, Order},
    parameter, text, unavailable,
};
use crate::{
    atproto::{datetime, hostname::Hostname},
    control::{HostStatus, domain::Domain},
    host::{
        decision::{Change, Decision, DecisionError},
        quota::Span,
    },
    http::{
        crawl,
        hosts::{Detail, not_found, page},
    },
    limits::HTTP_RETRY_AFTER,
};

/// Under which note the siblings' alerts about limits of accounts are kept.
const ALERTS: &str = "account_limit_alerts";

/// Every host, in the form of the reference relay.
pub(super) fn list(app: &App, _: &Request) -> Result<Response, Response> {
    let alerts = app.office.note(ALERTS).map_err(|e| unavailable(&e))?;
    let alerts = alerts.unwrap_or_default();
    let hosts = app.hosts.details().map_err(|e| unavailable(&e))?;
    let rows = hosts.iter().map(|host| row(host, &alerts));
    Ok(Response::json(&rows.collect::<Value>()))
}

/// One host in the form of the reference relay. What it can not say, such as that there is no limit,
/// is -1 there.
fn row(detail: &Detail, alerts: &Value) -> Value {
    let row = &detail.row;
    let connected = is_connected(detail);
    let rate = |span: Span| {
        let limit = detail.limits.get(span).filter(|_| connected);
        json!({
            "Max": limit.map_or(-1.0, |limit| limit as f64),
            "Window": span.length().as_secs(),
        })
    };
    let tally = detail.tally.as_ref();
    let alert = &alerts[row.name.as_str()];
    let mut value = json!({
        "ID": row.id.0,
        "CreatedAt": datetime::from_millis(row.first_seen_ms),
        "Host": row.name.as_str(),
        "SSL": row.tls,
        "Cursor": detail.cursor,
        "Registered": detail.status == HostStatus::Active,
        "Blocked": detail.status == HostStatus::Banned,
        "CrawlRateLimit": 0,
        "RepoCount": detail.accounts,
        "RepoLimit": detail.account_limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        "HasActiveConnection": connected,
        "EventsSeenSinceStartup": tally.map_or(0, |tally| tally.received.get()),
        "PerSecondEventRate": rate(Span::Second),
        "PerHourEventRate": rate(Span::Hour),
        "PerDayEventRate": rate(Span::Day),
        "UserCount": detail.accounts,
        "AccountLimitAlertsSilenced": alert["silenced"].as_bool().unwrap_or(false),
        "AccountLimitAlertState": alert["state"].as_str().unwrap_or("none"),
    });
    if let Some(sent) = alert["sent_at"].as_str() {
        value["AccountLimitAlertSentAt"] = sent.into();
    }
    value
}

pub(super) fn is_connected(detail: &Detail) -> bool {
    let state = detail.state.as_ref();
    state.and_then(|state| state.connected_ms()).is_some()
}

/// Every host, with all that is known of it.
pub(super) fn details(app: &App, _: &Request) -> Result<Response, Response> {
    let hosts = app.hosts.details().map_err(|e| unavailable(&e))?;
    let hosts: Vec<Value> = hosts.iter().map(full).collect();
    Ok(Response::json(&json!({ "hosts": hosts })))
}

/// One host, with all that is known of it.
pub(super) fn detail(app: &App, request: &Request) -> Result<Response, Response> {
    let host = host(request)?;
    let detail = app.hosts.detail(&host).map_err(|e| unavailable(&e))?;
    let detail = detail.ok_or_else(not_found)?;
    Ok(Response::json(&full(&detail)))
}

/// What anybody may know, and what the operator has said of this very host.
fn full(detail: &Detail) -> Value {
    let terms = &detail.row.terms;
    let mut value = page(detail);
    value["id"] = detail.row.id.0.into();
    value["tls"] = detail.row.tls.into();
    value["connected"] = is_connected(detail).into();
    value["own_terms"] = json!({
        "banned": terms.banned,
        "trusted": terms.trusted,
        "lenient": terms.lenient,
        "repo_limit": terms.accounts,
        "events_per_second": terms.events_per_second,
        "events_per_hour": terms.events_per_hour,
        "events_per_day": terms.events_per_day,
    });
    value
}

/// Hosts that there is a connection to; none at all is `null` at the reference relay.
pub(super) fn connected(app: &App, _: &Request) -> Result<Response, Response> {
    let hosts = app.hosts.details().map_err(|e| unavailable(&e))?;
    let connected = hosts.iter().filter(|host| is_connected(host));
    let names: Vec<&str> = connected.map(|host| host.row.name.as_str()).collect();
    let names = if names.is_empty() {
        Value::Null
    } else {
        names.into()
    };
    Ok(Response::json(&names))
}

pub(super) fn request_crawl(request: &Request) -> Result<Order, Response> {
    let hostname = crawl::hostname(&request.body)?;
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

pub(super) fn banned_domains(app: &App, _: &Request) -> Result<Response, Response> {
    let domains = app.hosts.banned_domains();
    let domains: Vec<&str> = domains.iter().map(Domain::as_str).collect();
    Ok(Response::json(&json!({ "banned_domains": domains })))
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

pub(super) fn set_alert(
    app: &App,
    host: &str,
    change: impl FnOnce(&mut Value),
) -> Result<(), Response> {
    let changed = app.office.change_note(
        ALERTS,
        Box::new(|alerts| {
            if !alerts.is_object() {
                *alerts = json!({});
            }
            if !alerts[host].is_object() {
                alerts[host] = json!({});
            }
            change(&mut alerts[host]);
        }),
    );
    changed.map_err(|error| unavailable(&error))
}

/// Another place from which a host is read.
pub(super) fn reset(request: &Request) -> Result<Order, Response> {
    let host = host(request)?;
    let said = parameter(request, &["cursor"])?;
    let to = order::place(&said.unwrap_or_default())?;
    Ok(Order::Reset { host, to })
}

/// Puts a decision into force; the error is the answer.
pub(super) fn decide(app: &App, decision: &Decision) -> Result<(), Response> {
    app.hosts.decide(decision).map_err(|error| match error {
        DecisionError::NoSuchHost => not_found(),
        DecisionError::NotConnected => Response::invalid("There is no connection to this host"),
        DecisionError::Banned => Response::invalid("The host is banned"),
        DecisionError::Unavailable(error) => {
            log::error!(error:% = error; "a decision can not be kept now");
            let message = format!(
                "The control store does not answer, so that the change can not be kept now, and is not \
                 in force: {error}"
            );
            Response::error(503, "InternalServerError", &message).retry_after(HTTP_RETRY_AFTER)
        }
        DecisionError::Failed(error) => {
            log::error!(error:% = error; "a decision can not be kept");
            let message = "The decision could not be kept, and is not in force";
            Response::error(500, "InternalServerError", message)
        }
    })
}

/// A host: `host` or `hostname`, in the query or in the body.
fn host(request: &Request) -> Result<Hostname, Response> {
    order::host(&text(request, &["host", "hostname"])?)
}
