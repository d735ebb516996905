//! The thread of a backfill: list after list, page after page.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Inner,
    pace::{self, Patience, Step},
    page::Page,
    progress::{Kind, Phase, Progress, Trouble},
    prove::Prover,
};
use crate::{
    atproto::{
        hostname::{Endpoint, Hostname},
        nsid::Nsid,
    },
    control::HostStatus,
    host::now_ms,
    limits::{
        BACKFILL_COLLECTION_PAGE, BACKFILL_HOST_TRIES, BACKFILL_IMPORT_MAX, BACKFILL_KEEP_RETRY,
        BACKFILL_PAGE_BYTES_MAX, BACKFILL_PAGE_INTERVAL, BACKFILL_PAGE_TIMEOUT,
        BACKFILL_REPORT_INTERVAL, BACKFILL_REPOS_PAGE, BACKFILL_UNTRUSTED_ACCOUNTS_MAX,
    },
    outbound::pages::{PageError, Pages},
    sequencer::event::{Import, Skip},
    store::account::HostId,
    threads::{Stop, survive},
};

/// What the thread of one backfill has.
pub(super) struct Worker {
    pub(super) inner: Arc<Inner>,
    pub(super) kind: Kind,
    pub(super) items: Arc<[String]>,
    pub(super) stop: Stop,
    /// When the log was last told how far it is.
    pub(super) reported: Cell<Instant>,
}

/// It was told to stop, before the list that it reads has ended.
struct Stopped;

/// Where a list is.
struct List {
    name: String,
    pages: Pages,
    /// The parameters of every page.
    parameters: Vec<(&'static str, String)>,
    patience: Patience,
    of: Of,
}

/// What a list is of.
enum Of {
    Collection(Nsid),
    Host {
        id: HostId,
        name: Hostname,
        trusted: bool,
    },
}

impl Worker {
    /// Goes through all lists that are left, and keeps how that ended.
    pub(super) fn run(self) {
        self.log("begins");
        let outcome = survive(|| self.read_all());
        self.inner.change(self.kind, |progress| match outcome {
            Some(Ok(())) => progress.end(Phase::Done, now_ms()),
            None => progress.end(Phase::Failed, now_ms()),
            Some(Err(Stopped)) if progress.phase == Phase::Cancelling => {
                progress.end(Phase::Cancelled, now_ms());
            }
            // The relay stops, and goes on with it when it is started again.
            Some(Err(Stopped)) => progress.trouble = None,
        });
        self.inner.parts.metrics.backfill_running.set(0);
        self.log("ends");
        // What is not kept would be done again after a restart.
        while !self.inner.keep(self.kind) && !self.stop.wait(BACKFILL_KEEP_RETRY) {}
    }

    fn read_all(&self) -> Result<(), Stopped> {
        loop {
            let (at, cursor) = self
                .inner
                .of(self.kind, |p| (p.completed, p.cursor.clone()));
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let Some(name) = self.items.get(at).cloned() else {
                return Ok(());
            };
            match self.list(&name) {
                Ok(list) => self.read(&list, cursor)?,
                Err(reason) => self.fail(&name, reason),
            }
        }
    }

