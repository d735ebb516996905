use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    firehose::Frame,
    store::{Options, Page, Window},
    testing::wait_until,
};

/// Small files, so that a few events fill many.
fn open(dir: &TempDir) -> Store {
    let options = Options {
        cache_bytes: 1 << 20,
        events_buffer_bytes: 64 << 10,
        other_buffer_bytes: 32 << 10,
        ..Options::default()
    };
    Store::open(dir.path(), options).unwrap()
}

fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

/// The frame of a seq: bytes that do not compress.
fn frame(n: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(n);
    let mut bytes = vec![0x82];
    bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(len - 1));
    bytes
}

const HEAD: usize = 10;
const AT: usize = 1_000;
const INSERT: usize = 5;
const PIECE: usize = 4_000;

fn outline(frame: &[u8]) -> Outline<'_> {
    Outline {
        len: frame.len(),
        head: &frame[..HEAD],
        at: AT,
        insert: &frame[HEAD + AT..][..INSERT],
    }
}

fn pieces(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (before, behind) = frame[HEAD..].split_at(AT);
    before.chunks(PIECE).chain(behind[INSERT..].chunks(PIECE))
}

fn commit(store: &Store, fill: impl FnOnce(&mut Batch)) {
    let mut batch = store.batch();
    fill(&mut batch);
    store.commit(batch).unwrap();
}

/// Writes so many pieces of a frame, each in a batch of its own.
fn write(store: &Store, frame: &[u8], count: usize) -> Large {
    let mut large = store.begin_large();
    for piece in pieces(frame).take(count) {
        commit(store, |batch| batch.put_piece(&mut large, piece));
    }
    large
}

/// A large event, at `10 * n` milliseconds.
fn publish(store: &Store, n: u64, len: usize) {
    let frame = frame(n, len);
    let large = write(store, &frame, usize::MAX);
    commit(store, |batch| {
        batch.put_large_event(seq(n), 10 * n, large, outline(&frame));
    });
}

fn read(store: &Store, after: u64) -> Result<Vec<Frame>, StoreError> {
    let mut frames = Vec::new();
    let page = store.read_after(after, usize::MAX, usize::MAX, &mut frames)?;
    assert_eq!(page, Page::Frames);
    Ok(frames)
}

fn assert_is(read: &Frame, n: u64, len: usize) {
    assert_eq!(read.seq, seq(n));
    assert!(*read.bytes == *frame(n, len));
}

#[test]
fn it_is_whole_wherever_its_pieces_are() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let bytes = frame(2, 100_000);
    let large = write(&store, &bytes, usize::MAX);
    // Another event came first.
    commit(&store, |batch| batch.put_event(seq(1), 10, &frame(1, 50)));
    assert_eq!(read(&store, 0).unwrap().len(), 1);
    commit(&store, |batch| {
        batch.put_large_event(seq(2), 20, large, outline(&bytes));
        batch.put_event(seq(3), 30, &frame(3, 50));
    });
    // And one of which a piece is in the batch in which it becomes an event.
    let bytes = frame(4, 9_000);
    commit(&store, |batch| {
        let mut large = store.begin_large();
        pieces(&bytes).for_each(|piece| batch.put_piece(&mut large, piece));
        batch.put_large_event(seq(4), 40, large, outline(&bytes));
    });
    let check = |store: &Store| {
        let frames = read(store, 0).unwrap();
        let lens = [(1, 50), (2, 100_000), (3, 50), (4, 9_000)];
        assert_eq!(frames.len(), lens.len());
        for (read, (n, len)) in frames.iter().zip(lens) {
            assert_is(read, n, len);
        }
        assert_eq!(store.published_ms(2).unwrap(), Some(20));
        let mut frames = Vec::new();
        let page = store.read_after(1, usize::MAX, 99_999, &mut frames);
        assert_eq!((page.unwrap(), frames.len()), (Page::Large(2), 0));
    };
    check(&store);
    // A crash, and an end that writes files.
    drop(store);
    let store = open(&dir);
    check(&store);
    store.close().unwrap();
    check(&store);
    drop(store);
    check(&open(&dir));
}

#[test]
fn what_a_crash_has_left_of_one_is_nothing() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    publish(&store, 1, 20_000);
    let half = write(&store, &frame(2, 20_000), 3);
    std::mem::forget(half);
    drop(store);
    let store = open(&dir);
    assert_eq!(store.last_seq(), 1);
    publish(&store, 2, 30_000);
    let frames = read(&store, 0).unwrap();
    assert_eq!(frames.len(), 2);
    assert_is(&frames[0], 1, 20_000);
    assert_is(&frames[1], 2, 30_000);
}

