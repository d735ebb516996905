//! See `src/http`.

#[path = "admin.rs"]
pub(crate) mod admin;
#[path = "../../../src/http/body.rs"]
mod body;
#[path = "../../../src/http/head.rs"]
mod head;
#[path = "../../../src/http/query.rs"]
pub mod query;
#[path = "../../../src/http/request.rs"]
pub mod request;
#[path = "../../../src/http/response.rs"]
pub mod response;
#[path = "../targets/requests.rs"]
pub(crate) mod targets;
#[path = "../../../src/http/time.rs"]
mod time;
#[path = "xrpc.rs"]
pub(crate) mod xrpc;
