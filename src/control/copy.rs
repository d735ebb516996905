//! Everything that a control store keeps, from the one in the data directory to the database or
//! back, while no relay runs on either.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Control, ControlError, Dump, embedded::Embedded, postgres::Postgres};
use crate::{
    config::{Config, ControlStore, Secret},
    store::{self, OpenError},
};

/// Why nothing was copied.
#[derive(Debug)]
pub enum CopyError {
    /// `DATABASE_URL` is not set.
    NoDatabase,
    /// There is no store in the data directory.
    NoStore(PathBuf),
    /// The data directory can not be had for this.
    Directory(OpenError),
    /// One of the stores failed; of which one it is.
    Store(ControlStore, ControlError),
    /// There is nothing to copy.
    Empty(ControlStore),
    /// The target holds something.
    NotEmpty(ControlStore, String),
    /// What was read back is not what was written.
    Differs(ControlStore),
    /// It was copied; who has asked could not be told.
    Output(io::Error),
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::NoDatabase => f.write_str(
                "DATABASE_URL is not set: it names the database, as \
                 postgres://USER:PASSWORD@HOST/DATABASE",
            ),
            CopyError::NoStore(path) => write!(
                f,
                "there is no control store in {}; RELAY_DATA_DIR (or --data-dir before `control`) \
                 says where the data directory is",
                path.display()
            ),
            CopyError::Directory(error) => error.fmt(f),
            CopyError::Store(store, error) => write!(f, "{}: {error}", store.place()),
            CopyError::Empty(store) => {
                write!(f, "{} holds nothing that could be copied", store.place())
            }
            CopyError::NotEmpty(store, what) => write!(
                f,
                "{} holds something already ({what}); --overwrite replaces all of it",
                store.place()
            ),
            CopyError::Differs(store) => write!(
                f,
                "what was read back from {} is not what was written; do not use it",
                store.place()
            ),
            CopyError::Output(error) => write!(f, "copied, but: {error}"),
        }
    }
}

impl std::error::Error for CopyError {}

impl ControlStore {
    /// Where it is, for people.
    const fn place(self) -> &'static str {
        match self {
            ControlStore::Postgres => "the database",
            ControlStore::Embedded => "the data directory",
        }
    }

    const fn other(self) -> ControlStore {
        match self {
            ControlStore::Postgres => ControlStore::Embedded,
            ControlStore::Embedded => ControlStore::Postgres,
        }
    }
}

/// Copies everything into `to` from the other one, reads it back, and says what it was.
pub fn copy(
    config: &Config,
    to: ControlStore,
    overwrite: bool,
    out: &mut dyn Write,
) -> Result<(), CopyError> {
    let url = config.database_url.as_ref().ok_or(CopyError::NoDatabase)?;
    let from = to.other();
    let data_dir = &config.data_dir;
    if from == ControlStore::Embedded && !data_dir.join("control").is_dir() {
        return Err(CopyError::NoStore(data_dir.clone()));
    }
    // Held until the end: no relay starts on the directory meanwhile. The database has a lock of its
    // own.
    let _lock = store::lock_directory(data_dir).map_err(CopyError::Directory)?;
    let ca = config.extra_ca_file.as_deref();
    let source = open(from, data_dir, url, ca)?;
    let dump = source
        .export()
        .map_err(|error| CopyError::Store(from, error))?;
    if is_empty(&dump) {
        return Err(CopyError::Empty(from));
    }
    let target = open(to, data_dir, url, ca)?;
    let failed = |error| CopyError::Store(to, error);
    let there = target.export().map_err(failed)?;
    if !is_empty(&there) && !overwrite {
        return Err(CopyError::NotEmpty(to, summary(&there)));
    }
    target.import(&dump).map_err(failed)?;
    if target.export().map_err(failed)? != dump {
        return Err(CopyError::Differs(to));
    }
    report(&dump, to, out).map_err(CopyError::Output)
}

