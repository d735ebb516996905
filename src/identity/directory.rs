//! The directory of identities: a cache, and threads that look up what it does not know.

use std::{
    collections::HashSet,
    fmt, io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam_channel::{Sender, bounded};

use super::{
    allowance::{Allowance, Rates},
    cache::{Cache, Known},
    document::Identity,
    fetch::{Fetched, fetch},
    lookups::{Doubt, Lookups, Next},
    witness::{Honesty, Witnesses},
};
use crate::{
    atproto::{
        did::{Did, Method},
        hostname::Hostname,
    },
    config::Config,
    limits,
    metrics::{
        Metrics,
        labels::{DidMethod, LookupResult},
        micros,
    },
    outbound::Outbound,
    reject::Reject,
    threads::{self, Role, Stop, Thread},
};

mod doubt;
mod timer;

/// What is known of an identity.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// This; possibly a document that could not be refreshed.
    Found(Arc<Identity>),
    /// There is none, conclusively.
    Missing(Missing),
    /// Whoever should have the document has not answered for a long time.
    Unreachable,
}

/// Why there is no identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The DID is not registered, or no longer; or there is no such host.
    NotFound,
    /// The DID's method, or the host that it names, is none that this network uses.
    Unsupported,
    /// What is served is not the DID's document.
    BadDocument,
}

impl Missing {
    /// As the reason for which an event is refused.
    pub fn reject(self) -> Reject {
        match self {
            Missing::NotFound => Reject::IdentityNotFound,
            Missing::Unsupported => Reject::DidMethodUnsupported,
            Missing::BadDocument => Reject::IdentityInvalid,
        }
    }
}

/// Whether the cache may answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// It had no answer; should it have one by now, that will do.
    Miss,
    /// It had one, which may be outdated: the document is fetched anew, and the old one does not
    /// serve while the directory does not answer. A refusal that an old document gives rise to
    /// would be final, and may be wrong.
    Forced,
}

/// Too many forced lookups, of this account or by this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimited;

impl fmt::Display for RateLimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many forced lookups")
    }
}

impl std::error::Error for RateLimited {}

/// Waits for a lookup.
pub trait Waiter: Send + Sync {
    /// Called once, from a resolver thread that holds no lock, possibly before
    /// [`Directory::request`] has returned. Lookups wait for that thread, so this must not block
    /// for long. It may request the same DID again, which never blocks here, but no other.
    fn resolved(&self, did: &Did, outcome: &Outcome);

    /// Whether there is nobody left who waits, so that it need not be called: a directory that is
    /// down for hours must not collect the waiters of connections that have ended.
    fn is_gone(&self) -> bool {
        false
    }
}

/// Milliseconds since 1970.
pub(super) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The cache and the queue of lookups, shared by all threads.
pub struct Directory {
    outbound: Outbound,
    metrics: Arc<Metrics>,
    clock: Clock,
    cache: Cache,
    state: Mutex<State>,
    /// Locked while a witness is asked for.
    honesty: Mutex<Honesty>,
    /// There is something to look up, or the relay stops.
    work: Condvar,
    /// The queue has room again, or the relay stops.
    room: Condvar,
    /// The time of the next attempt has changed.
    delayed: Sender<()>,
}

/// The cache is written only while this is locked, so that a purge, and the lookup that it
/// outdates, see each other.
struct State {
    lookups: Lookups<Arc<dyn Waiter>>,
    refreshes: Allowance,
    purges: Allowance,
    hosts: Hosts,
    witnesses: Witnesses,
    /// Requests that wait for room.
    blocked: usize,
    /// When the timer looks again, as it has said.
    timer_due: Option<u64>,
    stopped: bool,
}

/// The names of hosts that documents have, each once in memory: millions of accounts are on
/// thousands of hosts.
#[derive(Default)]
struct Hosts(HashSet<Hostname>);

