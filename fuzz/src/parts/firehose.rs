//! See `src/firehose`.

use std::time::Duration;

#[path = "../../../src/firehose/bell.rs"]
mod bell;
#[path = "../../../src/firehose/client_frames.rs"]
mod client_frames;
#[path = "../../../src/firehose/cursor.rs"]
pub mod cursor;
#[path = "../../../src/firehose/frame.rs"]
pub mod frame;
#[path = "../../../src/firehose/packer.rs"]
mod packer;
#[path = "../../../src/firehose/registry.rs"]
mod registry;
#[path = "../../../src/firehose/ring.rs"]
mod ring;
#[path = "../stream.rs"]
pub(crate) mod stream;
#[path = "../targets/clients.rs"]
pub(crate) mod targets;
#[path = "../../../src/firehose/ticker.rs"]
mod ticker;

pub use frame::Frame;
pub(crate) use packer::Packer;

/// As in `src/firehose/mod.rs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) wake_gather: Duration,
    pub(crate) wake_gather_many: Duration,
    pub(crate) wake_pause: Duration,
    pub(crate) close_timeout: Duration,
}
