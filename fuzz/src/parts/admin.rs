//! See `src/http/admin`.

use super::{request::Request, response::Response};

/// As in `src/http/admin/mod.rs`.
pub(crate) const PREFIX: &str = "/admin/";

#[path = "../../../src/http/admin/order.rs"]
mod order;
#[path = "../../../src/http/admin/read.rs"]
mod read;
#[path = "../targets/orders.rs"]
pub(crate) mod targets;