    /// Where the list of this name is; the error is why it can not be read.
    fn list(&self, name: &str) -> Result<List, String> {
        let pages = |endpoint, method| Pages {
            endpoint,
            method,
            timeout: BACKFILL_PAGE_TIMEOUT,
            bytes_max: BACKFILL_PAGE_BYTES_MAX,
        };
        match self.kind {
            Kind::Collections => {
                let source = self.inner.of(self.kind, |p| p.source.clone());
                let endpoint = Endpoint::parse(&source.unwrap_or_default());
                let endpoint = endpoint.map_err(|error| format!("the source is {error}"))?;
                let collection = Nsid::parse(name).map_err(|error| error.to_string())?;
                Ok(List {
                    name: name.to_owned(),
                    pages: pages(endpoint, "listReposByCollection"),
                    parameters: vec![
                        ("collection", name.to_owned()),
                        ("limit", BACKFILL_COLLECTION_PAGE.to_string()),
                    ],
                    patience: Patience::Endless,
                    of: Of::Collection(collection),
                })
            }
            Kind::Accounts => {
                let parts = &self.inner.parts;
                let host = Hostname::parse(name).map_err(|error| error.to_string())?;
                let known = parts.hosts.get(&host);
                let entry = known.ok_or_else(|| "the host is not known any more".to_owned())?;
                let is_up = match entry.status {
                    HostStatus::Banned => return Err("the host is banned".to_owned()),
                    status => status == HostStatus::Active,
                };
                Ok(List {
                    name: name.to_owned(),
                    pages: pages(entry.row.endpoint(), "listRepos"),
                    parameters: vec![("limit", BACKFILL_REPOS_PAGE.to_string())],
                    // One that is known to be away is not waited for.
                    patience: Patience::Tries(if is_up { BACKFILL_HOST_TRIES } else { 1 }),
                    of: Of::Host {
                        id: entry.row.id,
                        name: host,
                        trusted: parts.policy.trusts(&entry.row),
                    },
                })
            }
        }
    }

    /// Reads a list to its end, or to where it can not be read on.
    fn read(&self, list: &List, mut cursor: Option<String>) -> Result<(), Stopped> {
        let mut failures = 0;
        loop {
            self.report();
            let began = Instant::now();
            let page = match self.page(list, cursor.as_deref()) {
                Ok(page) => page,
                Err(_) if self.stop.requested() => return Err(Stopped),
                Err(error) => {
                    self.inner.parts.metrics.backfill_failed_pages.inc();
                    if error.is_refusal() && cursor.is_some() && self.begin_anew() {
                        cursor = None;
                    } else if self.give_up(list, &error, failures)? {
                        return self.rest(BACKFILL_PAGE_INTERVAL);
                    } else {
                        failures += 1;
                    }
                    self.rest(BACKFILL_PAGE_INTERVAL.saturating_sub(began.elapsed()))?;
                    continue;
                }
            };
            failures = 0;
            self.take(list, &page)?;
            let next = page.next(cursor.as_deref());
            let is_last = next.is_none();
            let entries = self.change(|progress| {
                progress.turn(page.len(), next.clone());
                let entries = progress.entries;
                if is_last {
                    progress.complete();
                }
                entries
            });
            self.inner.keep(self.kind);
            self.rest(BACKFILL_PAGE_INTERVAL.saturating_sub(began.elapsed()))?;
            if is_last {
                return Ok(());
            }
            if list.is_untrusted() && entries >= BACKFILL_UNTRUSTED_ACCOUNTS_MAX {
                let reason = format!(
                    "it lists over {BACKFILL_UNTRUSTED_ACCOUNTS_MAX} accounts and is not trusted: \
                     the rest is left out"
                );
                self.fail(&list.name, reason);
                return Ok(());
            }
            cursor = next;
        }
    }

    fn page(&self, list: &List, cursor: Option<&str>) -> Result<Page, PageError> {
        let parameters = list.parameters.iter();
        let mut parameters: Vec<_> = parameters.map(|(n, v)| (*n, v.as_str())).collect();
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        list.pages.read(&self.inner.parts.outbound, &parameters)
    }

    /// The cursor of the present list is not known there any more: true where it is read from its
    /// beginning, which is done once.
    fn begin_anew(&self) -> bool {
        self.change(|progress| {
            progress.cursor = None;
            progress.entries = 0;
            !std::mem::replace(&mut progress.anew, true)
        })
    }

    /// A page could not be read: waits until it is to be asked for again, or gives its list up.
    fn give_up(&self, list: &List, error: &PageError, failures: u32) -> Result<bool, Stopped> {
        let (kind, name) = (self.kind.name(), &list.name);
        match pace::after(&error.failure, failures, list.patience, fastrand::f64()) {
            Step::GiveUp => {
                log::warn!(kind:% = kind, list:% = name, error:% = error; "a backfill leaves a list out");
                self.fail(name, error.to_string());
                Ok(true)
            }
            Step::Again(delay) => {
                log::warn!(
                    kind:% = kind, list:% = name, error:% = error,
                    next_attempt_ms = delay.as_millis() as u64;
                    "a backfill waits for a list"
                );
                let wait = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
                self.change(|progress| {
                    progress.trouble = Some(Trouble {
                        error: error.to_string(),
                        next_try_ms: now_ms().saturating_add(wait),
                    });
                });
                self.rest(delay)?;
                Ok(false)
            }
        }
    }

