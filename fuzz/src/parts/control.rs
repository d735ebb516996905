//! See `src/control`.

#[path = "../../../src/control/domain.rs"]
pub mod domain;
#[path = "../../../src/control/settings.rs"]
pub mod settings;
#[path = "../stand_ins/control.rs"]
mod stand_in;

pub use stand_in::{ControlError, HostTerms};
