//! Learning hosts from another relay: its `listHosts` is read once, in the background, and every
//! host on it is offered for admission.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use serde::Deserialize;

use crate::{
    atproto::hostname::{Endpoint, HostnameError},
    limits::{
        DISCOVERY_BACKOFF_FIRST, DISCOVERY_BACKOFF_MAX, DISCOVERY_HOSTS_MAX,
        DISCOVERY_PAGE_BYTES_MAX, DISCOVERY_PAGE_TIMEOUT, DISCOVERY_REPORT_INTERVAL,
        DISCOVERY_THREADS, HTTP_STACK_BYTES,
    },
    outbound::{FetchError, GetOptions, Outbound},
    threads::{self, Role, Stop, Thread},
};

/// What one page may hold at most (<https://docs.bsky.app/docs/api/com-atproto-sync-list-hosts>).
const PAGE_HOSTS: usize = 1_000;

/// Asks `upstream` (a hostname, or the URL of one) for its hosts and calls `offer` with the name
/// of each that it has not banned; `offer` returns whether the host was added. Several threads
/// call it at the same time, and each call may take as long as a check of the host takes.
///
/// Pages that can not be read are asked for again, ever more rarely, until `stop`.
pub fn start(
    upstream: &str,
    outbound: Outbound,
    stop: Stop,
    offer: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Result<Thread, DiscoveryError> {
    let endpoint = Endpoint::parse(upstream.trim()).map_err(DiscoveryError::Upstream)?;
    let discovery = Discovery {
        endpoint,
        outbound,
        stop,
        backoff: (DISCOVERY_BACKOFF_FIRST, DISCOVERY_BACKOFF_MAX),
    };
    let body = move || discovery.run(Arc::new(offer));
    threads::spawn(Role::Crawler, "discovery", HTTP_STACK_BYTES, body)
        .map_err(DiscoveryError::Thread)
}

/// Why a discovery can not begin.
#[derive(Debug)]
pub enum DiscoveryError {
    /// The upstream relay is not a host.
    Upstream(HostnameError),
    /// There is no thread for it.
    Thread(std::io::Error),
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscoveryError::Upstream(error) => write!(f, "RELAY_UPSTREAM is {error}"),
            DiscoveryError::Thread(error) => write!(f, "thread for the discovery: {error}"),
        }
    }
}

impl std::error::Error for DiscoveryError {}

struct Discovery {
    endpoint: Endpoint,
    outbound: Outbound,
    stop: Stop,
    /// The first and the longest delay after a failure.
    backoff: (Duration, Duration),
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

impl Discovery {
    fn run(self, offer: Arc<impl Fn(&str) -> bool + Send + Sync + 'static>) {
        let progress = Arc::new(Progress::default());
        // Bounded by DISCOVERY_HOSTS_MAX names.
        let (names, to_check) = unbounded();
        // Disconnected when the last checker has ended.
        let (checking, checked) = bounded::<()>(0);
        let mut checkers = Vec::new();
        for n in 0..DISCOVERY_THREADS {
            let (to_check, stop) = (to_check.clone(), self.stop.clone());
            let (progress, offer) = (Arc::clone(&progress), Arc::clone(&offer));
            let checking = checking.clone();
            let body = move || {
                check_all(&to_check, &stop, &progress, &*offer);
                drop(checking);
            };
            let detail = format!("check:{n}");
            match threads::spawn(Role::Crawler, &detail, HTTP_STACK_BYTES, body) {
                Ok(thread) => checkers.push(thread),
                Err(error) => log::warn!("discovery: thread {n}: {error}"),
            }
        }
        drop((to_check, checking));
        log::info!("discovery: asking {} for its hosts", self.endpoint.host);
        self.list_all(&names, &progress);
        drop(names);
        loop {
            select! {
                recv(checked) -> _ => break,
                recv(self.stop.channel()) -> _ => break,
                default(DISCOVERY_REPORT_INTERVAL) => log::info!("discovery: {progress}"),
            }
        }
        drop(checkers);
        let end = if self.stop.requested() {
            "stopped"
        } else {
            "done"
        };
        log::info!("discovery: {end}, {progress}");
    }

