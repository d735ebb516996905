//! The store on a real disk: what survives, what is refused, what is freed.

mod damage;

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use super::{account::*, *};
use crate::{
    atproto::{cid::Cid, seq::Seq, tid::Tid},
    firehose::Frame,
    limits,
    testing::wait_until,
};

/// Small files, so that a few thousand events fill many.
fn small() -> Options {
    Options {
        cache_bytes: 1 << 20,
        events_buffer_bytes: 64 << 10,
        other_buffer_bytes: 64 << 10,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, small()).unwrap()
}

/// A frame that does not compress and says its seq.
fn frame(seq: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seq);
    let mut bytes = seq.to_be_bytes().to_vec();
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(500));
    bytes
}

/// Commits the events `seqs`, each at `seq * 10` milliseconds, in batches of 100.
fn fill(store: &Store, seqs: std::ops::RangeInclusive<u64>) {
    let seqs: Vec<u64> = seqs.collect();
    for seqs in seqs.chunks(100) {
        let mut batch = store.batch();
        for &seq in seqs {
            batch.put_event(Seq::new(seq).unwrap(), seq * 10, &frame(seq));
        }
        store.commit(batch).unwrap();
    }
}

/// Every seq after `after`, read in small pages; checks the bytes of each.
fn read_all(store: &Store, after: u64) -> Vec<u64> {
    let (mut after, mut seqs) = (after, Vec::new());
    loop {
        let mut frames: Vec<Frame> = Vec::new();
        assert_eq!(
            store
                .read_after(after, 10_000, usize::MAX, &mut frames)
                .unwrap(),
            Page::Frames
        );
        let Some(last) = frames.last() else {
            return seqs;
        };
        after = last.seq.get();
        for read in frames {
            assert_eq!(*read.bytes, *frame(read.seq.get()));
            seqs.push(read.seq.get());
        }
    }
}

fn window(pruned: u64, oldest: Option<u64>, last: u64) -> Window {
    Window {
        pruned,
        oldest,
        last,
    }
}

fn set_meta(dir: &Path, values: &[(Meta, u64)]) {
    let store = open(dir);
    store.close().unwrap();
    store.db.set_meta(values).unwrap();
}

#[test]
fn what_was_committed_is_there_after_a_reopen() {
    let dir = TempDir::new().unwrap();
    let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap();
    let account = Account {
        ordinal: 1,
        host: HostId(7),
        authority_at: 1_700_000_000_000,
        upstream: Status::ACTIVE,
        status_heard: true,
        local: Local {
            sanction: Some(Sanction::Takedown),
            throttled: false,
        },
        head: Some(Head {
            rev: Tid::parse("3jzfcijpj2z2a").unwrap(),
            commit: Cid::of_cbor(b"commit"),
            data: Cid::of_cbor(b"data"),
        }),
        listed: Some(Listed {
            rev: Tid::parse("3jzfcijpj2z2b").unwrap(),
            commit: Cid::of_cbor(b"listed"),
        }),
        seen: Seen { epoch: 1, seq: 9 },
    };
    let host = HostRecord {
        cursor: 9,
        epoch: 1,
        accounts: 1,
    };
    let counters = Counters {
        next_ordinal: 2,
        accounts: 1,
        collections: 3,
        pairs: 4,
    };
    let store = open(dir.path());
    assert_eq!(store.window(), window(0, None, 0));
    assert_eq!(
        (store.counters().next_ordinal, store.counters().accounts),
        (1, 0)
    );
    let mut batch = store.batch();
    batch.put_event(Seq::new(1).unwrap(), 5, &frame(1));
    batch.put_account(&did, &account);
    batch.put_host(HostId(7), &host);
    batch.set_counters(counters);
    store.commit(batch).unwrap();
    assert_eq!(store.account(&did).unwrap().as_ref(), Some(&account));
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.window(), window(0, Some(1), 1));
    assert_eq!(store.account(&did).unwrap(), Some(account.clone()));
    assert_eq!(store.host(HostId(7)).unwrap(), Some(host));
    assert_eq!(store.host(HostId(8)).unwrap(), None);
    assert_eq!(store.hosts().unwrap(), [(HostId(7), host)]);
    assert_eq!(store.counters(), counters);
    let entry = ListEntry::of(did, &account);
    assert_eq!(store.accounts_after(0, 10).unwrap(), [entry]);
    assert_eq!(store.accounts_after(1, 10).unwrap(), []);
    assert_eq!(read_all(&store, 0), [1]);
}

