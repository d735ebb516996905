//! The one connection to the database, and the thread that owns it.
//!
//! Who asks something hands a job over and waits for the answer, for a bounded time: the library
//! waits for ever, so a server that hangs hangs this thread and nobody else. What is known of the
//! connection is kept where it can be read without asking the thread.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use postgres::Client;

use super::{
    failure::{self, Failure},
    schema,
    target::Target,
    tls::Tls,
};
use crate::{
    config::Secret,
    control::ControlError,
    limits::{
        CONTROL_JOBS_MAX, CONTROL_KEEPALIVE_IDLE, CONTROL_KEEPALIVE_INTERVAL,
        CONTROL_KEEPALIVE_PROBES, CONTROL_PING_INTERVAL, CONTROL_RETRY_FIRST, CONTROL_RETRY_MAX,
        CONTROL_START_REPORT_INTERVAL, CONTROL_START_TIMEOUT, CONTROL_TIMEOUT,
        CONTROL_TRUSTED_IDLE, SERVICE_STACK_BYTES,
    },
    outbound,
    threads::{self, Role, Thread},
};

/// How long is waited for what; tests wait less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For an answer.
    pub(super) call: Duration,
    /// For the server, and for its lock, at the start.
    pub(super) start: Duration,
    /// Before an idle connection is asked whether it still is one.
    pub(super) ping: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            call: CONTROL_TIMEOUT,
            start: CONTROL_START_TIMEOUT,
            ping: CONTROL_PING_INTERVAL,
        }
    }
}

/// The connection, as everybody but its thread sees it. Dropping it ends the thread; one that hangs
/// is let go.
pub(super) struct Link {
    shared: Arc<Shared>,
    patience: Patience,
    /// None only while it is dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<Thread>,
    /// Disconnected when the thread is about to end.
    ended: Receiver<()>,
}

struct Shared {
    state: Mutex<State>,
    /// The number of the store that was found at the start.
    id: AtomicU64,
}

enum State {
    /// It does nothing.
    Idle,
    /// It has been waiting for the server since then.
    Busy(Instant),
    /// There is none; why, for the operator.
    Down(String),
}

/// Something to do, told why where there is no connection; afterwards, why the connection is of no
/// further use.
type Work = Box<dyn FnOnce(Result<&mut Client, String>) -> Option<String> + Send>;

struct Job {
    work: Work,
    /// Set by whichever comes first: the thread that begins it, or who has waited too long.
    settled: Arc<AtomicBool>,
}

impl Job {
    fn is_wanted(&self) -> bool {
        !self.settled.load(Ordering::Relaxed)
    }

    /// Does it, if it is still wanted.
    fn begin(self, client: Result<&mut Client, String>) -> Option<String> {
        if self.settled.swap(true, Ordering::AcqRel) {
            return None;
        }
        (self.work)(client)
    }
}

