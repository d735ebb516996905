//! `com.atproto.sync.requestCrawl`: a host asks to be crawled
//! (<https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>).

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    rate::RateLimit,
    request::{Method, Request, is_beside_us},
    response::Response,
};
use crate::{
    atproto::hostname::{Endpoint, Hostname},
    config::Config,
    host::{
        admission::{Admission, Refused},
        crawler::CrawlAnswer,
    },
    limits::{
        CRAWL_REQUESTS_MAX, CRAWL_REQUESTS_WINDOW, HTTP_RETRY_AFTER, PROBES_MAX, RATE_ADDRESSES_MAX,
    },
};

/// Where hosts ask.
pub const PATH: &str = "/xrpc/com.atproto.sync.requestCrawl";

/// Where hosts told a relay of news before there was a stream; today it says the same as [`PATH`]
/// (<https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/notifyOfUpdate.json>).
pub const NOTIFY_PATH: &str = "/xrpc/com.atproto.sync.notifyOfUpdate";

/// The set of hosts, as far as a request to crawl concerns it. Neither call waits for a host.
pub trait Crawl: Send + Sync {
    /// What is known of a host of this name.
    fn standing(&self, host: &Hostname) -> Standing;

    /// Adds the host, if it is new, and sees to it that it is connected to soon.
    fn request_crawl(&self, endpoint: Endpoint) -> CrawlAnswer;
}

/// What is known of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Nothing.
    New,
    /// It is one of ours.
    Known,
    /// It, or a domain above it, is banned.
    Banned,
}

/// Takes requests to crawl and keeps the limits on them.
pub struct CrawlDesk {
    admission: Admission,
    crawl: Arc<dyn Crawl>,
    disabled: bool,
    per_client: RateLimit,
    new_hosts: DailyLimit,
    probes: AtomicUsize,
}

/// On whose behalf a host is to be crawled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asker {
    /// Anybody, at this address.
    Public(IpAddr),
    /// The operator: no switch and no limit holds, the check of the host does.
    Operator,
}

impl CrawlDesk {
    /// A desk with the limits of the configuration.
    pub fn new(config: &Config, admission: Admission, crawl: Arc<dyn Crawl>) -> CrawlDesk {
        CrawlDesk {
            admission,
            crawl,
            disabled: config.disable_request_crawl,
            per_client: RateLimit::new(
                CRAWL_REQUESTS_MAX,
                CRAWL_REQUESTS_WINDOW,
                RATE_ADDRESSES_MAX,
            ),
            new_hosts: DailyLimit::new(config.new_hosts_per_day_limit),
            probes: AtomicUsize::new(0),
        }
    }

    /// Anybody asks.
    pub fn public(&self, request: &Request) -> Response {
        self.handle(request, Asker::Public(request.client))
    }

    /// The operator asks; who that is was checked before.
    pub fn operator(&self, request: &Request) -> Response {
        self.handle(request, Asker::Operator)
    }

    fn handle(&self, request: &Request, asker: Asker) -> Response {
        if request.method != Method::Post {
            return Response::method_not_allowed("POST");
        }
        let outcome = hostname(&request.body).and_then(|name| self.crawl(&name, asker));
        outcome.unwrap_or_else(|error| error)
    }

    /// Cheap checks first, so that nothing is spent on a request that will be refused: syntax and
    /// policy, what is known already, the limits, and only then the network.
    fn crawl(&self, name: &str, asker: Asker) -> Result<Response, Response> {
        let endpoint = self.admission.check(name).map_err(refusal)?;
        match self.crawl.standing(&endpoint.host) {
            Standing::Banned => return Err(refusal(Refused::Banned)),
            Standing::Known => {
                // Waking a host is cheap but not free.
                self.limit_client(asker)?;
                return answer(self.crawl.request_crawl(endpoint));
            }
            Standing::New => {}
        }
        if self.disabled && asker != Asker::Operator {
            let message = "This relay does not take new hosts by request";
            return Err(Response::error(403, "Forbidden", message));
        }
        self.limit_client(asker)?;
        let limited = asker != Asker::Operator && !self.admission.is_trusted(&endpoint.host);
        let place = if limited {
            Some(self.new_hosts.take(Instant::now())?)
        } else {
            None
        };
        self.probe(&endpoint)?;
        if let Some(place) = place {
            place.keep();
        }
        log::info!("requestCrawl: {} is new", endpoint.host);
        answer(self.crawl.request_crawl(endpoint))
    }