#[test]
fn pages_go_on_across_memory_and_files() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=3000);
    assert!(store.event_files().unwrap().len() > 3);
    assert_eq!(read_all(&store, 0), (1..=3000).collect::<Vec<_>>());
    assert_eq!(read_all(&store, 2990), (2991..=3000).collect::<Vec<_>>());
    assert_eq!(read_all(&store, 3000), [0; 0]);
    assert_eq!(read_all(&store, u64::MAX), [0; 0]);
    // One frame at least, however small the page.
    let mut frames = Vec::new();
    store.read_after(5, 1, usize::MAX, &mut frames).unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].seq.get(), 6);
}

#[test]
fn a_page_ends_before_a_frame_that_is_too_large_and_names_it() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut batch = store.batch();
    for (seq, len) in [(1, 10), (2, 11), (3, 10)] {
        batch.put_event(Seq::new(seq).unwrap(), seq, &vec![0; len]);
    }
    store.commit(batch).unwrap();
    let page = |after, frame_bytes_max| {
        let mut frames = Vec::new();
        let page = store.read_after(after, 1 << 20, frame_bytes_max, &mut frames);
        let seqs: Vec<u64> = frames.iter().map(|frame| frame.seq.get()).collect();
        (page.unwrap(), seqs)
    };
    assert_eq!(page(0, 10), (Page::Frames, vec![1]));
    assert_eq!(page(1, 10), (Page::Large(2), vec![]));
    assert_eq!(page(1, 11), (Page::Frames, vec![2, 3]));
    assert_eq!(page(2, 10), (Page::Frames, vec![3]));
    store.prune(3, None).unwrap();
    assert_eq!(page(1, 10), (Page::Pruned, vec![]));
}

#[test]
fn a_seq_is_never_given_twice() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=10);
    for seqs in [[10, 11], [12, 12], [14, 13]] {
        let mut batch = store.batch();
        for seq in seqs {
            batch.put_event(Seq::new(seq).unwrap(), 0, b"x");
        }
        let error = store.commit(batch).unwrap_err();
        assert!(matches!(error, StoreError::SeqOrder { .. }), "{error}");
    }
    // After everything has left the window, and after a restart too.
    store.prune(u64::MAX, None).unwrap();
    assert_eq!(store.window(), window(10, None, 10));
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.window(), window(10, None, 10));
    fill(&store, 11..=12);
    assert_eq!(store.window(), window(10, Some(11), 12));
    assert_eq!(read_all(&store, 10), [11, 12]);
}

#[test]
fn the_seq_jumps_only_where_events_may_be_lost() {
    let last_after = |first: bool, clean: bool, second: bool| {
        let dir = TempDir::new().unwrap();
        let options = |fsync| Options { fsync, ..small() };
        let store = Store::open(dir.path(), options(first)).unwrap();
        fill(&store, 1..=3);
        if clean {
            store.close().unwrap();
        }
        drop(store);
        let store = Store::open(dir.path(), options(second)).unwrap();
        // A jump is a gap, not a loss of the window.
        assert_eq!(store.window().pruned, 0);
        assert_eq!(store.window().oldest, Some(1));
        store.last_seq()
    };
    assert_eq!(last_after(true, false, true), 3);
    assert_eq!(last_after(true, false, false), 3);
    assert_eq!(last_after(false, true, true), 3);
    assert_eq!(last_after(false, false, true), 3 + limits::SEQ_JUMP);
    assert_eq!(last_after(false, false, false), 3 + limits::SEQ_JUMP);
}

