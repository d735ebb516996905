//! The crawler: owns the set of hosts, starts and stops their threads, keeps their rows.

mod decide;
mod host;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, thread::ThreadId};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick, unbounded};

use self::host::{Host, Running};
use super::{
    Shared,
    decision::{Decision, DecisionError},
    dial::Plug,
    lane::Lane,
    now_ms,
    quota::{Quota, Span, Throttled},
    table::HostTable,
    thread::{HostThread, Start},
};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    control::{Control, ControlError, HostRow, HostStatus},
    limits::{HOST_ACCOUNTS_INTERVAL, HOST_REPORT_INTERVAL, HOST_REVIVE_INTERVAL},
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
    /// The thread of this number ends: this is its last word.
    Ended(ThreadId),
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

impl Crawler {
    /// A crawler that knows the hosts and the bans of the control store, and how to ask it.
    pub fn new(
        shared: Arc<Shared>,
        control: Arc<dyn Control>,
        store: Arc<Store>,
    ) -> Result<(Crawler, CrawlerHandle), ControlError> {
        // Nothing waits in a queue whose end would not be noticed: who asks is answered, or told that
        // there is no crawler any more.
        let (sender, commands) = bounded(0);
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
                    Ok(Report { id, news: News::Ended(thread) }) => self.has_left(id, thread),
                    Err(_) => break,
                },
                recv(rounds) -> _ => self.revive(),
                recv(summaries) -> _ => self.log_summary(),
                recv(counts) -> _ => self.hosts.values().for_each(|host| self.count_accounts(host)),
                recv(stop.channel()) -> _ => break,
            }
        }
        // Who asks from here on is refused, as nobody is left to answer.
        self.commands = never();
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
        let host = Host::new(row, &self.shared.policy);
        self.hosts.insert(id, host);
        id
    }

    /// Starts the thread of a host of which none runs, unless it is banned; false where that fails.
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
        if std::mem::take(&mut host.silenced) {
            // After everything that was on its way of it.
            let banned = false;
            let _ = self.shared.inbox.send(Input::Ban { host: id, banned });
        }
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
                let running = Running {
                    lane,
                    plug,
                    retry,
                    thread,
                };
                if let Some(ended) = host.running.replace(running) {
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
            if host.running.is_some() {
                let name = &host.row.name;
                log::warn!("host={name} its thread has ended and is started anew");
            }
            host.leaving = None;
            self.start(id, Start::Live);
        }
    }

    /// A thread of a host has ended. If it is the one that was let go, the host may be wanted again
    /// meanwhile.
    fn has_left(&mut self, id: HostId, thread: ThreadId) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        if host
            .leaving
            .as_ref()
            .is_some_and(|left| left.id() == Some(thread))
        {
            host.leaving = None;
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
        if !host.note(state) {
            return;
        }
        self.table.put(&host.row, host.state.as_ref());
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
