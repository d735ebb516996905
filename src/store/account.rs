//! What the relay knows of one account, and its bytes in the store.

use std::fmt;

use crate::atproto::{cid::Cid, tid::Tid};

/// The number of a host, given by the control store when the host is admitted and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A hosting status: what one service says of an account
/// (<https://atproto.com/specs/account#hosting-status>).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Whether the account's content is served.
    pub active: bool,
    /// Why not, or a note beside `active`: an open vocabulary, kept verbatim.
    pub reason: Option<Box<str>>,
}

impl Status {
    /// Active, without a note.
    pub const ACTIVE: Status = Status {
        active: true,
        reason: None,
    };
}

/// The last commit or sync of an account that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its revision.
    pub rev: Tid,
    /// The CID of the signed commit object.
    pub commit: Cid,
    /// The CID of the tree's root.
    pub data: Cid,
}

/// How far a host's stream was processed for this account, so that an event which arrives again
/// after a crash is recognised also when it has no `rev`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The host's [`HostRecord::epoch`] at that time; sequence numbers of different epochs do not
    /// compare.
    pub epoch: u32,
    /// The upstream seq.
    pub seq: u64,
}

/// What the relay knows of one account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// The place in the order of first appearance, from 1.
    pub ordinal: u64,
    /// The host that speaks for it.
    pub host: HostId,
    /// When the document that says so was fetched, in milliseconds since 1970.
    pub authority_at: u64,
    /// What the host says.
    pub upstream: Status,
    /// What the operator of this relay says.
    pub local: Status,
    /// The last commit, if any was seen.
    pub head: Option<Head>,
    /// How far the host's stream was processed for it.
    pub seen: Seen,
}

impl Account {
    /// The status that subscribers are told: active only where both are; the operator's word goes
    /// before the host's (<https://atproto.com/specs/account>).
    pub fn effective(&self) -> &Status {
        if self.local.active {
            &self.upstream
        } else {
            &self.local
        }
    }
}

/// What the store keeps of one host, written by the sequencer with the events of that host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostRecord {
    /// The last upstream seq up to which everything is processed; 0: none.
    pub cursor: u64,
    /// Grows when the host's sequence starts anew.
    pub epoch: u32,
    /// Accounts that this host speaks for.
    pub accounts: u64,
}
