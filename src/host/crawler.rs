//! The crawler: owns the set of hosts, starts and stops their threads, keeps their rows.

use std::{collections::HashMap, sync::Arc};

use crossbeam_channel::{Receiver, Sender, bounded, select, tick, unbounded};

use super::{
    Shared,
    dial::Plug,
    lane::Lane,
    now_ms,
    table::HostTable,
    thread::{HostThread, Start},
};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    control::{Control, HostRow, HostStatus},
    limits::{HOST_FAILURES_LOGGED, HOST_REPORT_INTERVAL, HOST_REVIVE_INTERVAL},
    store::{Store, account::HostId},
    threads::{self, Role, Thread},
};

/// How a host does, as its thread tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Connected.
    Connected {
        /// Since when, in milliseconds since 1970.
        at_ms: u64,
    },
    /// The host has less than it once had: it is read from now on.
    Idle {
        /// What happened, for people.
        why: String,
    },
    /// Waiting for the next attempt.
    BackingOff {
        /// What happened, for people.
        why: String,
        /// Failures in a row.
        failures: u32,
        /// When the next attempt is due, in milliseconds since 1970.
        next_ms: u64,
    },
    /// Waiting for the next attempt, after many that failed.
    Offline {
        /// What happened, for people.
        why: String,
        /// Failures in a row.
        failures: u32,
        /// When the next attempt is due, in milliseconds since 1970.
        next_ms: u64,
    },
}

/// A host's state.
#[derive(Debug)]
pub struct Report {
    pub(super) id: HostId,
    pub(super) state: State,
}

/// What became of a request to crawl a host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CrawlAnswer {
    /// It is new; its thread has started.
    Started,
    /// It is connected already.
    AlreadyConnected,
    /// It is known and was waiting; it is tried now.
    Retrying,
    /// The operator has banned it.
    Banned,
    /// The control store or the operating system would not have it.
    Failed(String),
}

enum Command {
    Crawl {
        endpoint: Endpoint,
        start: Start,
        answer: Sender<CrawlAnswer>,
    },
    Known {
        name: Hostname,
        answer: Sender<bool>,
    },
}

/// Asks the crawler; cheap to clone.
#[derive(Clone)]
pub struct CrawlerHandle {
    commands: Sender<Command>,
    table: Arc<HostTable>,
}

impl CrawlerHandle {
    /// What is known of the hosts, without asking.
    pub fn table(&self) -> &Arc<HostTable> {
        &self.table
    }

    /// Crawls a host that was admitted: starts it, or tries it now if it waits.
    pub fn crawl(&self, endpoint: Endpoint, start: Start) -> CrawlAnswer {
        let (answer, answered) = bounded(1);
        let sent = self.commands.send(Command::Crawl {
            endpoint,
            start,
            answer,
        });
        let answer = sent.ok().and_then(|()| answered.recv().ok());
        answer.unwrap_or_else(|| CrawlAnswer::Failed("the relay is stopping".into()))
    }

    /// Whether the host is in the set already.
    pub fn knows(&self, name: &Hostname) -> bool {
        let (answer, answered) = bounded(1);
        let sent = self.commands.send(Command::Known {
            name: name.clone(),
            answer,
        });
        sent.is_ok() && answered.recv().unwrap_or(false)
    }
}

/// The crawler itself, run by its own thread.
pub struct Crawler {
    shared: Arc<Shared>,
    control: Arc<dyn Control>,
    store: Arc<Store>,
    commands: Receiver<Command>,
    reports: (Sender<Report>, Receiver<Report>),
    hosts: HashMap<HostId, Host>,
    names: HashMap<Hostname, HostId>,
    table: Arc<HostTable>,
}

struct Host {
    row: HostRow,
    state: Option<State>,
    /// The log has said that it fails.
    in_trouble: bool,
    lane: Arc<Lane>,
    plug: Arc<Plug>,
    retry: Sender<()>,
    thread: Thread,
}

impl Crawler {
    /// A crawler without hosts, and how to ask it.
    pub fn new(
        shared: Arc<Shared>,
        control: Arc<dyn Control>,
        store: Arc<Store>,
    ) -> (Crawler, CrawlerHandle) {
        let (sender, commands) = bounded(64);
        let reports = unbounded();
        let (hosts, names) = (HashMap::new(), HashMap::new());
        let table = Arc::new(HostTable::default());
        // Before anybody can ask: no query is to see fewer hosts than there are. That they can not
        // be read is told when they are to be started.
        for row in control.hosts().unwrap_or_default() {
            table.put(&row, None);
        }
        let handle = CrawlerHandle {
            commands: sender,
            table: table.clone(),
        };
        let crawler = Crawler {
            shared,
            control,
            store,
            commands,
            reports,
            hosts,
            names,
            table,
        };
        (crawler, handle)
    }