fn open(
    which: ControlStore,
    data_dir: &Path,
    url: &Secret,
    ca: Option<&Path>,
) -> Result<Box<dyn Control>, CopyError> {
    let store: Result<Box<dyn Control>, _> = match which {
        ControlStore::Embedded => Embedded::open(data_dir).map(|store| Box::new(store) as _),
        ControlStore::Postgres => Postgres::open_now(url, ca).map(|store| Box::new(store) as _),
    };
    store.map_err(|error| CopyError::Store(which, error))
}

/// Whether the operator and the network have left nothing in it.
fn is_empty(dump: &Dump) -> bool {
    dump.hosts.is_empty()
        && dump.bans.is_empty()
        && dump.takedowns.is_empty()
        && dump.settings.is_empty()
}

fn counts(dump: &Dump) -> [(&'static str, usize); 7] {
    [
        ("hosts", dump.hosts.len()),
        ("banned domains", dump.bans.len()),
        ("takedowns", dump.takedowns.len()),
        ("settings", dump.settings.len()),
        ("notes", dump.notes.len()),
        ("audit entries", dump.audit.len()),
        ("cursors", dump.mirror.cursors.len()),
    ]
}

fn summary(dump: &Dump) -> String {
    let some = counts(dump).into_iter().filter(|(_, count)| *count > 0);
    let parts: Vec<_> = some
        .map(|(what, count)| format!("{what}: {count}"))
        .collect();
    parts.join(", ")
}

fn report(dump: &Dump, to: ControlStore, out: &mut dyn Write) -> io::Result<()> {
    let from = to.other().place();
    writeln!(out, "Copied from {from} to {}, and read back:", to.place())?;
    for (what, count) in counts(dump) {
        writeln!(out, "  {what:<15} {count}")?;
    }
    let next = match to {
        ControlStore::Postgres => {
            "A relay with this DATABASE_URL uses the copy; what is in the data directory stays, and \
             is not used."
        }
        ControlStore::Embedded => {
            "A relay without DATABASE_URL uses the copy; what is in the database stays, and is not \
             used."
        }
    };
    writeln!(out, "{next}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        atproto::hostname::Endpoint,
        config::Cli,
        control::{Source, domain::Domain},
    };

    fn config(data_dir: &Path) -> Config {
        let mut config = Cli::parse_from(["zlay"]).config;
        config.data_dir = data_dir.to_owned();
        config.database_url = Some("postgres://127.0.0.1:1/none".to_owned().into());
        config
    }

    fn error(config: &Config, to: ControlStore) -> CopyError {
        copy(config, to, false, &mut Vec::new()).unwrap_err()
    }

    #[test]
    fn what_can_not_be_copied_is_explained_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        let refused = error(&config(&nowhere), ControlStore::Postgres);
        assert!(matches!(refused, CopyError::NoStore(_)), "{refused}");
        assert!(!nowhere.exists());
        let mut without = config(&nowhere);
        without.database_url = None;
        let refused = error(&without, ControlStore::Embedded);
        assert!(matches!(refused, CopyError::NoDatabase), "{refused}");

        drop(Embedded::open(dir.path()).unwrap());
        let refused = error(&config(dir.path()), ControlStore::Postgres);
        assert!(matches!(refused, CopyError::Empty(_)), "{refused}");
        let lock = store::lock_directory(dir.path()).unwrap();
        let refused = error(&config(dir.path()), ControlStore::Postgres);
        assert!(matches!(refused, CopyError::Directory(_)), "{refused}");
        drop(lock);
    }

    #[test]
    fn what_there_is_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        let endpoint = Endpoint::parse("pds.example.com").unwrap();
        store.add_host(&endpoint, Source::Request, 1).unwrap();
        store
            .ban_domain(&Domain::parse("example.org").unwrap(), 1)
            .unwrap();
        let dump = store.export().unwrap();
        assert!(!is_empty(&dump));
        assert_eq!(summary(&dump), "hosts: 1, banned domains: 1");
        let mut said = Vec::new();
        report(&dump, ControlStore::Postgres, &mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("hosts           1\n"), "{said}");
    }
}
