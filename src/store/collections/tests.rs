//! The index in the store: bytes, lists that grow while they are read, and what is bounded.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::{Counters, Options};

const NAME: &str = "com.example.record";

fn options(fsync: bool) -> Options {
    Options {
        fsync,
        cache_bytes: 1 << 20,
        events_buffer_bytes: 64 << 10,
        other_buffer_bytes: 64 << 10,
        ..Options::default()
    }
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), options(true)).unwrap()
}

fn did(n: u64) -> Did {
    Did::parse(&format!("did:web:a{n}.test")).unwrap()
}

fn pair(collection: u32, number: u64) -> Pair {
    Pair {
        collection: CollectionId(collection),
        number,
    }
}

/// Gives pairs of the collection 1 these numbers; each is of the account of its number.
fn list(store: &Store, numbers: impl IntoIterator<Item = u64>) {
    let mut batch = store.batch();
    let mut last = 0;
    for number in numbers {
        batch.put_pair(pair(1, number), &did(number), false);
        last = number;
    }
    let id = CollectionId(1);
    batch.put_collection(NAME, Collection { id, last });
    store.commit(batch).unwrap();
}

fn dids(numbers: impl IntoIterator<Item = u64>) -> Vec<Did> {
    numbers.into_iter().map(did).collect()
}

fn page(store: &Store, after: u64, limit: usize) -> (Vec<Did>, Option<u64>) {
    let page = store.collection_page(NAME, after, limit).unwrap();
    (page.dids, page.next)
}

#[test]
fn pages_follow_the_numbers_whatever_comes_and_goes() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    assert_eq!(page(&store, 0, 10), (vec![], None));
    list(&store, 1..=5);
    // The neighbours are other lists.
    let mut batch = store.batch();
    for other in [0, 2] {
        for number in [1, 3, 9] {
            batch.put_pair(pair(other, number), &did(100), false);
        }
    }
    store.commit(batch).unwrap();
    assert_eq!(page(&store, 0, 5), (dids(1..=5), None));
    assert_eq!(page(&store, 0, 4), (dids(1..=4), Some(4)));
    assert_eq!(page(&store, 4, 4), (dids([5]), None));
    assert_eq!(page(&store, 5, 4), (vec![], None));
    let mut batch = store.batch();
    batch.delete_pair(pair(1, 2));
    batch.put_pair(pair(1, 4), &did(4), true);
    batch.put_pair(pair(1, 5), &did(5), true);
    store.commit(batch).unwrap();
    assert_eq!(page(&store, 0, 1), (dids([1]), Some(1)));
    assert_eq!(
        page(&store, 0, 2),
        (dids([1, 3]), None),
        "the rest is hidden"
    );
    list(&store, [6, 7]);
    assert_eq!(page(&store, 0, 2), (dids([1, 3]), Some(3)));
    assert_eq!(page(&store, 2, 9), (dids([3, 6, 7]), None));
    let mut batch = store.batch();
    batch.put_pair(pair(1, 4), &did(4), false);
    store.commit(batch).unwrap();
    store.close().unwrap();
    drop(store);
    let store = open(&dir);
    assert_eq!(page(&store, 3, 9), (dids([4, 6, 7]), None));
    let page = store.collection_page(NAME, 3, 9).unwrap();
    assert_eq!(page.last, 7);
}

/// What a client gets that asks until there is no cursor, where a scan is of so much.
fn parts(store: &Store, limit: usize, bounds: ScanBounds) -> Vec<Vec<Did>> {
    let (mut after, mut parts) = (0, Vec::new());
    loop {
        let listing = store.listing();
        let page = listing.collection_page(NAME, after, limit, bounds).unwrap();
        let is_empty = page.dids.is_empty();
        parts.push(page.dids);
        let Some(next) = page.next else {
            return parts;
        };
        assert!(next > after, "{next} after {after}");
        assert!(!is_empty, "an empty page is the end to who reads it");
        after = next;
    }
}

