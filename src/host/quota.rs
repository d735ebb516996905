//! How many events a host may send: so many a second, an hour and a day. What is over a limit
//! waits, and nothing is dropped.
//!
//! Each limit is a bucket that holds as many events as the limit says and fills up again evenly
//! over its time. A host that was quiet may so send a whole hour's events at once; a host that is
//! over its limit for long is not silenced for the rest of the hour, but heard at the pace of the
//! limit, and the longest wait for one event is seconds.

use std::time::{Duration, Instant};

use crate::limits::{
    HOST_ACCOUNTS_PER_EVENT_A_SECOND, HOST_BYTES_PER_EVENT, HOST_EVENTS_A_DAY_PER_ACCOUNT,
    HOST_LARGE_BYTES_PER_EVENT, HOST_LARGE_EVENT_BYTES, HOST_THROTTLED_CALM, HOST_THROTTLED_SHOWN,
};

/// The time in which events are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// A second.
    Second,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Span {
    /// Every span, the shortest first.
    pub const ALL: [Span; 3] = [Span::Second, Span::Hour, Span::Day];

    /// The word for it in metrics and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Span::Second => "second",
            Span::Hour => "hour",
            Span::Day => "day",
        }
    }

    /// How long it is.
    pub const fn length(self) -> Duration {
        Duration::from_secs(match self {
            Span::Second => 1,
            Span::Hour => 3_600,
            Span::Day => 24 * 3_600,
        })
    }
}

/// How many events in each [`Span`]; none: as many as come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits([Option<u64>; Span::ALL.len()]);

impl Limits {
    /// So many in each span.
    pub fn new(events: [Option<u64>; Span::ALL.len()]) -> Limits {
        Limits(events)
    }

    /// Those of a trusted host.
    pub fn of_trusted(a_second: u64) -> Limits {
        Limits([Some(a_second), None, None])
    }

    /// Those of a host with so many accounts, where one without any has `base`.
    pub fn of(accounts: u64, base: [u64; Span::ALL.len()]) -> Limits {
        let more = [
            accounts / HOST_ACCOUNTS_PER_EVENT_A_SECOND,
            accounts,
            accounts.saturating_mul(HOST_EVENTS_A_DAY_PER_ACCOUNT),
        ];
        let mut limits = base.map(Some);
        for (limit, more) in limits.iter_mut().zip(more) {
            *limit = limit.map(|limit| limit.saturating_add(more));
        }
        Limits(limits)
    }

    /// The same with another limit for one span, if there is one.
    #[must_use]
    pub fn or(mut self, span: Span, limit: Option<u64>) -> Limits {
        if limit.is_some() {
            self.0[span as usize] = limit;
        }
        self
    }

    /// How many in this span.
    pub fn get(&self, span: Span) -> Option<u64> {
        self.0[span as usize]
    }
}

/// As how many events one of so many bytes counts.
pub fn counts_as(bytes: usize) -> u32 {
    let beyond = bytes.saturating_sub(HOST_LARGE_EVENT_BYTES);
    let more = (bytes - beyond) / HOST_BYTES_PER_EVENT + beyond / HOST_LARGE_BYTES_PER_EVENT;
    u32::try_from(1 + more).unwrap_or(u32::MAX)
}

/// A host is over a limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Over {
    /// The one of its limits for which it must wait the longest.
    pub span: Span,
    /// When its next event may be taken.
    pub until: Instant,
}

/// What a host has sent, as far as its limits concern it.
#[derive(Clone, Default, Debug)]
pub struct Quota {
    /// When the bucket of each span is full again; none: it is.
    full_at: [Option<Instant>; Span::ALL.len()],
}

impl Quota {
    /// Counts one more event; an error where it must wait, and then it is not counted.
    pub fn take(&mut self, now: Instant, limits: &Limits) -> Result<(), Over> {
        self.take_many(now, limits, 1)
    }

