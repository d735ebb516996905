//! How many accounts a host may have.

use tempfile::TempDir;

use super::*;
use crate::limits::BATCH_LET_IN_MAX;

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

    /// An `#account` of a person.
    fn says(&mut self, person: &Person, status: Option<&'static str>, seq: u64) {
        let mut saying = person.clone();
        saying.status = status;
        self.sequence(proven(person, &saying.account(), seq));
    }

    /// Whose status a frame says, and what it is.
    pub(super) fn told_at(&self, seq: u64) -> (Did, Status) {
        let published = self.published.lock().unwrap();
        let frame = published.iter().find(|f| f.seq.get() == seq).unwrap();
        let told = parse(payload(frame));
        let Body::Account { active, status } = told.body else {
            panic!("{told:?}");
        };
        let reason = status.map(Into::into);
        (Did::parse(told.did).unwrap(), Status { active, reason })
    }

    /// Who waits for a place at a host, as the store has it.
    fn waiting(&self, host: HostId) -> Vec<Did> {
        let waiting = self.store.throttled(host, 10_000).unwrap();
        waiting.into_iter().map(|(_, did)| did).collect()
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
    assert_eq!(f.metrics.batches.get(), 1);
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

    // There is room for one more: the one that appeared first has it, and that is told.
    f.limit(HOME, Some(3));
    assert_eq!(f.told(), (6, Status::ACTIVE));
    f.commits(&mut people[3], HOME, 8);
    assert_eq!((f.seqs().len(), f.throttled()), (6, 3));
    f.commits(&mut people[2], HOME, 9);
    assert_eq!(f.seqs().len(), 7);
    // A lower limit takes nobody's place; none at all has room for everybody.
    f.limit(HOME, Some(0));
    f.commits(&mut people[2], HOME, 10);
    assert_eq!(f.seqs().len(), 8);
    f.limit(HOME, None);
    assert_eq!(f.told(), (9, Status::ACTIVE));
    f.commits(&mut people[3], HOME, 11);
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
    assert_eq!((f.seqs(), f.throttled()), (vec![1, 2, 3], 2));
    assert_eq!(f.told_at(2), (did(&alice), Status::inactive("throttled")));
    assert_eq!(f.told_at(3), (did(&bob), Status::ACTIVE));
    assert_eq!((f.host(HOME).accounts, f.host(AWAY).accounts), (1, 0));
    assert_eq!(f.account(&alice).host, AWAY);
    // What came is processed, and is not judged again.
    f.commits(&mut alice.clone(), AWAY, 1);
    assert_eq!(f.metrics.rejected.get(Reject::Duplicate), 1);
    // Bob has her place at once.
    assert_eq!(f.account(&bob).effective(), &Status::ACTIVE);
    f.commits(&mut bob, HOME, 3);
    assert_eq!((f.seqs().len(), f.host(HOME).accounts), (4, 1));
    f.limit(AWAY, Some(1));
    assert_eq!(f.told(), (5, Status::ACTIVE));
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

/// Rule 195: <https://atproto.com/specs/sync>
#[test]
fn a_deletion_gives_a_place_back() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(1));
    for n in 0..100 {
        let mut person = person(n);
        f.commits(&mut person, HOME, 2 * n + 1);
        assert_eq!(f.host(HOME).accounts, 1);
        f.says(&person, Some("deleted"), 2 * n + 2);
        assert_eq!(f.host(HOME).accounts, 0);
    }
    assert_eq!((f.seqs().len(), f.throttled()), (200, 0));
    assert_eq!(f.store.counters().accounts, 100);
    f.close();
}

