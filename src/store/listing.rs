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

use rocksdb::{DBWithThreadMode, MultiThreaded, ReadOptions, SnapshotWithThreadMode};

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
    pub fn accounts_after(
        &self,
        ordinal: u64,
        limit: usize,
    ) -> Result<Vec<(Did, Account)>, StoreError> {
        self.listing().accounts_after(ordinal, limit)
    }
}

impl Listing<'_> {
    /// Accounts whose ordinal is greater than `ordinal`, in the order of their first appearance,
    /// at most `limit` of them.
    pub fn accounts_after(
        &self,
        ordinal: u64,
        limit: usize,
    ) -> Result<Vec<(Did, Account)>, StoreError> {
        let dids = self.dids_after(ordinal, limit)?;
        let accounts = self.accounts(&dids)?;
        Ok(dids.into_iter().zip(accounts).collect())
    }

    /// The same without what is known of them.
    fn dids_after(&self, ordinal: u64, limit: usize) -> Result<Vec<Did>, StoreError> {
        let family = self.db.family(Family::AccountOrder);
        let mut order = self.snapshot.raw_iterator_cf_opt(&family, options::scan(0));
        let mut dids = Vec::new();
        order.seek(ordinal_key(ordinal.saturating_add(1)));
        while dids.len() < limit {
            let Some((key, value)) = order.item() else {
                order.status()?;
                break;
            };
            let did = std::str::from_utf8(value).ok().map(Did::parse);
            let Some(Ok(did)) = did else {
                let name = Family::AccountOrder.name();
                return Err(StoreError::damaged(name, format_args!("{key:02x?}")));
            };
            dids.push(did);
            order.next();
        }
        Ok(dids)
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
