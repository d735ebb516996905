//! One atomic change of the store.

use std::sync::Arc;

use rocksdb::WriteBatch;

use super::{
    Counters, Db, Family, Takedown,
    account::{Account, HostId, HostRecord},
    event_key,
    family::{Meta, host_key, ordinal_key, throttled_key},
    large::Large,
    listing::entry,
};
use crate::atproto::{did::Did, seq::Seq};

/// Events, and all that changes with them, to be written together or not at all.
pub struct Batch {
    pub(super) db: Arc<Db>,
    pub(super) batch: WriteBatch,
    /// The seqs of its events: the first and the last.
    pub(super) seqs: Option<(u64, u64)>,
    /// A seq that did not grow within the batch.
    pub(super) disorder: Option<(u64, u64)>,
    pub(super) counters: Option<Counters>,
    /// Large events that are events with this batch.
    pub(super) large: Vec<Large>,
    /// Whether a piece of a large event is in it.
    pub(super) has_piece: bool,
    /// Room to put a value together.
    pub(super) value: Vec<u8>,
}

impl Batch {
    /// An empty batch with room for so many bytes.
    pub(super) fn new(db: Arc<Db>, bytes: usize) -> Batch {
        Batch {
            db,
            batch: WriteBatch::with_capacity_bytes(bytes),
            seqs: None,
            disorder: None,
            counters: None,
            large: Vec::new(),
            has_piece: false,
            value: Vec::new(),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Adds an event: its time in milliseconds since 1970 and its complete websocket bytes. Seqs
    /// must grow from event to event, or the commit is refused.
    pub fn put_event(&mut self, seq: Seq, time_ms: u64, ws_frame: &[u8]) {
        self.put_log_entry(seq, time_ms, |value| value.extend_from_slice(ws_frame));
    }

    /// Adds an entry to the log: its time, which says too what follows, and behind that what `kept` appends.
    pub(super) fn put_log_entry(
        &mut self,
        seq: Seq,
        time_ms: u64,
        kept: impl FnOnce(&mut Vec<u8>),
    ) {
        let seq = seq.get();
        self.seqs = match self.seqs {
            Some((_, last)) if seq <= last => {
                self.disorder = Some((last, seq));
                self.seqs
            }
            Some((first, _)) => Some((first, seq)),
            None => Some((seq, seq)),
        };
        self.value.clear();
        self.value.extend_from_slice(&time_ms.to_be_bytes());
        kept(&mut self.value);
        let family = self.db.family(Family::Events);
        self.batch.put_cf(&family, event_key(seq), &self.value);
    }

    /// Sets what is known of an account, under its DID and, for lists, in its place in the order of
    /// first appearance.
    pub fn put_account(&mut self, did: &Did, account: &Account) {
        let family = self.db.family(Family::Accounts);
        self.batch.put_cf(&family, did.as_str(), account.encode());
        let family = self.db.family(Family::AccountOrder);
        entry::encode(did, account, &mut self.value);
        let key = ordinal_key(account.ordinal);
        self.batch.put_cf(&family, key, &self.value);
    }

    /// Adds an account to those that the operator has taken down, or removes it.
    pub fn put_takedown(&mut self, did: &Did, takedown: Option<Takedown>) {
        let family = self.db.family(Family::Takedowns);
        let did = did.as_str();
        match takedown {
            Some(takedown) => self.batch.put_cf(&family, did, takedown.encode()),
            None => self.batch.delete_cf(&family, did),
        }
    }

    /// Adds an account to those that wait for a place at a host, or removes it.
    pub fn put_throttled(&mut self, host: HostId, ordinal: u64, did: &Did, waits: bool) {
        let family = self.db.family(Family::Throttled);
        let key = throttled_key(host, ordinal);
        if waits {
            self.batch.put_cf(&family, key, did.as_str());
        } else {
            self.batch.delete_cf(&family, key);
        }
    }

    /// Sets what is known of a host.
    pub fn put_host(&mut self, host: HostId, record: &HostRecord) {
        let family = self.db.family(Family::Hosts);
        self.batch.put_cf(&family, host_key(host), record.encode());
    }

    /// Sets the counters.
    pub fn set_counters(&mut self, counters: Counters) {
        self.counters = Some(counters);
        self.put_meta(Meta::NextOrdinal, counters.next_ordinal);
        self.put_meta(Meta::AccountCount, counters.accounts);
        self.put_meta(Meta::CollectionCount, counters.collections);
        self.put_meta(Meta::PairCount, counters.pairs);
    }

    pub(super) fn put_meta(&mut self, meta: Meta, value: u64) {
        let family = self.db.family(Family::Meta);
        self.batch.put_cf(&family, meta.key(), value.to_le_bytes());
    }
}
