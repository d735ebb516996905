//! See `src/host`.

#[path = "host_models.rs"]
pub mod models;
#[path = "../../../src/host/quota.rs"]
mod quota;
#[path = "../../../src/host/terms.rs"]
mod terms;