#[test]
fn a_part_with_a_next_one_is_never_empty() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    list(&store, 1..=40);
    let mut batch = store.batch();
    // Shown are 1, 2, then 21, then 40; 22 to 39 are gone.
    for number in 3..=20 {
        batch.put_pair(pair(1, number), &did(number), true);
    }
    for number in 22..=39 {
        batch.delete_pair(pair(1, number));
    }
    store.commit(batch).unwrap();
    let shown = dids([1, 2, 21, 40]);
    for entries in 1..=41 {
        for span in [1, 2, 3, 7, 17, 18, 19, 40, 1_000] {
            for limit in 1..=5 {
                let bounds = ScanBounds { entries, span };
                let parts = parts(&store, limit, bounds);
                assert_eq!(parts.concat(), shown, "{bounds:?}, {limit}");
                assert!(parts.iter().all(|part| part.len() <= limit));
            }
        }
    }
    // Nothing is shown any more, and then nothing is there.
    for batches in 0..2 {
        let mut batch = store.batch();
        for number in [1, 2, 21, 40] {
            match batches {
                0 => batch.put_pair(pair(1, number), &did(number), true),
                _ => batch.delete_pair(pair(1, number)),
            }
        }
        store.commit(batch).unwrap();
        for (entries, span) in [(1, 1), (1, 9), (9, 1), (100, 100)] {
            let bounds = ScanBounds { entries, span };
            assert_eq!(parts(&store, 3, bounds), [dids([])]);
        }
    }
}

#[test]
fn a_part_that_has_some_is_bounded_in_what_it_passes_over() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let hidden = LIST_COLLECTION_SCAN_MAX as u64 + 5;
    let far = hidden + 3 * LIST_COLLECTION_SPAN_MAX;
    list(&store, 1..=hidden + 2);
    let mut batch = store.batch();
    for number in 2..=hidden + 1 {
        batch.put_pair(pair(1, number), &did(number), true);
    }
    store.commit(batch).unwrap();
    let scanned = LIST_COLLECTION_SCAN_MAX as u64;
    assert_eq!(page(&store, 0, 10), (dids([1]), Some(scanned)));
    assert_eq!(page(&store, 1, 10), (dids([hidden + 2]), None));
    // Numbers without pairs.
    list(&store, [far]);
    let (after, end) = (hidden, hidden + LIST_COLLECTION_SPAN_MAX);
    assert_eq!(page(&store, after, 10), (dids([hidden + 2]), Some(end)));
    assert_eq!(
        page(&store, after, 1),
        (dids([hidden + 2]), Some(hidden + 2))
    );
    assert_eq!(page(&store, hidden + 2, 10), (dids([far]), None));
}

#[test]
fn a_listing_stays_as_it_was() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    list(&store, 1..=3);
    let listing = store.listing();
    list(&store, [4]);
    let mut batch = store.batch();
    batch.delete_pair(pair(1, 1));
    batch.put_pair(pair(1, 2), &did(2), true);
    store.commit(batch).unwrap();
    let bounds = ScanBounds {
        entries: 1,
        span: 2,
    };
    let mut found = Vec::new();
    let mut after = Some(0);
    while let Some(place) = after {
        let page = listing.collection_page(NAME, place, 9, bounds).unwrap();
        assert_eq!(page.last, 3);
        found.extend(page.dids);
        after = page.next;
    }
    assert_eq!(found, dids(1..=3));
    drop(listing);
    assert_eq!(page(&store, 0, 9), (dids([3, 4]), None));
}

/// What was given out may be lost where the operating system syncs; a number is not given again.
#[test]
fn numbers_that_may_be_lost_are_passed_over() {
    let dir = TempDir::new().unwrap();
    let open = || Store::open(dir.path(), options(false)).unwrap();
    let store = open();
    list(&store, 1..=3);
    let last = |store: &Store| store.collection(NAME).unwrap().unwrap().last;
    assert_eq!(last(&store), 3);
    drop(store);
    let store = open();
    assert_eq!(last(&store), 3 + PAIR_NUMBER_JUMP);
    assert_eq!(store.new_collection(CollectionId(2)).last, PAIR_NUMBER_JUMP);
    list(&store, [4 + PAIR_NUMBER_JUMP]);
    assert_eq!(last(&store), 4 + PAIR_NUMBER_JUMP);
    store.close().unwrap();
    drop(store);
    let store = open();
    assert_eq!(last(&store), 4 + PAIR_NUMBER_JUMP, "nothing was lost");
    drop(store);
    let store = open();
    assert_eq!(last(&store), 4 + 2 * PAIR_NUMBER_JUMP);
}

