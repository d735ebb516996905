//! Relays of the same operator: what is decided here, and whom hosts ask to be crawled, holds there too.
//!
//! A request that was carried out here is passed on as it came, but for a `Via` header, by which the
//! sibling knows not to pass it on again; so do the relays of others
//! (<https://github.com/bluesky-social/indigo/blob/main/cmd/relay/forward.go>). Nobody waits for it.

use std::{fmt, sync::Arc};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};

use super::request::{Method, Request};
use crate::{
    atproto::hostname::{Endpoint, HostnameError},
    limits::{
        HTTP_STACK_BYTES, SIBLING_ANSWER_BYTES_MAX, SIBLING_ATTEMPTS, SIBLING_QUEUE_MAX,
        SIBLING_RETRY, SIBLING_TIMEOUT,
    },
    metrics::Metrics,
    outbound::{Call, Outbound},
    threads::{self, Role, Stop, Thread},
};

/// By what relays recognise each other.
const MARK: &str = "atproto-relay";

/// What is passed on of the headers of a request.
const HEADERS: [&str; 4] = ["accept", "user-agent", "authorization", "content-type"];

/// Passes requests on; without siblings it does nothing.
pub struct Siblings {
    queues: Vec<Sender<Arc<Passed>>>,
    metrics: Arc<Metrics>,
}

/// A request to be passed on.
struct Passed {
    method: &'static str,
    /// Path and query.
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// Why there are no siblings.
#[derive(Debug)]
pub enum SiblingsError {
    /// One of them is not a host.
    Name(String, HostnameError),
    /// There is no thread for it.
    Thread(std::io::Error),
}

impl fmt::Display for SiblingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SiblingsError::Name(name, error) => {
                write!(f, "RELAY_SIBLING_RELAYS: {name:?} is {error}")
            }
            SiblingsError::Thread(error) => write!(f, "thread for a sibling relay: {error}"),
        }
    }
}

impl std::error::Error for SiblingsError {}

impl Siblings {
    /// Nobody to pass anything on to.
    pub fn none(metrics: Arc<Metrics>) -> Siblings {
        Siblings {
            queues: Vec::new(),
            metrics,
        }
    }

    /// A thread for each sibling (a hostname, or the URL of one), so that one which does not answer
    /// holds up nothing else.
    pub fn start(
        names: &[String],
        outbound: &Outbound,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<(Siblings, Vec<Thread>), SiblingsError> {
        let mut siblings = Siblings::none(metrics.clone());
        let mut threads = Vec::new();
        for name in names
            .iter()
            .map(|name| name.trim())
            .filter(|name| !name.is_empty())
        {
            let sibling = Endpoint::parse(name)
                .map_err(|error| SiblingsError::Name(name.to_owned(), error))?;
            let (queue, passed) = bounded(SIBLING_QUEUE_MAX);
            siblings.queues.push(queue);
            let (outbound, stop) = (outbound.clone(), stop.clone());
            let (metrics, detail) = (metrics.clone(), format!("sibling:{}", sibling.host));
            let body = move || {
                let sending = Sending {
                    sibling,
                    outbound,
                    metrics,
                    stop,
                };
                sending.run(&passed);
            };
            let thread = threads::spawn(Role::Crawler, &detail, HTTP_STACK_BYTES, body)
                .map_err(SiblingsError::Thread)?;
            threads.push(thread);
        }
        Ok((siblings, threads))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.queues.len()
    }

    /// Passes a request on that was carried out here, unless it comes from a relay.
    pub fn forward(&self, request: &Request) {
        let mut from = request
            .headers
            .all("via")
            .chain(request.headers.all("user-agent"));
        if self.queues.is_empty() || from.any(|value| value.contains(MARK)) {
            return;
        }
        let headers = HEADERS.into_iter().filter_map(|name| {
            let value = request.headers.first(name)?;
            Some((name, value.to_owned()))
        });
        let query = match request.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let passed = Arc::new(Passed {
            method: match request.method {
                Method::Post => "POST",
                _ => "GET",
            },
            target: format!("{}{query}", request.path),
            headers: headers.collect(),
            body: request.body.clone(),
        });
        for queue in &self.queues {
            if let Err(TrySendError::Full(_)) = queue.try_send(passed.clone()) {
                self.metrics.siblings_failed.inc();
                log::error!(
                    waiting = SIBLING_QUEUE_MAX;
                    "a sibling relay does not take requests; one is lost"
                );
            }
        }
    }
}

/// The thread of one sibling.
struct Sending {
    sibling: Endpoint,
    outbound: Outbound,
    metrics: Arc<Metrics>,
    stop: Stop,
}

impl Sending {
    fn run(&self, passed: &Receiver<Arc<Passed>>) {
        loop {
            select! {
                recv(passed) -> next => match next {
                    Ok(next) => self.send(&next),
                    Err(_) => return,
                },
                recv(self.stop.channel()) -> _ => return,
            }
        }
    }

    /// Passes one request on; a sibling that does not answer is asked again a few times.
    fn send(&self, passed: &Passed) {
        let (target, sibling) = (&passed.target, &self.sibling.host);
        let mut delay = SIBLING_RETRY;
        for attempt in 1..=SIBLING_ATTEMPTS {
            match self.attempt(passed) {
                Ok(()) => {
                    self.metrics.siblings_told.inc();
                    log::info!(sibling:% = sibling, target_path:% = target; "a sibling relay is told");
                    return;
                }
                Err(Failure::Refused(status)) => {
                    log::error!(sibling:% = sibling, target_path:% = target, status = status; "a sibling relay refuses what it is told");
                    break;
                }
                Err(Failure::Unreachable(error)) => {
                    log::warn!(sibling:% = sibling, target_path:% = target, attempt = attempt, error:% = error; "a sibling relay is not reached");
                }
            }
            if attempt == SIBLING_ATTEMPTS || self.stop.wait(delay) {
                break;
            }
            delay *= 4;
        }
        self.metrics.siblings_failed.inc();
    }

