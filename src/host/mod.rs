//! Who we listen to.

pub mod admission;
pub mod discovery;
