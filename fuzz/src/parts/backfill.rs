//! See `src/backfill`.

#[path = "../../../src/backfill/wanted.rs"]
mod wanted;
pub use wanted::Wanted;

#[path = "../../../src/backfill/page.rs"]
mod page;
#[path = "../targets/pages.rs"]
pub(crate) mod targets;