#[test]
fn the_initial_seq_is_a_floor() {
    let dir = TempDir::new().unwrap();
    let from = |initial_seq| {
        let options = Options {
            initial_seq,
            ..small()
        };
        Store::open(dir.path(), options).unwrap()
    };
    let store = from(1000);
    assert_eq!(store.window(), window(0, None, 999));
    fill(&store, 1000..=1001);
    drop(store);
    assert_eq!(from(500).window(), window(0, Some(1000), 1001));
    assert_eq!(from(5000).window(), window(0, Some(1000), 4999));
    assert_eq!(from(1).last_seq(), 4999);
}

#[test]
fn after_a_close_nothing_is_written() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=1);
    store.close().unwrap();
    store.close().unwrap();
    let mut batch = store.batch();
    batch.put_event(Seq::new(2).unwrap(), 0, b"x");
    assert!(matches!(store.commit(batch), Err(StoreError::Closed)));
    assert_eq!(read_all(&store, 0), [1]);
}

#[test]
fn time_moves_the_window_to_the_event() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    store.prune(5, None).unwrap();
    assert_eq!(store.window(), window(0, None, 0));
    fill(&store, 1..=1000);
    store.prune(10, None).unwrap();
    assert_eq!(store.window(), window(0, Some(1), 1000));
    for (keep_after, pruned) in [(11, 1), (15, 1), (5000, 499), (4000, 499), (10_000, 999)] {
        let result = store.prune(keep_after, None).unwrap();
        assert_eq!(result.through, pruned, "{keep_after}");
        assert_eq!(store.window(), window(pruned, Some(pruned + 1), 1000));
        assert_eq!(
            read_all(&store, pruned),
            (pruned + 1..=1000).collect::<Vec<_>>()
        );
        let mut frames = Vec::new();
        let page = store
            .read_after(pruned - 1, 1 << 20, usize::MAX, &mut frames)
            .unwrap();
        assert_eq!((page, frames.len()), (Page::Pruned, 0));
    }
}

#[test]
fn time_finds_the_event_where_seqs_have_gaps() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    for seqs in [3..=5, 1_000_000..=1_000_002, 1 << 50..=(1 << 50) + 1] {
        fill(&store, seqs);
    }
    for (keep_after, pruned) in [(40, 3), (60, 5), (9_999_999, 5), (10_000_015, 1_000_001)] {
        assert_eq!(store.prune(keep_after, None).unwrap().through, pruned);
    }
    assert_eq!(store.window().oldest, Some(1_000_002));
}

/// Rule 36: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn the_disk_is_really_freed() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=4000);
    let events = store.db.family(Family::Events);
    store.db.rocks.flush_cf(&events).unwrap();
    let on_disk = || -> u64 {
        let files = fs::read_dir(dir.path().join("store")).unwrap();
        files
            .filter_map(|file| file.ok().and_then(|f| Some((f.metadata().ok()?, f))))
            .filter(|(_, file)| file.file_name().to_string_lossy().ends_with(".sst"))
            .map(|(metadata, _)| metadata.len())
            .sum()
    };
    let live = || -> u64 {
        let files = store.db.rocks.live_files().unwrap();
        files.iter().map(|file| file.size as u64).sum()
    };
    // Files that RocksDB is moving are passed over until the next run, as the thread does.
    let prune_until = |keep_after, bytes_max: Option<u64>| {
        let mut pruned = None;
        wait_until("nothing is left that holds only what is pruned", || {
            let now = store.prune(keep_after, bytes_max).unwrap();
            let mut files = store.event_files().unwrap().into_iter();
            let is_free = files.all(|(_, end, _)| end > now.through) && on_disk() == live();
            let is_enough = bytes_max.is_none_or(|max| now.bytes_after <= max);
            pruned = Some(now);
            is_free && is_enough
        });
        pruned.unwrap()
    };
    let full = on_disk();
    assert!(full > 4000 * 500, "{full}");
    assert_eq!(prune_until(20_000, None).through, 1999);
    let half = on_disk();
    assert!(half < full && half > full * 4 / 10, "{half} of {full}");

    // Less than there is, and far more than what is in memory meanwhile, which counts as well.
    let most = half * 7 / 10;
    let pruned = prune_until(0, Some(most));
    assert!(pruned.through > 2000);
    assert_eq!(store.window().oldest, Some(pruned.through + 1));
    let left = read_all(&store, pruned.through);
    assert!(!left.is_empty());
    assert_eq!(left, (pruned.through + 1..=4000).collect::<Vec<_>>());

    assert_eq!(prune_until(u64::MAX, None).through, 4000);
    assert_eq!(store.event_files().unwrap(), []);
    assert!(on_disk() < half / 10);
    drop(events);
    drop(store);
    assert_eq!(open(dir.path()).last_seq(), 4000);
}

