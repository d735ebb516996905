//! A bare RocksDB with the options that the store has for events, and variants of them.

use rocksdb::{BlockBasedOptions, DBCompressionType, Options};
use zlay::limits;

/// What differs between variants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Variant {
    /// Of a table, before compression, in KiB.
    pub(crate) block_kib: usize,
    /// The codec of every level.
    pub(crate) codec: DBCompressionType,
    /// Of zstd; 32767 is its default, which is 3.
    pub(crate) level: i32,
    /// The dictionary of every file, in KiB; 0: none.
    pub(crate) dictionary_kib: i32,
    /// What a dictionary is trained with, in KiB; 0: it is a sample, untrained.
    pub(crate) training_kib: i32,
}

/// What the store has.
pub(crate) const PRESENT: Variant = Variant {
    block_kib: 128,
    codec: DBCompressionType::Zstd,
    level: 1,
    dictionary_kib: 0,
    training_kib: 0,
};

/// The options of a variant; everything else is as in the store.
pub(crate) fn options(variant: &Variant) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(variant.block_kib << 10);
    table.set_format_version(5);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(limits::STORE_EVENTS_BUFFER_BYTES);
    options.set_max_write_buffer_number(3);
    options.set_target_file_size_base(limits::STORE_EVENTS_BUFFER_BYTES as u64);
    options.set_level_zero_file_num_compaction_trigger(2);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_wal_bytes_per_sync(1 << 20);
    options.set_compression_type(variant.codec);
    options.set_compression_options(-14, variant.level, 0, variant.dictionary_kib << 10);
    options.set_zstd_max_train_bytes(variant.training_kib << 10);
    options
}
