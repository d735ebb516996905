//! How many connections there may be, altogether and of one client.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::request::{is_beside_us, network};
use crate::limits::HTTP_CROWDED_PERCENT;

/// Counts connections and refuses those over a cap.
#[derive(Debug)]
pub struct Gate {
    total_max: usize,
    per_client_max: usize,
    inside: Mutex<Inside>,
    /// Signalled when the last connection leaves.
    empty: Condvar,
}

#[derive(Default, Debug)]
struct Inside {
    total: usize,
    /// Connections by network; none is zero.
    by_client: HashMap<IpAddr, usize>,
}

/// The right to be connected; dropping it gives it back.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    client: Option<IpAddr>,
}

impl Gate {
    /// A gate for `total_max` connections, `per_client_max` of them of one client.
    pub fn new(total_max: usize, per_client_max: usize) -> Arc<Gate> {
        Arc::new(Gate {
            total_max,
            per_client_max,
            inside: Mutex::default(),
            empty: Condvar::new(),
        })
    }

    /// Lets a connection in, unless a cap is reached. A peer on our own network is most likely a
    /// proxy that speaks for many: only the cap of all connections holds for it.
    pub fn enter(self: &Arc<Gate>, peer: IpAddr) -> Option<Pass> {
        let mut inside = self.inside();
        if inside.total >= self.total_max {
            return None;
        }
        let client = Some(network(peer)).filter(|_| !is_beside_us(peer));
        if let Some(client) = client {
            let count = inside.by_client.entry(client).or_default();
            if *count >= self.per_client_max {
                return None;
            }
            *count += 1;
        }
        inside.total += 1;
        Some(Pass {
            gate: Arc::clone(self),
            client,
        })
    }

    /// Whether so many are inside that nobody should stay without need.
    pub fn is_crowded(&self) -> bool {
        self.inside().total * 100 > self.total_max * HTTP_CROWDED_PERCENT
    }

    /// Waits until nobody is inside, for `timeout` at most; returns how many still are.
    pub fn wait_empty(&self, timeout: Duration) -> usize {
        let (inside, _) = self
            .empty
            .wait_timeout_while(self.inside(), timeout, |inside| inside.total > 0)
            .unwrap_or_else(PoisonError::into_inner);
        inside.total
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.total -= 1;
        if let Some(client) = self.client
            && let Some(count) = inside.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                inside.by_client.remove(&client);
            }
        }
        if inside.total == 0 {
            self.gate.empty.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_its_share() {
        let gate = Gate::new(5, 2);
        let first = gate.enter(ip("2001:db8::1")).unwrap();
        let _second = gate.enter(ip("2001:db8::ffff")).unwrap();
        assert!(gate.enter(ip("2001:db8::2")).is_none());
        let _other = gate.enter(ip("192.0.2.1")).unwrap();
        drop(first);
        let _again = gate.enter(ip("2001:db8::3")).unwrap();
    }

    #[test]
    fn a_proxy_beside_us_has_all_but_not_more() {
        let gate = Gate::new(3, 1);
        let passes: Vec<_> = (0..3)
            .map(|_| gate.enter(ip("127.0.0.1")).unwrap())
            .collect();
        assert!(gate.is_crowded());
        assert!(gate.enter(ip("127.0.0.1")).is_none());
        assert!(gate.enter(ip("192.0.2.1")).is_none());
        assert_eq!(gate.wait_empty(Duration::ZERO), 3);
        drop(passes);
        assert!(!gate.is_crowded());
        assert_eq!(gate.wait_empty(Duration::from_secs(60)), 0);
        assert!(gate.inside().by_client.is_empty());
    }
}