impl Hosts {
    /// The one copy of a name.
    fn one(&mut self, host: Hostname) -> Hostname {
        if let Some(known) = self.0.get(&host) {
            return known.clone();
        }
        // Documents can be made up, and then so are the names in them.
        if self.0.len() >= limits::IDENTITY_HOSTS_MAX {
            self.0.clear();
        }
        self.0.insert(host.clone());
        host
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("cached", &self.cache.len())
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// Starts the resolver threads. With `stop` they end at once: the requests of `outbound` that
    /// are under way are aborted (only a name that is being resolved is waited for, up to
    /// [`limits::IDENTITY_LOOKUP_TIMEOUT`]), and who waits is dropped without a call.
    pub fn start(
        config: &Config,
        outbound: Outbound,
        metrics: Arc<Metrics>,
        stop: Stop,
    ) -> io::Result<(Arc<Directory>, Vec<Thread>)> {
        Directory::start_with_clock(config, outbound, metrics, stop, steady_clock())
    }

    pub(super) fn start_with_clock(
        config: &Config,
        outbound: Outbound,
        metrics: Arc<Metrics>,
        stop: Stop,
        clock: Clock,
    ) -> io::Result<(Arc<Directory>, Vec<Thread>)> {
        // Hosts of `did:web` are anybody's: they have threads of their own to be slow with.
        let plc = usize::from(config.resolver_threads);
        let web = (plc / 2).max(1);
        let (delayed, wakes) = bounded(1);
        let directory = Arc::new(Directory {
            outbound,
            metrics,
            clock,
            cache: Cache::new(config.identity_cache_size as usize),
            state: Mutex::new(State {
                lookups: Lookups::new(plc, web),
                refreshes: Allowance::of_refreshes(),
                purges: Allowance::of_purges(),
                hosts: Hosts::default(),
                witnesses: Witnesses::default(),
                blocked: 0,
                timer_due: None,
                stopped: false,
            }),
            honesty: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            delayed,
        });
        let stack = limits::SERVICE_STACK_BYTES;
        let timer = directory.clone();
        let mut threads = vec![threads::spawn(Role::Resolver, "timer", stack, move || {
            timer.run_timer(&stop, &wakes);
        })?];
        for n in 0..plc + web {
            let resolver = directory.clone();
            let body = move || resolver.run_resolver();
            match threads::spawn(Role::Resolver, &n.to_string(), stack, body) {
                Ok(thread) => threads.push(thread),
                Err(e) => {
                    // Dropping the others waits for them.
                    directory.stop();
                    return Err(e);
                }
            }
        }
        Ok((directory, threads))
    }

    /// The directory may be asked so often from now on.
    pub fn set_rates(&self, rates: Rates) {
        let mut state = self.lock();
        let account = Some(rates.refreshes_of_account);
        state.refreshes.set(rates.refreshes_of_host, account);
        state.purges.set(rates.purges_of_host, None);
    }

    /// The directory has known these accounts: should it not do so any more, it is not believed that
    /// others do not exist.
    pub fn add_witnesses<'a>(&self, dids: impl IntoIterator<Item = &'a Did>) {
        let mut state = self.lock();
        dids.into_iter().for_each(|did| state.witnesses.add(did));
    }

    /// What is known without waiting. A stale document is refreshed in the background and used
    /// meanwhile. Nothing is returned where a lookup is needed.
    pub fn cached(&self, did: &Did) -> Option<Outcome> {
        if did.method() == Method::Unsupported {
            return Some(Outcome::Missing(Missing::Unsupported));
        }
        let now = (self.clock)();
        match self.cache.get(did, now) {
            Known::Fresh(outcome) => Some(outcome),
            Known::Stale(outcome) => {
                self.refresh(did, now);
                Some(outcome)
            }
            Known::Nothing => None,
        }
    }

    /// Keeps a document as if it had just been fetched. For the benchmarks, which need hundreds of
    /// thousands of them.
    #[doc(hidden)]
    pub fn remember(&self, did: &Did, identity: Identity) {
        let mut state = self.lock();
        self.keep_found(&mut state, did, identity, Doubt::None, (self.clock)());
    }

