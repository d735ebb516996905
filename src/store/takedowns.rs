//! Accounts that the operator has taken down: the DIDs, and what of them is hidden.

use std::time::{SystemTime, UNIX_EPOCH};

use rocksdb::WriteBatch;

use super::{Db, Family, Store, StoreError};
use crate::{
    atproto::did::Did,
    crash::{self, Point},
};

/// What is kept of a takedown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Takedown {
    /// What was published of the account before this seq is not shown any more. 0: nothing was
    /// published here before.
    pub seq: u64,
    /// When it was taken down, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Takedown {
    /// The bytes in the store: seq 8, time 8, little-endian.
    pub(super) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes
    }

    /// The takedown of `bytes`; `None`: they are damaged.
    fn decode(bytes: &[u8]) -> Option<Takedown> {
        let (seq, rest) = bytes.split_first_chunk()?;
        let at_ms = <[u8; 8]>::try_from(rest).ok()?;
        Some(Takedown {
            seq: u64::from_le_bytes(*seq),
            at_ms: u64::from_le_bytes(at_ms),
        })
    }
}

impl Store {
    /// Whether the operator has taken this account down, also where nothing of it was seen yet.
    pub fn takedown(&self, did: &Did) -> Result<bool, StoreError> {
        let family = self.db.family(Family::Takedowns);
        let found = self.db.rocks.get_pinned_cf(&family, did.as_str())?;
        Ok(found.is_some())
    }

    /// Accounts that the operator has taken down, in the order of their DIDs, after `after` (which
    /// may be empty), at most `limit` of them.
    pub fn takedowns_after(&self, after: &str, limit: usize) -> Result<Vec<Did>, StoreError> {
        let family = self.db.family(Family::Takedowns);
        let mut entries = self.db.rocks.raw_iterator_cf(&family);
        let mut found = Vec::new();
        entries.seek(after);
        while found.len() < limit {
            let Some(key) = entries.key() else {
                entries.status()?;
                break;
            };
            if key != after.as_bytes() {
                found.push(parse(key)?);
            }
            entries.next();
        }
        Ok(found)
    }

    /// The takedowns that hide something of what can still be read.
    pub fn hiding(&self) -> Result<Vec<(Did, Takedown)>, StoreError> {
        let Some(oldest) = self.window().oldest else {
            return Ok(Vec::new());
        };
        let family = self.db.family(Family::Takedowns);
        let mut entries = self.db.rocks.raw_iterator_cf(&family);
        let mut found = Vec::new();
        entries.seek_to_first();
        while let Some((key, value)) = entries.item() {
            let did = parse(key)?;
            let Some(takedown) = Takedown::decode(value) else {
                return Err(StoreError::damaged(Family::Takedowns.name(), did));
            };
            if takedown.seq > oldest {
                found.push((did, takedown));
            }
            entries.next();
        }
        entries.status()?;
        Ok(found)
    }
}

/// Gives a seq and a time to the takedowns of a version that kept none: everything up to `last` is
/// hidden, as of now.
pub(super) fn complete(db: &Db, last: u64) -> Result<(), StoreError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let takedown = Takedown {
        seq: last.saturating_add(1),
        at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    };
    let family = db.family(Family::Takedowns);
    let mut entries = db.rocks.raw_iterator_cf(&family);
    let mut batch = WriteBatch::default();
    entries.seek_to_first();
    while let Some((key, value)) = entries.item() {
        if value.is_empty() {
            batch.put_cf(&family, key, takedown.encode());
        }
        entries.next();
    }
    entries.status()?;
    if batch.is_empty() {
        return Ok(());
    }
    crash::point(Point::TakedownsBefore);
    db.write_synced(batch, &[])?;
    crash::point(Point::TakedownsWritten);
    Ok(())
}

fn parse(key: &[u8]) -> Result<Did, StoreError> {
    let did = std::str::from_utf8(key).ok().map(Did::parse);
    let Some(Ok(did)) = did else {
        let name = Family::Takedowns.name();
        return Err(StoreError::damaged(name, format_args!("{key:02x?}")));
    };
    Ok(did)
}
