//! What the operator says of accounts: takedowns, in the form that existing tools know
//! (<https://github.com/bluesky-social/indigo/tree/main/cmd/relay>).

use serde_json::{Value, json};

use super::{App, Request, Response};
use crate::{
    atproto::did::Did,
    http::{query::Query, request::Method},
    limits::TAKEDOWNS_PAGE_MAX,
    sequencer::event::{Ruled, Ruling},
};

/// An account is to be taken down.
const TAKE_DOWN: &str = "/admin/repo/takeDown";
/// A takedown is to be taken back.
const REVERSE_TAKEDOWN: &str = "/admin/repo/reverseTakedown";
/// Which accounts are taken down.
const TAKEDOWNS: &str = "/admin/repo/takedowns";

/// Answers a request that is the operator's; none where the path is not one of these.
pub(super) fn route(app: &App, request: &Request) -> Option<Response> {
    let answer = match request.path.as_str() {
        TAKE_DOWN => rule(app, request, Ruling::Takedown),
        REVERSE_TAKEDOWN => rule(app, request, Ruling::Reversal),
        TAKEDOWNS => takedowns(app, request),
        _ => return None,
    };
    Some(answer.unwrap_or_else(|error| error))
}

fn rule(app: &App, request: &Request, ruling: Ruling) -> Result<Response, Response> {
    if request.method != Method::Post {
        return Err(Response::method_not_allowed("POST"));
    }
    let did = did(&request.body)?;
    match app.takedowns.rule(did.clone(), ruling) {
        Ok(Ruled::Holds) => {
            log::info!("admin: {} of did={did}", name(ruling));
            // Existing tools read this as text.
            Ok(Response::json(&json!({ "success": "true" })))
        }
        Ok(Ruled::Unknown) => {
            let message = "No event of this account was ever seen here";
            Err(Response::error(404, "RepoNotFound", message))
        }
        Err(error) => Err(unavailable(&error)),
    }
}

const fn name(ruling: Ruling) -> &'static str {
    match ruling {
        Ruling::Takedown => "takedown",
        Ruling::Reversal => "reversal of a takedown",
    }
}

/// The `did` of the body.
fn did(body: &[u8]) -> Result<Did, Response> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|_| Response::invalid("The request body is not JSON"))?;
    let did = body.get("did").and_then(Value::as_str);
    did.and_then(|did| Did::parse(did).ok())
        .ok_or_else(|| Response::invalid("did is missing, or is not a DID"))
}

/// A page of accounts that are taken down, in the order of their DIDs; the cursor is the last one.
fn takedowns(app: &App, request: &Request) -> Result<Response, Response> {
    if !request.method.reads() {
        return Err(Response::method_not_allowed("GET, HEAD"));
    }
    let query = Query::parse(&request.query)?;
    let size = match query.get("size") {
        None => TAKEDOWNS_PAGE_MAX,
        Some(size) => size
            .parse()
            .ok()
            .filter(|size| (1..=TAKEDOWNS_PAGE_MAX).contains(size))
            .ok_or_else(|| Response::invalid("size is not a number from 1 to 500"))?,
    };
    let after = query.get("cursor").unwrap_or_default();
    let mut dids = app
        .takedowns
        .list(after, size + 1)
        .map_err(|error| unavailable(&error))?;
    let more = dids.len() > size;
    dids.truncate(size);
    let names: Vec<&str> = dids.iter().map(Did::as_str).collect();
    let mut page = json!({ "dids": names });
    if let (true, Some(last)) = (more, names.last()) {
        page["cursor"] = (*last).into();
    }
    Ok(Response::json(&page))
}

fn unavailable(error: &str) -> Response {
    log::error!("admin: {error}");
    let message = "The relay can not do that now";
    Response::error(503, "InternalServerError", message)
}

const _: () = assert!(TAKEDOWNS_PAGE_MAX == 500, "the message above says so");
