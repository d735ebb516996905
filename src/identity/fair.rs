//! Taking turns at the resolver threads.

use std::collections::{HashMap, VecDeque};

use crate::atproto::{did::Did, hostname::Hostname};

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
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds `did` behind what `asker` asked for before.
    pub(super) fn push(&mut self, asker: Asker, did: Did) {
        let queue = self.queues.entry(asker.clone()).or_default();
        if queue.is_empty() {
            self.turns.push_back(asker);
        }
        queue.push_back(did);
    }

    /// Takes the oldest of the asker whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Did> {
        let asker = self.turns.pop_front()?;
        let queue = self.queues.get_mut(&asker)?;
        let did = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&asker);
        } else {
            self.turns.push_back(asker);
        }
        did
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_asker_has_its_turn() {
        let did = |n: u32| Did::parse(&format!("did:web:n{n}.test")).unwrap();
        let host = |name: &str| Some(Hostname::parse(name).unwrap());
        let mut queue = FairQueue::default();
        assert!(queue.is_empty());
        for n in 0..3 {
            queue.push(host("big.test"), did(n));
        }
        queue.push(host("small.test"), did(3));
        queue.push(None, did(4));
        let order: Vec<Did> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [0, 3, 4, 1, 2].map(did));
        assert!(queue.is_empty() && queue.queues.is_empty());
    }
}