    fn attempt(&self, passed: &Passed) -> Result<(), Failure> {
        let url = format!("{}{}", self.sibling.origin(), passed.target);
        let headers = passed
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<(&str, &str)> = headers.chain([("via", VIA)]).collect();
        let answer = self.outbound.call(&Call {
            method: passed.method,
            url: &url,
            headers: &headers,
            body: &passed.body,
            timeout: SIBLING_TIMEOUT,
            body_bytes_max: SIBLING_ANSWER_BYTES_MAX,
        });
        match answer {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                Err(Failure::Unreachable(format!("status {}", answer.status)))
            }
            Ok(answer) => Err(Failure::Refused(answer.status)),
            Err(error) => Err(Failure::Unreachable(error.to_string())),
        }
    }
}

/// The `Via` header of what is passed on (<https://www.rfc-editor.org/rfc/rfc9110#name-via>).
const VIA: &str = "1.1 atproto-relay";

enum Failure {
    /// Asking again changes nothing.
    Refused(u16),
    Unreachable(String),
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::{IpAddr, TcpListener},
    };

    use clap::Parser;

    use super::*;
    use crate::{config::Cli, http::request::Headers, threads::stop_pair};

    /// A relay that answers with each of these statuses in turn, and tells what it is sent.
    fn sibling(statuses: &'static [u16]) -> (String, Receiver<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let (tell, told) = bounded(16);
        let serve = move || {
            for (status, stream) in statuses.iter().zip(listener.incoming()) {
                let mut lines = BufReader::new(stream.unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    lines.read_line(&mut head).unwrap();
                }
                let lower = head.to_ascii_lowercase();
                let length = lower.split("content-length: ").nth(1);
                let length = length.and_then(|rest| rest.split("\r\n").next());
                let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
                lines.read_exact(&mut body).unwrap();
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}");
                lines.get_mut().write_all(answer.as_bytes()).unwrap();
                tell.send((lower, String::from_utf8(body).unwrap()))
                    .unwrap();
            }
        };
        let thread = threads::spawn(Role::Simulator, "sibling", 256 << 10, serve);
        thread.unwrap().detach();
        (name, told)
    }

    fn request(headers: &[(&str, &str)], body: &str) -> Request {
        let mut all = Headers::default();
        for (name, value) in headers {
            all.push(name, value.as_bytes());
        }
        Request {
            method: Method::Post,
            path: "/admin/pds/block".to_owned(),
            query: "host=a.b".to_owned(),
            headers: all,
            body: body.into(),
            client: IpAddr::from([192, 0, 2, 1]),
        }
    }

    fn start(names: &[String], metrics: &Arc<Metrics>, stop: &Stop) -> (Siblings, Vec<Thread>) {
        let config = Cli::parse_from(["zlay"]).config;
        let outbound = Outbound::new(&config).unwrap();
        Siblings::start(names, &outbound, metrics, stop).unwrap()
    }

    #[test]
    fn what_was_done_here_is_told_once_and_not_by_those_who_were_told() {
        let (name, told) = sibling(&[200, 200]);
        let (stopper, stop) = stop_pair();
        let metrics = Arc::new(Metrics::default());
        let (siblings, threads) = start(&[name, " ".to_owned()], &metrics, &stop);
        siblings.forward(&request(&[("Via", "1.1 atproto-relay")], "first"));
        siblings.forward(&request(
            &[("User-Agent", "indigo (atproto-relay)")],
            "second",
        ));
        let headers = [
            ("Authorization", "Basic x"),
            ("Content-Type", "application/json"),
            ("User-Agent", "goat"),
            ("Cookie", "secret"),
            ("X-Forwarded-For", "203.0.113.7"),
        ];
        siblings.forward(&request(&headers, "third"));
        let (head, body) = told.recv().unwrap();
        assert_eq!(body, "third");
        assert!(
            head.starts_with("post /admin/pds/block?host=a.b http/1.1\r\n"),
            "{head}"
        );
        for line in [
            "authorization: basic x",
            "content-type: application/json",
            "user-agent: goat",
            "via: 1.1 atproto-relay",
        ] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
        }
        assert!(
            !head.contains("secret") && !head.contains("203.0.113.7"),
            "{head}"
        );
        drop(stopper);
        drop(threads);
        assert_eq!(metrics.siblings_told.get(), 1);
    }

    #[test]
    fn a_sibling_that_fails_is_told_again_and_one_that_refuses_is_not() {
        let (name, told) = sibling(&[503, 200, 404, 200]);
        let (stopper, stop) = stop_pair();
        let metrics = Arc::new(Metrics::default());
        let (siblings, threads) = start(&[name], &metrics, &stop);
        for body in ["first", "second", "third"] {
            siblings.forward(&request(&[], body));
        }
        let bodies: Vec<String> = told.iter().take(4).map(|(_, body)| body).collect();
        assert_eq!(bodies, ["first", "first", "second", "third"]);
        drop(stopper);
        drop(threads);
        assert_eq!(metrics.siblings_failed.get(), 1);
        assert_eq!(metrics.siblings_told.get(), 2);
    }

    #[test]
    fn a_name_that_is_no_host_is_an_error_at_the_start() {
        let outbound = Outbound::new(&Cli::parse_from(["zlay"]).config).unwrap();
        let (_stopper, stop) = stop_pair();
        let names = ["not a host".to_owned()];
        let error = Siblings::start(&names, &outbound, &Arc::default(), &stop)
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("RELAY_SIBLING_RELAYS"),
            "{error}"
        );
    }
}