    /// Starts every host of the control store, then works until the stop is asked for; returns
    /// when all host threads have ended.
    pub fn run(mut self) {
        match self.control.hosts() {
            Ok(rows) => {
                log::info!("hosts known={}", rows.len());
                for row in rows {
                    self.start(row, Start::Live);
                }
            }
            Err(error) => log::error!("can not read the hosts: {error}"),
        }
        let stop = self.shared.stop.clone();
        let rounds = tick(HOST_REVIVE_INTERVAL);
        let summaries = tick(HOST_REPORT_INTERVAL);
        loop {
            select! {
                recv(self.commands) -> command => match command {
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                },
                recv(self.reports.1) -> report => {
                    if let Ok(report) = report {
                        self.note(report);
                    }
                }
                recv(rounds) -> _ => self.revive(),
                recv(summaries) -> _ => self.log_summary(),
                recv(stop.channel()) -> _ => break,
            }
        }
        // Every connection is ended before the first thread is waited for.
        for host in self.hosts.values() {
            host.plug.pull();
            host.lane.close();
        }
        self.hosts.clear();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Crawl {
                endpoint,
                start,
                answer,
            } => {
                // Who asked may have gone.
                let _ = answer.send(self.crawl(&endpoint, start));
            }
            Command::Known { name, answer } => {
                let _ = answer.send(self.names.contains_key(&name));
            }
        }
    }

    fn crawl(&mut self, endpoint: &Endpoint, start: Start) -> CrawlAnswer {
        let known = self
            .names
            .get(&endpoint.host)
            .and_then(|id| self.hosts.get(id));
        if let Some(host) = known.filter(|host| !host.thread.is_finished()) {
            if host.row.status == HostStatus::Banned {
                return CrawlAnswer::Banned;
            }
            if matches!(host.state, Some(State::Connected { .. })) {
                return CrawlAnswer::AlreadyConnected;
            }
            // One wake-up is enough, and it may be there already.
            let _ = host.retry.try_send(());
            return CrawlAnswer::Retrying;
        }
        let row = match self.control.add_host(endpoint, now_ms()) {
            Ok(row) if row.status == HostStatus::Banned => return CrawlAnswer::Banned,
            Ok(row) => row,
            Err(error) => return CrawlAnswer::Failed(error.to_string()),
        };
        match self.start(row, start) {
            true => CrawlAnswer::Started,
            false => CrawlAnswer::Failed("no thread for it could be started".into()),
        }
    }

    /// Starts the thread of a host; false where that fails.
    fn start(&mut self, row: HostRow, start: Start) -> bool {
        self.table.put(&row, None);
        if row.status == HostStatus::Banned {
            return false;
        }
        let record = match self.store.host(row.id) {
            Ok(record) => record.unwrap_or_default(),
            Err(error) => {
                log::error!("host={} can not read its cursor: {error}", row.name);
                return false;
            }
        };
        let shared = self.shared.clone();
        let name = row.name.clone();
        let lane = Lane::new(
            shared.clone(),
            row.id,
            name.clone(),
            record.epoch,
            record.cursor,
        );
        let plug = Arc::new(Plug::default());
        let (retry, retried) = bounded(1);
        let thread = HostThread {
            shared,
            id: row.id,
            endpoint: row.endpoint(),
            start,
            lane: lane.clone(),
            plug: plug.clone(),
            retry: retried,
            reports: self.reports.0.clone(),
        };
        let stack = self.shared.stack_bytes;
        match threads::spawn(Role::Host, name.as_str(), stack, move || thread.run()) {
            Ok(thread) => {
                self.names.insert(name, row.id);
                let id = row.id;
                let host = Host {
                    row,
                    state: None,
                    in_trouble: false,
                    lane,
                    plug,
                    retry,
                    thread,
                };
                if let Some(ended) = self.hosts.insert(id, host) {
                    ended.lane.close();
                }
                true
            }
            Err(error) => {
                log::error!("host={name} no thread for it: {error}");
                false
            }
        }
    }

    /// Starts the threads anew that a panic has ended. What they had read or parked and not handed
    /// on is behind the stored cursor, and is asked for again.
    fn revive(&mut self) {
        let ended = |(id, host): (&HostId, &Host)| host.thread.is_finished().then_some(*id);
        let ended: Vec<HostId> = self.hosts.iter().filter_map(ended).collect();
        for id in ended {
            if let Some(host) = self.hosts.remove(&id) {
                log::warn!(
                    "host={} its thread has ended and is started anew",
                    host.row.name
                );
                host.lane.close();
                self.start(host.row, Start::Live);
            }
        }
    }

    /// Keeps what a host's thread tells of itself.
    fn note(&mut self, report: Report) {
        let Some(host) = self.hosts.get_mut(&report.id) else {
            return;
        };
        host.log_change(&report.state);
        let row = &mut host.row;
        match &report.state {
            State::Connected { at_ms } => {
                row.status = HostStatus::Active;
                row.last_connected_ms = Some(*at_ms);
                row.last_error = None;
                row.failures = 0;
            }
            State::Idle { why } => {
                row.status = HostStatus::Idle;
                row.last_error = Some(why.clone());
            }
            State::BackingOff { why, failures, .. } => {
                row.last_error = Some(why.clone());
                row.failures = *failures;
            }
            State::Offline { why, failures, .. } => {
                row.status = HostStatus::Offline;
                row.last_error = Some(why.clone());
                row.failures = *failures;
            }
        }
        host.state = Some(report.state);
        self.table.put(row, host.state.as_ref());
        if let Err(error) = self.control.update_host(&host.row) {
            log::error!("host={} can not keep its state: {error}", host.row.name);
        }
    }

    /// One line for all hosts; each of them would be too many.
    fn log_summary(&self) {
        let metrics = &self.shared.metrics;
        let offline = |host: &&Host| host.row.status == HostStatus::Offline;
        log::info!(
            "hosts known={} connected={} offline={} seq={} rejected={} subscribers={}",
            self.hosts.len(),
            metrics.hosts_connected.get(),
            self.hosts.values().filter(offline).count(),
            metrics.last_seq.get(),
            metrics.rejected.total(),
            metrics.subscribers.get(),
        );
    }
}

