//! RocksDB: events, accounts, host cursors. One process, one writer (the sequencer), many readers.
//!
//! An event, the account it moves and the host cursor it advances are one [`Batch`]: after a kill
//! at any instant they agree. A seq is never given twice, also not after everything was pruned.

pub mod account;
mod batch;
pub mod collections;
mod disk;
mod error;
mod events;
mod family;
mod large;
mod listing;
mod memory;
mod open;
mod options;
mod recount;
mod reserve;
pub mod retention;
mod seed;
mod takedowns;
mod wal;
mod window;

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use rocksdb::{
    BoundColumnFamily, DBWithThreadMode, FlushOptions, MultiThreaded, WaitForCompactOptions,
    WriteOptions,
};

pub(crate) use self::open::{find_damage, lock_directory, sync_directory};
pub(crate) use self::reserve::disk_of;
use self::{
    account::{Account, HostId, HostRecord},
    family::{Ending, Family, Meta, event_key, host_key, throttled_key},
    large::Begun,
    window::WindowCell,
};
pub use self::{
    batch::Batch,
    disk::Disk,
    error::{OpenError, StoreError},
    events::{Page, Pruned},
    large::{Large, Outline},
    listing::{ListEntry, Listing},
    memory::RocksMemory,
    options::Options,
    reserve::{Reserve, Space},
    takedowns::Takedown,
    window::Window,
};
use crate::{
    atproto::did::Did,
    crash::{self, Point},
};

/// Numbers that go with the accounts, written in the batch that changes them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// The ordinal that the next new account gets, from 1.
    pub next_ordinal: u64,
    /// Accounts there are.
    pub accounts: u64,
    /// Collections there are, also those of which nobody has records any more: the number of the
    /// last one.
    pub collections: u64,
    /// Pairs of an account and a collection of which it has records.
    pub pairs: u64,
}

/// The database, shared by the store and its batches.
struct Db {
    rocks: DBWithThreadMode<MultiThreaded>,
    /// How often the end of a run may have lost the last batches.
    losses: u32,
}

impl Db {
    /// A column family. All of them exist from the open on.
    #[expect(clippy::expect_used, reason = "opened together with the database")]
    fn family(&self, family: Family) -> Arc<BoundColumnFamily<'_>> {
        self.rocks
            .cf_handle(family.name())
            .expect("a column family of the open database")
    }

    fn meta(&self, meta: Meta) -> Result<Option<u64>, StoreError> {
        let family = self.family(Family::Meta);
        let Some(value) = self.rocks.get_pinned_cf(&family, meta.key())? else {
            return Ok(None);
        };
        match <[u8; 8]>::try_from(&*value) {
            Ok(bytes) => Ok(Some(u64::from_le_bytes(bytes))),
            Err(_) => Err(StoreError::damaged(Family::Meta.name(), meta.key())),
        }
    }

    /// Writes numbers of [`Family::Meta`] and syncs them, whatever the options say.
    fn set_meta(&self, values: &[(Meta, u64)]) -> Result<(), StoreError> {
        self.write_synced(rocksdb::WriteBatch::default(), values)
    }

    /// Writes a batch and numbers of [`Family::Meta`] and syncs them, whatever the options say.
    fn write_synced(
        &self,
        mut batch: rocksdb::WriteBatch,
        values: &[(Meta, u64)],
    ) -> Result<(), StoreError> {
        let family = self.family(Family::Meta);
        for (meta, value) in values {
            batch.put_cf(&family, meta.key(), value.to_le_bytes());
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(self.rocks.write_opt(batch, &synced)?)
    }

    /// What is known of every host, by number.
    fn hosts(&self) -> Result<Vec<(HostId, HostRecord)>, StoreError> {
        let family = self.family(Family::Hosts);
        let mut entries = self.rocks.raw_iterator_cf(&family);
        let mut hosts = Vec::new();
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            let id = <[u8; 4]>::try_from(key).ok();
            let host = id
                .map(|id| HostId(u32::from_be_bytes(id)))
                .zip(HostRecord::decode(value));
            hosts.push(decoded(host, Family::Hosts, format_args!("{key:02x?}"))?);
            entries.next();
        }
        entries.status()?;
        Ok(hosts)
    }
}

