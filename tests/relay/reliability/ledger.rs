//! What hosts have said, where it is in their streams, and what of it has come.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use zlay::sim::{
    Network,
    event::{Digest, Event},
};

use crate::subscriber::Seen;

/// The ledger of a network.
pub(super) struct Ledger {
    network: Arc<Network>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where each event is that has not come: its host, and its place in the host's stream.
    places: HashMap<(Arc<str>, Digest), (usize, u64)>,
    /// The same places, by host, and what is there.
    waiting: BTreeMap<usize, BTreeMap<u64, String>>,
    /// Of accounts of which the operator alone says what they are: whether they were said to be active,
    /// from one frame to the next.
    rulings: HashMap<Arc<str>, Vec<bool>>,
    /// What has come, where it may come again.
    has_come: HashSet<(Arc<str>, Digest)>,
}

impl Ledger {
    pub(super) fn new(network: &Arc<Network>) -> Ledger {
        Ledger {
            network: network.clone(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A host says something that must be forwarded.
    pub(super) fn publish(&self, host: usize, event: &Event) {
        // Who sees it come waits until its place is known.
        let mut state = self.state();
        let seq = self.network.publish(host, event);
        let (key, kind) = ((event.did.clone(), event.digest()), event.kind.name());
        let what = format!("{kind} {} {:?}", key.0, key.1);
        let before = state.places.insert(key, (host, seq));
        assert_eq!(before, None, "{what} is said twice");
        state.waiting.entry(host).or_default().insert(seq, what);
    }

    /// What this account is, is for the operator to say, and no host does.
    pub(super) fn operate(&self, did: &Arc<str>) {
        self.state().rulings.insert(did.clone(), Vec::new());
    }

    pub(super) fn is_operated(&self, did: &str) -> bool {
        self.state().rulings.contains_key(did)
    }

    /// What was said of such an account so far.
    pub(super) fn rulings(&self, did: &str) -> Vec<bool> {
        self.state().rulings.get(did).cloned().unwrap_or_default()
    }

    /// An event has come, under a seq that is higher than those before.
    pub(super) fn came(&self, seen: &Seen) {
        let mut state = self.state();
        let said = seen.status.as_ref().map(|(active, _)| *active);
        if let (Some(rulings), Some(active)) = (state.rulings.get_mut(&*seen.did), said) {
            rulings.push(active);
            return;
        }
        let key = (Arc::<str>::from(seen.did.as_str()), seen.digest);
        if let Some((host, seq)) = state.places.remove(&key) {
            state.waiting.entry(host).or_default().remove(&seq);
        }
        drop(state);
        self.network
            .expected()
            .observe(&seen.did, seen.digest, &seen.kind);
    }

    /// The same where the power may have taken what was published: it comes again under another seq, and
    /// in the order of its host all the same.
    pub(super) fn came_perhaps_again(&self, seen: &Seen) {
        let mut state = self.state();
        let key = (Arc::<str>::from(seen.did.as_str()), seen.digest);
        let is_new = state.has_come.insert(key);
        drop(state);
        if is_new {
            self.came(seen);
        }
    }

    /// The oldest event of a host that has not come: its place, and what it is.
    pub(super) fn oldest_waiting(&self, host: usize) -> Option<(u64, String)> {
        let state = self.state();
        let (place, what) = state.waiting.get(&host)?.first_key_value()?;
        Some((*place, what.clone()))
    }

    /// The network.
    pub(super) fn network(&self) -> &Arc<Network> {
        &self.network
    }
}
