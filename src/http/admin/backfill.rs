//! Filling the relay with what it has not heard: beginning, ending, and how far it is.

use serde_json::{Value, json};

use super::{
    App, Request, Response,
    order::{self, Done, Order},
    parameter, text, unavailable,
};
use crate::{
    atproto::{datetime, hostname::Endpoint, nsid::Nsid},
    backfill::{Kind, Refused, Status, Wanted},
    http::hosts::not_found,
};

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

/// Begins a backfill. The audit log has it under `subject`.
pub(super) fn begin(app: &App, wanted: &Wanted, subject: String) -> Result<Done, Response> {
    match app.backfill.begin(wanted) {
        Ok(status) => Ok(Done {
            subject,
            answer: Response::json(&shown(status.progress.kind, Some(&status))),
        }),
        Err(refused @ Refused::Running(..)) => {
            let message = format!("There is one at a time, and {refused}");
            Err(Response::error(409, "BackfillRunning", &message))
        }
        Err(Refused::NoSuchHost) => Err(not_found()),
        Err(Refused::Banned) => Err(Response::error(409, "HostBanned", "The host is banned")),
        Err(Refused::Nothing) => Err(match wanted {
            Wanted::Collections { .. } => {
                Response::invalid("No collection is known here yet: name some in collections")
            }
            Wanted::Accounts { .. } => {
                let message = "There is no host that is not banned";
                Response::error(404, "HostNotFound", message)
            }
        }),
        Err(Refused::Unavailable(error)) => Err(unavailable(&error)),
    }
}

/// Ends the one that runs.
pub(super) fn end(app: &App) -> Done {
    let cancelled = app.backfill.cancel().map(Kind::name);
    Done {
        subject: cancelled.unwrap_or_default().to_owned(),
        answer: Response::json(&json!({
            "success": "true",
            "was_running": cancelled.is_some(),
            "cancelled": cancelled,
        })),
    }
}

/// How far the last backfill of collections is.
pub(super) fn collections_status(app: &App, _: &Request) -> Result<Response, Response> {
    let status = app.backfill.status(Kind::Collections);
    Ok(Response::json(&shown(Kind::Collections, status.as_ref())))
}

/// How far the last backfill of accounts is.
pub(super) fn accounts_status(app: &App, _: &Request) -> Result<Response, Response> {
    let status = app.backfill.status(Kind::Accounts);
    Ok(Response::json(&shown(Kind::Accounts, status.as_ref())))
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

/// How far a backfill is; none: there was none of this kind.
fn shown(kind: Kind, status: Option<&Status>) -> Value {
    let from = match kind {
        Kind::Collections => "source",
        Kind::Accounts => "host",
    };
    let item = match kind {
        Kind::Collections => "collection",
        Kind::Accounts => "host",
    };
    let Some(Status { progress, items }) = status else {
        return json!({
            "running": false,
            "state": "none",
            from: null,
            "total": 0,
            "completed": 0,
            "in_progress": null,
            "total_imported": 0,
            "already_known": 0,
            "skipped": {},
            "failed": 0,
            "failures": [],
            "left_out": 0,
            "pages": 0,
            "started_at": null,
            "ended_at": null,
            "last_error": null,
            "next_try_at": null,
        });
    };
    let at = usize::try_from(progress.completed).unwrap_or(usize::MAX);
    let present = items.get(at).filter(|_| progress.is_running());
    let failures = progress.failures.iter();
    let failures = failures.map(|f| json!({ item: f.item, "reason": f.reason }));
    let trouble = progress.trouble.as_ref();
    json!({
        "running": progress.is_running(),
        "state": progress.state(),
        from: progress.source,
        "total": progress.total,
        "completed": progress.completed,
        "in_progress": present,
        "total_imported": progress.imported,
        "already_known": progress.known,
        "skipped": progress.skipped,
        "failed": progress.failed,
        "failures": failures.collect::<Value>(),
        "left_out": progress.left_out,
        "pages": progress.pages,
        "started_at": datetime::from_millis(progress.started_ms),
        "ended_at": progress.ended_ms.map(datetime::from_millis),
        "last_error": trouble.map(|trouble| trouble.error.as_str()),
        "next_try_at": trouble.map(|trouble| datetime::from_millis(trouble.next_try_ms)),
    })
}
