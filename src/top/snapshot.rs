//! What a relay says of itself, as far as it says it: every field may be absent, as an older or a newer
//! version has others. Pure.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::atproto::datetime;

/// A relay at one moment.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Snapshot {
    pub(super) version: Option<String>,
    pub(super) uptime_seconds: Option<u64>,
    pub(super) events_total: Option<u64>,
    pub(super) events_per_second: Option<f64>,
    /// How that was before, the latest last.
    pub(super) history: Vec<f64>,
    pub(super) rejected_total: Option<u64>,
    pub(super) rejected_per_second: Option<f64>,
    /// From the time in an event to its publishing, half of the events at most.
    pub(super) delay_p50_ms: Option<u64>,
    /// The same of 99 of 100.
    pub(super) delay_p99_ms: Option<u64>,
    /// Hosts by state.
    pub(super) states: BTreeMap<String, u64>,
    pub(super) hosts_connected: Option<u64>,
    pub(super) subscribers: Option<u64>,
    /// The subscriber that is behind the furthest, in events; only its operator is told.
    pub(super) subscriber_lag: Option<u64>,
    pub(super) last_seq: Option<u64>,
    pub(super) oldest_seq: Option<u64>,
    /// How far back events can be replayed.
    pub(super) window_seconds: Option<u64>,
    /// Why nothing new comes.
    pub(super) disk_full: Option<FullDisk>,
    /// Those that were asked for.
    pub(super) hosts: Vec<Host>,
    /// How many there are of the kind that was asked for.
    pub(super) matching: Option<u64>,
}

/// A disk that has no room for events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FullDisk {
    pub(super) free_bytes: Option<u64>,
    /// How many must be free.
    pub(super) needed_bytes: Option<u64>,
}

/// A host at that moment.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) state: Option<String>,
    pub(super) accounts: Option<u64>,
    pub(super) account_limit: Option<u64>,
    pub(super) events_total: Option<u64>,
    pub(super) events_per_second: Option<f64>,
    pub(super) rejected_total: Option<u64>,
    pub(super) rejected_per_second: Option<f64>,
    /// The age of its last event.
    pub(super) lag_ms: Option<u64>,
    pub(super) last_error: Option<String>,
    /// Whether it could be heard and is not, as the relay sees it.
    pub(super) failing: Option<bool>,
}

impl Host {
    /// Whether it needs somebody to look at it.
    pub(super) fn is_failing(&self) -> bool {
        let state = self.state.as_deref().unwrap_or_default();
        let seems = !matches!(state, "" | "active" | "connected" | "idle" | "banned");
        self.failing.unwrap_or(seems)
    }
}

impl Snapshot {
    /// Reads `/status.json`.
    pub(super) fn read(status: &Value) -> Snapshot {
        let status = Fields(status);
        let states = status.find(&["/hosts"], Value::as_object);
        let states = states.map(|states| {
            let counts = states.iter();
            let counts = counts.filter_map(|(name, n)| Some((name.clone(), n.as_u64()?)));
            counts.collect()
        });
        let history = status.find(&["/history/events_per_second"], Value::as_array);
        let history = history.into_iter().flatten();
        Snapshot {
            history: history.filter_map(Value::as_f64).collect(),
            version: status.text(&["/version"]),
            uptime_seconds: status.number(&["/uptime_seconds"]),
            events_total: status.number(&["/events_sequenced"]),
            events_per_second: status.decimal(&["/events_per_second"]),
            rejected_total: status.number(&["/rejected_total"]),
            rejected_per_second: status.decimal(&["/rejected_per_second"]),
            delay_p50_ms: status.milliseconds("/delay_seconds/p50"),
            delay_p99_ms: status.milliseconds("/delay_seconds/p99"),
            states: states.unwrap_or_default(),
            hosts_connected: status.number(&["/hosts_connected"]),
            subscribers: status.number(&["/subscribers"]),
            subscriber_lag: None,
            last_seq: status.number(&["/last_seq"]),
            oldest_seq: status.number(&["/oldest_seq"]),
            window_seconds: status.number(&["/window/seconds"]),
            disk_full: status
                .find(&["/disk_full"], Value::as_object)
                .map(|_| FullDisk {
                    free_bytes: status.number(&["/disk_full/free_bytes"]),
                    needed_bytes: status.number(&["/disk_full/needed_bytes"]),
                }),
            hosts: Vec::new(),
            matching: None,
        }
    }

    /// Reads a page of `/hosts.json` and adds its hosts. Pages are of one moment each: a host that has moved to the next one meanwhile is there once.
    /// `now_ms` is the time, in milliseconds since 1970.
    pub(super) fn read_hosts(&mut self, answer: &Value, now_ms: u64) {
        let list = Fields(answer).find(&["/hosts"], Value::as_array);
        let hosts = list.into_iter().flatten();
        let hosts = hosts.filter_map(|host| Host::read(&Fields(host), now_ms));
        let known: HashSet<String> = self.hosts.iter().map(|host| host.name.clone()).collect();
        self.hosts
            .extend(hosts.filter(|host| !known.contains(&host.name)));
        self.matching = Fields(answer).number(&["/matching"]).or(self.matching);
    }

