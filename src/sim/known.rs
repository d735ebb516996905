//! A relay that has known millions of accounts for long: its store, filled before it starts, without
//! an event for each of them.
//!
//! Everything follows from an account's ordinal: its DID, what is known of it, and the collections of
//! which it has records.

use std::{io, ops::RangeInclusive, path::Path};

use crate::{
    atproto::{cid::Cid, did::Did, tid::Tid},
    store::{
        Counters, Options, Store,
        account::{Account, Head, HostId, Local, Seen, Status},
        collections::{Collection, CollectionId, Pair, Pairs},
    },
};

/// Collections of which everybody has records: the first ones.
pub const COMMON: u32 = 4;
/// Collections of which an account has records, the common ones among them, at most.
pub const PAIRS_EACH: u32 = 12;
/// Collections there are.
pub const COLLECTIONS: u32 = 1_000;
/// Accounts of one batch.
const BATCH: u64 = 1_000;
/// Accounts after which a line says how far it is.
const PROGRESS: u64 = 500_000;

/// What a store is filled with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// Accounts, of the ordinals from 1.
    pub accounts: u64,
    /// The host of the first account; the next ones are at the hosts after it.
    pub first_host: HostId,
    /// Hosts, at least one.
    pub hosts: u32,
}

/// What the collection index is and takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexSize {
    /// Pairs of an account and a collection.
    pub pairs: u64,
    /// Bytes of the store's files, in both directions, after they were merged.
    pub bytes: u64,
}

impl IndexSize {
    /// Bytes on the disk for each pair.
    pub fn bytes_per_pair(self) -> f64 {
        self.bytes as f64 / self.pairs.max(1) as f64
    }
}

/// The DID of an account: in no order.
pub fn did(ordinal: u64) -> io::Result<Did> {
    let mut rng = fastrand::Rng::with_seed(ordinal);
    let name = std::iter::repeat_with(|| rng.lowercase()).take(24);
    Did::parse(&format!("did:plc:{}", name.collect::<String>())).map_err(io::Error::other)
}

/// The name of a collection, from 1.
pub fn collection(number: u32) -> String {
    format!("com.example.collection{number}")
}

impl Known {
    /// Fills the new store of a directory with accounts, and closes it.
    pub fn fill(&self, directory: &Path) -> io::Result<()> {
        let store = open(directory)?;
        for ordinals in self.batches() {
            let mut batch = store.batch();
            for ordinal in ordinals.clone() {
                let did = did(ordinal)?;
                batch.put_account(&did, &self.account(ordinal));
            }
            store.commit(batch).map_err(io::Error::other)?;
            self.progress("known", *ordinals.end());
        }
        let mut batch = store.batch();
        batch.set_counters(Counters {
            next_ordinal: self.accounts + 1,
            accounts: self.accounts,
            ..Counters::default()
        });
        store.commit(batch).map_err(io::Error::other)?;
        close(&store)
    }

    /// Adds the collection index to a store that was filled, and closes it.
    pub fn index(&self, directory: &Path) -> io::Result<IndexSize> {
        let before = file_bytes(directory)?;
        let store = open(directory)?;
        let mut last = vec![0u64; COLLECTIONS as usize + 1];
        let mut count = 0;
        for ordinals in self.batches() {
            let mut batch = store.batch();
            for ordinal in ordinals.clone() {
                let (did, mut pairs) = (did(ordinal)?, Pairs::default());
                for collection in collections(ordinal) {
                    if pairs.contains(collection) {
                        continue;
                    }
                    let number = &mut last[collection.0 as usize];
                    *number += 1;
                    let number = *number;
                    let pair = Pair { collection, number };
                    pairs.insert(pair);
                    batch.put_pair(pair, &did, false);
                    count += 1;
                }
                batch.put_account_collections(ordinal, &pairs);
            }
            store.commit(batch).map_err(io::Error::other)?;
            self.progress("indexed", *ordinals.end());
        }
        let mut batch = store.batch();
        for (id, last) in (1..=COLLECTIONS).zip(&last[1..]) {
            let id = CollectionId(id);
            batch.put_collection(&collection(id.0), Collection { id, last: *last });
        }
        batch.set_counters(Counters {
            collections: u64::from(COLLECTIONS),
            pairs: count,
            ..store.counters()
        });
        store.commit(batch).map_err(io::Error::other)?;
        close(&store)?;
        drop(store);
        Ok(IndexSize {
            pairs: count,
            bytes: file_bytes(directory)?.saturating_sub(before),
        })
    }

