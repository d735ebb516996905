//! The collection index: who has records of what, kept in the same batch as the events that say so.
//!
//! What a commit shows of the collections that it touches is the truth about its own tree, whatever
//! came before it: a pair is added when something is there, also by an update or by a deletion beside
//! which something is left, and removed when nothing is. So the index of a repository that is known
//! from its first commit is exact, and that of any other becomes so, collection by collection, as it
//! is written to. Of what a `#sync` or a discontinuous commit has passed over nothing is said, and
//! what the index has of it stays.
//!
//! A pair is of an account, not of its status: an account that is not active is hidden in the lists,
//! and shown again in its old places. One that its host calls deleted loses all its pairs.
//!
//! A backfill adds pairs that another relay's index has, which may be of accounts that are not active
//! here. The next commit that touches the collection says what is true.

use std::collections::{HashMap, hash_map::Entry};

use super::{Forming, Sequencer};
use crate::{
    atproto::{
        did::Did,
        prove::{Presence, Touched},
    },
    limits::{
        ACCOUNT_COLLECTIONS_MAX, BATCH_INDEX_CHANGES_MAX, COLLECTIONS_CACHED_MAX, COLLECTIONS_MAX,
    },
    store::{
        Store, StoreError,
        account::Account,
        collections::{Collection, CollectionId, Pair, Pairs},
    },
};

/// Collections that were asked for lately. Only the sequencer changes them, and what could not be
/// written ends it: what is here is what the store has, or will have with the next batch.
#[derive(Default, Debug)]
pub(super) struct Collections(HashMap<Box<str>, Collection>);

impl Collections {
    /// Forgets them where they have become too many. To be called when nothing is unwritten.
    pub(super) fn trim(&mut self) {
        if self.0.len() > COLLECTIONS_CACHED_MAX {
            self.0 = HashMap::new();
        }
    }
}

/// The pairs of accounts as a batch leaves them.
#[derive(Default, Debug)]
pub(super) struct IndexForming {
    /// By ordinal; true: they have changed.
    accounts: HashMap<u64, (Pairs, bool)>,
    changes: usize,
}

impl IndexForming {
    /// Whether so much has changed that it should be written.
    pub(super) fn is_full(&self) -> bool {
        self.changes >= BATCH_INDEX_CHANGES_MAX
    }

    /// The pairs of an account as the batch leaves them, and whether they have changed.
    fn of(&mut self, ordinal: u64, store: &Store) -> Result<&mut (Pairs, bool), StoreError> {
        match self.accounts.entry(ordinal) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let pairs = store.account_collections(ordinal)?;
                Ok(entry.insert((pairs, false)))
            }
        }
    }

    /// The pairs that are to be written, by ordinal.
    pub(super) fn changed(&self) -> impl Iterator<Item = (u64, &Pairs)> {
        let accounts = self.accounts.iter();
        accounts.filter_map(|(ordinal, (pairs, changed))| changed.then_some((*ordinal, pairs)))
    }
}

/// What came of adding a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Added {
    /// It is in the index from now on.
    New,
    /// It was in the index already.
    Known,
    /// There is no place for it.
    Refused,
}

impl Sequencer {
    /// A commit of an account is forwarded: what it shows of collections.
    pub(super) fn index_commit(
        &mut self,
        did: &Did,
        ordinal: u64,
        touched: &Touched,
        forming: &mut Forming,
    ) -> Result<(), StoreError> {
        for (name, presence) in touched.iter() {
            match presence {
                Presence::Present => {
                    // Only what is forwarded is indexed, and that is of accounts that are active.
                    self.add_pair(name, did, ordinal, false, forming)?;
                }
                Presence::Gone => self.remove_pair(name, ordinal, forming)?,
            }
        }
        Ok(())
    }

    /// The status of an account has changed, or may have.
    pub(super) fn index_account(
        &mut self,
        did: &Did,
        known: &Account,
        account: &Account,
        forming: &mut Forming,
    ) -> Result<(), StoreError> {
        let is_active = account.effective().active;
        let is_deleted = account.upstream.is_deleted() && !known.upstream.is_deleted();
        if !is_deleted && is_active == known.effective().active {
            return Ok(());
        }
        let Forming { index, batch, .. } = forming;
        let (pairs, changed) = index.of(account.ordinal, &self.store)?;
        let count = pairs.len();
        if is_deleted {
            *changed |= count > 0;
            for pair in std::mem::take(pairs).iter() {
                batch.delete_pair(pair);
            }
            self.counters.pairs = self.counters.pairs.saturating_sub(count as u64);
        } else {
            for pair in pairs.iter() {
                batch.put_pair(pair, did, !is_active);
            }
        }
        index.changes += count;
        Ok(())
    }

    /// An account has records of a collection; `hidden`: it is not active.
    pub(super) fn add_pair(
        &mut self,
        name: &str,
        did: &Did,
        ordinal: u64,
        hidden: bool,
        forming: &mut Forming,
    ) -> Result<Added, StoreError> {
        let known = self.collection(name)?;
        let count = self.counters.collections;
        let Forming { index, batch, .. } = forming;
        let (pairs, changed) = index.of(ordinal, &self.store)?;
        if known.is_some_and(|known| pairs.contains(known.id)) {
            return Ok(Added::Known);
        }
        if pairs.len() >= ACCOUNT_COLLECTIONS_MAX || (known.is_none() && count >= COLLECTIONS_MAX) {
            self.metrics.collections_refused.inc();
            return Ok(Added::Refused);
        }
        let mut collection = match known {
            Some(known) => known,
            None => {
                self.counters.collections += 1;
                let id = u32::try_from(self.counters.collections).unwrap_or(u32::MAX);
                self.store.new_collection(CollectionId(id))
            }
        };
        collection.last += 1;
        let pair = Pair {
            collection: collection.id,
            number: collection.last,
        };
        pairs.insert(pair);
        *changed = true;
        batch.put_collection(name, collection);
        batch.put_pair(pair, did, hidden);
        index.changes += 1;
        self.collections.0.insert(name.into(), collection);
        self.counters.pairs += 1;
        Ok(Added::New)
    }

    /// An account has no records of a collection any more.
    fn remove_pair(
        &mut self,
        name: &str,
        ordinal: u64,
        forming: &mut Forming,
    ) -> Result<(), StoreError> {
        let Some(collection) = self.collection(name)? else {
            return Ok(());
        };
        let Forming { index, batch, .. } = forming;
        let (pairs, changed) = index.of(ordinal, &self.store)?;
        if let Some(pair) = pairs.remove(collection.id) {
            *changed = true;
            batch.delete_pair(pair);
            index.changes += 1;
            self.counters.pairs = self.counters.pairs.saturating_sub(1);
        }
        Ok(())
    }

    /// What is known of a collection, with what the batch has changed.
    pub(super) fn collection(&mut self, name: &str) -> Result<Option<Collection>, StoreError> {
        if let Some(collection) = self.collections.0.get(name) {
            return Ok(Some(*collection));
        }
        let found = self.store.collection(name)?;
        if let Some(collection) = found {
            self.collections.0.insert(name.into(), collection);
        }
        Ok(found)
    }
}
