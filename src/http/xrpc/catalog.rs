//! What the queries read.

use crate::{
    atproto::{
        did::Did,
        hostname::{Endpoint, Hostname},
        nsid::Nsid,
    },
    control::HostStatus,
    store::{
        account::{HostId, Listed, Status},
        collections::CollectionPage,
    },
};

/// What is known of accounts and hosts. No call waits for another part of the relay; an error is
/// for the log.
pub trait Catalog: Send + Sync {
    /// One account.
    fn account(&self, did: &Did) -> Result<Option<AccountView>, String>;

    /// All accounts as they are now, to be read part by part.
    fn roll(&self) -> Box<dyn Roll + '_>;

    /// Accounts that have records of a collection and are active, after a place in its list, at most
    /// `limit` of them. A page may be short and have a next one; it is empty only at the end.
    fn collection_after(
        &self,
        collection: &Nsid,
        place: u64,
        limit: usize,
    ) -> Result<CollectionPage, String>;

    /// Where the host of this number is reached.
    fn endpoint(&self, host: HostId) -> Option<Endpoint>;

    /// One host.
    fn host(&self, name: &Hostname) -> Result<Option<HostView>, String>;

    /// Hosts that were added after this one, oldest first, at most `limit` of them.
    fn hosts_after(&self, host: HostId, limit: usize) -> Result<Vec<HostView>, String>;
}

/// All accounts as they were at one moment. Not to be kept for longer than an answer takes.
pub trait Roll {
    /// Accounts after a place in the order of their first appearance, at most `limit` of them.
    fn after(&self, ordinal: u64, limit: usize) -> Result<Vec<AccountView>, String>;
}

/// An account as anybody may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountView {
    /// Who it is.
    pub did: Did,
    /// The place in the order of first appearance, from 1.
    pub ordinal: u64,
    /// The host that speaks for it; [`HostId::NOWHERE`] where none has done so yet.
    pub host: HostId,
    /// The status in force here.
    pub status: Status,
    /// The last commit, if any was seen, or else listed by the host.
    pub head: Option<Listed>,
}

/// A host as anybody may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostView {
    /// Its number, from 1.
    pub id: HostId,
    /// Its name.
    pub name: Hostname,
    /// How it does.
    pub status: HostStatus,
    /// The last seq of it up to which everything is processed; 0: none.
    pub seq: u64,
    /// Accounts that it speaks for.
    pub accounts: u64,
}
