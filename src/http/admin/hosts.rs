//! What the operator says of hosts.

use serde_json::{Value, json};

use super::{App, Request, Response, read::host, unavailable};
use crate::{
    atproto::datetime,
    control::{HostStatus, domain::Domain},
    host::{
        decision::{Decision, DecisionError},
        quota::Span,
    },
    http::hosts::{Detail, not_found, page},
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

pub(super) fn banned_domains(app: &App, _: &Request) -> Result<Response, Response> {
    let domains = app.hosts.banned_domains();
    let domains: Vec<&str> = domains.iter().map(Domain::as_str).collect();
    Ok(Response::json(&json!({ "banned_domains": domains })))
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
