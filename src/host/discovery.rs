//! Learning hosts from another relay: its `listHosts` is read in the background, at the start and from
//! time to time, and every host on it is offered for admission. How far that is, is kept, so that a
//! relay that is started anew goes on there.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, unbounded};
use serde::Deserialize;
use serde_json::{Value, json};

use super::now_ms;
use crate::{
    atproto::hostname::{Endpoint, HostnameError},
    control::Control,
    limits::{
        DISCOVERY_BACKOFF_FIRST, DISCOVERY_BACKOFF_MAX, DISCOVERY_HOSTS_MAX, DISCOVERY_INTERVAL,
        DISCOVERY_PAGE_BYTES_MAX, DISCOVERY_PAGE_TIMEOUT, DISCOVERY_THREADS,
        DISCOVERY_WHOLE_INTERVAL, HTTP_STACK_BYTES,
    },
    outbound::{
        Outbound,
        pages::{self, PageError, Pages},
    },
    threads::{self, Role, Stop, Thread},
};

/// What one page may hold at most (<https://docs.bsky.app/docs/api/com-atproto-sync-list-hosts>).
const PAGE_HOSTS: usize = 1_000;

/// What became of a name that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// It is a host from now on.
    Added,
    /// It is one already, or is banned.
    Known,
    /// It is no host for us.
    Refused,
    /// It can not be kept now; it is to be offered again.
    Later,
}

/// Asks `upstream` (a hostname, or the URL of one) for its hosts and calls `offer` with the name
/// of each that it has not banned. Several threads call it at the same time, and each call may take
/// as long as a check of the host takes.
///
/// Pages that can not be read are asked for again, ever more rarely, until `stop`.
pub fn start(
    upstream: &str,
    outbound: Outbound,
    control: Arc<dyn Control>,
    stop: Stop,
    offer: impl Fn(&str) -> Offered + Send + Sync + 'static,
) -> Result<Thread, DiscoveryError> {
    let discovery = Discovery {
        list: List::new(upstream, outbound)?,
        control,
        stop,
        backoff: (DISCOVERY_BACKOFF_FIRST, DISCOVERY_BACKOFF_MAX),
    };
    let offer = Arc::new(offer);
    let body = move || loop {
        discovery.pass(&offer);
        if discovery.stop.wait(DISCOVERY_INTERVAL) {
            return;
        }
    };
    threads::spawn(Role::Crawler, "discovery", HTTP_STACK_BYTES, body)
        .map_err(DiscoveryError::Thread)
}

/// Why a discovery can not begin.
#[derive(Debug)]
pub enum DiscoveryError {
    /// The relay to ask is not a host.
    Upstream(HostnameError),
    /// There is no thread for it.
    Thread(std::io::Error),
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscoveryError::Upstream(error) => write!(f, "the relay to ask for hosts is {error}"),
            DiscoveryError::Thread(error) => write!(f, "thread for the discovery: {error}"),
        }
    }
}

impl std::error::Error for DiscoveryError {}

/// The list of hosts of a relay.
#[derive(Clone, Debug)]
pub struct List {
    pages: Pages,
    outbound: Outbound,
}

impl List {
    /// The list of the relay of this name or URL.
    pub fn new(relay: &str, outbound: Outbound) -> Result<List, DiscoveryError> {
        let endpoint = Endpoint::parse(relay.trim()).map_err(DiscoveryError::Upstream)?;
        let pages = Pages {
            endpoint,
            method: "listHosts",
            timeout: DISCOVERY_PAGE_TIMEOUT,
            bytes_max: DISCOVERY_PAGE_BYTES_MAX,
        };
        Ok(List { pages, outbound })
    }

    /// The names on all its pages, but for those that are banned there.
    pub fn hosts(&self) -> Result<Vec<String>, PageError> {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.page(cursor.as_deref())?;
            let empty = page.hosts.is_empty();
            names.extend(page.names());
            let ended = page.cursor.is_none() || page.cursor == cursor;
            if ended || empty || names.len() >= DISCOVERY_HOSTS_MAX {
                names.truncate(DISCOVERY_HOSTS_MAX);
                return Ok(names);
            }
            cursor = page.cursor;
        }
    }

    fn page(&self, cursor: Option<&str>) -> Result<Page, PageError> {
        let limit = PAGE_HOSTS.to_string();
        let mut parameters = vec![("limit", limit.as_str())];
        parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.pages.read(&self.outbound, &parameters)
    }
}

