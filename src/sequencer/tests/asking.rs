//! What is held of an inactive account while its host is asked whether it still is so.

use std::path::Path;

use crossbeam_channel::bounded;
use tempfile::TempDir;

use super::*;

/// A sequencer that asks, what it asks, and an account that is inactive here since seq 2.
fn asking(dir: &Path) -> (Fixture, crossbeam_channel::Receiver<Did>, Person) {
    let mut f = Fixture::open(dir);
    let (ask, asked) = bounded(1);
    f.sequencer.ask_through(ask);
    let mut alice = person(1);
    let post = alice.post("one");
    let commit = alice.commit(&[post]);
    f.sequence(proven(&alice, &commit, 1));
    let mut gone = alice.clone();
    gone.status = Some("deactivated");
    f.sequence(proven(&gone, &gone.account(), 2));
    (f, asked, alice)
}

impl Fixture {
    fn answer(&mut self, did: Did, status: Option<Status>) {
        self.inbox.send(Input::Status { did, status }).unwrap();
        self.work();
    }
}

/// Rule 139: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn an_account_whose_reactivation_was_lost_is_heard_again() {
    let dir = TempDir::new().unwrap();
    let (mut f, asked, mut alice) = asking(dir.path());
    let bob = person(2);
    let post = alice.post("two");
    let second = alice.commit(&[post]);
    f.sequence(proven(&alice, &second, 3));
    f.sequence(proven(&bob, &bob.identity(), 4));
    f.sequence(proven(&alice, &alice.identity(), 5));
    // Both of hers wait, others pass, and no cursor passes what waits.
    assert_eq!(f.seqs(), [1, 2, 3]);
    assert_eq!(f.host(HOME).cursor, 2);
    let did = asked.try_recv().unwrap();
    assert_eq!(did.as_str(), &**alice.did());
    f.answer(did, Some(Status::ACTIVE));
    assert_eq!(f.seqs(), [1, 2, 3, 4, 5]);
    let published = f.published.lock().unwrap()[3].clone();
    assert_eq!(payload(&published), &second.frame(4)[..]);
    assert_eq!(f.account(&alice).upstream, Status::ACTIVE);
    assert_eq!(f.host(HOME).cursor, 5);
    assert_eq!(f.metrics.rejected.total(), 0);
    f.close();
}

/// Rule 135: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn an_account_that_still_is_inactive_is_asked_about_once_in_a_while() {
    let dir = TempDir::new().unwrap();
    let (mut f, asked, mut alice) = asking(dir.path());
    let inactive = Status {
        active: false,
        reason: Some("deactivated".into()),
    };
    for (seq, answer) in [(3, Some(inactive.clone())), (4, None)] {
        let post = alice.post("more");
        let commit = alice.commit(&[post]);
        f.sequence(proven(&alice, &commit, seq));
        if seq == 3 {
            f.answer(asked.try_recv().unwrap(), answer);
        }
    }
    assert!(asked.is_empty(), "asked once");
    assert_eq!(f.metrics.status_asked.get(), 1);
    assert_eq!(f.seqs(), [1, 2]);
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 2);
    assert_eq!(f.account(&alice).upstream, inactive);
    assert_eq!(f.host(HOME).cursor, 4);
    f.close();
}

#[test]
fn a_word_that_is_not_lost_counts_from_its_place_on() {
    let dir = TempDir::new().unwrap();
    let (mut f, asked, mut alice) = asking(dir.path());
    let post = alice.post("while inactive");
    let early = alice.clone().commit(&[post]);
    f.sequence(proven(&alice, &early, 3));
    let back = alice.account();
    f.sequence(proven(&alice, &back, 4));
    let post = alice.post("after");
    let late = alice.commit(&[post]);
    f.sequence(proven(&alice, &late, 5));
    f.answer(asked.try_recv().unwrap(), Some(Status::ACTIVE));
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 1);
    assert_eq!(f.seqs(), [1, 2, 3, 4]);
    assert_eq!(payload(&f.last()), &late.frame(4)[..]);
    assert_eq!(f.host(HOME).cursor, 5);
    f.close();
}

#[test]
fn a_host_is_asked_one_thing_at_a_time() {
    let dir = TempDir::new().unwrap();
    let (mut f, asked, mut alice) = asking(dir.path());
    let mut bob = person(2);
    bob.status = Some("suspended");
    f.sequence(proven(&bob, &bob.account(), 3));
    for (person, seq) in [(&mut alice, 4), (&mut bob, 5)] {
        let post = person.post("more");
        let commit = person.commit(&[post]);
        f.sequence(proven(person, &commit, seq));
    }
    assert_eq!(
        f.metrics.rejected.get(Reject::AccountInactive),
        1,
        "bob is not asked about"
    );
    f.answer(asked.try_recv().unwrap(), None);
    let post = bob.post("again");
    let commit = bob.commit(&[post]);
    f.sequence(proven(&bob, &commit, 6));
    assert_eq!(asked.try_recv().unwrap().as_str(), &**bob.did());
    f.check();
}

