//! Who subscribes to the firehose.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::{App, Request, Response};
use crate::{atproto::datetime, firehose::SubscriberInfo};

/// Every subscriber, in the form of the reference relay, and how far it is behind.
pub(super) fn list(app: &App, _: &Request) -> Result<Response, Response> {
    let last = app.metrics.last_seq.get();
    let subscribers = app.firehose.subscribers();
    let rows = subscribers.iter().map(|subscriber| row(subscriber, last));
    Ok(Response::json(&rows.collect()))
}

fn row(subscriber: &SubscriberInfo, last_seq: u64) -> Value {
    let since = subscriber
        .since
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    json!({
        "id": subscriber.id,
        "remote_addr": subscriber.peer.to_string(),
        "user_agent": subscriber.user_agent,
        "events_consumed": subscriber.frames,
        "connected_at": datetime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        "bytes_sent": subscriber.bytes,
        "seq": subscriber.position,
        "lag": last_seq.saturating_sub(subscriber.position),
    })
}
