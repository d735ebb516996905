//! Counts and lists by which accounts are found at their hosts, made anew from the accounts: for a store
//! of a version that counted accounts which are deleted, and had no list of those that wait for a place.

use std::collections::HashMap;

use rocksdb::WriteBatch;

use super::{
    Db, Family, Meta, StoreError,
    account::{Account, HostId, HostRecord},
    decoded,
    family::{host_key, throttled_key},
    options,
};
use crate::{
    crash::{self, Point},
    limits::{BATCH_BYTES_MAX, READ_AHEAD_PAGE_BYTES},
};

/// The way of counting of this version.
const LIVE: u64 = 1;

/// Counts the live accounts of every host, and lists who waits, where that was not done yet. It looks
/// at every account once, which takes about a microsecond each; cut off, it begins anew.
pub(super) fn recount(db: &Db) -> Result<(), StoreError> {
    if db.meta(Meta::Counting)? == Some(LIVE) {
        return Ok(());
    }
    let accounts = db.family(Family::Accounts);
    let throttled = db.family(Family::Throttled);
    let mut live: HashMap<HostId, u64> = HashMap::new();
    let (mut batch, mut count) = (WriteBatch::default(), 0u64);
    let readahead = options::scan(READ_AHEAD_PAGE_BYTES);
    let mut entries = db.rocks.raw_iterator_cf_opt(&accounts, readahead);
    entries.seek_to_first();
    while let Some((did, value)) = entries.item() {
        let name = String::from_utf8_lossy(did);
        let account = decoded(Account::decode(value), Family::Accounts, name)?;
        if account.is_live() {
            *live.entry(account.host).or_default() += 1;
        }
        if account.waits() {
            let key = throttled_key(account.host, account.ordinal);
            batch.put_cf(&throttled, key, did);
        }
        if batch.size_in_bytes() >= BATCH_BYTES_MAX {
            // Synced one by one, as everything is: `wal` relies on it.
            db.write_synced(std::mem::take(&mut batch), &[])?;
        }
        count += 1;
        entries.next();
    }
    entries.status()?;
    let hosts = db.family(Family::Hosts);
    for (host, record) in db.hosts()? {
        let accounts = live.remove(&host).unwrap_or(0);
        let record = HostRecord { accounts, ..record };
        batch.put_cf(&hosts, host_key(host), record.encode());
    }
    if count > 0 {
        log::info!(accounts = count; "the store was of an earlier version: accounts are counted anew");
    }
    crash::point(Point::RecountBefore);
    db.write_synced(batch, &[(Meta::Counting, LIVE)])?;
    crash::point(Point::RecountWritten);
    Ok(())
}
