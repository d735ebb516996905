//! One host of the set: its row, its thread, and what that thread last said.

use std::{sync::Arc, time::Instant};

use crossbeam_channel::Sender;

use super::CrawlAnswer;
use crate::{
    control::{HostRow, Source},
    host::{
        dial::Plug,
        lane::Lane,
        policy::Policy,
        state::{self, State, at_rest},
        terms::Terms,
        thread::Start,
    },
    limits::{HOST_FAILURES_LOGGED, HOST_WAKE_INTERVAL},
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
    /// How it is to be read when it is listened to again, where the operator has said that.
    pub(super) reset: Option<Start>,
    /// Accounts that it had when they were last counted.
    accounts: u64,
    /// When somebody other than the operator last asked for it to be tried at once.
    woken: Option<Instant>,
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
        row.observed.status = at_rest(row.observed.status);
        Host {
            terms: Arc::new(policy.terms(&row)),
            row,
            state: None,
            in_trouble: false,
            running: None,
            leaving: None,
            silenced: false,
            reset: None,
            accounts: 0,
            woken: None,
        }
    }

    /// It has so many accounts now.
    pub(super) fn set_accounts(&mut self, policy: &Policy, accounts: u64) {
        if self.accounts != accounts {
            self.accounts = accounts;
            self.set_terms(policy);
        }
    }

    /// Its thread is to know what it may. If it waits for a limit, it may no longer have to, and waits can be
    /// long where the operator has set a limit that is low.
    pub(super) fn set_terms(&self, policy: &Policy) {
        let limits = policy.limits(&self.row, self.accounts);
        let is_waited_for = self.terms.set(policy.is_lenient(&self.row), &limits);
        if let (true, Some(running)) = (is_waited_for, &self.running) {
            // One wake-up is enough, and it may be there already.
            let _ = running.retry.try_send(());
        }
    }

    /// Whether there is a connection.
    pub(super) fn is_connected(&self) -> bool {
        let state = self.state.as_ref();
        state.is_some_and(|state| state.connected_ms().is_some())
    }

    /// Notes what its thread tells; false where that is over, as the host is banned meanwhile.
    pub(super) fn note(&mut self, state: State, now_ms: u64) -> bool {
        if self.running.is_none() {
            return false;
        }
        self.log_change(&state);
        let was_connected = self.is_connected();
        self.row.observed = state::after(&self.row.observed, was_connected, &state, now_ms);
        self.state = Some(state);
        true
    }

    /// Says what an operator wants to know of a host: that it is there for the first time, that it
    /// fails and goes on failing, and that it is back. Single connections are for `debug`.
    fn log_change(&mut self, state: &State) {
        let name = &self.row.name;
        match state {
            State::Connected { .. } => {
                if self.row.observed.last_connected_ms.is_none() {
                    log::info!(host:% = name; "connected for the first time");
                } else if self.in_trouble {
                    log::info!(host:% = name; "connected again");
                }
                self.in_trouble = false;
            }
            State::BackingOff { why, failures, .. } | State::Offline { why, failures, .. } => {
                if *failures >= HOST_FAILURES_LOGGED && !self.in_trouble {
                    self.in_trouble = true;
                    log::warn!(host:% = name, failures = failures, error = why; "a host fails again and again");
                }
            }
            State::Idle { why } => {
                log::warn!(host:% = name, error = why; "a host is read from now on, not from where it was left")
            }
            State::Throttled { .. } => {}
        }
    }

    /// Sees to it that the host is tried soon; nothing where it has no thread. Who asks all the time
    /// does not take the place of the delays between attempts, but for the operator.
    pub(super) fn wake(&mut self, source: Source) -> Option<CrawlAnswer> {
        if self.leaving.is_some() {
            return Some(CrawlAnswer::Retrying);
        }
        let running = self.running.as_ref();
        let running = running.filter(|running| !running.thread.is_finished())?;
        let state = self.state.as_ref();
        if let Some(since_ms) = state.and_then(State::connected_ms) {
            return Some(CrawlAnswer::AlreadyConnected { since_ms });
        }
        let is_recent = |at: Instant| at.elapsed() < HOST_WAKE_INTERVAL;
        if source != Source::Operator {
            if let Some(until_ms) = state.and_then(State::next_ms)
                && self.woken.is_some_and(is_recent)
            {
                return Some(CrawlAnswer::BackingOff { until_ms });
            }
            self.woken = Some(Instant::now());
        }
        // One wake-up is enough, and it may be there already.
        let _ = running.retry.try_send(());
        Some(CrawlAnswer::Retrying)
    }

    /// Ends the connection at once: nothing more of the host is handed on.
    pub(super) fn end(&mut self) {
        self.state = None;
        self.row.observed.status = at_rest(self.row.observed.status);
        if let Some(running) = self.running.take() {
            running.lane.silence();
            running.plug.pull();
            // Its thread ends by itself, and is not waited for: it may be connecting.
            self.leaving = Some(running.thread);
        }
    }
}
