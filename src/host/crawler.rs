//! The crawler: owns the set of hosts, starts and stops their threads, keeps their rows.

mod decide;
mod host;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread::ThreadId,
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, tick, unbounded};

use self::host::{Host, Running};
use super::{
    Shared,
    decision::{Decision, DecisionError, Place},
    dial::Plug,
    lane::Lane,
    now_ms,
    policy::Policy,
    quota::{Quota, Throttled},
    rush::Rush,
    state::State,
    table::HostTable,
    thread::{HostThread, Start},
};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    control::{
        Control, ControlError, HostRow, HostStatus, HostTerms, Source,
        domain::Domain,
        keeper::{Keeper, Keeping},
        settings::Settings,
    },
    limits::{
        HOST_ACCOUNTS_INTERVAL, HOST_REPORT_INTERVAL, HOST_REVIVE_INTERVAL, HOST_SEEN_INTERVAL,
    },
    logging,
    memory::stacks::Shedding,
    sequencer::event::Input,
    store::{Store, account::HostId},
    threads::{self, Role, Thread},
};

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
    AlreadyConnected {
        /// Since when, in milliseconds since 1970.
        since_ms: u64,
    },
    /// It is known and was waiting; it is tried now.
    Retrying,
    /// It is known, was tried only just now, and waits.
    BackingOff {
        /// For the next attempt, which is due then, in milliseconds since 1970.
        until_ms: u64,
    },
    /// The operator has banned it.
    Banned,
    /// The control store can not take it now; the text is for the log.
    Unavailable(String),
    /// The control store or the operating system would not have it; the text is for the log.
    Failed(String),
}

/// What the crawler is to do. What must outlast it is kept already.
pub(super) enum Order {
    /// A host is to be listened to, as somebody asks for it; it may be known.
    Crawl(HostRow, Start, Source),
    /// The operator has said this of a host.
    Terms(HostId, HostTerms),
    /// A domain is banned, or no longer.
    Domain(Domain, bool),
    /// The limits of all hosts are these.
    Settings(Settings),
    /// The connection of a host is to be ended, and made anew.
    Disconnect(HostId),
    /// A host is to be read from another place.
    Reset(HostId, Place),
}

/// An order, and who waits until it is carried out.
type Command = (Order, Sender<CrawlAnswer>);

/// Asks the crawler; cheap to clone.
#[derive(Clone)]
pub struct CrawlerHandle {
    commands: Sender<Command>,
    table: Arc<HostTable>,
    policy: Arc<Policy>,
    control: Arc<dyn Control>,
    /// One decision after the other: they are in force in the order in which they are kept.
    deciding: Arc<Mutex<()>>,
}

impl CrawlerHandle {
    /// What is known of the hosts, without asking.
    pub fn table(&self) -> &Arc<HostTable> {
        &self.table
    }

    /// What holds for all hosts.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Crawls a host that was admitted: starts it, or tries it now if it waits.
    pub fn crawl(&self, endpoint: &Endpoint, start: Start, source: Source) -> CrawlAnswer {
        match self.row(endpoint, source) {
            Ok(row) => self.send(Order::Crawl(row, start, source)),
            Err(answer) => answer,
        }
    }

    /// The row of a host, which is made where there is none. This may wait for the control store, so
    /// that the crawler never does.
    pub(super) fn row(&self, endpoint: &Endpoint, source: Source) -> Result<HostRow, CrawlAnswer> {
        if self.table.is_banned(&endpoint.host) {
            return Err(CrawlAnswer::Banned);
        }
        if let Some(entry) = self.table.get(&endpoint.host) {
            return Ok(entry.row);
        }
        let added = self.control.add_host(endpoint, source, now_ms());
        added.map_err(|error| match error {
            ControlError::Unavailable(_) => CrawlAnswer::Unavailable(error.to_string()),
            _ => CrawlAnswer::Failed(error.to_string()),
        })
    }

