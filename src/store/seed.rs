//! A new store beside a control store that is older: what that one has kept for it.
//!
//! Where the data directory was lost, hosts go on at their mirrored cursors, accounts that were taken
//! down stay so, and the seq goes on above every one that was published. All of it is to be written
//! before anything is sequenced. Each step can be done again after a kill.

use rocksdb::WriteBatch;

use super::{
    Family, Meta, Store, StoreError, Takedown,
    account::{HostId, HostRecord},
    family::host_key,
};
use crate::{
    atproto::{did::Did, seq::Seq},
    crash::{self, Point},
};

impl Store {
    /// The number of the control store that this store belongs to, once it has been set.
    pub fn control_id(&self) -> Result<Option<u64>, StoreError> {
        self.db.meta(Meta::ControlId)
    }

    /// Sets the number of the control store that this store belongs to, synced.
    pub fn set_control_id(&self, id: u64) -> Result<(), StoreError> {
        crash::point(Point::ControlIdBefore);
        self.db.set_meta(&[(Meta::ControlId, id)])?;
        crash::point(Point::ControlIdWritten);
        Ok(())
    }

    /// Whether nothing was ever sequenced here, and nothing is known of any account or host. A store
    /// that can not say so is not.
    pub fn is_fresh(&self) -> bool {
        matches!(self.has_begun(), Ok(false)) && matches!(self.is_empty(Family::Hosts), Ok(true))
    }

    /// Writes what a control store has kept: how far hosts were processed, and the accounts that were
    /// taken down, each with the time in milliseconds since 1970; all of it or nothing, synced. Only
    /// for a store in which nothing was sequenced yet. Accounts are counted anew when they are heard
    /// of: a record's number of them is not taken. Nothing that was published here is hidden, as
    /// nothing was.
    pub fn seed(
        &self,
        hosts: &[(HostId, HostRecord)],
        takedowns: &[(Did, u64)],
    ) -> Result<(), StoreError> {
        if self.has_begun()? {
            return Err(StoreError::Begun);
        }
        let mut batch = WriteBatch::default();
        let family = self.db.family(Family::Hosts);
        for (host, record) in hosts {
            let record = HostRecord {
                accounts: 0,
                ..*record
            };
            batch.put_cf(&family, host_key(*host), record.encode());
        }
        let family = self.db.family(Family::Takedowns);
        for (did, at_ms) in takedowns {
            let takedown = Takedown {
                seq: 0,
                at_ms: *at_ms,
            };
            batch.put_cf(&family, did.as_str(), takedown.encode());
        }
        crash::point(Point::SeedBefore);
        self.db.write_synced(batch, &[])?;
        crash::point(Point::SeedWritten);
        Ok(())
    }

    /// Makes sure, synced, that the next seq is above `floor`; false where it is already. Where there
    /// are events, what lies between is a gap, not a loss of the window, as after an end that may have
    /// lost the last batches; where there are none, everything up to there has left the window.
    /// To be called before there is a sequencer, which counts for itself.
    pub fn raise_seq(&self, floor: u64) -> Result<bool, StoreError> {
        let floor = floor.min(Seq::MAX.get());
        if self.last_seq() >= floor {
            return Ok(false);
        }
        crash::point(Point::RaiseBefore);
        if self.window().oldest.is_some() {
            self.db.set_meta(&[(Meta::LastSeq, floor)])?;
            self.window.raise(floor);
        } else {
            // What was published before is not here: who asks for it is told so.
            self.db
                .set_meta(&[(Meta::LastSeq, floor), (Meta::Pruned, floor)])?;
            self.window.raise(floor);
            self.window.prune(floor, || Ok::<_, StoreError>(None))?;
        }
        crash::point(Point::RaiseWritten);
        Ok(true)
    }

    /// Whether something was sequenced here once, or an account is known.
    fn has_begun(&self) -> Result<bool, StoreError> {
        let window = self.window();
        let is_new =
            window.pruned == 0 && window.oldest.is_none() && self.is_empty(Family::AccountOrder)?;
        Ok(!is_new)
    }

    /// Whether a column family has no entry.
    fn is_empty(&self, family: Family) -> Result<bool, StoreError> {
        let family = self.db.family(family);
        let mut entries = self.db.rocks.raw_iterator_cf(&family);
        entries.seek_to_first();
        entries.status()?;
        Ok(!entries.valid())
    }
}
