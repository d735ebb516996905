//! The control store of a relay without Postgres: a small RocksDB of its own beside the events, so
//! that neither can damage or delay the other.
//!
//! | key | value |
//! |---|---|
//! | `f` | format version, u32 big-endian |
//! | `i` | the number of this store, u64 big-endian |
//! | `n` | the next host id, u32 big-endian |
//! | `h` + id, u32 big-endian | the host, a JSON object |
//! | `d` + name | a banned domain, a JSON object |
//! | `t` + DID | an account that is taken down, a JSON object |
//! | `s` + name | a setting, JSON |
//! | `p` + name | the progress of a job, JSON |
//! | `a` + number, u64 big-endian | an entry of the audit log, a JSON object |
//! | `m` | the mirrored seq and its time, u64 big-endian each |
//! | `c` + id, u32 big-endian | the mirrored cursor, u64, and epoch, u32, big-endian |
//!
//! Rows are JSON because they are few and small, and because a field that a later version adds
//! can then be read, and left out, by either version.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocksdb::{
    BlockBasedOptions, Cache, DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AuditEntry, Ban, Control, ControlError, Cursor, Dump, HostRow, HostStatus, HostTerms, Mirror,
    Observed, Source, Takedown, domain::Domain,
};
use crate::{
    atproto::{
        did::Did,
        hostname::{Endpoint, Hostname},
    },
    crash::{self, Point},
    limits::DISK_DECISION_BYTES_MIN,
    store::{self, OpenError, RocksMemory, account::HostId, sync_directory},
};

/// The format that this version reads and writes.
const FORMAT: u32 = 1;
const FORMAT_KEY: &[u8] = b"f";
const ID_KEY: &[u8] = b"i";
const NEXT_ID_KEY: &[u8] = b"n";
const MIRROR_KEY: &[u8] = b"m";
const HOST_PREFIX: u8 = b'h';
const DOMAIN_PREFIX: u8 = b'd';
const TAKEDOWN_PREFIX: u8 = b't';
const SETTING_PREFIX: u8 = b's';
const NOTE_PREFIX: u8 = b'p';
const AUDIT_PREFIX: u8 = b'a';
const CURSOR_PREFIX: u8 = b'c';

/// A few thousand small rows: RocksDB's defaults would take a hundred times what they need.
const WRITE_BUFFER_BYTES: usize = 1 << 20;
const CACHE_BYTES: usize = 1 << 20;
const OPEN_FILES_MAX: i32 = 32;
const WAL_BYTES_MAX: u64 = 4 << 20;

/// The control store in a directory of its own.
pub struct Embedded {
    db: DB,
    /// Where it is.
    path: PathBuf,
    /// What was said of the last write.
    written: Mutex<Result<(), String>>,
    /// What is in the database, by name; also serialises the writers.
    index: Mutex<Index>,
}

struct Index {
    id: u64,
    by_name: HashMap<Hostname, HostId>,
    hosts: BTreeMap<HostId, HostRow>,
    next_id: u32,
    banned: BTreeSet<Domain>,
    next_audit: u64,
}

/// When something began; what it is, is the key.
#[derive(Serialize, Deserialize)]
struct StoredSince {
    since_ms: u64,
}

/// A [`HostRow`] as it is written; the id is the key.
#[derive(Serialize, Deserialize)]
struct StoredHost {
    name: String,
    tls: bool,
    /// `banned` also where that hides another one.
    status: String,
    /// That other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hidden_status: Option<String>,
    first_seen_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_connected_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(default)]
    failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skipped_why: Option<String>,
    /// Whether trust was decided; none: its domain decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trust: Option<bool>,
    #[serde(default)]
    lenient: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_limit: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events_per_hour: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    events_per_day: Option<u64>,
}

/// An [`AuditEntry`] as it is written; its number is the key.
#[derive(Serialize, Deserialize)]
struct StoredAudit {
    at_ms: u64,
    actor: String,
    action: String,
    subject: String,
    #[serde(default)]
    detail: Value,
}

