//! What HTTP may ask of the other parts, connected to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use crate::{
    atproto::{
        did::Did,
        hostname::{Endpoint, Hostname},
        nsid::Nsid,
    },
    backfill::{self, Backfill},
    control::{AuditEntry, Control, HostRow, Source, domain::Domain},
    host::{
        self,
        crawler::{CrawlAnswer, CrawlerHandle},
        decision::{Decision, DecisionError},
        table::{HostEntry, HostTable},
        thread::Start,
    },
    http::{
        app::{Backfills, ChangeNote, Office},
        crawl::{Crawl, Standing},
        hosts::{Detail, Hosts},
        xrpc::catalog::{AccountView, Catalog, HostView, Roll},
    },
    identity::CACHE_ENTRY_BYTES,
    limits::{RULING_TIMEOUT, WAITING_SHOWN_MAX},
    memory::{Part, Parts},
    metrics::Metrics,
    sequencer::{Inbox, event::Input},
    store::{
        ListEntry, Listing, RocksMemory, Store, StoreError, account::HostId,
        collections::CollectionPage,
    },
};

/// The crawler behind `requestCrawl`.
pub(super) struct CrawlPort(pub(super) CrawlerHandle);

impl Crawl for CrawlPort {
    fn standing(&self, host: &Hostname) -> Standing {
        let table = self.0.table();
        if table.is_banned(host) {
            return Standing::Banned;
        }
        match table.get(host) {
            Some(_) => Standing::Known,
            None => Standing::New,
        }
    }

    fn request_crawl(&self, endpoint: &Endpoint, source: Source) -> CrawlAnswer {
        // A host that announces itself is heard from the beginning of what it still has.
        self.0.crawl(endpoint, Start::Oldest, source)
    }

    fn requested_since(&self, since_ms: u64) -> Vec<u64> {
        let hosts = self.0.table().after(HostId(0), usize::MAX).into_iter();
        let counts = |row: &HostRow| {
            row.source == Source::Request
                && row.first_seen_ms >= since_ms
                && !self.0.policy().trusts_domain(&row.name)
        };
        let times = hosts.map(|entry| entry.row).filter(counts);
        let mut times: Vec<u64> = times.map(|row| row.first_seen_ms).collect();
        times.sort_unstable();
        times
    }
}

/// The control store behind what is kept for the operator.
pub(super) struct OfficePort {
    pub(super) control: Arc<dyn Control>,
    /// One change of a note after the other.
    pub(super) noting: Mutex<()>,
}

impl Office for OfficePort {
    fn audit(&self, entry: &AuditEntry) -> Result<(), String> {
        let kept = self.control.audit(entry);
        kept.map(drop).map_err(|error| error.to_string())
    }

    fn audit_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, String> {
        let found = self.control.audit_before(before, limit);
        found.map_err(|error| error.to_string())
    }

    fn note(&self, name: &str) -> Result<Option<Value>, String> {
        self.control.note(name).map_err(|error| error.to_string())
    }

    fn change_note(&self, name: &str, change: ChangeNote<'_>) -> Result<(), String> {
        let _turn = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut note = self.note(name)?.unwrap_or_default();
        change(&mut note);
        let kept = self.control.set_note(name, Some(&note));
        kept.map_err(|error| error.to_string())
    }
}

/// The hosts behind their pages and the operator's decisions.
pub(super) struct HostsPort {
    pub(super) inbox: Inbox,
    pub(super) crawler: CrawlerHandle,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Metrics>,
    /// Since when is counted, in milliseconds since 1970.
    pub(super) started_ms: u64,
}

impl HostsPort {
    fn detail_of(&self, entry: HostEntry) -> Result<Detail, String> {
        let (table, policy) = (self.crawler.table(), self.crawler.policy());
        let id = entry.row.id;
        let record = self.store.host(id).map_err(text)?.unwrap_or_default();
        Ok(Detail {
            status: entry.status,
            banned_domain: table.banned_domain_over(&entry.row.name),
            cursor: record.cursor,
            accounts: record.accounts,
            waiting: None,
            account_limit: policy.account_limit(&entry.row),
            limits: policy.limits(&entry.row, record.accounts),
            trusted: policy.trusts(&entry.row),
            lenient: policy.lenient || entry.row.terms.lenient,
            tally: self.metrics.hosts.find(id),
            counted_since_ms: self.started_ms,
            row: entry.row,
            state: entry.state,
            timeline: entry.timeline,
        })
    }
}

impl Hosts for HostsPort {
    fn detail(&self, host: &Hostname) -> Result<Option<Detail>, String> {
        let Some(entry) = self.crawler.table().get(host) else {
            return Ok(None);
        };
        let waiting = self.store.throttled(entry.row.id, WAITING_SHOWN_MAX);
        let waiting = waiting.map_err(text)?.len() as u64;
        let detail = self.detail_of(entry)?;
        Ok(Some(Detail {
            waiting: Some(waiting),
            ..detail
        }))
    }

    fn details(&self) -> Result<Vec<Detail>, String> {
        let entries = self.crawler.table().after(HostId(0), usize::MAX);
        let details = entries.into_iter().map(|entry| self.detail_of(entry));
        details.collect()
    }

