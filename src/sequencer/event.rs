//! What reaches the sequencer: events that are proven already, and commands.

use std::ops::Range;

use crossbeam_channel::Sender;

pub use super::{
    import::{Claim, Import, Imported, Skip},
    payload::Payload,
};
use crate::{
    atproto::{did::Did, prove::Proven},
    store::{
        Large,
        account::{HostId, Status},
    },
};

/// A proven event. What is left to decide needs the account's state.
#[derive(Debug)]
pub struct Event {
    /// The host that sent it.
    pub host: HostId,
    /// Its place in the host's stream.
    pub upstream: Upstream,
    /// The account.
    pub did: Did,
    /// When the document that makes the host speak for the account was fetched, in milliseconds
    /// since 1970; none where the host does not speak for it, which only an identity event may.
    pub authority_at: Option<u64>,
    /// What happened.
    pub kind: Kind,
    /// When it did, as it says, in milliseconds since 1970; none where that is no time.
    pub happened_ms: Option<u64>,
    /// The frame as it will be published, but for the value of its seq.
    pub frame: Payload,
    /// Where that value is.
    pub seq_at: Range<usize>,
    /// Where its pieces are, if the frame is large and written already; the sequencer's alone.
    pub stored: Option<Large>,
}

/// A place in a host's stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// The epoch of the stream that the connection belongs to.
    pub epoch: u32,
    /// The upstream seq.
    pub seq: u64,
    /// Once this event is stored, everything up to here is processed.
    pub cursor: u64,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A `#commit`.
    Commit(Proven),
    /// A `#sync`.
    Sync(Proven),
    /// An `#identity`.
    Identity,
    /// An `#account`, with what the host says.
    Account(Status),
}

/// The operator's word on an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// It is taken down.
    Takedown,
    /// It is not taken down any more.
    Reversal,
}

/// What became of a ruling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ruled {
    /// It holds, and is stored.
    Holds,
    /// No event of such an account was ever seen, and nothing was said of it.
    Unknown,
}

/// A message to the sequencer.
#[derive(Debug)]
pub enum Input {
    /// To be judged and, if it passes, published.
    Event(Box<Event>),
    /// Nothing to publish, but the host is processed up to here.
    Progress {
        /// The host.
        host: HostId,
        /// The epoch that the cursor belongs to.
        epoch: u32,
        /// Everything up to here is processed.
        cursor: u64,
    },
    /// What the host of an account says of it now, asked because events of it are held.
    Status {
        /// The account.
        did: Did,
        /// What its host says; none where it did not answer.
        status: Option<Status>,
    },
    /// How many accounts a host may have, from now on. A host of which nothing was said has no
    /// limit.
    AccountLimit {
        /// The host.
        host: HostId,
        /// So many; none: no limit.
        limit: Option<u64>,
    },
    /// The host is banned, or not any more. While it is, nothing of it is published or counts as
    /// processed, also what was held before.
    Ban {
        /// The host.
        host: HostId,
        /// Whether it is.
        banned: bool,
    },
    /// Somebody waits until everything that was decided before is in force.
    Reached {
        /// Told when that is so, and stored.
        done: Sender<()>,
    },
    /// The host's stream starts anew, from its first seq: a new epoch.
    Restart {
        /// The host.
        host: HostId,
        /// Told the new epoch when it is stored.
        done: Sender<u32>,
    },
    /// The operator says where a host's stream is to be read from: a new epoch that begins there.
    Reset {
        /// The host.
        host: HostId,
        /// Everything up to here counts as processed; none: nothing does.
        cursor: Option<u64>,
        /// Told the new epoch when it is stored.
        done: Sender<u32>,
    },
    /// A backfill brings a part of a list of somebody else. Small, as nothing else is done meanwhile.
    Import {
        /// What is in it.
        import: Import,
        /// Told what became of it when that is stored.
        done: Sender<Imported>,
    },
    /// The operator says something of an account.
    Rule {
        /// The account.
        did: Did,
        /// What is said of it.
        ruling: Ruling,
        /// Told what became of it when that is stored.
        done: Sender<Ruled>,
    },
}

/// When a message has its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Before everything that hosts say.
    Decision,
    /// When the host has.
    Host(HostId),
    /// As often as a host.
    Other,
}

impl Input {
    /// When it has its turn.
    pub fn turn(&self) -> Turn {
        match self {
            Input::Event(event) => Turn::Host(event.host),
            Input::Progress { host, .. } => Turn::Host(*host),
            Input::Status { .. } | Input::Import { .. } => Turn::Other,
            Input::AccountLimit { .. }
            | Input::Ban { .. }
            | Input::Reached { .. }
            | Input::Restart { .. }
            | Input::Reset { .. }
            | Input::Rule { .. } => Turn::Decision,
        }
    }

    /// Whether it is an event that is too large to be written at once.
    pub fn is_large(&self) -> bool {
        matches!(self, Input::Event(event) if event.frame.is_large())
    }

    /// What it counts in the inbox, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Input::Event(event) => event.frame.len() + size_of::<Event>(),
            Input::Import { import, .. } => import.bytes(),
            // Hosts send them, so that their number is bounded as that of events is.
            Input::Progress { .. } => size_of::<Input>(),
            Input::Status { .. }
            | Input::AccountLimit { .. }
            | Input::Ban { .. }
            | Input::Reached { .. }
            | Input::Restart { .. }
            | Input::Reset { .. }
            | Input::Rule { .. } => 0,
        }
    }
}
