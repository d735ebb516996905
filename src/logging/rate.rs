//! How many lines of one kind there may be: a bucket of tokens for each place in the source and
//! reason, and a count of what was left out. Pure: the clock is the caller's.

use std::{collections::HashMap, mem, time::Duration};

use log::Level;

/// What bounds the lines of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Lines at once.
    pub(super) burst: u32,
    /// The time after which there may be one more.
    pub(super) interval: Duration,
    /// Kinds that are told apart; the others share one bucket.
    pub(super) kinds_max: usize,
    /// The longest that left-out lines wait to be reported.
    pub(super) report_after: Duration,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is written, with how many of its kind were left out since the last report.
    Write { left_out: u64 },
    /// It is counted.
    LeaveOut,
}

/// The kind of a line, for the report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Kind {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) reason: Option<String>,
    /// File and line; none of the lines that share a bucket.
    pub(super) place: Option<String>,
}

/// Lines that were left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LeftOut {
    pub(super) kind: Kind,
    pub(super) count: u64,
}

/// The buckets. Times count from any moment, the same for all calls.
#[derive(Debug)]
pub(super) struct Rate {
    bounds: Bounds,
    buckets: HashMap<u64, Bucket>,
    /// One for each level, so that errors never wait for the tokens of the rest.
    shared: [Bucket; 5],
    swept: Duration,
}

#[derive(Debug)]
struct Bucket {
    kind: Kind,
    /// When it is full again; the past where it is.
    full_at: Duration,
    left_out: u64,
    /// When the first of them was.
    since: Duration,
}

impl Rate {
    pub(super) fn new(bounds: Bounds) -> Rate {
        let shared = [
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ];
        Rate {
            bounds,
            buckets: HashMap::new(),
            shared: shared.map(|level| {
                Bucket::new(Kind {
                    level,
                    target: "zlay::logging".to_owned(),
                    reason: None,
                    place: None,
                })
            }),
            swept: Duration::ZERO,
        }
    }

    /// Decides on a line of the kind with the number `key`; `describe` is called when that kind is
    /// new.
    pub(super) fn take(
        &mut self,
        key: u64,
        level: Level,
        now: Duration,
        describe: impl FnOnce() -> Kind,
    ) -> Verdict {
        let bounds = self.bounds;
        if !self.buckets.contains_key(&key) && self.has_room(now) {
            self.buckets.insert(key, Bucket::new(describe()));
        }
        let shared = &mut self.shared[level as usize - 1];
        let bucket = self.buckets.get_mut(&key).unwrap_or(shared);
        bucket.take(&bounds, now)
    }

    /// What has waited for its report long enough, or all that waits; it counts from zero again.
    pub(super) fn report(&mut self, now: Duration, all: bool) -> Vec<LeftOut> {
        let after = self.bounds.report_after;
        let mut reports: Vec<LeftOut> = (self.buckets.values_mut())
            .chain(&mut self.shared)
            .filter(|bucket| all || now.saturating_sub(bucket.since) >= after)
            .filter_map(Bucket::report)
            .collect();
        reports.sort_by(|a, b| {
            let order = |left: &LeftOut| (left.kind.level, left.kind.place.clone());
            order(a).cmp(&order(b))
        });
        reports
    }

    /// Whether one more kind may be told apart; forgets those of which there is nothing to know.
    fn has_room(&mut self, now: Duration) -> bool {
        if self.buckets.len() < self.bounds.kinds_max {
            return true;
        }
        // Not for every line: looking at all of them costs.
        if now.saturating_sub(self.swept) < self.bounds.interval {
            return false;
        }
        self.swept = now;
        self.buckets
            .retain(|_, bucket| bucket.left_out > 0 || bucket.full_at > now);
        self.buckets.len() < self.bounds.kinds_max
    }
}

impl Bucket {
    fn new(kind: Kind) -> Bucket {
        Bucket {
            kind,
            full_at: Duration::ZERO,
            left_out: 0,
            since: Duration::ZERO,
        }
    }

    fn take(&mut self, bounds: &Bounds, now: Duration) -> Verdict {
        let full_at = self.full_at.max(now) + bounds.interval;
        if full_at - now <= bounds.interval * bounds.burst {
            self.full_at = full_at;
            let left_out = mem::take(&mut self.left_out);
            return Verdict::Write { left_out };
        }
        if self.left_out == 0 {
            self.since = now;
        }
        self.left_out += 1;
        Verdict::LeaveOut
    }

