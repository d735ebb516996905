//! In the place of `src/store`: the same, in memory, with a look at all of it. What is kept of accounts
//! and hosts goes through the bytes that the real store writes.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use self::{
    account::{Account, HostId, HostRecord},
    collections::{Collection, CollectionId, Pair, Pairs},
};
use crate::{
    atproto::{did::Did, seq::Seq},
    limits::PIECE_BYTES,
};

#[path = "../../../src/store/account.rs"]
pub mod account;
#[path = "../../../src/store/reserve.rs"]
mod reserve;

pub use self::reserve::{Reserve, Space};

/// As in `src/store/collections.rs`.
pub mod collections {
    use std::collections::BTreeMap;

    /// The number of a collection.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub struct CollectionId(pub u32);

    /// What is kept of a collection.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Collection {
        /// Its number.
        pub id: CollectionId,
        /// The last number that was given to one of its pairs.
        pub last: u64,
    }

    /// A collection of an account, and the number of the pair.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Pair {
        /// The collection.
        pub collection: CollectionId,
        /// The place in its list.
        pub number: u64,
    }

    /// The collections of which an account has records.
    #[derive(Clone, PartialEq, Eq, Default, Debug)]
    pub struct Pairs(pub(super) BTreeMap<CollectionId, u64>);

    impl Pairs {
        /// Each of them.
        pub fn iter(&self) -> impl Iterator<Item = Pair> {
            let pair = |(collection, number): (&CollectionId, &u64)| Pair {
                collection: *collection,
                number: *number,
            };
            self.0.iter().map(pair)
        }

        /// How many there are.
        pub fn len(&self) -> usize {
            self.0.len()
        }

        /// Whether the collection is among them.
        pub fn contains(&self, collection: CollectionId) -> bool {
            self.0.contains_key(&collection)
        }

        /// Adds a pair.
        pub fn insert(&mut self, pair: Pair) {
            self.0.entry(pair.collection).or_insert(pair.number);
        }

        /// Removes the pair of a collection.
        pub fn remove(&mut self, collection: CollectionId) -> Option<Pair> {
            let number = self.0.remove(&collection)?;
            Some(Pair { collection, number })
        }
    }
}

/// As in `src/store/mod.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counters {
    /// The number of the next new account.
    pub next_ordinal: u64,
    /// Accounts there are.
    pub accounts: u64,
    /// Collections there are.
    pub collections: u64,
    /// Pairs there are.
    pub pairs: u64,
}

/// As in `src/store/takedowns.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Takedown {
    /// Up to which seq the account is hidden.
    pub seq: u64,
    /// Since when.
    pub at_ms: u64,
}

/// As in `src/store/window.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The highest seq ever removed.
    pub pruned: u64,
    /// The oldest seq that can be read.
    pub oldest: Option<u64>,
    /// The highest seq ever assigned.
    pub last: u64,
}

/// A batch that breaks the order of seqs.
#[derive(Debug)]
pub struct StoreError(String);

impl StoreError {
    /// Whether it is because the disk is full: here it never is.
    pub fn is_no_space(&self) -> bool {
        false
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// Everything that is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// The bytes of each event.
    pub events: BTreeMap<u64, Bytes>,
    /// Pieces of large events, by the number of each.
    pub large: BTreeMap<u64, Vec<Bytes>>,
    /// By DID.
    pub accounts: BTreeMap<String, Vec<u8>>,
    /// By ordinal.
    pub order: BTreeMap<u64, String>,
    /// By DID.
    pub takedowns: BTreeMap<String, Takedown>,
    /// Who waits for a place, by host and ordinal.
    pub throttled: BTreeMap<(u32, u64), String>,
    /// By number.
    pub hosts: BTreeMap<u32, Vec<u8>>,
    /// By name.
    pub collections: BTreeMap<String, Collection>,
    /// By collection and number: the account, and whether it is hidden.
    pub by_collection: BTreeMap<(u32, u64), (String, bool)>,
    /// By ordinal.
    pub by_account: BTreeMap<u64, Pairs>,
    /// The counters.
    pub counters: Counters,
}

/// As in `src/store/large.rs`.
#[derive(Debug)]
pub struct Large(u64);

/// As in `src/store/large.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'a> {
    /// Bytes of the whole frame.
    pub len: usize,
    /// What comes before the first piece.
    pub head: &'a [u8],
    /// What is put in behind so many bytes of pieces.
    pub at: usize,
    /// And what that is.
    pub insert: &'a [u8],
}

