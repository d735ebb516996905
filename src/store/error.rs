//! What can go wrong with the store, in words that an operator can act on.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why the store cannot be opened. Nothing was changed.
#[derive(Debug)]
pub enum OpenError {
    /// Another process (or another part of this one) has the directory open.
    Locked(PathBuf),
    /// Written by a later version of this program.
    NewerFormat {
        /// The format of the directory.
        found: u32,
        /// The latest format that this program knows.
        supported: u32,
    },
    /// The directory holds something else, or is damaged.
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused: permissions, a full disk, no such directory.
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked(path) => write!(
                f,
                "the data directory {} is in use by another process; one relay a directory",
                path.display()
            ),
            OpenError::NewerFormat { found, supported } => write!(
                f,
                "the data directory has format {found}, and this program knows up to {supported}: \
                 it was written by a later version, use that one"
            ),
            OpenError::Damaged { path, reason } => write!(
                f,
                "{} can not be used: {reason}. Nothing was changed. Restore it from a backup, or move it \
                 away: the relay then begins anew, with what the control store knows and above every \
                 seq that it has given (\"Damaged store\" in docs/operations.md)",
                path.display()
            ),
            OpenError::Io { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for OpenError {}

impl OpenError {
    pub(super) fn io(path: &Path, error: &io::Error) -> OpenError {
        OpenError::Io {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> OpenError {
        OpenError::Damaged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn rocksdb(path: &Path, error: &rocksdb::Error) -> OpenError {
        match error.kind() {
            // Missing files and unknown options count as damage too: the directory was ours and
            // no longer is what we left.
            rocksdb::ErrorKind::Corruption
            | rocksdb::ErrorKind::NotFound
            | rocksdb::ErrorKind::NotSupported
            | rocksdb::ErrorKind::InvalidArgument => OpenError::damaged(path, error.to_string()),
            // Its own lock, beside ours: a tool of RocksDB has it open.
            _ if error.to_string().contains("lock file") => OpenError::Locked(path.to_owned()),
            _ if error.to_string().contains("No such file") => {
                OpenError::damaged(path, error.to_string())
            }
            _ => OpenError::Io {
                path: path.to_owned(),
                reason: error.to_string(),
            },
        }
    }
}

/// Why a read or a write failed. None of these passes by itself: a write that failed must end the
/// process, because what was accepted can no longer be promised.
#[derive(Debug)]
pub enum StoreError {
    /// RocksDB says so; mostly the disk (full, failing).
    Rocks(rocksdb::Error),
    /// An entry that this program did not write so.
    Damaged {
        /// The column family.
        family: &'static str,
        /// The entry's key, readable.
        key: String,
    },
    /// A batch would use a seq that is not above the last one.
    SeqOrder {
        /// The last seq before it.
        last: u64,
        /// The one offered.
        offered: u64,
    },
    /// The store was closed.
    Closed,
    /// Something was sequenced already, so that it can not begin with what another store has kept.
    Begun,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Rocks(error) => write!(f, "the store failed: {error}"),
            StoreError::Damaged { family, key } => {
                write!(f, "the store is damaged: entry {key} of {family}")
            }
            StoreError::SeqOrder { last, offered } => {
                write!(f, "seq {offered} was offered after {last}")
            }
            StoreError::Closed => f.write_str("the store is closed"),
            StoreError::Begun => f.write_str(
                "the store is in use already, and can not begin with what the control store has kept",
            ),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rocksdb::Error> for StoreError {
    fn from(error: rocksdb::Error) -> StoreError {
        StoreError::Rocks(error)
    }
}

impl StoreError {
    /// Whether it is that the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self, StoreError::Rocks(error) if error.to_string().contains("No space left"))
    }

    pub(super) fn damaged(family: &'static str, key: impl fmt::Display) -> StoreError {
        StoreError::Damaged {
            family,
            key: key.to_string(),
        }
    }
}
