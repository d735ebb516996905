//! What the operator says of accounts: takedowns; and what is known of one.

use serde_json::json;

use super::{App, Request, Response, page_size, read::did, unavailable};
use crate::{
    atproto::did::Did,
    http::query::Query,
    limits::TAKEDOWNS_PAGE_MAX,
    store::account::{Sanction, Status},
};

pub(super) fn not_found() -> Response {
    let message = "No event of this account was ever seen here";
    Response::error(404, "RepoNotFound", message)
}

/// A page of accounts that are taken down, in the order of their DIDs; the cursor is the last one.
pub(super) fn takedowns(app: &App, request: &Request) -> Result<Response, Response> {
    let query = Query::parse(&request.query)?;
    let size = page_size(&query, "size", TAKEDOWNS_PAGE_MAX)?;
    let after = query.get("cursor").unwrap_or_default();
    let dids = app.accounts.takedowns(after, size + 1);
    let mut dids = dids.map_err(|error| unavailable(&error))?;
    let more = dids.len() > size;
    dids.truncate(size);
    let names: Vec<&str> = dids.iter().map(Did::as_str).collect();
    let mut page = json!({ "dids": names });
    if let (true, Some(last)) = (more, names.last()) {
        page["cursor"] = (*last).into();
    }
    Ok(Response::json(&page))
}

/// What is known of an account, and what is against it here.
pub(super) fn lookup(app: &App, request: &Request) -> Result<Response, Response> {
    let did = did(request)?;
    let found = app.accounts.account(&did);
    let found = found.map_err(|error| unavailable(&error))?;
    let (account, host) = found.ok_or_else(not_found)?;
    let status = |status: &Status| json!({ "active": status.active, "status": status.reason });
    let sanction = account.local.sanction;
    Ok(Response::json(&json!({
        "did": did.as_str(),
        "host": host.as_ref().map(|host| host.as_str()),
        "status": status(account.effective()),
        "upstream": status(&account.upstream),
        "takendown": sanction == Some(Sanction::Takedown),
        "suspended": sanction == Some(Sanction::Suspension),
        "throttled": account.local.throttled,
        "rev": account.head.map(|head| head.rev.to_string()),
        "commit": account.head.map(|head| head.commit.to_string()),
        "data": account.head.map(|head| head.data.to_string()),
        "listed": account.listed.map(|listed| {
            json!({ "rev": listed.rev.to_string(), "commit": listed.commit.to_string() })
        }),
        "last_upstream_seq": account.seen.seq,
        "number": account.ordinal,
    })))
}