#[test]
fn a_reader_that_races_with_retention_never_sees_a_hole() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=4000);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut after, mut outdated) = (0, 0);
            while after < 4000 {
                let mut frames = Vec::new();
                match store
                    .read_after(after, 5_000, usize::MAX, &mut frames)
                    .unwrap()
                {
                    Page::Frames => {
                        for frame in frames {
                            assert_eq!(frame.seq.get(), after + 1);
                            after += 1;
                        }
                    }
                    Page::Large(seq) => panic!("{seq} is not large"),
                    Page::Pruned => {
                        assert!(frames.is_empty());
                        outdated += 1;
                        after = store.window().pruned;
                    }
                }
            }
            outdated
        });
        for cutoff in (0..=40_000).step_by(1000) {
            store.prune(cutoff, None).unwrap();
        }
        reader.join().unwrap();
    });
}

#[test]
fn a_directory_has_one_owner() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), small()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    assert!(child("child_finds_the_directory_locked", dir.path()));
    drop(store);
    assert!(!child("child_finds_the_directory_locked", dir.path()));
    open(dir.path());
}

#[test]
fn a_crash_loses_nothing_that_was_committed() {
    let dir = TempDir::new().unwrap();
    assert!(!child("child_commits_and_crashes", dir.path()));
    let store = open(dir.path());
    assert_eq!(store.window(), window(0, Some(1), 777));
    assert_eq!(read_all(&store, 0), (1..=777).collect::<Vec<_>>());
}

#[test]
fn an_older_format_is_read_and_becomes_this_one() {
    let dir = TempDir::new().unwrap();
    for older in [1, 2, 3] {
        set_meta(dir.path(), &[(Meta::Format, older)]);
        let store = open(dir.path());
        assert_eq!(store.db.meta(Meta::Format).unwrap(), Some(4));
    }
    set_meta(dir.path(), &[(Meta::Format, 0)]);
    let error = Store::open(dir.path(), small()).unwrap_err().to_string();
    assert!(error.contains("unknown format"), "{error}");
}

#[test]
fn a_newer_format_is_refused_and_kept() {
    let dir = TempDir::new().unwrap();
    set_meta(dir.path(), &[(Meta::Format, 5)]);
    for _ in 0..2 {
        let error = Store::open(dir.path(), small()).unwrap_err();
        let newer = matches!(
            error,
            OpenError::NewerFormat {
                found: 5,
                supported: 4
            }
        );
        assert!(newer, "{error}");
    }
    // Also when it has a column family that this program cannot know.
    let dir = TempDir::new().unwrap();
    set_meta(dir.path(), &[(Meta::Format, 5)]);
    {
        let path = dir.path().join("store");
        let names = rocksdb::DB::list_cf(&rocksdb::Options::default(), &path).unwrap();
        let db: DBWithThreadMode<MultiThreaded> =
            DBWithThreadMode::open_cf(&rocksdb::Options::default(), &path, names).unwrap();
        db.create_cf("later", &rocksdb::Options::default()).unwrap();
    }
    let error = Store::open(dir.path(), small()).unwrap_err();
    assert!(
        matches!(error, OpenError::NewerFormat { found: 5, .. }),
        "{error}"
    );
}

