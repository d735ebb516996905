//! The thread that writes into the control store what nobody waits for: how hosts do, how far they
//! were read, and the last seq. Thousands of hosts change in the same second, when a network fails or
//! comes back; here that is one write.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Control, ControlError, Cursor, Mirror, Observed};
use crate::{
    limits::{KEEP_INTERVAL, MIRROR_CURSORS_INTERVAL, MIRROR_SEQ_INTERVAL},
    logging::HostName,
    store::{Store, account::HostId},
    threads::Stop,
};

/// What is to be kept; of each host only the latest.
#[derive(Default, Debug)]
pub struct Keeper(Mutex<HashMap<HostId, Observed>>);

impl Keeper {
    /// This was seen of a host.
    pub fn observed(&self, host: HostId, observed: Observed) {
        self.waiting().insert(host, observed);
    }

    /// Writes until the stop is asked for, and then once more.
    pub fn run(&self, control: &dyn Control, store: &Store, stop: &Stop) {
        let mut mirrored = Mirrored::default();
        let mut troubled = false;
        loop {
            let last = stop.wait(KEEP_INTERVAL);
            let done = self
                .keep(control)
                .and_then(|()| mirrored.keep(control, store, Instant::now(), last));
            match done {
                Ok(()) if troubled => {
                    troubled = false;
                    log::info!("control store: what had to wait is kept");
                }
                Err(error) if !troubled => {
                    troubled = true;
                    log::warn!(error:% = error; "control store: what was seen of hosts waits to be kept");
                }
                Ok(()) | Err(_) => {}
            }
            if last {
                return;
            }
        }
    }

