//! zlay: an AT Protocol relay, synchronous and thread-per-host.
//!
//! One direction only: `host → sequencer → store → firehose`. `atproto` is pure and imports
//! only `limits` and `reject`; `http` reads, and writes only by sending commands. `docs/architecture.md` is
//! the map.

pub mod atproto;
pub mod backfill;
pub mod config;
pub mod control;
pub mod crash;
pub mod crew;
pub mod descriptors;
pub mod firehose;
pub mod host;
pub mod http;
pub mod identity;
pub mod limits;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod outbound;
pub mod reject;
pub mod relay;
pub mod sequencer;
pub mod service;
pub mod sim;
pub mod startup;
pub mod store;
mod sync;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod top;

/// The `Server` header of every answer and the marker by which relays recognise each other: a host
/// that sends `atproto-relay` in it is never crawled, so that two relays cannot feed on each other.
pub const SERVER: &str = concat!("zlay/", env!("CARGO_PKG_VERSION"), " (atproto-relay)");

/// The `User-Agent` of every outbound request.
pub const USER_AGENT: &str = concat!("zlay/", env!("CARGO_PKG_VERSION"), " (atproto-relay)");