/// One atomic change.
#[derive(Default)]
pub struct Batch(Vec<Box<dyn FnOnce(&mut Content) + Send>>);

impl Batch {
    fn put(&mut self, change: impl FnOnce(&mut Content) + Send + 'static) {
        self.0.push(Box::new(change));
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an event, whose seq must be the next one: without gaps, and none twice.
    pub fn put_event(&mut self, seq: Seq, _: u64, bytes: &[u8]) {
        let (seq, bytes) = (seq.get(), Bytes::copy_from_slice(bytes));
        self.put(move |content| {
            let last = content.events.last_key_value().map_or(0, |(last, _)| *last);
            assert_eq!(seq, last + 1, "seqs have no gaps");
            content.events.insert(seq, bytes);
        });
    }

    /// Adds a piece of a large event.
    pub fn put_piece(&mut self, large: &mut Large, piece: &[u8]) {
        assert!(piece.len() <= PIECE_BYTES && !piece.is_empty());
        let (number, piece) = (large.0, Bytes::copy_from_slice(piece));
        self.put(move |content| content.large.entry(number).or_default().push(piece));
    }

    /// Adds an event whose pieces are there.
    pub fn put_large_event(&mut self, seq: Seq, time_ms: u64, large: Large, outline: Outline<'_>) {
        let Outline {
            len,
            head,
            at,
            insert,
        } = outline;
        let [head, insert] = [head, insert].map(Bytes::copy_from_slice);
        self.put(move |content| {
            let pieces = content.large.remove(&large.0).unwrap_or_default().concat();
            let (before, behind) = pieces.split_at(at);
            let bytes = [&head[..], before, &insert[..], behind].concat();
            assert_eq!(bytes.len(), len);
            let mut whole = Batch::default();
            whole.put_event(seq, time_ms, &bytes);
            whole.0.into_iter().for_each(|change| change(content));
        });
    }

    /// Sets what is known of an account, which keeps its place in the order of all.
    pub fn put_account(&mut self, did: &Did, account: &Account) {
        let (did, ordinal, bytes) = (did.to_string(), account.ordinal, account.encode());
        self.put(move |content| {
            let before = content.order.insert(ordinal, did.clone());
            assert!(
                before.is_none_or(|before| before == did),
                "a place is given once"
            );
            content.accounts.insert(did, bytes);
        });
    }

    /// Notes a takedown or its end.
    pub fn put_takedown(&mut self, did: &Did, takedown: Option<Takedown>) {
        let did = did.to_string();
        self.put(move |content| {
            match takedown {
                Some(takedown) => content.takedowns.insert(did, takedown),
                None => content.takedowns.remove(&did),
            };
        });
    }

    /// Notes who waits for a place.
    pub fn put_throttled(&mut self, host: HostId, ordinal: u64, did: &Did, waits: bool) {
        let did = did.to_string();
        self.put(move |content| {
            match waits {
                true => content.throttled.insert((host.0, ordinal), did),
                false => content.throttled.remove(&(host.0, ordinal)),
            };
        });
    }

    /// Sets what is known of a host.
    pub fn put_host(&mut self, host: HostId, record: &HostRecord) {
        let bytes = record.encode().to_vec();
        self.put(move |content| {
            content.hosts.insert(host.0, bytes);
        });
    }

    /// Sets the counters.
    pub fn set_counters(&mut self, counters: Counters) {
        self.put(move |content| content.counters = counters);
    }

    /// Sets what is known of a collection.
    pub fn put_collection(&mut self, name: &str, collection: Collection) {
        let name = name.to_owned();
        self.put(move |content| {
            content.collections.insert(name, collection);
        });
    }

    /// Adds a pair to the list of its collection.
    pub fn put_pair(&mut self, pair: Pair, did: &Did, hidden: bool) {
        let (key, did) = ((pair.collection.0, pair.number), did.to_string());
        self.put(move |content| {
            content.by_collection.insert(key, (did, hidden));
        });
    }

    /// Removes a pair from the list of its collection.
    pub fn delete_pair(&mut self, pair: Pair) {
        let key = (pair.collection.0, pair.number);
        self.put(move |content| {
            content.by_collection.remove(&key);
        });
    }

    /// Sets the pairs of an account.
    pub fn put_account_collections(&mut self, ordinal: u64, pairs: &Pairs) {
        let pairs = pairs.clone();
        self.put(move |content| {
            content.by_account.insert(ordinal, pairs);
        });
    }
}

/// A store that a sequencer works on, and that outlives it.
#[derive(Debug)]
pub struct Store(Mutex<Content>);

impl Default for Store {
    fn default() -> Store {
        Store(Mutex::new(Content {
            events: BTreeMap::new(),
            large: BTreeMap::new(),
            accounts: BTreeMap::new(),
            order: BTreeMap::new(),
            takedowns: BTreeMap::new(),
            throttled: BTreeMap::new(),
            hosts: BTreeMap::new(),
            collections: BTreeMap::new(),
            by_collection: BTreeMap::new(),
            by_account: BTreeMap::new(),
            counters: Counters {
                next_ordinal: 1,
                accounts: 0,
                collections: 0,
                pairs: 0,
            },
        }))
    }
}

impl Store {
    /// Everything in it, to be looked at.
    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of an account.
    pub fn account(&self, did: &Did) -> Result<Option<Account>, StoreError> {
        let content = self.content();
        let Some(bytes) = content.accounts.get(did.as_str()) else {
            return Ok(None);
        };
        let account = Account::decode(bytes);
        account
            .map(Some)
            .ok_or(StoreError(format!("damaged: {did}")))
    }