/// Rule 195: <https://atproto.com/specs/sync>
#[test]
fn a_deleted_account_that_comes_back_to_a_full_host_is_throttled() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(1));
    let (mut alice, mut bob) = (person(1), person(2));
    f.commits(&mut alice, HOME, 1);
    f.says(&alice, Some("deleted"), 2);
    f.commits(&mut bob, HOME, 3);
    assert_eq!((f.seqs(), f.throttled()), (vec![1, 2, 3], 0));
    // Whatever she is now, she is not deleted.
    for (seq, status) in [(4, None), (5, Some("deactivated")), (6, None)] {
        f.says(&alice, status, seq);
        assert_eq!(f.told(), (seq, Status::inactive("throttled")));
    }
    f.commits(&mut alice.clone(), HOME, 7);
    assert_eq!((f.throttled(), f.host(HOME).accounts), (1, 1));
    assert_eq!(f.waiting(HOME), [did(&alice)]);
    // Deleted once more she needs no place, and none is given to her.
    f.says(&alice, Some("deleted"), 8);
    assert_eq!(f.told(), (7, Status::inactive("deleted")));
    assert_eq!(f.waiting(HOME), []);
    f.limit(HOME, None);
    assert_eq!((f.seqs().len(), f.host(HOME).accounts), (7, 1));
    // An account that is inactive for any other reason keeps its place.
    f.limit(HOME, Some(1));
    f.says(&bob, Some("takendown"), 9);
    f.says(&alice, None, 10);
    assert_eq!(f.told(), (9, Status::inactive("throttled")));
    // With room it comes back at once.
    f.says(&bob, Some("deleted"), 11);
    assert_eq!(f.told_at(11), (did(&alice), Status::ACTIVE));
    f.commits(&mut alice, HOME, 12);
    assert_eq!((f.seqs().len(), f.host(HOME).accounts), (12, 1));
    f.close();
}

#[test]
fn a_first_word_that_an_account_is_deleted_needs_no_place() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(0));
    let alice = person(1);
    f.says(&alice, Some("deleted"), 1);
    assert_eq!(f.told(), (1, Status::inactive("deleted")));
    assert_eq!(f.host(HOME).accounts, 0);
    assert_eq!(f.waiting(HOME), []);
    f.close();
}

#[test]
fn a_deleted_account_that_moves_is_counted_nowhere() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    f.says(&alice, Some("deleted"), 1);
    f.sequence(moved(&alice, &alice.identity(), 1));
    assert_eq!(f.account(&alice).host, AWAY);
    assert_eq!((f.host(HOME).accounts, f.host(AWAY).accounts), (0, 0));
    f.close();
}

/// What its host answers of it counts like what it says of itself.
#[test]
fn a_deleted_account_that_is_asked_about_needs_a_place_if_it_is_active() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (ask, asked) = bounded(1);
    f.sequencer.ask_through(ask);
    f.limit(HOME, Some(1));
    let (mut alice, mut bob) = (person(1), person(2));
    f.commits(&mut alice, HOME, 1);
    f.says(&alice, Some("deleted"), 2);
    f.commits(&mut bob, HOME, 3);
    f.commits(&mut alice, HOME, 4);
    let question = asked.try_recv().unwrap();
    let status = Some(Status::ACTIVE);
    let answer = Input::Status {
        did: question,
        status,
    };
    f.inbox.send(answer).unwrap();
    f.work();
    assert_eq!(f.told(), (4, Status::inactive("throttled")));
    assert_eq!((f.throttled(), f.host(HOME).accounts), (1, 1));
    assert_eq!(f.host(HOME).cursor, 4);
    assert_eq!(f.waiting(HOME), [did(&alice)]);
    f.close();
}

/// Rule 195: <https://atproto.com/specs/sync>
#[test]
fn those_that_wait_longest_are_let_in_first_and_a_batch_is_bounded() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(0));
    let count = BATCH_LET_IN_MAX as u64 + 10;
    let people: Vec<Person> = (0..count).map(person).collect();
    for (n, person) in people.iter().enumerate() {
        f.send(proven(person, &person.identity(), n as u64 + 1));
    }
    f.work();
    let all: Vec<Did> = people.iter().map(did).collect();
    assert_eq!(f.waiting(HOME), all);
    let limit = |limit| Input::AccountLimit { host: HOME, limit };
    f.inbox.send(limit(Some(3))).unwrap();
    f.work();
    assert_eq!(f.host(HOME).accounts, 3);
    assert_eq!(f.waiting(HOME), all[3..]);
    let told: Vec<Did> = (1..=3).map(|n| f.told_at(count + n).0).collect();
    assert_eq!(told, all[..3]);

    // Without a limit all of them, in more than one batch; in between there is room for others.
    f.inbox.send(limit(None)).unwrap();
    let first = f.sequencer.outbox.receiver.try_recv().ok();
    f.sequencer.work(first).unwrap();
    let newcomer = person(count + 1);
    f.send(proven(&newcomer, &newcomer.identity(), count + 1));
    let first = f.sequencer.outbox.receiver.try_recv().ok();
    f.sequencer.work(first).unwrap();
    assert_eq!(f.waiting(HOME).len(), 7);
    assert_eq!(f.account(&newcomer).effective(), &Status::ACTIVE);
    f.work();
    assert_eq!(f.waiting(HOME), []);
    assert_eq!(f.host(HOME).accounts, count + 1);
    assert_eq!(f.store.last_seq(), 2 * count + 1);
    f.close();
}

