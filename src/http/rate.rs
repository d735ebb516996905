//! How often one client may do a thing.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::request::network;
use crate::limits::{HTTP_REQUESTS_A_SECOND, HTTP_REQUESTS_BURST};

/// Counts per client in windows of fixed length.
#[derive(Debug)]
pub struct RateLimit {
    window: Duration,
    clients_max: usize,
    clients: Mutex<HashMap<IpAddr, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    times: u32,
}

impl RateLimit {
    /// Counts in each `window` for one client. Of at most `clients_max` clients is kept
    /// count; when there are more, the counting begins anew: memory is bounded, and who commands
    /// that many networks is not stopped by a count.
    pub fn new(window: Duration, clients_max: usize) -> RateLimit {
        RateLimit {
            window,
            clients_max,
            clients: Mutex::default(),
        }
    }

    /// Counts one more, of `times_max` in a window; the error is how long until the next is allowed.
    pub fn take(&self, client: IpAddr, times_max: u32, now: Instant) -> Result<(), Duration> {
        self.with_window(client, now, |window, until_next| {
            if window.times >= times_max {
                return Err(until_next);
            }
            window.times += 1;
            Ok(())
        })
    }

    /// Whether one more would be allowed, without counting it.
    pub fn check(&self, client: IpAddr, times_max: u32, now: Instant) -> Result<(), Duration> {
        self.with_window(client, now, |window, until_next| {
            if window.times >= times_max {
                return Err(until_next);
            }
            Ok(())
        })
    }

    fn with_window<T>(
        &self,
        client: IpAddr,
        now: Instant,
        f: impl FnOnce(&mut Window, Duration) -> T,
    ) -> T {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = network(client);
        let fresh = Window {
            began: now,
            times: 0,
        };
        if clients.len() >= self.clients_max && !clients.contains_key(&key) {
            clients.retain(|_, w| now.saturating_duration_since(w.began) < self.window);
            if clients.len() >= self.clients_max {
                clients.clear();
            }
        }
        let window = clients.entry(key).or_insert(fresh);
        let age = now.saturating_duration_since(window.began);
        if age >= self.window {
            *window = fresh;
            return f(window, self.window);
        }
        f(window, self.window - age)
    }
}

/// The pace of one connection: so many requests at once, and so many a second.
#[derive(Debug)]
pub(super) struct Pace {
    /// How far the connection is ahead of an even pace.
    ahead: Duration,
    at: Instant,
}

impl Pace {
    /// Nothing was asked yet.
    pub(super) fn new(now: Instant) -> Pace {
        Pace {
            ahead: Duration::ZERO,
            at: now,
        }
    }

    /// Counts a request; how long the next one has to wait.
    pub(super) fn count(&mut self, now: Instant) -> Duration {
        let turn = Duration::from_secs(1) / HTTP_REQUESTS_A_SECOND;
        let passed = now.saturating_duration_since(self.at);
        self.ahead = self.ahead.saturating_sub(passed) + turn;
        self.at = now;
        self.ahead.saturating_sub(turn * HTTP_REQUESTS_BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_its_pace() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..HTTP_REQUESTS_BURST {
            assert_eq!(pace.count(now), Duration::ZERO);
        }
        let began = now;
        for _ in 0..10 * HTTP_REQUESTS_A_SECOND {
            let wait = pace.count(now);
            assert!(!wait.is_zero());
            now += wait;
        }
        assert_eq!(now - began, Duration::from_secs(10));
        // Whoever is slower never waits, and a pause gives a new burst, but not two.
        now += Duration::from_secs(3_600);
        for _ in 0..HTTP_REQUESTS_BURST {
            assert_eq!(pace.count(now), Duration::ZERO);
        }
        assert!(!pace.count(now).is_zero());
    }

    #[test]
    fn a_window_that_ends_gives_new_tries() {
        let limit = RateLimit::new(Duration::from_secs(60), 8);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let start = Instant::now();
        assert_eq!(limit.take(a, 2, start), Ok(()));
        assert_eq!(limit.take(a, 2, start), Ok(()));
        let later = start + Duration::from_secs(20);
        assert_eq!(limit.take(a, 2, later), Err(Duration::from_secs(40)));
        assert_eq!(limit.check(a, 2, later), Err(Duration::from_secs(40)));
        assert_eq!(limit.take(b, 2, later), Ok(()));
        assert_eq!(limit.take(a, 2, start + Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let limit = RateLimit::new(Duration::from_secs(60), 4);
        let now = Instant::now();
        for n in 0..100u8 {
            assert_eq!(limit.take(IpAddr::from([192, 0, 2, n]), 1, now), Ok(()));
            assert!(limit.clients.lock().unwrap().len() <= 4);
        }
    }
}