struct Discovery {
    list: List,
    control: Arc<dyn Control>,
    stop: Stop,
    /// The first and the longest delay after a failure.
    backoff: (Duration, Duration),
}

/// How far the list of a relay was read, as it is kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Kept {
    /// Where the next page begins; none: at the beginning.
    cursor: Option<String>,
    /// When the list was last begun at its beginning, in milliseconds since 1970.
    whole_ms: u64,
}

#[derive(Default)]
struct Progress {
    listed: AtomicU64,
    checked: AtomicU64,
    added: AtomicU64,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    cursor: Option<String>,
    hosts: Vec<ListedHost>,
}

#[derive(Deserialize)]
struct ListedHost {
    hostname: String,
    #[serde(default)]
    status: Option<String>,
}

impl Page {
    /// The hosts that are not banned there.
    fn names(&self) -> impl Iterator<Item = String> {
        let fine = |host: &&ListedHost| host.status.as_deref() != Some("banned");
        let hosts = self.hosts.iter().filter(fine);
        hosts.map(|host| host.hostname.clone())
    }
}

impl Kept {
    fn parse(note: &Value) -> Kept {
        Kept {
            cursor: note["cursor"].as_str().map(str::to_owned),
            whole_ms: note["whole_ms"].as_u64().unwrap_or(0),
        }
    }

    fn note(&self) -> Value {
        json!({ "cursor": self.cursor, "whole_ms": self.whole_ms })
    }

    /// Where to begin now: where the last round ended, as new hosts are at the end of the list; now
    /// and then at the beginning, as hosts that were refused may be different meanwhile.
    fn begin(self, now_ms: u64) -> Kept {
        let whole = u64::try_from(DISCOVERY_WHOLE_INTERVAL.as_millis()).unwrap_or(u64::MAX);
        if now_ms.saturating_sub(self.whole_ms) < whole {
            return self;
        }
        Kept {
            cursor: None,
            whole_ms: now_ms,
        }
    }
}

impl Discovery {
    /// Reads the list to its end.
    fn pass(&self, offer: &Arc<impl Fn(&str) -> Offered + Send + Sync + 'static>) {
        let progress = Arc::new(Progress::default());
        let kept = self.kept().begin(now_ms());
        log::info!(upstream:% = self.list.pages.endpoint.host; "discovery: asking for hosts");
        self.list_all(kept, offer, &progress);
        let end = if self.stop.requested() {
            "stopped"
        } else {
            "done"
        };
        log::info!("discovery: {end}, {progress}");
    }

    /// Reads page after page until the last one.
    fn list_all(
        &self,
        mut kept: Kept,
        offer: &Arc<impl Fn(&str) -> Offered + Send + Sync + 'static>,
        progress: &Arc<Progress>,
    ) {
        let mut failures = 0;
        loop {
            let page = match self.list.page(kept.cursor.as_deref()) {
                Ok(page) => page,
                Err(error) if error.is_refusal() && kept.cursor.is_some() => {
                    log::warn!(
                        "discovery: the cursor is not known there any more; from the beginning"
                    );
                    kept.cursor = None;
                    continue;
                }
                Err(error) => {
                    let delay = self.delay(failures);
                    failures += 1;
                    log::warn!(error:% = error, next_attempt_ms = delay.as_millis() as u64; "discovery: the upstream relay does not answer");
                    if self.stop.wait(delay) {
                        return;
                    }
                    continue;
                }
            };
            failures = 0;
            let mut names: Vec<String> = page.names().collect();
            let empty = page.hosts.is_empty();
            let listed = progress.listed.load(Ordering::Relaxed) as usize;
            let too_many = listed + names.len() > DISCOVERY_HOSTS_MAX;
            names.truncate(DISCOVERY_HOSTS_MAX.saturating_sub(listed));
            progress
                .listed
                .fetch_add(names.len() as u64, Ordering::Relaxed);
            self.check_all(names, offer, progress);
            if self.stop.requested() {
                return;
            }
            log::info!("discovery: {progress}");
            if too_many {
                log::warn!("discovery: over {DISCOVERY_HOSTS_MAX} hosts, the rest is left out");
                return;
            }
            // An empty page, or a cursor that stays, would go on for ever.
            if page.cursor.is_none() || page.cursor == kept.cursor || empty {
                self.keep(&kept);
                return;
            }
            kept.cursor = page.cursor;
            self.keep(&kept);
        }
    }

