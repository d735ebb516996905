//! How the store is opened, and what each setting of RocksDB is for.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    DBRecoveryMode, LruCacheOptions, ReadOptions, WriteOptions,
};

use super::family::Family;
use crate::limits;

/// RocksDB's default for the window of its codecs, of which zlib alone takes notice.
const ZSTD_WINDOW_DEFAULT: i32 = -14;

/// The cache of blocks is in two to the power of this many parts, each with a lock of its own: those who
/// read are the sequencer, a few queries and two threads that merge files.
const CACHE_SHARD_BITS: i32 = 2;

/// How the store behaves; the sizes are injectable so that tests see files come and go.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether a commit is on disk when it returns. Without, a power loss may lose the last
    /// seconds, and the seq then jumps by [`limits::SEQ_JUMP`] at the next open.
    pub fsync: bool,
    /// The next seq is at least this.
    pub initial_seq: u64,
    /// Uncompressed blocks in memory, shared by all column families, in bytes.
    pub cache_bytes: usize,
    /// What the events column family gathers in memory before it writes a file, in bytes; also
    /// about the size of that file before compression, and so the grain of retention.
    pub events_buffer_bytes: usize,
    /// The same for each of the other column families.
    pub other_buffer_bytes: usize,
    /// Files that RocksDB keeps open.
    pub open_files_max: u16,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            fsync: true,
            initial_seq: 1,
            cache_bytes: limits::STORE_CACHE_BYTES,
            events_buffer_bytes: limits::STORE_EVENTS_BUFFER_BYTES,
            other_buffer_bytes: limits::STORE_OTHER_BUFFER_BYTES,
            open_files_max: limits::STORE_OPEN_FILES_MAX,
        }
    }
}

impl Options {
    /// The options of the whole database.
    pub(super) fn database(&self) -> rocksdb::Options {
        let mut db = rocksdb::Options::default();
        db.create_if_missing(true);
        db.create_missing_column_families(true);
        // Every block is checksummed; a mismatch is an error instead of wrong data.
        db.set_paranoid_checks(true);
        // All memtables together: what is dirty in memory cannot grow with the column families.
        db.set_db_write_buffer_size(2 * self.events_buffer_bytes + 4 * self.other_buffer_bytes);
        // The log is kept until every column family has written what it holds; this bounds it, and
        // with it the time that an open needs to replay it.
        db.set_max_total_wal_size(4 * self.events_buffer_bytes as u64);
        // A crash may leave the end of the log torn: what is before the tear is used, what is after
        // was never reported as durable. Stricter modes refuse to open after a power loss.
        db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        // A log that is missing, or shorter than it was, is an error and not a loss.
        db.set_track_and_verify_wals_in_manifest(true);
        // Each open file costs its index in memory and a descriptor.
        db.set_max_open_files(i32::from(self.open_files_max));
        // Flush and compaction: two threads next to thousands of ours.
        db.set_max_background_jobs(2);
        // Written data goes to the disk in steps, so that no fsync finds a gigabyte waiting.
        db.set_bytes_per_sync(1 << 20);
        db.set_wal_bytes_per_sync(1 << 20);
        // RocksDB's own log: a few small files beside the data.
        db.set_keep_log_file_num(4);
        db.set_max_log_file_size(4 << 20);
        db.set_stats_dump_period_sec(0);
        // No statistics written into the database itself every ten minutes.
        db.set_stats_persist_period_sec(0);
        // Counting deletions in every file at open takes minutes with thousands of files.
        db.set_skip_stats_update_on_db_open(true);
        db
    }

    /// The column families with the options of each.
    pub(super) fn families(&self) -> Vec<ColumnFamilyDescriptor> {
        // One cache for all, so that the memory goes where the reads are. In a few large parts: by
        // default it has as many as get half a megabyte each, and what is larger is never kept.
        let mut lru = LruCacheOptions::default();
        lru.set_capacity(self.cache_bytes);
        lru.set_num_shard_bits(CACHE_SHARD_BITS);
        let cache = Cache::new_lru_cache_opts(&lru);
        let mut families = vec![ColumnFamilyDescriptor::new(
            rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
            rocksdb::Options::default(),
        )];
        families.extend(Family::ALL.map(|family| {
            let options = match family {
                Family::Events => self.events(&cache, self.events_buffer_bytes),
                Family::Large => self.events(&cache, 2 * self.other_buffer_bytes),
                Family::Accounts | Family::Collections | Family::ByAccount => {
                    self.looked_up(&cache)
                }
                Family::ByCollection => self.lists(&cache),
                Family::Meta
                | Family::AccountOrder
                | Family::Hosts
                | Family::Takedowns
                | Family::Throttled => self.keyed(&cache),
            };
            ColumnFamilyDescriptor::new(family.name(), options)
        }));
        families
    }

