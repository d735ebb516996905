//! Bounds of the store, and of what it leaves of the disk.

use std::time::Duration;

use super::BATCH_BYTES_MAX;

/// Blocks of the store in memory, in bytes; beyond, lookups go to the disk (or its page cache).
pub const STORE_CACHE_BYTES: usize = 32 << 20;
/// Events gathered in memory before they become a file, in bytes; the grain of retention.
pub const STORE_EVENTS_BUFFER_BYTES: usize = 32 << 20;
/// The same for each other column family.
pub const STORE_OTHER_BUFFER_BYTES: usize = 8 << 20;
/// Files that the store keeps open; beyond, they are opened again when they are read.
pub const STORE_OPEN_FILES_MAX: u16 = 1_024;
/// How long the lock of the data directory is tried for before another process counts as its owner.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Between two such attempts.
pub const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How often events that have left the window are freed.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// Below this part of the disk, in percent, the relay warns.
pub const DISK_FREE_PERCENT_WARN: u64 = 10;
/// The part of the disk, in percent, that is left to the store itself, where the operator says no other
/// (`RELAY_DISK_RESERVE`). Below it nothing more is taken of hosts.
pub const DISK_RESERVE_PERCENT: u64 = 5;
/// That part is at least this many bytes: everything in memory may become files at any time, after
/// the batch that was the last with room.
pub const DISK_RESERVE_BYTES_MIN: u64 = 128 << 20;
/// And at most this many: the largest two merges that run at once, of 25 files of 32 MiB each, are
/// written before what they replace is deleted.
pub const DISK_RESERVE_BYTES_MAX: u64 = 2 << 30;
/// Below this many free bytes nothing is written any more that the operator asks for; above, what he
/// decides while the disk is full comes out of the reserve.
pub const DISK_DECISION_BYTES_MIN: u64 = 16 << 20;
/// How often a full disk is looked at.
pub const DISK_LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the log says that the disk still is full.
pub const DISK_FULL_REPORT_INTERVAL: Duration = Duration::from_secs(60);

const _: () = assert!(
    (2 * STORE_EVENTS_BUFFER_BYTES + 4 * STORE_OTHER_BUFFER_BYTES + BATCH_BYTES_MAX) as u64
        <= DISK_RESERVE_BYTES_MIN
);
const _: () = assert!(DISK_DECISION_BYTES_MIN < DISK_RESERVE_BYTES_MIN);
