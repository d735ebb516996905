//! Whom to believe: which of the accounts that a host lists are its own.

use std::sync::Arc;

use crossbeam_channel::{Sender, bounded, select};

use super::page::Entry;
use crate::{
    atproto::{did::Did, hostname::Hostname},
    identity::{Directory, Outcome, Waiter},
    limits::{BACKFILL_LOOKUP_INTERVAL, BACKFILL_LOOKUP_RETRY},
    sequencer::event::{Claim, Skip},
    store::{
        Store, StoreError,
        account::{Account, HostId},
    },
    threads::Stop,
};

/// Proves that accounts are of a host.
pub(super) struct Prover<'a> {
    pub(super) directory: &'a Directory,
    pub(super) store: &'a Store,
    pub(super) stop: &'a Stop,
    /// The host that lists them.
    pub(super) host: (HostId, &'a Hostname),
    /// The operator trusts it: it is believed until a document says otherwise.
    pub(super) trusted: bool,
}

/// What is proven, and what is not.
#[derive(Default, Debug)]
pub(super) struct Proven {
    pub(super) claims: Vec<Claim>,
    pub(super) skipped: Vec<Skip>,
}

/// What it takes to believe an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Belief {
    /// Nothing more.
    Given,
    /// Its document.
    Document,
    /// It is not to be believed.
    Refused(Skip),
}

/// What is to be done about an entry, by what is known of the account here. An account that has moved
/// away stays in the list of its old host as one that is not active: of those no host is believed.
fn belief(known: Option<&Account>, entry: &Entry, host: HostId, trusted: bool) -> Belief {
    match known {
        Some(known) if known.host == host => Belief::Given,
        Some(known) if known.has_host() => Belief::Refused(Skip::OtherHost),
        _ if trusted && entry.status.active => Belief::Given,
        _ => Belief::Document,
    }
}

impl Prover<'_> {
    /// Sorts out entries; none where there is a stop. It waits for as long as the directory takes:
    /// without it nothing can be known of accounts.
    pub(super) fn prove(&self, entries: &[Entry]) -> Option<Proven> {
        let mut proven = Proven::default();
        let mut to_ask = Vec::new();
        for entry in entries {
            let known = match self.store.account(&entry.did) {
                Ok(known) => known,
                Err(error) => {
                    log_damage(&entry.did, &error);
                    continue;
                }
            };
            match belief(known.as_ref(), entry, self.host.0, self.trusted) {
                Belief::Given => proven.claims.push(claim(entry, 0)),
                Belief::Refused(skip) => proven.skipped.push(skip),
                Belief::Document => to_ask.push(entry),
            }
        }
        let outcomes = self.outcomes(&to_ask)?;
        for (entry, outcome) in to_ask.into_iter().zip(outcomes) {
            match judge(&outcome, self.host.1) {
                Ok(authority_at) => proven.claims.push(claim(entry, authority_at)),
                Err(skip) => proven.skipped.push(skip),
            }
        }
        Some(proven)
    }

    /// What the directory says of each of the accounts, all of them at the same time.
    fn outcomes(&self, entries: &[&Entry]) -> Option<Vec<Outcome>> {
        let (sender, answers) = bounded(entries.len());
        for (n, entry) in entries.iter().enumerate() {
            if let Some(outcome) = self.directory.cached(&entry.did) {
                sender.send((n, outcome)).ok()?;
                continue;
            }
            let waiter = Arc::new(Waiting {
                n,
                sender: sender.clone(),
                stop: self.stop.clone(),
            });
            while !self.directory.request_unhurried(&entry.did, waiter.clone()) {
                if self.stop.wait(BACKFILL_LOOKUP_RETRY) {
                    return None;
                }
            }
            if self.stop.wait(BACKFILL_LOOKUP_INTERVAL) {
                return None;
            }
        }
        drop(sender);
        let mut outcomes = vec![Outcome::Unreachable; entries.len()];
        for _ in entries {
            let (n, outcome) = select! {
                recv(answers) -> answer => answer.ok()?,
                recv(self.stop.channel()) -> _ => return None,
            };
            outcomes[n] = outcome;
        }
        Some(outcomes)
    }
}