    fn report(&mut self) -> Option<LeftOut> {
        let count = mem::take(&mut self.left_out);
        (count > 0).then(|| LeftOut {
            kind: self.kind.clone(),
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        burst: 5,
        interval: Duration::from_millis(100),
        kinds_max: 3,
        report_after: Duration::from_secs(30),
    };

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn kind(level: Level, place: u64) -> Kind {
        Kind {
            level,
            target: "zlay::test".to_owned(),
            reason: Some("wrong_host".to_owned()),
            place: Some(place.to_string()),
        }
    }

    fn take(rate: &mut Rate, key: u64, ms: u64) -> Verdict {
        rate.take(key, Level::Warn, at(ms), || kind(Level::Warn, key))
    }

    /// How many of `count` lines are written, and how many they say were left out.
    fn flood(rate: &mut Rate, key: u64, ms: u64, count: u64) -> (u64, u64) {
        let (mut written, mut told) = (0, 0);
        for _ in 0..count {
            if let Verdict::Write { left_out } = take(rate, key, ms) {
                written += 1;
                told += left_out;
            }
        }
        (written, told)
    }

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut rate = Rate::new(BOUNDS);
        assert_eq!(flood(&mut rate, 1, 0, 100), (5, 0));
        assert_eq!(flood(&mut rate, 1, 99, 10), (0, 0));
        assert_eq!(flood(&mut rate, 1, 100, 10), (1, 105));
        assert_eq!(flood(&mut rate, 1, 350, 10), (2, 9));
        // After a rest there is a burst again, and no more than one.
        assert_eq!(flood(&mut rate, 1, 60_000, 10), (5, 8));
    }

    #[test]
    fn kinds_do_not_take_from_each_other() {
        let mut rate = Rate::new(BOUNDS);
        assert_eq!(flood(&mut rate, 1, 0, 100), (5, 0));
        assert_eq!(flood(&mut rate, 2, 0, 4), (4, 0));
    }

    #[test]
    fn every_line_is_written_or_counted_once() {
        let mut rate = Rate::new(BOUNDS);
        let mut random = fastrand::Rng::with_seed(3);
        let (mut total, mut seen, mut ms) = (0, 0, 0);
        for _ in 0..10_000 {
            ms += random.u64(0..40);
            total += 1;
            if let Verdict::Write { left_out } = take(&mut rate, random.u64(0..9), ms) {
                seen += 1 + left_out;
            }
            if random.u8(..) == 0 {
                let reports = rate.report(at(ms), false);
                seen += reports.iter().map(|report| report.count).sum::<u64>();
            }
        }
        let reports = rate.report(at(ms), true);
        seen += reports.iter().map(|report| report.count).sum::<u64>();
        assert_eq!(seen, total);
        assert_eq!(rate.report(at(ms), true), []);
    }

    #[test]
    fn what_is_left_out_is_reported_in_time() {
        let mut rate = Rate::new(BOUNDS);
        flood(&mut rate, 7, 1_000, 12);
        assert_eq!(rate.report(at(30_999), false), []);
        let report = LeftOut {
            kind: kind(Level::Warn, 7),
            count: 7,
        };
        assert_eq!(rate.report(at(31_000), false), [report]);
        assert_eq!(rate.report(at(99_000), true), []);
    }

    #[test]
    fn kinds_are_bounded_and_none_is_lost() {
        let mut rate = Rate::new(BOUNDS);
        for key in 0..1_000 {
            take(&mut rate, key, 0);
        }
        assert_eq!(rate.buckets.len(), 3);
        // 997 had one bucket together.
        let reports = rate.report(at(0), true);
        assert_eq!((reports.len(), reports[0].count), (1, 992));
        assert_eq!(
            (reports[0].kind.place.clone(), reports[0].kind.level),
            (None, Level::Warn)
        );
        // The first three have nothing more to say and make room.
        assert_eq!(
            take(&mut rate, 5_000, 1_000),
            Verdict::Write { left_out: 0 }
        );
        assert!(rate.buckets.contains_key(&5_000));
    }

    #[test]
    fn errors_do_not_share_a_bucket_with_the_rest() {
        let mut rate = Rate::new(Bounds {
            kinds_max: 0,
            ..BOUNDS
        });
        assert_eq!(flood(&mut rate, 1, 0, 100), (5, 0));
        let error = rate.take(2, Level::Error, at(0), || kind(Level::Error, 2));
        assert_eq!(error, Verdict::Write { left_out: 0 });
    }
}