/// The open store. Dropping it without [`Store::close`] is what a crash is: safe, and the next
/// open may have to skip seqs when syncing is off.
pub struct Store {
    db: Arc<Db>,
    options: Options,
    window: WindowCell,
    begun: Arc<Begun>,
    next_ordinal: AtomicU64,
    accounts: AtomicU64,
    collections: AtomicU64,
    pairs: AtomicU64,
    closed: AtomicBool,
    /// How many bytes the last batch was.
    batch_bytes: AtomicUsize,
    /// Holds the lock of the directory; released after the database is closed.
    _lock: File,
}

impl Store {
    /// What is known of an account.
    pub fn account(&self, did: &Did) -> Result<Option<Account>, StoreError> {
        let family = self.db.family(Family::Accounts);
        match self.db.rocks.get_pinned_cf(&family, did.as_str())? {
            Some(value) => decoded(Account::decode(&value), Family::Accounts, did).map(Some),
            None => Ok(None),
        }
    }

    /// Accounts that are throttled at a host, with their ordinals: those that appeared first, at most
    /// `limit` of them.
    pub fn throttled(&self, host: HostId, limit: usize) -> Result<Vec<(u64, Did)>, StoreError> {
        let family = self.db.family(Family::Throttled);
        let mut entries = self.db.rocks.raw_iterator_cf(&family);
        let mut found = Vec::new();
        entries.seek(throttled_key(host, 0));
        while found.len() < limit {
            let Some((key, value)) = entries.item() else {
                entries.status()?;
                break;
            };
            let Some(ordinal) = key.strip_prefix(&host_key(host)) else {
                break;
            };
            let ordinal = <[u8; 8]>::try_from(ordinal).ok().map(u64::from_be_bytes);
            let did = std::str::from_utf8(value).ok().map(Did::parse);
            let (Some(ordinal), Some(Ok(did))) = (ordinal, did) else {
                let name = Family::Throttled.name();
                return Err(StoreError::damaged(name, format_args!("{key:02x?}")));
            };
            found.push((ordinal, did));
            entries.next();
        }
        Ok(found)
    }

    /// What is known of a host.
    pub fn host(&self, host: HostId) -> Result<Option<HostRecord>, StoreError> {
        let family = self.db.family(Family::Hosts);
        match self.db.rocks.get_pinned_cf(&family, host_key(host))? {
            Some(value) => decoded(HostRecord::decode(&value), Family::Hosts, host).map(Some),
            None => Ok(None),
        }
    }

    /// What is known of every host, by number.
    pub fn hosts(&self) -> Result<Vec<(HostId, HostRecord)>, StoreError> {
        self.db.hosts()
    }

    /// The highest seq ever assigned; 0: none. The next one is the one after it.
    pub fn last_seq(&self) -> u64 {
        self.window.last()
    }

    /// What can be replayed, without waiting for anything.
    pub fn window(&self) -> Window {
        self.window.get()
    }

    /// The counters as the last commit left them.
    pub fn counters(&self) -> Counters {
        Counters {
            next_ordinal: self.next_ordinal.load(Ordering::Acquire),
            accounts: self.accounts.load(Ordering::Acquire),
            collections: self.collections.load(Ordering::Acquire),
            pairs: self.pairs.load(Ordering::Acquire),
        }
    }

    /// An empty batch, with room for as much as the last one held: growing into it would copy
    /// everything a few times, into memory that is new each time.
    pub fn batch(&self) -> Batch {
        let bytes = self.batch_bytes.load(Ordering::Relaxed);
        Batch::new(Arc::clone(&self.db), bytes)
    }