    fn limit_client(&self, asker: Asker) -> Result<(), Response> {
        // Who asks from our own network without a proxy in between is the operator, or a private
        // network.
        let client = match asker {
            Asker::Public(client) if !is_beside_us(client) => client,
            _ => return Ok(()),
        };
        self.per_client
            .take(client, Instant::now())
            .map_err(|after| Response::too_many("Too many requests to crawl", after))
    }

    /// Asks the host whether it is one, together with few enough others.
    fn probe(&self, endpoint: &Endpoint) -> Result<(), Response> {
        let _place = Probing::begin(&self.probes).ok_or_else(|| {
            Response::too_many("Too many hosts are being checked", HTTP_RETRY_AFTER)
        })?;
        self.admission.probe(endpoint).map_err(refusal)
    }
}

/// The `hostname` of the body.
fn hostname(body: &[u8]) -> Result<String, Response> {
    let body: Value = serde_json::from_slice(body)
        .map_err(|_| Response::invalid("The request body is not JSON"))?;
    match body.get("hostname") {
        Some(Value::String(name)) if !name.trim().is_empty() => Ok(name.clone()),
        _ => Err(Response::invalid("hostname is missing, or is not a string")),
    }
}

fn refusal(refused: Refused) -> Response {
    Response::error(refused.status(), refused.error(), &refused.to_string())
}

fn answer(answer: CrawlAnswer) -> Result<Response, Response> {
    match answer {
        CrawlAnswer::AlreadyConnected | CrawlAnswer::Started | CrawlAnswer::Retrying => {
            Ok(Response::json(&json!({})))
        }
        CrawlAnswer::Banned => Err(refusal(Refused::Banned)),
        CrawlAnswer::Failed(error) => {
            log::error!("requestCrawl: {error}");
            let message = "The host could not be added now";
            Err(Response::error(500, "InternalServerError", message))
        }
    }
}

/// One of [`PROBES_MAX`] checks under way.
struct Probing<'a>(&'a AtomicUsize);

impl Probing<'_> {
    fn begin(probes: &AtomicUsize) -> Option<Probing<'_>> {
        let place = Probing(probes);
        // The place is given back when there was no room for it.
        (probes.fetch_add(1, Ordering::Relaxed) < PROBES_MAX).then_some(place)
    }
}

impl Drop for Probing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many new hosts a day may bring by request. The day begins with its first new host.
#[derive(Debug)]
struct DailyLimit {
    hosts_max: u64,
    day: Mutex<Option<Day>>,
}

#[derive(Debug)]
struct Day {
    began: Instant,
    hosts: u64,
}

const DAY: Duration = Duration::from_secs(24 * 3_600);

impl DailyLimit {
    fn new(hosts_max: u64) -> DailyLimit {
        DailyLimit {
            hosts_max,
            day: Mutex::new(None),
        }
    }

    /// A place for one more host; it is free again unless it is kept.
    fn take(&self, now: Instant) -> Result<NewHost<'_>, Response> {
        let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        if day
            .as_ref()
            .is_some_and(|d| now.saturating_duration_since(d.began) >= DAY)
        {
            *day = None;
        }
        let day = day.get_or_insert(Day {
            began: now,
            hosts: 0,
        });
        if day.hosts >= self.hosts_max {
            let after = DAY - now.saturating_duration_since(day.began);
            return Err(Response::too_many(
                "The limit of new hosts a day is reached",
                after,
            ));
        }
        day.hosts += 1;
        Ok(NewHost {
            limit: self,
            kept: false,
        })
    }
}

struct NewHost<'a> {
    limit: &'a DailyLimit,
    kept: bool,
}

impl NewHost<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NewHost<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut day = self
            .limit
            .day
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(day) = day.as_mut() {
            day.hosts = day.hosts.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_hosts_and_failures_do_not_count() {
        let limit = DailyLimit::new(1);
        let start = Instant::now();
        drop(limit.take(start).unwrap());
        limit.take(start).unwrap().keep();
        let error = limit.take(start + DAY / 2).err().unwrap();
        assert_eq!(error.status, 429);
        assert_eq!(error.headers, [("Retry-After", "43200".to_owned())]);
        limit.take(start + DAY).unwrap().keep();
        assert!(limit.take(start + DAY).is_err());
    }

    #[test]
    fn checks_under_way_are_bounded() {
        let probes = AtomicUsize::new(0);
        let places: Vec<_> = (0..PROBES_MAX)
            .map(|_| Probing::begin(&probes).unwrap())
            .collect();
        assert!(Probing::begin(&probes).is_none());
        drop(places);
        assert_eq!(probes.load(Ordering::Relaxed), 0);
    }
}
