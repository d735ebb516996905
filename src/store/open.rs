//! Opening the store: the lock, the format, and what the last run left.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    thread,
    time::Instant,
};

use rocksdb::{DB, DBWithThreadMode};
use rustix::fs::{FlockOperation, flock};

use super::{
    Begun, Db, Ending, Family, Meta, OpenError, Options, Store, StoreError, Window, WindowCell,
    event_key, family::event_seq, large, recount, takedowns, wal,
};
use crate::{
    atproto::seq::Seq,
    crash::{self, Point},
    limits,
};

/// The format that this program writes. 2: the order of accounts says what the list needs of each;
/// values of 1 are read as they are, and replaced with the next change of the account. 3: an account says
/// whether its status was heard, which that of an account of before was. 4: large events are in pieces.
pub(super) const FORMAT: u32 = 4;
/// The oldest format that this program reads.
const FORMAT_OLDEST: u32 = 1;

impl Store {
    /// Opens the store of `data_dir`, and makes it where there is none.
    pub fn open(data_dir: &Path, options: Options) -> Result<Store, OpenError> {
        let lock = lock_directory(data_dir)?;
        let path = data_dir.join("store");
        let is_new = is_new(&path)?;
        if !is_new {
            check_families(&path)?;
            check_log(&path)?;
        }
        let rocks =
            DBWithThreadMode::open_cf_descriptors(&options.database(), &path, options.families())
                .map_err(|error| OpenError::rocksdb(&path, &error))?;
        // RocksDB syncs what is in its directory, and not the name of that.
        sync_directory(data_dir).map_err(|error| OpenError::io(data_dir, &error))?;
        let mut db = Db { rocks, losses: 0 };
        let failed = |error: StoreError| match error {
            StoreError::Rocks(error) => OpenError::rocksdb(&path, &error),
            other => OpenError::damaged(&path, other.to_string()),
        };
        crash::point(Point::StoreMade);
        let format = db.meta(Meta::Format).map_err(failed)?;
        check_format(&path, format, is_new || is_blank(&db).map_err(failed)?)?;
        let window = recover(&db, &options).map_err(failed)?;
        crash::point(Point::StoreRecovered);
        takedowns::complete(&db, window.last).map_err(failed)?;
        recount::recount(&db).map_err(failed)?;
        let losses = db.meta(Meta::Losses).map_err(failed)?.unwrap_or(0);
        db.losses = u32::try_from(losses).unwrap_or(u32::MAX);
        let begun = Begun::new(large::next_number(&db).map_err(failed)?);
        let number = |meta, default| db.meta(meta).map(|n| n.unwrap_or(default));
        let next_ordinal = number(Meta::NextOrdinal, 1).map_err(failed)?;
        let accounts = number(Meta::AccountCount, 0).map_err(failed)?;
        let collections = number(Meta::CollectionCount, 0).map_err(failed)?;
        let pairs = number(Meta::PairCount, 0).map_err(failed)?;
        Ok(Store {
            db: Arc::new(db),
            options,
            window: WindowCell::new(window),
            begun: Arc::new(begun),
            next_ordinal: AtomicU64::new(next_ordinal),
            accounts: AtomicU64::new(accounts),
            collections: AtomicU64::new(collections),
            pairs: AtomicU64::new(pairs),
            closed: AtomicBool::new(false),
            batch_bytes: AtomicUsize::new(0),
            _lock: lock,
        })
    }
}

/// Takes the directory for this process. The lock is the kernel's: it ends with the file that is
/// returned, or with the process.
pub(crate) fn lock_directory(data_dir: &Path) -> Result<File, OpenError> {
    fs::create_dir_all(data_dir).map_err(|error| OpenError::io(data_dir, &error))?;
    if let Some(parent) = data_dir.parent() {
        let here = parent.as_os_str().is_empty();
        // It may be a directory that is not for us to read: then somebody else has made ours.
        let _ = sync_directory(if here { Path::new(".") } else { parent });
    }
    let path = data_dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| OpenError::io(&path, &error))?;
    // A process that is being started inherits the file for a moment, until it is the other program: a
    // lock that was just given up may be held for so long.
    let patience = Instant::now() + limits::LOCK_PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < patience => {
                thread::sleep(limits::LOCK_RETRY);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::Locked(data_dir.to_owned()));
            }
            Err(error) => return Err(OpenError::io(&path, &error.into())),
        }
    }
}

/// Makes the names in a directory durable: a new file, or a directory, whose own content is synced is lost
/// with the power until its name is.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether there is no database yet. A directory with anything else in it is not ours to use.
fn is_new(path: &Path) -> Result<bool, OpenError> {
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(OpenError::io(path, &error)),
    };
    if path.join("CURRENT").exists() {
        return Ok(false);
    }
    // RocksDB writes CURRENT last: without it only its own log and lock may be there.
    let foreign = entries.find_map(|entry| {
        let name = entry.ok()?.file_name();
        let known = ["LOCK", "LOG", "IDENTITY", "MANIFEST-", "OPTIONS-"];
        let name = name.to_string_lossy();
        // What is to become one of them is renamed to it when it is complete.
        let own = name.ends_with(".dbtmp") || known.iter().any(|k| name.starts_with(k));
        let data = name.ends_with(".sst") || !own;
        data.then(|| name.into_owned())
    });
    match foreign {
        Some(name) => Err(OpenError::damaged(
            path,
            format!("it has no file CURRENT, and is not empty ({name})"),
        )),
        None => Ok(true),
    }
}

