//! The control store of a relay without Postgres: a small RocksDB of its own beside the events, so
//! that neither can damage or delay the other.
//!
//! | key | value |
//! |---|---|
//! | `f` | format version, u32 big-endian |
//! | `n` | the next host id, u32 big-endian |
//! | `h` + id, u32 big-endian | the host, a JSON object |
//! | `d` + name | a banned domain, a JSON object |
//!
//! Rows are JSON because they are few and small, and because a field that a later version adds
//! can then be read, and left out, by either version.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocksdb::{
    BlockBasedOptions, Cache, DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};

use super::{Control, ControlError, HostRow, HostStatus, domain::Domain};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    store::{RocksMemory, account::HostId},
};

/// The format that this version reads and writes.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"f";
const NEXT_ID_KEY: &[u8] = b"n";
const HOST_PREFIX: u8 = b'h';
const DOMAIN_PREFIX: u8 = b'd';

/// A few thousand small rows: RocksDB's defaults would take a hundred times what they need.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
const CACHE_BYTES: usize = 1 << 20;
const OPEN_FILES_MAX: i32 = 32;
const WAL_BYTES_MAX: u64 = 4 << 20;

/// The control store in a directory of its own.
pub struct Embedded {
    db: DB,
    /// What is in the database, by name; also serialises the writers.
    index: Mutex<Index>,
}

struct Index {
    by_name: HashMap<Hostname, HostRow>,
    next_id: u32,
    banned: BTreeSet<Domain>,
}

/// A ban as it is written; the name of the domain is the key.
#[derive(Serialize)]
struct StoredBan {
    since_ms: u64,
}

/// A [`HostRow`] as it is written; the id is the key.
#[derive(Serialize, Deserialize)]
struct StoredHost {
    name: String,
    tls: bool,
    status: String,
    first_seen_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_connected_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    trusted: bool,
    #[serde(default)]
    lenient: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_limit: Option<u64>,
}