    /// Who waits for a place at a host.
    pub fn throttled(&self, host: HostId, limit: usize) -> Result<Vec<(u64, Did)>, StoreError> {
        let content = self.content();
        let waiting = content.throttled.range((host.0, 0)..=(host.0, u64::MAX));
        let parsed =
            waiting.filter_map(|((_, ordinal), did)| Some((*ordinal, Did::parse(did).ok()?)));
        Ok(parsed.take(limit).collect())
    }

    /// Every host.
    pub fn hosts(&self) -> Result<Vec<(HostId, HostRecord)>, StoreError> {
        let content = self.content();
        let hosts = content.hosts.iter();
        let parsed = hosts.map(|(id, bytes)| Some((HostId(*id), HostRecord::decode(bytes)?)));
        parsed
            .collect::<Option<_>>()
            .ok_or(StoreError("damaged".into()))
    }

    /// The last seq.
    pub fn last_seq(&self) -> u64 {
        self.window().last
    }

    /// What can be read.
    pub fn window(&self) -> Window {
        let content = self.content();
        Window {
            pruned: 0,
            oldest: content.events.first_key_value().map(|(seq, _)| *seq),
            last: content.events.last_key_value().map_or(0, |(seq, _)| *seq),
        }
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.content().counters
    }

    /// Whether an account is taken down.
    pub fn takedown(&self, did: &Did) -> Result<bool, StoreError> {
        Ok(self.content().takedowns.contains_key(did.as_str()))
    }

    /// What is known of a collection.
    pub fn collection(&self, name: &str) -> Result<Option<Collection>, StoreError> {
        Ok(self.content().collections.get(name).copied())
    }

    /// A collection that is not known yet.
    pub fn new_collection(&self, id: CollectionId) -> Collection {
        Collection { id, last: 0 }
    }

    /// The collections of an account.
    pub fn account_collections(&self, ordinal: u64) -> Result<Pairs, StoreError> {
        let pairs = self.content().by_account.get(&ordinal).cloned();
        Ok(pairs.unwrap_or_default())
    }

    /// Whether it takes writes.
    pub fn try_write(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// An empty batch.
    pub fn batch(&self) -> Batch {
        Batch::default()
    }

    /// Begins to write a large event.
    pub fn begin_large(&self) -> Large {
        let mut content = self.content();
        let number = content.large.last_key_value().map_or(0, |(last, _)| *last) + 1;
        content.large.insert(number, Vec::new());
        Large(number)
    }

    /// Writes a batch.
    pub fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let mut content = self.content();
        batch.0.into_iter().for_each(|change| change(&mut content));
        Ok(())
    }
}
