//! `zlay crawl`, `zlay hosts pull` and `zlay health`: asking a running relay to crawl hosts, as anybody
//! may, or as its operator, and how it does.

use std::{
    fmt,
    io::{self, Write},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crossbeam_channel::{bounded, unbounded};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::crawl;
use crate::{
    config::Secret,
    host::discovery,
    outbound::{Call, FetchError, Outbound, pages::PageError},
};

/// One request, everything but the answer's length together: the relay checks the host meanwhile.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer about one host, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The answer of a probe, everything together: shorter than what supervisors wait for it.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(4);
/// Hosts that the relay is asked about at the same time; it checks a few more.
const PULL_THREADS: usize = 8;
/// Between two lines that say how far it is, in hosts.
const PULL_REPORT: usize = 100;
/// Where the operator asks.
const OPERATOR_PATH: &str = "/admin/pds/requestCrawl";

/// Why a relay did not take a host.
#[derive(Debug)]
pub enum CrawlError {
    /// Not the URL of a relay.
    Url(String),
    /// No answer.
    Fetch(FetchError),
    /// The relay refuses.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl fmt::Display for CrawlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CrawlError::Url(url) => write!(f, "{url:?} is not the URL of a relay"),
            CrawlError::Fetch(error) => write!(f, "{error}"),
            CrawlError::Refused { status, message } => write!(f, "{message} (status {status})"),
        }
    }
}

impl std::error::Error for CrawlError {}

/// A running relay.
#[derive(Clone, Debug)]
pub struct Relay<'a> {
    outbound: &'a Outbound,
    /// Without a slash at its end.
    url: String,
    /// The `Authorization` of its operator.
    operator: Option<String>,
}