#[test]
fn an_account_has_its_pairs_and_the_store_its_counts() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    let mut pairs = Pairs::default();
    for (collection, number) in [(7, 900), (1, 3), (1_000_000, 1 << 40)] {
        pairs.insert(pair(collection, number));
    }
    let mut batch = store.batch();
    batch.put_account_collections(9, &pairs);
    let counters = Counters {
        collections: 5,
        pairs: 3,
        ..Counters::default()
    };
    batch.set_counters(counters);
    store.commit(batch).unwrap();
    assert_eq!(store.counters(), counters);
    drop(store);
    let store = open(&dir);
    assert_eq!(store.counters(), counters);
    assert_eq!(store.account_collections(9).unwrap(), pairs);
    assert!(store.account_collections(8).unwrap().is_empty());
    let mut batch = store.batch();
    batch.put_account_collections(9, &Pairs::default());
    store.commit(batch).unwrap();
    assert!(store.account_collections(9).unwrap().is_empty());
}

#[test]
fn a_damaged_entry_is_named() {
    let dir = TempDir::new().unwrap();
    let store = open(&dir);
    list(&store, [1]);
    let put = |family: Family, key: &[u8], value: &[u8]| {
        let family = store.db.family(family);
        store.db.rocks.put_cf(&family, key, value).unwrap();
    };
    put(Family::ByCollection, &pair_key(CollectionId(1), 2), &[9, 9]);
    let error = store.collection_page(NAME, 0, 10).unwrap_err().to_string();
    assert!(error.contains("by_collection"), "{error}");
    put(Family::ByAccount, &ordinal_key(1), &[2]);
    let error = store.account_collections(1).unwrap_err().to_string();
    assert!(error.contains("by_account"), "{error}");
    put(Family::Collections, NAME.as_bytes(), b"x");
    let error = store.collection_page(NAME, 0, 10).unwrap_err().to_string();
    assert!(error.contains("entry com.example.record"), "{error}");
}

fn any_did() -> impl Strategy<Value = Did> {
    let text = prop_oneof![
        "did:plc:[a-z2-7]{24}",
        "did:plc:[A-Za-z0-9]{1,30}",
        "did:(web|key):[a-zA-Z0-9.]{0,60}[a-z]",
    ];
    text.prop_map(|text| Did::parse(&text).unwrap())
}

proptest! {
    #[test]
    fn entries_come_back_as_they_were(did in any_did(), hidden: bool) {
        let mut bytes = Vec::new();
        Listed::encode(&did, hidden, &mut bytes);
        let is_plc = did.method() == Method::Plc;
        prop_assert_eq!(bytes.len(), 1 + if is_plc { PLC_BYTES } else { did.as_str().len() });
        prop_assert_eq!(Listed::decode(&bytes), Some(Listed { did, hidden }));
        if is_plc {
            prop_assert_eq!(Listed::decode(&bytes[..bytes.len() - 1]), None);
            bytes.push(0);
            prop_assert_eq!(Listed::decode(&bytes), None);
        }
    }

    #[test]
    fn pairs_come_back_as_they_were(all in proptest::collection::btree_map(
        1u32.., 0u64..1 << 62, 0..40,
    ), cut: usize) {
        let mut pairs = Pairs::default();
        for (collection, number) in &all {
            pairs.insert(pair(*collection, *number));
        }
        let bytes = pairs.encode();
        prop_assert_eq!(Pairs::decode(&bytes), Some(pairs.clone()));
        // What is cut off is missed, but for whole pairs.
        let cut = Pairs::decode(&bytes[..cut % bytes.len()]);
        prop_assert!(cut.is_none_or(|cut| cut.len() < pairs.len()));
        for collection in all.keys() {
            let id = CollectionId(*collection);
            prop_assert!(pairs.contains(id));
            prop_assert_eq!(pairs.remove(id).map(|pair| pair.number), Some(all[collection]));
            prop_assert!(!pairs.contains(id));
        }
        prop_assert!(pairs.is_empty());
    }

    #[test]
    fn collections_come_back_as_they_were(id: u32, last in 0u64..1 << 50, losses in 0u32..1000) {
        let collection = Collection { id: CollectionId(id), last };
        let bytes = collection.encode(losses);
        prop_assert_eq!(Collection::decode(&bytes, losses), Some(collection));
        let later = Collection::decode(&bytes, losses + 2).unwrap();
        prop_assert_eq!(later.last, last + 2 * PAIR_NUMBER_JUMP);
        prop_assert_eq!(Collection::decode(&bytes[1..], losses), None);
    }

    #[test]
    fn any_bytes_decode_without_a_panic(bytes: Vec<u8>) {
        let _ = Listed::decode(&bytes);
        let _ = Pairs::decode(&bytes);
        let _ = Collection::decode(&bytes, 0);
    }
}