#[test]
fn a_kill_while_accounts_are_let_in_loses_and_repeats_nothing() {
    let dir = TempDir::new().unwrap();
    let count = BATCH_LET_IN_MAX as u64 + 500;
    {
        let mut f = Fixture::open(dir.path());
        f.limit(HOME, Some(0));
        for n in 0..count {
            let person = person(n);
            f.send(proven(&person, &person.identity(), n + 1));
        }
        f.work();
        let limit = Some(count - 1);
        f.inbox
            .send(Input::AccountLimit { host: HOME, limit })
            .unwrap();
        let first = f.sequencer.outbox.receiver.try_recv().ok();
        f.sequencer.work(first).unwrap();
        f.sequencer.work(None).unwrap();
        assert_eq!(f.waiting(HOME).len(), 500);
    }
    let mut f = Fixture::open(dir.path());
    assert_eq!(f.host(HOME).accounts, BATCH_LET_IN_MAX as u64);
    f.work();
    assert_eq!(f.waiting(HOME).len(), 500, "nothing was said of its limit");
    f.limit(HOME, Some(count - 1));
    assert_eq!(f.waiting(HOME), [did(&person(count - 1))]);
    assert_eq!(f.store.last_seq(), 2 * count - 1);
    assert_eq!(f.host(HOME).accounts, count - 1);
    f.close();
}

/// The run loop goes on by itself while accounts are to be let in.
#[test]
fn nothing_more_has_to_arrive_for_accounts_to_be_let_in() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(0));
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    let (stopper, stop) = stop_pair();
    let Fixture {
        sequencer,
        store,
        inbox,
        ..
    } = f;
    let body = move || sequencer.run(&stop).unwrap();
    let thread = threads::spawn(Role::Simulator, "test", 1 << 20, body).unwrap();
    let limit = Some(1);
    inbox
        .send(Input::AccountLimit { host: HOME, limit })
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while store.last_seq() < 2 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(stopper);
    drop(thread);
    let account = store.account(&did(&alice)).unwrap().unwrap();
    assert_eq!(account.effective(), &Status::ACTIVE);
}

#[test]
fn who_waits_moves_with_the_account() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(0));
    f.limit(AWAY, Some(0));
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    assert_eq!(f.waiting(HOME), [did(&alice)]);
    f.sequence(moved(&alice, &alice.identity(), 1));
    assert_eq!(
        (f.waiting(HOME), f.waiting(AWAY)),
        (vec![], vec![did(&alice)])
    );
    f.limit(HOME, None);
    assert_eq!(
        f.account(&alice).effective(),
        &Status::inactive("throttled")
    );
    f.limit(AWAY, Some(1));
    assert_eq!(f.told(), (3, Status::ACTIVE));
    f.close();
}

/// A takedown goes before what the limit does: nothing is told, and what then holds is right.
#[test]
fn an_account_that_is_taken_down_is_let_in_without_a_word() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(0));
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    f.rule(&alice, Ruling::Takedown);
    f.limit(HOME, Some(1));
    assert_eq!((f.seqs(), f.waiting(HOME)), (vec![1, 2], vec![]));
    assert_eq!(f.host(HOME).accounts, 1);
    f.rule(&alice, Ruling::Reversal);
    assert_eq!(f.told(), (3, Status::ACTIVE));
    f.close();
}

/// A store of a version that had no list of those that wait.
#[test]
fn a_throttled_account_that_is_in_no_list_is_let_in_by_its_next_event() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(0));
    let mut alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    f.close();
    Store::forget_lists(dir.path());
    let mut f = Fixture::open(dir.path());
    f.limit(HOME, Some(1));
    assert_eq!(f.seqs(), [0u64; 0]);
    f.commits(&mut alice, HOME, 2);
    assert_eq!(f.told_at(2), (did(&alice), Status::ACTIVE));
    assert_eq!((f.seqs(), f.host(HOME).accounts), (vec![2, 3], 1));
    f.close();
}
