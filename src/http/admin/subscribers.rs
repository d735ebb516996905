//! Who subscribes to the firehose.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::{App, Request, Response};
use crate::{atproto::datetime, firehose::SubscriberInfo, host::now_ms};

/// How far a subscriber is behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lag {
    /// Events that the relay has beyond the last one that it took.
    pub(super) events: u64,
    /// How long the oldest of them waits for it, in seconds; none where that can not be read.
    pub(super) seconds: Option<u64>,
}

impl Lag {
    /// How far this one is behind the relay's last seq. It costs one read of the event log, and none for
    /// who has everything. Who is behind the window waits at least as long as its oldest event.
    pub(super) fn of(app: &App, subscriber: &SubscriberInfo, last_seq: u64, now_ms: u64) -> Lag {
        let events = last_seq.saturating_sub(subscriber.position);
        let seconds = match events {
            0 => Some(0),
            _ => app
                .firehose
                .written_ms(subscriber.position.saturating_add(1))
                .map(|written| now_ms.saturating_sub(written) / 1_000),
        };
        Lag { events, seconds }
    }
}

/// Every subscriber, in the form of the reference relay, and how far it is behind.
pub(super) fn list(app: &App, _: &Request) -> Result<Response, Response> {
    let (last, now) = (app.metrics.last_seq.get(), now_ms());
    let subscribers = app.firehose.subscribers();
    let rows = subscribers
        .iter()
        .map(|subscriber| row(subscriber, Lag::of(app, subscriber, last, now)));
    Ok(Response::json(&rows.collect::<Value>()))
}

fn row(subscriber: &SubscriberInfo, lag: Lag) -> Value {
    json!({
        "id": subscriber.id,
        "remote_addr": subscriber.peer.to_string(),
        "user_agent": subscriber.user_agent,
        "events_consumed": subscriber.frames,
        "connected_at": datetime::from_millis(since_ms(subscriber)),
        "bytes_sent": subscriber.bytes,
        "seq": subscriber.position,
        "lag": lag.events,
        "lag_seconds": lag.seconds,
    })
}

/// Since when it is connected, in milliseconds since 1970.
pub(super) fn since_ms(subscriber: &SubscriberInfo) -> u64 {
    let since = subscriber.since.duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
