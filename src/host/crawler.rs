//! The crawler: owns the set of hosts, starts and stops their threads, keeps their rows.

mod decide;

use std::{collections::HashMap, sync::Arc};

use crossbeam_channel::{Receiver, Sender, bounded, select, tick, unbounded};

use super::{
    Shared,
    decision::{Decision, DecisionError},
    dial::Plug,
    lane::Lane,
    now_ms,
    quota::{Quota, Span, Throttled},
    table::HostTable,
    terms::Terms,
    thread::{HostThread, Start},
};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    control::{Control, ControlError, HostRow, HostStatus},
    limits::{
        HOST_ACCOUNTS_INTERVAL, HOST_FAILURES_LOGGED, HOST_REPORT_INTERVAL, HOST_REVIVE_INTERVAL,
    },
    sequencer::event::Input,
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
    /// Connected, and over a limit: its events are delayed.
    Throttled {
        /// Connected since then, in milliseconds since 1970.
        at_ms: u64,
        /// The limit.
        span: Span,
        /// When the next event may be taken, in milliseconds since 1970.
        until_ms: u64,
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

/// What the thread of a host tells.
#[derive(Debug)]
pub struct Report {
    pub(super) id: HostId,
    pub(super) news: News,
}

/// The thread of a host has something to say.
#[derive(Debug)]
pub(super) enum News {
    /// How the host does.
    State(State),
    /// The thread ends: this is its last word.
    Ended,
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
    Decide {
        decision: Decision,
        answer: Sender<Result<(), DecisionError>>,
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

    /// Puts a decision of the operator into force; returns when it is.
    pub fn decide(&self, decision: Decision) -> Result<(), DecisionError> {
        let (answer, answered) = bounded(1);
        let sent = self.commands.send(Command::Decide { decision, answer });
        let answer = sent.ok().and_then(|()| answered.recv().ok());
        answer.unwrap_or_else(|| Err(DecisionError::Failed("the relay is stopping".into())))
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
    terms: Arc<Terms>,
    /// Who listens to it; none while it is banned, or where there was no thread for it.
    running: Option<Running>,
    /// Who listened to it before it was banned, and has not ended yet.
    leaving: Option<Thread>,
}

struct Running {
    lane: Arc<Lane>,
    plug: Arc<Plug>,
    retry: Sender<()>,
    thread: Thread,
}

impl Crawler {
    /// A crawler that knows the hosts and the bans of the control store, and how to ask it.
    pub fn new(
        shared: Arc<Shared>,
        control: Arc<dyn Control>,
        store: Arc<Store>,
    ) -> Result<(Crawler, CrawlerHandle), ControlError> {
        let (sender, commands) = bounded(64);
        let reports = unbounded();
        let (hosts, names) = (HashMap::new(), HashMap::new());
        let table = Arc::new(HostTable::default());
        let handle = CrawlerHandle {
            commands: sender,
            table: table.clone(),
        };
        let mut crawler = Crawler {
            shared,
            control,
            store,
            commands,
            reports,
            hosts,
            names,
            table,
        };
        // Before anybody can ask: nobody is to see fewer hosts, or fewer bans, than there are.
        for domain in crawler.control.banned_domains()? {
            crawler.table.set_banned(&domain, true);
        }
        for row in crawler.control.hosts()? {
            crawler.add(row);
        }
        Ok((crawler, handle))
    }

    /// Starts every host, then works until the stop is asked for; returns when all host threads
    /// have ended.
    pub fn run(mut self) {
        log::info!("hosts known={}", self.hosts.len());
        let mut known: Vec<HostId> = self.hosts.keys().copied().collect();
        known.sort_unstable();
        for id in known {
            self.tell_account_limit(id);
            self.start(id, Start::Live);
        }
        let stop = self.shared.stop.clone();
        let rounds = tick(HOST_REVIVE_INTERVAL);
        let summaries = tick(HOST_REPORT_INTERVAL);
        let counts = tick(HOST_ACCOUNTS_INTERVAL);
        loop {
            select! {
                recv(self.commands) -> command => match command {
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                },
                recv(self.reports.1) -> report => match report {
                    Ok(Report { id, news: News::State(state) }) => self.note(id, state),
                    Ok(Report { id, news: News::Ended }) => self.has_left(id),
                    Err(_) => break,
                },
                recv(rounds) -> _ => self.revive(),
                recv(summaries) -> _ => self.log_summary(),
                recv(counts) -> _ => self.hosts.values().for_each(|host| self.count_accounts(host)),
                recv(stop.channel()) -> _ => break,
            }
        }
        // Every connection is ended before the first thread is waited for.
        for running in self.hosts.values().filter_map(|host| host.running.as_ref()) {
            running.plug.pull();
            running.lane.close();
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
            Command::Decide { decision, answer } => {
                let _ = answer.send(self.decide(decision));
            }
        }
    }

    fn crawl(&mut self, endpoint: &Endpoint, start: Start) -> CrawlAnswer {
        if self.table.is_banned(&endpoint.host) {
            return CrawlAnswer::Banned;
        }
        let id = match self.names.get(&endpoint.host) {
            Some(id) => *id,
            None => match self.control.add_host(endpoint, now_ms()) {
                Ok(row) => {
                    let id = self.add(row);
                    self.tell_account_limit(id);
                    id
                }
                Err(error) => return CrawlAnswer::Failed(error.to_string()),
            },
        };
        if let Some(answer) = self.hosts.get(&id).and_then(Host::wake) {
            return answer;
        }
        match self.start(id, start) {
            true => CrawlAnswer::Started,
            false => CrawlAnswer::Failed("no thread for it could be started".into()),
        }
    }

    /// Takes a host of the control store into the set; it is not started by that.
    fn add(&mut self, row: HostRow) -> HostId {
        let id = row.id;
        self.table.put(&row, None);
        self.names.insert(row.name.clone(), id);
        let host = Host {
            terms: Arc::new(Terms::new(&self.shared.policy, &row)),
            row,
            state: None,
            in_trouble: false,
            running: None,
            leaving: None,
        };
        self.hosts.insert(id, host);
        id
    }

    /// Starts the thread of a host that has none, unless it is banned; false where that fails.
    fn start(&mut self, id: HostId, start: Start) -> bool {
        let Some(host) = self.hosts.get_mut(&id) else {
            return false;
        };
        let name = &host.row.name;
        if self.table.is_banned(name) || host.leaving.is_some() {
            return false;
        }
        let record = match self.store.host(id) {
            Ok(record) => record.unwrap_or_default(),
            Err(error) => {
                log::error!("host={name} can not read its cursor: {error}");
                return false;
            }
        };
        host.terms.set_accounts(record.accounts);
        let lane = Lane::new(
            self.shared.clone(),
            id,
            name.clone(),
            host.terms.clone(),
            record.epoch,
            record.cursor,
        );
        let plug = Arc::new(Plug::default());
        let (retry, retried) = bounded(1);
        let thread = HostThread {
            shared: self.shared.clone(),
            id,
            endpoint: host.row.endpoint(),
            start,
            terms: host.terms.clone(),
            lane: lane.clone(),
            plug: plug.clone(),
            retry: retried,
            reports: self.reports.0.clone(),
            quota: Quota::default(),
            throttled: Throttled::default(),
            connected_ms: 0,
        };
        let stack = self.shared.policy.stack_bytes;
        match threads::spawn(Role::Host, name.as_str(), stack, move || thread.run()) {
            Ok(thread) => {
                host.running = Some(Running {
                    lane,
                    plug,
                    retry,
                    thread,
                });
                true
            }
            Err(error) => {
                log::error!("host={name} no thread for it: {error}");
                false
            }
        }
    }

    /// Starts threads anew that a panic has ended, and those for which there was none. What they
    /// had read or parked and not handed on is behind the stored cursor, and is asked for again.
    fn revive(&mut self) {
        let ended = |host: &Host| match (&host.running, &host.leaving) {
            (Some(running), _) => running.thread.is_finished(),
            (None, leaving) => leaving.as_ref().is_none_or(Thread::is_finished),
        };
        let hosts = self.hosts.iter().filter(|(_, host)| ended(host));
        let due: Vec<HostId> = hosts.map(|(id, _)| *id).collect();
        for id in due {
            let Some(host) = self.hosts.get_mut(&id) else {
                continue;
            };
            if let Some(running) = host.running.take() {
                let name = &host.row.name;
                log::warn!("host={name} its thread has ended and is started anew");
                running.lane.close();
            }
            host.leaving = None;
            self.start(id, Start::Live);
        }
    }

    /// The thread of a host that was let go has ended. The host may be wanted again meanwhile.
    fn has_left(&mut self, id: HostId) {
        let left = self.hosts.get_mut(&id).and_then(|host| host.leaving.take());
        if left.is_some() {
            drop(left);
            self.start(id, Start::Live);
        }
    }

    /// Tells the sequencer how many accounts a host may have.
    fn tell_account_limit(&self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else {
            return;
        };
        let limit = self.shared.policy.account_limit(&host.row);
        // Without a sequencer there are no accounts any more.
        let _ = self
            .shared
            .inbox
            .send(Input::AccountLimit { host: id, limit });
    }

    /// The limits of a host grow with its accounts.
    fn count_accounts(&self, host: &Host) {
        if let Ok(Some(record)) = self.store.host(host.row.id) {
            host.terms.set_accounts(record.accounts);
        }
    }

    /// Keeps what a host's thread tells of itself.
    fn note(&mut self, id: HostId, state: State) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        // What the thread of a host that was banned says is over.
        if host.running.is_none() {
            return;
        }
        host.log_change(&state);
        let row = &mut host.row;
        match &state {
            State::Connected { at_ms } => {
                row.status = HostStatus::Active;
                row.last_connected_ms = Some(*at_ms);
                row.last_error = None;
                row.failures = 0;
            }
            State::Throttled { .. } => row.status = HostStatus::Throttled,
            State::Idle { why } => {
                row.status = HostStatus::Idle;
                row.last_error = Some(why.clone());
            }
            State::BackingOff { why, failures, .. } => {
                if row.status == HostStatus::Throttled {
                    row.status = HostStatus::Active;
                }
                row.last_error = Some(why.clone());
                row.failures = *failures;
            }
            State::Offline { why, failures, .. } => {
                row.status = HostStatus::Offline;
                row.last_error = Some(why.clone());
                row.failures = *failures;
            }
        }
        host.state = Some(state);
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
            State::Throttled { .. } | State::Idle { .. } => {}
        }
    }

    /// Sees to it that the host is tried soon; nothing where it has no thread.
    fn wake(&self) -> Option<CrawlAnswer> {
        if self.leaving.is_some() {
            return Some(CrawlAnswer::Retrying);
        }
        let running = self.running.as_ref();
        let running = running.filter(|running| !running.thread.is_finished())?;
        if matches!(
            self.state,
            Some(State::Connected { .. } | State::Throttled { .. })
        ) {
            return Some(CrawlAnswer::AlreadyConnected);
        }
        // One wake-up is enough, and it may be there already.
        let _ = running.retry.try_send(());
        Some(CrawlAnswer::Retrying)
    }

    /// Ends the connection at once: nothing more of the host is handed on.
    fn end(&mut self) {
        self.state = None;
        if let Some(running) = self.running.take() {
            running.lane.silence();
            running.plug.pull();
            // Its thread ends by itself, and is not waited for: it may be connecting.
            self.leaving = Some(running.thread);
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
        host::terms::Policy,
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
        let policy = Policy::new(&config);
        let shared = Shared::new(inbox, directory, outbound, metrics, stop, policy);
        let (mut crawler, _handle) = Crawler::new(shared, control, store).unwrap();

        // Nobody listens there: its thread waits between attempts.
        let endpoint = Endpoint::parse("http://localhost:1").unwrap();
        assert_eq!(crawler.crawl(&endpoint, Start::Live), CrawlAnswer::Started);
        let id = crawler.names[&endpoint.host];
        let is_finished = |crawler: &Crawler| {
            crawler.hosts[&id]
                .running
                .as_ref()
                .unwrap()
                .thread
                .is_finished()
        };
        let before = panics();
        let panicking = threads::spawn(Role::Host, "test", 512 << 10, || panic!("on purpose"));
        let host = crawler.hosts.get_mut(&id).unwrap();
        let running = host.running.as_mut().unwrap();
        running.plug.pull();
        let old = std::mem::replace(&mut running.thread, panicking.unwrap());
        while !is_finished(&crawler) {
            std::thread::yield_now();
        }
        assert!(panics() > before);
        crawler.revive();
        assert!(!is_finished(&crawler));
        assert_eq!(crawler.crawl(&endpoint, Start::Live), CrawlAnswer::Retrying);
        drop(stopper);
        drop((old, crawler, resolvers));
    }
}