    /// Offers the names of one page, several at the same time; returns when all are checked.
    fn check_all(
        &self,
        names: Vec<String>,
        offer: &Arc<impl Fn(&str) -> Offered + Send + Sync + 'static>,
        progress: &Arc<Progress>,
    ) {
        let count = names.len().min(DISCOVERY_THREADS);
        let (sender, to_check) = unbounded();
        for name in names {
            let _ = sender.send(name);
        }
        drop(sender);
        let mut checkers = Vec::new();
        for n in 0..count {
            let (to_check, stop) = (to_check.clone(), self.stop.clone());
            let (progress, offer) = (progress.clone(), offer.clone());
            let backoff = self.backoff;
            let body = move || check_all(&to_check, &stop, &progress, &*offer, backoff);
            let detail = format!("check:{n}");
            match threads::spawn(Role::Crawler, &detail, HTTP_STACK_BYTES, body) {
                Ok(thread) => checkers.push(thread),
                Err(error) => log::warn!(n = n, error:% = error; "discovery: no thread"),
            }
        }
        if checkers.is_empty() {
            check_all(&to_check, &self.stop, progress, &**offer, self.backoff);
        }
        // Dropping them waits for their end.
        drop(checkers);
    }

    fn note_name(&self) -> String {
        format!("discovery:{}", self.list.pages.endpoint.host)
    }

    /// How far the list was read. Without the control store it is read from the beginning.
    fn kept(&self) -> Kept {
        match self.control.note(&self.note_name()) {
            Ok(note) => note.as_ref().map(Kept::parse).unwrap_or_default(),
            Err(error) => {
                log::warn!(error:% = error; "discovery: how far it was can not be read");
                Kept::default()
            }
        }
    }

    fn keep(&self, kept: &Kept) {
        let kept = self.control.set_note(&self.note_name(), Some(&kept.note()));
        if let Err(error) = kept {
            log::warn!(error:% = error; "discovery: how far it is can not be kept");
        }
    }

    fn delay(&self, failures: u32) -> Duration {
        let (first, longest) = self.backoff;
        pages::backoff(failures, first, longest, fastrand::f64())
    }
}

