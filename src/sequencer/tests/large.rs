//! Large events, which are written in pieces while others pass.

use super::*;
use crate::limits::PIECE_BYTES;

/// Makes an event a large one, of so many pieces more or less.
fn large(mut event: Event, pieces: usize) -> Event {
    let mut frame = event.frame.to_vec();
    let seed = frame.len() as u64;
    let mut random = fastrand::Rng::with_seed(seed);
    let bytes = pieces * PIECE_BYTES;
    frame.extend(std::iter::repeat_with(|| random.u8(..)).take(bytes));
    event.frame = frame.into();
    assert!(event.frame.is_large());
    event
}

fn of(host: HostId, event: Event) -> Event {
    Event { host, ..event }
}

impl Fixture {
    /// One batch.
    fn batch(&mut self) {
        let first = self.sequencer.outbox.next();
        self.sequencer.work(first).unwrap();
    }

    fn is_writing(&self) -> bool {
        self.sequencer.writing.is_some()
    }

    fn batches(&self) -> u64 {
        self.metrics.batches.get()
    }
}

#[test]
fn others_pass_while_it_is_written() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, mut bob) = (person(1), person(2));
    let first = alice.commit(&[]);
    f.send(large(proven(&alice, &first, 1), 20));
    // What its host says then waits behind it.
    let post = alice.post("small");
    let commit = alice.commit(&[post]);
    f.send(proven(&alice, &commit, 2));
    f.batch();
    assert!(f.is_writing() && f.seqs().is_empty());
    for seq in 1..=15 {
        let post = bob.post("beside it");
        let commit = bob.commit(&[post]);
        f.send(of(AWAY, proven(&bob, &commit, seq)));
        f.batch();
        assert_eq!(f.seqs().len() as u64, seq);
    }
    assert!(f.is_writing());
    // Its host is not processed further than what is published.
    assert_eq!((f.host(HOME).cursor, f.host(AWAY).cursor), (0, 15));
    f.work();
    assert_eq!(f.seqs(), (1..=17).collect::<Vec<_>>());
    assert_eq!(f.host(HOME).cursor, 2);
    let large = f.published.lock().unwrap()[15].bytes.len();
    assert!(large > 20 * PIECE_BYTES, "{large}");
    assert_eq!(parse(payload(&f.last())).did, &**alice.did());
    f.close();
    // After a restart it is the same.
    let f = Fixture::open(dir.path());
    let mut frames = Vec::new();
    let read = f.store.read_after(15, 64 << 20, usize::MAX, &mut frames);
    read.unwrap();
    assert_eq!((frames.len(), frames[0].bytes.len()), (2, large));
}

#[test]
fn several_are_written_one_after_the_other() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let people: Vec<Person> = (1..=4).map(person).collect();
    for (n, person) in people.iter().enumerate() {
        let identity = proven(person, &person.identity(), 1);
        f.send(of(HostId(n as u32 + 1), large(identity, 4)));
    }
    let small = proven(&people[0], &people[0].identity(), 1);
    f.send(of(HostId(9), small));
    f.batch();
    assert_eq!(f.seqs(), [1], "the small one");
    f.work();
    assert_eq!(f.seqs(), [1, 2, 3, 4, 5]);
    f.close();
}

#[test]
fn what_is_refused_anyway_is_not_written() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    let first = alice.commit(&[]);
    f.sequence(proven(&alice, &first, 1));
    let batches = f.batches();
    f.sequence(large(proven(&alice, &first, 2), 20));
    assert_eq!(f.metrics.rejected.total(), 1);
    assert_eq!((f.batches(), f.seqs()), (batches + 1, vec![1]));
    assert_eq!(f.host(HOME).cursor, 2);
    f.close();
}