    /// Writes what waits; what can not be written waits on, unless there is something later.
    fn keep(&self, control: &dyn Control) -> Result<(), ControlError> {
        loop {
            let waiting: Vec<_> = self.waiting().drain().collect();
            if waiting.is_empty() {
                return Ok(());
            }
            let Err(error) = control.observe(&waiting) else {
                return Ok(());
            };
            // One that is gone must not hold up the others.
            let gone = match error {
                ControlError::NoSuchHost(id) => Some(id),
                _ => None,
            };
            let mut later = self.waiting();
            for (host, observed) in waiting.into_iter().filter(|(id, _)| gone != Some(*id)) {
                later.entry(host).or_insert(observed);
            }
            drop(later);
            match gone {
                Some(id) => {
                    log::error!(host:% = HostName(id); "control store: a host is not in it any more")
                }
                None => return Err(error),
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<HostId, Observed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was mirrored, and when.
#[derive(Default)]
struct Mirrored {
    seq_at: Option<Instant>,
    cursors: HashMap<HostId, Cursor>,
    cursors_at: Option<Instant>,
}

impl Mirrored {
    /// Mirrors what is due, or everything where it is the last time.
    fn keep(
        &mut self,
        control: &dyn Control,
        store: &Store,
        now: Instant,
        last: bool,
    ) -> Result<(), ControlError> {
        let due = |at: Option<Instant>, interval: Duration| {
            last || at.is_none_or(|at| now.saturating_duration_since(at) >= interval)
        };
        if !due(self.seq_at, MIRROR_SEQ_INTERVAL) {
            return Ok(());
        }
        let with_cursors = due(self.cursors_at, MIRROR_CURSORS_INTERVAL);
        let mut mirror = Mirror {
            // Before the cursors: they may be of later events, never of earlier ones.
            seq: store.last_seq(),
            at_ms: crate::host::now_ms(),
            cursors: Vec::new(),
        };
        if with_cursors {
            let hosts = store
                .hosts()
                .map_err(|error| ControlError::Backend(error.to_string()))?;
            for (host, record) in hosts {
                let cursor = Cursor {
                    seq: record.cursor,
                    epoch: record.epoch,
                };
                if self.cursors.get(&host) != Some(&cursor) {
                    mirror.cursors.push((host, cursor));
                }
            }
        }
        control.mirror(&mirror)?;
        self.seq_at = Some(now);
        if with_cursors {
            self.cursors_at = Some(now);
            self.cursors.extend(mirror.cursors);
        }
        Ok(())
    }
}

/// The seq that is certainly beyond every one that was given before `now_ms`, where the mirror is all
/// that is left: a relay gives far fewer a second, and there are enough of them.
pub fn seq_beyond(mirror: &Mirror, now_ms: u64) -> u64 {
    use crate::limits::{MIRROR_SEQ_MARGIN, MIRROR_SEQ_MARGIN_A_SECOND};
    let seconds = now_ms.saturating_sub(mirror.at_ms).div_ceil(1_000);
    let margin = seconds.saturating_mul(MIRROR_SEQ_MARGIN_A_SECOND);
    mirror
        .seq
        .saturating_add(MIRROR_SEQ_MARGIN)
        .saturating_add(margin)
}

/// A control store and a keeper, as the crawler uses them.
#[derive(Clone)]
pub struct Keeping {
    /// Where decisions are kept.
    pub control: Arc<dyn Control>,
    /// Where observations go.
    pub keeper: Arc<Keeper>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        atproto::hostname::Endpoint,
        control::{HostStatus, Source, embedded::Embedded},
        store::{Options, account::HostRecord},
        threads::stop_pair,
    };

    fn observed(failures: u32) -> Observed {
        Observed {
            status: HostStatus::Offline,
            failures,
            ..Observed::default()
        }
    }

    #[test]
    fn the_latest_of_each_host_is_kept_and_one_that_is_gone_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let control = Embedded::open(dir.path()).unwrap();
        let add = |name| {
            let endpoint = Endpoint::parse(name).unwrap();
            control.add_host(&endpoint, Source::Request, 1).unwrap().id
        };
        let (a, b) = (add("a.example.com"), add("b.example.com"));
        let keeper = Keeper::default();
        keeper.observed(a, observed(1));
        keeper.observed(HostId(77), observed(2));
        keeper.observed(b, observed(3));
        keeper.observed(a, observed(4));
        keeper.keep(&control).unwrap();
        let failures: Vec<u32> = control
            .hosts()
            .unwrap()
            .iter()
            .map(|host| host.observed.failures)
            .collect();
        assert_eq!(failures, [4, 3]);
        assert!(keeper.waiting().is_empty());
    }

    #[test]
    fn what_is_left_at_a_stop_is_kept_and_mirrored() {
        let dir = tempfile::tempdir().unwrap();
        let control = Embedded::open(dir.path()).unwrap();
        let endpoint = Endpoint::parse("a.example.com").unwrap();
        let host = control.add_host(&endpoint, Source::Request, 1).unwrap().id;
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let record = HostRecord {
            cursor: 70,
            epoch: 2,
            accounts: 0,
        };
        store.seed(&[(host, record)], &[]).unwrap();
        store.raise_seq(1_000).unwrap();
        let keeper = Keeper::default();
        keeper.observed(host, observed(5));
        let (stopper, stop) = stop_pair();
        drop(stopper);
        keeper.run(&control, &store, &stop);
        assert_eq!(control.hosts().unwrap()[0].observed, observed(5));
        let mirror = control.mirrored().unwrap();
        let cursor = Cursor { seq: 70, epoch: 2 };
        assert_eq!((mirror.seq, mirror.cursors), (1_000, vec![(host, cursor)]));
    }

    #[test]
    fn cursors_are_mirrored_when_they_are_due_and_have_changed() {
        let dir = tempfile::tempdir().unwrap();
        let control = Embedded::open(dir.path()).unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let write = |cursor| {
            let record = HostRecord {
                cursor,
                ..HostRecord::default()
            };
            store.seed(&[(HostId(1), record)], &[]).unwrap();
        };
        let mirrored = || {
            control
                .mirrored()
                .unwrap()
                .cursors
                .first()
                .map(|(_, c)| c.seq)
        };
        let mut state = Mirrored::default();
        let start = Instant::now();
        let mut keep = |at| state.keep(&control, &store, at, false).unwrap();
        write(1);
        keep(start);
        assert_eq!(mirrored(), Some(1));
        write(2);
        keep(start + MIRROR_SEQ_INTERVAL);
        assert_eq!(mirrored(), Some(1));
        keep(start + MIRROR_CURSORS_INTERVAL);
        assert_eq!(mirrored(), Some(2));
    }

    #[test]
    fn the_seq_goes_on_beyond_whatever_may_have_been_given_since() {
        let mirror = Mirror {
            seq: 500,
            at_ms: 10_000,
            cursors: Vec::new(),
        };
        assert_eq!(seq_beyond(&mirror, 10_000), 1_000_500);
        assert_eq!(seq_beyond(&mirror, 11_500), 1_000_500 + 2 * 20_000);
        // A clock that was put back takes nothing away.
        assert_eq!(seq_beyond(&mirror, 0), 1_000_500);
    }
}
