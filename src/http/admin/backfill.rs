//! Filling the relay with what it has not heard: beginning, ending, and how far it is.

use serde_json::{Value, json};

use super::{App, Request, Response, carry_out::Done, unavailable};
use crate::{
    atproto::datetime,
    backfill::{Kind, Refused, Status, Wanted},
    http::hosts::not_found,
};

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
