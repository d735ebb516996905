//! How many accounts a host may have.

use tempfile::TempDir;

use super::*;

impl Fixture {
    fn limit(&mut self, host: HostId, limit: Option<u64>) {
        self.inbox
            .send(Input::AccountLimit { host, limit })
            .unwrap();
        self.work();
    }

    /// A commit of a person from a host.
    fn commits(&mut self, person: &mut Person, host: HostId, seq: u64) {
        let post = person.post("more");
        let commit = person.commit(&[post]);
        let mut event = proven(person, &commit, seq);
        event.host = host;
        event.authority_at = Some(if host == HOME { 10 } else { 20 });
        self.sequence(event);
    }

    fn throttled(&self) -> u64 {
        self.metrics.rejected.get(Reject::AccountLimit)
    }
}

/// Rule 195: <https://atproto.com/specs/sync>
#[test]
fn a_host_has_no_more_accounts_than_it_may_until_it_may() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(2));
    let mut people: Vec<Person> = (0..4).map(person).collect();
    // All in one batch: each sees what those before it have taken.
    for (n, person) in people.iter_mut().enumerate() {
        let post = person.post("first");
        let commit = person.commit(&[post]);
        f.send(proven(person, &commit, n as u64 + 1));
    }
    f.work();
    assert_eq!(f.metrics.batches.get(), 2);
    assert_eq!((f.seqs(), f.throttled()), (vec![1, 2], 2));
    assert_eq!((f.host(HOME).accounts, f.store.counters().accounts), (2, 4));
    let throttled = Status::inactive("throttled");
    assert_eq!(f.account(&people[2]).effective(), &throttled);
    // It may say who it is, and is told what it is here.
    f.sequence(proven(&people[2], &people[2].identity(), 5));
    f.sequence(proven(&people[2], &people[2].account(), 6));
    assert_eq!(f.told(), (4, throttled.clone()));
    // Those that are there are not affected.
    f.commits(&mut people[0], HOME, 7);
    assert_eq!((f.seqs().len(), f.throttled()), (5, 2));

    // There is room for one more: the first that says something has it.
    f.limit(HOME, Some(3));
    f.commits(&mut people[3], HOME, 8);
    assert_eq!(f.seqs().len(), 7);
    let told = f.published.lock().unwrap()[5].clone();
    let told = parse(payload(&told)).body;
    assert!(matches!(
        told,
        Body::Account {
            active: true,
            status: None
        }
    ));
    f.commits(&mut people[2], HOME, 9);
    assert_eq!((f.seqs().len(), f.throttled()), (7, 3));
    // A lower limit takes nobody's place; none at all has room for everybody.
    f.limit(HOME, Some(0));
    f.commits(&mut people[3], HOME, 10);
    assert_eq!(f.seqs().len(), 8);
    f.limit(HOME, None);
    f.commits(&mut people[2], HOME, 11);
    assert_eq!((f.seqs().len(), f.host(HOME).accounts), (10, 4));
    f.close();
}

/// Rules 149, 195: <https://atproto.com/specs/sync>
#[test]
fn an_account_that_leaves_makes_room_and_needs_some_where_it_arrives() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(1));
    f.limit(AWAY, Some(0));
    let (mut alice, mut bob) = (person(1), person(2));
    f.commits(&mut alice, HOME, 1);
    f.commits(&mut bob, HOME, 2);
    assert_eq!((f.seqs(), f.throttled()), (vec![1], 1));
    // Subscribers know her as active, and learn that she is not.
    let mut moved = alice.clone();
    f.commits(&mut moved, AWAY, 1);
    assert_eq!((f.seqs(), f.throttled()), (vec![1, 2], 2));
    assert_eq!(f.told(), (2, Status::inactive("throttled")));
    assert_eq!((f.host(HOME).accounts, f.host(AWAY).accounts), (0, 0));
    assert_eq!(f.account(&alice).host, AWAY);
    // What came is processed, and is not judged again.
    f.commits(&mut alice.clone(), AWAY, 1);
    assert_eq!(f.metrics.rejected.get(Reject::Duplicate), 1);
    f.commits(&mut bob, HOME, 3);
    assert_eq!((f.seqs().len(), f.host(HOME).accounts), (4, 1));
    f.limit(AWAY, Some(1));
    f.commits(&mut alice, AWAY, 2);
    assert_eq!((f.seqs().len(), f.host(AWAY).accounts), (6, 1));
    f.close();
}

#[test]
fn a_reversal_of_a_takedown_leaves_a_throttled_account_throttled() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(0));
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    for (seq, ruling, told) in [
        (2, Ruling::Takedown, "takendown"),
        (3, Ruling::Reversal, "throttled"),
    ] {
        f.rule(&alice, ruling);
        assert_eq!(f.told(), (seq, Status::inactive(told)));
    }
    f.rule(&alice, Ruling::Reversal);
    assert_eq!(f.seqs(), [1, 2, 3]);
    assert_eq!(f.host(HOME).accounts, 0);
    f.close();
}

#[test]
fn an_account_that_is_deleted_keeps_its_place() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(1));
    let (mut alice, mut bob) = (person(1), person(2));
    f.commits(&mut alice, HOME, 1);
    let mut gone = alice.clone();
    gone.status = Some("deleted");
    f.sequence(proven(&gone, &gone.account(), 2));
    assert_eq!(f.host(HOME).accounts, 1);
    f.commits(&mut bob, HOME, 3);
    assert_eq!((f.seqs(), f.throttled()), (vec![1, 2], 1));
    f.sequence(proven(&alice, &alice.account(), 4));
    f.commits(&mut alice, HOME, 5);
    assert_eq!((f.seqs().len(), f.host(HOME).accounts), (4, 1));
    f.close();
}