/// Refuses a database with column families that this program does not know, before anything is
/// opened for writing.
fn check_families(path: &Path) -> Result<(), OpenError> {
    let options = rocksdb::Options::default();
    let rocks = |error| OpenError::rocksdb(path, &error);
    let names = DB::list_cf(&options, path).map_err(rocks)?;
    let known = |name: &str| {
        name == rocksdb::DEFAULT_COLUMN_FAMILY_NAME || Family::ALL.iter().any(|f| f.name() == name)
    };
    let Some(unknown) = names.iter().find(|name| !known(name)) else {
        return Ok(());
    };
    let meta = Family::Meta.name();
    let found = if names.iter().any(|name| name == meta) {
        read_only(path).map_err(rocks)?.meta(Meta::Format)
    } else {
        Ok(None)
    };
    let found = found.ok().flatten();
    match found.map(u32::try_from) {
        Some(Ok(found)) if found > FORMAT => Err(OpenError::NewerFormat {
            found,
            supported: FORMAT,
        }),
        _ => Err(OpenError::damaged(
            path,
            format!("it holds a column family {unknown:?}, which is not of this program"),
        )),
    }
}

/// The numbers of a database that is left as it is.
fn read_only(path: &Path) -> Result<Db, rocksdb::Error> {
    let (options, meta) = (rocksdb::Options::default(), Family::Meta.name());
    let rocks = DBWithThreadMode::open_cf_for_read_only(&options, path, [meta], false)?;
    Ok(Db { rocks, losses: 0 })
}

/// Refuses a database whose log has a hole, where the run that wrote it synced every batch: what is
/// behind the hole is published, and would be forgotten.
fn check_log(path: &Path) -> Result<(), OpenError> {
    let Some(hole) = wal::find_hole(path).map_err(|error| OpenError::io(path, &error))? else {
        return Ok(());
    };
    let ending = read_only(path).ok().map(|db| db.meta(Meta::Ending));
    if !matches!(ending, Some(Ok(Some(code))) if code == Ending::Unsynced.code()) {
        return Err(OpenError::damaged(path, hole.to_string()));
    }
    log::warn!(
        error:% = hole;
        "the log of the store has a hole, as a power loss may leave where batches are not synced: what \
         is behind it is gone"
    );
    Ok(())
}

/// What RocksDB would pass over in a directory where every write is synced: files without the one that
/// says what they are, and a log with a hole.
pub(crate) fn find_damage(path: &Path) -> Result<(), OpenError> {
    if is_new(path)? {
        return Ok(());
    }
    match wal::find_hole(path) {
        Ok(None) => Ok(()),
        Ok(Some(hole)) => Err(OpenError::damaged(path, hole.to_string())),
        Err(error) => Err(OpenError::io(path, &error)),
    }
}

/// Whether no entry was ever written: an open that was killed before it wrote the format.
fn is_blank(db: &Db) -> Result<bool, StoreError> {
    let own = Family::ALL.map(Family::name);
    for name in own.iter().chain([&rocksdb::DEFAULT_COLUMN_FAMILY_NAME]) {
        let Some(family) = db.rocks.cf_handle(name) else {
            continue;
        };
        let mut entries = db.rocks.raw_iterator_cf(&family);
        entries.seek_to_first();
        entries.status()?;
        if entries.valid() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn check_format(path: &Path, format: Option<u64>, is_blank: bool) -> Result<(), OpenError> {
    match format.map(u32::try_from) {
        None if is_blank => Ok(()),
        None => Err(OpenError::damaged(path, "it has entries but no format")),
        Some(Ok(FORMAT_OLDEST..=FORMAT)) => Ok(()),
        Some(Ok(found)) if found > FORMAT => Err(OpenError::NewerFormat {
            found,
            supported: FORMAT,
        }),
        Some(_) => Err(OpenError::damaged(path, "it has an unknown format")),
    }
}

/// Finds the window, moves the seq where it has to, and marks the store as being written.
fn recover(db: &Db, options: &Options) -> Result<Window, StoreError> {
    let number = |meta| db.meta(meta).map(|n| n.unwrap_or(0));
    let pruned = number(Meta::Pruned)?;
    let (oldest, newest) = bounds(db, pruned)?;
    let written = number(Meta::LastSeq)?.max(newest.unwrap_or(0)).max(pruned);
    let ending = Ending::of(number(Meta::Ending)?)
        .ok_or_else(|| StoreError::damaged(Family::Meta.name(), Meta::Ending.key()))?;
    let mut losses = number(Meta::Losses)?;
    let margin = if ending == Ending::Unsynced {
        log::warn!(
            by = limits::SEQ_JUMP;
            "the last run ended without closing the store and did not sync it: the seq jumps ahead"
        );
        losses += 1;
        limits::SEQ_JUMP
    } else {
        0
    };
    let last = (written + margin)
        .max(options.initial_seq.saturating_sub(1))
        .min(Seq::MAX.get());
    let ending = if options.fsync {
        Ending::Synced
    } else {
        Ending::Unsynced
    };
    db.set_meta(&[
        (Meta::Format, u64::from(FORMAT)),
        (Meta::LastSeq, last),
        (Meta::Losses, losses),
        (Meta::Ending, ending.code()),
    ])?;
    Ok(Window {
        pruned,
        oldest,
        last,
    })
}

/// The oldest seq above `pruned` and the newest seq, of what is there.
fn bounds(db: &Db, pruned: u64) -> Result<(Option<u64>, Option<u64>), StoreError> {
    let family = db.family(Family::Events);
    let mut events = db.rocks.raw_iterator_cf(&family);
    events.seek(event_key(pruned.saturating_add(1)));
    events.status()?;
    let oldest = events.key().map(event_seq).transpose()?.map(Seq::get);
    events.seek_to_last();
    events.status()?;
    let newest = events.key().map(event_seq).transpose()?.map(Seq::get);
    Ok((oldest, newest))
}
