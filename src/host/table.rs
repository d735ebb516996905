//! The hosts as readers see them: a copy that the crawler keeps up to date, so that a query never
//! waits for the crawler or for the control store.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use super::{state::State, timeline::Timeline};
use crate::{
    atproto::hostname::Hostname,
    control::{
        HostRow, HostStatus,
        domain::{Domain, domains_of},
    },
    store::account::HostId,
};

/// What is known of one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostEntry {
    /// What the control store keeps of it.
    pub row: HostRow,
    /// How it does; banned also where it is a domain above it that is.
    pub status: HostStatus,
    /// What its thread last said of itself; none before it has said anything.
    pub state: Option<State>,
    /// What it was before.
    pub timeline: Timeline,
}

/// Every host, written by the crawler only.
#[derive(Default, Debug)]
pub struct HostTable(RwLock<Inner>);

#[derive(Default, Debug)]
struct Inner {
    /// In the order in which they were added.
    entries: BTreeMap<HostId, Kept>,
    ids: HashMap<Hostname, HostId>,
    banned: BTreeSet<Domain>,
}

#[derive(Debug)]
struct Kept {
    row: HostRow,
    state: Option<State>,
    timeline: Timeline,
}

impl HostTable {
    /// The host of this name.
    pub fn get(&self, name: &Hostname) -> Option<HostEntry> {
        let inner = self.read();
        let entry = inner.entries.get(inner.ids.get(name)?)?;
        Some(inner.shown(entry))
    }

    /// The host of this number.
    pub fn by_id(&self, id: HostId) -> Option<HostEntry> {
        let inner = self.read();
        Some(inner.shown(inner.entries.get(&id)?))
    }

    /// Hosts that were added after `id`, oldest first, at most `limit` of them.
    pub fn after(&self, id: HostId, limit: usize) -> Vec<HostEntry> {
        let inner = self.read();
        let later = (Bound::Excluded(id), Bound::Unbounded);
        let entries = inner.entries.range(later).take(limit);
        entries.map(|(_, kept)| inner.shown(kept)).collect()
    }

    /// How many hosts have each status, in the order of [`HostStatus::ALL`].
    pub fn counts(&self) -> [u64; HostStatus::ALL.len()] {
        let inner = self.read();
        HostStatus::ALL.map(|status| {
            let entries = inner.entries.values();
            let is = |kept: &&Kept| inner.status(&kept.row) == status;
            entries.filter(is).count() as u64
        })
    }

    /// Whether the host is banned, or a domain above it is; it need not be known.
    pub fn is_banned(&self, name: &Hostname) -> bool {
        let inner = self.read();
        let own = inner.ids.get(name).and_then(|id| inner.entries.get(id));
        own.is_some_and(|kept| kept.row.terms.banned) || inner.domain_over(name).is_some()
    }

    /// The same by the names of the statuses.
    pub fn statuses(&self) -> BTreeMap<&'static str, u64> {
        let names = HostStatus::ALL.map(HostStatus::name);
        names.into_iter().zip(self.counts()).collect()
    }

    /// The banned domain that the host is, or is below.
    pub fn banned_domain_over(&self, name: &Hostname) -> Option<Domain> {
        self.read().domain_over(name).cloned()
    }

    /// Every banned domain, by name.
    pub fn banned_domains(&self) -> Vec<Domain> {
        self.read().banned.iter().cloned().collect()
    }

    /// A host is now this.
    pub(super) fn put(&self, row: &HostRow, state: Option<&State>) {
        let mut inner = self.write();
        inner.ids.insert(row.name.clone(), row.id);
        let timeline = inner.entries.remove(&row.id).map(|kept| kept.timeline);
        let kept = Kept {
            row: row.clone(),
            state: state.cloned(),
            timeline: timeline.unwrap_or_default(),
        };
        inner.entries.insert(row.id, kept);
    }

    /// A host's thread has told this; what is kept of the host follows ([`HostTable::put`]).
    pub(super) fn note(&self, id: HostId, state: &State, now_ms: u64) {
        if let Some(kept) = self.write().entries.get_mut(&id) {
            kept.timeline.note(state, now_ms);
        }
    }

    /// A domain is banned from now on, or no longer.
    pub(super) fn set_banned(&self, domain: &Domain, banned: bool) {
        let mut inner = self.write();
        match banned {
            true => inner.banned.insert(domain.clone()),
            false => inner.banned.remove(domain),
        };
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// An entry as readers see it.
    fn shown(&self, kept: &Kept) -> HostEntry {
        HostEntry {
            status: self.status(&kept.row),
            row: kept.row.clone(),
            state: kept.state.clone(),
            timeline: kept.timeline.clone(),
        }
    }

    fn status(&self, row: &HostRow) -> HostStatus {
        match self.domain_over(&row.name) {
            Some(_) => HostStatus::Banned,
            None => row.status(),
        }
    }

    fn domain_over(&self, name: &Hostname) -> Option<&Domain> {
        if self.banned.is_empty() {
            return None;
        }
        domains_of(name).find_map(|name| self.banned.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{atproto::hostname::Endpoint, control::Source};

    #[test]
    fn a_banned_domain_bans_what_is_below_it_until_it_is_not() {
        let table = HostTable::default();
        let endpoint = Endpoint::parse("a.example.com").unwrap();
        table.put(
            &HostRow::new(HostId(1), &endpoint, Source::Request, 1),
            None,
        );
        let domain = Domain::parse("example.com").unwrap();
        let unknown = Hostname::parse("b.example.com:8443").unwrap();
        let status = || table.by_id(HostId(1)).unwrap().status;
        assert!(!table.is_banned(&endpoint.host) && !table.is_banned(&unknown));
        table.set_banned(&domain, true);
        assert!(table.is_banned(&endpoint.host) && table.is_banned(&unknown));
        assert_eq!(status(), HostStatus::Banned);
        assert_eq!(table.counts(), [0, 0, 0, 0, 1]);
        assert_eq!(table.get(&endpoint.host), table.by_id(HostId(1)));
        assert_eq!(table.after(HostId(0), 9), [table.by_id(HostId(1)).unwrap()]);
        assert_eq!(table.banned_domain_over(&unknown), Some(domain.clone()));
        assert_eq!(table.banned_domains(), std::slice::from_ref(&domain));
        assert_eq!(table.statuses()["banned"], 1);
        table.set_banned(&domain, false);
        assert!(!table.is_banned(&endpoint.host));
        assert_eq!(status(), HostStatus::Active);
        assert_eq!(table.statuses()["active"], 1);
        assert_eq!(table.statuses().len(), HostStatus::ALL.len());

        // What it was before stays with it.
        let state = State::Connected { at_ms: 5 };
        table.note(HostId(1), &state, 7);

        let mut row = HostRow::new(HostId(1), &endpoint, Source::Request, 1);
        row.terms.banned = true;
        table.put(&row, Some(&state));
        let shown = table.by_id(HostId(1)).unwrap();
        assert_eq!(shown.timeline.attempt_ms(), Some(7));
        assert!(table.is_banned(&endpoint.host) && !table.is_banned(&unknown));
    }
}
