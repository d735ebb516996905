//! See `src/threads.rs`.

#[path = "../../../src/threads/stop.rs"]
mod stop;

pub use stop::{Stop, Stopper, stop_pair};