impl Embedded {
    /// Opens the store in `<data_dir>/control`, or makes it.
    pub fn open(data_dir: &Path) -> Result<Embedded, ControlError> {
        let path = data_dir.join("control");
        std::fs::create_dir_all(&path)
            .map_err(|e| ControlError::Backend(format!("{}: {e}", path.display())))?;
        let db = DB::open(&options(), &path).map_err(backend)?;
        check_format(&db)?;
        let index = read_index(&db)?;
        Ok(Embedded {
            db,
            index: Mutex::new(index),
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // A row enters the index only after it is written whole, so a panic leaves it usable.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, batch: WriteBatch) -> Result<(), ControlError> {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        self.db.write_opt(batch, &durable).map_err(backend)
    }
}

impl Control for Embedded {
    fn memory(&self) -> Option<RocksMemory> {
        let read = |_: &(), property: &_| self.db.property_int_value(property).ok().flatten();
        Some(RocksMemory::of(&[()], read))
    }

    fn hosts(&self) -> Result<Vec<HostRow>, ControlError> {
        let mut hosts: Vec<HostRow> = self.index().by_name.values().cloned().collect();
        // Ids are given in the order of addition.
        hosts.sort_unstable_by_key(|host| host.id);
        Ok(hosts)
    }

    fn add_host(&self, endpoint: &Endpoint, now_ms: u64) -> Result<HostRow, ControlError> {
        let mut index = self.index();
        if let Some(row) = index.by_name.get(&endpoint.host) {
            return Ok(row.clone());
        }
        let row = HostRow::new(HostId(index.next_id), endpoint, now_ms);
        let next_id = index.next_id.checked_add(1).ok_or(ControlError::Full)?;
        let mut batch = WriteBatch::default();
        batch.put(host_key(row.id), encode(&row)?);
        batch.put(NEXT_ID_KEY, next_id.to_be_bytes());
        self.write(batch)?;
        index.next_id = next_id;
        index.by_name.insert(row.name.clone(), row.clone());
        Ok(row)
    }

    fn update_host(&self, row: &HostRow) -> Result<(), ControlError> {
        let mut index = self.index();
        let known = index
            .by_name
            .get_mut(&row.name)
            .filter(|known| known.id == row.id);
        let known = known.ok_or(ControlError::NoSuchHost(row.id))?;
        if known == row {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.put(host_key(row.id), encode(row)?);
        self.write(batch)?;
        *known = row.clone();
        Ok(())
    }

    fn banned_domains(&self) -> Result<Vec<Domain>, ControlError> {
        Ok(self.index().banned.iter().cloned().collect())
    }

    fn ban_domain(&self, domain: &Domain, now_ms: u64) -> Result<(), ControlError> {
        let mut index = self.index();
        if index.banned.contains(domain) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        let ban = StoredBan { since_ms: now_ms };
        batch.put(domain_key(domain), json(&ban)?);
        self.write(batch)?;
        index.banned.insert(domain.clone());
        Ok(())
    }

    fn unban_domain(&self, domain: &Domain) -> Result<(), ControlError> {
        let mut index = self.index();
        if !index.banned.contains(domain) {
            return Ok(());
        }
        let mut batch = WriteBatch::default();
        batch.delete(domain_key(domain));
        self.write(batch)?;
        index.banned.remove(domain);
        Ok(())
    }
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
    options
}

fn check_format(db: &DB) -> Result<(), ControlError> {
    let Some(found) = db.get(FORMAT_KEY).map_err(backend)? else {
        if db.iterator(IteratorMode::Start).next().is_some() {
            return Err(ControlError::Damaged("rows, but no format version".into()));
        }
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        return db
            .put_opt(FORMAT_KEY, FORMAT.to_be_bytes(), &durable)
            .map_err(backend);
    };
    match number(&found)? {
        FORMAT => Ok(()),
        found => Err(ControlError::Format {
            found,
            known: FORMAT,
        }),
    }
}

fn read_index(db: &DB) -> Result<Index, ControlError> {
    let mut by_name = HashMap::new();
    let mut last_id = None;
    let from = IteratorMode::From(&[HOST_PREFIX], Direction::Forward);
    for entry in db.iterator(from) {
        let (key, value) = entry.map_err(backend)?;
        let Some((&HOST_PREFIX, id)) = key.split_first() else {
            break;
        };
        let id = HostId(number(id)?);
        let row = decode(id, &value)?;
        if let Some(twin) = by_name.insert(row.name.clone(), row) {
            return Err(ControlError::Damaged(format!(
                "hosts {} and {id} have one name",
                twin.id
            )));
        }
        last_id = Some(id);
    }
    let next_id = match db.get(NEXT_ID_KEY).map_err(backend)? {
        Some(bytes) => number(&bytes)?,
        None => 1,
    };
    if last_id.is_some_and(|last| last.0 >= next_id) {
        return Err(ControlError::Damaged(format!(
            "the next host id, {next_id}, is taken"
        )));
    }
    Ok(Index {
        by_name,
        next_id,
        banned: read_bans(db)?,
    })
}

fn read_bans(db: &DB) -> Result<BTreeSet<Domain>, ControlError> {
    let mut banned = BTreeSet::new();
    let from = IteratorMode::From(&[DOMAIN_PREFIX], Direction::Forward);
    for entry in db.iterator(from) {
        let (key, _) = entry.map_err(backend)?;
        let Some((&DOMAIN_PREFIX, name)) = key.split_first() else {
            break;
        };
        let name = String::from_utf8_lossy(name);
        let domain = Domain::parse(&name)
            .map_err(|e| ControlError::Damaged(format!("the banned domain {name:?} is {e}")))?;
        banned.insert(domain);
    }
    Ok(banned)
}

fn domain_key(domain: &Domain) -> Vec<u8> {
    [&[DOMAIN_PREFIX], domain.as_str().as_bytes()].concat()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ControlError> {
    serde_json::to_vec(value).map_err(|e| ControlError::Backend(e.to_string()))
}

fn host_key(id: HostId) -> [u8; 5] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [HOST_PREFIX, a, b, c, d]
}

fn encode(row: &HostRow) -> Result<Vec<u8>, ControlError> {
    let stored = StoredHost {
        name: row.name.as_str().to_owned(),
        tls: row.tls,
        status: row.status.name().to_owned(),
        first_seen_ms: row.first_seen_ms,
        last_connected_ms: row.last_connected_ms,
        last_error: row.last_error.clone(),
        failures: row.failures,
        trusted: row.trusted,
        lenient: row.lenient,
        account_limit: row.account_limit,
    };
    json(&stored)
}

fn decode(id: HostId, bytes: &[u8]) -> Result<HostRow, ControlError> {
    let damaged = |what: String| ControlError::Damaged(format!("host {id}: {what}"));
    let stored: StoredHost = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    Ok(HostRow {
        id,
        name: Hostname::parse(&stored.name)
            .map_err(|e| damaged(format!("{:?} is {e}", stored.name)))?,
        tls: stored.tls,
        status: HostStatus::parse(&stored.status)
            .ok_or_else(|| damaged(format!("unknown status {:?}", stored.status)))?,
        first_seen_ms: stored.first_seen_ms,
        last_connected_ms: stored.last_connected_ms,
        last_error: stored.last_error,
        failures: stored.failures,
        trusted: stored.trusted,
        lenient: stored.lenient,
        account_limit: stored.account_limit,
    })
}

fn number(bytes: &[u8]) -> Result<u32, ControlError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ControlError::Damaged("a number that is not four bytes".into()))?;
    Ok(u32::from_be_bytes(bytes))
}

fn backend(error: rocksdb::Error) -> ControlError {
    ControlError::Backend(error.into_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::suite;

    #[test]
    fn does_what_every_control_store_does() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Box::new(Embedded::open(dir.path()).unwrap());
        suite::run(open(), |store| {
            drop(store);
            open()
        });
    }

    #[test]
    fn another_format_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        store.db.put(FORMAT_KEY, 2u32.to_be_bytes()).unwrap();
        drop(store);
        for _ in 0..2 {
            let error = Embedded::open(dir.path()).err().unwrap();
            assert!(
                matches!(error, ControlError::Format { found: 2, known: 1 }),
                "{error}"
            );
        }
    }

    #[test]
    fn damage_is_named_at_opening() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        let row = store
            .add_host(&Endpoint::parse("a.example.com").unwrap(), 1)
            .unwrap();
        store
            .db
            .put(host_key(row.id), b"{\"name\":\"10.0.0.1\"}")
            .unwrap();
        drop(store);
        let error = Embedded::open(dir.path()).err().unwrap();
        assert!(matches!(error, ControlError::Damaged(_)), "{error}");
    }

    #[test]
    fn a_ban_that_can_not_be_read_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path()).unwrap();
        store.db.put(b"dcom", b"{}").unwrap();
        drop(store);
        let error = Embedded::open(dir.path()).err().unwrap();
        assert!(matches!(error, ControlError::Damaged(_)), "{error}");
    }

    #[test]
    fn fields_of_later_versions_do_not_hinder() {
        let bytes = br#"{"name":"a.b","tls":true,"status":"idle","first_seen_ms":7,"later":[1]}"#;
        let row = decode(HostId(3), bytes).unwrap();
        assert_eq!((row.status, row.first_seen_ms), (HostStatus::Idle, 7));
    }

    #[test]
    fn two_processes_can_not_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Embedded::open(dir.path()).unwrap();
        assert!(Embedded::open(dir.path()).is_err());
    }
}
