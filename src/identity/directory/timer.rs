//! The thread that knows when there is something to do.

use std::{collections::HashSet, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, never, select};

use super::{Directory, Lookups, Waiter};
use crate::{atproto::hostname::Hostname, threads::Stop};

impl Directory {
    /// Wakes the resolvers when an attempt or the end of a pause is due, and everybody at the stop.
    pub(super) fn run_timer(&self, stop: &Stop, delayed: &Receiver<()>) {
        let mut held = HashSet::new();
        loop {
            let due = {
                let mut state = self.lock();
                if state.stopped {
                    return;
                }
                let now = (self.clock)();
                state.lookups.wake(now);
                self.note_held(&state.lookups, &mut held, now);
                state.timer_due = state.lookups.due(now);
                state.timer_due
            };
            // There may be nothing for them; this happens as often as something fails.
            self.work.notify_all();
            let timeout = due.map(|due| {
                let wait = due.saturating_sub((self.clock)());
                crossbeam_channel::after(Duration::from_millis(wait))
            });
            select! {
                recv(stop.channel()) -> _ => return self.stop(),
                recv(delayed) -> _ => {}
                recv(timeout.unwrap_or_else(never)) -> _ => {}
            }
        }
    }

    /// Says which hosts have to wait for lookups, and once of each why.
    fn note_held(
        &self,
        lookups: &Lookups<Arc<dyn Waiter>>,
        said: &mut HashSet<Hostname>,
        now_ms: u64,
    ) {
        for host in lookups.hosts_held(now_ms) {
            if said.insert(host.clone()) {
                log::info!(
                    host:% = host;
                    "the host sends events of many accounts that are not its own: its new accounts wait"
                );
            }
        }
        said.retain(|host| lookups.owes(host, now_ms));
        let waiting = said.iter().filter(|host| lookups.is_asker(host));
        let waiting = waiting.count() as u64;
        self.metrics.identity_hosts_held.set(waiting);
    }

    /// Lets the timer look again what is due.
    pub(super) fn wake_timer(&self) {
        // A full channel means that it is about to look anyway.
        let _ = self.delayed.try_send(());
    }
}
