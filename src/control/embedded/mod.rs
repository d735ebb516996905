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

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocksdb::{DB, Direction, IteratorMode, WriteBatch};
use serde_json::Value;

mod keys;
mod open;
mod rows;
#[cfg(test)]
mod tests;

use self::{
    keys::{
        AUDIT_PREFIX, CURSOR_PREFIX, FORMAT, FORMAT_KEY, HOST_PREFIX, ID_KEY, MIRROR_KEY,
        NEXT_ID_KEY, NOTE_PREFIX, SETTING_PREFIX, TAKEDOWN_PREFIX, audit_key, below, domain_key,
        named, number, numbered, text,
    },
    open::{durable, read_index},
    rows::{
        StoredSince, decode_audit, decode_cursor, decode_mirrored, encode, encode_audit, json,
        parse, put_mirror,
    },
};
use super::{
    AuditEntry, Ban, Control, ControlError, Dump, HostRow, HostTerms, Mirror, Observed, Source,
    Takedown, domain::Domain,
};
use crate::{
    atproto::{
        did::Did,
        hostname::{Endpoint, Hostname},
    },
    limits::DISK_DECISION_BYTES_MIN,
    store::{RocksMemory, account::HostId, disk_of},
};

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

impl Embedded {
    /// Opens the store in `<data_dir>/control`, or makes it.
    pub fn open(data_dir: &Path) -> Result<Embedded, ControlError> {
        let path = data_dir.join("control");
        let (db, index) = open::open(data_dir, &path)?;
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
        let done = match disk_of(&self.path) {
            Ok(disk) if disk.size > 0 && disk.free < DISK_DECISION_BYTES_MIN => {
                let (free, needed) = (disk.free >> 20, DISK_DECISION_BYTES_MIN >> 20);
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
            (mirror.seq, mirror.at_ms) = decode_mirrored(&bytes)?;
        }
        for entry in below(&self.db, CURSOR_PREFIX) {
            let (id, value) = entry?;
            let id = HostId(number(&id)?);
            mirror.cursors.push((id, decode_cursor(&value)?));
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

fn backend(error: rocksdb::Error) -> ControlError {
    ControlError::Backend(error.into_string())
}
