//! Who wakes the subscribers that sleep.

use std::{thread, time::Instant};

use crossbeam_channel::{Receiver, select};

use super::{Timing, registry::Registry};
use crate::{
    limits::{WAKE_FIRST, WAKE_MANY, WAKE_PORTION_A_CORE},
    threads::Stop,
};

/// Wakes those who wait for frames, until the stop; then waits for the subscribers to end. The first
/// frame after a pause is announced at once; those that follow gather meanwhile.
pub(super) fn tick(registry: &Registry, heard: &Receiver<()>, stop: &Stop, timing: &Timing) {
    let mut rounds = Rounds::new(Instant::now());
    let mut next: Option<Instant> = None;
    loop {
        match next {
            None => {
                select! {
                    recv(heard) -> _ => rounds.hear(),
                    recv(stop.channel()) -> _ => break,
                }
            }
            Some(next) => {
                let wait = next.saturating_duration_since(Instant::now());
                if stop.requested() || !wait.is_zero() && stop.wait(wait) {
                    break;
                }
            }
        }
        // What was announced until here is covered by what is woken now.
        if heard.try_recv().is_ok() {
            rounds.hear();
        }
        next = rounds.step(Instant::now(), registry, timing);
    }
    registry.wake_all();
    if !registry.wait_empty(2 * timing.close_timeout) {
        let left = registry.list().len();
        log::warn!(subscribers = left; "subscribers did not end in time");
    }
}

/// Who is woken when. A few hundred threads that wake up at the same moment keep every core busy for milliseconds, and
/// events, which pass five threads, wait behind them. So of many only those who have been here longest are woken
/// together; the others follow, less often, a few at a time.
#[derive(Debug)]
struct Rounds {
    /// There are frames that the first were not woken for.
    first_due: bool,
    /// The same of the others.
    others_due: bool,
    /// When the first may be woken again.
    first_at: Instant,
    /// When a round of the others may begin again.
    others_at: Instant,
    /// Those of this number and above were not reached when the first were woken last.
    behind: Option<u64>,
    /// The round of the others goes on here.
    round: Option<u64>,
    /// How many of the others are woken at once.
    portion: usize,
}

impl Rounds {
    fn new(now: Instant) -> Rounds {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Rounds {
            first_due: false,
            others_due: false,
            first_at: now,
            others_at: now,
            behind: None,
            round: None,
            portion: cores * WAKE_PORTION_A_CORE,
        }
    }

    /// There are frames that nobody was woken for.
    fn hear(&mut self) {
        self.first_due = true;
        self.others_due = true;
    }

