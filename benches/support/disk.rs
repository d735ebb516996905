//! Directories on the disk on which the build is: what `/tmp` is on is often none.

use tempfile::TempDir;

/// An empty directory that goes when it is dropped.
pub(crate) fn dir() -> TempDir {
    TempDir::with_prefix_in("bench", env!("CARGO_TARGET_TMPDIR")).unwrap()
}
