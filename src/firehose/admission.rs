//! How many subscribers there may be, in all and of one address.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::limits;

/// Counts subscribers.
#[derive(Debug)]
pub struct Admissions {
    counts: Mutex<Counts>,
    total_max: usize,
    address_max: usize,
}

#[derive(Default, Debug)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Until when a place stays taken for an address although nobody has it any more, the first to end first.
    forfeited: VecDeque<(Instant, IpAddr)>,
}

/// A subscriber's slot; dropping it frees it.
#[must_use = "dropping the slot frees it"]
#[derive(Debug)]
pub struct Admission {
    counts: Arc<Admissions>,
    address: IpAddr,
    is_forfeited: bool,
    /// The last seq when the subscriber was admitted: what comes later is live for it, also what
    /// comes before its thread runs.
    pub(super) last_seq: u64,
}

/// Why one more subscriber is not admitted; answered with 429.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooMany {
    /// The relay has [`limits::SUBSCRIBERS_MAX`].
    Relay,
    /// The address has [`limits::SUBSCRIBERS_PER_ADDRESS_MAX`].
    Address,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TooMany::Relay => "the relay has as many subscribers as it can serve",
            TooMany::Address => "too many subscriptions from this address",
        })
    }
}

impl std::error::Error for TooMany {}

impl Default for Admissions {
    fn default() -> Admissions {
        Admissions::new(limits::SUBSCRIBERS_MAX, limits::SUBSCRIBERS_PER_ADDRESS_MAX)
    }
}

impl Admissions {
    /// Slots for `total_max` subscribers, `address_max` of them of one address.
    pub fn new(total_max: usize, address_max: usize) -> Admissions {
        Admissions {
            counts: Mutex::default(),
            total_max,
            address_max,
        }
    }

    /// A slot for a subscriber at `address`, where the last seq is `last_seq`.
    pub fn admit(self: &Arc<Self>, address: IpAddr, last_seq: u64) -> Result<Admission, TooMany> {
        let address = network(address);
        let mut counts = self.lock();
        counts.end_forfeits(Instant::now());
        if counts.total >= self.total_max {
            return Err(TooMany::Relay);
        }
        let of_address = counts.by_address.entry(address).or_default();
        if *of_address >= self.address_max {
            return Err(TooMany::Address);
        }
        *of_address += 1;
        counts.total += 1;
        Ok(Admission {
            counts: Arc::clone(self),
            address,
            is_forfeited: false,
            last_seq,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Frees what has stayed taken for long enough.
    fn end_forfeits(&mut self, now: Instant) {
        while let Some((until, address)) = self.forfeited.front().copied()
            && until <= now
        {
            self.forfeited.pop_front();
            self.free(address);
        }
    }

    fn free(&mut self, address: IpAddr) {
        if let Some(of_address) = self.by_address.get_mut(&address) {
            *of_address -= 1;
            if *of_address == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Admission {
    /// When this is dropped, the slot stays taken for its address for [`limits::SUBSCRIBER_FORFEIT`]: who breaks the
    /// protocol, or goes at once, and comes again costs as much as many who do not.
    pub(super) fn forfeit(&mut self) {
        self.is_forfeited = true;
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.total -= 1;
        if self.is_forfeited {
            let until = Instant::now() + limits::SUBSCRIBER_FORFEIT;
            counts.forfeited.push_back((until, self.address));
        } else {
            counts.free(self.address);
        }
    }
}

/// What counts as one address: an IPv4 address, however it is written, or an IPv6 /64, which is
/// the least that one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => {
            let network = u128::from(v6) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted_by_network_and_given_back() {
        let admissions = Arc::new(Admissions::new(3, 2));
        let admit = |text: &str| admissions.admit(text.parse().unwrap(), 0);
        let first = admit("2001:db8::1").unwrap();
        let _second = admit("2001:db8::2:0:0:1").unwrap();
        assert_eq!(admit("2001:db8::3").unwrap_err(), TooMany::Address);
        let third = admit("2001:db8:0:1::1").unwrap();
        assert_eq!(admit("192.0.2.1").unwrap_err(), TooMany::Relay);
        drop((first, third));
        let _v4 = admit("192.0.2.1").unwrap();
        let mapped = admit("::ffff:192.0.2.1").unwrap();
        assert_eq!(admissions.counts.lock().unwrap().by_address.len(), 2);
        drop(mapped);
        let left = admissions.counts.lock().unwrap().total;
        assert_eq!(left, 2);
    }

    #[test]
    fn the_place_of_who_broke_the_protocol_stays_taken_for_its_address() {
        let admissions = Arc::new(Admissions::new(3, 2));
        let admit = |text: &str| admissions.admit(text.parse().unwrap(), 0);
        for _ in 0..2 {
            admit("192.0.2.1").unwrap().forfeit();
        }
        assert_eq!(admit("192.0.2.1").unwrap_err(), TooMany::Address);
        let others = [admit("192.0.2.2"), admit("192.0.2.3"), admit("192.0.2.4")];
        assert!(others.iter().all(Result::is_ok), "the relay has room");
        drop(others);
        let later = Instant::now() + limits::SUBSCRIBER_FORFEIT;
        admissions.lock().end_forfeits(later);
        drop(admit("192.0.2.1").unwrap());
        let counts = admissions.lock();
        assert!(counts.by_address.is_empty() && counts.forfeited.is_empty());
    }
}
