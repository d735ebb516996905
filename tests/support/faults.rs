//! A disk that fails when a test wants it to: a library that is loaded into the relay before any other
//! one, and lets its calls fail.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::site::Site;

/// The library, and what it is to do.
pub(crate) struct Faults {
    directory: TempDir,
}

impl Faults {
    /// Compiles it, and has the relays of a site load it.
    pub(crate) fn of(site: &mut Site) -> Faults {
        let faults = Faults {
            directory: TempDir::new().unwrap(),
        };
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faults.c");
        let library = faults.file("faults.so");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .args([source, "-ldl"])
            .output()
            .expect("a C compiler, which the build of RocksDB needs too");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        site.variables.push(("LD_PRELOAD", text(library)));
        site.variables.push(("FAULTS", text(faults.file("orders"))));
        faults
    }

    /// From now on this (`write`, `full`, `sync`, `read`) fails in files with this in their path.
    pub(crate) fn fail(&self, what: &str, part: &str) {
        let new = self.file("new");
        std::fs::write(&new, format!("{what} {part}")).unwrap();
        std::fs::rename(new, self.file("orders")).unwrap();
    }

    /// Nothing fails any more.
    pub(crate) fn mend(&self) {
        std::fs::remove_file(self.file("orders")).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
