//! What the operator says of the relay as a whole, and what he has said.

use serde_json::{Value, json};

use super::{App, Request, Response, body, order::Order, page_size, text, unavailable};
use crate::{
    atproto::datetime,
    control::settings::{Choice, Setting},
    http::query::Query,
    limits::AUDIT_PAGE_MAX,
};

pub(super) fn enabled(app: &App, _: &Request) -> Result<Response, Response> {
    Ok(Response::json(
        &json!({ "enabled": app.policy.takes_requests() }),
    ))
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

pub(super) fn per_day_limit(app: &App, _: &Request) -> Result<Response, Response> {
    let limit = app.policy.number(Setting::NewHostsPerDay);
    Ok(Response::json(&json!({ "limit": limit })))
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

/// Every setting, with what it is, what it would be, and what it means.
pub(super) fn settings(app: &App, _: &Request) -> Result<Response, Response> {
    let chosen = app.policy.settings();
    let rows = Setting::ALL.map(|setting| {
        let default = app.policy.default_of(setting);
        let choice = chosen.get(setting);
        let value = json!({
            "value": choice.unwrap_or(&default).json(),
            "default": default.json(),
            "changed": choice.is_some(),
            "meaning": setting.meaning(),
        });
        (setting.name().to_owned(), value)
    });
    Ok(Response::json(&Value::Object(rows.into_iter().collect())))
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

/// What the operator has done, the latest first; the cursor is the number of the last entry.
pub(super) fn audit(app: &App, request: &Request) -> Result<Response, Response> {
    let query = Query::parse(&request.query)?;
    let limit = page_size(&query, "limit", AUDIT_PAGE_MAX)?;
    let before = query.get("cursor").map(str::parse).transpose();
    let before = before.map_err(|_| Response::invalid("cursor is not a number"))?;
    let entries = app.office.audit_before(before, limit);
    let entries = entries.map_err(|error| unavailable(&error))?;
    let rows = entries.iter().map(|(number, entry)| {
        json!({
            "id": number,
            "time": datetime::from_millis(entry.at_ms),
            "actor": entry.actor,
            "action": entry.action,
            "subject": entry.subject,
            "detail": entry.detail,
        })
    });
    let mut page = json!({ "entries": rows.collect::<Vec<Value>>() });
    if let (true, Some((last, _))) = (entries.len() == limit, entries.last()) {
        page["cursor"] = last.to_string().into();
    }
    Ok(Response::json(&page))
}
