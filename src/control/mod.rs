//! Relay state that is not in the event store: which hosts there are and what is known of them.
//!
//! One trait, several backends, one test suite that all of them pass. Nothing here is on the way
//! of an event: the crawler and the admin routes read and write it, and the relay goes on without
//! it once its hosts are running.

use std::fmt;

use crate::{
    atproto::hostname::{Endpoint, Hostname},
    store::{RocksMemory, account::HostId},
};

use self::domain::Domain;

pub mod domain;
pub mod embedded;
#[cfg(test)]
mod suite;

/// How a host does, as `listHosts` reports it
/// (<https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/defs.json>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostStatus {
    /// Connected, or about to be.
    Active,
    /// It has less than was read of it before; it is about to be read from now on.
    Idle,
    /// It could not be reached for several attempts; it is tried again all the same.
    Offline,
    /// It is over a limit of this relay.
    Throttled,
    /// The operator has banned it.
    Banned,
}

/// What the control store keeps of one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRow {
    /// Its number, given once and never reused.
    pub id: HostId,
    /// Its name, unique among hosts.
    pub name: Hostname,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// How it does.
    pub status: HostStatus,
    /// When it was added, in milliseconds since 1970.
    pub first_seen_ms: u64,
    /// When a connection to it was last opened, in milliseconds since 1970.
    pub last_connected_ms: Option<u64>,
    /// Why the last attempt failed; none after a success.
    pub last_error: Option<String>,
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// Whether it has the limits of a trusted domain.
    pub trusted: bool,
    /// Whether its commits pass without the fields of Sync 1.1.
    pub lenient: bool,
    /// Its own limit of accounts; none: the default one.
    pub account_limit: Option<u64>,
}

impl HostRow {
    /// A host that was just admitted.
    pub fn new(id: HostId, endpoint: &Endpoint, now_ms: u64) -> HostRow {
        HostRow {
            id,
            name: endpoint.host.clone(),
            tls: endpoint.tls,
            status: HostStatus::Active,
            first_seen_ms: now_ms,
            last_connected_ms: None,
            last_error: None,
            failures: 0,
            trusted: false,
            lenient: false,
            account_limit: None,
        }
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.name.clone(),
            tls: self.tls,
        }
    }
}

/// The control store. Every write is durable when the call returns.
pub trait Control: Send + Sync {
    /// What it keeps in the memory of this process; none where it is elsewhere.
    fn memory(&self) -> Option<RocksMemory>;

    /// Every host, in the order in which they were added.
    fn hosts(&self) -> Result<Vec<HostRow>, ControlError>;

    /// Adds a host, or returns the one of that name as it is.
    fn add_host(&self, endpoint: &Endpoint, now_ms: u64) -> Result<HostRow, ControlError>;

    /// Replaces the row of the host with this id. The name of a host never changes.
    fn update_host(&self, row: &HostRow) -> Result<(), ControlError>;

    /// Every banned domain, in the order of their names.
    fn banned_domains(&self) -> Result<Vec<Domain>, ControlError>;

    /// Bans a domain, if it is not banned yet.
    fn ban_domain(&self, domain: &Domain, now_ms: u64) -> Result<(), ControlError>;

    /// Lifts the ban of a domain, if there is one.
    fn unban_domain(&self, domain: &Domain) -> Result<(), ControlError>;
}

/// Why the control store could not do what it was asked.
#[derive(Debug)]
pub enum ControlError {
    /// The backend failed; the text is its own.
    Backend(String),
    /// What is stored can not be read: the backend is damaged, or was written by another program.
    Damaged(String),
    /// Written in a format that this version does not know.
    Format {
        /// The format of the store.
        found: u32,
        /// The one that this version reads and writes.
        known: u32,
    },
    /// No host has this id, or the host with this id has another name.
    NoSuchHost(HostId),
    /// Every id has been given.
    Full,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::Backend(error) => write!(f, "control store: {error}"),
            ControlError::Damaged(what) => write!(f, "control store is damaged: {what}"),
            ControlError::Format { found, known } => write!(
                f,
                "control store has format {found}, this version of zlay knows format {known}"
            ),
            ControlError::NoSuchHost(id) => write!(f, "control store: no such host {id}"),
            ControlError::Full => f.write_str("control store: no host ids are left"),
        }
    }
}

impl std::error::Error for ControlError {}

impl HostStatus {
    /// Every status.
    pub const ALL: [HostStatus; 5] = [
        HostStatus::Active,
        HostStatus::Idle,
        HostStatus::Offline,
        HostStatus::Throttled,
        HostStatus::Banned,
    ];

    /// The word for it in `listHosts` and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            HostStatus::Active => "active",
            HostStatus::Idle => "idle",
            HostStatus::Offline => "offline",
            HostStatus::Throttled => "throttled",
            HostStatus::Banned => "banned",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<HostStatus> {
        HostStatus::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for HostStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
