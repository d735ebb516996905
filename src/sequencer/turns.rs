//! Whose turn it is at the sequencer. What is in its inbox came through one channel; here it waits in a queue for
//! each host, and hosts take turns: who says much, or something large, keeps nobody waiting but itself. What of one
//! host there is stays in order. What was decided, by the operator or of a stream, comes before what hosts say: a
//! decision may overtake what it is about.

use std::collections::{HashMap, VecDeque, hash_map::Entry};

use super::event::{Input, Turn};
use crate::{limits::TURN_BYTES, store::account::HostId};

/// Room for queues of hosts that is kept when they are empty.
const SPARE_MAX: usize = 64;

/// What was received and not dealt with.
#[derive(Default, Debug)]
pub(super) struct Turns {
    decisions: VecDeque<Input>,
    /// None of them is empty. Without a host: what nobody in particular has said.
    queues: HashMap<Option<HostId>, Queue>,
    /// Whose turn comes when.
    order: VecDeque<Option<HostId>>,
    spare: Vec<VecDeque<Input>>,
    /// The host of which something large is dealt with, little by little: what else it says waits, and what is large
    /// of others.
    away: Option<HostId>,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Input>,
    /// Turns that were passed over for what is to come next, which is large.
    passed: usize,
}

impl Turns {
    /// One more message, which comes after all others of its host.
    pub(super) fn push(&mut self, input: Input) {
        match input.turn() {
            Turn::Decision => self.decisions.push_back(input),
            Turn::Host(host) => self.queue(Some(host)).push_back(input),
            Turn::Other => self.queue(None).push_back(input),
        }
    }

    /// A message that was taken and not dealt with: it is the next one of its host.
    pub(super) fn put_back(&mut self, input: Input) {
        match input.turn() {
            Turn::Decision => self.decisions.push_front(input),
            Turn::Host(host) => self.queue(Some(host)).push_front(input),
            Turn::Other => self.queue(None).push_front(input),
        }
    }

    /// A decision that can not be carried out now: it waits as what hosts say does.
    pub(super) fn put_off(&mut self, decision: Input) {
        self.queue(None).push_back(decision);
    }

