//! The two ports over real sockets, with a fake relay behind them.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use clap::Parser;
use serde_json::{Value, json};

mod accounts;
mod backfilling;
mod connections;
mod console;
mod crawling;
mod described;
mod hostile;
mod operating;
mod pages;
mod queries;
mod routes;
mod subscribing;

use super::{
    app::{Accounts, App, Backfills, ChangeNote, Check, Health, Office, Outcome, Parts},
    crawl::{Crawl, Standing},
    front_door::{Bounds, FrontDoor, Times, listen},
    hosts::{Detail, Hosts},
    siblings::Siblings,
    status::FullDisk,
    subscribe::{Handover, Seat, Subscribe},
    xrpc::catalog::{AccountView, Catalog, HostView, Roll},
};
use crate::{
    atproto::{
        did::Did,
        hostname::{Endpoint, Hostname},
        nsid::Nsid,
    },
    backfill,
    config::Cli,
    control::{AuditEntry, Source, domain::Domain, settings::Settings},
    firehose::{Cursor, SubscriberInfo, TooMany},
    host::{
        admission::Admission,
        crawler::CrawlAnswer,
        decision::{Decision, DecisionError},
        now_ms,
        policy::Policy,
    },
    memory::{self, Memory, Part},
    metrics::Metrics,
    outbound::Outbound,
    store::{
        RocksMemory, Store,
        account::HostId,
        collections::{CollectionPage, ScanBounds},
    },
};

/// What is left of a subscription: cursor, leftover bytes, user agent, address.
type Seen = (Cursor, Vec<u8>, String, IpAddr);

/// The list of a collection: accounts by their place, and the last place that was given.
type Listing = (BTreeMap<u64, Did>, u64);

/// Everything that the ports are connected to, and what came out of them.
#[derive(Default)]
pub(crate) struct Fake {
    storage_fails: AtomicBool,
    disk_is_full: AtomicBool,
    not_ready: AtomicBool,
    known: Mutex<Vec<String>>,
    crawled: Mutex<Vec<String>>,
    /// When hosts were added by request.
    requested: Mutex<Vec<u64>>,
    decided: Mutex<Vec<Decision>>,
    audited: Mutex<Vec<AuditEntry>>,
    notes: Mutex<BTreeMap<String, Value>>,
    /// What is known of hosts, for the operator.
    details: Mutex<Vec<Detail>>,
    /// In the order of their ordinals.
    accounts: Mutex<Vec<AccountView>>,
    /// What each collection has.
    collections: Mutex<BTreeMap<String, Listing>>,
    /// A real store with lists of collections in place of these, and what one scan looks at.
    lists: Mutex<Option<(Store, ScanBounds)>>,
    /// How often accounts were read, one or several at once.
    reads: AtomicUsize,
    /// In the order of their numbers.
    hosts: Mutex<Vec<HostView>>,
    subscribed: Mutex<Vec<Seen>>,
    full: AtomicBool,
    /// Subscribers that were sent away.
    dismissed: Mutex<Vec<u64>>,
    /// How the one subscriber calls itself; none: jetstream.
    agent: Mutex<Option<String>>,
    /// Accounts that are known, and whether they are taken down.
    rulings: Mutex<BTreeMap<Did, bool>>,
    /// What was asked to be filled in, and what is shown of that.
    wanted: Mutex<Vec<backfill::Wanted>>,
    filling: Mutex<Option<backfill::Status>>,
}

impl Health for Fake {
    fn storage(&self) -> Result<(), String> {
        match self.storage_fails.load(Ordering::Relaxed) {
            true => Err("disk on fire".into()),
            false => Ok(()),
        }
    }

    fn full_disk(&self) -> Option<FullDisk> {
        let is_full = self.disk_is_full.load(Ordering::Relaxed);
        is_full.then_some(FullDisk {
            free_bytes: 99 << 20,
            needed_bytes: 144 << 20,
        })
    }