#[test]
fn damage_is_named() {
    let damaged = |change: &dyn Fn(&Path)| {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path());
        fill(&store, 1..=1000);
        drop(store);
        change(&dir.path().join("store"));
        let error = Store::open(dir.path(), small()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        error.to_string()
    };
    let each = |path: &Path, prefix: &str, change: &dyn Fn(&Path)| {
        for file in fs::read_dir(path).unwrap() {
            let file = file.unwrap();
            if file.file_name().to_string_lossy().starts_with(prefix) {
                change(&file.path());
            }
        }
    };
    damaged(&|path| {
        each(path, "MANIFEST", &|file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[20] ^= 0xff;
            fs::write(file, bytes).unwrap();
        });
    });
    damaged(&|path| each(path, "MANIFEST", &|file| fs::remove_file(file).unwrap()));
    damaged(&|path| fs::write(path.join("CURRENT"), "nonsense").unwrap());
    assert!(damaged(&|path| fs::remove_file(path.join("CURRENT")).unwrap()).contains("CURRENT"));
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("store")).unwrap();
    fs::write(dir.path().join("store/precious.txt"), "x").unwrap();
    let error = Store::open(dir.path(), small()).unwrap_err();
    assert!(error.to_string().contains("precious.txt"), "{error}");

    let dir = TempDir::new().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let other = rocksdb::DB::open(&options, dir.path().join("store")).unwrap();
    other.put("key", "value").unwrap();
    drop(other);
    let error = Store::open(dir.path(), small()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

/// The files of the store in `dir` whose names end in `suffix`, in order.
fn files(dir: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir.join("store"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    files.sort();
    files
}

#[test]
fn a_torn_log_loses_the_torn_batch_only() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    fill(&store, 1..=300);
    drop(store);
    let log = files(dir.path(), ".log").pop().unwrap();
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 10]).unwrap();
    let store = open(dir.path());
    assert_eq!(store.window(), window(0, Some(1), 200));
    assert_eq!(read_all(&store, 0), (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_wrong_frame() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=3000);
    drop(store);
    for file in files(dir.path(), ".sst") {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    // The open reads some of the files and may notice; a read of all of them must.
    match Store::open(dir.path(), small()) {
        Err(error) => assert!(matches!(error, OpenError::Damaged { .. }), "{error}"),
        Ok(store) => {
            let mut frames = Vec::new();
            let error = store
                .read_after(0, usize::MAX, usize::MAX, &mut frames)
                .unwrap_err();
            assert!(matches!(error, StoreError::Rocks(_)), "{error}");
            assert!(frames.iter().all(|f| *f.bytes == *frame(f.seq.get())));
        }
    }
}

#[test]
fn a_first_open_that_was_killed_is_made_good() {
    // Before RocksDB had made its database, and before the format was written.
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("store")).unwrap();
    for name in ["LOG", "LOCK", "IDENTITY", "MANIFEST-000001", "000001.dbtmp"] {
        fs::write(dir.path().join("store").join(name), "").unwrap();
    }
    fill(&open(dir.path()), 1..=3);
    assert_eq!(open(dir.path()).last_seq(), 3);

    let dir = TempDir::new().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    drop(rocksdb::DB::open(&options, dir.path().join("store")).unwrap());
    fill(&open(dir.path()), 1..=3);
    assert_eq!(open(dir.path()).last_seq(), 3);
}

