//! What is known of one host, for anybody who wonders why it is not heard: `GET /hosts/NAME.json`. The
//! page for people, `GET /hosts/NAME`, is in `pages/host.rs`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Map, Value, json};

use super::{query, response::Response};
use crate::{
    atproto::{datetime, hostname::Hostname},
    control::{HostRow, HostStatus, domain::Domain},
    host::{
        decision::{Decision, DecisionError},
        quota::{Limits, Span},
        state::State,
        timeline::{Entry, Timeline},
    },
    limits::HOST_BEHIND_SHOWN,
    metrics::{
        account_name::AccountName,
        hosts::{EventKind, Refusal, Tally},
    },
};

/// Every page of a host begins with this, and ends with [`SUFFIX`].
pub const PREFIX: &str = "/hosts/";
/// See [`PREFIX`].
pub const SUFFIX: &str = ".json";

/// The set of hosts, as far as the curious and the operator are concerned.
pub trait Hosts: Send + Sync {
    /// What is known of a host, without waiting for another thread; the error is for the log.
    fn detail(&self, host: &Hostname) -> Result<Option<Detail>, String>;

    /// What is known of every host, in the order in which they were added.
    fn details(&self) -> Result<Vec<Detail>, String>;

    /// How many hosts have each status, without waiting for anything.
    fn statuses(&self) -> BTreeMap<&'static str, u64>;

    /// Every banned domain, by name.
    fn banned_domains(&self) -> Vec<Domain>;

    /// Keeps a decision of the operator and puts it into force; returns when it is.
    fn decide(&self, decision: &Decision) -> Result<(), DecisionError>;
}

/// What is known of a host.
#[derive(Clone, Debug)]
pub struct Detail {
    /// What is kept of it.
    pub row: HostRow,
    /// How it does; banned also where it is a domain above it that is.
    pub status: HostStatus,
    /// What its thread last said of itself.
    pub state: Option<State>,
    /// What it was before.
    pub timeline: Timeline,
    /// The banned domain that it is below.
    pub banned_domain: Option<Domain>,
    /// Everything up to this upstream seq is processed; 0: nothing.
    pub cursor: u64,
    /// Accounts that it speaks for.
    pub accounts: u64,
    /// Accounts that wait for a place among them, up to `WAITING_SHOWN_MAX`; counted only where one
    /// host is asked for.
    pub waiting: Option<u64>,
    /// How many it may have; none: as many as it likes.
    pub account_limit: Option<u64>,
    /// How many events it may send.
    pub limits: Limits,
    /// Whether it is trusted.
    pub trusted: bool,
    /// Whether its commits pass without the fields of Sync 1.1.
    pub lenient: bool,
    /// What was counted of it; none: nothing.
    pub tally: Option<Arc<Tally>>,
    /// Since when, in milliseconds since 1970.
    pub counted_since_ms: u64,
}

/// The name of a host in a path.
pub(super) fn name(text: &str) -> Option<Hostname> {
    Hostname::parse(&query::decode(text)?).ok()
}

/// Answers a request for this path.
pub fn route(hosts: &dyn Hosts, path: &str) -> Response {
    let text = path
        .strip_prefix(PREFIX)
        .and_then(|p| p.strip_suffix(SUFFIX));
    let Some(name) = text.and_then(name) else {
        return not_found();
    };
    match hosts.detail(&name) {
        Ok(Some(detail)) => Response::json(&page(&detail)).with("Cache-Control", "no-store"),
        Ok(None) => not_found(),
        Err(error) => {
            log::error!(host:% = name, error:% = error; "a host can not be shown");
            Response::error(500, "InternalServerError", "The host can not be shown")
        }
    }
}

/// The answer about a host that is not known.
pub(super) fn not_found() -> Response {
    Response::error(404, "HostNotFound", "This relay knows no such host")
}

