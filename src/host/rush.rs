//! Whether a host sends so much at a time that what others say comes first, and what it leaves to them.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    thread,
    time::Instant,
};

use crate::limits::{HOST_RUSH_MESSAGES, HOST_RUSH_SPAN};

/// Counts messages, in spans of [`HOST_RUSH_SPAN`].
#[derive(Debug)]
pub(super) struct Rush {
    since: Instant,
    messages: u32,
    is_on: bool,
}

impl Rush {
    pub(super) fn new(now: Instant) -> Rush {
        Rush {
            since: now,
            messages: 0,
            is_on: false,
        }
    }

    /// Counts one message; where it begins a rush or comes after its end, which of both.
    pub(super) fn count(&mut self, now: Instant) -> Option<bool> {
        let was_on = self.is_on;
        let passed = now.saturating_duration_since(self.since);
        if passed >= HOST_RUSH_SPAN {
            // Two of them, and there was a pause.
            self.is_on &= self.messages >= HOST_RUSH_MESSAGES && passed < 2 * HOST_RUSH_SPAN;
            (self.since, self.messages) = (now, 0);
        }
        self.messages += 1;
        self.is_on |= self.messages >= HOST_RUSH_MESSAGES;
        (self.is_on != was_on).then_some(self.is_on)
    }
}

/// Cores on which events of hosts in a rush are proven: all but one, if there are several. The others have one that
/// is theirs.
#[derive(Debug)]
pub(super) struct Cores {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Core<'a>(&'a Cores);

impl Cores {
    pub(super) fn all_but_one() -> Cores {
        let all = thread::available_parallelism().map_or(1, usize::from);
        Cores::new((all - 1).max(1))
    }

    fn new(free: usize) -> Cores {
        Cores {
            free: Mutex::new(free),
            freed: Condvar::new(),
        }
    }

    /// Waits for one. Who has it waits for nobody.
    pub(super) fn take(&self) -> Core<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.freed.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Core(self)
    }
}

impl Drop for Core<'_> {
    fn drop(&mut self) {
        let Cores { free, freed } = self.0;
        *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;

    /// Counts so many messages at even distances over one span; what changed, and at which of them.
    fn send(rush: &mut Rush, from: &mut Instant, messages: u32) -> Vec<(u32, bool)> {
        let step = HOST_RUSH_SPAN / messages;
        (1..=messages)
            .filter_map(|n| {
                *from += step;
                Some((n, rush.count(*from)?))
            })
            .collect()
    }

    #[test]
    fn a_rush_begins_with_so_many_in_a_span_and_ends_after_one_with_fewer() {
        let mut now = Instant::now();
        let mut rush = Rush::new(now);
        let few = HOST_RUSH_MESSAGES / 2;
        for _ in 0..3 {
            assert_eq!(send(&mut rush, &mut now, few), []);
        }
        let begun = send(&mut rush, &mut now, 2 * HOST_RUSH_MESSAGES);
        assert_eq!(begun.len(), 1);
        assert!(begun[0].1);
        // Some of the span may have been before.
        assert!((few..=HOST_RUSH_MESSAGES + 1).contains(&begun[0].0));
        assert_eq!(send(&mut rush, &mut now, 2 * HOST_RUSH_MESSAGES), []);
        let ended: Vec<_> = (0..3)
            .flat_map(|_| send(&mut rush, &mut now, few))
            .collect();
        assert_eq!(ended.len(), 1);
        assert!(!ended[0].1);
    }

    #[test]
    fn no_more_than_there_are_have_a_core_at_the_same_time() {
        let cores = Cores::new(2);
        let (now, most, times) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _core = cores.take();
                        let with_me = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(with_me, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        times.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 2);
        assert_eq!(times.into_inner(), 1_000);
        assert_eq!(cores.free.into_inner().unwrap(), 2);
    }

    #[test]
    fn a_pause_ends_it() {
        let mut now = Instant::now();
        let mut rush = Rush::new(now);
        send(&mut rush, &mut now, 2 * HOST_RUSH_MESSAGES);
        now += Duration::from_secs(60);
        assert_eq!(rush.count(now), Some(false));
        assert_eq!(rush.count(now), None);
    }
}
