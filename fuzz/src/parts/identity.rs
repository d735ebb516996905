//! See `src/identity`.

#[path = "../../../src/identity/document.rs"]
pub mod document;
