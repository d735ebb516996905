//! The operator's word on accounts.

use tempfile::TempDir;

use super::*;
use crate::store::account::{Local, Sanction};

const DOWN: Local = Local {
    sanction: Some(Sanction::Takedown),
    throttled: false,
};

impl Fixture {
    fn takedowns(&self) -> Vec<Did> {
        self.store.takedowns_after("", 10).unwrap()
    }
}

/// Rule 143: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn a_takedown_and_its_reversal_are_told_once_and_outlive_the_process() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    let post = alice.post("one");
    let commit = alice.commit(&[post]);
    f.sequence(proven(&alice, &commit, 1));
    for _ in 0..2 {
        assert_eq!(f.rule(&alice, Ruling::Takedown), Ruled::Holds);
        assert_eq!(f.told(), (2, Status::inactive("takendown")));
    }
    assert_eq!(f.takedowns(), [did(&alice)]);
    assert_eq!(f.host(HOME).accounts, 1, "its place is not free");
    f.close();

    let mut f = Fixture::open(dir.path());
    assert_eq!(f.account(&alice).local, DOWN);
    let post = alice.post("two");
    let dropped = alice.clone().commit(&[post]);
    f.sequence(proven(&alice, &dropped, 2));
    f.sequence(proven(&alice, &alice.account(), 3));
    assert_eq!(f.told(), (3, Status::inactive("takendown")));
    let mut gone = alice.clone();
    gone.status = Some("deactivated");
    f.sequence(proven(&gone, &gone.account(), 4));
    for _ in 0..2 {
        assert_eq!(f.rule(&alice, Ruling::Reversal), Ruled::Holds);
        assert_eq!(f.told(), (5, Status::inactive("deactivated")));
    }
    assert_eq!(f.takedowns(), []);
    f.sequence(proven(&alice, &alice.account(), 5));
    let post = alice.post("three");
    let commit = alice.commit(&[post]);
    f.sequence(proven(&alice, &commit, 6));
    assert_eq!(payload(&f.last()), &commit.frame(7)[..]);
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 1);
    assert_eq!(f.metrics.rejected.total(), 1);
    assert_eq!(f.metrics.discontinuous.get(), 0);
    f.close();
}

#[test]
fn what_is_told_is_a_canonical_frame_of_now() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    let before = now_ms();
    f.rule(&alice, Ruling::Takedown);
    let frame = f.last();
    let parsed = parse(payload(&frame));
    // It is what another writer makes of the same values.
    let at = (before..=now_ms()).find(|ms| {
        let same = event::account(alice.did(), Some("takendown"), ms * 1_000);
        payload(&frame) == &same.frame(2)[..]
    });
    assert!(at.is_some(), "{parsed:?}");
    f.close();
}

#[test]
fn an_account_that_was_never_seen_is_not_taken_down() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    for ruling in [Ruling::Takedown, Ruling::Reversal] {
        assert_eq!(f.rule(&alice, ruling), Ruled::Unknown);
    }
    assert_eq!(f.seqs(), [0u64; 0]);
    assert_eq!(f.takedowns(), []);
    f.close();
}

#[test]
fn a_ruling_comes_before_what_waits_of_hosts() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    f.send(proven(&alice, &alice.identity(), 1));
    assert_eq!(f.rule(&alice, Ruling::Takedown), Ruled::Unknown);
    assert_eq!(f.seqs(), [1]);
    for (said, ruling, seq, told) in [
        (2, Ruling::Takedown, 2, Status::inactive("takendown")),
        (3, Ruling::Reversal, 4, Status::ACTIVE),
    ] {
        f.send(proven(&alice, &alice.identity(), said));
        assert_eq!(f.rule(&alice, ruling), Ruled::Holds);
        // Its frame, and behind it that of the event.
        assert_eq!(f.told_at(seq), (did(&alice), told));
        assert_eq!(f.seqs().last(), Some(&(seq + 1)));
    }
    assert_eq!(f.metrics.batches.get(), 3);
    f.close();
}