#[test]
fn a_ban_and_a_ruling_hold_for_what_is_being_written() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (mut alice, bob) = (person(1), person(2));
    let first = alice.commit(&[]);
    f.sequence(proven(&alice, &first, 1));
    // Taken down meanwhile: its commits are for nobody.
    let post = alice.post("large");
    let commit = alice.commit(&[post]);
    f.send(large(proven(&alice, &commit, 2), 4));
    f.batch();
    assert!(f.is_writing());
    assert_eq!(f.rule(&alice, Ruling::Takedown), Ruled::Holds);
    f.work();
    let (seq, status) = f.told();
    assert_eq!((seq, status.reason.as_deref()), (2, Some("takendown")));
    assert_eq!(f.host(HOME).cursor, 2);
    // Banned meanwhile: it is as if the host had not said it.
    f.send(large(proven(&bob, &bob.identity(), 3), 4));
    f.batch();
    assert!(f.is_writing());
    let ban = |banned| Input::Ban { host: HOME, banned };
    f.inbox.send(ban(true)).unwrap();
    f.work();
    assert_eq!((f.seqs().len(), f.host(HOME).cursor), (2, 2));
    f.inbox.send(ban(false)).unwrap();
    f.sequence(large(proven(&bob, &bob.identity(), 3), 4));
    assert_eq!((f.seqs().len(), f.host(HOME).cursor), (3, 3));
    f.close();
}

/// An `#account` in which another status is to be put in than its host's says that, and nothing else.
#[test]
fn what_says_another_status_here_is_said_without_what_is_large_of_it() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    let first = alice.commit(&[]);
    f.sequence(proven(&alice, &first, 1));
    let says_takedown = |f: &Fixture, seq| {
        let (last, status) = f.told();
        assert_eq!((last, status.reason.as_deref()), (seq, Some("takendown")));
        assert!(f.last().bytes.len() < 300);
        assert_eq!(parse(payload(&f.last())).did, &**alice.did());
    };
    // Taken down while it is written, and before.
    f.send(large(proven(&alice, &alice.account(), 2), 4));
    f.batch();
    assert!(f.is_writing());
    assert_eq!(f.rule(&alice, Ruling::Takedown), Ruled::Holds);
    f.work();
    says_takedown(&f, 3);
    assert_eq!(f.host(HOME).cursor, 2);
    let batches = f.batches();
    f.sequence(large(proven(&alice, &alice.account(), 3), 4));
    says_takedown(&f, 4);
    assert_eq!(f.batches(), batches + 1);
    // And as it is when it says what holds.
    assert_eq!(f.rule(&alice, Ruling::Reversal), Ruled::Holds);
    f.sequence(large(proven(&alice, &alice.account(), 4), 4));
    assert_eq!(f.seqs(), [1, 2, 3, 4, 5, 6]);
    assert!(f.last().bytes.len() > 4 * PIECE_BYTES);
    f.close();
}

#[test]
fn what_is_held_is_written_before() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (questions, asked) = bounded(4);
    f.sequencer.ask_through(questions);
    let mut alice = person(1);
    let first = alice.commit(&[]);
    f.sequence(proven(&alice, &first, 1));
    let gone = event::account(
        alice.did(),
        Some("deactivated"),
        crate::sim::clock::micros(),
    );
    f.sequence(proven(&alice, &gone, 2));
    let post = alice.post("large");
    let commit = alice.commit(&[post]);
    f.sequence(large(proven(&alice, &commit, 3), 4));
    assert_eq!(asked.try_recv(), Ok(did(&alice)));
    assert_eq!((f.seqs().len(), f.host(HOME).cursor), (2, 2));
    let batches = f.batches();
    let active = Input::Status {
        did: did(&alice),
        status: Some(Status::ACTIVE),
    };
    f.inbox.send(active).unwrap();
    f.work();
    // It is published in one batch, as its pieces are there.
    assert_eq!((f.seqs().len(), f.batches()), (3, batches + 1));
    assert_eq!(f.host(HOME).cursor, 3);
    f.close();
}

#[test]
fn a_stop_comes_after_it() {
    let dir = TempDir::new().unwrap();
    let f = Fixture::open(dir.path());
    let alice = person(1);
    f.send(large(proven(&alice, &alice.identity(), 1), 30));
    f.send(large(proven(&alice, &alice.identity(), 2), 30));
    let (stopper, stop) = stop_pair();
    let Fixture {
        sequencer,
        store,
        published,
        ..
    } = f;
    drop(stopper);
    let body = move || sequencer.run(&stop).unwrap();
    drop(threads::spawn(Role::Simulator, "test", 1 << 20, body).unwrap());
    assert_eq!(published.lock().unwrap().len(), 2);
    assert_eq!(store.last_seq(), 2);
}
