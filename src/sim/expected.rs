//! What a correct relay must emit, account by account, and how what it emits compares.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    clock,
    event::{Digest, Event, Kind},
};
use crate::reject::Reject;

/// Events of an account remembered after they came, to tell a duplicate from a surprise.
const RECENT_MAX: usize = 16;
/// Problems of one sort that are kept in words.
const SAMPLES_MAX: usize = 5;

#[derive(Clone, Copy, Debug)]
struct Awaited {
    digest: Digest,
    /// The same event without its handle, where the relay may leave that out.
    without_handle: Option<Digest>,
    kind: Kind,
    sent: u64,
    /// Its delay is told apart from that of others.
    apart: bool,
}

#[derive(Default, Debug)]
struct Account {
    waiting: VecDeque<Awaited>,
    /// Events that were overtaken by a later one.
    overtaken: Vec<Awaited>,
    recent: VecDeque<Digest>,
    /// Events that are rejected when they are first read, and may pass when they are read again.
    tolerated: Vec<Digest>,
    /// Nothing of it is compared.
    disregarded: bool,
}

/// How an event of the relay's compares with what was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observation {
    /// The next event of its account, so many microseconds after it was sent.
    Expected(u64),
    /// The same, of one whose delay is told apart.
    Apart(u64),
    /// An event that came before.
    Duplicate,
    /// An event that a later one of its account has overtaken.
    OutOfOrder,
    /// An event that need not be forwarded, and may be.
    Tolerated,
    /// An event of an account of which nothing is compared.
    Disregarded,
    /// An event that was never to be forwarded.
    Unexpected,
}

/// The differences so far.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Differences {
    /// Events that have not come, though later ones of their accounts have; or, at the end, at all.
    pub missing: u64,
    /// Events that came more than once.
    pub duplicates: u64,
    /// Events that came after a later one.
    pub out_of_order: u64,
    /// Events that were not to come.
    pub unexpected: u64,
    /// Jumps of the relay's sequence numbers.
    pub gaps: u64,
    /// Frames that are not frames, errors, and the like.
    pub other: u64,
    /// Some of them in words.
    pub samples: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    pub fn none(&self) -> bool {
        let counts = [
            self.missing,
            self.duplicates,
            self.out_of_order,
            self.unexpected,
            self.gaps,
            self.other,
        ];
        counts.iter().all(|count| *count == 0)
    }
}

#[derive(Default, Debug)]
struct State {
    accounts: HashMap<Arc<str>, Account>,
    outstanding: u64,
    expected: u64,
    matched: u64,
    injected: BTreeMap<&'static str, u64>,
    differences: Differences,
    handles_optional: bool,
    handles_left_out: u64,
    /// An `#identity` that nobody sent as expected is no difference.
    any_identity: bool,
    /// Nobody compares.
    ignored: bool,
}

/// The expectation, shared by those who send and the one who compares.
#[derive(Default, Debug)]
pub struct Expected(Mutex<State>);

impl Expected {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay must forward `event`, after everything of the same account before it. To be said
    /// before the event is sent.
    pub fn expect(&self, event: &Event) {
        self.expect_with(event, false);
    }

    /// The same; its delay is told apart from that of others.
    pub fn expect_apart(&self, event: &Event) {
        self.expect_with(event, true);
    }

    fn expect_with(&self, event: &Event, apart: bool) {
        let mut state = self.state();
        if state.ignored {
            return;
        }
        state.outstanding += 1;
        state.expected += 1;
        let without_handle = if state.handles_optional {
            event.without_handle().map(|event| event.digest())
        } else {
            None
        };
        let account = state.accounts.entry(event.did.clone()).or_default();
        account.waiting.push_back(Awaited {
            digest: event.digest(),
            without_handle,
            kind: event.kind,
            sent: clock::micros(),
            apart,
        });
    }

    /// From now on nothing of `did` is compared: an account of a host that is up to no good, whose
    /// valid events may come or not.
    pub fn disregard(&self, did: &Arc<str>) {
        let mut state = self.state();
        state.accounts.entry(did.clone()).or_default().disregarded = true;
    }

    /// From now on an `#identity` of any account may come that its own host has not sent: any host
    /// may say that there is news of an account.
    pub fn allow_any_identity(&self) {
        self.state().any_identity = true;
    }

    /// From now on nothing is kept of what is expected, because nobody compares.
    pub fn ignore(&self) {
        self.state().ignored = true;
    }

    /// From now on the relay may leave the handles of `#identity` out: it can not confirm them
    /// while the directory fails.
    pub fn set_handles_optional(&self) {
        self.state().handles_optional = true;
    }

