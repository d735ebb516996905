//! The resolver threads: one lookup after another, each asked for, kept, and told to who waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Directory, Waiter, wait};
use crate::{
    atproto::did::{Did, Method},
    identity::{
        cache::Known,
        fetch::{Fetched, fetch},
        lookups::Next,
        outcome::Outcome,
    },
    limits,
    metrics::{
        labels::{DidMethod, LookupResult},
        micros,
    },
};

impl Directory {
    /// What a resolver thread does.
    pub(super) fn run_resolver(&self) {
        while let Some(Next { did, anew, again }) = self.take() {
            let now = (self.clock)();
            let outcome = match self.cache.get(&did, now) {
                // It came while this lookup was queued.
                Known::Fresh(outcome) if !anew => {
                    self.settle(&mut self.lock(), &did, &outcome, false);
                    Some(outcome)
                }
                _ => {
                    let began = Instant::now();
                    let timeout = match again {
                        false => limits::IDENTITY_FIRST_TIMEOUT,
                        true => limits::IDENTITY_LOOKUP_TIMEOUT,
                    };
                    let fetched = fetch(&self.outbound, &did, timeout, now);
                    self.count(&did, &fetched, began.elapsed());
                    self.keep(&did, self.doubt(&did, fetched))
                }
            };
            if let Some(outcome) = outcome {
                self.answer(&did, &outcome);
            }
        }
    }

    /// Counts what asking brought, and how long it took.
    pub(super) fn count(&self, did: &Did, fetched: &Fetched, took: Duration) {
        let method = match did.method() {
            Method::Web(_) => DidMethod::Web,
            Method::Plc | Method::Unsupported => DidMethod::Plc,
        };
        let result = match fetched {
            Fetched::Found(_) => LookupResult::Found,
            Fetched::Missing(_) => LookupResult::Missing,
            Fetched::Invalid(_) => LookupResult::Invalid,
            Fetched::Limited(_) => LookupResult::Limited,
            Fetched::Unreachable(_) => LookupResult::Unreachable,
        };
        self.metrics.identity_lookups.inc((method, result));
        self.metrics.identity_duration.observe(micros(took));
    }

    /// Waits for the next lookup; nothing when the relay stops.
    fn take(&self) -> Option<Next> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let now = (self.clock)();
            if let Some(next) = state.lookups.next(now) {
                let waits = |waiter: &Arc<dyn Waiter>| !waiter.is_gone();
                if state.lookups.abandon(&next.did, waits) {
                    self.queue_changed(&state);
                    continue;
                }
                return Some(next);
            }
            // A host may have used up its lookups since the timer looked.
            let due = state.lookups.due(now);
            let timer_due = state.timer_due.unwrap_or(u64::MAX);
            if due.is_some_and(|due| due < timer_due) {
                state.timer_due = due;
                self.wake_timer();
            }
            state = wait(&self.work, state);
        }
    }

    /// Tells everybody whom the lookup satisfies, and ends it.
    fn answer(&self, did: &Did, outcome: &Outcome) {
        loop {
            let waiters = {
                let mut state = self.lock();
                let waiters = state.lookups.satisfied(did, (self.clock)());
                self.queue_changed(&state);
                if state.lookups.is_delayed(did) {
                    self.wake_timer();
                }
                waiters
            };
            if waiters.is_empty() {
                return;
            }
            for waiter in waiters {
                waiter.resolved(did, outcome);
            }
        }
    }
}