impl Link {
    /// Connects, takes the lock of the database and brings its tables up to date.
    pub(super) fn open(
        url: &Secret,
        extra_ca: Option<&Path>,
        patience: Patience,
    ) -> Result<Link, ControlError> {
        let mut target = Target::parse(url).map_err(ControlError::Backend)?;
        target.hurry(&patience);
        let tls = outbound::client_config(extra_ca)
            .map_err(|error| ControlError::Backend(error.to_string()))?;
        let deadline = Instant::now() + patience.start;
        let (jobs, queue) = bounded(CONTROL_JOBS_MAX);
        let (started, start) = bounded(1);
        let (ending, ended) = bounded(0);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Down("not connected yet".to_owned())),
            id: AtomicU64::new(0),
        });
        let worker = Worker {
            name: target.name.clone(),
            target,
            tls: Tls::new(tls),
            patience,
            shared: shared.clone(),
            queue,
        };
        let thread = threads::spawn(Role::Control, "postgres", SERVICE_STACK_BYTES, move || {
            let _ending: Sender<()> = ending;
            match worker.start(deadline) {
                Ok(client) => {
                    let _ = started.send(Ok(()));
                    worker.run(client);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        })
        .map_err(|error| ControlError::Backend(error.to_string()))?;
        let link = Link {
            shared,
            patience,
            jobs: Some(jobs),
            thread: Some(thread),
            ended,
        };
        // The thread keeps the deadline itself, unless the server lets it hang.
        match start.recv_deadline(deadline + patience.call) {
            Ok(Ok(())) => Ok(link),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ControlError::Unavailable(format!(
                "the database took a connection and has not answered on it for {:?}",
                patience.start
            ))),
        }
    }

    /// The number of the store.
    pub(super) fn id(&self) -> u64 {
        self.shared.id.load(Ordering::Relaxed)
    }

    /// The store has taken the number of another one.
    pub(super) fn became(&self, id: u64) {
        self.shared.id.store(id, Ordering::Relaxed);
    }

    /// See [`Control::available`](crate::control::Control::available).
    pub(super) fn available(&self) -> Result<(), String> {
        match &*self.shared.state() {
            State::Idle => Ok(()),
            State::Busy(since) => {
                let silent = since.elapsed();
                match silent > self.patience.call {
                    true => Err(format!(
                        "the database has not answered for {} s",
                        silent.as_secs()
                    )),
                    false => Ok(()),
                }
            }
            State::Down(why) => Err(why.clone()),
        }
    }

    /// Has the thread do `work`, and waits for it as long as for anything.
    pub(super) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Client) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.call_for(self.patience.call, work)
    }

    /// The same, for as long as is said.
    pub(super) fn call_for<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&mut Client) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, ControlError> {
        self.available().map_err(ControlError::Unavailable)?;
        let deadline = Instant::now() + timeout;
        let (answer, answered) = bounded(1);
        let settled = Arc::new(AtomicBool::new(false));
        let work = move |client: Result<&mut Client, String>| {
            let done = match client {
                Ok(client) => work(client),
                Err(why) => Err(Failure::Ours(ControlError::Unavailable(why))),
            };
            let broken = done.as_ref().err().and_then(Failure::breaks);
            let _ = answer.send(done.map_err(Failure::told));
            broken
        };
        let job = Job {
            work: Box::new(work),
            settled: settled.clone(),
        };
        let late = |what: &str| {
            ControlError::Unavailable(format!("no answer for {} s; {what}", timeout.as_secs()))
        };
        let queued = self
            .jobs
            .as_ref()
            .map(|jobs| jobs.send_deadline(job, deadline));
        if !matches!(queued, Some(Ok(()))) {
            return Err(late("it was not done"));
        }
        answered.recv_deadline(deadline).unwrap_or_else(|_| {
            match settled.swap(true, Ordering::AcqRel) {
                true => Err(late("it may still be done")),
                false => Err(late("it was not done")),
            }
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        if self.ended.recv_timeout(self.patience.call) == Err(RecvTimeoutError::Timeout) {
            log::warn!(
                "control store: the database does not answer; its connection is left behind"
            );
            thread.detach();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // It is replaced whole, so a panic leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: State) {
        *self.state() = state;
    }

    /// Notes that `work` waits for the server, for as long as it does.
    fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        self.set(State::Busy(Instant::now()));
        let done = work();
        self.set(State::Idle);
        done
    }
}

/// Why there is no connection.
enum Refused {
    /// There may be one later.
    Later(String),
    /// There will be none unless somebody does something.
    Never(ControlError),
}

impl Refused {
    fn text(&self) -> String {
        match self {
            Refused::Later(why) => why.clone(),
            Refused::Never(error) => error.to_string(),
        }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        match failure {
            Failure::Sql(error) if failure::is_passing(&error) => {
                Refused::Later(failure::text(&error))
            }
            other => Refused::Never(other.told()),
        }
    }
}

impl From<postgres::Error> for Refused {
    fn from(error: postgres::Error) -> Refused {
        Failure::Sql(error).into()
    }
}

/// What the thread has.
struct Worker {
    name: String,
    target: Target,
    tls: Tls,
    patience: Patience,
    shared: Arc<Shared>,
    queue: Receiver<Job>,
}

impl Worker {
    /// The first connection.
    fn start(&self, deadline: Instant) -> Result<Client, ControlError> {
        let mut delay = CONTROL_RETRY_FIRST;
        let mut reported: Option<Instant> = None;
        loop {
            let why = match self.connect(None) {
                Ok((client, id)) => {
                    self.shared.id.store(id, Ordering::Relaxed);
                    self.shared.set(State::Idle);
                    log::info!(database = self.name.as_str(); "control store: connected");
                    return Ok(client);
                }
                Err(Refused::Never(error)) => return Err(error),
                Err(Refused::Later(why)) => why,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ControlError::Unavailable(format!("{}: {why}", self.name)));
            }
            if reported.is_none_or(|at| at.elapsed() >= CONTROL_START_REPORT_INTERVAL) {
                log::warn!(database = self.name.as_str(), error:% = why; "control store: waiting for the database");
                reported = Some(Instant::now());
            }
            // A relay before this one is leaving, or the server starts: neither takes long.
            if self.refuse_for(delay.min(left), &why).is_none() {
                return Err(ControlError::Unavailable("nobody waits for it".to_owned()));
            }
            delay = (delay * 2).min(CONTROL_RETRY_MAX);
        }
    }

    /// Works until nobody has anything to ask any more.
    fn run(&self, mut client: Client) {
        while let Some((lost, pending)) = self.serve(&mut client) {
            log::warn!(database = self.name.as_str(), error:% = lost; "control store: the database is lost");
            self.shared.set(State::Down(lost.clone()));
            // What is sent and not answered ends here; the session on the server ends with it.
            drop(client);
            match self.reconnect(lost, pending) {
                Some(found) => client = found,
                None => return,
            }
        }
    }

    /// Works until the connection is lost: why, and the job that found it so. None when nobody has
    /// anything to ask any more.
    fn serve(&self, client: &mut Client) -> Option<(String, Option<Job>)> {
        let mut used = Instant::now();
        loop {
            let job = match self.queue.recv_timeout(self.patience.ping) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            let is_wanted = job.as_ref().is_none_or(Job::is_wanted);
            if !is_wanted {
                continue;
            }
            if job.is_none() || used.elapsed() > CONTROL_TRUSTED_IDLE {
                let alive = self.shared.busy(|| client.check_connection());
                if let Err(error) = alive {
                    return Some((failure::text(&error), job));
                }
            }
            if let Some(job) = job
                && let Some(lost) = self.shared.busy(|| job.begin(Ok(client)))
            {
                return Some((lost, None));
            }
            used = Instant::now();
        }
    }

    /// Tries until there is a connection; none when nobody has anything to ask any more. A job that
    /// found the last one dead is done if the first attempt succeeds.
    fn reconnect(&self, mut why: String, mut pending: Option<Job>) -> Option<Client> {
        let since = Instant::now();
        let mut delay = CONTROL_RETRY_FIRST;
        loop {
            let known = self.shared.id.load(Ordering::Relaxed);
            match self.connect(Some(known)) {
                Ok((mut client, _)) => {
                    self.shared.set(State::Idle);
                    let seconds = since.elapsed().as_secs();
                    log::info!(database = self.name.as_str(), seconds = seconds; "control store: the database is back");
                    let job = pending.take();
                    let lost = job.and_then(|job| self.shared.busy(|| job.begin(Ok(&mut client))));
                    let Some(lost) = lost else {
                        return Some(client);
                    };
                    why = lost;
                }
                Err(refused) => {
                    let text = refused.text();
                    if text != why {
                        log::warn!(database = self.name.as_str(), error:% = text; "control store: the database is not back");
                    }
                    why = text;
                }
            }
            self.shared.set(State::Down(why.clone()));
            if let Some(job) = pending.take() {
                job.begin(Err(why.clone()));
            }
            self.refuse_for(delay, &why)?;
            delay = (delay * 2).min(CONTROL_RETRY_MAX);
        }
    }

    /// Answers jobs that there is no connection, for so long; none when nobody can ask any more.
    fn refuse_for(&self, time: Duration, why: &str) -> Option<()> {
        let until = Instant::now() + time;
        loop {
            match self.queue.recv_deadline(until) {
                Ok(job) => job.begin(Err(why.to_owned())),
                Err(RecvTimeoutError::Timeout) => return Some(()),
                Err(RecvTimeoutError::Disconnected) => return None,
            };
        }
    }

    /// A connection that is alone with the database, and the number of the store in it. `known` is
    /// the one that is expected; without one, the tables are brought up to date.
    fn connect(&self, known: Option<u64>) -> Result<(Client, u64), Refused> {
        let mut client = self.target.config.connect(self.tls.clone())?;
        client.batch_execute(&self.session())?;
        if !schema::take_lock(&mut client)? {
            return Err(Refused::Later(
                "another relay uses this database".to_owned(),
            ));
        }
        let Some(known) = known else {
            let id = schema::prepare(&mut client)?;
            return Ok((client, id));
        };
        match schema::check(&mut client)? {
            Some(id) if id == known => Ok((client, id)),
            _ => Err(Refused::Later(
                "what is there now is another store than at the start; restart the relay to use it"
                    .to_owned(),
            )),
        }
    }

    /// How the server is to treat the session.
    fn session(&self) -> String {
        // A little less than who has asked waits, so that a statement held up by somebody's lock ends
        // with a reason.
        let milliseconds = self.patience.call.as_millis() * 9 / 10;
        format!(
            "SET client_min_messages = warning;
             SET statement_timeout = {milliseconds};
             SET idle_in_transaction_session_timeout = {milliseconds};
             SET tcp_keepalives_idle = {};
             SET tcp_keepalives_interval = {};
             SET tcp_keepalives_count = {};",
            CONTROL_KEEPALIVE_IDLE.as_secs(),
            CONTROL_KEEPALIVE_INTERVAL.as_secs(),
            CONTROL_KEEPALIVE_PROBES,
        )
    }
}