    /// How many handles the relay has left out.
    pub fn handles_left_out(&self) -> u64 {
        self.state().handles_left_out
    }

    /// The relay must reject something for this reason.
    pub fn expect_reject(&self, reject: Reject) {
        *self.state().injected.entry(reject.name()).or_default() += 1;
    }

    /// The relay must reject `event` now, but may forward it when it reads it once more, later: an
    /// event of an account that is inactive, and then active again.
    pub fn tolerate(&self, event: &Event) {
        let mut state = self.state();
        let account = state.accounts.entry(event.did.clone()).or_default();
        account.tolerated.push(event.digest());
        if account.tolerated.len() > RECENT_MAX {
            account.tolerated.remove(0);
        }
    }

    /// Whether everything of `did` has come.
    pub fn is_settled(&self, did: &str) -> bool {
        let state = self.state();
        let waiting = state.accounts.get(did).map(|account| &account.waiting);
        waiting.is_none_or(VecDeque::is_empty)
    }

    /// Events that have not come yet.
    pub fn outstanding(&self) -> u64 {
        self.state().outstanding
    }

    /// Events to come in total, and how many of them have.
    pub fn progress(&self) -> (u64, u64) {
        let state = self.state();
        (state.expected, state.matched)
    }

    /// Injected invalid events by the name of the reason for which they must be rejected.
    pub fn rejects(&self) -> BTreeMap<&'static str, u64> {
        self.state().injected.clone()
    }

    /// Compares an event of the relay's.
    pub fn observe(&self, did: &str, digest: Digest, t: &str) -> Observation {
        let mut state = self.state();
        let state = &mut *state;
        let differences = &mut state.differences;
        let note = |differences: &mut Differences, count: u64, what: &str| {
            if count <= SAMPLES_MAX as u64 {
                let text = format!("{what}: {t} {did} {digest:?}");
                differences.samples.push(text);
            }
        };
        let Some(account) = state.accounts.get_mut(did) else {
            differences.unexpected += 1;
            note(differences, differences.unexpected, "unexpected");
            return Observation::Unexpected;
        };
        if account.disregarded {
            return Observation::Disregarded;
        }
        let is_it = |a: &Awaited| a.digest == digest || a.without_handle == Some(digest);
        if let Some(at) = account.waiting.iter().position(is_it) {
            state.handles_left_out += u64::from(account.waiting[at].digest != digest);
            for skipped in account.waiting.drain(..at) {
                differences.missing += 1;
                let what = format!(
                    "missing {} {:?} before",
                    skipped.kind.name(),
                    skipped.digest
                );
                note(differences, differences.missing, &what);
                account.overtaken.push(skipped);
            }
            state.outstanding -= at as u64 + 1;
            state.matched += 1;
            let (sent, apart) = account
                .waiting
                .pop_front()
                .map_or((0, false), |awaited| (awaited.sent, awaited.apart));
            account.recent.push_back(digest);
            if account.recent.len() > RECENT_MAX {
                account.recent.pop_front();
            }
            let delay = clock::micros().saturating_sub(sent);
            return if apart {
                Observation::Apart(delay)
            } else {
                Observation::Expected(delay)
            };
        }
        if let Some(at) = account.overtaken.iter().position(is_it) {
            account.overtaken.remove(at);
            differences.missing -= 1;
            differences.out_of_order += 1;
            state.matched += 1;
            note(differences, differences.out_of_order, "out of order");
            return Observation::OutOfOrder;
        }
        if account.recent.contains(&digest) {
            differences.duplicates += 1;
            note(differences, differences.duplicates, "duplicate");
            return Observation::Duplicate;
        }
        if account.tolerated.contains(&digest) {
            account.tolerated.retain(|tolerated| *tolerated != digest);
            return Observation::Tolerated;
        }
        if state.any_identity && t == Kind::Identity.name() {
            return Observation::Tolerated;
        }
        differences.unexpected += 1;
        note(differences, differences.unexpected, "unexpected");
        Observation::Unexpected
    }

    /// Notes a jump of the relay's sequence numbers.
    pub(crate) fn note_gap(&self, what: String) {
        let differences = &mut self.state().differences;
        differences.gaps += 1;
        if differences.gaps <= SAMPLES_MAX as u64 {
            differences.samples.push(what);
        }
    }

    /// Notes something else that must not be.
    pub(crate) fn note_other(&self, what: String) {
        let differences = &mut self.state().differences;
        differences.other += 1;
        if differences.other <= SAMPLES_MAX as u64 {
            differences.samples.push(what);
        }
    }

    /// The differences so far, without what may still come.
    pub fn differences(&self) -> Differences {
        self.state().differences.clone()
    }

    /// The differences when nothing more is to come: what has not come is missing.
    pub fn verdict(&self) -> Differences {
        let state = self.state();
        let mut differences = state.differences.clone();
        differences.missing += state.outstanding;
        for (did, account) in &state.accounts {
            for awaited in &account.waiting {
                if differences.samples.len() >= 8 * SAMPLES_MAX {
                    return differences;
                }
                let age = clock::micros().saturating_sub(awaited.sent) / 1000;
                let kind = awaited.kind.name();
                let text = format!(
                    "missing: {kind} {did} {:?} sent {age} ms ago",
                    awaited.digest
                );
                differences.samples.push(text);
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::event;

    fn events() -> (Expected, Vec<Event>) {
        let expected = Expected::default();
        let did: Arc<str> = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".into();
        let events: Vec<_> = (0..5)
            .map(|i| event::identity(&did, None, i * 1000))
            .collect();
        events.iter().for_each(|e| expected.expect(e));
        (expected, events)
    }

    fn observe(expected: &Expected, event: &Event) -> Observation {
        expected.observe(&event.did, event.digest(), event.kind.name())
    }

    #[test]
    fn all_in_order_is_no_difference() {
        let (expected, events) = events();
        for event in &events {
            assert!(matches!(
                observe(&expected, event),
                Observation::Expected(_)
            ));
        }
        assert!(expected.verdict().none());
        assert!(expected.is_settled(&events[0].did));
        assert_eq!(expected.progress(), (5, 5));
    }

    #[test]
    fn handles_may_be_left_out_where_that_was_said() {
        let did: Arc<str> = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".into();
        let expected = Expected::default();
        let with = event::identity(&did, Some("a.sim.test"), 5);
        let without = event::identity(&did, None, 5);
        assert_eq!(with.without_handle(), Some(without.clone()));
        assert_eq!(without.without_handle(), None);
        expected.expect(&with);
        assert_eq!(observe(&expected, &without), Observation::Unexpected);
        observe(&expected, &with);
        expected.set_handles_optional();
        expected.expect(&with);
        assert!(matches!(
            observe(&expected, &without),
            Observation::Expected(_)
        ));
        assert_eq!(expected.handles_left_out(), 1);
    }

    #[test]
    fn what_is_tolerated_may_come_once() {
        let (expected, events) = events();
        let other = event::account(&events[0].did, Some("deactivated"), 1);
        expected.tolerate(&other);
        assert_eq!(observe(&expected, &other), Observation::Tolerated);
        assert_eq!(observe(&expected, &other), Observation::Unexpected);
    }

    #[test]
    fn what_is_disregarded_is_no_difference_and_what_is_apart_is_told() {
        let (expected, events) = events();
        let hostile: Arc<str> = "did:plc:hostile".into();
        expected.disregard(&hostile);
        let other = event::account(&hostile, None, 1);
        assert_eq!(observe(&expected, &other), Observation::Disregarded);
        let first = event::identity(&"did:plc:newcomer".into(), None, 1);
        expected.expect_apart(&first);
        assert!(matches!(observe(&expected, &first), Observation::Apart(_)));
        let rumour = event::identity(&events[0].did, None, 77_000);
        assert_eq!(observe(&expected, &rumour), Observation::Unexpected);
        expected.allow_any_identity();
        assert_eq!(observe(&expected, &rumour), Observation::Tolerated);
        let word = event::account(&events[0].did, None, 77_000);
        assert_eq!(observe(&expected, &word), Observation::Unexpected);
        assert_eq!(expected.verdict().unexpected, 2);
    }

    #[test]
    fn every_difference_is_named() {
        let (expected, events) = events();
        assert_eq!(expected.verdict().missing, 5);
        observe(&expected, &events[0]);
        assert_eq!(observe(&expected, &events[0]), Observation::Duplicate);
        observe(&expected, &events[3]);
        assert_eq!(observe(&expected, &events[1]), Observation::OutOfOrder);
        let other = event::account(&events[0].did, None, 1);
        assert_eq!(observe(&expected, &other), Observation::Unexpected);
        let stranger = event::account(&"did:plc:stranger".into(), None, 1);
        assert_eq!(observe(&expected, &stranger), Observation::Unexpected);
        let verdict = expected.verdict();
        let counts = (verdict.missing, verdict.duplicates, verdict.out_of_order);
        assert_eq!((counts, verdict.unexpected), ((2, 1, 1), 2));
        assert!(!verdict.none() && !verdict.samples.is_empty());
    }
}