    /// Keeps a decision of the operator and puts it into force; returns when it is.
    pub fn decide(&self, decision: &Decision) -> Result<(), DecisionError> {
        let _turn = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let order = self.keep(decision)?;
        match self.send(order) {
            CrawlAnswer::Failed(error) => Err(DecisionError::Failed(error)),
            _ => Ok(()),
        }
    }

    fn send(&self, order: Order) -> CrawlAnswer {
        let (answer, answered) = bounded(1);
        let sent = self.commands.send((order, answer));
        let answer = sent.ok().and_then(|()| answered.recv().ok());
        answer.unwrap_or_else(|| CrawlAnswer::Failed("the relay is stopping".into()))
    }
}

/// The crawler itself, run by its own thread. It waits for no database and for no host.
pub struct Crawler {
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    store: Arc<Store>,
    commands: Receiver<Command>,
    reports: (Sender<Report>, Receiver<Report>),
    hosts: HashMap<HostId, Host>,
    names: HashMap<Hostname, HostId>,
    table: Arc<HostTable>,
    /// Why hosts are not asked for what was missed of them, if they are not.
    passes_over: Option<String>,
}

impl Crawler {
    /// A crawler that knows the hosts and the bans of the control store, and how to ask it.
    pub fn new(
        shared: Arc<Shared>,
        keeping: Keeping,
        store: Arc<Store>,
    ) -> Result<(Crawler, CrawlerHandle), ControlError> {
        let Keeping { control, keeper } = keeping;
        // Nothing waits in a queue whose end would not be noticed: who asks is answered, or told that
        // there is no crawler any more.
        let (sender, commands) = bounded(0);
        let table = Arc::new(HostTable::default());
        let mut crawler = Crawler {
            shared: shared.clone(),
            keeper,
            store,
            commands,
            reports: unbounded(),
            hosts: HashMap::new(),
            names: HashMap::new(),
            table: table.clone(),
            passes_over: None,
        };
        // Before anybody can ask: nobody is to see fewer hosts, or fewer bans, than there are.
        for ban in control.bans()? {
            table.set_banned(&ban.domain, true);
        }
        for row in control.hosts()? {
            crawler.add(row);
        }
        let handle = CrawlerHandle {
            commands: sender,
            table,
            policy: shared.policy.clone(),
            control,
            deciding: Arc::default(),
        };
        Ok((crawler, handle))
    }

    /// Hosts are read from now on, and not from where they were read up to, for this reason.
    pub fn pass_over(&mut self, why: String) {
        self.passes_over = Some(why);
    }

    /// Starts every host, then works until the stop is asked for; returns when all host threads
    /// have ended.
    pub fn run(mut self) {
        log::info!(known = self.hosts.len(); "hosts are started");
        let mut known: Vec<HostId> = self.hosts.keys().copied().collect();
        known.sort_unstable();
        let first = match self.passes_over.take() {
            Some(why) => Start::PassOver(why.into()),
            None => Start::Live,
        };
        for id in known {
            self.tell_account_limit(id);
            self.start(id, first.clone());
        }
        let stop = self.shared.stop.clone();
        let rounds = tick(HOST_REVIVE_INTERVAL);
        let summaries = tick(HOST_REPORT_INTERVAL);
        let counts = tick(HOST_ACCOUNTS_INTERVAL);
        let sightings = tick(HOST_SEEN_INTERVAL);
        loop {
            select! {
                recv(self.commands) -> command => match command {
                    Ok((order, answer)) => {
                        // Who asked may have gone.
                        let _ = answer.send(self.obey(order));
                    }
                    Err(_) => break,
                },
                recv(self.reports.1) -> report => match report {
                    Ok(Report { id, news: News::State(state) }) => self.note(id, state),
                    Ok(Report { id, news: News::Ended(thread) }) => self.has_left(id, thread),
                    Err(_) => break,
                },
                recv(rounds) -> _ => self.revive(),
                recv(summaries) -> _ => self.log_summary(),
                recv(counts) -> _ => self.count_accounts(),
                recv(sightings) -> _ => self.note_sightings(),
                recv(stop.channel()) -> _ => break,
            }
        }
        // Who asks from here on is refused, as nobody is left to answer.
        self.commands = never();
        self.note_sightings();
        // Every connection is ended before the first thread is waited for.
        for running in self.hosts.values().filter_map(|host| host.running.as_ref()) {
            running.plug.pull();
            running.lane.close();
        }
        self.hosts.clear();
    }

