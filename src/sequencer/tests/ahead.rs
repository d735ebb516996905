//! Identity events that come again while the cursor of their host is before them.

use super::*;

/// Hands on what `HOME` says of the account, while something older of that host is parked.
fn say(f: &mut Fixture, person: &Person, event: &event::Event, seq: u64, speaks: bool) {
    let mut said = proven(person, event, seq);
    said.upstream.cursor = 2;
    if !speaks {
        said.authority_at = None;
    }
    f.sequence(said);
}

#[test]
fn an_identity_is_not_said_again_when_its_account_has_moved() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    let identity = alice.identity();
    say(&mut f, &alice, &identity, 5, true);
    let post = alice.post("from elsewhere");
    let commit = alice.commit(&[post]);
    f.sequence(moved(&alice, &commit, 1));
    assert_eq!((f.seqs(), f.host(HOME).cursor), (vec![1, 2], 2));
    say(&mut f, &alice, &identity, 5, false);
    assert_eq!(f.seqs(), [1, 2]);
    assert_eq!(f.metrics.rejected.get(Reject::Duplicate), 1);
    // What the host says later of the account it has lost is news.
    say(&mut f, &alice, &identity, 6, false);
    assert_eq!(f.seqs(), [1, 2, 3]);
    f.close();
}

#[test]
fn what_a_host_says_of_accounts_of_others_is_not_said_again() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (alice, bob) = (person(1), person(2));
    for _ in 0..2 {
        say(&mut f, &alice, &alice.identity(), 5, false);
        say(&mut f, &bob, &bob.identity(), 7, false);
    }
    assert_eq!(f.seqs(), [1, 2]);
    // Another account under a seq that was there before is another event.
    say(&mut f, &bob, &bob.identity(), 5, false);
    assert_eq!(f.seqs(), [1, 2, 3]);
    // In a new epoch the seqs are others.
    let (done, epoch) = bounded(1);
    f.inbox.send(Input::Restart { host: HOME, done }).unwrap();
    f.work();
    let epoch = epoch.try_recv().unwrap();
    for _ in 0..2 {
        let mut anew = proven(&alice, &alice.identity(), 5);
        (anew.authority_at, anew.upstream.epoch) = (None, epoch);
        f.sequence(anew);
        // The second time the cursor has passed it, and tells.
        assert_eq!((f.seqs().len(), f.host(HOME).cursor), (4, 5));
    }
    f.close();
}
