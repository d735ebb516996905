//! What the operator says of the relay as a whole, and what he has said.

use serde_json::{Value, json};

use super::{App, Request, Response, page_size, unavailable};
use crate::{
    atproto::datetime, control::settings::Setting, http::query::Query, limits::AUDIT_PAGE_MAX,
};

pub(super) fn enabled(app: &App, _: &Request) -> Result<Response, Response> {
    Ok(Response::json(
        &json!({ "enabled": app.policy.takes_requests() }),
    ))
}

pub(super) fn per_day_limit(app: &App, _: &Request) -> Result<Response, Response> {
    let limit = app.policy.number(Setting::NewHostsPerDay);
    Ok(Response::json(&json!({ "limit": limit })))
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
