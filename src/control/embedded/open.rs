//! Opening the store: its settings, its format, and what is in it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use rocksdb::{BlockBasedOptions, Cache, DB, Direction, IteratorMode, Options, WriteOptions};

use super::{
    Index, backend,
    keys::{
        AUDIT_PREFIX, DOMAIN_PREFIX, FORMAT, FORMAT_KEY, HOST_PREFIX, ID_KEY, NEXT_ID_KEY,
        audit_key, below, long, number, text,
    },
    rows::decode,
};
use crate::{
    control::{ControlError, domain::Domain, new_id},
    crash::{self, Point},
    store::{self, OpenError, account::HostId, sync_directory},
};

/// A few thousand small rows: RocksDB's defaults would take a hundred times what they need.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
const CACHE_BYTES: usize = 1 << 20;
const OPEN_FILES_MAX: i32 = 32;
const WAL_BYTES_MAX: u64 = 4 << 20;

/// Opens the database in a directory of the data directory, or makes it.
pub(super) fn open(data_dir: &Path, path: &Path) -> Result<(DB, Index), ControlError> {
    // Its name is durable before anything in it is.
    std::fs::create_dir_all(path)
        .and_then(|()| sync_directory(data_dir))
        .map_err(|e| ControlError::Backend(format!("{}: {e}", path.display())))?;
    // RocksDB makes a new database where it finds none, and removes what it does not know then.
    store::find_damage(path).map_err(|error| unusable(path, error))?;
    let db = DB::open(&options(), path)
        .map_err(|error| unusable(path, OpenError::rocksdb(path, &error)))?;
    check_format(&db)?;
    let index = read_index(&db)?;
    Ok((db, index))
}

fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(1);
    options.set_keep_log_file_num(2);
    options.set_track_and_verify_wals_in_manifest(true);
    options
}

pub(super) fn durable() -> WriteOptions {
    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    durable
}

/// What to tell the operator of a directory that can not be opened.
fn unusable(path: &Path, error: OpenError) -> ControlError {
    let path = path.display();
    match error {
        OpenError::Damaged { reason, .. } => ControlError::Damaged(format!(
            "{path} can not be used: {reason}. Nothing was changed. Restore it from a backup \
             (\"Damaged store\" in docs/operations.md)"
        )),
        other => ControlError::Backend(other.to_string()),
    }
}

fn check_format(db: &DB) -> Result<(), ControlError> {
    let Some(found) = db.get(FORMAT_KEY).map_err(backend)? else {
        if db.iterator(IteratorMode::Start).next().is_some() {
            return Err(ControlError::Damaged("rows, but no format version".into()));
        }
        crash::point(Point::ControlMade);
        let format = FORMAT.to_be_bytes();
        db.put_opt(FORMAT_KEY, format, &durable())
            .map_err(backend)?;
        crash::point(Point::ControlFormatted);
        return Ok(());
    };
    match number(&found)? {
        FORMAT => Ok(()),
        found => Err(ControlError::Format {
            found,
            known: FORMAT,
        }),
    }
}

/// The number of the store, given when it is first opened.
fn own_id(db: &DB) -> Result<u64, ControlError> {
    if let Some(bytes) = db.get(ID_KEY).map_err(backend)? {
        return long(&bytes);
    }
    let id = new_id();
    db.put_opt(ID_KEY, id.to_be_bytes(), &durable())
        .map_err(backend)?;
    crash::point(Point::ControlNumbered);
    Ok(id)
}

pub(super) fn read_index(db: &DB) -> Result<Index, ControlError> {
    let next_id = match db.get(NEXT_ID_KEY).map_err(backend)? {
        Some(bytes) => number(&bytes)?,
        None => 1,
    };
    let mut index = Index {
        id: own_id(db)?,
        by_name: HashMap::new(),
        hosts: BTreeMap::new(),
        next_id,
        banned: read_bans(db)?,
        next_audit: 1,
    };
    for entry in below(db, HOST_PREFIX) {
        let (id, value) = entry?;
        let id = HostId(number(&id)?);
        let row = decode(id, &value)?;
        if let Some(twin) = index.by_name(&row.name) {
            return Err(ControlError::Damaged(format!(
                "hosts {} and {id} have one name",
                twin.id
            )));
        }
        index.insert(row);
    }
    if index.hosts.keys().any(|id| id.0 >= next_id) {
        return Err(ControlError::Damaged(format!(
            "the next host id, {next_id}, is taken"
        )));
    }
    let key = audit_key(u64::MAX);
    let mut newest = db.iterator(IteratorMode::From(&key, Direction::Reverse));
    if let Some(entry) = newest.next()
        && let (key, _) = entry.map_err(backend)?
        && let Some((&AUDIT_PREFIX, number)) = key.split_first()
    {
        index.next_audit = long(number)?.saturating_add(1);
    }
    Ok(index)
}

fn read_bans(db: &DB) -> Result<BTreeSet<Domain>, ControlError> {
    below(db, DOMAIN_PREFIX)
        .map(|entry| {
            let name = text(&entry?.0);
            Domain::parse(&name)
                .map_err(|e| ControlError::Damaged(format!("the banned domain {name:?} is {e}")))
        })
        .collect()
}
