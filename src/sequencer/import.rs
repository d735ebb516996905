//! What a backfill brings: accounts and collections of accounts of which no event was seen here. It
//! publishes nothing, and what is known by events stays as it is: an account keeps its host, its status
//! and its head. A list may be ahead of what is on its way in the stream, so that no event is judged by it
//! but one that is later than the list ([`status`]).

use super::{
    Forming, Sequencer,
    index::Added,
    rules::{self, Terms},
    status::{self, Cause},
};
use crate::{
    atproto::{did::Did, nsid::Nsid},
    limits::COLLECTIONS_MAX,
    store::{
        StoreError,
        account::{Account, HostId, Listed, Status},
    },
};

/// A part of a list of somebody else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Import {
    /// Accounts that have records of a collection, as the index of another relay says.
    Collection {
        /// The collection.
        name: Nsid,
        /// The accounts.
        dids: Vec<Did>,
    },
    /// Accounts of a host, as the host itself lists them.
    Accounts {
        /// The host.
        host: HostId,
        /// What it says of each.
        claims: Vec<Claim>,
    },
}

/// What a host says of one of its accounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The account.
    pub did: Did,
    /// When the document was fetched that names this host, in milliseconds since 1970; 0: none was,
    /// and the host is believed until there is one.
    pub authority_at: u64,
    /// Its status.
    pub status: Status,
    /// Its last commit.
    pub listed: Listed,
}

/// What became of a part of a list.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Imported {
    /// Entries that were new here.
    pub added: u64,
    /// Entries that say nothing new.
    pub known: u64,
    /// Entries that were not taken, and why.
    pub skipped: Vec<Skip>,
}

/// Why an entry of a list is not taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Skip {
    /// Not what an entry of the list has to be.
    Malformed,
    /// The account's host says that it is deleted.
    Deleted,
    /// The account, or the index, has as many collections as it may.
    IndexFull,
    /// Another host speaks for the account.
    OtherHost,
    /// The account's document can not be had.
    NoDocument,
    /// The host that lists it is banned.
    HostBanned,
}

impl Skip {
    /// Every reason.
    pub const ALL: [Skip; 6] = [
        Skip::Malformed,
        Skip::Deleted,
        Skip::IndexFull,
        Skip::OtherHost,
        Skip::NoDocument,
        Skip::HostBanned,
    ];

    /// The name in answers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Skip::Malformed => "malformed",
            Skip::Deleted => "deleted",
            Skip::IndexFull => "index_full",
            Skip::OtherHost => "other_host",
            Skip::NoDocument => "no_document",
            Skip::HostBanned => "host_banned",
        }
    }
}

impl Import {
    /// What it takes in memory, more or less, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let did = |did: &Did| size_of::<Did>() + did.as_str().len();
        size_of::<Import>()
            + match self {
                Import::Collection { dids, .. } => dids.iter().map(did).sum::<usize>(),
                Import::Accounts { claims, .. } => {
                    let of = |claim: &Claim| {
                        let reason = claim.status.reason.as_ref().map_or(0, |r| r.len());
                        size_of::<Claim>() + did(&claim.did) + reason
                    };
                    claims.iter().map(of).sum()
                }
            }
    }
}

impl Sequencer {
    /// Takes a part of a list.
    pub(super) fn import(
        &mut self,
        import: Import,
        forming: &mut Forming,
    ) -> Result<Imported, StoreError> {
        let mut imported = Imported::default();
        match import {
            Import::Collection { name, dids } => {
                for did in dids {
                    let outcome = self.import_pair(&name, &did, forming)?;
                    imported.count(outcome);
                }
            }
            Import::Accounts { host, claims } => {
                for claim in claims {
                    let outcome = self.import_account(host, &claim, forming)?;
                    imported.count(outcome);
                }
            }
        }
        Ok(imported)
    }

