//! What is kept of what a lookup has brought, and what it means for who waits.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{Directory, State, Waiter};
use crate::{
    atproto::{
        did::{Did, Method},
        hostname::Hostname,
    },
    identity::{
        document::Identity,
        fetch::Fetched,
        lookups::Doubt,
        outcome::{Missing, Outcome},
    },
    limits,
};

/// The names of hosts that documents have, each once in memory: millions of accounts are on
/// thousands of hosts.
#[derive(Default)]
pub(super) struct Hosts(HashSet<Hostname>);

impl Hosts {
    /// The one copy of a name.
    fn one(&mut self, host: Hostname) -> Hostname {
        if let Some(known) = self.0.get(&host) {
            return known.clone();
        }
        // Documents can be made up, and then so are the names in them.
        if self.0.len() >= limits::IDENTITY_HOSTS_MAX {
            self.0.clear();
        }
        self.0.insert(host.clone());
        host
    }
}

impl Directory {
    /// Keeps what a lookup has brought and says what that means for those who wait; nothing where
    /// it is to be tried again.
    pub(super) fn keep(&self, did: &Did, fetched: Fetched) -> Option<Outcome> {
        let mut state = self.lock();
        let now = (self.clock)();
        let doubt = state.lookups.doubt(did)?;
        let new = !self.cache.has_document(did);
        let outcome = match fetched {
            Fetched::Found(identity) => {
                Outcome::Found(self.keep_found(&mut state, did, identity, doubt, now))
            }
            Fetched::Missing(missing) => {
                state.witnesses.remove(did);
                self.cache.missing(did, missing, doubt, now);
                Outcome::Missing(missing)
            }
            Fetched::Invalid(_) if did.method() == Method::Plc => {
                let missing = Missing::BadDocument;
                self.cache.missing(did, missing, doubt, now);
                Outcome::Missing(missing)
            }
            Fetched::Invalid(words) => {
                log::debug!(did:% = did, error:% = words; "no DID document");
                let end = Outcome::Missing(Missing::BadDocument);
                self.without_answer(&mut state, did, doubt, now, end)?
            }
            Fetched::Limited(wanted) => {
                log::debug!(did:% = did; "the directory asks us to be slower");
                state.lookups.pause_plc(wanted, now);
                self.wake_timer();
                self.without_answer(&mut state, did, doubt, now, Outcome::Unreachable)?
            }
            Fetched::Unreachable(words) => {
                log::debug!(did:% = did, error:% = words; "no DID document");
                self.without_answer(&mut state, did, doubt, now, Outcome::Unreachable)?
            }
        };
        self.metrics.identity_cached.set(self.cache.len() as u64);
        self.settle(&mut state, did, &outcome, new);
        Some(outcome)
    }

    /// Whoever has caused this lookup may have another one, if the account is its own.
    pub(super) fn settle(&self, state: &mut State, did: &Did, outcome: &Outcome, new: bool) {
        let host = match outcome {
            Outcome::Found(identity) => identity.host.as_ref(),
            Outcome::Missing(_) | Outcome::Unreachable => None,
        };
        state.lookups.found(did, host, new);
        if new && host.is_some() {
            // There may be one more than this thread can make.
            self.work.notify_one();
        }
    }

    /// Keeps a document.
    pub(super) fn keep_found(
        &self,
        state: &mut State,
        did: &Did,
        mut identity: Identity,
        doubt: Doubt,
        now_ms: u64,
    ) -> Arc<Identity> {
        identity.host = identity.host.map(|host| state.hosts.one(host));
        if did.method() == Method::Plc {
            state.witnesses.add(did);
        }
        let identity = Arc::new(identity);
        self.cache.found(did, identity.clone(), doubt, now_ms);
        identity
    }

    /// What to believe when nobody gives an answer of use: the last good document, unless somebody has seen that it
    /// may be wrong; then, and without one, nothing until there is an answer, except that a
    /// `did:web` host is not waited for for ever: then it is `end`.
    fn without_answer(
        &self,
        state: &mut State,
        did: &Did,
        doubt: Doubt,
        now_ms: u64,
        end: Outcome,
    ) -> Option<Outcome> {
        let held = || {
            let identity = self.cache.hold(did, now_ms)?;
            self.metrics.identity_stale_used.inc();
            Some(Outcome::Found(identity))
        };
        let insists = state.lookups.insists(did);
        if let Some(outcome) = (!insists).then(held).flatten() {
            return Some(outcome);
        }
        let tried = Duration::from_millis(state.lookups.tried_for(did, now_ms));
        let patience = match end {
            Outcome::Missing(_) => limits::IDENTITY_INVALID_PATIENCE,
            Outcome::Found(_) | Outcome::Unreachable => limits::IDENTITY_WEB_PATIENCE,
        };
        if did.method() == Method::Plc || tried < patience {
            let waits = |waiter: &Arc<dyn Waiter>| !waiter.is_gone();
            state.lookups.retry(did, waits, fastrand::f64(), now_ms);
            self.queue_changed(state);
            self.wake_timer();
            return None;
        }
        if let Some(outcome) = held() {
            return Some(outcome);
        }
        self.cache.absent(did, end.clone(), doubt, now_ms);
        Some(end)
    }
}
