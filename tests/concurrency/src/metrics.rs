//! In the place of `src/metrics.rs`: nothing is counted.

#[derive(Default, Debug)]
pub(crate) struct Number;

impl Number {
    pub(crate) fn inc(&self) {}

    pub(crate) fn set(&self, _: u64) {}

    pub(crate) fn during(&self, _: labels::Wait) -> Number {
        Number
    }
}

pub(crate) mod labels {
    pub(crate) enum Wait {
        Inbox,
    }
}

#[derive(Default, Debug)]
pub(crate) struct Metrics {
    pub(crate) inbox_full: Number,
    pub(crate) inbox_events: Number,
    pub(crate) inbox_bytes: Number,
    pub(crate) hosts_waiting: Number,
}
