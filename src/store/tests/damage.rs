//! Files that are damaged or gone: nothing of it is passed over.

use std::path::PathBuf;

use super::*;

/// The host whose record has a file of its own in each of these tests.
const HOST: HostId = HostId(1);

/// Writes a host with this cursor, and 400 events after `last`: three times what fits in memory.
fn write(store: &Store, last: u64, cursor: u64) {
    let mut batch = store.batch();
    let record = HostRecord {
        cursor,
        ..HostRecord::default()
    };
    batch.put_host(HOST, &record);
    store.commit(batch).unwrap();
    fill(store, last + 1..=last + 400);
}

/// The files of the store with this ending, in the order of their numbers.
fn files(dir: &TempDir, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.path().join("store")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect();
    files.sort();
    files
}

/// The oldest file of a column family.
fn oldest_of(store: &Store, dir: &TempDir, family: Family) -> PathBuf {
    let files = store.db.rocks.live_files().unwrap().into_iter();
    let own = files.filter(|file| file.column_family_name == family.name());
    let name = own.map(|file| file.name).min().unwrap();
    dir.path().join("store").join(name.trim_start_matches('/'))
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// What is in the first log is in no other file yet, for the column families that have not filled their
/// memory.
#[test]
fn a_log_that_is_gone_or_shorter_is_damage() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    write(&store, 0, 7);
    drop(store);
    let logs = files(&dir, "log");
    assert!(logs.len() >= 2, "{logs:?}");
    let whole = fs::read(&logs[0]).unwrap();
    let refused = || Store::open(dir.path(), small()).unwrap_err().to_string();
    fs::remove_file(&logs[0]).unwrap();
    let said = refused();
    let number = name(&logs[0])
        .trim_start_matches('0')
        .trim_end_matches(".log");
    assert!(
        said.contains("can not be used") && said.contains(number),
        "{said}"
    );
    fs::write(&logs[0], &whole[..whole.len() / 2]).unwrap();
    let said = refused();
    assert!(said.contains("can not be used"), "{said}");
    fs::write(&logs[0], whole).unwrap();
    let store = open(dir.path());
    assert_eq!(store.host(HOST).unwrap().unwrap().cursor, 7);
    assert_eq!(read_all(&store, 0).len(), 400);
}

/// Compaction reads what nobody asked for. It stops at damage, and then no batch is written: the next one
/// would be the last of a store that can not be put in order.
#[test]
fn compaction_over_damage_stops_the_writer_and_names_the_file() {
    let dir = TempDir::new().unwrap();
    for last in [0, 400] {
        let store = open(dir.path());
        write(&store, last, last);
        store.close().unwrap();
    }
    let store = open(dir.path());
    let file = oldest_of(&store, &dir, Family::Hosts);
    drop(store);
    let mut bytes = fs::read(&file).unwrap();
    bytes[5] ^= 1;
    fs::write(&file, bytes).unwrap();

    let store = open(dir.path());
    let family = store.db.family(Family::Hosts);
    let all = None::<&[u8]>;
    let mut merge = rocksdb::CompactOptions::default();
    merge.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
    store
        .db
        .rocks
        .compact_range_cf_opt(&family, all, all, &merge);
    let mut batch = store.batch();
    batch.put_event(Seq::new(801).unwrap(), 1, b"frame");
    let error = store.commit(batch).unwrap_err().to_string();
    assert!(
        error.contains("Corruption") && error.contains(name(&file)),
        "{error}"
    );
    assert_eq!(store.last_seq(), 800);
}

/// What is before a damaged block is given, then an error: never what is behind it.
#[test]
fn a_replay_ends_before_a_damaged_block() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    fill(&store, 1..=2_000);
    store.close().unwrap();
    drop(store);
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let file = oldest_of(&store, &dir, Family::Events);
    drop(store);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();

    let store = Store::open(dir.path(), Options::default()).unwrap();
    let (mut after, mut frames) = (0, Vec::new());
    let error = loop {
        match store.read_after(after, 30_000, usize::MAX, &mut frames) {
            Ok(Page::Frames) => after = frames.last().unwrap().seq.get(),
            Ok(page) => panic!("{page:?}: nothing was pruned, and nothing is large"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains(name(&file)), "{error}");
    assert!((300..1_000).contains(&after), "{after}");
    let seqs: Vec<u64> = frames.iter().map(|frame| frame.seq.get()).collect();
    assert!(
        seqs.iter().copied().eq(1..=after),
        "contiguous, and each once"
    );
    // The rest can be had by who says so.
    assert_eq!(read_all(&store, 1_500).len(), 500);
    // Retention goes on around it: the window never begins in what can not be read.
    let through = |keep_after_ms| store.prune(keep_after_ms, None).unwrap().through;
    assert_eq!(through(10 * (after + 50)), 0);
    assert_eq!(store.window().oldest, Some(1));
    assert_eq!(through(15_001), 1_500);
    assert_eq!(store.window(), window(1_500, Some(1_501), 2_000));
    assert_eq!(through(u64::MAX), 2_000);
}