    fn statuses(&self) -> BTreeMap<&'static str, u64> {
        self.crawler.table().statuses()
    }

    fn banned_domains(&self) -> Vec<Domain> {
        self.crawler.table().banned_domains()
    }

    fn decide(&self, decision: &Decision) -> Result<(), DecisionError> {
        self.crawler.decide(decision)?;
        // In force is what the sequencer has heard of, too.
        let reached = self
            .inbox
            .ask(|done| Input::Reached { done }, RULING_TIMEOUT);
        reached.ok_or_else(|| DecisionError::Failed("the sequencer does not answer".to_owned()))
    }
}

/// The backfills behind their routes.
pub(super) struct BackfillPort(pub(super) Backfill);

impl Backfills for BackfillPort {
    fn begin(&self, wanted: &backfill::Wanted) -> Result<backfill::Status, backfill::Refused> {
        self.0.begin(wanted)
    }

    fn status(&self, kind: backfill::Kind) -> Option<backfill::Status> {
        self.0.status(kind)
    }

    fn cancel(&self) -> Option<backfill::Kind> {
        self.0.cancel()
    }
}

/// What the parts know of their own memory.
pub(super) struct MemoryPort {
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Arc<Store>,
    pub(super) control: Arc<dyn Control>,
    pub(super) shared: Arc<host::Shared>,
}

impl Parts for MemoryPort {
    fn parts(&self) -> Vec<Part> {
        let metrics = &self.metrics;
        let part = |part, entries, bytes| Part {
            part,
            entries,
            bytes,
        };
        let cached = metrics.identity_cached.get();
        let waiting = metrics.events_waiting.get();
        vec![
            part("ring", None, Some(metrics.ring_bytes.get())),
            part("large_frames", None, Some(metrics.large_frames_bytes.get())),
            part("inbox", None, Some(metrics.inbox_bytes.get())),
            part("parked", Some(waiting), Some(metrics.parked_bytes.get())),
            part("held", None, Some(metrics.held_bytes.get())),
            part("identities", Some(cached), Some(cached * CACHE_ENTRY_BYTES)),
            part("subscribers", Some(metrics.subscribers.get()), None),
            part("hosts", Some(metrics.hosts_connected.get()), None),
            part("workspaces", Some(self.shared.workspaces()), None),
            part("tls_rooms", Some(self.shared.tls_rooms()), None),
        ]
    }

    fn databases(&self) -> Vec<(&'static str, RocksMemory)> {
        let control = self.control.memory();
        let control = control.map(|memory| ("control", memory));
        [("store", self.store.memory())]
            .into_iter()
            .chain(control)
            .collect()
    }
}

/// What the stores know, behind the queries.
pub(super) struct CatalogPort {
    pub(super) store: Arc<Store>,
    pub(super) hosts: Arc<HostTable>,
}

impl Catalog for CatalogPort {
    fn account(&self, did: &Did) -> Result<Option<AccountView>, String> {
        let account = self.store.account(did).map_err(text)?;
        let entry = account.map(|account| ListEntry::of(did.clone(), &account));
        Ok(entry.map(account_view))
    }

    fn roll(&self) -> Box<dyn Roll + '_> {
        Box::new(RollPort(self.store.listing()))
    }

    fn collection_after(
        &self,
        collection: &Nsid,
        place: u64,
        limit: usize,
    ) -> Result<CollectionPage, String> {
        let page = self
            .store
            .collection_page(collection.as_str(), place, limit);
        page.map_err(text)
    }

    fn endpoint(&self, host: HostId) -> Option<Endpoint> {
        self.hosts.by_id(host).map(|entry| entry.row.endpoint())
    }

    fn host(&self, name: &Hostname) -> Result<Option<HostView>, String> {
        let entry = self.hosts.get(name);
        entry.map(|entry| self.host_view(entry)).transpose()
    }

    fn hosts_after(&self, host: HostId, limit: usize) -> Result<Vec<HostView>, String> {
        let entries = self.hosts.after(host, limit).into_iter();
        entries.map(|entry| self.host_view(entry)).collect()
    }
}

/// The accounts as they were.
struct RollPort<'a>(Listing<'a>);

impl Roll for RollPort<'_> {
    fn after(&self, ordinal: u64, limit: usize) -> Result<Vec<AccountView>, String> {
        let accounts = self.0.accounts_after(ordinal, limit).map_err(text)?;
        Ok(accounts.into_iter().map(account_view).collect())
    }
}

impl CatalogPort {
    fn host_view(&self, entry: HostEntry) -> Result<HostView, String> {
        let record = self.store.host(entry.row.id).map_err(text)?;
        let record = record.unwrap_or_default();
        Ok(HostView {
            id: entry.row.id,
            status: entry.status,
            name: entry.row.name,
            seq: record.cursor,
            accounts: record.accounts,
        })
    }
}

fn account_view(entry: ListEntry) -> AccountView {
    AccountView {
        did: entry.did,
        ordinal: entry.ordinal,
        host: entry.host,
        status: entry.status,
        head: entry.latest,
    }
}

fn text(error: StoreError) -> String {
    error.to_string()
}
