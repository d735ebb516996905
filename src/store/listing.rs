//! What lists are read from: the store as it was at one moment.
//!
//! A page of a list is made of more than one read (the order and the accounts; a collection and its
//! list, in several scans), and all of them see the same batches. It is read on the thread of whoever
//! asks. What it holds is nothing that the sequencer waits for:
//!
//! - a snapshot is an entry in a list of RocksDB's, of which compaction takes notice: while it is
//!   there, what is overwritten is not dropped. Making and ending one takes the lock of the database
//!   for that entry, which a commit takes too, for a moment like this one; nobody reads meanwhile;
//! - an iterator and a lookup read files that are never changed, and tables in memory to which a
//!   commit adds without a lock. What they have in use stays in memory for as long, so an iterator
//!   lives for a bounded number of entries;
//! - the cache of blocks has a lock for each of its parts, taken to find or add a block.

pub(super) mod entry;

use rocksdb::{DBWithThreadMode, MultiThreaded, ReadOptions, SnapshotWithThreadMode};

pub use self::entry::ListEntry;
use self::entry::Value;
use super::{
    Db, Family, Store, StoreError, account::Account, decoded, family::ordinal_key, options,
};
use crate::{atproto::did::Did, limits::LOOKUPS_MAX};

/// The store as it was when this was made, for lists. Short-lived: see the module.
pub struct Listing<'a> {
    pub(super) db: &'a Db,
    pub(super) snapshot: SnapshotWithThreadMode<'a, DBWithThreadMode<MultiThreaded>>,
}

impl Store {
    /// The store as it is now, for lists.
    pub fn listing(&self) -> Listing<'_> {
        Listing {
            db: &self.db,
            snapshot: self.db.rocks.snapshot(),
        }
    }

    /// [`Listing::accounts_after`], of now.
    pub fn accounts_after(&self, ordinal: u64, limit: usize) -> Result<Vec<ListEntry>, StoreError> {
        self.listing().accounts_after(ordinal, limit)
    }
}

impl Listing<'_> {
    /// Accounts whose ordinal is greater than `ordinal`, in the order of their first appearance,
    /// at most `limit` of them.
    pub fn accounts_after(&self, ordinal: u64, limit: usize) -> Result<Vec<ListEntry>, StoreError> {
        let family = self.db.family(Family::AccountOrder);
        let mut read = options::scan(0);
        read.set_snapshot(&self.snapshot);
        let mut order = self.db.rocks.raw_iterator_cf_opt(&family, read);
        let mut values = Vec::new();
        order.seek(ordinal_key(ordinal.saturating_add(1)));
        while values.len() < limit {
            let Some((key, value)) = order.item() else {
                order.status()?;
                break;
            };
            let ordinal = <[u8; 8]>::try_from(key).ok().map(u64::from_be_bytes);
            let value = ordinal.and_then(|ordinal| entry::decode(ordinal, value));
            let key = format_args!("{key:02x?}");
            values.push(decoded(value, Family::AccountOrder, key)?);
            order.next();
        }
        self.complete(values)
    }

    /// Looks up what values of the first version do not say.
    fn complete(&self, values: Vec<Value>) -> Result<Vec<ListEntry>, StoreError> {
        let name = |value: &Value| match value {
            Value::Name(did) => Some(did.clone()),
            Value::Entry(_) => None,
        };
        let names: Vec<Did> = values.iter().filter_map(name).collect();
        let mut known = self.accounts(&names)?.into_iter();
        let complete = |value| match value {
            Value::Entry(entry) => Some(entry),
            Value::Name(did) => known.next().map(|account| ListEntry::of(did, &account)),
        };
        Ok(values.into_iter().filter_map(complete).collect())
    }

    /// What is known of accounts that are in the order, each in the place of its DID. Looked up in
    /// the order of their keys and many at once: neighbours share what is read to find them.
    fn accounts(&self, dids: &[Did]) -> Result<Vec<Account>, StoreError> {
        let family = self.db.family(Family::Accounts);
        let mut read = ReadOptions::default();
        read.set_snapshot(&self.snapshot);
        // A thousand blocks that nobody asks for again must not push out of the cache what events are
        // judged by. The pieces of indexes and filters are there because of those.
        read.fill_cache(false);
        let mut sorted: Vec<usize> = (0..dids.len()).collect();
        sorted.sort_unstable_by_key(|at| dids[*at].as_str());
        let mut accounts = vec![None; dids.len()];
        for places in sorted.chunks(LOOKUPS_MAX) {
            let keys = places.iter().map(|at| dids[*at].as_str());
            let values = self
                .db
                .rocks
                .batched_multi_get_cf_opt(&family, keys, true, &read);
            for (at, value) in places.iter().zip(values) {
                let did = &dids[*at];
                let Some(value) = value? else {
                    return Err(StoreError::damaged(Family::AccountOrder.name(), did));
                };
                let account = decoded(Account::decode(&value), Family::Accounts, did)?;
                accounts[*at] = Some(account);
            }
        }
        Ok(accounts.into_iter().flatten().collect())
    }
}

impl std::fmt::Debug for Listing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
