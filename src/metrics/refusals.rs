//! The last refusal of each account of which any event was refused lately, so that its owner can be told
//! why it is not heard, whichever host the event came from.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use super::{account_name::AccountName, hosts::Refusal};
use crate::{
    limits::{REFUSAL_DID_CHARS_MAX, REFUSED_ACCOUNTS_MAX},
    store::account::HostId,
};

/// A bounded memory of accounts. When it is full, a host that has more accounts in it than its share
/// loses its own oldest one, so that a flood from one host does not push out what is known of others.
#[derive(Debug)]
pub struct RefusedAccounts {
    accounts_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    by_did: HashMap<AccountName, Known>,
    /// The accounts that each host has brought in, oldest first.
    brought: HashMap<HostId, VecDeque<AccountName>>,
}

/// What is known of one account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// The host that the event came from.
    pub host: HostId,
    /// The refusal.
    pub refusal: Refusal,
}

impl Default for RefusedAccounts {
    fn default() -> Self {
        RefusedAccounts::new(REFUSED_ACCOUNTS_MAX)
    }
}

impl RefusedAccounts {
    fn new(accounts_max: usize) -> RefusedAccounts {
        RefusedAccounts {
            accounts_max,
            inner: Mutex::default(),
        }
    }

    /// Remembers a refusal. What is refused only because it came twice does not take the place of
    /// anything worse.
    pub fn note(&self, host: HostId, refusal: &Refusal) {
        let Some(did) = refusal.did.as_ref().filter(|did| is_whole(&did.text())) else {
            return;
        };
        let known = Known {
            host,
            refusal: refusal.clone(),
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = inner.by_did.get_mut(did) {
            if !refusal.reject.is_repetition() || before.refusal.reject.is_repetition() {
                *before = known;
            }
            return;
        }
        inner.by_did.insert(did.clone(), known);
        let brought = inner.brought.entry(host).or_default();
        brought.push_back(did.clone());
        if inner.by_did.len() > self.accounts_max {
            inner.forget_one(host, self.accounts_max);
        }
    }

    /// What is remembered of an account.
    pub fn of(&self, did: &str) -> Option<Known> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_did.get(&AccountName::new(did)?).cloned()
    }
}

impl Inner {
    fn forget_one(&mut self, host: HostId, accounts_max: usize) {
        let share = accounts_max / self.brought.len().max(1);
        let of = |host: &HostId| self.brought.get(host).map_or(0, VecDeque::len);
        // Looked for only while no host has more than its share, which does not last.
        let host = match of(&host) > share {
            true => Some(host),
            false => self.brought.keys().copied().max_by_key(of),
        };
        let Some(host) = host else { return };
        let Some(queue) = self.brought.get_mut(&host) else {
            return;
        };
        if let Some(did) = queue.pop_front() {
            self.by_did.remove(&did);
        }
        if queue.is_empty() {
            self.brought.remove(&host);
        }
    }
}

/// Whether it can be an account's, and was not cut off.
fn is_whole(did: &str) -> bool {
    did.starts_with("did:") && did.len() < REFUSAL_DID_CHARS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reject::Reject;

    fn refusal(did: &str, reject: Reject) -> Refusal {
        Refusal::new(reject, did, 1, 1)
    }

    #[test]
    fn the_last_refusal_of_an_account_is_known_but_for_repetitions() {
        let memory = RefusedAccounts::default();
        let did = "did:web:a.b";
        let note = |host, reject| memory.note(HostId(host), &refusal(did, reject));
        let known = || {
            memory
                .of(did)
                .map(|known| (known.host, known.refusal.reject))
        };
        assert_eq!(known(), None);
        note(1, Reject::Duplicate);
        note(1, Reject::RevStale);
        assert_eq!(known(), Some((HostId(1), Reject::RevStale)));
        note(2, Reject::WrongHost);
        note(1, Reject::Duplicate);
        assert_eq!(known(), Some((HostId(2), Reject::WrongHost)));
        for strange in ["", "alice", &format!("did:web:{}", "x".repeat(300))] {
            memory.note(HostId(1), &refusal(strange, Reject::DidInvalid));
            assert_eq!(memory.of(strange), None);
        }
    }

    #[test]
    fn a_flood_from_one_host_leaves_what_is_known_of_others() {
        let memory = RefusedAccounts::new(100);
        let did = |host: u32, n: u32| format!("did:web:h{host}.n{n}");
        for host in 1..=20 {
            memory.note(HostId(host), &refusal(&did(host, 0), Reject::WrongHost));
        }
        for n in 0..10_000 {
            memory.note(HostId(99), &refusal(&did(99, n), Reject::WrongHost));
        }
        for host in 1..=20 {
            assert!(memory.of(&did(host, 0)).is_some(), "{host}");
        }
        assert!(memory.of(&did(99, 0)).is_none() && memory.of(&did(99, 9_999)).is_some());
        let inner = memory.inner.lock().unwrap();
        assert_eq!(inner.by_did.len(), 100);
        let brought: usize = inner.brought.values().map(VecDeque::len).sum();
        assert_eq!(brought, 100);
    }

    #[test]
    fn however_many_hosts_there_are_the_memory_is_bounded() {
        let memory = RefusedAccounts::new(100);
        for n in 0..1_000 {
            let did = format!("did:web:n{n}");
            memory.note(HostId(n), &refusal(&did, Reject::WrongHost));
        }
        let inner = memory.inner.lock().unwrap();
        assert_eq!((inner.by_did.len(), inner.brought.len()), (100, 100));
    }
}
