//! The threads for lookups of one method, and who is next at them.

use crate::{
    atproto::did::{Did, Method},
    identity::fair::{Asker, FairQueue},
};

/// The lookups of one method, and the threads for them.
#[derive(Debug)]
pub(super) struct Pool {
    /// Those that did not fail yet.
    first: FairQueue,
    /// Those that did.
    again: FairQueue,
    /// Under way, of both kinds.
    running: usize,
    /// Of them, those that failed before.
    running_again: usize,
    threads: usize,
    again_is_next: bool,
}

impl Pool {
    pub(super) fn new(threads: usize) -> Pool {
        Pool {
            first: FairQueue::default(),
            again: FairQueue::default(),
            running: 0,
            running_again: 0,
            threads,
            again_is_next: false,
        }
    }

    pub(super) fn queue(&mut self, again: bool) -> &mut FairQueue {
        if again {
            &mut self.again
        } else {
            &mut self.first
        }
    }

    pub(super) fn queues(&self) -> [&FairQueue; 2] {
        [&self.first, &self.again]
    }

    /// Takes the next one; one that failed before and one that did not have turns.
    pub(super) fn pop(
        &mut self,
        may: impl Fn(&Asker) -> bool,
        free: impl Fn(&Did) -> bool,
    ) -> Option<(Asker, Did)> {
        if self.running >= self.threads {
            return None;
        }
        let again_may = self.running_again < (self.threads / 2).max(1);
        let turns = [self.again_is_next, !self.again_is_next];
        let (again, taken) = turns
            .into_iter()
            .filter(|again| again_may || !again)
            .find_map(|again| Some((again, self.queue(again).pop(&may, &free)?)))?;
        self.again_is_next = !again;
        self.running += 1;
        self.running_again += usize::from(again);
        Some(taken)
    }

    pub(super) fn release(&mut self, again: bool) {
        self.running = self.running.saturating_sub(1);
        self.running_again = self.running_again.saturating_sub(usize::from(again));
    }
}

/// Who is asked for the document of a `did:web`, and for those of all its neighbours: the last two
/// parts of the name. There is no list here of the domains below which strangers have names, so a few
/// of those take turns.
pub(super) fn site(did: &Did) -> Option<String> {
    let Method::Web(host) = did.method() else {
        return None;
    };
    let host = host.to_ascii_lowercase();
    let mut parts = host.rsplitn(3, '.');
    Some(match (parts.next(), parts.next()) {
        (Some(last), Some(before)) => format!("{before}.{last}"),
        _ => host,
    })
}