    /// An account has records of a collection, as somebody says; whether that is new.
    fn import_pair(
        &mut self,
        name: &Nsid,
        did: &Did,
        forming: &mut Forming,
    ) -> Result<Result<bool, Skip>, StoreError> {
        let account = match self.known(did, forming)? {
            Some(account) => account,
            // An account is not made for the sake of what is not kept.
            None if self.is_index_closed_to(name)? => return Ok(Err(Skip::IndexFull)),
            None => {
                let terms = self.import_terms(did, HostId::NOWHERE, true, forming)?;
                let account = rules::new_account(terms, HostId::NOWHERE);
                self.keep_account(did, None, account.clone(), forming)?;
                account
            }
        };
        if account.upstream.is_deleted() {
            return Ok(Err(Skip::Deleted));
        }
        let is_hidden = !account.effective().active;
        let added = self.add_pair(name.as_str(), did, account.ordinal, is_hidden, forming)?;
        Ok(match added {
            Added::New => Ok(true),
            Added::Known => Ok(false),
            Added::Refused => Err(Skip::IndexFull),
        })
    }

    /// A host lists an account; whether that says anything new.
    fn import_account(
        &mut self,
        host: HostId,
        claim: &Claim,
        forming: &mut Forming,
    ) -> Result<Result<bool, Skip>, StoreError> {
        if self.banned.contains(&host) {
            return Ok(Err(Skip::HostBanned));
        }
        let known = self.known(&claim.did, forming)?;
        let terms = self.import_terms(&claim.did, host, known.is_none(), forming)?;
        Ok(match judge(known.as_ref(), host, claim, terms) {
            Ok(Some(account)) => {
                self.keep_account(&claim.did, known.as_ref(), account, forming)?;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(skip) => Err(skip),
        })
    }

    fn import_terms(
        &self,
        did: &Did,
        host: HostId,
        is_new: bool,
        forming: &Forming,
    ) -> Result<Terms, StoreError> {
        Ok(Terms {
            ordinal: self.counters.next_ordinal,
            room: self.has_room(host, forming),
            taken_down: is_new && self.is_taken_down(did, forming)?,
            processed: false,
        })
    }

    /// Whether the collection is not in the index and finds no place there.
    fn is_index_closed_to(&mut self, name: &Nsid) -> Result<bool, StoreError> {
        let is_full = self.counters.collections >= COLLECTIONS_MAX;
        Ok(is_full && self.collection(name.as_str())?.is_none())
    }
}

/// What a host's list makes of an account; none: it says nothing new. Pure.
fn judge(
    known: Option<&Account>,
    host: HostId,
    claim: &Claim,
    terms: Terms,
) -> Result<Option<Account>, Skip> {
    let listed = Some(claim.listed);
    match known {
        Some(known) if known.host == host => {
            let last = known.listed.map(|last| last.rev);
            let is_older = last.is_some_and(|last| claim.listed.rev < last);
            if known.head.is_some() || is_older {
                return Ok(None);
            }
            let mut account = known.clone();
            if last != Some(claim.listed.rev) {
                account.listed = listed;
            }
            status::apply(&mut account, Cause::Listed(&claim.status));
            if account.upstream.is_deleted() != known.upstream.is_deleted() {
                status::settle(&mut account, known.is_live(), terms.room);
            }
            Ok((account != *known).then_some(account))
        }
        Some(known) if known.has_host() => Err(Skip::OtherHost),
        _ => {
            let new = || rules::new_account(terms, host);
            let mut account = known.cloned().unwrap_or_else(new);
            account.host = host;
            account.authority_at = claim.authority_at;
            account.listed = listed;
            // Of one without a host nobody's stream has shown anything.
            account.status_heard = false;
            status::apply(&mut account, Cause::Listed(&claim.status));
            status::settle(&mut account, false, terms.room);
            Ok(Some(account))
        }
    }
}

impl Imported {
    fn count(&mut self, outcome: Result<bool, Skip>) {
        match outcome {
            Ok(true) => self.added += 1,
            Ok(false) => self.known += 1,
            Err(skip) => self.skipped.push(skip),
        }
    }
}