/// What is hidden by it: everything before the frame that says so.
///
/// Rule 143: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn a_takedown_is_handed_on_with_its_place_and_kept() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    f.sequence(proven(&alice, &alice.account(), 2));
    let before = now_ms();
    f.rule(&alice, Ruling::Takedown);
    f.rule(&alice, Ruling::Takedown);
    let taken: Vec<_> = f.takedowns.lock().unwrap().drain(..).collect();
    let [(who, Some(takedown))] = &taken[..] else {
        panic!("{taken:?}");
    };
    assert_eq!((who, takedown.seq), (&did(&alice), 3));
    assert!((before..=now_ms()).contains(&takedown.at_ms));
    assert_eq!(f.store.hiding().unwrap(), [(did(&alice), *takedown)]);
    f.close();
    let mut f = Fixture::open(dir.path());
    assert_eq!(f.store.hiding().unwrap(), [(did(&alice), *takedown)]);
    f.rule(&alice, Ruling::Reversal);
    assert_eq!(*f.takedowns.lock().unwrap(), [(did(&alice), None)]);
    assert_eq!(f.store.hiding().unwrap(), []);
    // Once more, of everything until then.
    f.rule(&alice, Ruling::Takedown);
    assert_eq!(f.store.hiding().unwrap()[0].1.seq, 5);
    f.close();
}

/// A takedown that outlived the store: nothing is known here of the account but this.
///
/// Rule 143: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn an_account_that_was_taken_down_before_it_was_seen_is_so_from_the_start() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, mut bob) = (person(1), person(2));
    let carol = person(3);
    let seeds = [&alice, &bob, &carol].map(|person| (did(person), 77));
    f.store.seed(&[], &seeds).unwrap();
    assert!(f.store.takedown(&did(&alice)).unwrap());
    assert_eq!(f.rule(&alice, Ruling::Takedown), Ruled::Unknown);
    let post = alice.post("one");
    let dropped = alice.clone().commit(&[post]);
    f.sequence(proven(&alice, &dropped, 1));
    assert_eq!(f.seqs(), [0u64; 0]);
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 1);
    assert_eq!(
        (f.account(&alice).local, f.account(&alice).head),
        (DOWN, None)
    );
    assert_eq!(f.host(HOME).accounts, 1);
    f.sequence(proven(&alice, &alice.account(), 2));
    assert_eq!(f.told(), (1, Status::inactive("takendown")));
    // It is known now: the same again does nothing, and a reversal is told.
    assert_eq!(f.rule(&alice, Ruling::Takedown), Ruled::Holds);
    assert_eq!(f.rule(&alice, Ruling::Reversal), Ruled::Holds);
    assert_eq!(f.told(), (2, Status::ACTIVE));
    let post = alice.post("one");
    let commit = alice.commit(&[post]);
    f.sequence(proven(&alice, &commit, 3));
    assert_eq!(payload(&f.last()), &commit.frame(3)[..]);

    // What was said of somebody who was never seen can be taken back, without a word.
    assert_eq!(f.rule(&bob, Ruling::Reversal), Ruled::Holds);
    assert_eq!(f.rule(&bob, Ruling::Reversal), Ruled::Unknown);
    assert!(!f.store.takedown(&did(&bob)).unwrap());
    let post = bob.post("one");
    let commit = bob.commit(&[post]);
    f.sequence(proven(&bob, &commit, 4));
    assert_eq!(f.seqs(), [1, 2, 3, 4]);
    assert_eq!(f.takedowns(), [did(&carol)]);
    // Also within one batch.
    let (done, ruled) = bounded(1);
    let rule = Input::Rule {
        did: did(&carol),
        ruling: Ruling::Reversal,
        done,
    };
    f.inbox.send(rule).unwrap();
    f.send(proven(&carol, &carol.account(), 5));
    f.work();
    assert_eq!(ruled.try_recv(), Ok(Ruled::Holds));
    assert_eq!(f.told(), (5, Status::ACTIVE));
    f.close();
}