    /// Believes nothing of `did` any more, because of an `#identity` event of `host`: the next use
    /// asks anew, and no lookup that is already under way counts. A document that was good still
    /// serves while the directory does not answer.
    ///
    /// Of too many such events, of the account or of the host, those beyond are put off: the document
    /// stays in use for a while, but nothing is refused by it before the directory was asked again.
    pub fn purge(&self, did: &Did, host: &Hostname) {
        let mut state = self.lock();
        let now = (self.clock)();
        if !state.lookups.is_running(did) && !self.cache.can_be_purged(did, now) {
            return;
        }
        let due = state.purges.reserve(did, host, now);
        if due <= now {
            state.lookups.purge(did);
            self.cache.purge(did);
        } else {
            self.metrics.identity_put_off.inc();
            state.lookups.put_off(did, due);
            self.cache.put_off(did, due);
        }
    }

    /// Queues a lookup of `did` on behalf of `host`; `waiter` is called with what comes of it,
    /// after those who asked before. Lookups of one DID are made together. Blocks while too many
    /// wait ([`limits::IDENTITY_QUEUE_MAX`]).
    /// When the relay stops, or the waiter says that it is gone, it is dropped without a call.
    pub fn request(
        &self,
        did: &Did,
        how: How,
        host: &Hostname,
        waiter: Arc<dyn Waiter>,
    ) -> Result<(), RateLimited> {
        let mut state = self.lock();
        let now = (self.clock)();
        let anew = how == How::Forced;
        let Some(due) = self.due(&mut state, did, how, host, now) else {
            self.metrics.identity_refused.inc();
            return Err(RateLimited);
        };
        while !state.stopped && !state.lookups.has_room(did, (self.clock)()) && !waiter.is_gone() {
            state.blocked += 1;
            state = wait(&self.room, state);
            state.blocked -= 1;
        }
        if state.stopped || waiter.is_gone() {
            return Ok(());
        }
        let asker = Some(host.clone());
        let waiter = Some(waiter);
        state.lookups.add_at(due, did, asker, waiter, anew, now);
        if anew {
            state.lookups.insist(did);
        }
        self.queue_changed(&state);
        if due > now {
            self.wake_timer();
        } else {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Whether the directory of `did:plc` is asked nothing now because it wants that.
    #[cfg(test)]
    pub(crate) fn is_left_alone(&self) -> bool {
        self.lock().lookups.is_plc_paused((self.clock)())
    }

    /// Lets those go who wait for room and are gone by now.
    pub fn let_go(&self) {
        // Nobody is between his look at whether he is gone and his wait.
        drop(self.lock());
        self.room.notify_all();
    }

    /// The same for who is in no hurry: it has one turn among all hosts, that of background refreshes,
    /// and counts against no host. False, and the waiter is not called, where so much waits already
    /// ([`limits::IDENTITY_REFRESH_QUEUE_MAX`]) that it is to be tried again later.
    pub fn request_unhurried(&self, did: &Did, waiter: Arc<dyn Waiter>) -> bool {
        let mut state = self.lock();
        let now = (self.clock)();
        let few = limits::IDENTITY_REFRESH_QUEUE_MAX;
        if state.stopped || !state.lookups.is_shorter_than(few, now) {
            return false;
        }
        state.lookups.add(did, None, Some(waiter), false, now);
        self.queue_changed(&state);
        self.work.notify_one();
        true
    }

    /// When `did` may be looked up on behalf of `host`; nothing where that is refused.
    fn due(
        &self,
        state: &mut State,
        did: &Did,
        how: How,
        host: &Hostname,
        now_ms: u64,
    ) -> Option<u64> {
        let put_off = self.cache.put_off_until(did, now_ms);
        match how {
            // The cache has an answer by now.
            How::Miss if !matches!(self.cache.get(did, now_ms), Known::Nothing) => Some(now_ms),
            How::Miss => Some(put_off.unwrap_or(now_ms)),
            // What is known to be outdated is asked for by anybody without a limit.
            How::Forced if self.cache.is_purged(did) => Some(now_ms),
            How::Forced if state.refreshes.take(did, host, now_ms) => Some(now_ms),
            // It was said that the document has changed, and nobody has looked.
            How::Forced => put_off,
        }
    }

    /// Queues a lookup for which nobody waits, unless others do wait.
    fn refresh(&self, did: &Did, now_ms: u64) {
        let mut state = self.lock();
        let few = limits::IDENTITY_REFRESH_QUEUE_MAX;
        if state.stopped || !state.lookups.is_shorter_than(few, now_ms) {
            return;
        }
        state.lookups.refresh(did, now_ms);
        self.queue_changed(&state);
        self.work.notify_one();
    }

    fn run_resolver(&self) {
        while let Some(Next { did, anew, again }) = self.take() {
            let now = (self.clock)();
            let outcome = match self.cache.get(&did, now) {
                // It came while this lookup was queued.
                Known::Fresh(outcome) if !anew => {
                    self.settle(&mut self.lock(), &did, &outcome, false);
                    Some(outcome)
                }
                _ => {
                    let began = Instant::now();
                    let timeout = match again {
                        false => limits::IDENTITY_FIRST_TIMEOUT,
                        true => limits::IDENTITY_LOOKUP_TIMEOUT,
                    };
                    let fetched = fetch(&self.outbound, &did, timeout, now);
                    self.count(&did, &fetched, began.elapsed());
                    self.keep(&did, self.doubt(&did, fetched))
                }
            };
            if let Some(outcome) = outcome {
                self.answer(&did, &outcome);
            }
        }
    }

    fn count(&self, did: &Did, fetched: &Fetched, took: Duration) {
        let method = match did.method() {
            Method::Web(_) => DidMethod::Web,
            Method::Plc | Method::Unsupported => DidMethod::Plc,
        };
        let result = match fetched {
            Fetched::Found(_) => LookupResult::Found,
            Fetched::Missing(_) => LookupResult::Missing,
            Fetched::Invalid(_) => LookupResult::Invalid,
            Fetched::Limited(_) => LookupResult::Limited,
            Fetched::Unreachable(_) => LookupResult::Unreachable,
        };
        self.metrics.identity_lookups.inc((method, result));
        self.metrics.identity_duration.observe(micros(took));
    }

    /// Waits for the next lookup; nothing when the relay stops.
    fn take(&self) -> Option<Next> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = (self.clock)();
            if let Some(next) = state.lookups.next(now) {
                let waits = |waiter: &Arc<dyn Waiter>| !waiter.is_gone();
                if state.lookups.abandon(&next.did, waits) {
                    self.queue_changed(&state);
                    continue;
                }
                return Some(next);
            }
            // A host may have used up its lookups since the timer looked.
            let due = state.lookups.due(now);
            let timer_due = state.timer_due.unwrap_or(u64::MAX);
            if due.is_some_and(|due| due < timer_due) {
                state.timer_due = due;
                self.wake_timer();
            }
            state = wait(&self.work, state);
        }
    }