#[test]
fn what_is_held_at_the_end_is_asked_for_again() {
    let dir = TempDir::new().unwrap();
    let (mut f, _asked, mut alice) = asking(dir.path());
    let post = alice.post("two");
    let commit = alice.commit(&[post]);
    f.sequence(proven(&alice, &commit, 3));
    f.inbox
        .send(Input::Progress {
            host: HOME,
            epoch: 0,
            cursor: 9,
        })
        .unwrap();
    f.work();
    f.close();
    let f = Fixture::open(dir.path());
    assert_eq!(f.host(HOME).cursor, 2);
}

/// What was held when the operator said where to read from, and what it owes, is of the past.
#[test]
fn what_is_held_does_not_move_a_cursor_that_was_reset() {
    for (cursor, from) in [(Some(40), 40), (Some(2), 2), (None, 0)] {
        let dir = TempDir::new().unwrap();
        let (mut f, asked, mut alice) = asking(dir.path());
        let bob = person(2);
        let post = alice.post("two");
        let held = alice.commit(&[post]);
        f.sequence(proven(&alice, &held, 3));
        // Owed: everything up to here, but for what is held.
        f.sequence(proven(&bob, &bob.identity(), 60));
        assert_eq!(f.host(HOME).cursor, 2);
        let (done, epoch) = bounded(1);
        let host = HOME;
        f.inbox.send(Input::Reset { host, cursor, done }).unwrap();
        assert!(epoch.try_recv().is_err(), "not before it is stored");
        f.work();
        assert_eq!(epoch.try_recv(), Ok(1));
        f.answer(asked.try_recv().unwrap(), Some(Status::ACTIVE));
        assert_eq!(
            f.seqs(),
            [1, 2, 3, 4],
            "what was held is judged all the same"
        );
        let record = f.host(HOME);
        assert_eq!((record.epoch, record.cursor), (1, from));
        // A straggler moves nothing either; the new epoch goes on from there.
        f.sequence(proven(&bob, &bob.identity(), 61));
        assert_eq!(f.host(HOME).cursor, from);
        let mut event = proven(&bob, &bob.identity(), from + 1);
        event.upstream.epoch = 1;
        f.sequence(event);
        assert_eq!(f.host(HOME).cursor, from + 1);
        f.close();
        let f = Fixture::open(dir.path());
        assert_eq!((f.host(HOME).epoch, f.host(HOME).cursor), (1, from + 1));
    }
}

/// Rule 143: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn the_operators_word_is_not_asked_about() {
    let dir = TempDir::new().unwrap();
    let (mut f, asked, mut alice) = asking(dir.path());
    f.rule(&alice, Ruling::Takedown);
    let post = alice.post("two");
    let commit = alice.commit(&[post]);
    f.sequence(proven(&alice, &commit, 3));
    assert!(asked.is_empty());
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 1);
    f.close();
}

/// What a host that is banned sent before: held, or still on its way.
///
/// Rule 166: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/requestCrawl.json>
#[test]
fn nothing_of_a_banned_host_is_published_and_its_cursor_stays() {
    let dir = TempDir::new().unwrap();
    let (mut f, asked, mut alice) = asking(dir.path());
    let bob = person(2);
    let post = alice.post("two");
    let held = alice.commit(&[post]);
    f.sequence(proven(&alice, &held, 3));
    f.sequence(proven(&bob, &bob.identity(), 4));
    assert_eq!((f.seqs(), f.host(HOME).cursor), (vec![1, 2, 3], 2));
    let ban = |banned| Input::Ban { host: HOME, banned };
    f.inbox.send(ban(true)).unwrap();
    f.send(proven(&bob, &bob.account(), 5));
    let progress = Input::Progress {
        host: HOME,
        epoch: 0,
        cursor: 9,
    };
    f.inbox.send(progress).unwrap();
    f.answer(asked.try_recv().unwrap(), Some(Status::ACTIVE));
    assert_eq!((f.seqs(), f.host(HOME).cursor), (vec![1, 2, 3], 2));
    assert!(
        !f.account(&alice).upstream.active,
        "a banned host says nothing"
    );
    assert_eq!(f.metrics.rejected.total(), 0);
    // The ban ends, and the host is read from its cursor.
    f.inbox.send(ban(false)).unwrap();
    f.send(proven(&bob, &bob.identity(), 4));
    f.sequence(proven(&bob, &bob.account(), 5));
    assert_eq!((f.seqs(), f.host(HOME).cursor), (vec![1, 2, 3, 4], 5));
    assert_eq!(f.metrics.rejected.get(Reject::Duplicate), 1);
    f.close();
}
