//! Filling a relay with what it has not heard: who has records of what, from the index of another relay,
//! and accounts, from the lists of the hosts themselves. One backfill at a time, in one thread; how far
//! it is, is kept in the control store, so that a relay that is started anew goes on there.
//!
//! What it reads is handed to the sequencer in small parts, one after the other, and never faster than a
//! named limit: events do not wait for it. Nothing of it is published.
//!
//! ```text
//! another relay, hosts ── pages ──▶ worker ── Import ──▶ sequencer
//!                                     │  ▲                  │
//!                 control store ◀─ progress └── counts ◀────┘
//! ```

mod pace;
mod page;
mod progress;
mod prove;
mod wanted;
mod worker;

use std::{
    cell::Cell,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use self::{progress::Items, worker::Worker};
pub use self::{
    progress::{Failure, Kind, Phase, Progress, Status, Trouble},
    wanted::Wanted,
};
use crate::{
    atproto::nsid::Nsid,
    control::{Control, HostStatus},
    host::{now_ms, policy::Policy, table::HostTable},
    identity::Directory,
    limits::{BACKFILL_ITEMS_MAX, SERVICE_STACK_BYTES},
    metrics::Metrics,
    outbound::Outbound,
    sequencer::Inbox,
    store::{Store, account::HostId},
    threads::{self, Role, Stopper, Thread, stop_pair},
};

/// What a backfill works with.
pub struct Parts {
    /// How others are asked.
    pub outbound: Outbound,
    /// Where its progress is kept.
    pub control: Arc<dyn Control>,
    /// What is known already.
    pub store: Arc<Store>,
    /// Where it hands on what it reads.
    pub inbox: Inbox,
    /// Who speaks for an account.
    pub directory: Arc<Directory>,
    /// The hosts.
    pub hosts: Arc<HostTable>,
    /// Which of them are trusted.
    pub policy: Arc<Policy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Why a backfill does not begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Another one runs: of what, and from where.
    Running(Kind, Option<String>),
    /// There is no such host.
    NoSuchHost,
    /// The host is banned.
    Banned,
    /// There is nothing to read.
    Nothing,
    /// It can not be kept now.
    Unavailable(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Running(kind, source) => {
                let from = source.as_deref().unwrap_or("all hosts");
                write!(f, "a backfill of {} from {from} is running", kind.name())
            }
            Refused::NoSuchHost => f.write_str("no such host"),
            Refused::Banned => f.write_str("the host is banned"),
            Refused::Nothing => f.write_str("there is nothing to read"),
            Refused::Unavailable(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for Refused {}

/// The backfills of a relay; cheap to clone.
#[derive(Clone)]
pub struct Backfill(Arc<Inner>);

struct Inner {
    parts: Parts,
    state: Mutex<State>,
    /// One write after the other: what is kept last is what is last.
    keeping: Mutex<()>,
    /// One beginning after the other.
    beginning: Mutex<Option<Running>>,
}

#[derive(Default)]
struct State {
    /// The last of each kind.
    last: [Option<Status>; Kind::ALL.len()],
    /// Ends the one that runs; none: none does, or it was told.
    stopper: Option<Stopper>,
    /// The relay ends: no other begins.
    is_over: bool,
}

/// The thread of the last one. Dropping it waits for its end.
struct Running {
    _thread: Thread,
}

impl Backfill {
    /// Reads what is kept, and goes on with the one that ran when the relay ended.
    pub fn start(parts: Parts) -> Backfill {
        let backfill = Backfill(Arc::new(Inner {
            parts,
            state: Mutex::default(),
            keeping: Mutex::default(),
            beginning: Mutex::default(),
        }));
        for kind in Kind::ALL {
            if let Err(error) = backfill.resume(kind) {
                log::error!(kind = kind.name(), error:% = error; "a backfill can not go on");
            }
        }
        backfill
    }

    /// Begins one. It is kept before it does.
    pub fn begin(&self, wanted: &Wanted) -> Result<Status, Refused> {
        let inner = &self.0;
        let mut beginning = lock(&inner.beginning);
        if let Some(running) = inner.running() {
            return Err(Refused::Running(running.kind, running.source));
        }
        if inner.state().is_over {
            return Err(Refused::Unavailable("the relay ends".to_owned()));
        }
        inner.end(&mut beginning);
        let (kind, source, items) = inner.plan(wanted)?;
        let progress = Progress::new(kind, source, &items, now_ms());
        let control = &inner.parts.control;
        let kept = control.set_note(&kind.items_note(), Some(&items.note()));
        kept.and_then(|()| control.set_note(&kind.note(), Some(&progress.note())))
            .map_err(|error| Refused::Unavailable(error.to_string()))?;
        let status = Status {
            progress,
            items: items.names,
        };
        let ran = self.run(&mut beginning, status.clone());
        ran.map_err(|error| Refused::Unavailable(error.to_string()))?;
        Ok(status)
    }

    /// The last one of a kind.
    pub fn status(&self, kind: Kind) -> Option<Status> {
        self.0.state().last[kind as usize].clone()
    }

    /// Ends the one that runs, and says which that was. It is not waited for: a question that is
    /// under way is answered first.
    pub fn cancel(&self) -> Option<Kind> {
        let kind = {
            let mut state = self.0.state();
            let mut all = state.last.iter_mut().flatten();
            let running = all.find(|status| status.progress.is_running())?;
            running.progress.phase = Phase::Cancelling;
            running.progress.trouble = None;
            let kind = running.progress.kind;
            state.stopper = None;
            kind
        };
        // Where that fails, its thread tries again.
        self.0.keep(kind);
        Some(kind)
    }

    /// Ends the thread, for the end of the relay: the next start goes on.
    pub fn stop(&self) {
        let mut beginning = lock(&self.0.beginning);
        self.0.state().is_over = true;
        self.0.end(&mut beginning);
    }

    fn resume(&self, kind: Kind) -> Result<(), String> {
        let inner = &self.0;
        let note = |name: String| inner.parts.control.note(&name).map_err(|e| e.to_string());
        let Some(kept) = note(kind.note())? else {
            return Ok(());
        };
        let mut progress = Progress::parse(kept)?;
        let items = note(kind.items_note())?.and_then(Items::parse);
        if progress.phase == Phase::Cancelling {
            progress.end(Phase::Cancelled, now_ms());
        }
        // There is one at a time; and without its lists nobody knows where it was.
        if progress.is_running() && (items.is_none() || inner.running().is_some()) {
            progress.end(Phase::Failed, now_ms());
        }
        let goes_on = progress.is_running();
        let items = items.unwrap_or_default();
        let status = Status { progress, items };
        if !goes_on {
            inner.state().last[kind as usize] = Some(status);
            return Ok(());
        }
        let mut beginning = lock(&inner.beginning);
        let ran = self.run(&mut beginning, status);
        ran.map_err(|error| error.to_string())
    }

    fn run(&self, thread: &mut Option<Running>, status: Status) -> std::io::Result<()> {
        let inner = &self.0;
        let (stopper, stop) = stop_pair();
        let kind = status.progress.kind;
        let worker = Worker {
            inner: inner.clone(),
            kind,
            items: status.items.clone(),
            stop,
            reported: Cell::new(Instant::now()),
        };
        {
            let mut state = inner.state();
            state.last[kind as usize] = Some(status);
            state.stopper = Some(stopper);
        }
        inner.parts.metrics.backfill_running.set(1);
        let body = move || worker.run();
        match threads::spawn(Role::Crawler, "backfill", SERVICE_STACK_BYTES, body) {
            Ok(spawned) => {
                *thread = Some(Running { _thread: spawned });
                Ok(())
            }
            Err(error) => {
                inner.parts.metrics.backfill_running.set(0);
                inner.change(kind, |progress| progress.end(Phase::Failed, now_ms()));
                inner.keep(kind);
                Err(error)
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn running(&self) -> Option<Progress> {
        let state = self.state();
        let mut all = state.last.iter().flatten();
        let running = all.find(|status| status.progress.is_running());
        running.map(|status| status.progress.clone())
    }

    /// Waits for the thread of the last one, which has ended, but for what is not kept yet, or is told
    /// to.
    fn end(&self, thread: &mut Option<Running>) {
        self.state().stopper = None;
        *thread = None;
    }

    /// Something of the last one of a kind, which there is.
    fn of<T: Default>(&self, kind: Kind, of: impl FnOnce(&Progress) -> T) -> T {
        let state = self.state();
        let status = state.last[kind as usize].as_ref();
        status
            .map(|status| of(&status.progress))
            .unwrap_or_default()
    }

    /// Changes the last one of a kind.
    fn change<T: Default>(&self, kind: Kind, change: impl FnOnce(&mut Progress) -> T) -> T {
        let mut state = self.state();
        let status = state.last[kind as usize].as_mut();
        status
            .map(|status| change(&mut status.progress))
            .unwrap_or_default()
    }

    /// Keeps how far the last one of a kind is; false where that was not possible.
    fn keep(&self, kind: Kind) -> bool {
        let _turn = lock(&self.keeping);
        let note = self.of(kind, Progress::note);
        match self.parts.control.set_note(&kind.note(), Some(&note)) {
            Ok(()) => true,
            Err(error) => {
                let kind = kind.name();
                log::warn!(kind:% = kind, error:% = error; "how far a backfill is can not be kept");
                false
            }
        }
    }

    /// Which lists are to be read.
    fn plan(&self, wanted: &Wanted) -> Result<(Kind, Option<String>, Items), Refused> {
        let (kind, source, items) = match wanted {
            Wanted::Collections { source, names } => {
                let given = names.iter().map(|name| name.as_str().to_owned());
                let found = self.parts.store.collection_names(BACKFILL_ITEMS_MAX + 1);
                let mut found = found.map_err(|error| Refused::Unavailable(error.to_string()))?;
                found.retain(|name| Nsid::check(name).is_ok());
                let items = Items::of(given.collect(), found);
                (Kind::Collections, Some(source.origin()), items)
            }
            Wanted::Accounts { host: Some(host) } => {
                let entry = self.parts.hosts.get(host).ok_or(Refused::NoSuchHost)?;
                if entry.status == HostStatus::Banned {
                    return Err(Refused::Banned);
                }
                let name = host.as_str().to_owned();
                let items = Items::of(vec![name.clone()], Vec::new());
                (Kind::Accounts, Some(name), items)
            }
            Wanted::Accounts { host: None } => {
                let hosts = self.parts.hosts.after(HostId::NOWHERE, usize::MAX);
                let open = hosts
                    .iter()
                    .filter(|entry| entry.status != HostStatus::Banned);
                let names = open.map(|entry| entry.row.name.as_str().to_owned());
                (Kind::Accounts, None, Items::of(Vec::new(), names.collect()))
            }
        };
        match items.names.is_empty() {
            true => Err(Refused::Nothing),
            false => Ok((kind, source, items)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
