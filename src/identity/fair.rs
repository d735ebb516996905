//! Taking turns at the resolver threads.

use std::collections::{HashMap, VecDeque};

use crate::{
    atproto::{did::Did, hostname::Hostname},
    limits,
};

/// On whose behalf a lookup is made: of a host's events, or of the cache, which refreshes itself.
pub(super) type Asker = Option<Hostname>;

/// A queue in which everybody who asks has the same share: one asker with ten thousand unknown
/// accounts does not make another with one account wait for them.
#[derive(Default, Debug)]
pub(super) struct FairQueue {
    queues: HashMap<Asker, VecDeque<Did>>,
    /// Askers with something in their queue, in order of their turns.
    turns: VecDeque<Asker>,
}

impl FairQueue {
    /// Adds `did` behind what `asker` asked for before.
    pub(super) fn push(&mut self, asker: Asker, did: Did) {
        let queue = self.queues.entry(asker.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(asker);
        }
        queue.push_back(did);
    }

    /// Takes the oldest of the asker whose turn it is, of those that may have one. What is not
    /// `free` is passed over for a while.
    pub(super) fn pop(
        &mut self,
        may: impl Fn(&Asker) -> bool,
        free: impl Fn(&Did) -> bool,
    ) -> Option<(Asker, Did)> {
        let (turn, at) = self.turns.iter().enumerate().find_map(|(turn, asker)| {
            let queue = self.queues.get(asker).filter(|_| may(asker))?;
            let ahead = queue.iter().take(limits::IDENTITY_LOOK_AHEAD);
            Some((turn, ahead.enumerate().find(|(_, did)| free(did))?.0))
        })?;
        let asker = self.turns.remove(turn)?;
        let queue = self.queues.get_mut(&asker)?;
        let did = queue.remove(at)?;
        if queue.is_empty() {
            self.queues.remove(&asker);
        } else {
            self.turns.push_back(asker.clone());
        }
        Some((asker, did))
    }

    /// Takes `did` out of what `asker` asked for.
    pub(super) fn remove(&mut self, asker: &Asker, did: &Did) {
        let Some(queue) = self.queues.get_mut(asker) else {
            return;
        };
        if let Some(at) = queue.iter().position(|queued| queued == did) {
            queue.remove(at);
        }
        if queue.is_empty() {
            self.queues.remove(asker);
            self.turns.retain(|other| other != asker);
        }
    }

    /// Whether something that `asker` asked for is in it.
    pub(super) fn has(&self, asker: &Asker) -> bool {
        self.queues.contains_key(asker)
    }

    /// Who waits for a turn, and with how many lookups.
    pub(super) fn askers(&self) -> impl Iterator<Item = (&Asker, usize)> {
        self.queues
            .iter()
            .map(|(asker, queue)| (asker, queue.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::{asker, web};

    fn next(queue: &mut FairQueue) -> Option<Did> {
        queue.pop(|_| true, |_| true).map(|(_, did)| did)
    }

    #[test]
    fn every_asker_has_its_turn() {
        let mut queue = FairQueue::default();
        for n in 0..3 {
            queue.push(asker("big"), web(n));
        }
        queue.push(asker("small"), web(3));
        queue.push(None, web(4));
        let order: Vec<Did> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(order, [0, 3, 4, 1, 2].map(web));
        assert!(queue.turns.is_empty() && queue.queues.is_empty());
    }

    #[test]
    fn who_may_not_have_a_turn_keeps_its_place() {
        let mut queue = FairQueue::default();
        for n in 0..2 {
            queue.push(asker("held"), web(n));
        }
        queue.push(asker("other"), web(2));
        let held = |turn: &Asker| *turn != asker("held");
        assert_eq!(queue.pop(held, |_| true), Some((asker("other"), web(2))));
        assert_eq!(queue.pop(held, |_| true), None);
        queue.push(asker("other"), web(3));
        assert_eq!(next(&mut queue), Some(web(0)));
    }

    #[test]
    fn what_is_not_free_is_passed_over_but_not_for_ever() {
        let mut queue = FairQueue::default();
        let ahead = limits::IDENTITY_LOOK_AHEAD;
        for n in 0..=ahead {
            queue.push(asker("a"), web(n));
        }
        let last = |n: usize| move |queued: &Did| *queued == web(n);
        assert_eq!(queue.pop(|_| true, last(ahead)), None);
        let passed = queue.pop(|_| true, last(ahead - 1));
        assert_eq!(passed, Some((asker("a"), web(ahead - 1))));
        assert!(queue.pop(|_| true, last(ahead)).is_some());
        assert_eq!(next(&mut queue), Some(web(0)));
    }

    #[test]
    fn what_is_taken_out_leaves_nothing_behind() {
        let mut queue = FairQueue::default();
        queue.push(asker("a"), web(1));
        queue.push(asker("b"), web(1));
        queue.remove(&asker("a"), &web(2));
        queue.remove(&asker("c"), &web(1));
        assert_eq!(queue.askers().count(), 2);
        queue.remove(&asker("a"), &web(1));
        assert_eq!(next(&mut queue), Some(web(1)));
        assert!(queue.turns.is_empty() && queue.queues.is_empty());
    }
}
