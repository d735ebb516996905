//! What the store has on disk, and whether compaction keeps up.

use rocksdb::properties::{
    ACTUAL_DELAYED_WRITE_RATE, BACKGROUND_ERRORS, ESTIMATE_PENDING_COMPACTION_BYTES,
    IS_WRITE_STOPPED, LIVE_SST_FILES_SIZE, NUM_RUNNING_COMPACTIONS, NUM_RUNNING_FLUSHES, PropName,
    num_files_at_level,
};

use super::{Family, Store, StoreError};

/// The disk of a store, as RocksDB counts it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Disk {
    /// Bytes of files with events.
    pub events_bytes: u64,
    /// Bytes of files with accounts and hosts.
    pub accounts_bytes: u64,
    /// Bytes of files of the index of collections.
    pub index_bytes: u64,
    /// Bytes of all other files.
    pub other_bytes: u64,
    /// Bytes that are still to be rewritten.
    pub pending_bytes: u64,
    /// Files at level 0, of the column family that has most of them.
    pub level0_files: u64,
    /// Flushes and compactions that run now.
    pub jobs: u64,
    /// Flushes and compactions that failed since the open.
    pub errors: u64,
    /// Whether no write is taken because compaction is too far behind.
    pub stopped: bool,
    /// The rate to which writes are slowed down, in bytes a second; 0: they are not.
    pub delayed_rate: u64,
}

impl Store {
    /// What is on disk. Takes RocksDB's own lock for some microseconds, a few times for each column
    /// family. What can not be read counts as nothing.
    pub fn disk(&self) -> Disk {
        let read = |family: Family, property: &PropName| {
            let family = self.db.family(family);
            let value = self.db.rocks.property_int_value_cf(&family, property);
            value.ok().flatten().unwrap_or(0)
        };
        // RocksDB says these of the whole database, whichever family is asked.
        let whole = |property: &PropName| read(Family::Meta, property);
        let mut disk = Disk {
            jobs: whole(NUM_RUNNING_FLUSHES) + whole(NUM_RUNNING_COMPACTIONS),
            errors: whole(BACKGROUND_ERRORS),
            stopped: whole(IS_WRITE_STOPPED) > 0,
            delayed_rate: whole(ACTUAL_DELAYED_WRITE_RATE),
            ..Disk::default()
        };
        for family in Family::ALL {
            let bytes = read(family, LIVE_SST_FILES_SIZE);
            *match family {
                Family::Events | Family::Large => &mut disk.events_bytes,
                Family::Accounts | Family::AccountOrder | Family::Hosts | Family::Throttled => {
                    &mut disk.accounts_bytes
                }
                Family::Collections | Family::ByCollection | Family::ByAccount => {
                    &mut disk.index_bytes
                }
                Family::Meta | Family::Takedowns => &mut disk.other_bytes,
            } += bytes;
            disk.pending_bytes += read(family, ESTIMATE_PENDING_COMPACTION_BYTES);
            disk.level0_files = disk.level0_files.max(self.level0_files(family));
        }
        disk
    }

    fn level0_files(&self, family: Family) -> u64 {
        let family = self.db.family(family);
        let files = self
            .db
            .rocks
            .property_value_cf(&family, num_files_at_level(0));
        let files = files
            .ok()
            .flatten()
            .and_then(|text| text.trim().parse().ok());
        files.unwrap_or(0)
    }

    /// When the event of a seq that is there was published, in milliseconds since 1970; of the one
    /// after it where it is not there.
    pub fn published_ms(&self, seq: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.event_at(seq)?.map(|(_, time)| time))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{atproto::seq::Seq, store::Options};

    #[test]
    fn what_is_written_is_on_disk() {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        assert_eq!(store.disk().events_bytes, 0);
        assert_eq!(store.published_ms(1).unwrap(), None);
        let mut batch = store.batch();
        batch.put_event(Seq::new(7).unwrap(), 1_234, &[1; 5_000]);
        store.commit(batch).unwrap();
        store.close().unwrap();
        let disk = store.disk();
        assert!(disk.events_bytes > 0 && disk.other_bytes > 0, "{disk:?}");
        assert_eq!(disk.level0_files, 1);
        assert_eq!((disk.index_bytes, disk.stopped, disk.errors), (0, false, 0));
        assert_eq!(store.published_ms(1).unwrap(), Some(1_234));
    }
}
