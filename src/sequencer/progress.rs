//! How far hosts are processed where nothing was published: what was refused, or is no event. Nobody waits for it, and
//! a host that is asked for it once more after a crash has it refused once more; so it is written with the next
//! event, or a moment later, and a flood of what is refused is no flood of syncs.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::store::account::{HostId, HostRecord};

/// What is not written yet.
#[derive(Default, Debug)]
pub(super) struct Progress {
    hosts: HashMap<HostId, HostRecord>,
    since: Option<Instant>,
    /// How long it may wait.
    delay: Duration,
}

impl Progress {
    /// From now on it may wait so long.
    pub(super) fn may_wait(&mut self, delay: Duration) {
        self.delay = delay;
    }

    /// Notes what hosts have come to.
    pub(super) fn note(&mut self, hosts: &HashMap<HostId, HostRecord>, now: Instant) {
        self.hosts.extend(hosts);
        if !self.is_written() {
            self.since.get_or_insert(now);
        }
    }

    /// Whether there is nothing left to write.
    pub(super) fn is_written(&self) -> bool {
        self.hosts.is_empty()
    }

    /// How long it may still wait; none where there is nothing.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        let since = self.since?;
        Some((since + self.delay).saturating_duration_since(now))
    }

    /// Whether it is to be written now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_in(now).is_some_and(|left| left.is_zero())
    }

    /// All of it, to be written.
    pub(super) fn take(&mut self) -> HashMap<HostId, HostRecord> {
        self.since = None;
        std::mem::take(&mut self.hosts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(cursor: u64) -> HostRecord {
        HostRecord {
            cursor,
            ..HostRecord::default()
        }
    }

    #[test]
    fn it_waits_no_longer_than_it_may_from_the_first_on() {
        let (mut progress, begin) = (Progress::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        progress.may_wait(Duration::from_millis(100));
        progress.note(&HashMap::new(), begin);
        assert!(progress.is_written() && progress.due_in(at(500)).is_none());
        progress.note(&HashMap::from([(HostId(1), record(1))]), at(0));
        progress.note(&HashMap::from([(HostId(1), record(2))]), at(60));
        progress.note(&HashMap::from([(HostId(2), record(3))]), at(70));
        assert_eq!(progress.due_in(at(70)), Some(Duration::from_millis(30)));
        assert!(!progress.is_due(at(99)) && progress.is_due(at(100)));
        let taken = progress.take();
        assert_eq!(
            (taken[&HostId(1)], taken[&HostId(2)]),
            (record(2), record(3))
        );
        assert!(progress.is_written() && !progress.is_due(at(1_000)));
    }
}