#[test]
fn a_damaged_entry_is_named_and_ends_no_thread() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let did = Did::parse("did:web:example.com").unwrap();
    let put = |family, key: &[u8], value: &[u8]| {
        store
            .db
            .rocks
            .put_cf(&store.db.family(family), key, value)
            .unwrap();
    };
    put(Family::Accounts, did.as_str().as_bytes(), b"nonsense");
    put(Family::Hosts, &host_key(HostId(4)), b"");
    let error = store.account(&did).unwrap_err().to_string();
    assert!(error.contains("did:web:example.com of accounts"), "{error}");
    let error = store.host(HostId(4)).unwrap_err().to_string();
    assert!(error.contains("entry 4 of hosts"), "{error}");
    assert!(store.hosts().is_err());
    fill(&store, 1..=3);
    put(Family::Events, &event_key(2), b"short");
    assert!(
        store
            .read_after(0, 1 << 20, usize::MAX, &mut Vec::new())
            .is_err()
    );
}

#[test]
fn who_waits_at_a_host_is_found_in_order_and_nobody_else() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let did = |n: u64| Did::parse(&format!("did:web:n{n}.example.com")).unwrap();
    let mut batch = store.batch();
    for (host, ordinal) in [(1, 300), (2, 1), (2, 256), (2, 255), (2, 1 << 40), (3, 2)] {
        batch.put_throttled(HostId(host), ordinal, &did(ordinal), true);
    }
    batch.put_throttled(HostId(2), 255, &did(255), false);
    store.commit(batch).unwrap();
    let waiting = |host, limit| store.throttled(HostId(host), limit).unwrap();
    let of_two: Vec<_> = [1, 256, 1 << 40].map(|n| (n, did(n))).into();
    assert_eq!(waiting(2, 10), of_two);
    assert_eq!(waiting(2, 2), of_two[..2]);
    assert_eq!(waiting(1, 10), [(300, did(300))]);
    assert_eq!(waiting(0, 10), []);
    assert_eq!(waiting(u32::MAX, 10), []);
}

#[test]
fn a_store_without_the_lists_of_this_version_gets_them() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    fill(&store, 1..=3);
    drop(store);
    Store::forget_lists(dir.path());
    let store = open(dir.path());
    assert_eq!(read_all(&store, 0), [1, 2, 3]);
    assert_eq!(store.throttled(HostId(1), 10).unwrap(), []);
    let page = store.collection_page("com.example.a", 0, 10).unwrap();
    assert_eq!(page, collections::CollectionPage::default());
}

/// What a version did that counted every account which was not throttled.
#[test]
fn a_store_of_an_earlier_version_is_counted_anew_once() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let did = |n: u64| Did::parse(&format!("did:web:n{n}.example.com")).unwrap();
    let account = |ordinal, host, upstream: &Status, throttled| Account {
        ordinal,
        host: HostId(host),
        authority_at: 0,
        upstream: upstream.clone(),
        status_heard: true,
        local: Local {
            sanction: None,
            throttled,
        },
        head: None,
        listed: None,
        seen: Seen::default(),
    };
    let (active, gone) = (Status::ACTIVE, Status::inactive("deleted"));
    let idle = Status::inactive("deactivated");
    let accounts = [
        account(1, 1, &active, false),
        account(2, 1, &gone, false),
        account(3, 1, &idle, false),
        account(4, 1, &active, true),
        account(5, 1, &gone, true),
        account(6, 2, &gone, false),
    ];
    let record = |cursor, accounts| HostRecord {
        cursor,
        epoch: 1,
        accounts,
    };
    let mut batch = store.batch();
    for account in &accounts {
        batch.put_account(&did(account.ordinal), account);
    }
    for (host, accounts) in [(1, 3), (2, 1), (3, 0)] {
        batch.put_host(HostId(host), &record(7, accounts));
    }
    store.commit(batch).unwrap();
    let meta = store.db.family(Family::Meta);
    let key = Meta::Counting.key();
    store.db.rocks.delete_cf(&meta, key).unwrap();
    drop(meta);
    drop(store);
    let store = open(dir.path());
    let counted: Vec<_> = [(1, 2), (2, 0), (3, 0)]
        .map(|(host, accounts)| (HostId(host), record(7, accounts)))
        .into();
    assert_eq!(store.hosts().unwrap(), counted);
    assert_eq!(store.throttled(HostId(1), 9).unwrap(), [(4, did(4))]);
    assert_eq!(store.throttled(HostId(2), 9).unwrap(), []);
    // From then on the counts are kept with the accounts.
    let mut batch = store.batch();
    batch.put_host(HostId(3), &record(7, 44));
    store.commit(batch).unwrap();
    drop(store);
    assert_eq!(
        open(dir.path()).host(HostId(3)).unwrap().unwrap().accounts,
        44
    );
}

