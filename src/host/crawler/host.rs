//! One host of the set: its row, its thread, and what that thread last said.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::{CrawlAnswer, State};
use crate::{
    control::{HostRow, HostStatus},
    host::{
        dial::Plug,
        lane::Lane,
        terms::{Policy, Terms},
    },
    limits::HOST_FAILURES_LOGGED,
    threads::Thread,
};

/// A host of the set.
pub(super) struct Host {
    pub(super) row: HostRow,
    pub(super) state: Option<State>,
    /// The log has said that it fails.
    in_trouble: bool,
    pub(super) terms: Arc<Terms>,
    /// Who listens to it; none while it is banned, or where there was no thread for it.
    pub(super) running: Option<Running>,
    /// Who listened to it before it was banned, and has not ended yet.
    pub(super) leaving: Option<Thread>,
    /// The sequencer takes nothing of it.
    pub(super) silenced: bool,
}

/// The thread of a host, and how to reach it.
pub(super) struct Running {
    pub(super) lane: Arc<Lane>,
    pub(super) plug: Arc<Plug>,
    pub(super) retry: Sender<()>,
    pub(super) thread: Thread,
}

impl Host {
    /// A host that nobody listens to yet.
    pub(super) fn new(mut row: HostRow, policy: &Policy) -> Host {
        row.status = at_rest(row.status);
        Host {
            terms: Arc::new(Terms::new(policy, &row)),
            row,
            state: None,
            in_trouble: false,
            running: None,
            leaving: None,
            silenced: false,
        }
    }

    /// Notes what its thread tells; false where that is over, as the host is banned meanwhile.
    pub(super) fn note(&mut self, state: State) -> bool {
        if self.running.is_none() {
            return false;
        }
        self.log_change(&state);
        let row = &mut self.row;
        match &state {
            State::Connected { at_ms } => {
                row.status = HostStatus::Active;
                row.last_connected_ms = Some(*at_ms);
                row.last_error = None;
                row.failures = 0;
            }
            State::Throttled { .. } => row.status = HostStatus::Throttled,
            State::Idle { why } => {
                row.status = HostStatus::Idle;
                row.last_error = Some(why.clone());
            }
            State::BackingOff { why, failures, .. } => {
                row.status = at_rest(row.status);
                row.last_error = Some(why.clone());
                row.failures = *failures;
            }
            State::Offline { why, failures, .. } => {
                row.status = HostStatus::Offline;
                row.last_error = Some(why.clone());
                row.failures = *failures;
            }
        }
        self.state = Some(state);
        true
    }

    /// Says what an operator wants to know of a host: that it is there for the first time, that it
    /// fails and goes on failing, and that it is back. Single connections are for `debug`.
    fn log_change(&mut self, state: &State) {
        let name = &self.row.name;
        match state {
            State::Connected { .. } => {
                if self.row.last_connected_ms.is_none() {
                    log::info!("host={name} connected for the first time");
                } else if self.in_trouble {
                    log::info!("host={name} connected again");
                }
                self.in_trouble = false;
            }
            State::BackingOff { why, failures, .. } | State::Offline { why, failures, .. } => {
                if *failures >= HOST_FAILURES_LOGGED && !self.in_trouble {
                    self.in_trouble = true;
                    log::info!("host={name} fails failures={failures}: {why}");
                }
            }
            State::Throttled { .. } | State::Idle { .. } => {}
        }
    }

    /// Sees to it that the host is tried soon; nothing where it has no thread.
    pub(super) fn wake(&self) -> Option<CrawlAnswer> {
        if self.leaving.is_some() {
            return Some(CrawlAnswer::Retrying);
        }
        let running = self.running.as_ref();
        let running = running.filter(|running| !running.thread.is_finished())?;
        if matches!(
            self.state,
            Some(State::Connected { .. } | State::Throttled { .. })
        ) {
            return Some(CrawlAnswer::AlreadyConnected);
        }
        // One wake-up is enough, and it may be there already.
        let _ = running.retry.try_send(());
        Some(CrawlAnswer::Retrying)
    }

    /// Ends the connection at once: nothing more of the host is handed on.
    pub(super) fn end(&mut self) {
        self.state = None;
        self.row.status = at_rest(self.row.status);
        if let Some(running) = self.running.take() {
            running.lane.silence();
            running.plug.pull();
            // Its thread ends by itself, and is not waited for: it may be connecting.
            self.leaving = Some(running.thread);
        }
    }
}

/// The status of a host that sends nothing: over a limit is only who sends.
fn at_rest(status: HostStatus) -> HostStatus {
    match status {
        HostStatus::Throttled => HostStatus::Active,
        other => other,
    }
}