/// What anybody may know of a host.
pub(super) fn page(detail: &Detail) -> Value {
    let (row, observed) = (&detail.row, &detail.row.observed);
    let time = |ms: Option<u64>| ms.map(datetime::from_millis);
    let (state, since_ms, until_ms) = in_words(detail);
    let skipped = observed.skipped_ms.map(|at_ms| {
        json!({
            "time": datetime::from_millis(at_ms),
            "reason": observed.skipped_why,
        })
    });
    json!({
        "hostname": row.name.as_str(),
        "status": detail.status.name(),
        "state": state,
        "since": time(since_ms),
        "until": time(until_ms),
        "last_attempt": time(detail.timeline.attempt_ms()),
        "next_attempt": time(detail.state.as_ref().and_then(State::next_ms)),
        "timeline": detail.timeline.latest().map(change).collect::<Vec<_>>(),
        "last_error": observed.last_error,
        "failures": observed.failures,
        "first_seen": datetime::from_millis(row.first_seen_ms),
        "added_by": row.source.name(),
        "last_connected": time(observed.last_connected_ms),
        "last_seen": time(observed.last_seen_ms),
        "last_skipped": skipped,
        "seq": detail.cursor,
        "accounts": detail.accounts,
        "accounts_waiting": detail.waiting,
        "account_limit": detail.account_limit,
        "limits": {
            "events_per_second": detail.limits.get(Span::Second),
            "events_per_hour": detail.limits.get(Span::Hour),
            "events_per_day": detail.limits.get(Span::Day),
        },
        "trusted": detail.trusted,
        "lenient": detail.lenient,
        "events": events(detail.tally.as_deref(), detail.counted_since_ms),
    })
}

fn change(entry: &Entry) -> Value {
    json!({
        "state": entry.kind.name(),
        "since": datetime::from_millis(entry.since_ms),
        "last": datetime::from_millis(entry.last_ms),
        "times": entry.times,
        "reason": entry.why,
    })
}

/// What was counted, each refusal with what it means.
fn events(tally: Option<&Tally>, since_ms: u64) -> Value {
    let nothing = Tally::default();
    let tally = tally.unwrap_or(&nothing);
    let refused = tally.refused().into_iter();
    let last = tally.last_refusals();
    let refused: Map<String, Value> = refused
        .map(|(reject, count)| {
            let last = last.iter().find(|last| last.reject == reject);
            let value = json!({
                "count": count,
                "meaning": reject.meaning(),
                "advice": reject.advice(),
                "rule": reject.rule(),
                "last": last.map(refusal),
            });
            (reject.name().to_owned(), value)
        })
        .collect();
    let time = |ms: u64| (ms > 0).then(|| datetime::from_millis(ms));
    let delayed = |span| tally.delayed.get(span);
    json!({
        "since": datetime::from_millis(since_ms),
        "received": tally.received.get(),
        "per_second": tally.rate_milli.get() as f64 / 1_000.0,
        "by_type": EventKind::ALL
            .map(|kind| (kind.name(), tally.kinds.get(kind)))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        "last_received": time(tally.received_at_ms.get()),
        "last_happened": time(tally.happened_at_ms.get()),
        "forwarded": tally.forwarded.get(),
        "discontinuous": tally.discontinuous.get(),
        "lenient": tally.lenient.get(),
        "delayed": Span::ALL.map(delayed).iter().sum::<u64>(),
        "limits_hit": {
            "events_per_second": delayed(Span::Second),
            "events_per_hour": delayed(Span::Hour),
            "events_per_day": delayed(Span::Day),
            "identity_refreshes": tally.refreshes_refused.get(),
        },
        "rejected": refused,
        "last_rejected": last.last().map(refusal),
    })
}

/// A refusal, for programs.
pub(super) fn refusal(refusal: &Refusal) -> Value {
    json!({
        "reason": refusal.reject.name(),
        "did": refusal.did.as_ref().map(AccountName::text),
        "seq": refusal.seq,
        "time": datetime::from_millis(refusal.at_ms),
    })
}

