//! What is counted of each host, so that anybody can be told why a host is not heard.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use super::{Counter, Delays, Gauge, Rejects};
use crate::{limits::REFUSAL_DID_CHARS_MAX, reject::Reject, store::account::HostId};

/// The tallies of all hosts.
#[derive(Default, Debug)]
pub struct HostTallies(RwLock<HashMap<HostId, Arc<Tally>>>);

impl HostTallies {
    /// The tally of a host, which begins when it is first asked for.
    pub fn of(&self, host: HostId) -> Arc<Tally> {
        let known = self.find(host);
        known.unwrap_or_else(|| {
            let mut tallies = self.0.write().unwrap_or_else(PoisonError::into_inner);
            tallies.entry(host).or_default().clone()
        })
    }

    /// The tally of a host of which anything was counted.
    pub fn find(&self, host: HostId) -> Option<Arc<Tally>> {
        let tallies = self.0.read().unwrap_or_else(PoisonError::into_inner);
        tallies.get(&host).cloned()
    }
}

/// What was counted of one host since the start: some dozens of bytes for one whose events pass,
/// some hundreds for one of which any was refused, whatever it sends.
#[derive(Default, Debug)]
pub struct Tally {
    /// Events that were given a seq.
    pub forwarded: Counter,
    /// Those of them that do not continue the account's last commit.
    pub discontinuous: Counter,
    /// Those of them that lack fields of Sync 1.1.
    pub lenient: Counter,
    /// Frames that came from it.
    pub received: Counter,
    /// When the last one came, in milliseconds since 1970; 0: none has.
    pub received_at_ms: Gauge,
    /// When that had happened, as the host says, in milliseconds since 1970; 0: it does not say.
    pub happened_at_ms: Gauge,
    /// Events that had to wait because the host was over a limit.
    pub delayed: Delays,
    /// Documents that were not fetched anew because it had caused that too often.
    pub refreshes_refused: Counter,
    refusals: OnceLock<Box<Refusals>>,
}

#[derive(Default, Debug)]
struct Refusals {
    by_reason: Rejects,
    last: Mutex<Option<Refusal>>,
}

/// An event that was not forwarded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reject: Reject,
    /// The account, as far as it is known, and cut off where it is long.
    pub did: Option<Box<str>>,
    /// Its upstream seq, where it has one.
    pub seq: Option<u64>,
    /// When it was refused, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Refusal {
    /// Of an event that could be read. An empty DID and a seq of 0 are none.
    pub fn new(reject: Reject, did: &str, seq: u64, at_ms: u64) -> Refusal {
        let did: String = did.chars().take(REFUSAL_DID_CHARS_MAX).collect();
        Refusal {
            reject,
            did: (!did.is_empty()).then(|| did.into()),
            seq: (seq > 0).then_some(seq),
            at_ms,
        }
    }
}

impl Tally {
    /// Counts an event that was not forwarded.
    pub fn refuse(&self, refusal: Refusal) {
        let refusals = self.refusals.get_or_init(Box::default);
        refusals.by_reason.inc(refusal.reject);
        *refusals.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    /// How old the host's events were when the last of them came, in milliseconds, if it is known.
    pub fn behind_ms(&self) -> Option<u64> {
        let (came, happened) = (self.received_at_ms.get(), self.happened_at_ms.get());
        (happened > 0).then(|| came.saturating_sub(happened))
    }

    /// How many for each reason that there was.
    pub fn refused(&self) -> Vec<(Reject, u64)> {
        let Some(refusals) = self.refusals.get() else {
            return Vec::new();
        };
        let all = Reject::ALL.iter();
        let counted = all.map(|reject| (*reject, refusals.by_reason.get(*reject)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// The last one.
    pub fn last_refusal(&self) -> Option<Refusal> {
        let last = &self.refusals.get()?.last;
        last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_own_counts() {
        let tallies = HostTallies::default();
        assert!(tallies.find(HostId(1)).is_none());
        tallies.of(HostId(1)).forwarded.inc();
        let refusal = Refusal::new(Reject::RevStale, "did:web:a.b", 7, 1_000);
        tallies.of(HostId(2)).refuse(refusal.clone());
        tallies
            .of(HostId(2))
            .refuse(Refusal::new(Reject::SchemaInvalid, "", 0, 2_000));
        let (one, two) = (tallies.of(HostId(1)), tallies.find(HostId(2)).unwrap());
        assert_eq!((one.forwarded.get(), two.forwarded.get()), (1, 0));
        assert_eq!((one.refused(), one.last_refusal()), (Vec::new(), None));
        assert_eq!(
            two.refused(),
            [(Reject::SchemaInvalid, 1), (Reject::RevStale, 1)]
        );
        let last = two.last_refusal().unwrap();
        assert_eq!((last.did, last.seq, last.at_ms), (None, None, 2_000));
        assert_eq!(refusal.did.as_deref(), Some("did:web:a.b"));
    }

    #[test]
    fn what_a_stranger_calls_an_account_takes_little_room() {
        let refusal = Refusal::new(Reject::DidInvalid, &"é".repeat(1 << 20), 1, 1);
        assert_eq!(refusal.did.unwrap().chars().count(), REFUSAL_DID_CHARS_MAX);
        assert!(size_of::<Tally>() <= 128, "{}", size_of::<Tally>());
        let refusals = size_of::<Refusals>();
        assert!(refusals <= 512, "{refusals}");
    }
}
