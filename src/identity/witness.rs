//! Whether the directory can be believed when it says that there is no such account, or serves
//! something that is no document.
//!
//! A directory whose data is gone, or in front of which a proxy answers with a page of its own, says
//! that of everybody. So it is asked for somebody else at once, whom it knew a moment ago, or who was
//! proven here: a witness. Only if it still knows one of them it is believed. Else its answers count
//! as none, and so do those from before it knew a witness again.

use std::{collections::VecDeque, time::Instant};

use crate::{atproto::did::Did, limits};

/// Accounts that the directory knew lately, each once.
#[derive(Default, Debug)]
pub(super) struct Witnesses(VecDeque<Did>);

impl Witnesses {
    /// The directory knows this account.
    pub(super) fn add(&mut self, did: &Did) {
        if self.0.contains(did) {
            return;
        }
        self.0.truncate(limits::IDENTITY_WITNESSES - 1);
        self.0.push_front(did.clone());
    }

    /// The directory does not know this account any more, and is believed.
    pub(super) fn remove(&mut self, did: &Did) {
        self.0.retain(|known| known != did);
    }

    /// Who can say something about the directory's word on `did`, the latest first.
    pub(super) fn besides(&self, did: &Did) -> Vec<Did> {
        self.0
            .iter()
            .filter(|known| *known != did)
            .cloned()
            .collect()
    }
}

/// What is thought of the directory.
#[derive(Default, Debug)]
pub(super) struct Honesty {
    /// When a witness was last asked for, and whether the directory knew one.
    asked: Option<(Instant, bool)>,
    /// What came before this is not believed: the directory has failed a witness, and knows one
    /// again since then.
    from: Option<Instant>,
}

impl Honesty {
    /// Whether an answer that came at `came` is to be believed; nothing where a witness has to be
    /// asked for first.
    pub(super) fn judge(&self, came: Instant) -> Option<bool> {
        let (_, good) = self.asked.filter(|(asked, _)| *asked >= came)?;
        Some(good && self.from.is_none_or(|from| came >= from))
    }

    /// A witness was asked for at `asked`.
    pub(super) fn note(&mut self, asked: Instant, good: bool) {
        let failed_before = self.asked.is_some_and(|(_, good)| !good);
        if good && failed_before {
            self.from = Some(asked);
        }
        self.asked = Some((asked, good));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::testing::web;

    #[test]
    fn witnesses_are_few_and_no_account_is_its_own() {
        let mut witnesses = Witnesses::default();
        assert!(witnesses.besides(&web(0)).is_empty());
        for n in [0, 0, 1, 1, 0] {
            witnesses.add(&web(n));
        }
        assert_eq!(witnesses.besides(&web(9)), [web(1), web(0)]);
        assert_eq!(witnesses.besides(&web(1)), [web(0)]);
        witnesses.remove(&web(0));
        assert!(witnesses.besides(&web(1)).is_empty());
        for n in 2..100 {
            witnesses.add(&web(n));
        }
        let kept = witnesses.besides(&web(9));
        assert_eq!(kept.len(), limits::IDENTITY_WITNESSES);
        assert_eq!(kept[0], web(99));
    }

    #[test]
    fn an_answer_is_believed_by_a_witness_asked_for_after_it() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut honesty = Honesty::default();
        assert_eq!(honesty.judge(at(1)), None);
        honesty.note(at(2), true);
        assert_eq!(honesty.judge(at(1)), Some(true));
        assert_eq!(honesty.judge(at(2)), Some(true));
        assert_eq!(honesty.judge(at(3)), None);
        honesty.note(at(4), false);
        for came in [1, 3, 4] {
            assert_eq!(honesty.judge(at(came)), Some(false));
        }
        assert_eq!(honesty.judge(at(5)), None);
    }

    #[test]
    fn what_came_before_the_directory_was_good_again_is_not_believed() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut honesty = Honesty::default();
        honesty.note(at(2), false);
        honesty.note(at(4), true);
        // The lie may have ended between this answer and the witness.
        assert_eq!(honesty.judge(at(3)), Some(false));
        assert_eq!(honesty.judge(at(5)), None);
        honesty.note(at(6), true);
        assert_eq!(honesty.judge(at(5)), Some(true));
        assert_eq!(honesty.judge(at(3)), Some(false));
    }
}
