//! The hosts as readers see them: a copy that the crawler keeps up to date, so that a query never
//! waits for the crawler or for the control store.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{PoisonError, RwLock},
};

use super::crawler::State;
use crate::{atproto::hostname::Hostname, control::HostRow, store::account::HostId};

/// What is known of one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostEntry {
    /// What the control store keeps of it.
    pub row: HostRow,
    /// What its thread last said of itself; none before it has said anything.
    pub state: Option<State>,
}

/// Every host, written by the crawler only.
#[derive(Default, Debug)]
pub struct HostTable(RwLock<Inner>);

#[derive(Default, Debug)]
struct Inner {
    /// In the order in which they were added.
    entries: BTreeMap<HostId, HostEntry>,
    ids: HashMap<Hostname, HostId>,
}

impl HostTable {
    /// The host of this name.
    pub fn get(&self, name: &Hostname) -> Option<HostEntry> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.entries.get(inner.ids.get(name)?).cloned()
    }

    /// The host of this number.
    pub fn by_id(&self, id: HostId) -> Option<HostEntry> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        inner.entries.get(&id).cloned()
    }

    /// Hosts that were added after `id`, oldest first, at most `limit` of them.
    pub fn after(&self, id: HostId, limit: usize) -> Vec<HostEntry> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let later = (Bound::Excluded(id), Bound::Unbounded);
        inner
            .entries
            .range(later)
            .map(|(_, e)| e.clone())
            .take(limit)
            .collect()
    }

    /// A host is now this.
    pub(super) fn put(&self, row: &HostRow, state: Option<&State>) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        inner.ids.insert(row.name.clone(), row.id);
        let entry = HostEntry {
            row: row.clone(),
            state: state.cloned(),
        };
        inner.entries.insert(row.id, entry);
    }
}