    /// Events: written in order of their key, never overwritten, read in long runs. Files never
    /// overlap, so compaction only moves them from level to level without rewriting. The same holds for the
    /// pieces of large ones.
    fn events(&self, cache: &Cache, buffer_bytes: usize) -> rocksdb::Options {
        let mut table = table(cache);
        // Long runs: larger blocks compress better and have a smaller index; beyond this size it is
        // hardly better (`just bench compression`).
        table.set_block_size(128 << 10);
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(buffer_bytes);
        // One fills while the others are written.
        options.set_max_write_buffer_number(3);
        options.set_target_file_size_base(buffer_bytes as u64);
        options.set_max_bytes_for_level_base(8 * buffer_bytes as u64);
        // Files of level 0 that wait to leave it are merged four at a time into one, of any size, which
        // retention could drop only as a whole. With so little at once they are not.
        options.set_max_compaction_bytes(2 * buffer_bytes as u64);
        // Two files are enough to leave level 0, the only level whose files retention cannot drop.
        options.set_level_zero_file_num_compaction_trigger(2);
        // Disk is what a long window costs; one codec on all levels, or moving would rewrite.
        // The lowest level: most of a frame is hashes and signatures, which no level makes smaller,
        // and the next ones cost twice the time for one percent.
        options.set_compression_type(DBCompressionType::Zstd);
        options.set_compression_options(ZSTD_WINDOW_DEFAULT, 1, 0, 0);
        options
    }

    /// Small entries under their key, overwritten often.
    fn keyed(&self, cache: &Cache) -> rocksdb::Options {
        let mut table = table(cache);
        table.set_block_size(8 << 10);
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(self.other_buffer_bytes);
        options.set_max_write_buffer_number(2);
        options.set_target_file_size_base(32 << 20);
        options.set_compression_type(DBCompressionType::Lz4);
        options
    }

    /// Small entries that are looked up one by one, millions of them and in no order: for each event,
    /// and a thousand for a page of accounts.
    fn looked_up(&self, cache: &Cache) -> rocksdb::Options {
        let mut options = self.keyed(cache);
        let mut table = table(cache);
        // One entry is wanted of a block, and the next one is elsewhere: what is read, checked and
        // unpacked for it should be little.
        table.set_block_size(4 << 10);
        // Most lookups of a new account must not touch a disk to learn that it is new.
        table.set_bloom_filter(10.0, false);
        table.set_optimize_filters_for_memory(true);
        // The index and the filter of a file are half a megabyte each. In pieces, a lookup that misses
        // the cache reads a few kilobytes of them, and what is asked for often stays.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(4 << 10);
        table.set_pin_top_level_index_and_filter(true);
        options.set_block_based_table_factory(&table);
        options
    }

    /// Lists: entries of some twenty bytes in the order of their key, read in runs of a thousand,
    /// and otherwise only written.
    fn lists(&self, cache: &Cache) -> rocksdb::Options {
        let mut options = self.keyed(cache);
        let mut table = table(cache);
        // A page of a thousand is one or two blocks; keys share nearly all of their bytes with the
        // one before.
        table.set_block_size(16 << 10);
        options.set_block_based_table_factory(&table);
        options
    }

    /// The options of a commit.
    pub(super) fn write(&self) -> WriteOptions {
        let mut write = WriteOptions::default();
        write.set_sync(self.fsync);
        write
    }
}

/// The options of a run over many entries that is not worth remembering.
pub(super) fn scan(readahead_bytes: usize) -> ReadOptions {
    let mut read = ReadOptions::default();
    // A replay of hours must not push the accounts out of the cache.
    read.fill_cache(false);
    read.set_readahead_size(readahead_bytes);
    read
}

/// What the tables of all column families have in common.
fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Indexes and filters live in the cache and so inside its bound.
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    table
}