    /// Tells everybody whom the lookup satisfies, and ends it.
    fn answer(&self, did: &Did, outcome: &Outcome) {
        loop {
            let waiters = {
                let mut state = self.lock();
                let waiters = state.lookups.satisfied(did, (self.clock)());
                self.queue_changed(&state);
                if state.lookups.is_delayed(did) {
                    self.wake_timer();
                }
                waiters
            };
            if waiters.is_empty() {
                return;
            }
            for waiter in waiters {
                waiter.resolved(did, outcome);
            }
        }
    }

    /// Keeps what a lookup has brought and says what that means for those who wait; nothing where
    /// it is to be tried again.
    fn keep(&self, did: &Did, fetched: Fetched) -> Option<Outcome> {
        let mut state = self.lock();
        let now = (self.clock)();
        let doubt = state.lookups.doubt(did)?;
        let new = !self.cache.has_document(did);
        let outcome = match fetched {
            Fetched::Found(identity) => {
                Outcome::Found(self.keep_found(&mut state, did, identity, doubt, now))
            }
            Fetched::Missing(missing) => {
                state.witnesses.remove(did);
                self.cache.missing(did, missing, doubt, now);
                Outcome::Missing(missing)
            }
            Fetched::Invalid(_) if did.method() == Method::Plc => {
                let missing = Missing::BadDocument;
                self.cache.missing(did, missing, doubt, now);
                Outcome::Missing(missing)
            }
            Fetched::Invalid(words) => {
                log::debug!(did:% = did, error:% = words; "no DID document");
                let end = Outcome::Missing(Missing::BadDocument);
                self.without_answer(&mut state, did, doubt, now, end)?
            }
            Fetched::Limited(wanted) => {
                log::debug!(did:% = did; "the directory asks us to be slower");
                state.lookups.pause_plc(wanted, now);
                self.wake_timer();
                self.without_answer(&mut state, did, doubt, now, Outcome::Unreachable)?
            }
            Fetched::Unreachable(words) => {
                log::debug!(did:% = did, error:% = words; "no DID document");
                self.without_answer(&mut state, did, doubt, now, Outcome::Unreachable)?
            }
        };
        self.metrics.identity_cached.set(self.cache.len() as u64);
        self.settle(&mut state, did, &outcome, new);
        Some(outcome)
    }