    /// Reads page after page until the last one.
    fn list_all(&self, names: &Sender<String>, progress: &Progress) {
        let mut cursor: Option<String> = None;
        let mut failures = 0;
        loop {
            let page = match self.page(cursor.as_deref()) {
                Ok(page) => page,
                Err(error) => {
                    let delay = self.delay(failures);
                    failures += 1;
                    log::warn!("discovery: {error}; again in {} ms", delay.as_millis());
                    if self.stop.wait(delay) {
                        return;
                    }
                    continue;
                }
            };
            failures = 0;
            let empty = page.hosts.is_empty();
            for host in page.hosts {
                if host.status.as_deref() == Some("banned") {
                    continue;
                }
                if progress.listed.fetch_add(1, Ordering::Relaxed) >= DISCOVERY_HOSTS_MAX as u64 {
                    log::warn!("discovery: over {DISCOVERY_HOSTS_MAX} hosts, the rest is left out");
                    return;
                }
                if names.send(host.hostname).is_err() {
                    return;
                }
            }
            log::info!("discovery: {progress}");
            // An empty page, or a cursor that stays, would go on for ever.
            if page.cursor.is_none() || page.cursor == cursor || empty || self.stop.requested() {
                return;
            }
            cursor = page.cursor;
        }
    }

    fn page(&self, cursor: Option<&str>) -> Result<Page, PageError> {
        let mut url = format!(
            "{}/xrpc/com.atproto.sync.listHosts?limit={PAGE_HOSTS}",
            self.endpoint.origin()
        );
        if let Some(cursor) = cursor {
            url.push_str("&cursor=");
            url.push_str(&encode(cursor));
        }
        let options = GetOptions {
            timeout: DISCOVERY_PAGE_TIMEOUT,
            body_bytes_max: DISCOVERY_PAGE_BYTES_MAX,
            accept: "application/json",
        };
        let answer = self.outbound.get(&url, options).map_err(PageError::Fetch)?;
        if answer.status != 200 {
            return Err(PageError::Status(answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|e| PageError::Json(e.to_string()))
    }

    /// Doubles with each failure, and is spread so that relays that lost the same upstream do not
    /// come back together.
    fn delay(&self, failures: u32) -> Duration {
        let (first, longest) = self.backoff;
        let full = first.saturating_mul(1 << failures.min(16)).min(longest);
        full.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

/// Offers names until there are no more.
fn check_all(
    names: &Receiver<String>,
    stop: &Stop,
    progress: &Progress,
    offer: &impl Fn(&str) -> bool,
) {
    for name in names {
        if stop.requested() {
            return;
        }
        let added = offer(&name);
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

/// Why a page could not be read.
enum PageError {
    Fetch(FetchError),
    Status(u16),
    Json(String),
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PageError::Fetch(error) => write!(f, "listHosts failed: {error}"),
            PageError::Status(status) => write!(f, "listHosts has status {status}"),
            PageError::Json(error) => write!(f, "listHosts is not what it should be: {error}"),
        }
    }
}

/// Percent-encodes everything but letters and digits.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
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
    use crate::{config::Cli, threads::stop_pair};

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

    fn discovery(upstream: &str, stop: Stop) -> Discovery {
        let cli = Cli::try_parse_from(["zlay", "--allow-private-hosts"]).unwrap();
        Discovery {
            endpoint: Endpoint::parse(upstream).unwrap(),
            outbound: Outbound::new(&cli.config).unwrap(),
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
        let (_stopper, stop) = stop_pair();
        let offered = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&offered);
        discovery(&name, stop).run(Arc::new(move |name: &str| {
            heard.lock().unwrap().push(name.to_owned());
            name != "b.com"
        }));
        let mut offered = offered.lock().unwrap().clone();
        offered.sort();
        assert_eq!(offered, ["a.com", "b.com", "c.com"]);
    }

    #[test]
    fn a_cursor_that_stays_ends_the_list() {
        let again = format!("{FIRST}&cursor=x");
        let page = r#"200 {"cursor":"x","hosts":[{"hostname":"a.com"}]}"#;
        let name = upstream(&[(FIRST, &[page]), (&again, &[page])]);
        let (_stopper, stop) = stop_pair();
        let count = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&count);
        discovery(&name, stop).run(Arc::new(move |_: &str| {
            counter.fetch_add(1, Ordering::Relaxed);
            true
        }));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_stop_ends_it_while_the_upstream_fails() {
        let name = upstream(&[(FIRST, &["503 later"])]);
        let (stopper, stop) = stop_pair();
        let mut discovery = discovery(&name, stop);
        discovery.backoff = (Duration::from_secs(3_600), Duration::from_secs(3_600));
        let thread = threads::spawn(Role::Crawler, "test", HTTP_STACK_BYTES, move || {
            discovery.run(Arc::new(|_: &str| true));
        });
        drop(stopper);
        drop(thread.unwrap());
    }

    #[test]
    fn an_upstream_that_is_no_host_is_an_error() {
        let cli = Cli::try_parse_from(["zlay"]).unwrap();
        let outbound = Outbound::new(&cli.config).unwrap();
        let (_stopper, stop) = stop_pair();
        let error = start("not a host", outbound, stop, |_| true).unwrap_err();
        assert!(matches!(error, DiscoveryError::Upstream(_)), "{error}");
    }
}