/// How the host does, since when, and until when at least; times in milliseconds since 1970.
pub(super) fn in_words(detail: &Detail) -> (String, Option<u64>, Option<u64>) {
    if detail.status == HostStatus::Banned {
        let words = match &detail.banned_domain {
            Some(domain) => format!("banned by the operator, with the domain {domain}"),
            None => "banned by the operator".to_owned(),
        };
        return (words, None, None);
    }
    match &detail.state {
        None => ("about to be connected to".into(), None, None),
        Some(State::Connected { at_ms }) => {
            let behind = detail.tally.as_ref().and_then(|tally| tally.behind_ms());
            let behind = behind.map(Duration::from_millis);
            let words = match behind.filter(|behind| *behind >= HOST_BEHIND_SHOWN) {
                Some(behind) => format!(
                    "connected, and catching up: its last event was {} minutes old when it came",
                    behind.as_secs() / 60
                ),
                None => "connected".to_owned(),
            };
            (words, Some(*at_ms), None)
        }
        Some(State::Throttled {
            at_ms,
            span,
            until_ms,
        }) => {
            let span = span.name();
            let words = format!(
                "connected; it is over its limit of events per {span}, so that they are read with \
                 a delay; none is lost"
            );
            (words, Some(*at_ms), Some(*until_ms))
        }
        Some(State::Idle { why }) => {
            let words = format!("about to be connected to and read from now on: {why}");
            (words, None, None)
        }
        Some(State::BackingOff {
            failures, next_ms, ..
        }) => (
            format!("not connected; waits for the next attempt ({failures} in a row have failed)"),
            None,
            Some(*next_ms),
        ),
        Some(State::Offline {
            failures, next_ms, ..
        }) => (
            format!("not reached for {failures} attempts in a row; it is tried on"),
            None,
            Some(*next_ms),
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        atproto::hostname::Endpoint, control::Source, reject::Reject, store::account::HostId,
    };

    pub(in crate::http) fn detail() -> Detail {
        let endpoint = Endpoint::parse("pds.example.com").unwrap();
        Detail {
            row: HostRow::new(HostId(1), &endpoint, Source::Request, 784_111_777_000),
            status: HostStatus::Active,
            limits: Limits::new([Some(50), None, None]),
            state: None,
            timeline: Timeline::default(),
            banned_domain: None,
            cursor: 7,
            accounts: 3,
            waiting: None,
            account_limit: Some(100),
            trusted: false,
            lenient: true,
            tally: None,
            counted_since_ms: 951_782_400_000,
        }
    }

    #[test]
    fn a_page_says_how_a_host_does_and_why_its_events_are_refused() {
        let tally = Arc::new(Tally::default());
        tally.forwarded.add(5);
        tally.refuse(Refusal::new(
            Reject::WrongHost,
            "did:web:a.b",
            6,
            784_111_777_089,
        ));
        let page = page(&Detail {
            tally: Some(tally),
            ..detail()
        });
        assert_eq!(page["hostname"], "pds.example.com");
        assert_eq!(page["status"], "active");
        assert_eq!((&page["seq"], &page["accounts"]), (&7.into(), &3.into()));
        assert_eq!(page["first_seen"], "1994-11-06T08:49:37.000Z");
        assert_eq!(page["events"]["since"], "2000-02-29T00:00:00.000Z");
        assert_eq!(page["events"]["forwarded"], 5);
        let last = json!({
            "reason": "wrong_host", "did": "did:web:a.b", "seq": 6,
            "time": "1994-11-06T08:49:37.089Z",
        });
        let rejected = json!({ "wrong_host": {
            "count": 1, "meaning": "The DID document names another host.",
            "advice": Reject::WrongHost.advice(), "rule": Reject::WrongHost.rule(),
            "last": last,
        }});
        assert_eq!(page["events"]["rejected"], rejected);
        assert_eq!(page["events"]["last_rejected"], last);
    }

    #[test]
    fn every_state_has_its_words() {
        let why = || "can not connect".to_owned();
        let (failures, next_ms) = (7, 2_000);
        let at_ms = 1_000;
        let states = [
            (None, "about to be", None, None),
            (
                Some(State::Connected { at_ms }),
                "connected",
                Some(1_000),
                None,
            ),
            (
                Some(State::Throttled {
                    at_ms,
                    span: Span::Hour,
                    until_ms: 2_000,
                }),
                "connected; it is over its limit of events per hour",
                Some(1_000),
                Some(2_000),
            ),
            (Some(State::Idle { why: why() }), "about to be", None, None),
            (
                Some(State::BackingOff {
                    why: why(),
                    failures,
                    next_ms,
                }),
                "not connected",
                None,
                Some(2_000),
            ),
            (
                Some(State::Offline {
                    why: why(),
                    failures,
                    next_ms,
                }),
                "not reached for 7",
                None,
                Some(2_000),
            ),
        ];
        for (state, words, since, next) in states {
            let mut detail = Detail { state, ..detail() };
            let (said, at, until) = in_words(&detail);
            assert!(said.starts_with(words), "{said}");
            assert_eq!((at, until), (since, next), "{said}");
            detail.status = HostStatus::Banned;
            assert_eq!(in_words(&detail).0, "banned by the operator");
            detail.banned_domain = Some(Domain::parse("example.com").unwrap());
            assert!(in_words(&detail).0.ends_with("example.com"));
        }
    }
}
