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

use serde_json::json;

use super::{
    body::hostname,
    rate::RateLimit,
    request::{Method, Request, is_beside_us},
    response::Response,
};
use crate::{
    atproto::{
        datetime,
        hostname::{Endpoint, Hostname},
    },
    control::{Source, settings::Setting},
    host::{
        admission::{Admission, Refused},
        crawler::CrawlAnswer,
        now_ms,
        policy::Policy,
    },
    limits::{CRAWL_REQUESTS_WINDOW, HTTP_RETRY_AFTER, PROBES_MAX, RATE_ADDRESSES_MAX},
    metrics::{Metrics, labels::CrawlResult},
};

/// Where hosts ask.
pub const PATH: &str = "/xrpc/com.atproto.sync.requestCrawl";

/// Where hosts told a relay of news before there was a stream; today it says the same as [`PATH`]
/// (<https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/notifyOfUpdate.json>).
pub const NOTIFY_PATH: &str = "/xrpc/com.atproto.sync.notifyOfUpdate";

/// The set of hosts, as far as a request to crawl concerns it. No call waits for a host.
pub trait Crawl: Send + Sync {
    /// What is known of a host of this name.
    fn standing(&self, host: &Hostname) -> Standing;

    /// Adds the host, if it is new, and sees to it that it is connected to soon.
    fn request_crawl(&self, endpoint: &Endpoint, source: Source) -> CrawlAnswer;

    /// When hosts were added by request since `since_ms`, the first of them first, in milliseconds
    /// since 1970; those that are trusted do not count.
    fn requested_since(&self, since_ms: u64) -> Vec<u64>;
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
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    per_client: RateLimit,
    /// New hosts that are being checked: each has a place in the day already.
    checking: Mutex<u64>,
    probes: AtomicUsize,
}

/// What became of a request.
#[derive(Debug)]
pub struct Taken {
    /// What is answered.
    pub answer: Response,
    /// Whether something follows from it. Hosts that are connected ask every few minutes, too, which
    /// need not be passed on.
    pub is_news: bool,
}

impl Taken {
    fn not(answer: Response) -> Taken {
        Taken {
            answer,
            is_news: false,
        }
    }
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
    /// A desk that keeps to these limits.
    pub fn new(
        admission: Admission,
        crawl: Arc<dyn Crawl>,
        policy: Arc<Policy>,
        metrics: Arc<Metrics>,
    ) -> CrawlDesk {
        CrawlDesk {
            admission,
            crawl,
            policy,
            metrics,
            per_client: RateLimit::new(CRAWL_REQUESTS_WINDOW, RATE_ADDRESSES_MAX),
            checking: Mutex::new(0),
            probes: AtomicUsize::new(0),
        }
    }

    /// Anybody asks.
    pub fn public(&self, request: &Request) -> Taken {
        if request.method != Method::Post {
            return Taken::not(Response::method_not_allowed("POST"));
        }
        self.take(hostname(&request.body), Asker::Public(request.client))
    }

    /// The operator asks for the host of this name; who that is was checked before.
    pub fn operator(&self, hostname: &str) -> Response {
        self.take(Ok(hostname.to_owned()), Asker::Operator).answer
    }

    fn take(&self, hostname: Result<String, Response>, asker: Asker) -> Taken {
        let taken = hostname.and_then(|name| self.crawl(&name, asker));
        let taken = taken.unwrap_or_else(Taken::not);
        let result = match taken.answer.status {
            200 => CrawlResult::Taken,
            429 => CrawlResult::Limited,
            _ => CrawlResult::Refused,
        };
        self.metrics.crawl_requests.inc(result);
        taken
    }

    /// Cheap checks first, so that nothing is spent on a request that will be refused: syntax and
    /// policy, what is known already, the limits, and only then the network.
    fn crawl(&self, name: &str, asker: Asker) -> Result<Taken, Response> {
        let endpoint = self.admission.check(name).map_err(refusal)?;
        match self.crawl.standing(&endpoint.host) {
            Standing::Banned => return Err(refusal(Refused::Banned)),
            Standing::Known => {
                // Waking a host is cheap but not free.
                self.limit_client(asker)?;
                return self.add(&endpoint, asker);
            }
            Standing::New => {}
        }
        if asker != Asker::Operator && !self.policy.takes_requests() {
            let message = "This relay does not take new hosts by request";
            return Err(Response::error(403, "Forbidden", message));
        }
        self.limit_client(asker)?;
        let limited = asker != Asker::Operator && !self.policy.trusts_domain(&endpoint.host);
        // Until the host is one of those that the day has brought, or is refused.
        let _place = if limited {
            Some(self.take_place(now_ms())?)
        } else {
            None
        };
        self.probe(&endpoint)?;
        log::info!(host:% = endpoint.host; "a new host is asked for (requestCrawl)");
        self.add(&endpoint, asker)
    }

    fn add(&self, endpoint: &Endpoint, asker: Asker) -> Result<Taken, Response> {
        let source = match asker {
            Asker::Public(_) => Source::Request,
            Asker::Operator => Source::Operator,
        };
        let answered = self.crawl.request_crawl(endpoint, source);
        Ok(Taken {
            answer: answer(endpoint, &answered)?,
            is_news: !matches!(answered, CrawlAnswer::AlreadyConnected { .. }),
        })
    }

