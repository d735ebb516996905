//! `listReposByCollection`.

use serde::Serialize;

use super::{
    super::response::Response,
    Page,
    catalog::Catalog,
    failed,
    params::{Params, unknown_cursor},
};
use crate::{
    atproto::did::Did,
    limits::{LIST_COLLECTION_DEFAULT, LIST_COLLECTION_MAX},
};

/// `com.atproto.sync.listReposByCollection`: accounts that have records of a collection and are
/// active, in the order in which they were first seen to have some. A collection of which nobody has
/// any is an empty list. Of a cursor only this is asked, that a page may have ended there: what was on
/// that page may be gone.
pub(super) fn list(catalog: &dyn Catalog, params: &Params<'_>) -> Result<Response, Response> {
    let collection = params.collection()?;
    let limit = params.limit(1..=LIST_COLLECTION_MAX, LIST_COLLECTION_DEFAULT)?;
    let place = params.cursor()?.unwrap_or(0);
    let page = catalog.collection_after(&collection, place, limit);
    let page = page.map_err(failed)?;
    if place > page.last {
        return Err(unknown_cursor());
    }
    let item = |did| Item {
        did: Did::as_str(did),
    };
    Ok(Response::json(&Page {
        cursor: page.next.map(|next| next.to_string()),
        repos: page.dids.iter().map(item).collect(),
    }))
}

/// One account of the list.
#[derive(Serialize)]
struct Item<'a> {
    did: &'a str,
}