    /// Writes a batch, all of it or nothing; with [`Options::fsync`] it is on disk on return. Then
    /// the window and the counters move. Only the sequencer calls this. An error is final: what
    /// was in the batch may or may not be there after a restart.
    pub fn commit(&self, mut batch: Batch) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        if let Some((last, offered)) = batch.disorder {
            return Err(StoreError::SeqOrder { last, offered });
        }
        if let Some((first, last)) = batch.seqs {
            let before = self.last_seq();
            if first <= before {
                return Err(StoreError::SeqOrder {
                    last: before,
                    offered: first,
                });
            }
            batch.put_meta(Meta::LastSeq, last);
        }
        let (seqs, counters) = (batch.seqs, batch.counters);
        let bytes = batch.batch.size_in_bytes();
        self.batch_bytes.store(bytes, Ordering::Relaxed);
        crash::point(Point::BatchBefore);
        self.db
            .rocks
            .write_opt(batch.batch, &self.options.write())?;
        crash::point(Point::BatchWritten);
        if batch.has_piece {
            crash::point(Point::PieceWritten);
        }
        if let Some((first, last)) = seqs {
            self.window.append(first, last);
        }
        if let Some(counters) = counters {
            self.next_ordinal
                .store(counters.next_ordinal, Ordering::Release);
            self.accounts.store(counters.accounts, Ordering::Release);
            self.collections
                .store(counters.collections, Ordering::Release);
            self.pairs.store(counters.pairs, Ordering::Release);
        }
        Ok(())
    }

    /// Whether a batch could be written now: writes and syncs what is there already. The sequencer's
    /// alone, as [`Store::commit`] is; an error is not final here, because nothing was in it.
    pub fn try_write(&self) -> Result<(), StoreError> {
        self.db.set_meta(&[(Meta::LastSeq, self.last_seq())])
    }

    /// Ends writing: everything is synced and the end is marked as clean. What was in memory
    /// becomes files, so that the next open has no log to read. Readers may go on.
    pub fn close(&self) -> Result<(), StoreError> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        crash::point(Point::CloseBefore);
        self.db.rocks.flush_wal(true)?;
        crash::point(Point::CloseSynced);
        self.db.set_meta(&[(Meta::Ending, Ending::Clean.code())])?;
        crash::point(Point::CloseMarked);
        let families = Family::ALL.map(|family| self.db.family(family));
        let families: Vec<_> = families.iter().collect();
        self.db
            .rocks
            .flush_cfs_opt(&families, &FlushOptions::default())?;
        crash::point(Point::CloseFlushed);
        Ok(())
    }
}

impl Store {
    /// Waits until all files are merged that RocksDB would merge by itself, for who measures or wants
    /// to know how much there is: a store that was filled in a minute is read otherwise as one that grew
    /// for a year. Takes as long as the disk and one core need.
    pub fn settle(&self) -> Result<(), StoreError> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        Ok(self.db.rocks.wait_for_compact(&options)?)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("window", &self.window())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Store {
    /// Rewrites the files of a directory's store that hold accounts as an earlier version wrote them:
    /// with a whole index and a whole filter, in blocks of 8 KiB.
    pub(crate) fn write_whole_filters(dir: &std::path::Path) {
        let path = dir.join("store");
        let mut table = rocksdb::BlockBasedOptions::default();
        table.set_block_size(8 << 10);
        table.set_bloom_filter(10.0, false);
        table.set_format_version(5);
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(&table);
        let names = rocksdb::DB::list_cf(&options, &path).unwrap();
        let families = names.iter().map(|name| (name, options.clone()));
        let rocks: DBWithThreadMode<MultiThreaded> =
            DBWithThreadMode::open_cf_with_opts(&options, &path, families).unwrap();
        let mut compact = rocksdb::CompactOptions::default();
        compact.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        for family in [Family::Accounts, Family::ByAccount, Family::Collections] {
            let family = rocks.cf_handle(family.name()).unwrap();
            rocks.compact_range_cf_opt(&family, None::<&[u8]>, None::<&[u8]>, &compact);
        }
    }

    /// Makes the store of a directory one of a version that kept no list of throttled accounts and
    /// no index of collections.
    pub(crate) fn forget_lists(dir: &std::path::Path) {
        let path = dir.join("store");
        let options = rocksdb::Options::default();
        let names = rocksdb::DB::list_cf(&options, &path).unwrap();
        let rocks: DBWithThreadMode<MultiThreaded> =
            DBWithThreadMode::open_cf(&options, &path, names).unwrap();
        for family in [
            Family::Throttled,
            Family::Collections,
            Family::ByCollection,
            Family::ByAccount,
        ] {
            rocks.drop_cf(family.name()).unwrap();
        }
    }
}

/// A decoded value, or which entry is damaged.
fn decoded<T>(
    value: Option<T>,
    family: Family,
    key: impl std::fmt::Display,
) -> Result<T, StoreError> {
    value.ok_or_else(|| StoreError::damaged(family.name(), key))
}

#[cfg(test)]
mod tests;
