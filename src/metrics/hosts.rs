//! What is counted of each host, so that anybody can be told why a host is not heard.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use super::{Counter, Delays, Gauge, Rejects, account_name::AccountName};
use crate::{
    atproto::envelope::Body, limits::HOST_REFUSALS_STEP, reject::Reject, store::account::HostId,
};

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

    /// Takes the rate of every host, over the `seconds` since the last time.
    pub fn measure(&self, seconds: f64) {
        let tallies = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for tally in tallies.values() {
            tally.measure(seconds);
        }
    }
}

/// What an event is about, as far as it is counted by that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// `#commit`
    Commit,
    /// `#sync`
    Sync,
    /// `#identity`
    Identity,
    /// `#account`
    Account,
    /// `#info`, and what is not known.
    Other,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [EventKind; 5] = [
        EventKind::Commit,
        EventKind::Sync,
        EventKind::Identity,
        EventKind::Account,
        EventKind::Other,
    ];

    /// The kind of an event with this body.
    pub const fn of(body: &Body<'_>) -> EventKind {
        match body {
            Body::Commit(_) => EventKind::Commit,
            Body::Sync(_) => EventKind::Sync,
            Body::Identity { .. } => EventKind::Identity,
            Body::Account { .. } => EventKind::Account,
        }
    }

    /// The name on pages.
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::Commit => "commit",
            EventKind::Sync => "sync",
            EventKind::Identity => "identity",
            EventKind::Account => "account",
            EventKind::Other => "other",
        }
    }
}

/// Events by their kind.
#[derive(Default, Debug)]
pub struct Kinds([Counter; EventKind::ALL.len()]);

impl Kinds {
    /// Counts one.
    pub fn inc(&self, kind: EventKind) {
        self.0[kind as usize].inc();
    }

    /// How many of this kind.
    pub fn get(&self, kind: EventKind) -> u64 {
        self.0[kind as usize].get()
    }
}

/// What was counted of one host since the start: some dozens of bytes for one whose events pass, some
/// hundreds for one of which any was refused, and at most that many again for each further reason.
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
    /// Those of them that could be read, by what they are about.
    pub kinds: Kinds,
    /// Frames in a thousand seconds, as measured last.
    pub rate_milli: Gauge,
    /// How many had come then.
    measured: Gauge,
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
    /// The last one of each reason, the latest at the end.
    last: Mutex<Vec<Refusal>>,
}

/// An event that was not forwarded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reject: Reject,
    /// The account, as far as it is known.
    pub did: Option<AccountName>,
    /// Its upstream seq, where it has one.
    pub seq: Option<u64>,
    /// When it was refused, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Refusal {
    /// Of an event that could be read. An empty DID and a seq of 0 are none.
    pub fn new(reject: Reject, did: &str, seq: u64, at_ms: u64) -> Refusal {
        Refusal {
            reject,
            did: AccountName::new(did),
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
        let mut last = refusals.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|before| before.reject != refusal.reject);
        if last.len() == last.capacity() {
            last.reserve_exact(HOST_REFUSALS_STEP);
        }
        last.push(refusal);
    }

    /// Takes the rate over the `seconds` since the last time; only one thread does.
    fn measure(&self, seconds: f64) {
        let received = self.received.get();
        let came = received.saturating_sub(self.measured.get());
        self.measured.set(received);
        if seconds > 0.0 {
            self.rate_milli
                .set((came as f64 * 1_000.0 / seconds) as u64);
        }
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
        self.last_refusals().pop()
    }

    /// The last one of each reason that there was, the latest at the end.
    pub fn last_refusals(&self) -> Vec<Refusal> {
        let last = self.refusals.get().map(|refusals| &refusals.last);
        let last = last.map(|last| last.lock().unwrap_or_else(PoisonError::into_inner).clone());
        last.unwrap_or_default()
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
        assert_eq!(refusal.did.unwrap().text(), "did:web:a.b");
    }

    #[test]
    fn the_last_refusal_of_each_reason_is_kept() {
        let tally = Tally::default();
        let refuse = |reject, seq| tally.refuse(Refusal::new(reject, "did:web:a.b", seq, seq));
        for seq in 1..1_000 {
            refuse(Reject::ALL[seq as usize % Reject::ALL.len()], seq);
        }
        refuse(Reject::WrongHost, 1_000);
        let last = tally.last_refusals();
        assert_eq!(last.len(), Reject::ALL.len());
        assert_eq!(tally.last_refusal(), last.last().cloned());
        assert_eq!(last.last().unwrap().seq, Some(1_000));
        assert!(last.windows(2).all(|two| two[0].seq < two[1].seq));
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let tallies = HostTallies::default();
        let tally = tallies.of(HostId(1));
        tally.received.add(25);
        tallies.measure(10.0);
        assert_eq!(tally.rate_milli.get(), 2_500);
        tallies.measure(10.0);
        assert_eq!(tally.rate_milli.get(), 0);
        tally.received.add(1);
        tallies.measure(0.0);
        assert_eq!(tally.rate_milli.get(), 0, "no time has passed");
    }

    #[test]
    fn what_a_stranger_calls_an_account_takes_little_room() {
        assert!(size_of::<Refusal>() <= 64, "{}", size_of::<Refusal>());
        assert!(size_of::<Tally>() <= 160, "{}", size_of::<Tally>());
        let refusals = size_of::<Refusals>();
        assert!(refusals <= 512, "{refusals}");
    }
}
