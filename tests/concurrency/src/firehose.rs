//! See `src/firehose`.

use std::{sync::Arc, time::Duration};

#[path = "bell.rs"]
mod bell;
#[path = "firehose_models.rs"]
pub mod models;
#[path = "../../../src/firehose/registry.rs"]
mod registry;
#[path = "../../../src/firehose/ring.rs"]
mod ring;
#[path = "../../../src/firehose/ticker.rs"]
mod ticker;

/// As in `src/firehose/frame.rs`.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) seq: Seq,
    pub(crate) bytes: Arc<[u8]>,
}

/// As in `src/atproto/seq.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seq(u64);

impl Seq {
    pub(crate) fn get(self) -> u64 {
        self.0
    }
}

/// As in `src/firehose/mod.rs`: nobody waits for more frames to gather.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Timing {
    pub(crate) wake_gather: Duration,
    pub(crate) wake_gather_many: Duration,
    pub(crate) wake_pause: Duration,
    pub(crate) close_timeout: Duration,
}
