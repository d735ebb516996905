//! What is in the stream and not shown any more: everything of an account that the operator has taken
//! down which was published before the takedown.
//!
//! Nothing is rewritten: a subscriber's page is covered when it is taken. In the place of each such
//! frame stands an `#account` with the same seq, which says that the account is taken down, with the
//! time of the takedown: a seq that is missing would be a loss to a client. When the takedown ends, the
//! frames are shown again as they were.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Frame, frame};
use crate::{
    atproto::did::Did,
    store::{
        Takedown,
        account::{Local, Sanction, Status},
    },
};

/// Which frames are hidden. One writer, many readers, who take what holds at one moment.
#[derive(Default, Debug)]
pub(super) struct Hidden {
    accounts: RwLock<Arc<HashMap<Did, Takedown>>>,
    /// Nothing is hidden at this seq and above; 0: nothing at all is. A page that begins there, as
    /// every page of the live stream does, costs no more than this number.
    below: AtomicU64,
}

impl Hidden {
    /// What these takedowns hide.
    pub(super) fn new(takedowns: Vec<(Did, Takedown)>) -> Hidden {
        let hidden = Hidden::default();
        hidden.set(takedowns.into_iter().collect());
        hidden
    }

    /// Accounts are taken down, or not any more. Who takes a page from now on heeds it. Takedowns that
    /// hide nothing from `oldest` on, which is the first seq that anybody may still be sent, are
    /// forgotten.
    pub(super) fn rule(&self, rulings: Vec<(Did, Option<Takedown>)>, oldest: u64) {
        let mut accounts = HashMap::clone(&self.now());
        for (did, takedown) in rulings {
            match takedown {
                Some(takedown) => accounts.insert(did, takedown),
                None => accounts.remove(&did),
            };
        }
        accounts.retain(|_, takedown| takedown.seq > oldest);
        self.set(accounts);
    }

    /// Covers what is hidden of a page.
    pub(super) fn cover(&self, page: &mut VecDeque<Frame>) {
        let below = self.below.load(Ordering::Acquire);
        if page.front().is_none_or(|frame| frame.seq.get() >= below) {
            return;
        }
        let accounts = self.now();
        for frame in page.iter_mut().take_while(|frame| frame.seq.get() < below) {
            let hidden = frame::account_of(&frame.bytes)
                .and_then(|did| accounts.get_key_value(did))
                .filter(|(_, takedown)| frame.seq.get() < takedown.seq);
            if let Some((did, takedown)) = hidden {
                frame.bytes = frame::account(frame.seq, did, takedown.at_ms, taken_down());
            }
        }
    }

    fn now(&self) -> Arc<HashMap<Did, Takedown>> {
        let accounts = self.accounts.read();
        Arc::clone(&accounts.unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, accounts: HashMap<Did, Takedown>) {
        let below = accounts.values().map(|takedown| takedown.seq).max();
        let mut current = self
            .accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(accounts);
        // Under the lock: who sees the new bound finds what it is about.
        self.below.store(below.unwrap_or(0), Ordering::Release);
    }
}

/// What subscribers are told in the place of what is hidden.
fn taken_down() -> &'static Status {
    let local = Local {
        sanction: Some(Sanction::Takedown),
        throttled: false,
    };
    local.status().unwrap_or(&Status::ACTIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atproto::seq::Seq;

    fn did(name: &str) -> Did {
        Did::parse(&format!("did:web:{name}.test")).unwrap()
    }

    fn frame(seq: u64, name: &str) -> Frame {
        let seq = Seq::new(seq).unwrap();
        let bytes = frame::account(seq, &did(name), 5, &Status::ACTIVE);
        Frame { seq, bytes }
    }

    fn at(seq: u64) -> Option<Takedown> {
        Some(Takedown { seq, at_ms: 9 })
    }

    /// The seqs of a page from 1 to 10, of a and b in turn, that are covered.
    fn covered(hidden: &Hidden) -> Vec<u64> {
        let name = |seq| if seq % 2 == 1 { "a" } else { "b" };
        let page: VecDeque<Frame> = (1..=10).map(|seq| frame(seq, name(seq))).collect();
        let mut shown = page.clone();
        hidden.cover(&mut shown);
        let mut covered = Vec::new();
        for (frame, shown) in page.iter().zip(&shown) {
            let seq = frame.seq;
            if frame.bytes != shown.bytes {
                let own = did(name(seq.get()));
                assert_eq!(shown.bytes, frame::account(seq, &own, 9, taken_down()));
                covered.push(seq.get());
            }
            assert_eq!(seq, shown.seq);
        }
        covered
    }

    #[test]
    fn each_account_is_hidden_below_its_own_takedown() {
        assert_eq!(taken_down(), &Status::inactive("takendown"));
        let hidden = Hidden::new(vec![(did("b"), Takedown { seq: 5, at_ms: 9 })]);
        assert_eq!(covered(&hidden), [2, 4]);
        hidden.rule(vec![(did("a"), at(7)), (did("c"), at(100))], 0);
        assert_eq!(covered(&hidden), [1, 2, 3, 4, 5]);
        // The last word of one batch counts.
        hidden.rule(
            vec![(did("a"), None), (did("b"), at(9)), (did("b"), at(3))],
            0,
        );
        assert_eq!(covered(&hidden), [2]);
        hidden.rule(vec![(did("a"), at(2)), (did("a"), None)], 0);
        assert_eq!(covered(&hidden), [2]);
        hidden.rule(vec![(did("b"), None), (did("c"), None)], 0);
        assert_eq!(covered(&hidden), [0u64; 0]);
        assert_eq!(hidden.below.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_hides_nothing_any_more_is_forgotten() {
        let hidden = Hidden::default();
        hidden.rule(vec![(did("a"), at(6)), (did("b"), at(7))], 6);
        assert_eq!(covered(&hidden), [2, 4, 6]);
        assert_eq!(hidden.now().len(), 1);
        hidden.rule(Vec::new(), 7);
        assert_eq!((hidden.now().len(), covered(&hidden).len()), (0, 0));
    }

    #[test]
    fn a_page_above_every_takedown_is_not_looked_at() {
        let hidden = Hidden::new(vec![(did("a"), Takedown { seq: 5, at_ms: 9 })]);
        let page: VecDeque<Frame> = (5..=6).map(|seq| frame(seq, "a")).collect();
        // Nobody can have the accounts while they are being written.
        let _writing = hidden.accounts.write().unwrap();
        let mut shown = page.clone();
        hidden.cover(&mut shown);
        hidden.cover(&mut VecDeque::new());
        assert_eq!(shown[0].bytes, page[0].bytes);
    }
}
