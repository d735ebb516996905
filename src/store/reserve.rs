//! What of the disk is left to the store itself. RocksDB writes when it wants to (memory that becomes
//! files, files that are merged before they are deleted), and a write of its own that fails makes the
//! store one that takes no writes any more. So events are not taken down to the last byte.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    limits::{
        DISK_DECISION_BYTES_MIN, DISK_RESERVE_BYTES_MAX, DISK_RESERVE_BYTES_MIN,
        DISK_RESERVE_PERCENT,
    },
    metrics::Metrics,
};

/// How much of the disk with the data directory is kept free.
#[derive(Clone, Debug)]
pub struct Reserve {
    data_dir: PathBuf,
    /// What the operator wants; none: a part of the disk.
    wanted: Option<u64>,
}

/// The disk at one moment, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// What is free for the relay.
    pub free: u64,
    /// What there is in all.
    pub size: u64,
    /// What is left to the store.
    pub reserve: u64,
}

/// What a file system says of itself, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileSystem {
    /// What is free for the relay.
    pub(crate) free: u64,
    /// What there is in all; nothing where it does not say.
    pub(crate) size: u64,
}

impl Reserve {
    /// On the disk of `data_dir`; `wanted` is what the operator says.
    pub fn new(data_dir: &Path, wanted: Option<u64>) -> Reserve {
        Reserve {
            data_dir: data_dir.to_owned(),
            wanted,
        }
    }

    /// Looks at the disk, and notes it in the metrics; none where that is not possible, or where the
    /// file system does not say how large it is. One call to the system, of about a microsecond.
    pub fn look(&self, metrics: &Metrics) -> Option<Space> {
        let disk = match disk_of(&self.data_dir) {
            Ok(disk) => disk,
            Err(error) => {
                log::debug!(error:% = error; "the size of the disk is not known");
                return None;
            }
        };
        let space = Space {
            free: disk.free,
            size: disk.size,
            reserve: self.wanted.unwrap_or_else(|| usual(disk.size)),
        };
        metrics.disk_free.set(space.free);
        metrics.disk_size.set(space.size);
        metrics.disk_reserve.set(space.reserve);
        (disk.size > 0).then_some(space)
    }
}

/// The disk of a file or directory.
pub(crate) fn disk_of(path: &Path) -> io::Result<FileSystem> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(FileSystem {
        // What only root may use is not free for the relay.
        free: disk.f_bavail.saturating_mul(disk.f_frsize),
        size: disk.f_blocks.saturating_mul(disk.f_frsize),
    })
}

/// What is left of a disk of this size where the operator says nothing.
fn usual(size: u64) -> u64 {
    let part = size / 100 * DISK_RESERVE_PERCENT;
    part.clamp(DISK_RESERVE_BYTES_MIN, DISK_RESERVE_BYTES_MAX)
}

impl Space {
    /// The disk as it was looked at last; none before that.
    pub fn last(metrics: &Metrics) -> Option<Space> {
        let space = Space {
            free: metrics.disk_free.get(),
            size: metrics.disk_size.get(),
            reserve: metrics.disk_reserve.get(),
        };
        (space.size > 0).then_some(space)
    }

    /// Whether nothing more may be taken of hosts.
    pub fn is_full(self) -> bool {
        self.free < self.reserve
    }

    /// What must be free for events to be taken again: a little more, or it would be full again with
    /// the next batch.
    pub fn needed(self) -> u64 {
        self.reserve.saturating_add(self.reserve / 8)
    }

    /// Whether the reserve itself is used up: what the operator decides is not written any more.
    pub fn is_spent(self) -> bool {
        self.free < DISK_DECISION_BYTES_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_part_of_the_disk_with_bounds() {
        assert_eq!(usual(256 << 20), 128 << 20);
        assert_eq!(usual(10 << 30) >> 20, 511);
        assert_eq!(usual(40 << 40), 2 << 30);
    }

    #[test]
    fn it_is_full_below_the_reserve_and_has_room_a_little_above() {
        let space = |free| Space {
            free,
            size: 1_000,
            reserve: 80,
        };
        assert!(space(79).is_full() && !space(80).is_full());
        assert_eq!(space(0).needed(), 90);
        let none = Space {
            reserve: 0,
            ..space(0)
        };
        assert!(!none.is_full(), "the operator wants none");
    }

    #[test]
    fn what_is_seen_is_noted() {
        let dir = tempfile::TempDir::new().unwrap();
        let metrics = Metrics::default();
        assert_eq!(Space::last(&metrics), None);
        let seen = Reserve::new(dir.path(), Some(7)).look(&metrics).unwrap();
        assert!(seen.size > 0 && seen.free <= seen.size && seen.reserve == 7);
        assert_eq!(Space::last(&metrics), Some(seen));
        let gone = Reserve::new(&dir.path().join("gone"), None);
        assert_eq!(gone.look(&metrics), None);
    }
}