    /// Wakes those whose turn it is; when to come again, if not for more frames.
    fn step(&mut self, now: Instant, registry: &Registry, timing: &Timing) -> Option<Instant> {
        if self.first_due && now >= self.first_at {
            self.first_due = false;
            self.first_at = now + timing.wake_gather;
            let are_many = registry.count() > WAKE_MANY;
            let most = if are_many { WAKE_FIRST } else { usize::MAX };
            self.behind = registry.wake_sleeping(0, most);
            if self.behind.is_none() {
                // These were all.
                self.others_due = false;
                self.round = None;
            }
        }
        // A round begins where the first, who have to be woken before, have ended.
        if self.round.is_none() && self.others_due && !self.first_due && now >= self.others_at {
            self.others_due = false;
            self.others_at = now + timing.wake_gather_many;
            self.round = self.behind;
        }
        if let Some(from) = self.round {
            self.round = registry.wake_sleeping(from, self.portion);
        }
        let first = self.first_due.then_some(self.first_at);
        let others = match self.round {
            Some(_) => Some(now + timing.wake_pause),
            None if self.others_due => Some(self.others_at.max(self.first_at)),
            None => None,
        };
        [first, others].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::firehose::registry::Registration;

    /// Subscribers, all of which sleep, and what is to be woken.
    struct Stage {
        registry: Arc<Registry>,
        subscribers: Vec<Registration>,
        rounds: Rounds,
        start: Instant,
    }

    const PORTION: usize = 10;

    impl Stage {
        fn new(subscribers: usize) -> Stage {
            let registry = Arc::new(Registry::default());
            let peer = "192.0.2.1:5".parse().unwrap();
            let register = |_| registry.register(peer, String::new()).unwrap();
            let subscribers = (0..subscribers).map(register).collect();
            let start = Instant::now();
            let mut rounds = Rounds::new(start);
            rounds.portion = PORTION;
            let stage = Stage {
                registry,
                subscribers,
                rounds,
                start,
            };
            stage.sleep();
            stage
        }

        /// Whoever was woken goes to sleep again.
        fn sleep(&self) {
            for subscriber in &self.subscribers {
                subscriber.entry.falls_asleep(|| false);
            }
        }

        /// A step at this millisecond: who is woken by it, and when the next one is.
        fn step(&mut self, ms: u64) -> (Vec<u64>, Option<u64>) {
            let now = self.start + Duration::from_millis(ms);
            let next = self.rounds.step(now, &self.registry, &Timing::default());
            let was_woken = |subscriber: &&Registration| subscriber.entry.is_awake();
            let woken = self.subscribers.iter().filter(was_woken);
            let ids = woken.map(|subscriber| subscriber.entry.id()).collect();
            self.sleep();
            let ms = |at: Instant| (at - self.start).as_millis() as u64;
            (ids, next.map(ms))
        }
    }

    fn ids(ids: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        ids.collect()
    }

    #[test]
    fn a_few_are_woken_together() {
        let few = WAKE_MANY as u64;
        let mut stage = Stage::new(WAKE_MANY);
        assert_eq!(stage.step(0), (vec![], None));
        stage.rounds.hear();
        assert_eq!(stage.step(10), (ids(1..=few), None));
        stage.rounds.hear();
        assert_eq!(stage.step(11), (vec![], Some(13)));
        assert_eq!(stage.step(13), (ids(1..=few), None));
        assert_eq!(stage.step(20), (vec![], None));
    }

    #[test]
    fn of_many_the_first_are_woken_as_ever_and_the_others_little_by_little() {
        let first = WAKE_FIRST as u64;
        let mut stage = Stage::new(WAKE_MANY + 1);
        stage.rounds.hear();
        // The first, and a portion of the others.
        assert_eq!(stage.step(0), (ids(1..=first + 10), Some(1)));
        stage.rounds.hear();
        assert_eq!(stage.step(1), (ids(first + 11..=first + 20), Some(2)));
        assert_eq!(stage.step(2), (ids(first + 21..=first + 30), Some(3)));
        let last = WAKE_MANY as u64 + 1;
        let mut rest = ids(1..=first);
        rest.extend(ids(first + 31..=last));
        // What was said at 1 the first hear at 3, and the others when it is time for a round.
        assert_eq!(stage.step(3), (rest, Some(6)));
        assert_eq!(stage.step(6), (ids(first + 1..=first + 10), Some(7)));
        assert_eq!(stage.step(7).1, Some(8));
        assert_eq!(stage.step(8).1, Some(9));
        assert_eq!(stage.step(9), (ids(first + 31..=last), None));
    }

    /// Whatever happens when: who sleeps while there is news is woken within a bounded time.
    #[test]
    fn nobody_sleeps_through_news() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut stage = Stage::new(WAKE_MANY + 26);
            let mut waiting: Vec<Option<u64>> = vec![None; stage.subscribers.len()];
            let mut next: Option<u64> = None;
            for ms in 0..200 {
                if random.u8(..4) == 0 {
                    stage.rounds.hear();
                    for since in &mut waiting {
                        since.get_or_insert(ms);
                    }
                    next = next.or(Some(ms));
                }
                if next.is_some_and(|at| at <= ms) {
                    let (woken, at) = stage.step(ms);
                    assert!(at.is_none_or(|at| at > ms), "{at:?} at {ms}");
                    next = at;
                    for id in woken {
                        waiting[id as usize - 1] = None;
                    }
                }
                let longest = waiting.iter().flatten().map(|since| ms - since).max();
                assert!(longest.is_none_or(|longest| longest <= 18), "{longest:?}");
                let first = waiting[..WAKE_FIRST].iter().flatten();
                assert!(first.map(|since| ms - since).all(|waits| waits < 3));
            }
        }
    }
}
