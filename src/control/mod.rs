//! Relay state that is not in the event store: which hosts there are and what is known of them.
//!
//! One trait, several backends, one test suite that all of them pass. Nothing here is on the way
//! of an event: the crawler and the admin routes read and write it, and the relay goes on without
//! it once its hosts are running.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;

use crate::{
    atproto::{
        did::Did,
        hostname::{Endpoint, Hostname},
    },
    config::Config,
    store::{RocksMemory, account::HostId},
};

use self::domain::Domain;

pub mod copy;
pub mod domain;
pub mod embedded;
pub mod keeper;
pub mod measured;
pub mod postgres;
pub mod settings;
#[cfg(test)]
pub(crate) mod suite;

/// How a host does, as `listHosts` reports it
/// (<https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/defs.json>).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostStatus {
    /// Connected, or about to be.
    Active,
    /// It could be read and is not: it has less than was read of it before, and is about to be read
    /// from now on.
    Idle,
    /// It could not be reached for several attempts; it is tried again all the same.
    Offline,
    /// It is over a limit of this relay.
    Throttled,
    /// The operator has banned it.
    Banned,
}

/// Who brought a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// Somebody asked for it (`requestCrawl`): one of the new hosts that a day may bring.
    Request,
    /// The operator.
    Operator,
    /// The list of another relay.
    Discovery,
}

/// What the control store keeps of one host. Each of the two parts that change has one writer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRow {
    /// Its number, given once and never reused.
    pub id: HostId,
    /// Its name, unique among hosts.
    pub name: Hostname,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// When it was added, in milliseconds since 1970.
    pub first_seen_ms: u64,
    /// Who brought it.
    pub source: Source,
    /// What the operator has said of it.
    pub terms: HostTerms,
    /// What was seen of it.
    pub observed: Observed,
}

/// What the operator has said of one host; written when he says it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HostTerms {
    /// It is banned.
    pub banned: bool,
    /// Whether it is trusted; none: its domain decides.
    pub trusted: Option<bool>,
    /// Its commits pass without the fields of Sync 1.1.
    pub lenient: bool,
    /// Its own limit of accounts; none: the default one.
    pub accounts: Option<u64>,
    /// Its own limit of events a second; none: the default one.
    pub events_per_second: Option<u64>,
    /// Its own limit of events an hour; none: the default one.
    pub events_per_hour: Option<u64>,
    /// Its own limit of events a day; none: the default one.
    pub events_per_day: Option<u64>,
}

/// What was seen of one host; written some seconds after it was seen, many hosts at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// How it does; never [`HostStatus::Banned`], which is not seen but decided.
    pub status: HostStatus,
    /// When a connection to it was last opened, in milliseconds since 1970.
    pub last_connected_ms: Option<u64>,
    /// When it was last known to be connected, in milliseconds since 1970.
    pub last_seen_ms: Option<u64>,
    /// Why the last attempt failed; none after a success.
    pub last_error: Option<String>,
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// When part of its stream was last passed over, in milliseconds since 1970.
    pub skipped_ms: Option<u64>,
    /// Why that was so, for people.
    pub skipped_why: Option<String>,
}

impl Default for Observed {
    fn default() -> Self {
        Observed {
            status: HostStatus::Active,
            last_connected_ms: None,
            last_seen_ms: None,
            last_error: None,
            failures: 0,
            skipped_ms: None,
            skipped_why: None,
        }
    }
}

/// A number for a new control store that no other one has.
pub(crate) fn new_id() -> u64 {
    // Fits a signed number of 64 bits, and is not 0.
    fastrand::u64(1..1 << 63)
}

impl HostRow {
    /// A host that was just admitted.
    pub fn new(id: HostId, endpoint: &Endpoint, source: Source, now_ms: u64) -> HostRow {
        HostRow {
            id,
            name: endpoint.host.clone(),
            tls: endpoint.tls,
            first_seen_ms: now_ms,
            source,
            terms: HostTerms::default(),
            observed: Observed::default(),
        }
    }

    /// Where it is reached.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.name.clone(),
            tls: self.tls,
        }
    }

    /// How it does, as far as its own row says so: a domain above it may be banned, too.
    pub fn status(&self) -> HostStatus {
        match self.terms.banned {
            true => HostStatus::Banned,
            false => self.observed.status,
        }
    }
}

/// A domain that is banned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ban {
    /// The domain.
    pub domain: Domain,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// An account that is taken down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Takedown {
    /// The account.
    pub did: Did,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// What is kept of the event store, so that a relay which has lost it goes on where it was, more or
/// less.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Mirror {
    /// The last seq that was given, or one before it.
    pub seq: u64,
    /// When that was so, in milliseconds since 1970.
    pub at_ms: u64,
    /// How far hosts were read, or not quite so far; in the order of their numbers.
    pub cursors: Vec<(HostId, Cursor)>,
}

/// How far a host was read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cursor {
    /// Everything up to this upstream seq was processed.
    pub seq: u64,
    /// How often the host's sequence has started anew.
    pub epoch: u32,
}

/// One act of the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditEntry {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// From where: an address, and the relay that has passed it on, if one has.
    pub actor: String,
    /// What was done: the path of the request, without `/admin/`.
    pub action: String,
    /// To whom: a host, a domain, an account, a setting.
    pub subject: String,
    /// What else was said, as JSON.
    pub detail: Value,
}