    fn live(&self) -> Result<(), String> {
        self.storage()
    }

    fn ready(&self) -> Vec<Check> {
        let part = |part, outcome| Check { part, outcome };
        let disk = match self.storage() {
            Ok(()) => Outcome::Ok,
            Err(error) => Outcome::Warning(error),
        };
        let failed = self.not_ready.load(Ordering::Relaxed);
        let sequencer = match failed {
            true => Outcome::Failed("stands still".into()),
            false => Outcome::Ok,
        };
        vec![part("disk_space", disk), part("sequencer", sequencer)]
    }
}

impl Crawl for Fake {
    fn standing(&self, host: &Hostname) -> Standing {
        if host.name().ends_with("banned.com") {
            Standing::Banned
        } else if self
            .known
            .lock()
            .unwrap()
            .iter()
            .any(|known| known == host.as_str())
        {
            Standing::Known
        } else {
            Standing::New
        }
    }

    fn request_crawl(&self, endpoint: &Endpoint, source: Source) -> CrawlAnswer {
        self.crawled.lock().unwrap().push(endpoint.origin());
        if source == Source::Request && self.standing(&endpoint.host) == Standing::New {
            self.requested.lock().unwrap().push(now_ms());
        }
        CrawlAnswer::Started
    }

    fn requested_since(&self, since_ms: u64) -> Vec<u64> {
        let requested = self.requested.lock().unwrap();
        requested
            .iter()
            .copied()
            .filter(|at| *at >= since_ms)
            .collect()
    }
}

impl Office for Fake {
    fn audit(&self, entry: &AuditEntry) -> Result<(), String> {
        self.storage()?;
        self.audited.lock().unwrap().push(entry.clone());
        Ok(())
    }

    fn audit_before(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, String> {
        self.storage()?;
        let audited = self.audited.lock().unwrap();
        let numbered = (1..).zip(audited.iter().cloned());
        let mut earlier: Vec<_> = numbered
            .filter(|(number, _)| before.is_none_or(|before| *number < before))
            .collect();
        earlier.reverse();
        earlier.truncate(limit);
        Ok(earlier)
    }

    fn note(&self, name: &str) -> Result<Option<Value>, String> {
        self.storage()?;
        Ok(self.notes.lock().unwrap().get(name).cloned())
    }

    fn change_note(&self, name: &str, change: ChangeNote<'_>) -> Result<(), String> {
        self.storage()?;
        change(
            self.notes
                .lock()
                .unwrap()
                .entry(name.to_owned())
                .or_default(),
        );
        Ok(())
    }
}

impl Hosts for Fake {
    fn detail(&self, host: &Hostname) -> Result<Option<Detail>, String> {
        let details = self.details()?;
        Ok(details.into_iter().find(|detail| detail.row.name == *host))
    }

    fn details(&self) -> Result<Vec<Detail>, String> {
        self.storage()?;
        Ok(self.details.lock().unwrap().clone())
    }

    fn statuses(&self) -> BTreeMap<&'static str, u64> {
        let mut statuses = BTreeMap::new();
        for detail in self.details.lock().unwrap().iter() {
            *statuses.entry(detail.status.name()).or_default() += 1;
        }
        statuses
    }

    fn banned_domains(&self) -> Vec<Domain> {
        ["a.com", "b.com"].map(|d| Domain::parse(d).unwrap()).into()
    }

    fn decide(&self, decision: &Decision) -> Result<(), DecisionError> {
        if self.storage_fails.load(Ordering::Relaxed) {
            return Err(DecisionError::Unavailable("disk on fire".into()));
        }
        let host = match decision {
            Decision::Ban { host, .. }
            | Decision::Change { host, .. }
            | Decision::Disconnect { host }
            | Decision::Reset { host, .. } => Some(host),
            Decision::BanDomain { .. } | Decision::Set { .. } => None,
        };
        let known = self.known.lock().unwrap();
        if host.is_some_and(|host| !known.iter().any(|k| k == host.as_str())) {
            return Err(DecisionError::NoSuchHost);
        }
        self.decided.lock().unwrap().push(decision.clone());
        Ok(())
    }
}

