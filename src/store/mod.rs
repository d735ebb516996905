//! RocksDB: events, accounts, host cursors. One process, one writer (the sequencer), many readers.

pub mod account;