    /// A place for one more host among those that a day may bring.
    fn take_place(&self, now_ms: u64) -> Result<Place<'_>, Response> {
        let mut checking = self.checking.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts_max = self.policy.number(Setting::NewHostsPerDay);
        let today = self.crawl.requested_since(now_ms.saturating_sub(DAY_MS));
        if (today.len() as u64).saturating_add(*checking) >= hosts_max {
            // One that is being checked may yet be refused.
            let oldest = today.first().copied().unwrap_or(now_ms);
            let free_at = oldest.saturating_add(DAY_MS);
            return Err(Response::too_many(
                "The limit of new hosts a day is reached",
                Duration::from_millis(free_at.saturating_sub(now_ms)),
            ));
        }
        *checking += 1;
        Ok(Place(&self.checking))
    }

    fn limit_client(&self, asker: Asker) -> Result<(), Response> {
        // Who asks from our own network without a proxy in between is the operator, or a private
        // network.
        let client = match asker {
            Asker::Public(client) if !is_beside_us(client) => client,
            _ => return Ok(()),
        };
        let times_max = self.policy.number(Setting::CrawlRequestsPerMinute);
        let times_max = u32::try_from(times_max).unwrap_or(u32::MAX);
        self.per_client
            .take(client, times_max, Instant::now())
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

fn refusal(refused: Refused) -> Response {
    Response::error(refused.status(), refused.error(), &refused.to_string())
}

/// The lexicon knows no answer but that all is well; what is in it is for people.
fn answer(endpoint: &Endpoint, answer: &CrawlAnswer) -> Result<Response, Response> {
    let (state, time) = match answer {
        CrawlAnswer::Started => ("new, and about to be connected to", None),
        CrawlAnswer::Retrying => ("about to be connected to", None),
        CrawlAnswer::AlreadyConnected { since_ms } => {
            ("connected already", Some(("since", since_ms)))
        }
        CrawlAnswer::BackingOff { until_ms } => (
            "tried just now without success, and waiting for the next attempt",
            Some(("until", until_ms)),
        ),
        CrawlAnswer::Banned => return Err(refusal(Refused::Banned)),
        CrawlAnswer::Unavailable(error) => {
            log::error!(host:% = endpoint.host, error:% = error; "a new host can not be kept now");
            let message = "New hosts can not be kept now";
            let answer = Response::error(503, "InternalServerError", message);
            return Err(answer.retry_after(HTTP_RETRY_AFTER));
        }
        CrawlAnswer::Failed(error) => {
            log::error!(host:% = endpoint.host, error:% = error; "a new host can not be added");
            let message = "The host could not be added now";
            return Err(Response::error(500, "InternalServerError", message));
        }
    };
    let mut body = json!({ "hostname": endpoint.host.as_str(), "state": state });
    if let Some((name, ms)) = time {
        body[name] = datetime::from_millis(*ms).into();
    }
    Ok(Response::json(&body))
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

/// A place in the day for a host that is being checked; dropping it gives it back.
struct Place<'a>(&'a Mutex<u64>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::*;
    use crate::{config::Cli, control::settings::Settings, host::admission::tests::admission};

    /// Hosts that were added at these times, and nothing else.
    struct Added(Vec<u64>);

    impl Crawl for Added {
        fn standing(&self, _: &Hostname) -> Standing {
            Standing::New
        }

        fn request_crawl(&self, _: &Endpoint, _: Source) -> CrawlAnswer {
            CrawlAnswer::Started
        }

        fn requested_since(&self, since_ms: u64) -> Vec<u64> {
            let times = self.0.iter().copied();
            times.filter(|at| *at >= since_ms).collect()
        }
    }

    fn desk(added: Vec<u64>) -> CrawlDesk {
        let flags = ["zlay", "--new-hosts-per-day-limit", "2"];
        let policy = Policy::new(&Cli::parse_from(flags).config, Settings::default());
        let crawl = Arc::new(Added(added));
        CrawlDesk::new(admission(&[]), crawl, Arc::new(policy), Arc::default())
    }

    #[test]
    fn a_day_has_its_hosts_and_those_that_are_refused_do_not_count() {
        let now = 10 * DAY_MS;
        let desk = desk(vec![now - DAY_MS - 1, now - DAY_MS / 2]);
        let place = desk.take_place(now).unwrap();
        let error = desk.take_place(now).err().unwrap();
        assert_eq!(error.status, 429);
        assert_eq!(error.headers, [("Retry-After", "43200".to_owned())]);
        drop(place);
        assert!(desk.take_place(now).is_ok());
        // As soon as the day of the first one is over.
        let _place = desk.take_place(now + DAY_MS / 2).unwrap();
        assert!(desk.take_place(now + DAY_MS / 2).is_err());
        assert!(desk.take_place(now + DAY_MS / 2 + 1).is_ok());
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

    #[test]
    fn an_answer_says_how_the_host_does() {
        let endpoint = Endpoint::parse("pds.example.com").unwrap();
        let said = |answer| {
            let answer = super::answer(&endpoint, &answer).unwrap();
            serde_json::from_slice::<Value>(&answer.body).unwrap()
        };
        let connected = said(CrawlAnswer::AlreadyConnected { since_ms: 0 });
        assert_eq!(connected["state"], "connected already");
        assert_eq!(connected["since"], "1970-01-01T00:00:00.000Z");
        let waits = said(CrawlAnswer::BackingOff { until_ms: 1_000 });
        assert_eq!(waits["until"], "1970-01-01T00:00:01.000Z");
        let refused = |answer| super::answer(&endpoint, &answer).unwrap_err().status;
        assert_eq!(refused(CrawlAnswer::Unavailable(String::new())), 503);
        assert_eq!(refused(CrawlAnswer::Banned), 403);
    }
}
