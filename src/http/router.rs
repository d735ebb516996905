//! From a request to its answer.

use serde_json::{Value, json};

use super::{
    admin,
    app::{App, Check, Outcome},
    crawl, pages,
    request::{Method, Request},
    response::Response,
    subscribe, xrpc,
};

/// Whether the relay works, for people.
const HEALTH: &str = "/_health";
/// The same where other services of the network have it.
const XRPC_HEALTH: &str = "/xrpc/_health";
/// What the memory is made of.
const MEMORY: &str = "/memory.json";

/// Which listener a request came through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// Strangers reach it.
    Public,
    /// Only the operator's own machines reach it.
    Internal,
}

/// Answers a request. Only requests for which [`waits`] holds may take long.
pub fn route(app: &App, port: Port, request: &Request) -> Response {
    if request.method == Method::Options {
        return preflight();
    }
    match request.path.as_str() {
        "/" => reading(request, || pages::front(app, request)),
        "/status.json" => reading(request, || pages::status_json(app)),
        "/hosts" | "/hosts.json" | "/accounts" | "/reasons" | "/reasons.json" => {
            pages::route(app, request)
        }
        HEALTH | XRPC_HEALTH => reading(request, || health(app)),
        "/metrics" if port == Port::Internal => reading(request, || metrics(app)),
        MEMORY if port == Port::Internal => reading(request, || memory(app)),
        "/healthz" if port == Port::Internal => reading(request, || alive(app)),
        "/readyz" if port == Port::Internal => reading(request, || ready(app)),
        subscribe::PATH => subscription(request),
        crawl::PATH | crawl::NOTIFY_PATH => request_crawl(app, request),
        "/admin" => admin::route(app, request),
        path if pages::reads(path) => pages::route(app, request),
        path if path.starts_with(pages::assets::PREFIX) => pages::assets::route(request),
        path if path.starts_with(admin::PREFIX) => admin::route(app, request),
        path if path.starts_with(xrpc::PREFIX) => xrpc::route(&*app.catalog, request),
        _ => pages::nothing(app, request),
    }
}

/// Whether the answer may have to wait for another machine, for another thread, or for the disk.
/// `/metrics` takes some milliseconds once in a while, and waits for nobody.
pub fn waits(request: &Request) -> bool {
    let reads = [xrpc::PREFIX, admin::PREFIX];
    let is_health = matches!(request.path.as_str(), HEALTH | XRPC_HEALTH);
    matches!(request.path.as_str(), MEMORY | admin::HOME)
        || pages::reads(&request.path)
        || !is_health && reads.iter().any(|prefix| request.path.starts_with(prefix))
}

fn reading(request: &Request, answer: impl FnOnce() -> Response) -> Response {
    if request.method.reads() {
        answer()
    } else {
        Response::method_not_allowed("GET, HEAD")
    }
}

/// Any page may ask anything that anybody may ask; what is the operator's is refused to other pages
/// in [`admin`].
fn preflight() -> Response {
    Response::text("text/plain", String::new())
        .status(204)
        .with("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS")
        .with(
            "Access-Control-Allow-Headers",
            "Origin, Content-Type, Accept, Authorization",
        )
        .with("Access-Control-Max-Age", "86400")
}

/// Takes a request to crawl, and tells the siblings of it.
pub(super) fn request_crawl(app: &App, request: &Request) -> Response {
    let taken = app.desk.public(request);
    if taken.is_news {
        app.siblings.forward(request);
    }
    taken.answer
}

fn health(app: &App) -> Response {
    match app.health.storage() {
        Ok(()) => match app.health.full_disk() {
            None => {
                Response::json(&json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
            }
            Some(full) => Response::error(503, "DiskFull", &capitalised(&full.to_string())),
        },
        Err(error) => {
            log::error!(error:% = error; "the health check fails: storage is not available");
            Response::error(503, "InternalServerError", "Storage is not available")
        }
    }
}

fn metrics(app: &App) -> Response {
    let text = app.metrics.render() + &app.memory.metrics();
    Response::text("text/plain; version=0.0.4; charset=utf-8", text)
}

fn memory(app: &App) -> Response {
    match app.memory.document() {
        Ok(document) => Response::json(&document).with("Cache-Control", "no-store"),
        Err(error) => {
            log::error!(error:% = error; "the memory can not be shown");
            Response::error(500, "InternalServerError", "The memory can not be shown")
        }
    }
}

/// A message as it is written in answers.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// Whether the process should go on. Nothing is gained by ending it where the disk is full, so that it
/// is said and is no failure.
fn alive(app: &App) -> Response {
    match (app.health.live(), app.health.full_disk()) {
        (Ok(()), None) => Response::json(&json!({ "status": "ok" })),
        (Ok(()), Some(full)) => {
            Response::json(&json!({ "status": "ok", "warnings": [full.to_string()] }))
        }
        (Err(error), _) => not_ready(json!({}), &error),
    }
}

/// Each check by its name, with a message where something is wrong; 503 where any fails.
fn ready(app: &App) -> Response {
    let (mut checks, mut warnings, mut errors) = (serde_json::Map::new(), Vec::new(), Vec::new());
    for Check { part, outcome } in app.health.ready() {
        let shown = match outcome {
            Outcome::Ok => json!({ "status": "ok" }),
            Outcome::Warning(message) => {
                warnings.push(message.clone());
                json!({ "status": "warning", "message": message })
            }
            Outcome::Failed(message) => {
                errors.push(format!("{part}: {message}"));
                json!({ "status": "error", "message": message })
            }
        };
        checks.insert(part.to_owned(), shown);
    }
    let mut body = json!({ "status": "ok", "checks": checks });
    if !warnings.is_empty() {
        body["warnings"] = warnings.into();
    }
    match errors.is_empty() {
        true => Response::json(&body),
        false => not_ready(body, &errors.join("; ")),
    }
}

fn not_ready(mut body: Value, message: &str) -> Response {
    body["status"] = "error".into();
    body["error"] = "NotReady".into();
    body["message"] = message.into();
    Response::json(&body).status(503)
}

/// What is not the upgrade of a good request on the public port.
fn subscription(request: &Request) -> Response {
    match subscribe::check(request) {
        Err(answer) => answer,
        Ok(_) => subscribe::upgrade_required("The firehose is on the public port"),
    }
}