/// Waits for the document of an account.
struct Waiting {
    n: usize,
    sender: Sender<(usize, Outcome)>,
    stop: Stop,
}

impl Waiter for Waiting {
    fn resolved(&self, _: &Did, outcome: &Outcome) {
        // There is room for every answer; who waits may have gone.
        let _ = self.sender.send((self.n, outcome.clone()));
    }

    fn is_gone(&self) -> bool {
        self.stop.requested()
    }
}

/// When the document was fetched that says that the account is of this host.
fn judge(outcome: &Outcome, host: &Hostname) -> Result<u64, Skip> {
    match outcome {
        Outcome::Found(identity) if identity.host.as_ref() == Some(host) => {
            Ok(identity.resolved_at)
        }
        Outcome::Found(_) => Err(Skip::OtherHost),
        Outcome::Missing(_) | Outcome::Unreachable => Err(Skip::NoDocument),
    }
}

fn claim(entry: &Entry, authority_at: u64) -> Claim {
    Claim {
        did: entry.did.clone(),
        authority_at,
        status: entry.status.clone(),
        listed: entry.listed,
    }
}

fn log_damage(did: &Did, error: &StoreError) {
    log::error!(did:% = did, error:% = error; "a backfill leaves an account out");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        atproto::{cid::Cid, tid::Tid},
        identity::{Identity, Missing},
        store::account::{Listed, Local, Seen, Status},
    };

    const HOME: HostId = HostId(1);

    fn entry(status: Status) -> Entry {
        Entry {
            did: Did::parse("did:web:a.test").unwrap(),
            status,
            listed: Listed {
                rev: Tid::from_raw(1),
                commit: Cid::of_cbor(b""),
            },
        }
    }

    fn account(host: HostId) -> Account {
        Account {
            ordinal: 1,
            host,
            authority_at: 0,
            upstream: Status::ACTIVE,
            status_heard: true,
            local: Local::default(),
            head: None,
            listed: None,
            seen: Seen::default(),
        }
    }

    #[test]
    fn who_is_believed_without_a_document() {
        let (active, gone) = (
            entry(Status::ACTIVE),
            entry(Status::inactive("deactivated")),
        );
        let (own, other) = (account(HOME), account(HostId(2)));
        let nowhere = account(HostId::NOWHERE);
        for trusted in [true, false] {
            for entry in [&active, &gone] {
                let belief = |known| belief(known, entry, HOME, trusted);
                assert_eq!(belief(Some(&own)), Belief::Given);
                assert_eq!(belief(Some(&other)), Belief::Refused(Skip::OtherHost));
                let of_unknown = match trusted && entry.status.active {
                    true => Belief::Given,
                    false => Belief::Document,
                };
                for unknown in [None, Some(&nowhere)] {
                    assert_eq!(belief(unknown), of_unknown);
                }
            }
        }
    }

    #[test]
    fn a_document_says_whose_an_account_is() {
        let host = |name: &str| Hostname::parse(name).unwrap();
        let found = |named: Option<&str>| {
            Outcome::Found(Arc::new(Identity {
                key: None,
                host: named.map(host),
                tls: true,
                handle: None,
                resolved_at: 77,
            }))
        };
        let judge = |outcome| judge(&outcome, &host("pds.test"));
        assert_eq!(judge(found(Some("pds.test"))), Ok(77));
        assert_eq!(judge(found(Some("pds.test:444"))), Err(Skip::OtherHost));
        assert_eq!(judge(found(None)), Err(Skip::OtherHost));
        let missing = Outcome::Missing(Missing::NotFound);
        assert_eq!(judge(missing), Err(Skip::NoDocument));
        assert_eq!(judge(Outcome::Unreachable), Err(Skip::NoDocument));
    }
}