    /// All ordinals, as many at once as are written together.
    fn batches(&self) -> impl Iterator<Item = RangeInclusive<u64>> {
        let last = self.accounts;
        let starts = (1..=last).step_by(BATCH as usize);
        starts.map(move |start| start..=last.min(start + BATCH - 1))
    }

    pub(crate) fn account(&self, ordinal: u64) -> Account {
        Account {
            ordinal,
            host: HostId(self.first_host.0 + (ordinal % u64::from(self.hosts)) as u32),
            authority_at: 1_700_000_000_000,
            upstream: Status::ACTIVE,
            status_heard: true,
            local: Local::default(),
            head: Some(Head {
                rev: Tid::from_micros(1_700_000_000_000_000 + ordinal, 0),
                commit: Cid::of_cbor(&ordinal.to_le_bytes()),
                data: Cid::of_cbor(&ordinal.to_be_bytes()),
            }),
            listed: None,
            seen: Seen {
                epoch: 0,
                seq: ordinal,
            },
        }
    }

    fn progress(&self, what: &str, done: u64) {
        if done.is_multiple_of(PROGRESS) || (done == self.accounts && done > PROGRESS) {
            eprintln!("{done} of {} accounts are {what}", self.accounts);
        }
    }
}

/// The collections of an account: a few are popular, and most are not.
fn collections(ordinal: u64) -> impl Iterator<Item = CollectionId> {
    let mut rng = fastrand::Rng::with_seed(ordinal);
    let other = move |_| {
        let beyond = f64::from(COLLECTIONS - COMMON) * rng.f64().powi(3);
        (COMMON + 1 + beyond as u32).min(COLLECTIONS)
    };
    let others = (COMMON..PAIRS_EACH).map(other);
    (1..=COMMON).chain(others).map(CollectionId)
}

/// Opens the store without syncing each batch: what is lost with this machine can be made again.
fn open(directory: &Path) -> io::Result<Store> {
    let options = Options {
        fsync: false,
        ..Options::default()
    };
    Store::open(directory, options).map_err(io::Error::other)
}

/// Closes a store as one that has been running for long: nothing waits to be merged.
fn close(store: &Store) -> io::Result<()> {
    store.close().map_err(io::Error::other)?;
    store.settle().map_err(io::Error::other)
}

/// Bytes of the store's files.
fn file_bytes(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for file in std::fs::read_dir(directory.join("store"))? {
        let file = file?;
        if file.path().extension().is_some_and(|e| e == "sst") {
            sum += file.metadata()?.len();
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ListEntry;

    #[test]
    fn a_store_is_filled_with_lists_of_both_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known {
            accounts: 2_500,
            first_host: HostId(70),
            hosts: 3,
        };
        known.fill(dir.path()).unwrap();
        let size = known.index(dir.path()).unwrap();
        assert!(size.pairs > 2_500 * u64::from(COMMON) && size.bytes > size.pairs);
        let store = open(dir.path()).unwrap();
        let counters = store.counters();
        assert_eq!((counters.accounts, counters.next_ordinal), (2_500, 2_501));
        assert_eq!(counters.pairs, size.pairs);
        let last = store.accounts_after(2_499, 10).unwrap();
        let expected = ListEntry::of(did(2_500).unwrap(), &known.account(2_500));
        assert_eq!(last, [expected]);
        for number in 1..=COMMON {
            let page = store.collection_page(&collection(number), 1_000, 5_000);
            let page = page.unwrap();
            assert_eq!((page.dids.len(), page.next), (1_500, None));
            assert_eq!(page.dids[0], did(1_001).unwrap());
        }
        let pairs = store.account_collections(7).unwrap();
        assert!(pairs.len() <= PAIRS_EACH as usize);
        assert!(collections(7).all(|id| pairs.contains(id)));
    }
}