    fn queue(&mut self, whose: Option<HostId>) -> &mut VecDeque<Input> {
        let queue = match self.queues.entry(whose) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if whose.is_none() || whose != self.away {
                    self.order.push_back(whose);
                }
                let waiting = self.spare.pop().unwrap_or_default();
                entry.insert(Queue { waiting, passed: 0 })
            }
        };
        &mut queue.waiting
    }

    /// Something large of this host was taken, and is dealt with little by little.
    pub(super) fn leave(&mut self, host: HostId) {
        self.away = Some(host);
        self.order.retain(|whose| *whose != Some(host));
    }

    /// It is dealt with.
    pub(super) fn come_back(&mut self) {
        let host = self.away.take();
        if host.is_some() && self.queues.contains_key(&host) {
            self.order.push_back(host);
        }
    }

    /// The next decision.
    pub(super) fn decision(&mut self) -> Option<Input> {
        self.decisions.pop_front()
    }

    /// The next message, if it has no more than so many bytes.
    pub(super) fn next(&mut self, bytes_max: usize) -> Option<Input> {
        if let Some(decision) = self.decision() {
            return Some(decision);
        }
        // Queues in a row whose next message is to wait.
        let mut waiting = 0;
        while waiting < self.order.len() {
            let whose = *self.order.front()?;
            let Entry::Occupied(mut entry) = self.queues.entry(whose) else {
                self.order.pop_front();
                continue;
            };
            let queue = entry.get_mut();
            let first = queue.waiting.front();
            if self.away.is_some() && first.is_some_and(Input::is_large) {
                waiting += 1;
                self.order.rotate_left(1);
                continue;
            }
            waiting = 0;
            let bytes = first.map_or(0, Input::bytes);
            if queue.passed < bytes / TURN_BYTES {
                queue.passed += 1;
                self.order.rotate_left(1);
                continue;
            }
            if bytes > bytes_max {
                return None;
            }
            queue.passed = 0;
            let next = queue.waiting.pop_front();
            if !queue.waiting.is_empty() {
                self.order.rotate_left(1);
            } else {
                self.order.pop_front();
                let Queue { waiting, .. } = entry.remove();
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(waiting);
                }
            }
            return next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        atproto::did::Did,
        limits::LARGE_EVENT_BYTES,
        sequencer::event::{Event, Kind, Upstream},
    };

    fn event(host: u32, seq: u64, bytes: usize) -> Input {
        Input::Event(Box::new(Event {
            host: HostId(host),
            upstream: Upstream {
                epoch: 0,
                seq,
                cursor: seq,
            },
            did: Did::parse("did:web:a.test").unwrap(),
            authority_at: None,
            kind: Kind::Identity,
            happened_ms: None,
            frame: vec![0; bytes].into(),
            seq_at: 0..0,
            stored: None,
        }))
    }

    fn progress(host: u32, cursor: u64) -> Input {
        Input::Progress {
            host: HostId(host),
            epoch: 0,
            cursor,
        }
    }

    fn ban(host: u32) -> Input {
        Input::Ban {
            host: HostId(host),
            banned: true,
        }
    }

    /// Of whom a message is, and its place there.
    fn place(input: &Input) -> (u32, u64) {
        match input {
            Input::Event(event) => (event.host.0, event.upstream.seq),
            Input::Progress { host, cursor, .. } => (host.0, *cursor),
            Input::Ban { host, .. } => (host.0, 0),
            other => panic!("{other:?}"),
        }
    }

    fn all(turns: &mut Turns) -> Vec<(u32, u64)> {
        let next = std::iter::from_fn(|| turns.next(usize::MAX));
        next.map(|input| place(&input)).collect()
    }

    #[test]
    fn hosts_take_turns_and_each_stays_in_order() {
        let mut turns = Turns::default();
        for seq in 1..=3 {
            turns.push(event(1, seq, 100));
        }
        turns.push(event(2, 1, 100));
        turns.push(progress(2, 2));
        turns.push(event(3, 1, 100));
        let order = [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3)];
        assert_eq!(all(&mut turns), order);
    }

    #[test]
    fn a_decision_comes_before_what_hosts_say() {
        let mut turns = Turns::default();
        turns.push(event(1, 1, 100));
        turns.push(ban(8));
        turns.push(ban(9));
        assert_eq!(turns.decision().map(|ban| place(&ban)), Some((8, 0)));
        turns.put_off(ban(8));
        assert_eq!(all(&mut turns), [(9, 0), (1, 1), (8, 0)]);
    }

    #[test]
    fn what_is_large_lets_others_come_first_and_comes() {
        let mut turns = Turns::default();
        turns.push(event(1, 1, 10 * TURN_BYTES));
        turns.push(event(1, 2, 100));
        for seq in 1..=20 {
            turns.push(event(2, seq, 100));
        }
        let order = all(&mut turns);
        let at = |of| order.iter().position(|place| *place == of).unwrap();
        assert_eq!(at((1, 1)), 10, "{order:?}");
        assert_eq!(at((1, 2)), 12, "its next one is small");
        assert_eq!(order.len(), 22);
        // With nobody to come first it comes at once.
        turns.push(event(1, 3, 300 * TURN_BYTES));
        assert_eq!(all(&mut turns), [(1, 3)]);
    }

    #[test]
    fn what_does_not_fit_is_the_next_one() {
        let mut turns = Turns::default();
        turns.push(event(1, 1, 2 * TURN_BYTES));
        turns.push(event(2, 1, 10));
        let mut within = |bytes| turns.next(bytes).map(|input| place(&input));
        assert_eq!(within(TURN_BYTES), Some((2, 1)));
        assert_eq!(within(TURN_BYTES), None);
        assert_eq!(within(3 * TURN_BYTES), Some((1, 1)));
        assert_eq!(within(usize::MAX), None);
    }

    #[test]
    fn what_is_put_back_is_the_next_of_its_host() {
        let mut turns = Turns::default();
        turns.push(event(1, 1, 10));
        turns.push(event(1, 2, 10));
        let first = turns.next(usize::MAX).unwrap();
        turns.put_back(first);
        assert_eq!(all(&mut turns), [(1, 1), (1, 2)]);
        // Also where nothing else of it is left, and where it was a decision.
        turns.put_back(event(1, 3, 10));
        turns.put_back(ban(1));
        assert_eq!(all(&mut turns), [(1, 0), (1, 3)]);
    }

    #[test]
    fn while_something_large_is_away_its_host_waits_and_what_is_large_of_others() {
        let mut turns = Turns::default();
        let large = LARGE_EVENT_BYTES + 1;
        for host in 1..=3 {
            turns.push(event(host, 1, large));
            turns.push(event(host, 2, 100));
        }
        turns.push(event(4, 1, 100));
        assert_eq!(
            turns.next(usize::MAX).map(|input| place(&input)),
            Some((4, 1))
        );
        assert_eq!(
            turns.next(usize::MAX).map(|input| place(&input)),
            Some((1, 1))
        );
        turns.leave(HostId(1));
        assert_eq!(all(&mut turns), []);
        turns.push(event(1, 3, 100));
        turns.push(event(5, 1, 100));
        turns.push(ban(9));
        assert_eq!(all(&mut turns), [(9, 0), (5, 1)]);
        turns.come_back();
        let order = all(&mut turns);
        assert_eq!(order.len(), 6, "{order:?}");
        // Also where nothing of it waited when it left, and where nothing does when it comes back.
        turns.push(event(1, 4, large));
        assert_eq!(all(&mut turns), [(1, 4)]);
        turns.leave(HostId(1));
        turns.push(event(1, 5, 100));
        assert_eq!(all(&mut turns), []);
        turns.come_back();
        assert_eq!(all(&mut turns), [(1, 5)]);
        turns.leave(HostId(1));
        turns.come_back();
        assert!(turns.order.is_empty() && turns.queues.is_empty());
    }

    proptest! {
        #[test]
        fn everything_comes_once_and_in_the_order_of_its_host(
            steps in proptest::collection::vec((
                0u32..4,
                prop_oneof![9 => 1usize..4 * TURN_BYTES, 1 => Just(LARGE_EVENT_BYTES + 1)],
                0u8..4,
            ), 0..200),
        ) {
            let mut turns = Turns::default();
            let (mut sent, mut taken) = (HashMap::new(), HashMap::new());
            let mut take = |input: Option<Input>| {
                let Some(input) = input else { return };
                let (host, seq) = place(&input);
                let last = taken.insert(host, seq).unwrap_or(0);
                assert_eq!(seq, last + 1);
            };
            let mut away = None;
            for (host, bytes, act) in steps {
                let seq = sent.entry(host).or_insert(0u64);
                *seq += 1;
                turns.push(event(host, *seq, bytes));
                match act {
                    0 => {
                        if let Some(input) = turns.next(usize::MAX) {
                            let is_large = input.is_large();
                            let (host, _) = place(&input);
                            prop_assert!(away != Some(host) && (away.is_none() || !is_large));
                            take(Some(input));
                            if is_large {
                                turns.leave(HostId(host));
                                away = Some(host);
                            }
                        }
                    }
                    1 => {
                        turns.come_back();
                        away = None;
                    }
                    _ => take(turns.next(2 * TURN_BYTES)),
                }
            }
            turns.come_back();
            while let Some(input) = turns.next(usize::MAX) {
                take(Some(input));
            }
            prop_assert_eq!(sent, taken);
            prop_assert!(turns.order.is_empty() && turns.queues.is_empty());
        }
    }
}
