//! The queries about accounts and hosts
//! (<https://github.com/bluesky-social/atproto/tree/main/lexicons/com/atproto/sync>).

pub mod catalog;
mod collections;
mod hosts;
mod params;
mod repos;

use std::fmt::Display;

use serde::{Serialize, Serializer};

use self::{catalog::Catalog, params::Params};
use super::{request::Request, response::Response};

/// Every path of XRPC begins with this.
pub const PREFIX: &str = "/xrpc/";

/// What answers a query; the error is an answer too.
type Query = fn(&dyn Catalog, &Params<'_>) -> Result<Response, Response>;

/// Whether a path is that of a list, a page of which takes thousands of times as long as anything else.
pub fn is_list(path: &str) -> bool {
    let lists = ["listHosts", "listRepos", "listReposByCollection"];
    let name = path.strip_prefix("/xrpc/com.atproto.sync.");
    name.is_some_and(|name| lists.contains(&name))
}

/// Answers a request under [`PREFIX`] that has no route of its own.
pub fn route(catalog: &dyn Catalog, request: &Request) -> Response {
    let Some(query) = query(&request.path) else {
        return Response::error(501, "MethodNotImplemented", "Method not implemented");
    };
    if !request.method.reads() {
        return Response::method_not_allowed("GET, HEAD");
    }
    let params = Params::parse(&request.query);
    let answer = params.and_then(|params| query(catalog, &params));
    answer.unwrap_or_else(|error| error)
}

fn query(path: &str) -> Option<Query> {
    Some(match path.strip_prefix(PREFIX)? {
        "com.atproto.sync.getHostStatus" => hosts::status,
        "com.atproto.sync.getLatestCommit" => repos::latest_commit,
        "com.atproto.sync.getRepo" => repos::repo,
        "com.atproto.sync.getRepoStatus" => repos::status,
        "com.atproto.sync.listHosts" => hosts::list,
        "com.atproto.sync.listReposByCollection" => collections::list,
        "com.atproto.sync.listRepos" => repos::list,
        _ => return None,
    })
}

/// A page of accounts. It is written as it is: values of JSON, which own every word and are copied into each
/// other, cost a page of a thousand accounts as much as all the rest of it.
#[derive(Serialize)]
struct Page<T> {
    /// That of the next one; none: this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    repos: Vec<T>,
}

/// A value as its text.
fn shown<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// 500: the catalog could not be read.
fn failed(error: String) -> Response {
    log::error!(error:% = error; "a query can not be answered");
    Response::error(
        500,
        "InternalServerError",
        "What is asked for can not be read",
    )
}
