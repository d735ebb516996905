//! A small file system in memory, which a test fills and makes larger as it likes. Only root may mount:
//! elsewhere there is none, and the test says so by its name.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// The file system. Dropping it takes it away.
pub(crate) struct Mount {
    directory: TempDir,
}

impl Mount {
    /// Of so many bytes, for the test of this name; none where it is not to be had.
    pub(crate) fn new(test: &str, bytes: u64) -> Option<Mount> {
        let directory = TempDir::with_prefix_in("zlay-fs-", "/tmp").unwrap();
        let options = format!("size={bytes},mode=755");
        match mount(&options, directory.path()) {
            Ok(()) => Some(Mount { directory }),
            Err(why) => {
                eprintln!("NOT TESTED: {test} needs to mount a file system: {why}");
                None
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A data directory in it, as a variable of the relay.
    pub(crate) fn data_dir(&self) -> (&'static str, String) {
        let path: PathBuf = self.path().join("data");
        ("RELAY_DATA_DIR", path.to_str().unwrap().to_owned())
    }

    /// Makes it as large as this.
    pub(crate) fn resize(&self, bytes: u64) {
        mount(&format!("remount,size={bytes}"), self.path()).unwrap();
    }

    /// Makes it so small, or so large, that this much is free.
    pub(crate) fn leave(&self, free: u64) {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        let used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
        self.resize(used + free);
    }

    /// How much is free.
    pub(crate) fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Also where somebody still has a file of it.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn mount(options: &str, at: &Path) -> Result<(), String> {
    let output = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "zlay-test"])
        .arg(at)
        .output()
        .map_err(|error| format!("mount: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