#[test]
fn a_takedown_without_a_place_hides_everything_there_is() {
    let dir = TempDir::new().unwrap();
    let (old, new) = ("did:web:a.example.com", "did:web:b.example.com");
    let (old, new) = (Did::parse(old).unwrap(), Did::parse(new).unwrap());
    let kept = Takedown { seq: 4, at_ms: 40 };
    let store = open(dir.path());
    fill(&store, 1..=9);
    let mut batch = store.batch();
    batch.put_takedown(&new, Some(kept));
    store.commit(batch).unwrap();
    let family = store.db.family(Family::Takedowns);
    store.db.rocks.put_cf(&family, old.as_str(), b"").unwrap();
    drop(family);
    drop(store);
    let store = open(dir.path());
    let hiding = store.hiding().unwrap();
    let [(first, takedown), second] = &hiding[..] else {
        panic!("{hiding:?}");
    };
    assert_eq!((first, takedown.seq), (&old, 10));
    assert!(takedown.at_ms > 1_700_000_000_000);
    assert_eq!(second, &(new.clone(), kept));
    assert_eq!(
        store.takedowns_after("", 9).unwrap(),
        [old.clone(), new.clone()]
    );
    // It is given its place once.
    fill(&store, 10..=20);
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.hiding().unwrap(), hiding);
    for (keep_after, left) in [(20, &hiding[..]), (40, &hiding[..1]), (100, &[])] {
        store.prune(keep_after, None).unwrap();
        assert_eq!(store.hiding().unwrap(), left, "{keep_after}");
    }
    for (did, is_down) in [
        (&old, true),
        (&new, true),
        (&Did::parse("did:web:c").unwrap(), false),
    ] {
        assert_eq!(store.takedown(did).unwrap(), is_down);
    }
    let mut batch = store.batch();
    batch.put_takedown(&old, None);
    store.commit(batch).unwrap();
    assert!(!store.takedown(&old).unwrap());
}

#[test]
fn a_store_knows_its_control_store() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    assert_eq!(store.control_id().unwrap(), None);
    for id in [u64::MAX, 0, 7] {
        store.set_control_id(id).unwrap();
        assert_eq!(store.control_id().unwrap(), Some(id));
    }
    assert!(store.is_fresh());
    drop(store);
    assert_eq!(open(dir.path()).control_id().unwrap(), Some(7));
}

#[test]
fn a_store_is_fresh_until_something_is_known() {
    let dir = TempDir::new().unwrap();
    let floored = Options {
        initial_seq: 1000,
        ..small()
    };
    let store = Store::open(dir.path(), floored).unwrap();
    assert!(store.is_fresh());
    drop(store);
    assert!(open(dir.path()).is_fresh());
    let did = Did::parse("did:web:example.com").unwrap();
    let account = Account {
        ordinal: 1,
        host: HostId::NOWHERE,
        authority_at: 0,
        upstream: Status::ACTIVE,
        status_heard: true,
        local: Local::default(),
        head: None,
        listed: None,
        seen: Seen::default(),
    };
    type Change<'a> = &'a dyn Fn(&mut Batch);
    let changes: [Change<'_>; 3] = [
        &|batch| batch.put_event(Seq::new(1).unwrap(), 0, b"x"),
        &|batch| batch.put_account(&did, &account),
        &|batch| batch.put_host(HostId(1), &HostRecord::default()),
    ];
    for (change, is_seeded) in changes.iter().zip([false, false, true]) {
        let dir = TempDir::new().unwrap();
        let store = open(dir.path());
        let mut batch = store.batch();
        change(&mut batch);
        store.commit(batch).unwrap();
        assert!(!store.is_fresh());
        // A seeding that was cut off after the hosts can be done again.
        let seeded = store.seed(&[], &[]);
        match is_seeded {
            true => seeded.unwrap(),
            false => assert!(matches!(seeded, Err(StoreError::Begun)), "{seeded:?}"),
        }
        store.prune(u64::MAX, None).unwrap();
        assert!(
            !store.is_fresh(),
            "also when everything has left the window"
        );
    }
}