    /// The same for an event that counts as `count`. It waits for the room of one, and what it takes
    /// beyond that the next ones wait for: it may count as more than the limit is.
    pub fn take_many(&mut self, now: Instant, limits: &Limits, count: u32) -> Result<(), Over> {
        let mut next = self.full_at;
        let mut over: Option<Over> = None;
        for span in Span::ALL {
            let Some(limit) = limits.get(span) else {
                continue;
            };
            let each = span.length().div_f64(limit.max(1) as f64);
            let slot = &mut next[span as usize];
            let full_at = slot.map_or(now, |at| at.max(now)) + each;
            // An empty bucket takes the whole span to fill up.
            let until = full_at.checked_sub(span.length()).unwrap_or(now);
            if until > now && over.is_none_or(|over| until > over.until) {
                over = Some(Over { span, until });
            }
            *slot = Some(full_at + each * count.saturating_sub(1));
        }
        match over {
            Some(over) => Err(over),
            None => {
                self.full_at = next;
                Ok(())
            }
        }
    }
}

/// Whether a host is to be shown as throttled. Events that come in a bunch wait for milliseconds now
/// and then, which nobody needs to know.
#[derive(Clone, Default, Debug)]
pub struct Throttled {
    waits: Option<Waits>,
    shown_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Waits {
    since: Instant,
    until: Instant,
}

impl Throttled {
    /// An event waits from `now` until `until`; true when that is to be shown, which it is once a
    /// second at most.
    pub fn waits(&mut self, now: Instant, until: Instant) -> bool {
        let since = match self.waits {
            Some(waits) if !is_calm(waits, now) => waits.since,
            _ => now,
        };
        self.waits = Some(Waits { since, until });
        let is_due = self
            .shown_at
            .is_none_or(|at| now.saturating_duration_since(at) >= HOST_THROTTLED_SHOWN);
        let show = is_due && until.saturating_duration_since(since) >= HOST_THROTTLED_SHOWN;
        if show {
            self.shown_at = Some(now);
        }
        show
    }

    /// What waited waits no longer, perhaps sooner than was thought: the limits are others.
    pub fn passes(&mut self, now: Instant) {
        if let Some(waits) = &mut self.waits {
            waits.until = waits.until.min(now);
        }
    }

    /// Nothing has to wait now; true when the host is to be shown as it was before.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let over = self.is_shown() && self.waits.is_none_or(|waits| is_calm(waits, now));
        if over {
            *self = Throttled::default();
        }
        over
    }

    /// Whether the host is shown as throttled.
    pub fn is_shown(&self) -> bool {
        self.shown_at.is_some()
    }
}

