//! `listRepos`, `getRepoStatus`, `getLatestCommit` and `getRepo`.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::response::Response,
    Page,
    catalog::{AccountView, Catalog},
    failed,
    params::{Params, unknown_cursor},
    shown,
};
use crate::{
    atproto::{cid::Cid, did::Did, tid::Tid},
    limits::{
        LIST_REPOS_CHUNK, LIST_REPOS_DEFAULT, LIST_REPOS_EMPTY_SCAN_MAX, LIST_REPOS_MAX,
        LIST_REPOS_SCAN_MAX,
    },
    store::account::{HostId, Listed, Status},
};

/// `com.atproto.sync.listRepos`: every account of which a commit was seen, or listed by its host, in the order of first
/// appearance, with its status.
pub(super) fn list(catalog: &dyn Catalog, params: &Params<'_>) -> Result<Response, Response> {
    let limit = params.limit(1..=LIST_REPOS_MAX, LIST_REPOS_DEFAULT)?;
    Ok(Response::json(&page(catalog, params.cursor()?, limit)?))
}

/// `com.atproto.sync.getRepoStatus`.
pub(super) fn status(catalog: &dyn Catalog, params: &Params<'_>) -> Result<Response, Response> {
    let account = known(catalog, params)?;
    let mut body = status_of(&account);
    if let Some(head) = account.head.filter(|_| account.status.active) {
        body["rev"] = head.rev.to_string().into();
    }
    Ok(Response::json(&body))
}

/// `com.atproto.sync.getLatestCommit`.
pub(super) fn latest_commit(
    catalog: &dyn Catalog,
    params: &Params<'_>,
) -> Result<Response, Response> {
    let account = known(catalog, params)?;
    check_active(&account.status)?;
    let head = account
        .head
        .ok_or_else(|| not_found("No commit of this account was seen yet"))?;
    let body = json!({ "cid": head.commit.to_string(), "rev": head.rev.to_string() });
    Ok(Response::json(&body))
}

/// `com.atproto.sync.getRepo`: a relay keeps no repositories, and sends the client to the host that
/// does (<https://atproto.com/specs/sync>).
pub(super) fn repo(catalog: &dyn Catalog, params: &Params<'_>) -> Result<Response, Response> {
    params.rev("since")?;
    let account = known(catalog, params)?;
    check_active(&account.status)?;
    let endpoint = catalog
        .endpoint(account.host)
        .ok_or_else(|| not_found("The account's host is not known"))?;
    let (origin, query) = (endpoint.origin(), params.raw());
    let location = format!("{origin}/xrpc/com.atproto.sync.getRepo?{query}");
    Ok(Response::text("text/plain", String::new())
        .status(302)
        .with("Location", location))
}

/// The account that is asked about.
fn known(catalog: &dyn Catalog, params: &Params<'_>) -> Result<AccountView, Response> {
    let account = catalog.account(&params.did()?).map_err(failed)?;
    // Of one for which no host has spoken nothing is known but its name.
    let account = account.filter(|account| account.host != HostId::NOWHERE);
    account.ok_or_else(|| not_found("This relay does not know the account"))
}

/// What is served of an account is served only while it is active. The lexicons have three names
/// for the reason why it is not; any further reason is a deactivation to who asks.
fn check_active(status: &Status) -> Result<(), Response> {
    if status.active {
        return Ok(());
    }
    let (name, message) = match status.reason.as_deref() {
        Some("deleted") => return Err(not_found("The account is deleted")),
        Some("takendown") => ("RepoTakendown", "The account is taken down"),
        Some("suspended") => ("RepoSuspended", "The account is suspended"),
        _ => ("RepoDeactivated", "The account is not active"),
    };
    Err(Response::error(403, name, message))
}

fn not_found(message: &str) -> Response {
    Response::error(404, "RepoNotFound", message)
}

fn status_of(account: &AccountView) -> Value {
    let mut body = json!({ "did": account.did.as_str(), "active": account.status.active });
    if let Some(reason) = &account.status.reason {
        body["status"] = reason.as_ref().into();
    }
    body
}

/// One account of the list.
#[derive(Serialize)]
struct Item {
    active: bool,
    #[serde(serialize_with = "shown")]
    did: Did,
    #[serde(serialize_with = "shown")]
    head: Cid,
    #[serde(serialize_with = "shown")]
    rev: Tid,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Box<str>>,
}

impl Item {
    fn new(account: AccountView, head: &Listed) -> Item {
        Item {
            active: account.status.active,
            did: account.did,
            head: head.commit,
            rev: head.rev,
            status: account.status.reason,
        }
    }
}

/// Reads a page, all of it as it was at one moment. Accounts without a commit are passed over. Where
/// they are many, a page that has some accounts ends early; one that has none goes on for much longer,
/// as clients take an empty page for the end. So many in a row are only where the index of another
/// relay was brought in before the accounts of hosts.
fn page(catalog: &dyn Catalog, cursor: Option<u64>, limit: usize) -> Result<Page<Item>, Response> {
    let roll = catalog.roll();
    let after = cursor.unwrap_or(0);
    // From the place of the cursor itself: nothing there or later shows that it is none of ours.
    let mut place = after.saturating_sub(1);
    let mut page = Page {
        cursor: None,
        repos: Vec::new(),
    };
    let (mut last, mut scanned) = (after, 0);
    while scanned < LIST_REPOS_SCAN_MAX
        || (page.repos.is_empty() && scanned < LIST_REPOS_EMPTY_SCAN_MAX)
    {
        // The place of the cursor, and one beyond the page: whether there is a next one. Further parts
        // are of what is missing.
        let size = LIST_REPOS_CHUNK.max(limit + 2 - page.repos.len());
        let accounts = roll.after(place, size).map_err(failed)?;
        if cursor.is_some() && scanned == 0 && accounts.is_empty() {
            return Err(unknown_cursor());
        }
        let is_end = accounts.len() < size;
        scanned += accounts.len();
        for account in accounts {
            place = account.ordinal;
            let Some(head) = account.head.filter(|_| place > after) else {
                continue;
            };
            if page.repos.len() == limit {
                page.cursor = Some(last.to_string());
                return Ok(page);
            }
            page.repos.push(Item::new(account, &head));
            last = place;
        }
        if is_end {
            return Ok(page);
        }
    }
    page.cursor = Some(place.to_string());
    Ok(page)
}
