//! What the routes need: handles to the parts of the relay, and the small state of HTTP itself.

use std::sync::Arc;

use super::{
    admin::Admin,
    crawl::{Crawl, CrawlDesk},
    hosts::Hosts,
    pages::{Pages, frame::Site},
    siblings::Siblings,
    status::{FullDisk, StatusBoard},
    subscribe::Subscribe,
    xrpc::catalog::Catalog,
};
use serde_json::Value;

use crate::{
    atproto::{did::Did, hostname::Hostname},
    backfill,
    config::Config,
    control::AuditEntry,
    host::{admission::Admission, policy::Policy},
    memory::Memory,
    metrics::Metrics,
    sequencer::event::{Ruled, Ruling},
    store::account::Account,
};

/// The relay as HTTP sees it.
pub struct App {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What the memory is made of.
    pub memory: Arc<Memory>,
    /// How the relay does.
    pub health: Arc<dyn Health>,
    /// Where websockets go.
    pub firehose: Arc<dyn Subscribe>,
    /// What is known of hosts, and decided about them.
    pub hosts: Arc<dyn Hosts>,
    /// What the queries read.
    pub catalog: Arc<dyn Catalog>,
    /// Takes requests to crawl.
    pub desk: CrawlDesk,
    /// Who may do what only the operator may.
    pub admin: Admin,
    /// Takes the operator's word on accounts.
    pub accounts: Arc<dyn Accounts>,
    /// Keeps what the operator does.
    pub office: Arc<dyn Office>,
    /// What holds for all hosts.
    pub policy: Arc<Policy>,
    /// Other relays of the operator.
    pub siblings: Siblings,
    /// Fills the relay with what it has not heard.
    pub backfill: Arc<dyn Backfills>,
    /// What the status pages show.
    pub status: Arc<StatusBoard>,
    /// What the other pages show.
    pub pages: Pages,
}

/// The parts of the relay that HTTP is connected to.
pub struct Parts {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What the memory is made of.
    pub memory: Arc<Memory>,
    /// How the relay does.
    pub health: Arc<dyn Health>,
    /// Where websockets go.
    pub firehose: Arc<dyn Subscribe>,
    /// What the queries read.
    pub catalog: Arc<dyn Catalog>,
    /// The set of hosts.
    pub crawl: Arc<dyn Crawl>,
    /// What is known of hosts, and decided about them.
    pub hosts: Arc<dyn Hosts>,
    /// Who may become a host.
    pub admission: Admission,
    /// The operator's word on accounts.
    pub accounts: Arc<dyn Accounts>,
    /// Keeps what the operator does.
    pub office: Arc<dyn Office>,
    /// What holds for all hosts.
    pub policy: Arc<Policy>,
    /// Other relays of the operator.
    pub siblings: Siblings,
    /// Fills the relay with what it has not heard.
    pub backfill: Arc<dyn Backfills>,
}

/// Accounts, as far as the operator is concerned. Every error is one line for the log.
pub trait Accounts: Send + Sync {
    /// Says something of one, and waits until it is stored: only for requests that may take long.
    fn rule(&self, did: &Did, ruling: Ruling) -> Result<Ruled, String>;

    /// Accounts that are taken down, in the order of their DIDs, after `after` (which may be
    /// empty), at most `limit` of them.
    fn takedowns(&self, after: &str, limit: usize) -> Result<Vec<Did>, String>;

    /// What is known of one, and the name of its host.
    fn account(&self, did: &Did) -> Result<Option<(Account, Option<Hostname>)>, String>;

    /// How many collections the account of this ordinal has records in.
    fn collections(&self, ordinal: u64) -> Result<usize, String>;
}

/// Changes one value in place.
pub type ChangeNote<'a> = Box<dyn FnOnce(&mut Value) + 'a>;

/// What is kept for the operator. Every error is one line for the log.
pub trait Office: Send + Sync {
    /// Adds to the log of what he has done.
    fn audit(&self, entry: &AuditEntry) -> Result<(), String>;

    /// Entries of that log with a smaller number than `before` (none: all), the latest first, at most
    /// `limit` of them.
    fn audit_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, String>;

    /// A note.
    fn note(&self, name: &str) -> Result<Option<Value>, String>;

    /// Changes a note, which is null where there is none; one change after the other.
    fn change_note(&self, name: &str, change: ChangeNote<'_>) -> Result<(), String>;
}

/// Backfills, as far as the operator is concerned.
pub trait Backfills: Send + Sync {
    /// Begins one, and keeps that: only for requests that may take long.
    fn begin(&self, wanted: &backfill::Wanted) -> Result<backfill::Status, backfill::Refused>;

    /// How far the last one of a kind is, if there ever was one.
    fn status(&self, kind: backfill::Kind) -> Option<backfill::Status>;

    /// Ends the one that runs, and says which that was: only for requests that may take long.
    fn cancel(&self) -> Option<backfill::Kind>;
}

/// A part of the relay, and whether it is ready.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// Its name.
    pub part: &'static str,
    /// How it does.
    pub outcome: Outcome,
}

/// How a part of the relay does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// As it should.
    Ok,
    /// Something is wrong, and no reason to send subscribers elsewhere.
    Warning(String),
    /// It is not ready.
    Failed(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(done: Result<(), String>) -> Outcome {
        done.err().map_or(Outcome::Ok, Outcome::Failed)
    }
}

/// How the relay does. Every error is one line for people; none of the calls may wait.
pub trait Health: Send + Sync {
    /// Whether the stores work: what `/_health` says.
    fn storage(&self) -> Result<(), String>;

    /// That nothing is taken of hosts because the disk is full, if that is so: nothing is broken, and
    /// it goes on by itself when there is room.
    fn full_disk(&self) -> Option<FullDisk>;

    /// Whether events get through; a supervisor restarts a process for which this fails for long.
    fn live(&self) -> Result<(), String>;

    /// Whether subscribers should be sent here: each part that this needs.
    fn ready(&self) -> Vec<Check>;
}

impl App {
    /// Connects HTTP to the relay; the uptime that is shown counts from now.
    pub fn new(config: &Config, parts: Parts) -> App {
        let site = Site {
            name: config.name.clone(),
            contact: config.contact.clone(),
            policy: config.policy_url.clone(),
        };
        let board = StatusBoard::new(parts.metrics.clone(), parts.hosts.clone(), site.clone());
        App {
            status: Arc::new(board),
            pages: Pages::new(site),
            memory: parts.memory,
            health: parts.health,
            firehose: parts.firehose,
            hosts: parts.hosts,
            catalog: parts.catalog,
            desk: CrawlDesk::new(
                parts.admission,
                parts.crawl,
                parts.policy.clone(),
                parts.metrics.clone(),
            ),
            metrics: parts.metrics,
            admin: Admin::new(config.admin_password.as_ref()),
            accounts: parts.accounts,
            office: parts.office,
            policy: parts.policy,
            siblings: parts.siblings,
            backfill: parts.backfill,
        }
    }
}
