//! `listHosts` and `getHostStatus`.

use serde_json::{Value, json};

use super::{
    super::response::Response,
    catalog::{Catalog, HostView},
    failed,
    params::{Params, unknown_cursor},
};
use crate::{
    limits::{LIST_HOSTS_DEFAULT, LIST_HOSTS_MAX},
    store::account::HostId,
};

/// `com.atproto.sync.listHosts`: every host that is known, oldest first, whatever its status.
pub(super) fn list(catalog: &dyn Catalog, params: &Params<'_>) -> Result<Response, Response> {
    let limit = params.limit(1..=LIST_HOSTS_MAX, LIST_HOSTS_DEFAULT)?;
    let cursor = params.cursor()?.map(u32::try_from).transpose();
    let cursor = cursor.map_err(|_| unknown_cursor())?;
    let after = HostId(cursor.unwrap_or(0));
    // With the host of the cursor itself, whose absence shows that the cursor is none of ours, and
    // with one beyond the page, which shows that there is a next one.
    let before = HostId(after.0.saturating_sub(1));
    let mut hosts = catalog.hosts_after(before, limit + 2).map_err(failed)?;
    if cursor.is_some() && hosts.is_empty() {
        return Err(unknown_cursor());
    }
    hosts.retain(|host| host.id > after);
    let next = hosts
        .get(limit)
        .and(hosts.get(limit - 1))
        .map(|last| last.id);
    let items: Vec<Value> = hosts.iter().take(limit).map(item).collect();
    let mut body = json!({ "hosts": items });
    if let Some(next) = next {
        body["cursor"] = next.to_string().into();
    }
    Ok(Response::json(&body))
}

/// `com.atproto.sync.getHostStatus`.
pub(super) fn status(catalog: &dyn Catalog, params: &Params<'_>) -> Result<Response, Response> {
    let name = params.hostname()?;
    match catalog.host(&name).map_err(failed)? {
        Some(host) => Ok(Response::json(&item(&host))),
        None => Err(Response::error(
            404,
            "HostNotFound",
            "This relay does not know the host",
        )),
    }
}

fn item(host: &HostView) -> Value {
    json!({
        "hostname": host.name.as_str(),
        "seq": host.seq,
        "accountCount": host.accounts,
        "status": host.status.name(),
    })
}