impl Embedded {
    /// Opens the store in `<data_dir>/control`, or makes it.
    pub fn open(data_dir: &Path) -> Result<Embedded, ControlError> {
        let path = data_dir.join("control");
        // Its name is durable before anything in it is.
        std::fs::create_dir_all(&path)
            .and_then(|()| sync_directory(data_dir))
            .map_err(|e| ControlError::Backend(format!("{}: {e}", path.display())))?;
        // RocksDB makes a new database where it finds none, and removes what it does not know then.
        store::find_damage(&path).map_err(|error| unusable(&path, error))?;
        let db = DB::open(&options(), &path)
            .map_err(|error| unusable(&path, OpenError::rocksdb(&path, &error)))?;
        check_format(&db)?;
        let index = read_index(&db)?;
        Ok(Embedded {
            db,
            path,
            written: Mutex::new(Ok(())),
            index: Mutex::new(index),
        })
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // A row enters the index only after it is written whole, so a panic leaves it usable.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, batch: WriteBatch) -> Result<(), ControlError> {
        self.noted(|| self.db.write_opt(batch, &durable()))
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), ControlError> {
        self.noted(|| self.db.put_opt(key, value, &durable()))
    }

    fn delete(&self, key: &[u8]) -> Result<(), ControlError> {
        self.noted(|| self.db.delete_opt(key, &durable()))
    }

    /// Writes, where the disk is not full to the last: RocksDB takes no writes for a while after one
    /// for which there was no room.
    fn noted(
        &self,
        write: impl FnOnce() -> Result<(), rocksdb::Error>,
    ) -> Result<(), ControlError> {
        let done = match self.free_bytes() {
            Some(free) if free < DISK_DECISION_BYTES_MIN => {
                let (free, needed) = (free >> 20, DISK_DECISION_BYTES_MIN >> 20);
                Err(ControlError::Unavailable(format!(
                    "the disk is full: {free} MiB are free, {needed} MiB are needed"
                )))
            }
            _ => write().map_err(|error| match error.to_string() {
                full if full.contains("No space left") => ControlError::Unavailable(full),
                other => ControlError::Backend(other),
            }),
        };
        let written = done.as_ref().copied().map_err(ToString::to_string);
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = written;
        done
    }

    fn free_bytes(&self) -> Option<u64> {
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// A JSON value that there may be, set or removed.
    fn set_json(&self, key: &[u8], value: Option<&Value>) -> Result<(), ControlError> {
        match value {
            Some(value) => self.put(key, &json(value)?),
            None => self.delete(key),
        }
    }

    fn get_json(&self, key: &[u8]) -> Result<Option<Value>, ControlError> {
        let bytes = self.db.get(key).map_err(backend)?;
        bytes.map(|bytes| parse(&bytes, &text(key))).transpose()
    }

    /// The JSON values below a prefix, by what follows it.
    fn json_below(&self, prefix: u8) -> Result<BTreeMap<String, Value>, ControlError> {
        below(&self.db, prefix)
            .map(|entry| {
                let (name, value) = entry?;
                let name = text(&name);
                let value = parse(&value, &name)?;
                Ok((name, value))
            })
            .collect()
    }
}

impl Control for Embedded {
    fn memory(&self) -> Option<RocksMemory> {
        let read = |_: &(), property: &_| self.db.property_int_value(property).ok().flatten();
        Some(RocksMemory::of(&[()], read))
    }

