//! What the fuzz targets do with their bytes. Each function of `targets` and `sequence` must return,
//! whatever it is given; [`TARGETS`] has them all, with what each may cost.
//!
//! The modules under test are the crate's own sources, in the places that they have there. What they need
//! of the rest, and what would bring in RocksDB, threads or a network, is in `stand_ins`; `parts` says which
//! sources there are.
#![allow(
    dead_code,
    unused_imports,
    reason = "the included sources are used in parts"
)]

#[path = "../../src/atproto/mod.rs"]
pub mod atproto;
#[path = "parts/backfill.rs"]
pub mod backfill;
#[path = "parts/control.rs"]
pub mod control;
#[path = "../../src/crash.rs"]
pub mod crash;
#[path = "../../src/descriptors.rs"]
mod descriptors;
#[path = "parts/firehose.rs"]
pub mod firehose;
#[path = "parts/host.rs"]
pub mod host;
#[path = "parts/http.rs"]
pub mod http;
#[path = "parts/identity.rs"]
pub mod identity;
#[path = "../../src/limits.rs"]
pub mod limits;
#[path = "stand_ins/logging.rs"]
mod logging;
#[path = "stand_ins/metrics.rs"]
pub mod metrics;
#[path = "../../src/reject.rs"]
pub mod reject;
#[path = "../../src/sequencer/mod.rs"]
pub mod sequencer;
#[path = "stand_ins/store.rs"]
pub mod store;
#[path = "../../src/sync.rs"]
mod sync;
#[path = "parts/threads.rs"]
pub mod threads;

mod cost;
mod sequence;
mod targets;
mod trees;

/// As in `src/lib.rs`.
pub const SERVER: &str = "zlay/0.0.0 (atproto-relay)";
/// As in `src/lib.rs`.
pub const USER_AGENT: &str = SERVER;

pub use self::{
    backfill::targets::page,
    cost::{Bound, Cost, MEMORY, Memory, measure},
    firehose::targets::client_frames,
    host::targets::{handshake, websocket},
    http::{admin::targets::admin, targets::request_head},
    sequence::{sequencer as sequence_of_events, stress::relay_under_load},
    targets::{car, cbor, did_document, frame, names},
    trees::mst_invert,
};

#[global_allocator]
static ALLOCATOR: Memory = MEMORY;

/// One fuzz target.
pub struct Target {
    /// Its name: of the binary, of the corpus and of what it has found before (`regressions`).
    pub name: &'static str,
    /// What it does.
    pub run: fn(&[u8]),
    /// What an input may cost.
    pub bound: Bound,
}

const fn target(name: &'static str, run: fn(&[u8]), fixed: usize, per_byte: usize) -> Target {
    let bound = Bound { fixed, per_byte };
    Target { name, run, bound }
}

/// Every target. Bytes of memory at once: so many, and so many more for each byte of input. What the
/// targets themselves allocate to check what came out is in it.
pub const TARGETS: [Target; 13] = [
    target("frame", frame, 64 << 10, 40),
    target("cbor", cbor, 4 << 10, 0),
    target("car", car, 16 << 10, 40),
    target("mst_invert", mst_invert, 256 << 10, 200),
    target("did_document", did_document, 32 << 10, 200),
    target("names", names, 32 << 10, 20),
    target("websocket", websocket, 8 << 20, 40),
    target("handshake", handshake, 64 << 10, 200),
    target("page", page, 16 << 10, 400),
    target("client_frames", client_frames, 16 << 10, 100),
    target("request_head", request_head, 64 << 10, 100),
    target("admin", admin, 64 << 10, 200),
    target("sequencer", sequence_of_events, 8 << 20, 4_000),
];

/// The target of that name.
///
/// # Panics
///
/// Where there is none.
pub fn target_named(name: &str) -> &'static Target {
    static ALL: [Target; TARGETS.len()] = TARGETS;
    let found = ALL.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no target {name}"))
}

/// One input of a target, within its bounds.
pub fn run(name: &str, bytes: &[u8]) {
    let target = target_named(name);
    measure(target, bytes);
}