/// Everything that a control store keeps, to be moved to another one.
#[derive(Clone, PartialEq, Debug)]
pub struct Dump {
    /// [`Control::id`].
    pub id: u64,
    /// The number that the next host gets.
    pub next_host: u32,
    /// In the order of their numbers.
    pub hosts: Vec<HostRow>,
    /// In the order of their names.
    pub bans: Vec<Ban>,
    /// In the order of their DIDs.
    pub takedowns: Vec<Takedown>,
    /// By name.
    pub settings: BTreeMap<String, Value>,
    /// By name.
    pub notes: BTreeMap<String, Value>,
    /// The oldest first, with their numbers.
    pub audit: Vec<(u64, AuditEntry)>,
    /// See [`Mirror`].
    pub mirror: Mirror,
}

/// The control store. Every write but [`Control::mirror`] is durable when the call returns. A call
/// may wait for another machine, for seconds at most;
/// host threads and the sequencer make none.
pub trait Control: Send + Sync {
    /// What it keeps in the memory of this process; none where it is elsewhere.
    fn memory(&self) -> Option<RocksMemory>;

    /// Whether it can be read and written, as far as is known without asking it; the error is for
    /// the operator.
    fn available(&self) -> Result<(), String>;

    /// A random number that was given to this store when it was made, and that a copy of it has too:
    /// the numbers of hosts mean nothing beside another one.
    fn id(&self) -> u64;

    /// Every host, in the order in which they were added.
    fn hosts(&self) -> Result<Vec<HostRow>, ControlError>;

    /// Adds a host, or returns the one of that name as it is.
    fn add_host(
        &self,
        endpoint: &Endpoint,
        source: Source,
        now_ms: u64,
    ) -> Result<HostRow, ControlError>;

    /// Keeps what the operator says of a host.
    fn set_terms(&self, host: HostId, terms: &HostTerms) -> Result<(), ControlError>;

    /// Keeps what was seen of hosts: of all of them, or of none.
    fn observe(&self, hosts: &[(HostId, Observed)]) -> Result<(), ControlError>;

    /// Every banned domain, in the order of their names.
    fn bans(&self) -> Result<Vec<Ban>, ControlError>;

    /// Bans a domain, if it is not banned yet.
    fn ban_domain(&self, domain: &Domain, now_ms: u64) -> Result<(), ControlError>;

    /// Lifts the ban of a domain, if there is one.
    fn unban_domain(&self, domain: &Domain) -> Result<(), ControlError>;

    /// Every account that is taken down, in the order of their DIDs.
    fn takedowns(&self) -> Result<Vec<Takedown>, ControlError>;

    /// Takes an account down, if it is not taken down yet.
    fn take_down(&self, did: &Did, now_ms: u64) -> Result<(), ControlError>;

    /// Takes a takedown back, if there is one.
    fn reverse_takedown(&self, did: &Did) -> Result<(), ControlError>;

    /// What was changed at run time, by name.
    fn settings(&self) -> Result<BTreeMap<String, Value>, ControlError>;

    /// Keeps a setting; none: it is what the configuration says again.
    fn set_setting(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError>;

    /// What a long job has noted of its progress.
    fn note(&self, name: &str) -> Result<Option<Value>, ControlError>;

    /// Notes the progress of a long job; none: it has none.
    fn set_note(&self, name: &str, value: Option<&Value>) -> Result<(), ControlError>;

    /// Adds to the log of what the operator has done; the number of the entry.
    fn audit(&self, entry: &AuditEntry) -> Result<u64, ControlError>;

    /// Entries of that log with a smaller number than `before` (none: all), the latest first, at most
    /// `limit` of them.
    fn audit_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, ControlError>;

    /// Notes the last seq and the cursors of those hosts that are given.
    fn mirror(&self, mirror: &Mirror) -> Result<(), ControlError>;

    /// What was noted last, of every host of which anything was.
    fn mirrored(&self) -> Result<Mirror, ControlError>;

    /// Everything.
    fn export(&self) -> Result<Dump, ControlError>;

    /// Replaces everything, the number of the store included, at once.
    fn import(&self, dump: &Dump) -> Result<(), ControlError>;
}

/// Opens the control store that the configuration names: the database of `DATABASE_URL`, or else the
/// one in the data directory.
pub fn open(config: &Config) -> Result<Arc<dyn Control>, ControlError> {
    let Some(url) = &config.database_url else {
        return Ok(Arc::new(embedded::Embedded::open(&config.data_dir)?));
    };
    let store = postgres::Postgres::open(url, config.extra_ca_file.as_deref())?;
    if config.data_dir.join("control").is_dir() && store.hosts()?.is_empty() {
        log::warn!(
            data_dir:% = config.data_dir.display();
            "the database of DATABASE_URL has no hosts, and there is a control store in the data \
             directory that is not used now; `zlay control copy --to postgres` would copy it"
        );
    }
    Ok(Arc::new(store))
}

/// Which control store the configuration names, in words; of a URL the database and the server.
pub fn describe(config: &Config) -> String {
    match config.database_url.as_ref().map(postgres::describe) {
        None => "in the data directory".to_owned(),
        Some(Ok(name)) => format!("Postgres, {name}"),
        Some(Err(_)) => "Postgres, but DATABASE_URL is wrong".to_owned(),
    }
}

/// Why the control store could not do what it was asked.
#[derive(Debug)]
pub enum ControlError {
    /// The backend failed; the text is its own.
    Backend(String),
    /// The backend does not answer now, and may later. What was asked may still be done.
    Unavailable(String),
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
            ControlError::Unavailable(error) => {
                write!(f, "control store is not available: {error}")
            }
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

impl Source {
    /// Every source.
    pub const ALL: [Source; 3] = [Source::Request, Source::Operator, Source::Discovery];

    /// The word for it in the store and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Request => "request",
            Source::Operator => "operator",
            Source::Discovery => "discovery",
        }
    }

    /// The source of that name.
    pub fn parse(name: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|s| s.name() == name)
    }
}

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