    fn available(&self) -> Result<(), String> {
        // It is a part of this process. The keeper writes every few seconds, whoever else does.
        let written = self.written.lock();
        written.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn id(&self) -> u64 {
        self.index().id
    }

    fn hosts(&self) -> Result<Vec<HostRow>, ControlError> {
        // Ids are given in the order of addition.
        Ok(self.index().hosts.values().cloned().collect())
    }

    fn add_host(
        &self,
        endpoint: &Endpoint,
        source: Source,
        now_ms: u64,
    ) -> Result<HostRow, ControlError> {
        let mut index = self.index();
        if let Some(row) = index.by_name(&endpoint.host) {
            return Ok(row.clone());
        }
        let row = HostRow::new(HostId(index.next_id), endpoint, source, now_ms);
        let next_id = index.next_id.checked_add(1).ok_or(ControlError::Full)?;
        let mut batch = WriteBatch::default();
        batch.put(numbered(HOST_PREFIX, row.id), encode(&row)?);
        batch.put(NEXT_ID_KEY, next_id.to_be_bytes());
        self.write(batch)?;
        index.next_id = next_id;
        index.insert(row.clone());
        Ok(row)
    }

    fn set_terms(&self, host: HostId, terms: &HostTerms) -> Result<(), ControlError> {
        let mut index = self.index();
        let known = index
            .hosts
            .get_mut(&host)
            .ok_or(ControlError::NoSuchHost(host))?;
        if known.terms == *terms {
            return Ok(());
        }
        let row = HostRow {
            terms: *terms,
            ..known.clone()
        };
        self.put(&numbered(HOST_PREFIX, host), &encode(&row)?)?;
        *known = row;
        Ok(())
    }

    fn observe(&self, hosts: &[(HostId, Observed)]) -> Result<(), ControlError> {
        let mut index = self.index();
        let mut batch = WriteBatch::default();
        let mut rows = Vec::with_capacity(hosts.len());
        for (id, observed) in hosts {
            let known = index.hosts.get(id).ok_or(ControlError::NoSuchHost(*id))?;
            let row = HostRow {
                observed: observed.clone(),
                ..known.clone()
            };
            batch.put(numbered(HOST_PREFIX, *id), encode(&row)?);
            rows.push(row);
        }
        self.write(batch)?;
        index
            .hosts
            .extend(rows.into_iter().map(|row| (row.id, row)));
        Ok(())
    }

    fn bans(&self) -> Result<Vec<Ban>, ControlError> {
        let banned = self.index();
        let ban = |domain: &Domain| {
            let value = self.get_json(&domain_key(domain))?.unwrap_or_default();
            Ok(Ban {
                domain: domain.clone(),
                since_ms: value["since_ms"].as_u64().unwrap_or(0),
            })
        };
        banned.banned.iter().map(ban).collect()
    }

    fn ban_domain(&self, domain: &Domain, now_ms: u64) -> Result<(), ControlError> {
        let mut index = self.index();
        if index.banned.contains(domain) {
            return Ok(());
        }
        self.put(
            &domain_key(domain),
            &json(&StoredSince { since_ms: now_ms })?,
        )?;
        index.banned.insert(domain.clone());
        Ok(())
    }

    fn unban_domain(&self, domain: &Domain) -> Result<(), ControlError> {
        let mut index = self.index();
        if !index.banned.contains(domain) {
            return Ok(());
        }
        self.delete(&domain_key(domain))?;
        index.banned.remove(domain);
        Ok(())
    }

    fn takedowns(&self) -> Result<Vec<Takedown>, ControlError> {
        below(&self.db, TAKEDOWN_PREFIX)
            .map(|entry| {
                let (did, value) = entry?;
                let did = text(&did);
                let since: StoredSince = parse(&value, &did)?;
                let did = Did::parse(&did).map_err(|error| {
                    ControlError::Damaged(format!("the account {did:?}, taken down, is {error}"))
                })?;
                Ok(Takedown {
                    did,
                    since_ms: since.since_ms,
                })
            })
            .collect()
    }

    fn take_down(&self, did: &Did, now_ms: u64) -> Result<(), ControlError> {
        let _writing = self.index();
        let key = named(TAKEDOWN_PREFIX, did.as_str());
        if self.db.get_pinned(&key).map_err(backend)?.is_some() {
            return Ok(());
        }
        self.put(&key, &json(&StoredSince { since_ms: now_ms })?)
    }

    fn reverse_takedown(&self, did: &Did) -> Result<(), ControlError> {
        let _writing = self.index();
        self.delete(&named(TAKEDOWN_PREFIX, did.as_str()))
    }

    fn settings(&self) -> Result<BTreeMap<String, Value>, ControlError> {
        self.json_below(SETTING_PREFIX)
    }

    fn set_setting(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError> {
        self.set_json(&named(SETTING_PREFIX, name), value)
    }

    fn note(&self, name: &str) -> Result<Option<Value>, ControlError> {
        self.get_json(&named(NOTE_PREFIX, name))
    }

    fn set_note(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError> {
        self.set_json(&named(NOTE_PREFIX, name), value)
    }

    fn audit(&self, entry: &AuditEntry) -> Result<u64, ControlError> {
        let mut index = self.index();
        let number = index.next_audit;
        self.put(&audit_key(number), &encode_audit(entry)?)?;
        index.next_audit = number + 1;
        Ok(number)
    }

    fn audit_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, ControlError> {
        let last = match before {
            Some(0) => return Ok(Vec::new()),
            Some(before) => before - 1,
            None => u64::MAX,
        };
        let key = audit_key(last);
        let entries = self
            .db
            .iterator(IteratorMode::From(&key, Direction::Reverse));
        let mut found = Vec::new();
        for entry in entries.take(limit) {
            let (key, value) = entry.map_err(backend)?;
            let Some((&AUDIT_PREFIX, number)) = key.split_first() else {
                break;
            };
            found.push(decode_audit(number, &value)?);
        }
        Ok(found)
    }

    fn mirror(&self, mirror: &Mirror) -> Result<(), ControlError> {
        let mut batch = WriteBatch::default();
        put_mirror(&mut batch, mirror);
        // Not synced: it is written all the time, and of use only where more than the last seconds
        // of it are lost elsewhere.
        self.db.write(batch).map_err(backend)
    }

    fn mirrored(&self) -> Result<Mirror, ControlError> {
        let mut mirror = Mirror::default();
        if let Some(bytes) = self.db.get(MIRROR_KEY).map_err(backend)? {
            let (seq, at_ms) = bytes.split_at_checked(8).ok_or_else(short)?;
            (mirror.seq, mirror.at_ms) = (long(seq)?, long(at_ms)?);
        }
        for entry in below(&self.db, CURSOR_PREFIX) {
            let (id, value) = entry?;
            let (seq, epoch) = value.split_at_checked(8).ok_or_else(short)?;
            let cursor = Cursor {
                seq: long(seq)?,
                epoch: number(epoch)?,
            };
            mirror.cursors.push((HostId(number(&id)?), cursor));
        }
        Ok(mirror)
    }

    fn export(&self) -> Result<Dump, ControlError> {
        let index = self.index();
        let (id, next_host) = (index.id, index.next_id);
        drop(index);
        let mut audit = self.audit_before(None, usize::MAX)?;
        audit.reverse();
        Ok(Dump {
            id,
            next_host,
            hosts: self.hosts()?,
            bans: self.bans()?,
            takedowns: self.takedowns()?,
            settings: self.settings()?,
            notes: self.json_below(NOTE_PREFIX)?,
            audit,
            mirror: self.mirrored()?,
        })
    }

    fn import(&self, dump: &Dump) -> Result<(), ControlError> {
        let mut index = self.index();
        let mut batch = WriteBatch::default();
        for entry in self.db.iterator(IteratorMode::Start) {
            batch.delete(entry.map_err(backend)?.0);
        }
        batch.put(FORMAT_KEY, FORMAT.to_be_bytes());
        batch.put(ID_KEY, dump.id.to_be_bytes());
        batch.put(NEXT_ID_KEY, dump.next_host.to_be_bytes());
        for row in &dump.hosts {
            batch.put(numbered(HOST_PREFIX, row.id), encode(row)?);
        }
        for Ban { domain, since_ms } in &dump.bans {
            let since_ms = *since_ms;
            batch.put(domain_key(domain), json(&StoredSince { since_ms })?);
        }
        for Takedown { did, since_ms } in &dump.takedowns {
            let since_ms = *since_ms;
            let key = named(TAKEDOWN_PREFIX, did.as_str());
            batch.put(key, json(&StoredSince { since_ms })?);
        }
        for (prefix, values) in [(SETTING_PREFIX, &dump.settings), (NOTE_PREFIX, &dump.notes)] {
            for (name, value) in values {
                batch.put(named(prefix, name), json(value)?);
            }
        }
        for (number, entry) in &dump.audit {
            batch.put(audit_key(*number), encode_audit(entry)?);
        }
        put_mirror(&mut batch, &dump.mirror);
        self.write(batch)?;
        *index = read_index(&self.db)?;
        Ok(())
    }
}

impl Index {
    fn by_name(&self, name: &Hostname) -> Option<&HostRow> {
        self.hosts.get(self.by_name.get(name)?)
    }

    fn insert(&mut self, row: HostRow) {
        self.by_name.insert(row.name.clone(), row.id);
        self.hosts.insert(row.id, row);
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
    options.set_track_and_verify_wals_in_manifest(true);
    options
}

fn durable() -> WriteOptions {
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
    let id = super::new_id();
    db.put_opt(ID_KEY, id.to_be_bytes(), &durable())
        .map_err(backend)?;
    crash::point(Point::ControlNumbered);
    Ok(id)
}

fn read_index(db: &DB) -> Result<Index, ControlError> {
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

/// What follows the prefix of a key, and the value.
type Entry = (Box<[u8]>, Box<[u8]>);

/// Everything below a prefix.
fn below(db: &DB, prefix: u8) -> impl Iterator<Item = Result<Entry, ControlError>> + '_ {
    let entries = db.iterator(IteratorMode::From(&[prefix], Direction::Forward));
    entries
        .map(|entry| entry.map_err(backend))
        .take_while(move |entry| {
            let key = entry.as_ref().ok().map(|(key, _)| key);
            key.is_none_or(|key| key.first() == Some(&prefix))
        })
        .map(|entry| entry.map(|(key, value)| (key[1..].into(), value)))
}

fn named(prefix: u8, name: &str) -> Vec<u8> {
    [&[prefix], name.as_bytes()].concat()
}

fn domain_key(domain: &Domain) -> Vec<u8> {
    named(DOMAIN_PREFIX, domain.as_str())
}

fn numbered(prefix: u8, id: HostId) -> [u8; 5] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [prefix, a, b, c, d]
}

fn audit_key(number: u64) -> [u8; 9] {
    let mut key = [AUDIT_PREFIX; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn put_mirror(batch: &mut WriteBatch, mirror: &Mirror) {
    let seq = [mirror.seq.to_be_bytes(), mirror.at_ms.to_be_bytes()].concat();
    batch.put(MIRROR_KEY, seq);
    for (id, cursor) in &mirror.cursors {
        let value = [&cursor.seq.to_be_bytes()[..], &cursor.epoch.to_be_bytes()].concat();
        batch.put(numbered(CURSOR_PREFIX, *id), value);
    }
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ControlError> {
    serde_json::to_vec(value).map_err(|e| ControlError::Backend(e.to_string()))
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ControlError> {
    serde_json::from_slice(bytes).map_err(|e| ControlError::Damaged(format!("{what}: {e}")))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn encode_audit(entry: &AuditEntry) -> Result<Vec<u8>, ControlError> {
    json(&StoredAudit {
        at_ms: entry.at_ms,
        actor: entry.actor.clone(),
        action: entry.action.clone(),
        subject: entry.subject.clone(),
        detail: entry.detail.clone(),
    })
}

fn decode_audit(number: &[u8], bytes: &[u8]) -> Result<(u64, AuditEntry), ControlError> {
    let number = long(number)?;
    let stored: StoredAudit = parse(bytes, &format!("audit entry {number}"))?;
    let entry = AuditEntry {
        at_ms: stored.at_ms,
        actor: stored.actor,
        action: stored.action,
        subject: stored.subject,
        detail: stored.detail,
    };
    Ok((number, entry))
}

fn encode(row: &HostRow) -> Result<Vec<u8>, ControlError> {
    let (terms, observed) = (&row.terms, &row.observed);
    let hidden = terms.banned.then(|| observed.status.name().to_owned());
    json(&StoredHost {
        name: row.name.as_str().to_owned(),
        tls: row.tls,
        status: row.status().name().to_owned(),
        hidden_status: hidden,
        first_seen_ms: row.first_seen_ms,
        source: Some(row.source.name().to_owned()),
        last_connected_ms: observed.last_connected_ms,
        last_seen_ms: observed.last_seen_ms,
        last_error: observed.last_error.clone(),
        failures: observed.failures,
        skipped_ms: observed.skipped_ms,
        skipped_why: observed.skipped_why.clone(),
        trust: terms.trusted,
        lenient: terms.lenient,
        account_limit: terms.accounts,
        events_per_second: terms.events_per_second,
        events_per_hour: terms.events_per_hour,
        events_per_day: terms.events_per_day,
    })
}

fn decode(id: HostId, bytes: &[u8]) -> Result<HostRow, ControlError> {
    let damaged = |what: String| ControlError::Damaged(format!("host {id}: {what}"));
    let stored: StoredHost = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    let known = |name: &str| {
        HostStatus::parse(name).ok_or_else(|| damaged(format!("unknown status {name:?}")))
    };
    let status = known(&stored.status)?;
    let banned = status == HostStatus::Banned;
    // Older versions forgot it while it was hidden.
    let hidden = stored.hidden_status.as_deref().map(known).transpose()?;
    let source = stored.source.as_deref().map(|source| {
        Source::parse(source).ok_or_else(|| damaged(format!("unknown source {source:?}")))
    });
    Ok(HostRow {
        id,
        name: Hostname::parse(&stored.name)
            .map_err(|e| damaged(format!("{:?} is {e}", stored.name)))?,
        tls: stored.tls,
        first_seen_ms: stored.first_seen_ms,
        // Older versions did not keep it, and most hosts come from a list.
        source: source.transpose()?.unwrap_or(Source::Discovery),
        terms: HostTerms {
            banned,
            trusted: stored.trust,
            lenient: stored.lenient,
            accounts: stored.account_limit,
            events_per_second: stored.events_per_second,
            events_per_hour: stored.events_per_hour,
            events_per_day: stored.events_per_day,
        },
        observed: Observed {
            status: match banned {
                true => hidden.unwrap_or(HostStatus::Active),
                false => status,
            },
            last_connected_ms: stored.last_connected_ms,
            last_seen_ms: stored.last_seen_ms,
            last_error: stored.last_error,
            failures: stored.failures,
            skipped_ms: stored.skipped_ms,
            skipped_why: stored.skipped_why,
        },
    })
}

fn number(bytes: &[u8]) -> Result<u32, ControlError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ControlError::Damaged("a number that is not four bytes".into()))?;
    Ok(u32::from_be_bytes(bytes))
}

fn long(bytes: &[u8]) -> Result<u64, ControlError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ControlError::Damaged("a number that is not eight bytes".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

fn short() -> ControlError {
    ControlError::Damaged("a value that ends early".into())
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
            .add_host(
                &Endpoint::parse("a.example.com").unwrap(),
                Source::Request,
                1,
            )
            .unwrap();
        store
            .db
            .put(numbered(HOST_PREFIX, row.id), b"{\"name\":\"10.0.0.1\"}")
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
        assert_eq!((row.status(), row.first_seen_ms), (HostStatus::Idle, 7));
        let banned = br#"{"name":"a.b","tls":true,"status":"banned","first_seen_ms":7}"#;
        let row = decode(HostId(3), banned).unwrap();
        assert!(row.terms.banned && row.source == Source::Discovery);
        assert_eq!(row.observed.status, HostStatus::Active);
    }

    #[test]
    fn two_processes_can_not_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Embedded::open(dir.path()).unwrap();
        assert!(Embedded::open(dir.path()).is_err());
    }
}