impl<'a> Relay<'a> {
    /// The relay at `url`: `http://host:port`, `https://host`, or a bare host, which means `https`.
    /// With the password hosts are added by its operator, for whom no limit holds.
    pub fn new(
        outbound: &'a Outbound,
        url: &str,
        password: Option<&Secret>,
    ) -> Result<Relay<'a>, CrawlError> {
        Ok(Relay {
            outbound,
            url: base_url(url)?,
            operator: password.map(authorization),
        })
    }

    /// Asks the relay to crawl one host; what it says of it.
    pub fn request_crawl(&self, host: &str) -> Result<String, CrawlError> {
        let path = match self.operator {
            Some(_) => OPERATOR_PATH,
            None => crawl::PATH,
        };
        let mut headers = vec![("content-type", "application/json")];
        if let Some(operator) = &self.operator {
            headers.push(("authorization", operator));
        }
        let answer = self.outbound.call(&Call {
            method: "POST",
            url: &format!("{}{path}", self.url),
            headers: &headers,
            body: json!({ "hostname": host }).to_string().as_bytes(),
            timeout: TIMEOUT,
            body_bytes_max: ANSWER_BYTES_MAX,
        });
        let answer = answer.map_err(CrawlError::Fetch)?;
        let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let word = |name| said.get(name).and_then(Value::as_str).unwrap_or_default();
        if answer.status == 200 {
            let state = word("state");
            return Ok(if state.is_empty() { "ok" } else { state }.to_owned());
        }
        let message = format!("{} {}", word("error"), word("message"));
        Err(CrawlError::Refused {
            status: answer.status,
            message: message.trim().to_owned(),
        })
    }

    /// Asks the relay how it does, at its internal port, and writes one line about it. Returns whether it
    /// is well: events get through, and with `ready` it has all that subscribers need.
    pub fn health(&self, ready: bool, out: &mut impl Write) -> io::Result<bool> {
        let (path, well) = match ready {
            true => ("/readyz", "ready"),
            false => ("/healthz", "alive"),
        };
        let url = format!("{}{path}", self.url);
        let answer = self.outbound.call(&Call {
            method: "GET",
            url: &url,
            headers: &[],
            body: &[],
            timeout: HEALTH_TIMEOUT,
            body_bytes_max: ANSWER_BYTES_MAX,
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                writeln!(out, "no answer from {url}: {error}")?;
                return Ok(false);
            }
        };
        let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        if answer.status == 200 && said["status"] == "ok" {
            let warnings = said["warnings"].as_array().into_iter().flatten();
            let warnings: Vec<&str> = warnings.filter_map(Value::as_str).collect();
            match warnings.is_empty() {
                true => writeln!(out, "{well}")?,
                false => writeln!(out, "{well}; {}", warnings.join("; "))?,
            }
            return Ok(true);
        }
        let status = answer.status;
        match said["message"].as_str() {
            Some(message) if status == 503 => writeln!(out, "not {well}: {message}")?,
            _ => writeln!(
                out,
                "{url} answers {status}, which is not an internal port of zlay"
            )?,
        }
        Ok(false)
    }

    /// Asks the relay to crawl each of `hosts` and writes one line about each. Returns whether all
    /// were taken.
    pub fn crawl(&self, hosts: &[String], out: &mut impl Write) -> io::Result<bool> {
        let mut all = true;
        for host in hosts {
            match self.request_crawl(host) {
                Ok(state) => writeln!(out, "{host}: {state}")?,
                Err(error) => {
                    all = false;
                    writeln!(out, "{host}: {error}")?;
                }
            }
        }
        Ok(all)
    }

    /// Asks the relay to crawl every host that another relay lists. Writes a line about each that is
    /// not taken, and now and then how far it is. Ends early where the relay takes no more.
    pub fn pull(&self, from: &str, out: &mut impl Write) -> Result<bool, PullError> {
        let list = discovery::List::new(from, self.outbound.clone()).map_err(PullError::From)?;
        writeln!(out, "asking {from} for its hosts").map_err(PullError::Output)?;
        let hosts = list.hosts().map_err(PullError::List)?;
        let total = hosts.len();
        writeln!(out, "{total} hosts are listed there").map_err(PullError::Output)?;
        let (give, take) = unbounded();
        for host in hosts {
            let _ = give.send(host);
        }
        drop(give);
        let (tell, told) = bounded(PULL_THREADS);
        let open = AtomicUsize::new(1);
        std::thread::scope(|scope| {
            for _ in 0..PULL_THREADS {
                let (take, tell, open) = (take.clone(), tell.clone(), &open);
                scope.spawn(move || {
                    for host in take {
                        if open.load(Ordering::Relaxed) == 0 {
                            return;
                        }
                        let outcome = self.request_crawl(&host);
                        if tell.send((host, outcome)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(tell);
            let mut count = Pulled::default();
            for (host, outcome) in told {
                match outcome {
                    Ok(_) => count.taken += 1,
                    Err(error) => {
                        count.refused += 1;
                        writeln!(out, "{host}: {error}").map_err(PullError::Output)?;
                        if error.is_for_all() {
                            open.store(0, Ordering::Relaxed);
                            count.ended = true;
                        }
                    }
                }
                let done = count.taken + count.refused;
                if done % PULL_REPORT == 0 {
                    let refused = count.refused;
                    writeln!(out, "{done} of {total} asked about, {refused} not taken")
                        .map_err(PullError::Output)?;
                }
            }
            writeln!(
                out,
                "{} of {total} hosts are crawled, {} were not taken",
                count.taken, count.refused
            )
            .map_err(PullError::Output)?;
            if count.ended {
                let hint = "the relay takes no more now; RELAY_ADMIN_PASSWORD lifts its limits";
                writeln!(out, "{hint}").map_err(PullError::Output)?;
            }
            Ok(!count.ended && (count.taken > 0 || total == 0))
        })
    }
}

/// The scheme and the authority of a relay's URL, without a slash at the end; a bare host means `https`.
pub(crate) fn base_url(url: &str) -> Result<String, CrawlError> {
    let wrong = || CrawlError::Url(url.to_owned());
    let trimmed = url.trim();
    let (scheme, rest) = match trimmed.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return Err(wrong()),
        None => ("https", trimmed),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ', '\r', '\n']) {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{authority}"))
}

/// The `Authorization` of an operator.
pub(crate) fn authorization(password: &Secret) -> String {
    let pair = format!("admin:{}", password.expose());
    format!("Basic {}", BASE64.encode(pair.as_bytes()))
}

#[derive(Default)]
struct Pulled {
    taken: usize,
    refused: usize,
    ended: bool,
}

impl CrawlError {
    /// Whether no other host would be taken now either.
    fn is_for_all(&self) -> bool {
        match self {
            CrawlError::Url(_) | CrawlError::Fetch(_) => true,
            CrawlError::Refused { status, message } => {
                matches!(status, 401 | 429 | 500..)
                    || *status == 403 && !message.starts_with("HostBanned")
            }
        }
    }
}

/// Why no hosts were pulled.
#[derive(Debug)]
pub enum PullError {
    /// Not a relay to ask.
    From(discovery::DiscoveryError),
    /// The list can not be read.
    List(PageError),
    /// Nothing can be written.
    Output(io::Error),
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PullError::From(error) => write!(f, "--from: {error}"),
            PullError::List(error) => write!(f, "{error}"),
            PullError::Output(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for PullError {}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::Cli;

    #[test]
    fn a_relay_is_a_url_without_a_path() {
        let outbound = Outbound::new(&Cli::parse_from(["zlay"]).config).unwrap();
        let url = |text| Relay::new(&outbound, text, None).map(|relay| relay.url);
        assert_eq!(
            url("relay.example.com").unwrap(),
            "https://relay.example.com"
        );
        assert_eq!(url(" http://[::1]:3000/ ").unwrap(), "http://[::1]:3000");
        for bad in [
            "",
            "ftp://a.com",
            "https://a.com/x",
            "https://u@a.com",
            "a b",
        ] {
            assert!(matches!(url(bad), Err(CrawlError::Url(_))), "{bad}");
        }
    }
}
