//! How long to wait before the next attempt at a host: doubling, capped, with jitter, for ever. Pure.

use std::time::Duration;

use crate::limits::{
    HOST_BACKOFF_FIRST, HOST_BACKOFF_MAX, HOST_BRIEF, HOST_BRIEF_FAILURES_MAX,
    HOST_FAILURES_OFFLINE, HOST_SETTLED,
};

/// The attempts at one host.
#[derive(Clone, Default, Debug)]
pub struct Retries {
    failures: u32,
}

/// How a connection ended, or an attempt that led to none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// It brought something.
    pub progressed: bool,
    /// How long there was a connection; none at all: zero.
    pub lasted: Duration,
    /// It was this relay that ended it, because of what the host had sent.
    pub violated: bool,
}

/// What follows the end of a connection, or an attempt that led to none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Failures in a row.
    pub failures: u32,
    /// How long to wait.
    pub delay: Duration,
    /// Whether the host is shown as offline meanwhile.
    pub is_offline: bool,
}

impl Retries {
    /// One more connection has ended. One that brought something, or that merely lasted, begins the
    /// count anew: quiet hosts are cut by proxies all day long. One that brought something and ended
    /// at once, or for what the host had sent, is counted, but not for long.
    /// `jitter` is a random number in 0 to 1: hosts that failed together are not retried together.
    pub fn ended(&mut self, end: End, jitter: f64) -> Retry {
        let one_more = self.failures.saturating_add(1);
        self.failures = match end {
            _ if end.lasted >= HOST_SETTLED => 1,
            End {
                progressed: false, ..
            } => one_more,
            _ if end.violated || end.lasted < HOST_BRIEF => one_more.min(HOST_BRIEF_FAILURES_MAX),
            _ => 1,
        };
        Retry {
            failures: self.failures,
            delay: delay(self.failures, jitter),
            is_offline: self.failures >= HOST_FAILURES_OFFLINE,
        }
    }
}

/// The delay after so many failures in a row.
fn delay(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let full = HOST_BACKOFF_FIRST
        .saturating_mul(1 << doublings)
        .min(HOST_BACKOFF_MAX);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOTHING: End = End {
        progressed: false,
        lasted: Duration::ZERO,
        violated: false,
    };

    #[test]
    fn delays_double_up_to_the_cap_and_never_end() {
        assert_eq!(delay(1, 1.0), HOST_BACKOFF_FIRST);
        assert_eq!(delay(2, 1.0), HOST_BACKOFF_FIRST * 2);
        assert_eq!(delay(5, 0.0), HOST_BACKOFF_FIRST * 8);
        assert_eq!(delay(40, 1.0), HOST_BACKOFF_MAX);
        assert_eq!(delay(u32::MAX, 1.0), HOST_BACKOFF_MAX);
        assert!(delay(0, 0.0) >= HOST_BACKOFF_FIRST / 2);
    }

    #[test]
    fn what_lasts_or_brings_something_is_no_failure() {
        let after = |failures, end| Retries { failures }.ended(end, 0.0).failures;
        assert_eq!(after(7, NOTHING), 8);
        assert_eq!(after(u32::MAX, NOTHING), u32::MAX);
        let lasted = |lasted| End { lasted, ..NOTHING };
        assert_eq!(after(7, lasted(HOST_SETTLED)), 1);
        let good = End {
            progressed: true,
            ..lasted(HOST_BRIEF)
        };
        assert_eq!(after(7, good), 1);
    }

    #[test]
    fn who_is_cut_or_goes_again_and_again_is_left_alone_for_seconds() {
        let brief = End {
            progressed: true,
            ..NOTHING
        };
        let cut = End {
            progressed: true,
            lasted: HOST_BRIEF,
            violated: true,
        };
        for end in [brief, cut] {
            let mut retries = Retries::default();
            let delays: Vec<_> = (0..6).map(|_| retries.ended(end, 1.0).delay).collect();
            let doubled = [1, 2, 4, 8, 8, 8].map(|n| HOST_BACKOFF_FIRST * n);
            assert_eq!(delays, doubled);
            assert!(!retries.ended(end, 1.0).is_offline);
            // A minute later all is well.
            let lasted = End {
                lasted: HOST_SETTLED,
                ..end
            };
            assert_eq!(retries.ended(lasted, 1.0).delay, HOST_BACKOFF_FIRST);
        }
    }

    /// A host that is down for so long: how often it is tried, when it is first shown as offline, and
    /// how long after it is back it is noticed.
    fn outage(long: Duration, jitter: f64) -> (u32, Duration, Duration) {
        let mut retries = Retries::default();
        // The connection that there was has ended.
        let last = End {
            progressed: true,
            lasted: 100 * MINUTE,
            violated: false,
        };
        let mut now = retries.ended(last, jitter).delay;
        let (mut attempts, mut offline_at) = (0, None);
        while now < long {
            attempts += 1;
            let retry = retries.ended(NOTHING, jitter);
            if retry.is_offline {
                offline_at.get_or_insert(now);
            }
            now += retry.delay;
        }
        (attempts, offline_at.unwrap(), now - long)
    }

    /// Rule 51: <https://atproto.com/specs/sync>
    #[test]
    fn an_hour_and_days_without_a_host_end_by_themselves() {
        for jitter in [0.0, 0.5, 1.0] {
            let (attempts, offline_at, late) = outage(60 * MINUTE, jitter);
            assert!((10..30).contains(&attempts), "{attempts}");
            assert!(offline_at < 5 * MINUTE, "{offline_at:?}");
            assert!(late <= HOST_BACKOFF_MAX, "{late:?}");
            let days = 5 * 24 * 60 * MINUTE;
            let (attempts, _, late) = outage(days, jitter);
            assert!(attempts >= 5 * 24 * 4, "{attempts}");
            assert!(late <= HOST_BACKOFF_MAX, "{late:?}");
        }
    }
}
