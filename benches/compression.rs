//! What the options of the event log give: bytes on the disk and speed of reading, for variants of
//! block size, codec and dictionary, on the very same frames. The result decides the options of the
//! store.
//!
//! Units: percent of the raw frames that is on the disk once everything is compacted; seconds to
//! write and compact them; events a second of CPU time of reading them all in order.
//! The limit beside them: a RocksDB without compression (`none`).
//!
//! Then the same codec on frames that real PDSes have sent (`tests/recorded`). They are few, and of
//! small repositories: only a ratio, of pieces as large as a block.
//!
//! `just bench compression`; some variants only: `just bench compression lz4`

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

use std::{env, path::Path, time::Instant};

use rocksdb::{DB, DBCompressionType, ReadOptions, WriteBatch, WriteOptions};
use zlay::limits::{BATCH_EVENTS_MAX, SUBSCRIBER_PAGE_BYTES_MAX};

use self::{
    rocks::{PRESENT, Variant},
    traffic::Traffic,
};

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/disk.rs"]
mod disk;
#[path = "support/rocks.rs"]
mod rocks;
#[path = "support/traffic.rs"]
mod traffic;

/// Accounts that commit.
const ACCOUNTS: usize = 400;
/// Commits of each.
const ROUNDS: usize = 50;
/// Passes over everything.
const PASSES: usize = 7;
/// The name that the main thread has from the program, as the kernel knows it.
const THREAD: &str = "compression";

fn variants() -> Vec<(&'static str, Variant)> {
    let block = |block_kib| Variant {
        block_kib,
        ..PRESENT
    };
    let level = |level, block_kib| Variant {
        level,
        block_kib,
        ..PRESENT
    };
    let trained = |dictionary_kib| Variant {
        dictionary_kib,
        training_kib: 100 * dictionary_kib,
        ..PRESENT
    };
    let lz4 = |block_kib, dictionary_kib| Variant {
        codec: DBCompressionType::Lz4,
        block_kib,
        dictionary_kib,
        ..PRESENT
    };
    let none = Variant {
        codec: DBCompressionType::None,
        ..PRESENT
    };
    let sample = Variant {
        dictionary_kib: 16,
        ..PRESENT
    };
    vec![
        ("none", none),
        ("lz4", lz4(32, 0)),
        ("lz4, 64 KiB", lz4(64, 0)),
        ("lz4, sample of 16 KiB", lz4(32, 16)),
        ("zstd (present)", PRESENT),
        ("zstd, 16 KiB", block(16)),
        ("zstd, 32 KiB", block(32)),
        ("zstd, 64 KiB", block(64)),
        ("zstd level 3, 64 KiB", level(3, 64)),
        ("zstd level 3", level(3, 128)),
        ("zstd level 6", level(6, 128)),
        ("zstd, sample of 16 KiB", sample),
        ("zstd, dictionary of 16 KiB", trained(16)),
        ("zstd, dictionary of 64 KiB", trained(64)),
    ]
}

/// Writes the frames into a new database and compacts it, which puts the last level's codec and
/// dictionary to all of them.
fn write(dir: &Path, variant: &Variant, frames: &[Vec<u8>]) -> DB {
    let db = DB::open(&rocks::options(variant), dir).unwrap();
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    let mut key = 0u64;
    for frames in frames.chunks(BATCH_EVENTS_MAX) {
        let mut batch = WriteBatch::default();
        for frame in frames {
            key += 1;
            batch.put(key.to_be_bytes(), frame);
        }
        db.write_opt(batch, &options).unwrap();
    }
    db.flush().unwrap();
    let mut force = rocksdb::CompactOptions::default();
    force.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
    db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &force);
    db
}

/// Reads everything in pages, as replay does, and returns how many bytes that were.
fn scan(db: &DB) -> usize {
    let (mut after, mut total) = (0u64, 0);
    loop {
        let mut read = ReadOptions::default();
        read.fill_cache(false);
        read.set_readahead_size(SUBSCRIBER_PAGE_BYTES_MAX);
        let mut entries = db.raw_iterator_opt(read);
        entries.seek((after + 1).to_be_bytes());
        let mut page = Vec::new();
        let mut bytes = 0;
        while bytes < SUBSCRIBER_PAGE_BYTES_MAX {
            let Some((key, value)) = entries.item() else {
                break;
            };
            after = u64::from_be_bytes(key.try_into().unwrap());
            bytes += value.len();
            page.push(Box::<[u8]>::from(value));
            entries.next();
        }
        entries.status().unwrap();
        if page.is_empty() {
            return total;
        }
        total += bytes;
    }
}

fn measure(name: &str, variant: &Variant, frames: &[Vec<u8>]) {
    let raw: usize = frames.iter().map(Vec::len).sum();
    let dir = disk::dir();
    let start = Instant::now();
    let db = write(dir.path(), variant, frames);
    let written = start.elapsed();
    let property = db.property_int_value("rocksdb.live-sst-files-size");
    let on_disk = property.unwrap().unwrap();
    let before = cpu::used(&[THREAD]);
    for _ in 0..PASSES {
        assert_eq!(scan(&db), raw, "everything is read");
    }
    let pass = (cpu::used(&[THREAD]) - before).as_secs_f64() / PASSES as f64;
    println!(
        "{name:34} {:6.1} % {:7.1} s {:9.0} events/s {:7.0} MB/s",
        on_disk as f64 / raw as f64 * 100.0,
        written.as_secs_f64(),
        frames.len() as f64 / pass,
        raw as f64 / pass / 1e6,
    );
}

/// The frames of one recording.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let bytes = std::fs::read(path.join(format!("{name}.frames"))).unwrap();
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let (frame, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
        frames.push(frame.to_vec());
        rest = tail;
    }
    frames
}

/// Only the size: a file of so few frames says nothing of speed.
fn measure_recorded(name: &str) {
    let frames = recorded(name);
    let raw: usize = frames.iter().map(Vec::len).sum();
    let size = |codec| {
        let dir = disk::dir();
        let db = write(dir.path(), &Variant { codec, ..PRESENT }, &frames);
        let files = db.live_files().unwrap();
        files.iter().map(|file| file.size).sum::<usize>() as f64
    };
    // What a file has beside its blocks counts little in a large one, and much here.
    let beside = size(DBCompressionType::None) - raw as f64;
    println!(
        "{name}: {} frames of {} bytes on average, {:.1} % on the disk",
        frames.len(),
        raw / frames.len(),
        (size(PRESENT.codec) - beside) / raw as f64 * 100.0
    );
}

fn main() {
    let Traffic { events, .. } = Traffic::new(ACCOUNTS, ROUNDS);
    let frames: Vec<Vec<u8>> = (1 << 32..)
        .zip(&events)
        .map(|(seq, event)| event.frame(seq).to_vec())
        .collect();
    drop(events);
    let raw: usize = frames.iter().map(Vec::len).sum();
    println!(
        "{} frames of {} bytes on average; on the disk, written in, read at",
        frames.len(),
        raw / frames.len()
    );
    let wanted = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let wanted = wanted.unwrap_or_default();
    for (name, variant) in variants() {
        if name.contains(&wanted) {
            measure(name, &variant, &frames);
        }
    }
    for name in ["pds-0.4", "pds-0.5"] {
        measure_recorded(name);
    }
}
