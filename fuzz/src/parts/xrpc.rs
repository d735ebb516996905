//! See `src/http/xrpc`.

#[path = "../../../src/http/xrpc/params.rs"]
mod params;
#[path = "../targets/params.rs"]
pub(crate) mod targets;