fn is_calm(waits: Waits, now: Instant) -> bool {
    now.saturating_duration_since(waits.until) >= HOST_THROTTLED_CALM
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const BASE: [u64; 3] = [50, 2_500, 20_000];

    /// A host that sends as fast as it is let: how many events pass in `time`, and the longest wait
    /// for one of them.
    fn flood(
        quota: &mut Quota,
        limits: &Limits,
        start: Instant,
        time: Duration,
    ) -> (u64, Duration) {
        let (mut now, mut passed, mut longest) = (start, 0, Duration::ZERO);
        while now < start + time {
            match quota.take(now, limits) {
                Ok(()) => passed += 1,
                Err(over) => {
                    assert!(over.until > now);
                    longest = longest.max(over.until - now);
                    now = over.until;
                }
            }
        }
        (passed, longest)
    }

    #[test]
    fn a_second_has_its_events_and_the_next_one_as_many() {
        let (mut quota, limits, start) = (Quota::default(), Limits::of(0, BASE), Instant::now());
        for n in 0..50 {
            assert_eq!(quota.take(start, &limits), Ok(()), "{n}");
        }
        let over = quota.take(start, &limits).unwrap_err();
        let until = start + Duration::from_millis(20);
        assert_eq!(
            over,
            Over {
                span: Span::Second,
                until
            }
        );
        assert_eq!(
            quota.take(until, &limits),
            Ok(()),
            "what waited was not counted"
        );
        assert!(quota.take(until, &limits).is_err());
        let later = start + MINUTE;
        assert!((0..50).all(|_| quota.take(later, &limits).is_ok()));
    }

    #[test]
    fn large_events_count_as_many() {
        let counts = [0, 65_535, 65_536, 1 << 20, 2_000_000, 5_000_000].map(counts_as);
        assert_eq!(counts, [1, 1, 2, 17, 133, 499]);
    }

    /// Rule 54: <https://atproto.com/specs/sync>
    #[test]
    fn who_is_over_the_limit_of_an_hour_is_heard_at_its_pace() {
        let (mut quota, limits, start) = (Quota::default(), Limits::of(0, BASE), Instant::now());
        let (passed, longest) = flood(&mut quota, &limits, start, MINUTE);
        // A full bucket, and what has come into it meanwhile.
        assert!((2_500..2_550).contains(&passed), "{passed}");
        assert!(longest <= Duration::from_millis(1_440), "{longest:?}");
        let over = quota.take(start + MINUTE, &limits).unwrap_err();
        assert_eq!(over.span, Span::Hour);
        let (passed, _) = flood(&mut quota, &limits, start + MINUTE, 60 * MINUTE);
        assert!((2_495..=2_505).contains(&passed), "{passed}");
    }

    #[test]
    fn who_is_over_the_limit_of_a_day_waits_for_seconds_only() {
        let (mut quota, limits, start) = (Quota::default(), Limits::of(0, BASE), Instant::now());
        let day = Span::Day.length();
        let (passed, _) = flood(&mut quota, &limits, start, day);
        assert!((39_990..=40_010).contains(&passed), "{passed}");
        // One more may just fit.
        let over = (0..2).find_map(|_| quota.take(start + day, &limits).err());
        assert_eq!(over.unwrap().span, Span::Day);
        let (passed, longest) = flood(&mut quota, &limits, start + day, day);
        assert!((19_990..=20_010).contains(&passed), "{passed}");
        assert!(longest <= Duration::from_millis(4_320), "{longest:?}");
    }

    #[test]
    fn a_trusted_host_is_limited_by_the_second_only() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let (passed, longest) = flood(&mut quota, &Limits::of_trusted(5_000), start, MINUTE);
        assert!((300_000..=305_001).contains(&passed), "{passed}");
        assert!(longest <= Duration::from_millis(1));
    }

    #[test]
    fn what_counts_as_many_is_paid_for_by_those_behind_it() {
        let (mut quota, limits, start) = (Quota::default(), Limits::of(0, BASE), Instant::now());
        // More than the limit of a second, and it does not wait.
        assert_eq!(quota.take_many(start, &limits, 77), Ok(()));
        let over = quota.take(start, &limits).unwrap_err();
        assert_eq!(over.span, Span::Second);
        assert_eq!(over.until, start + Duration::from_millis(28 * 20));
        assert_eq!(quota.take_many(over.until, &limits, 77), Ok(()));
        let mut now = over.until;
        let mut passed = 2;
        while let Err(over) = quota.take_many(now, &limits, 77) {
            now = over.until;
            passed += u64::from(quota.take_many(now, &limits, 77).is_ok());
            if now > start + MINUTE {
                break;
            }
        }
        // What there is for an hour, and what has come meanwhile.
        assert!((32..=34).contains(&passed), "{passed}");
    }

    #[test]
    fn a_limit_of_nothing_lets_one_pass_now_and_then() {
        let limits = Limits([None, Some(0), None]);
        let (mut quota, start) = (Quota::default(), Instant::now());
        assert_eq!(quota.take(start, &limits), Ok(()));
        let over = quota.take(start, &limits).unwrap_err();
        assert_eq!(over.until, start + Span::Hour.length());
    }

    #[test]
    fn a_wait_is_shown_when_it_lasts_and_until_nothing_waits_for_a_while() {
        let (mut throttled, start) = (Throttled::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!throttled.waits(at(0), at(20)), "too short");
        // Long after, it is as if it had not been.
        assert!(!throttled.waits(at(60_000), at(60_020)));
        assert!(!throttled.waits(at(60_500), at(60_520)));
        assert!(!throttled.is_over(at(60_510)), "nothing was shown");
        assert!(throttled.waits(at(60_990), at(61_010)), "for a second now");
        assert!(!throttled.waits(at(61_500), at(61_520)), "said just now");
        assert!(throttled.waits(at(61_990), at(62_010)));
        assert!(throttled.is_shown());
        assert!(!throttled.is_over(at(62_010)));
        assert!(!throttled.is_over(at(62_009) + HOST_THROTTLED_CALM));
        assert!(throttled.is_over(at(62_010) + HOST_THROTTLED_CALM));
        assert!(!throttled.is_shown());
        assert!(
            throttled.waits(at(90_000), at(91_440)),
            "one long wait is enough"
        );
        // The operator has taken back the limit for which it waited.
        let hour = 3_600_000;
        assert!(throttled.waits(at(92_500), at(92_500 + hour)));
        throttled.passes(at(95_000));
        assert!(!throttled.is_over(at(95_000)));
        assert!(throttled.is_over(at(95_000) + HOST_THROTTLED_CALM));
    }
}