    /// Whoever has caused this lookup may have another one, if the account is its own.
    fn settle(&self, state: &mut State, did: &Did, outcome: &Outcome, new: bool) {
        let host = match outcome {
            Outcome::Found(identity) => identity.host.as_ref(),
            Outcome::Missing(_) | Outcome::Unreachable => None,
        };
        state.lookups.found(did, host, new);
        if new && host.is_some() {
            // There may be one more than this thread can make.
            self.work.notify_one();
        }
    }

    fn keep_found(
        &self,
        state: &mut State,
        did: &Did,
        mut identity: Identity,
        doubt: Doubt,
        now_ms: u64,
    ) -> Arc<Identity> {
        identity.host = identity.host.map(|host| state.hosts.one(host));
        if did.method() == Method::Plc {
            state.witnesses.add(did);
        }
        let identity = Arc::new(identity);
        self.cache.found(did, identity.clone(), doubt, now_ms);
        identity
    }

    /// What to believe when nobody gives an answer of use: the last good document, unless somebody has seen that it
    /// may be wrong; then, and without one, nothing until there is an answer, except that a
    /// `did:web` host is not waited for for ever: then it is `end`.
    fn without_answer(
        &self,
        state: &mut State,
        did: &Did,
        doubt: Doubt,
        now_ms: u64,
        end: Outcome,
    ) -> Option<Outcome> {
        let held = || {
            let identity = self.cache.hold(did, now_ms)?;
            self.metrics.identity_stale_used.inc();
            Some(Outcome::Found(identity))
        };
        let insists = state.lookups.insists(did);
        if let Some(outcome) = (!insists).then(held).flatten() {
            return Some(outcome);
        }
        let tried = Duration::from_millis(state.lookups.tried_for(did, now_ms));
        let patience = match end {
            Outcome::Missing(_) => limits::IDENTITY_INVALID_PATIENCE,
            Outcome::Found(_) | Outcome::Unreachable => limits::IDENTITY_WEB_PATIENCE,
        };
        if did.method() == Method::Plc || tried < patience {
            let waits = |waiter: &Arc<dyn Waiter>| !waiter.is_gone();
            state.lookups.retry(did, waits, fastrand::f64(), now_ms);
            self.queue_changed(state);
            self.wake_timer();
            return None;
        }
        if let Some(outcome) = held() {
            return Some(outcome);
        }
        self.cache.absent(did, end.clone(), doubt, now_ms);
        Some(end)
    }

    fn stop(&self) {
        let waiting = {
            let mut state = self.lock();
            state.stopped = true;
            std::mem::replace(&mut state.lookups, Lookups::new(1, 1))
        };
        self.work.notify_all();
        self.room.notify_all();
        self.wake_timer();
        self.outbound.abort_requests();
        drop(waiting);
    }

    fn queue_changed(&self, state: &State) {
        self.metrics.identity_queue.set(state.lookups.len() as u64);
        // Not for every place that is free: all who wait would wake up for it, and all but one sleep
        // again.
        let few = limits::IDENTITY_QUEUE_REFILL;
        if state.blocked > 0 && state.lookups.is_shorter_than(few, (self.clock)()) {
            self.room.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a>(condition: &Condvar, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}

/// The time of day at the start, and from there on what has passed: it never goes back.
pub(super) fn steady_clock() -> Clock {
    let start = Instant::now();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let base = now.unwrap_or_default();
    Arc::new(move || u64::try_from((base + start.elapsed()).as_millis()).unwrap_or(u64::MAX))
}