    fn crawl(&mut self, row: HostRow, start: Start, source: Source) -> CrawlAnswer {
        if self.table.is_banned(&row.name) {
            return CrawlAnswer::Banned;
        }
        let id = row.id;
        if !self.hosts.contains_key(&id) {
            self.add(row);
            self.tell_account_limit(id);
        }
        let host = self.hosts.get_mut(&id);
        if let Some(answer) = host.and_then(|host| host.wake(source)) {
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
        self.names.insert(row.name.clone(), id);
        logging::name_host(id, row.name.as_str());
        let host = Host::new(row, &self.shared.policy);
        self.table.put(&host.row, None);
        self.hosts.insert(id, host);
        id
    }

    /// Starts the thread of a host of which none runs, unless it is banned; false where that fails.
    fn start(&mut self, id: HostId, start: Start) -> bool {
        let Some(host) = self.hosts.get_mut(&id) else {
            return false;
        };
        let name = &host.row.name.clone();
        if self.table.is_banned(name) || host.leaving.is_some() {
            return false;
        }
        let start = host.reset.take().unwrap_or(start);
        let record = match self.store.host(id) {
            Ok(record) => record.unwrap_or_default(),
            Err(error) => {
                log::error!(host:% = name, error:% = error; "the cursor of a host can not be read");
                return false;
            }
        };
        // A host that has announced itself and was not heard yet is heard from the beginning, also
        // after a restart and after a ban.
        let announced = host.row.source != Source::Discovery;
        let start = match start {
            Start::Live if announced && record.cursor == 0 && record.epoch == 0 => Start::Oldest,
            start => start,
        };
        host.set_accounts(&self.shared.policy, record.accounts);
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
            chatter: Quota::default(),
            rush: Rush::new(Instant::now()),
            throttled: Throttled::default(),
            connected_ms: 0,
            could_not_connect: false,
            shedding: Shedding::new(Role::Host),
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
                log::error!(host:% = name, error:% = error; "no thread for a host");
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
                log::warn!(host:% = name; "the thread of a host has ended and is started anew");
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
    fn count_accounts(&mut self) {
        for host in self.hosts.values_mut() {
            if let Ok(Some(record)) = self.store.host(host.row.id) {
                host.set_accounts(&self.shared.policy, record.accounts);
            }
        }
    }

    /// Keeps what a host's thread tells of itself.
    fn note(&mut self, id: HostId, state: State) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let now_ms = now_ms();
        if host.note(state, now_ms) {
            if let Some(state) = &host.state {
                self.table.note(id, state, now_ms);
            }
            self.table.put(&host.row, host.state.as_ref());
            self.keeper.observed(id, host.row.observed.clone());
        }
    }

    /// Notes when the hosts were last connected that are connected now.
    fn note_sightings(&mut self) {
        let now_ms = now_ms();
        for (id, host) in &mut self.hosts {
            if host.is_connected() {
                host.row.observed.last_seen_ms = Some(now_ms);
                self.table.put(&host.row, host.state.as_ref());
                self.keeper.observed(*id, host.row.observed.clone());
            }
        }
    }

    /// One line for all hosts; each of them would be too many.
    fn log_summary(&self) {
        let metrics = &self.shared.metrics;
        let offline = |host: &&Host| host.row.status() == HostStatus::Offline;
        log::info!(
            known = self.hosts.len(),
            connected = metrics.hosts_connected.get(),
            offline = self.hosts.values().filter(offline).count(),
            seq = metrics.last_seq.get(),
            rejected = metrics.rejected.total(),
            subscribers = metrics.subscribers.get();
            "how it goes"
        );
    }
}