impl Catalog for Fake {
    fn account(&self, did: &Did) -> Result<Option<AccountView>, String> {
        self.storage()?;
        let accounts = self.accounts.lock().unwrap();
        Ok(accounts.iter().find(|a| a.did == *did).cloned())
    }

    fn roll(&self) -> Box<dyn Roll + '_> {
        let accounts = self.accounts.lock().unwrap().clone();
        Box::new(FakeRoll {
            fake: self,
            accounts,
        })
    }

    fn collection_after(
        &self,
        collection: &Nsid,
        place: u64,
        limit: usize,
    ) -> Result<CollectionPage, String> {
        self.storage()?;
        if let Some((store, bounds)) = &*self.lists.lock().unwrap() {
            let listing = store.listing();
            let page = listing.collection_page(collection.as_str(), place, limit, *bounds);
            return page.map_err(|error| error.to_string());
        }
        let collections = self.collections.lock().unwrap();
        let Some((list, last)) = collections.get(collection.as_str()) else {
            return Ok(CollectionPage::default());
        };
        let later: Vec<_> = list.range(place + 1..).collect();
        let page = &later[..later.len().min(limit)];
        let next = page.last().filter(|_| later.len() > limit);
        Ok(CollectionPage {
            dids: page.iter().map(|(_, did)| Did::clone(did)).collect(),
            next: next.map(|(place, _)| **place),
            last: *last,
        })
    }

    fn endpoint(&self, host: HostId) -> Option<Endpoint> {
        let hosts = self.hosts.lock().unwrap();
        let host = hosts.iter().find(|h| h.id == host)?;
        Endpoint::parse(host.name.as_str()).ok()
    }

    fn host(&self, name: &Hostname) -> Result<Option<HostView>, String> {
        self.storage()?;
        let hosts = self.hosts.lock().unwrap();
        Ok(hosts.iter().find(|h| h.name == *name).cloned())
    }

    fn hosts_after(&self, host: HostId, limit: usize) -> Result<Vec<HostView>, String> {
        self.storage()?;
        let hosts = self.hosts.lock().unwrap();
        let later = hosts.iter().filter(|h| h.id > host);
        Ok(later.take(limit).cloned().collect())
    }
}

/// The accounts of a [`Fake`] as they were.
struct FakeRoll<'a> {
    fake: &'a Fake,
    accounts: Vec<AccountView>,
}

impl Roll for FakeRoll<'_> {
    fn after(&self, ordinal: u64, limit: usize) -> Result<Vec<AccountView>, String> {
        self.fake.storage()?;
        self.fake.reads.fetch_add(1, Ordering::Relaxed);
        let later = self.accounts.iter().filter(|a| a.ordinal > ordinal);
        Ok(later.take(limit).cloned().collect())
    }
}

impl memory::Parts for Fake {
    fn parts(&self) -> Vec<Part> {
        vec![Part {
            part: "accounts",
            entries: Some(self.accounts.lock().unwrap().len() as u64),
            bytes: None,
        }]
    }

    fn databases(&self) -> Vec<(&'static str, RocksMemory)> {
        vec![("store", RocksMemory::default())]
    }
}

impl Subscribe for Fake {
    fn admit(self: Arc<Self>, _client: IpAddr) -> Result<Seat, TooMany> {
        if self.full.load(Ordering::Relaxed) {
            return Err(TooMany::Relay);
        }
        Ok(Box::new(move |mut handover: Handover| {
            handover.stream.write_all(b"frames")?;
            let Handover {
                leftover,
                cursor,
                peer,
                user_agent,
                ..
            } = handover;
            let seen = (cursor, leftover, user_agent, peer.ip());
            self.subscribed.lock().unwrap().push(seen);
            Ok(())
        }))
    }