    /// Reads the operator's list of subscribers.
    pub(super) fn read_subscribers(&mut self, list: &Value) {
        let lags = list.as_array().into_iter().flatten();
        self.subscriber_lag = lags.filter_map(|one| Fields(one).number(&["/lag"])).max();
    }
}

impl Host {
    fn read(fields: &Fields<'_>, now_ms: u64) -> Option<Host> {
        let last = fields.time(&["/last_event"]);
        Some(Host {
            name: fields.text(&["/hostname"])?,
            state: fields.text(&["/state", "/status"]),
            accounts: fields.number(&["/accounts"]),
            account_limit: fields.number(&["/account_limit"]),
            events_total: fields.number(&["/received"]),
            events_per_second: fields.decimal(&["/per_second"]),
            rejected_total: fields.number(&["/rejected"]),
            rejected_per_second: None,
            lag_ms: last.map(|last| now_ms.saturating_sub(last)),
            last_error: fields.text(&["/last_error"]),
            failing: fields.find(&["/failing"], Value::as_bool),
        })
    }
}

/// Members of an object, each at the first of some places where there is such a value.
struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    fn find<T>(&self, places: &[&str], read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let values = places.iter().filter_map(|place| self.0.pointer(place));
        values.filter_map(read).next()
    }

    fn text(&self, places: &[&str]) -> Option<String> {
        self.find(places, |value| value.as_str().map(str::to_owned))
    }

    fn number(&self, places: &[&str]) -> Option<u64> {
        self.find(places, Value::as_u64)
    }

    fn decimal(&self, places: &[&str]) -> Option<f64> {
        self.find(places, Value::as_f64)
    }

    /// In milliseconds since 1970.
    fn time(&self, places: &[&str]) -> Option<u64> {
        self.find(places, |value| datetime::to_millis(value.as_str()?))
    }

    /// Of a number of seconds.
    fn milliseconds(&self, place: &str) -> Option<u64> {
        let seconds = self.decimal(&[place]).filter(|n| *n >= 0.0)?;
        Some((seconds * 1_000.0).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_read_as_far_as_it_goes() {
        let status = json!({
            "version": "0.1.0", "uptime_seconds": 7, "events_sequenced": 900,
            "events_per_second": 12.5, "history": {"events_per_second": [1, 2.5]}, "hosts": {"active": 2, "offline": 1},
            "delay_seconds": {"p50": 0.21, "p99": null}, "subscribers": 3, "last_seq": 900,
            "window": {"seconds": 60, "oldest_time": "2026-01-01T00:00:00.000Z"},
            "disk_full": {"free_bytes": 9, "needed_bytes": "many"},
            "something_new": [1, 2, 3],
        });
        let read = Snapshot::read(&status);
        assert_eq!(read.events_per_second, Some(12.5));
        assert_eq!(read.history, [1.0, 2.5]);
        assert_eq!((read.delay_p50_ms, read.delay_p99_ms), (Some(210), None));
        assert_eq!((read.states["active"], read.states["offline"]), (2, 1));
        assert_eq!((read.window_seconds, read.oldest_seq), (Some(60), None));
        let (free_bytes, needed_bytes) = (Some(9), None);
        assert_eq!(
            read.disk_full,
            Some(FullDisk {
                free_bytes,
                needed_bytes
            })
        );
        for other in [
            json!({}),
            json!([]),
            json!("x"),
            json!({"hosts": 3, "last_seq": "x", "disk_full": null}),
        ] {
            assert_eq!(Snapshot::read(&other), Snapshot::default(), "{other}");
        }
    }

    #[test]
    fn hosts_are_read_as_far_as_they_go() {
        let mut read = Snapshot::default();
        let now = datetime::to_millis("2026-01-01T00:00:02.500Z").unwrap();
        let hosts = json!({"matching": 250, "hosts": [
            {
                "hostname": "a.example", "status": "throttled", "state": "over its limit",
                "failing": false, "accounts": 4, "account_limit": 100, "received": 50,
                "per_second": 1.5, "rejected": 3, "last_event": "2026-01-01T00:00:00.000Z",
            },
            {"hostname": "b.example", "received": 9, "status": "offline"},
            {"no": "name"},
            null,
        ]});
        read.read_hosts(&hosts, now);
        // The next page, on which the last host has moved.
        read.read_hosts(&json!({"hosts": [{"hostname": "b.example"}]}), now);
        let [a, b] = &read.hosts[..] else {
            panic!("{:?}", read.hosts)
        };
        assert_eq!((a.events_total, a.events_per_second), (Some(50), Some(1.5)));
        assert_eq!((a.lag_ms, a.account_limit), (Some(2_500), Some(100)));
        assert_eq!(
            (b.events_total, b.accounts, b.lag_ms),
            (Some(9), None, None)
        );
        assert!(b.is_failing() && !a.is_failing());
        assert_eq!(read.matching, Some(250));
        read.read_hosts(&json!({"hosts": 7}), now);
        assert_eq!(read.hosts.len(), 2);
    }

    #[test]
    fn the_slowest_subscriber_is_found() {
        let mut read = Snapshot::default();
        read.read_subscribers(&json!([{"lag": 3}, {"lag": 90}, {}]));
        assert_eq!(read.subscriber_lag, Some(90));
        read.read_subscribers(&json!({"error": "x"}));
        assert_eq!(read.subscriber_lag, None);
    }
}
