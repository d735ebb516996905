//! How a host does, as a state machine: what its thread can tell, and what follows for the status that
//! everybody is shown. Pure; the crawler alone applies it.
//!
//! | what happens | status | failures, last error |
//! |---|---|---|
//! | the connection is made | active | none |
//! | it is over a limit, and its events wait | throttled | stay |
//! | nothing has waited for a while | active | none |
//! | it has less than was read of it before, or was not read for too long | idle | why |
//! | the connection is lost, or was not made | as before; active where it was throttled or idle | counted, why |
//! | the same, many times in a row | offline | counted, why |
//! | nobody listens to it any more | as before; active where it was throttled or idle | stay |
//!
//! A host that is banned has no thread that could tell anything; its own status is hidden meanwhile.

use super::quota::Span;
use crate::control::{HostStatus, Observed};

/// How a host does, as its thread tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Connected.
    Connected {
        /// Since when, in milliseconds since 1970.
        at_ms: u64,
    },
    /// Connected, and over a limit: its events are delayed.
    Throttled {
        /// Connected since then, in milliseconds since 1970.
        at_ms: u64,
        /// The limit.
        span: Span,
        /// When the next event may be taken, in milliseconds since 1970.
        until_ms: u64,
    },
    /// Part of its stream is passed over: it is about to be read from now on.
    Idle {
        /// What happened, for people.
        why: String,
    },
    /// Waiting for the next attempt.
    BackingOff {
        /// What happened, for people.
        why: String,
        /// Failures in a row.
        failures: u32,
        /// When the next attempt is due, in milliseconds since 1970.
        next_ms: u64,
    },
    /// Waiting for the next attempt, after many that failed.
    Offline {
        /// What happened, for people.
        why: String,
        /// Failures in a row.
        failures: u32,
        /// When the next attempt is due, in milliseconds since 1970.
        next_ms: u64,
    },
}

impl State {
    /// Since when there is a connection, in milliseconds since 1970; none: there is none.
    pub fn connected_ms(&self) -> Option<u64> {
        match self {
            State::Connected { at_ms } | State::Throttled { at_ms, .. } => Some(*at_ms),
            _ => None,
        }
    }

    /// When the next attempt is due, in milliseconds since 1970; none: now, or it is connected.
    pub fn next_ms(&self) -> Option<u64> {
        match self {
            State::BackingOff { next_ms, .. } | State::Offline { next_ms, .. } => Some(*next_ms),
            _ => None,
        }
    }
}

/// What is known of a host after its thread has told something, which was connected before or was not.
pub fn after(before: &Observed, was_connected: bool, state: &State, now_ms: u64) -> Observed {
    let mut after = before.clone();
    if was_connected || state.connected_ms().is_some() {
        after.last_seen_ms = Some(now_ms);
    }
    match state {
        State::Connected { at_ms } => {
            after.status = HostStatus::Active;
            after.last_connected_ms = Some(*at_ms);
            after.last_error = None;
            after.failures = 0;
        }
        State::Throttled { .. } => after.status = HostStatus::Throttled,
        State::Idle { why } => {
            after.status = HostStatus::Idle;
            after.last_error = Some(why.clone());
            after.skipped_ms = Some(now_ms);
            after.skipped_why = Some(why.clone());
        }
        State::BackingOff { why, failures, .. } => {
            after.status = at_rest(before.status);
            after.last_error = Some(why.clone());
            after.failures = *failures;
        }
        State::Offline { why, failures, .. } => {
            after.status = HostStatus::Offline;
            after.last_error = Some(why.clone());
            after.failures = *failures;
        }
    }
    after
}

/// The status of a host that nobody listens to: over a limit is only who sends.
pub fn at_rest(status: HostStatus) -> HostStatus {
    match status {
        HostStatus::Throttled | HostStatus::Idle => HostStatus::Active,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> [State; 5] {
        let why = || "refused".to_owned();
        [
            State::Connected { at_ms: 5 },
            State::Throttled {
                at_ms: 5,
                span: Span::Hour,
                until_ms: 9,
            },
            State::Idle { why: why() },
            State::BackingOff {
                why: why(),
                failures: 3,
                next_ms: 9,
            },
            State::Offline {
                why: why(),
                failures: 30,
                next_ms: 9,
            },
        ]
    }

    /// The table of the module's documentation, in every state that there was before.
    #[test]
    fn every_word_has_its_status_whatever_was_before() {
        use HostStatus::{Active, Idle, Offline, Throttled};
        for status in [Active, Idle, Offline, Throttled] {
            let before = Observed {
                status,
                last_connected_ms: Some(1),
                last_seen_ms: Some(2),
                last_error: Some("before".into()),
                failures: 2,
                skipped_ms: None,
                skipped_why: None,
            };
            let rest = if status == Offline { Offline } else { Active };
            let rows = [
                (Active, 0, None),
                (Throttled, 2, Some("before")),
                (Idle, 2, Some("refused")),
                (rest, 3, Some("refused")),
                (Offline, 30, Some("refused")),
            ];
            for (state, (status, failures, error)) in states().iter().zip(rows) {
                let connected = state.connected_ms().is_some();
                for was_connected in [false, true] {
                    let now = after(&before, was_connected, state, 7);
                    let expected = Observed {
                        status,
                        failures,
                        last_error: error.map(str::to_owned),
                        last_connected_ms: Some(match state {
                            State::Connected { .. } => 5,
                            _ => 1,
                        }),
                        last_seen_ms: Some(if connected || was_connected { 7 } else { 2 }),
                        skipped_ms: (status == Idle).then_some(7),
                        skipped_why: (status == Idle).then(|| "refused".to_owned()),
                    };
                    assert_eq!(now, expected, "{before:?} {state:?}");
                }
            }
        }
        assert_eq!(
            [Active, Idle, Offline, Throttled].map(at_rest),
            [Active, Active, Offline, Active]
        );
    }
}