/// Offers names until there are no more.
fn check_all(
    names: &Receiver<String>,
    stop: &Stop,
    progress: &Progress,
    offer: &impl Fn(&str) -> Offered,
    (first, longest): (Duration, Duration),
) {
    for name in names {
        let mut delay = first;
        let offered = loop {
            if stop.requested() {
                return;
            }
            match offer(&name) {
                Offered::Later if stop.wait(delay) => return,
                Offered::Later => delay = (delay * 2).min(longest),
                offered => break offered,
            }
        };
        let added = offered == Offered::Added;
        progress.checked.fetch_add(1, Ordering::Relaxed);
        progress.added.fetch_add(added.into(), Ordering::Relaxed);
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let (checked, listed, added) = (
            count(&self.checked),
            count(&self.listed),
            count(&self.added),
        );
        write!(f, "{checked} of {listed} hosts checked, {added} added")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        io::{BufRead, BufReader, Write},
        net::TcpListener,
        sync::Mutex,
    };

    use clap::Parser;

    use super::*;
    use crate::{config::Cli, control::embedded::Embedded, threads::stop_pair};

    /// Serves prepared answers by request target; each is taken once, the last one stays.
    fn upstream(answers: &[(&str, &[&str])]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let mut answers: HashMap<String, Vec<String>> = answers
            .iter()
            .map(|(target, list)| {
                let list = list.iter().rev().map(|a| (*a).to_owned()).collect();
                (format!("GET {target} HTTP/1.1"), list)
            })
            .collect();
        let serve = move || {
            for stream in listener.incoming() {
                let mut lines = BufReader::new(stream.unwrap());
                let mut first = String::new();
                lines.read_line(&mut first).unwrap();
                let mut line = String::new();
                while lines.read_line(&mut line).unwrap() > 2 {
                    line.clear();
                }
                let list = answers.get_mut(first.trim()).unwrap();
                let answer = if list.len() > 1 {
                    list.pop()
                } else {
                    list.last().cloned()
                };
                let answer = answer.unwrap();
                let (status, body) = answer.split_once(' ').unwrap();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n");
                let _ = lines
                    .get_mut()
                    .write_all(format!("{head}{body}").as_bytes());
            }
        };
        threads::spawn(Role::Simulator, "upstream", 256 << 10, serve)
            .unwrap()
            .detach();
        name
    }

    struct Fixture {
        discovery: Discovery,
        stopper: Option<crate::threads::Stopper>,
        _dir: tempfile::TempDir,
    }

    fn fixture(upstream: &str) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let (stopper, stop) = stop_pair();
        Fixture {
            discovery: discovery(
                upstream,
                Arc::new(Embedded::open(dir.path()).unwrap()),
                stop,
            ),
            stopper: Some(stopper),
            _dir: dir,
        }
    }

    fn discovery(upstream: &str, control: Arc<dyn Control>, stop: Stop) -> Discovery {
        let cli = Cli::try_parse_from(["zlay", "--allow-private-hosts"]).unwrap();
        Discovery {
            list: List::new(upstream, Outbound::new(&cli.config).unwrap()).unwrap(),
            control,
            stop,
            backoff: (Duration::from_millis(1), Duration::from_millis(10)),
        }
    }

    const FIRST: &str = "/xrpc/com.atproto.sync.listHosts?limit=1000";

    #[test]
    fn every_page_is_read_and_every_host_offered() {
        let second = format!("{FIRST}&cursor=a%2Fb%26c");
        let name = upstream(&[
            (
                FIRST,
                &[
                    "500 oops",
                    "200 not json",
                    r#"200 {"cursor":"a/b&c","hosts":[{"hostname":"a.com","status":"active","seq":1},
                        {"hostname":"bad.com","status":"banned"},{"hostname":"b.com"}]}"#,
                ],
            ),
            (
                &second,
                &[r#"200 {"hosts":[{"hostname":"c.com","status":"offline"}]}"#],
            ),
        ]);
        let fixture = fixture(&name);
        let offered = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&offered);
        let offer = Arc::new(move |name: &str| {
            let mut heard = heard.lock().unwrap();
            heard.push(name.to_owned());
            let again = heard.iter().filter(|n| *n == "b.com").count();
            match name {
                "b.com" if again < 3 => Offered::Later,
                "b.com" => Offered::Refused,
                _ => Offered::Added,
            }
        });
        fixture.discovery.pass(&offer);
        let mut all = std::mem::take(&mut *offered.lock().unwrap());
        all.sort();
        assert_eq!(all, ["a.com", "b.com", "b.com", "b.com", "c.com"]);
        // The next time it goes on where new hosts are: on the last page.
        fixture.discovery.pass(&offer);
        assert_eq!(*offered.lock().unwrap(), ["c.com"]);
        let kept = fixture.discovery.kept();
        assert_eq!(kept.cursor.as_deref(), Some("a/b&c"));
        let week = kept.whole_ms + 7 * 24 * 3_600_000;
        assert_eq!(kept.clone().begin(week - 1), kept);
        let whole = Kept {
            cursor: None,
            whole_ms: week,
        };
        assert_eq!(kept.begin(week), whole);
    }

    #[test]
    fn a_cursor_that_stays_ends_the_list_and_one_that_is_not_known_begins_it_anew() {
        let again = format!("{FIRST}&cursor=x");
        let page = r#"200 {"cursor":"x","hosts":[{"hostname":"a.com"}]}"#;
        let name = upstream(&[(FIRST, &[page]), (&again, &[page, "400 what?", page])]);
        let fixture = fixture(&name);
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        let offer = Arc::new(move |_: &str| {
            counter.fetch_add(1, Ordering::Relaxed);
            Offered::Added
        });
        fixture.discovery.pass(&offer);
        assert_eq!(count.swap(0, Ordering::Relaxed), 2);
        fixture.discovery.pass(&offer);
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_stop_ends_it_while_the_upstream_fails() {
        let name = upstream(&[(FIRST, &["503 later"])]);
        let Fixture {
            mut discovery,
            stopper,
            _dir,
        } = fixture(&name);
        discovery.backoff = (Duration::from_secs(3_600), Duration::from_secs(3_600));
        let thread = threads::spawn(Role::Crawler, "test", HTTP_STACK_BYTES, move || {
            discovery.pass(&Arc::new(|_: &str| Offered::Added));
        });
        drop(stopper);
        drop(thread.unwrap());
    }

    #[test]
    fn an_upstream_that_is_no_host_is_an_error() {
        let cli = Cli::try_parse_from(["zlay"]).unwrap();
        let outbound = Outbound::new(&cli.config).unwrap();
        let (_stopper, stop) = stop_pair();
        let dir = tempfile::tempdir().unwrap();
        let control = Arc::new(Embedded::open(dir.path()).unwrap());
        let error = start("not a host", outbound, control, stop, |_| Offered::Added);
        let error = error.unwrap_err();
        assert!(matches!(error, DiscoveryError::Upstream(_)), "{error}");
    }
}