    fn subscribers(&self) -> Vec<SubscriberInfo> {
        vec![SubscriberInfo {
            id: 7,
            peer: "203.0.113.7:1234".parse().unwrap(),
            user_agent: self
                .agent
                .lock()
                .unwrap()
                .clone()
                .unwrap_or("jetstream".into()),
            since: SystemTime::UNIX_EPOCH,
            frames: 5,
            bytes: 600,
            position: 0,
        }]
    }

    fn dismiss(&self, id: u64) -> bool {
        self.dismissed.lock().unwrap().push(id);
        id == 7
    }

    fn written_ms(&self, _seq: u64) -> Option<u64> {
        Some(1_000)
    }
}

struct Relay {
    fake: Arc<Fake>,
    app: Arc<App>,
    door: FrontDoor,
}

pub(super) fn app(fake: &Arc<Fake>, flags: &[&str], password: bool) -> Arc<App> {
    let firehose = Arc::clone(fake) as Arc<dyn Subscribe>;
    app_with(fake, firehose, flags, password)
}

fn app_with(
    fake: &Arc<Fake>,
    firehose: Arc<dyn Subscribe>,
    flags: &[&str],
    password: bool,
) -> Arc<App> {
    let mut config = Cli::try_parse_from([&["zlay"], flags].concat())
        .unwrap()
        .config;
    if password {
        config.admin_password = Some("sesame".to_owned().into());
    }
    let outbound = Outbound::new(&config).unwrap();
    let parts = Parts {
        metrics: Arc::new(Metrics::default()),
        memory: Arc::new(Memory::new(Arc::clone(fake) as Arc<dyn memory::Parts>)),
        health: Arc::clone(fake) as Arc<dyn Health>,
        firehose,
        catalog: Arc::clone(fake) as Arc<dyn Catalog>,
        crawl: Arc::clone(fake) as Arc<dyn Crawl>,
        hosts: Arc::clone(fake) as Arc<dyn Hosts>,
        admission: Admission::new(&config, outbound),
        accounts: Arc::clone(fake) as Arc<dyn Accounts>,
        office: Arc::clone(fake) as Arc<dyn Office>,
        policy: Arc::new(Policy::new(&config, Settings::default())),
        siblings: Siblings::none(Arc::default()),
        backfill: Arc::clone(fake) as Arc<dyn Backfills>,
    };
    Arc::new(App::new(&config, parts))
}

fn start(flags: &[&str], bounds: Bounds) -> Relay {
    let fake = Arc::new(Fake::default());
    let app = app(&fake, flags, true);
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let door = FrontDoor::start(listener, Arc::clone(&app), bounds).unwrap();
    Relay { fake, app, door }
}

fn relay() -> Relay {
    start(&["--allow-private-hosts"], Bounds::default())
}

/// Deadlines that a test can wait for.
fn hurried() -> Bounds {
    Bounds {
        times: Times {
            head: Duration::from_millis(150),
            idle: Duration::from_millis(150),
            write: Duration::from_millis(500),
        },
        ..Bounds::default()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    // Only so that a test that fails does not hang.
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
}

/// Sends bytes and reads until the relay closes the connection.
fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(request).unwrap();
    rest(&mut stream)
}

fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Status and JSON body of the last answer in `text`.
fn last_answer(text: &str) -> (u16, Value) {
    let at = text
        .rfind("HTTP/1.1 ")
        .unwrap_or_else(|| panic!("no answer in {text:?}"));
    let (head, body) = text[at..].split_once("\r\n\r\n").unwrap();
    let status = head[9..12].parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

pub(super) fn get(address: SocketAddr, target: &str) -> (u16, Value) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
    last_answer(&exchange(address, request.as_bytes()))
}

fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    );
    last_answer(&exchange(address, request.as_bytes()))
}