impl Host {
    /// Says what an operator wants to know of a host: that it is there for the first time, that it
    /// fails and goes on failing, and that it is back. Single connections are for `debug`.
    fn log_change(&mut self, state: &State) {
        let name = &self.row.name;
        match state {
            State::Connected { .. } => {
                if self.row.last_connected_ms.is_none() {
                    log::info!("host={name} connected for the first time");
                } else if self.in_trouble {
                    log::info!("host={name} connected again");
                }
                self.in_trouble = false;
            }
            State::BackingOff { why, failures, .. } | State::Offline { why, failures, .. } => {
                if *failures >= HOST_FAILURES_LOGGED && !self.in_trouble {
                    self.in_trouble = true;
                    log::info!("host={name} fails failures={failures}: {why}");
                }
            }
            State::Idle { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{
        config::Cli,
        control::embedded::Embedded,
        identity::Directory,
        metrics::Metrics,
        outbound::Outbound,
        sequencer::Sequencer,
        store::Options,
        threads::{panics, stop_pair},
    };

    #[test]
    fn a_host_whose_thread_panicked_is_listened_to_again() {
        let dir = tempfile::tempdir().unwrap();
        let config = Cli::parse_from(["zlay", "--allow-private-hosts", "true"]).config;
        let metrics = Arc::new(Metrics::default());
        let store = Arc::new(Store::open(dir.path(), Options::default()).unwrap());
        let control = Arc::new(Embedded::open(dir.path()).unwrap());
        let outbound = Outbound::new(&config).unwrap();
        let (stopper, stop) = stop_pair();
        let (directory, resolvers) =
            Directory::start(&config, outbound.clone(), metrics.clone(), stop.clone()).unwrap();
        let (_sequencer, inbox) =
            Sequencer::new(store.clone(), Box::new(|_| {}), metrics.clone()).unwrap();
        let shared = Shared::new(inbox, directory, outbound, metrics, stop, false, 512 << 10);
        let (mut crawler, _handle) = Crawler::new(shared, control, store);

        // Nobody listens there: its thread waits between attempts.
        let endpoint = Endpoint::parse("http://localhost:1").unwrap();
        assert_eq!(crawler.crawl(&endpoint, Start::Live), CrawlAnswer::Started);
        let id = crawler.names[&endpoint.host];
        let before = panics();
        let panicking = threads::spawn(Role::Host, "test", 512 << 10, || panic!("on purpose"));
        let host = crawler.hosts.get_mut(&id).unwrap();
        host.plug.pull();
        let old = std::mem::replace(&mut host.thread, panicking.unwrap());
        while !crawler.hosts[&id].thread.is_finished() {
            std::thread::yield_now();
        }
        assert!(panics() > before);
        crawler.revive();
        assert!(!crawler.hosts[&id].thread.is_finished());
        assert_eq!(crawler.crawl(&endpoint, Start::Live), CrawlAnswer::Retrying);
        drop(stopper);
        drop((old, crawler, resolvers));
    }
}
