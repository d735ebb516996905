//! Bounds of connections out.

use std::time::Duration;

/// Addresses of one name that are tried.
pub const OUTBOUND_ADDRESSES_MAX: usize = 8;
/// The head of an answer to us, in bytes.
pub const OUTBOUND_HEAD_BYTES_MAX: usize = 16 << 10;
/// Idle time after which a connection to a host is probed.
pub const OUTBOUND_KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Time between two probes.
pub const OUTBOUND_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the connection is dead.
pub const OUTBOUND_KEEPALIVE_RETRIES: u32 = 4;
/// The stack of a thread that waits for the system's name resolution.
pub const OUTBOUND_DNS_STACK_BYTES: usize = 256 << 10;