#[test]
fn a_new_store_begins_with_what_another_has_kept() {
    let dir = TempDir::new().unwrap();
    let did = Did::parse("did:web:example.com").unwrap();
    let record = |cursor, accounts| HostRecord {
        cursor,
        epoch: 3,
        accounts,
    };
    let store = open(dir.path());
    let hosts = [(HostId(7), record(900, 12)), (HostId(8), record(5, 0))];
    for _ in 0..2 {
        store.seed(&hosts, &[(did.clone(), 77)]).unwrap();
    }
    drop(store);
    let store = open(dir.path());
    assert!(!store.is_fresh());
    let expected = [(HostId(7), record(900, 0)), (HostId(8), record(5, 0))];
    assert_eq!(store.hosts().unwrap(), expected, "no account is known yet");
    assert!(store.takedown(&did).unwrap());
    assert_eq!(store.takedowns_after("", 9).unwrap(), [did]);
    fill(&store, 1..=9);
    assert_eq!(
        store.hiding().unwrap(),
        [],
        "nothing was published before it"
    );
}

#[test]
fn a_raised_seq_is_a_gap_and_outlives_the_process() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    assert!(store.raise_seq(1_000).unwrap());
    assert!(!store.is_fresh());
    // Whoever asks for what was published before is told that it is gone.
    assert_eq!(store.window(), window(1_000, None, 1_000));
    for floor in [0, 999, 1_000] {
        assert!(!store.raise_seq(floor).unwrap());
    }
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.window(), window(1_000, None, 1_000));
    let mut batch = store.batch();
    batch.put_event(Seq::new(1_000).unwrap(), 0, b"x");
    assert!(store.commit(batch).is_err(), "it was given already");
    fill(&store, 1_001..=1_010);
    assert_eq!(store.window(), window(1_000, Some(1_001), 1_010));
    // The same with something in the window: nothing of it is lost, and a cursor in the gap has
    // everything that follows.
    assert!(store.raise_seq(5_000).unwrap());
    assert_eq!(store.window(), window(1_000, Some(1_001), 5_000));
    assert_eq!(read_all(&store, 3_000), [0u64; 0]);
    drop(store);
    let store = open(dir.path());
    fill(&store, 5_001..=5_003);
    assert_eq!(read_all(&store, 3_000), [5_001, 5_002, 5_003]);
    assert_eq!(read_all(&store, 1_009), [1_010, 5_001, 5_002, 5_003]);
    store.prune(50_020, None).unwrap();
    assert_eq!(store.window(), window(5_001, Some(5_002), 5_003));
    assert!(store.raise_seq(u64::MAX).unwrap());
    assert_eq!(store.last_seq(), Seq::MAX.get());
}

/// Runs one of the tests below in a process of its own; whether it passed.
fn child(test: &str, dir: &Path) -> bool {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", &format!("store::tests::{test}")])
        .env(CHILD_DIR, dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("running 1 test"), "{text}");
    output.status.success()
}

const CHILD_DIR: &str = "ZLAY_TEST_CHILD_DIR";

fn child_dir() -> std::path::PathBuf {
    std::env::var_os(CHILD_DIR)
        .expect("run by another test")
        .into()
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_finds_the_directory_locked() {
    let error = Store::open(&child_dir(), small()).unwrap_err();
    assert!(matches!(error, OpenError::Locked(_)), "{error}");
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn child_commits_and_crashes() {
    let store = open(&child_dir());
    fill(&store, 1..=777);
    std::process::abort();
}
