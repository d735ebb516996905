//! What the operator says of hosts, with the paths and the JSON of the reference relay
//! (<https://github.com/bluesky-social/indigo/blob/main/cmd/relay/handlers_admin.go>).

use serde_json::{Map, Value, json};

use super::{App, Request, Response};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    control::domain::Domain,
    host::decision::{Change, Decision, DecisionError},
    http::{hosts::not_found, query::Query, request::Method},
};

/// Answers a request that is the operator's; none where the path is not one of these.
pub(super) fn route(app: &App, request: &Request) -> Option<Response> {
    let decide = |decision: fn(&Request) -> Result<Decision, Response>| {
        if request.method != Method::Post {
            return Response::method_not_allowed("POST");
        }
        match decision(request) {
            Ok(decision) => answer(app.hosts.decide(decision)),
            Err(error) => error,
        }
    };
    Some(match request.path.as_str() {
        "/admin/pds/block" => decide(|request| ban(request, true)),
        "/admin/pds/unblock" => decide(|request| ban(request, false)),
        "/admin/pds/changeLimits" => decide(change),
        "/admin/subs/banDomain" => decide(|request| ban_domain(request, true)),
        "/admin/subs/unbanDomain" => decide(|request| ban_domain(request, false)),
        "/admin/subs/listDomainBans" => banned_domains(app, request),
        _ => return None,
    })
}

fn ban(request: &Request, banned: bool) -> Result<Decision, Response> {
    let query = Query::parse(&request.query)?;
    let host = host(query.get("host").unwrap_or_default())?;
    Ok(Decision::Ban { host, banned })
}

fn ban_domain(request: &Request, banned: bool) -> Result<Decision, Response> {
    let body = body(request)?;
    let domain = text(&body, "domain")?;
    let domain = Domain::parse(domain.trim())
        .map_err(|error| Response::invalid(&format!("Domain is {error}")))?;
    Ok(Decision::BanDomain { domain, banned })
}

fn change(request: &Request) -> Result<Decision, Response> {
    let body = body(request)?;
    let host = host(text(&body, "host")?)?;
    let change = Change {
        account_limit: optional(&body, "repo_limit", "a number of accounts", Value::as_u64)?,
        lenient: optional(&body, "lenient", "true or false", Value::as_bool)?,
    };
    if change == Change::default() {
        let message = "Nothing to change: repo_limit or lenient is needed";
        return Err(Response::invalid(message));
    }
    Ok(Decision::Change { host, change })
}

fn banned_domains(app: &App, request: &Request) -> Response {
    if !request.method.reads() {
        return Response::method_not_allowed("GET, HEAD");
    }
    let domains = app.hosts.banned_domains();
    let domains: Vec<&str> = domains.iter().map(Domain::as_str).collect();
    Response::json(&json!({ "banned_domains": domains }))
}

fn answer(outcome: Result<(), DecisionError>) -> Response {
    match outcome {
        // A string: clients read it as one.
        Ok(()) => Response::json(&json!({ "success": "true" })),
        Err(DecisionError::NoSuchHost) => not_found(),
        Err(DecisionError::Failed(error)) => {
            log::error!("admin: {error}");
            let message = "The decision could not be kept, and is not in force";
            Response::error(500, "InternalServerError", message)
        }
    }
}

/// A host as requestCrawl would name it.
fn host(text: &str) -> Result<Hostname, Response> {
    Endpoint::parse(text.trim())
        .map(|endpoint| endpoint.host)
        .map_err(|error| Response::invalid(&format!("host is {error}")))
}

/// The body, with its names in lower case: clients differ in how they write them.
fn body(request: &Request) -> Result<Map<String, Value>, Response> {
    match serde_json::from_slice(&request.body) {
        Ok(Value::Object(fields)) => {
            let lower = fields.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v));
            Ok(lower.collect())
        }
        _ => Err(Response::invalid("The request body is not a JSON object")),
    }
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Result<&'a str, Response> {
    let value = body.get(name).and_then(Value::as_str);
    value.ok_or_else(|| Response::invalid(&format!("{name} is missing, or is not a string")))
}

fn optional<T>(
    body: &Map<String, Value>,
    name: &str,
    what: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, Response> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Response::invalid(&format!("{name} is not {what}"))),
        },
    }
}