#[test]
fn what_has_left_the_window_is_freed_in_whole_files() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for n in 1..=40 {
        publish(&store, n, 30_000);
        // What comes to nothing is freed with the others.
        drop(write(&store, &frame(n, 30_000), 2));
    }
    let family = store.db.family(Family::Large);
    store.db.rocks.flush_cf(&family).unwrap();
    assert!(store.large_files().unwrap().len() > 3);
    let full = store.events_bytes();
    assert!(full > 40 * 30_000, "{full}");
    wait_until("half of it is freed", || {
        let pruned = store.prune(10 * 21, None).unwrap();
        assert_eq!(pruned.through, 20);
        let files = store.large_files().unwrap();
        // Two numbers for each.
        files.iter().all(|(_, end, _)| *end > 40)
    });
    let half = store.events_bytes();
    assert!(half < full * 7 / 10, "{half} of {full}");
    let frames = read(&store, 20).unwrap();
    assert_eq!(frames.len(), 20);
    frames
        .iter()
        .zip(21..)
        .for_each(|(f, n)| assert_is(f, n, 30_000));
    let page = store.read_after(19, usize::MAX, usize::MAX, &mut Vec::new());
    assert_eq!(page.unwrap(), Page::Pruned);
    // What is begun and no event yet is kept, also where everything else is gone.
    let bytes = frame(41, 30_000);
    let begun = write(&store, &bytes, usize::MAX);
    store.db.rocks.flush_cf(&family).unwrap();
    wait_until("the rest is freed", || {
        store.prune(u64::MAX, None).unwrap();
        store.large_files().unwrap().len() == 1
    });
    commit(&store, |batch| {
        batch.put_large_event(seq(41), 410, begun, outline(&bytes));
    });
    assert_is(&read(&store, 40).unwrap()[0], 41, 30_000);
    wait_until("nothing is left", || {
        store.prune(u64::MAX, None).unwrap();
        store.db.rocks.flush_cf(&family).unwrap();
        store.large_files().unwrap().is_empty()
    });
    assert_eq!(store.window().pruned, 41);
    // Numbers begin anew then, and so does everything else.
    drop(family);
    drop(store);
    let store = open(&dir);
    publish(&store, 42, 30_000);
    assert_is(&read(&store, 41).unwrap()[0], 42, 30_000);
}

/// Small and large events in turn, of which only so many bytes are to be kept.
#[test]
fn a_bound_in_bytes_counts_pieces_where_their_events_are() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for n in 1..=200 {
        if n % 10 == 0 {
            publish(&store, n, 40_000);
        } else {
            commit(&store, |batch| batch.put_event(seq(n), n, &frame(n, 4_000)));
        }
    }
    for family in [Family::Large, Family::Events] {
        store.db.rocks.flush_cf(&store.db.family(family)).unwrap();
    }
    let full = store.events_bytes();
    let pruned = store.prune(0, Some(full / 2)).unwrap().through;
    assert!((80..=130).contains(&pruned), "{pruned}");
    wait_until("it is freed", || {
        store.prune(0, Some(full / 2)).unwrap().bytes_after <= full / 2
    });
    let now = store.window();
    let few = now.pruned - pruned <= 20;
    assert!(few, "no more than files on both sides of it: {now:?}");
    let Window { pruned, last, .. } = now;
    let frames = read(&store, pruned).unwrap();
    let seqs: Vec<u64> = frames.iter().map(|frame| frame.seq.get()).collect();
    assert!(seqs.into_iter().eq(pruned + 1..=last));
}

#[test]
fn a_piece_that_is_missing_is_damage() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    for n in 1..=3 {
        publish(&store, n, 20_000);
    }
    let family = store.db.family(Family::Large);
    let put = |piece, value: &[u8]| {
        let key = large_key(2, piece);
        store.db.rocks.put_cf(&family, key, value).unwrap();
    };
    let whole = store.db.rocks.get_cf(&family, large_key(2, 3)).unwrap();
    let whole = whole.unwrap();
    let check = || {
        // What comes before it is given, and what is behind it can be had by who says so.
        assert_eq!(read(&store, 0).unwrap().len(), 1);
        let error = read(&store, 1).unwrap_err().to_string();
        assert!(error.contains("entry 2 of large"), "{error}");
        assert_is(&read(&store, 2).unwrap()[0], 3, 20_000);
    };
    for piece in [&whole[1..], &[], &[&whole[..], &[0; 20_000]].concat()] {
        put(3, piece);
        check();
    }
    store.db.rocks.delete_cf(&family, large_key(2, 3)).unwrap();
    check();
    put(3, &whole);
    assert_eq!(read(&store, 0).unwrap().len(), 3);
    // An outline of another frame.
    let other = frame(2, 20_000);
    let entry = InPieces {
        number: 2,
        outline: Outline {
            len: 20_001,
            ..outline(&other)
        },
    };
    let mut value = (IN_PIECES | 20).to_be_bytes().to_vec();
    entry.encode(&mut value);
    let events = store.db.family(Family::Events);
    let key = super::super::event_key(2);
    store.db.rocks.put_cf(&events, key, value).unwrap();
    check();
}

proptest! {
    #[test]
    fn an_entry_says_what_was_put_in(
        number in any::<u64>(),
        head in proptest::collection::vec(any::<u8>(), 0..12),
        insert in proptest::collection::vec(any::<u8>(), 0..10),
        at in 0usize..1_000_000,
        rest in 0usize..1_000_000,
        cut in any::<prop::sample::Index>(),
    ) {
        let outline = Outline {
            len: head.len() + at + insert.len() + rest,
            head: &head,
            at,
            insert: &insert,
        };
        let entry = InPieces { number, outline };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        prop_assert_eq!(Kept::decode(&bytes, true), Some(Kept::InPieces(entry)));
        // Cut off anywhere it is nothing, or at least nothing that is longer than it says.
        if let Some(Kept::InPieces(InPieces { outline, .. })) = Kept::decode(&bytes[..cut.index(bytes.len())], true) {
            prop_assert!(outline.head.len() + outline.at + outline.insert.len() <= outline.len);
        }
    }

    #[test]
    fn nothing_of_an_entry_is_too_much(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Some(kept) = Kept::decode(&bytes, true) {
            prop_assert!(kept.len() <= WS_HEADER_BYTES_MAX + FRAME_BYTES_MAX);
        }
    }
}
