//! What a database of RocksDB keeps in memory.

use rocksdb::properties::{
    BLOCK_CACHE_PINNED_USAGE, BLOCK_CACHE_USAGE, ESTIMATE_TABLE_READERS_MEM, PropName,
    SIZE_ALL_MEM_TABLES,
};
use serde::Serialize;

use super::{Family, Store};

/// What a database keeps in memory, in bytes, as it says itself; all of it is in the heap of the C
/// library's allocator.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct RocksMemory {
    /// Entries that are not yet in a file, and those that are while somebody still reads them here.
    pub memtables_bytes: u64,
    /// Blocks of files, with indexes and filters.
    pub block_cache_bytes: u64,
    /// Of this: what can not leave the cache now.
    pub block_cache_pinned_bytes: u64,
    /// What else open files take.
    pub table_readers_bytes: u64,
}

impl RocksMemory {
    /// Of a database whose column families share one cache; `read` reads a property of one of them.
    /// What can not be read counts as nothing.
    pub(crate) fn of<F>(
        families: &[F],
        read: impl Fn(&F, &PropName) -> Option<u64>,
    ) -> RocksMemory {
        let sum = |name| {
            families
                .iter()
                .filter_map(|family| read(family, name))
                .sum()
        };
        let shared = |name| families.first().and_then(|family| read(family, name));
        RocksMemory {
            memtables_bytes: sum(SIZE_ALL_MEM_TABLES),
            block_cache_bytes: shared(BLOCK_CACHE_USAGE).unwrap_or(0),
            block_cache_pinned_bytes: shared(BLOCK_CACHE_PINNED_USAGE).unwrap_or(0),
            table_readers_bytes: sum(ESTIMATE_TABLE_READERS_MEM),
        }
    }
}

impl Store {
    /// What the store keeps in memory. Takes RocksDB's own lock for some microseconds, once for each
    /// column family.
    pub fn memory(&self) -> RocksMemory {
        RocksMemory::of(&Family::ALL, |family, property| {
            let family = self.db.family(*family);
            let value = self.db.rocks.property_int_value_cf(&family, property);
            value.ok().flatten()
        })
    }
}