    /// Hands on what is on a page, in small parts.
    fn take(&self, list: &List, page: &Page) -> Result<(), Stopped> {
        match &list.of {
            Of::Collection(name) => {
                let (dids, malformed) = page.dids();
                self.skip(Skip::Malformed, malformed);
                for dids in dids.chunks(BACKFILL_IMPORT_MAX) {
                    let began = Instant::now();
                    self.import(Import::Collection {
                        name: name.clone(),
                        dids: dids.to_vec(),
                    })?;
                    self.rest(pace::rest(dids.len(), began.elapsed()))?;
                }
            }
            Of::Host { id, name, trusted } => {
                let (entries, malformed) = page.entries();
                self.skip(Skip::Malformed, malformed);
                let prover = Prover {
                    directory: &self.inner.parts.directory,
                    store: &self.inner.parts.store,
                    stop: &self.stop,
                    host: (*id, name),
                    trusted: *trusted,
                };
                for entries in entries.chunks(BACKFILL_IMPORT_MAX) {
                    let began = Instant::now();
                    let proven = prover.prove(entries).ok_or(Stopped)?;
                    for skip in proven.skipped {
                        self.skip(skip, 1);
                    }
                    if !proven.claims.is_empty() {
                        self.import(Import::Accounts {
                            host: *id,
                            claims: proven.claims,
                        })?;
                    }
                    self.report();
                    self.rest(pace::rest(entries.len(), began.elapsed()))?;
                }
            }
        }
        Ok(())
    }

    /// Hands one part on, and waits until it is stored.
    fn import(&self, import: Import) -> Result<(), Stopped> {
        let imported = self.inner.parts.inbox.import(import);
        let imported = imported.map_err(|_| Stopped)?;
        self.inner
            .parts
            .metrics
            .backfill_imported
            .add(imported.added);
        self.change(|progress| {
            progress.imported += imported.added;
            progress.known += imported.known;
        });
        for skip in imported.skipped {
            self.skip(skip, 1);
        }
        Ok(())
    }

    /// Counts entries that are not taken.
    fn skip(&self, skip: Skip, count: u64) {
        self.inner.parts.metrics.backfill_skipped.add(skip, count);
        self.change(|progress| progress.skip(skip, count));
    }

    /// The present list is left out.
    fn fail(&self, name: &str, reason: String) {
        self.change(|progress| progress.fail(name, reason));
        self.inner.keep(self.kind);
    }

    fn change<T: Default>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        self.inner.change(self.kind, change)
    }

    fn rest(&self, time: Duration) -> Result<(), Stopped> {
        match self.stop.wait(time) {
            true => Err(Stopped),
            false => Ok(()),
        }
    }

    /// Says in the log how far it is, now and then.
    fn report(&self) {
        if self.reported.get().elapsed() >= BACKFILL_REPORT_INTERVAL {
            self.reported.set(Instant::now());
            self.log("goes on");
        }
    }

    fn log(&self, what: &str) {
        let of = |progress: &Progress| {
            let skipped: u64 = progress.skipped.values().sum();
            format!(
                "state={} lists={}/{} failed={} pages={} imported={} known={} skipped={skipped}",
                progress.state(),
                progress.completed,
                progress.total,
                progress.failed,
                progress.pages,
                progress.imported,
                progress.known,
            )
        };
        let (kind, figures) = (self.kind.name(), self.inner.of(self.kind, of));
        log::info!(kind:% = kind, figures:% = figures; "a backfill {what}");
    }
}

impl List {
    fn is_untrusted(&self) -> bool {
        matches!(self.of, Of::Host { trusted: false, .. })
    }
}
