//! `listReposByCollection`.

use serde_json::{Value, json};

use super::{
    super::response::Response,
    catalog::Catalog,
    failed,
    params::{Params, unknown_cursor},
};
use crate::limits::{LIST_COLLECTION_DEFAULT, LIST_COLLECTION_MAX};

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
    let item = |did| json!({ "did": did });
    let repos: Vec<Value> = page.dids.iter().map(|did| item(did.as_str())).collect();
    let mut body = json!({ "repos": repos });
    if let Some(next) = page.next {
        body["cursor"] = next.to_string().into();
    }
    Ok(Response::json(&body))
}
