//! The sequencer on a real store: what is written together, what is published, what survives.

mod ahead;
mod asking;
mod full;
mod import;
mod index;
mod large;
mod limit;
mod takedown;

use std::{path::Path, sync::Mutex, time::Duration};

use crossbeam_channel::bounded;
use tempfile::TempDir;

use super::{
    event::{Imported, Upstream},
    *,
};
use crate::{
    atproto::{
        crypto::PublicKey,
        datetime,
        envelope::{Body, Event as Parsed, Message},
        prove::Workspace,
    },
    limits::{BATCH_EVENTS_MAX, FRAME_BYTES_MAX, INBOX_HOST_EVENTS_MAX},
    sim::{account::Account as Person, event},
    store::{Options, account::Status},
    threads::{self, Role, stop_pair},
};

const HOME: HostId = HostId(1);
const AWAY: HostId = HostId(2);

/// A sequencer that works when it is told to, and what it has published.
struct Fixture {
    store: Arc<Store>,
    sequencer: Sequencer,
    inbox: Inbox,
    metrics: Arc<Metrics>,
    published: Arc<Mutex<Vec<Frame>>>,
    takedowns: Arc<Mutex<Rulings>>,
}

/// What the sequencer says of takedowns.
type Rulings = Vec<(Did, Option<Takedown>)>;

impl Fixture {
    fn open(dir: &Path) -> Fixture {
        let options = Options {
            cache_bytes: 1 << 20,
            events_buffer_bytes: 64 << 10,
            other_buffer_bytes: 64 << 10,
            ..Options::default()
        };
        let store = Arc::new(Store::open(dir, options).unwrap());
        let metrics = Arc::new(Metrics::default());
        let published: Arc<Mutex<Vec<Frame>>> = Arc::default();
        let takedowns: Arc<Mutex<Rulings>> = Arc::default();
        let (sink, durable) = (published.clone(), store.clone());
        let taken = takedowns.clone();
        let publish = Box::new(move |new: Publication| {
            // Nothing is visible before it is stored.
            let is_stored = |frame: &Frame| frame.seq.get() <= durable.last_seq();
            assert!(new.frames.iter().all(is_stored));
            sink.lock().unwrap().extend(new.frames);
            taken.lock().unwrap().extend(new.takedowns);
        });
        let (sequencer, inbox) = Sequencer::new(store.clone(), publish, metrics.clone()).unwrap();
        Fixture {
            store,
            sequencer,
            inbox,
            metrics,
            published,
            takedowns,
        }
    }

    /// Everything that waits, in as many batches as it takes.
    fn work(&mut self) {
        loop {
            let first = self.sequencer.outbox.next();
            let sequencer = &self.sequencer;
            if first.is_none() && !sequencer.rooms.has_work() && sequencer.writing.is_none() {
                break;
            }
            self.sequencer.work(first).unwrap();
        }
        assert_eq!(self.metrics.inbox_bytes.get(), 0);
    }

    fn send(&self, event: Event) {
        self.inbox.send(Input::Event(Box::new(event))).unwrap();
    }

    fn sequence(&mut self, event: Event) {
        self.send(event);
        self.work();
    }

    fn seqs(&self) -> Vec<u64> {
        let frames = self.published.lock().unwrap();
        frames.iter().map(|frame| frame.seq.get()).collect()
    }

    fn last(&self) -> Frame {
        self.published.lock().unwrap().last().unwrap().clone()
    }

    fn account(&self, person: &Person) -> Account {
        self.store.account(&did(person)).unwrap().unwrap()
    }

    fn host(&self, host: HostId) -> HostRecord {
        self.store.host(host).unwrap().unwrap_or_default()
    }

    /// The operator's word on an account, and what became of it.
    fn rule(&mut self, person: &Person, ruling: Ruling) -> Ruled {
        let (done, ruled) = bounded(1);
        let did = did(person);
        self.inbox.send(Input::Rule { did, ruling, done }).unwrap();
        assert!(ruled.try_recv().is_err(), "not before it is stored");
        self.work();
        ruled.try_recv().unwrap()
    }

    /// The last frame, which is an `#account`: its seq, and what it says.
    fn told(&self) -> (u64, Status) {
        let frame = self.last();
        let told = parse(payload(&frame));
        assert_eq!(told.seq, frame.seq);
        let Body::Account { active, status } = told.body else {
            panic!("{told:?}");
        };
        let reason = status.map(Into::into);
        (told.seq.get(), Status { active, reason })
    }

    /// What was published is what the store has, seqs without a gap.
    fn check(&self) {
        let published = self.published.lock().unwrap();
        let mut stored = Vec::new();
        self.store
            .read_after(0, 64 << 20, usize::MAX, &mut stored)
            .unwrap();
        let own = published.len().min(stored.len());
        let stored = &stored[stored.len() - own..];
        for (a, b) in published.iter().zip(stored) {
            assert_eq!((a.seq, &a.bytes), (b.seq, &b.bytes));
        }
        for pair in stored.windows(2) {
            assert_eq!(pair[1].seq.get(), pair[0].seq.get() + 1);
        }
    }

    fn close(self) {
        self.check();
        self.store.close().unwrap();
    }
}

fn person(seed: u64) -> Person {
    Person::random(&mut fastrand::Rng::with_seed(seed), 0)
}

fn did(person: &Person) -> Did {
    Did::parse(person.did()).unwrap()
}

fn parse(frame: &[u8]) -> Parsed<'_> {
    match Message::parse(frame).unwrap() {
        Message::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

/// An event of `person` as its host's thread hands it on.
fn proven(person: &Person, event: &event::Event, upstream_seq: u64) -> Event {
    let frame = event.frame(upstream_seq);
    let parsed = parse(&frame);
    let key = PublicKey::from_multikey(&person.key.multikey()).unwrap();
    let mut workspace = Workspace::new();
    let kind = match &parsed.body {
        Body::Commit(message) => Kind::Commit(
            workspace
                .prove_commit(&frame, parsed.did, message, &key, false)
                .unwrap(),
        ),
        Body::Sync(message) => Kind::Sync(
            workspace
                .prove_sync(&frame, parsed.did, message, &key)
                .unwrap(),
        ),
        Body::Identity { .. } => Kind::Identity,
        Body::Account { active, status } => Kind::Account(Status {
            active: *active,
            reason: status.map(Into::into),
        }),
    };
    Event {
        host: HOME,
        upstream: Upstream {
            epoch: 0,
            seq: upstream_seq,
            cursor: upstream_seq,
        },
        did: did(person),
        authority_at: Some(10),
        kind,
        happened_ms: datetime::to_millis(parsed.time),
        seq_at: parsed.layout.seq.clone(),
        frame: frame[..].into(),
        stored: None,
    }
}

/// The same as the account's next host hands it on, by a newer document.
fn moved(person: &Person, event: &event::Event, upstream_seq: u64) -> Event {
    Event {
        host: AWAY,
        authority_at: Some(20),
        ..proven(person, event, upstream_seq)
    }
}

/// The payload of a published frame.
fn payload(frame: &Frame) -> &[u8] {
    let len_len = match frame.bytes[1] {
        127 => 8,
        126 => 2,
        _ => 0,
    };
    assert_eq!(frame.bytes[0], 0x82, "one binary message");
    &frame.bytes[2 + len_len..]
}

#[test]
fn an_event_its_account_and_its_cursor_are_one_batch() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    let post = alice.post("one");
    let commit = alice.commit(&[post]);
    let events = [alice.identity(), alice.account(), commit.clone()];
    for (event, seq) in events.iter().zip([5, 6, 9]) {
        f.send(proven(&alice, event, seq));
    }
    assert!(f.metrics.inbox_bytes.get() > 0);
    f.work();
    assert_eq!(f.metrics.batches.get(), 1);
    assert_eq!(f.seqs(), [1, 2, 3]);
    assert_eq!(payload(&f.last()), &commit.frame(3)[..]);
    let account = f.account(&alice);
    let head = account.head.unwrap();
    assert_eq!(Some((head.commit, head.rev)), alice.head());
    assert_eq!((account.ordinal, account.host), (1, HOME));
    let record = f.host(HOME);
    assert_eq!((record.cursor, record.accounts), (9, 1));
    assert_eq!(f.store.counters().accounts, 1);
    assert_eq!(f.metrics.accounts.get(), 1);
    f.close();
}

#[test]
fn events_of_one_batch_see_each_other() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut alice = person(1);
    for n in 1..=4 {
        let post = alice.post("more");
        let commit = alice.commit(&[post]);
        f.send(proven(&alice, &commit, n));
    }
    let stale = proven(&alice, &alice.sync().unwrap(), 5);
    f.send(stale);
    let mut gone = alice.clone();
    gone.status = Some("deactivated");
    f.send(proven(&gone, &gone.account(), 6));
    let post = alice.post("too late");
    let late = alice.commit(&[post]);
    f.send(proven(&alice, &late, 7));
    f.work();
    assert_eq!(f.metrics.batches.get(), 1);
    assert_eq!(f.seqs(), [1, 2, 3, 4, 5]);
    assert_eq!(f.metrics.discontinuous.get(), 0);
    assert_eq!(f.metrics.rejected.get(Reject::RevStale), 1);
    assert_eq!(f.metrics.rejected.get(Reject::AccountInactive), 1);
    // What is refused is processed all the same.
    assert_eq!(f.host(HOME).cursor, 7);
    assert_eq!(f.host(HOME).accounts, 1);
    f.close();
}

#[test]
fn what_arrives_twice_is_published_once_and_seqs_have_no_gap() {
    let dir = TempDir::new().unwrap();
    let mut alice = person(1);
    let post = alice.post("one");
    let first = alice.commit(&[post]);
    let post = alice.post("two");
    let second = alice.commit(&[post]);
    let identity = alice.identity();
    let mut f = Fixture::open(dir.path());
    f.sequence(proven(&alice, &identity, 1));
    f.sequence(proven(&alice, &first, 2));
    f.sequence(proven(&alice, &first, 2));
    f.sequence(proven(&alice, &identity, 1));
    // Under another upstream seq only the revision tells.
    f.sequence(proven(&alice, &first, 3));
    assert_eq!(f.seqs(), [1, 2]);
    f.close();
    // The same after a restart that reads a little again.
    let mut f = Fixture::open(dir.path());
    assert_eq!(f.metrics.last_seq.get(), 2);
    f.sequence(proven(&alice, &identity, 1));
    f.sequence(proven(&alice, &first, 2));
    f.sequence(proven(&alice, &second, 4));
    assert_eq!(f.seqs(), [3]);
    assert_eq!(f.metrics.rejected.get(Reject::Duplicate), 2);
    assert_eq!(f.metrics.discontinuous.get(), 0);
    let record = f.host(HOME);
    assert_eq!((record.cursor, record.accounts), (4, 1));
    f.close();
}

#[test]
fn a_crash_between_two_batches_loses_and_repeats_nothing() {
    let dir = TempDir::new().unwrap();
    let mut people: Vec<Person> = (0..5).map(person).collect();
    let mut stream: Vec<(usize, event::Event)> = Vec::new();
    for n in 0..60 {
        let who = n % people.len();
        let post = people[who].post("post");
        stream.push((who, people[who].commit(&[post])));
    }
    let mut seen = Vec::new();
    let mut from = 0;
    // Each life is cut off without a word; the next one begins at the stored cursor.
    for life in 1..=6 {
        let mut f = Fixture::open(dir.path());
        for (n, (who, event)) in stream.iter().enumerate().skip(from).take(life * 4) {
            f.sequence(proven(&people[*who], event, n as u64 + 1));
        }
        seen.extend(f.published.lock().unwrap().drain(..));
        from = f.host(HOME).cursor as usize;
        // A host may start a little earlier than it was asked to.
        from = from.saturating_sub(3);
    }
    for ((n, (_, event)), frame) in stream.iter().enumerate().zip(&seen) {
        assert_eq!(frame.seq.get(), n as u64 + 1);
        assert_eq!(payload(frame), &event.frame(n as u64 + 1)[..]);
    }
    assert!(seen.len() > 50, "{}", seen.len());
}

#[test]
fn a_host_whose_stream_starts_anew_has_a_new_epoch() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 900));
    let (done, epoch) = bounded(1);
    f.inbox.send(Input::Restart { host: HOME, done }).unwrap();
    assert!(epoch.try_recv().is_err(), "not before it is stored");
    f.work();
    assert_eq!(epoch.recv(), Ok(1));
    let record = f.host(HOME);
    assert_eq!((record.epoch, record.cursor, record.accounts), (1, 0, 1));
    // A straggler of the old epoch is judged, and moves no cursor.
    f.sequence(proven(&alice, &alice.account(), 901));
    f.inbox
        .send(Input::Progress {
            host: HOME,
            epoch: 0,
            cursor: 950,
        })
        .unwrap();
    f.work();
    assert_eq!(f.host(HOME).cursor, 0);
    // Low seqs of the new one are no duplicates.
    for seq in [1, 2] {
        let mut event = proven(&alice, &alice.identity(), seq);
        event.upstream.epoch = 1;
        f.sequence(event);
    }
    assert_eq!(f.seqs(), [1, 2, 3, 4]);
    assert_eq!(f.host(HOME).cursor, 2);
    f.close();
}

#[test]
fn a_cursor_never_goes_back() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (alice, bob) = (person(1), person(2));
    let progress = |cursor| Input::Progress {
        host: HOME,
        epoch: 0,
        cursor,
    };
    f.inbox.send(progress(10)).unwrap();
    // The event came late: it had waited, and what followed it had not.
    let mut late = proven(&alice, &alice.identity(), 4);
    late.upstream.cursor = 3;
    f.send(late);
    f.send(proven(&bob, &bob.identity(), 12));
    f.inbox.send(progress(11)).unwrap();
    f.work();
    assert_eq!(f.host(HOME).cursor, 12);
    assert_eq!(f.seqs(), [1, 2]);
    f.close();
}

/// Rules 149, 159: <https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/sync/listHosts.json>
#[test]
fn accounts_are_counted_where_they_are() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let people: Vec<Person> = (0..3).map(person).collect();
    for (n, person) in people.iter().enumerate() {
        f.send(proven(person, &person.identity(), n as u64 + 1));
    }
    f.work();
    let mut moved = proven(&people[0], &people[0].account(), 1);
    moved.host = AWAY;
    moved.authority_at = Some(20);
    f.sequence(moved);
    // Somebody else's word about an account that nobody knows makes none.
    let stranger = person(9);
    let mut foreign = proven(&stranger, &stranger.identity(), 2);
    foreign.host = AWAY;
    foreign.authority_at = None;
    f.sequence(foreign);
    assert_eq!(f.seqs(), [1, 2, 3, 4, 5]);
    assert_eq!((f.host(HOME).accounts, f.host(AWAY).accounts), (2, 1));
    assert_eq!(f.store.counters().accounts, 3);
    assert_eq!(f.store.account(&did(&stranger)).unwrap(), None);
    let ordered = f.store.accounts_after(0, 10).unwrap();
    let names: Vec<_> = ordered.iter().map(|entry| entry.did.to_string()).collect();
    assert_eq!(
        names,
        people
            .iter()
            .map(|p| p.did().to_string())
            .collect::<Vec<_>>()
    );
    f.close();
}

/// Rule 143: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn subscribers_are_told_the_status_that_counts_here() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    f.sequence(proven(&alice, &alice.identity(), 1));
    assert_eq!(f.rule(&alice, Ruling::Takedown), Ruled::Holds);
    let mut deactivated = alice.clone();
    deactivated.status = Some("deactivated");
    for (seq, said) in [(3, alice.account()), (4, deactivated.account())] {
        f.sequence(proven(&alice, &said, seq));
        assert_eq!(f.told(), (seq, Status::inactive("takendown")));
    }
    assert_eq!(
        f.account(&alice).upstream.reason.as_deref(),
        Some("deactivated")
    );
    f.close();
}

#[test]
fn a_frame_that_grows_over_the_limit_is_refused_and_passed() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    let mut event = proven(&alice, &alice.identity(), 7);
    let mut frame = event.frame.to_vec();
    frame.resize(FRAME_BYTES_MAX + 1, 0);
    event.frame = frame.into();
    f.sequence(event);
    assert_eq!(f.seqs(), [0u64; 0]);
    assert_eq!(f.host(HOME).cursor, 7);
    assert_eq!(f.store.account(&did(&alice)).unwrap(), None);
    assert_eq!(f.store.counters().accounts, 0);
    f.sequence(proven(&alice, &alice.identity(), 8));
    assert_eq!(f.seqs(), [1]);
    f.close();
}

#[test]
fn batches_are_bounded() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    let count = BATCH_EVENTS_MAX as u64 + 10;
    for seq in 1..=count {
        f.send(proven(&alice, &alice.identity(), seq));
    }
    f.work();
    assert_eq!(f.metrics.batches.get(), 2);
    assert_eq!(f.seqs(), (1..=count).collect::<Vec<_>>());
    f.close();
}

#[test]
fn a_stop_comes_after_what_waits() {
    let dir = TempDir::new().unwrap();
    let f = Fixture::open(dir.path());
    let alice = person(1);
    for seq in 1..=200 {
        f.send(proven(&alice, &alice.identity(), seq));
    }
    let (stopper, stop) = stop_pair();
    let Fixture {
        sequencer,
        store,
        published,
        inbox,
        ..
    } = f;
    drop(stopper);
    let body = move || sequencer.run(&stop).unwrap();
    drop(threads::spawn(Role::Simulator, "test", 1 << 20, body).unwrap());
    assert_eq!(published.lock().unwrap().len(), 200);
    assert_eq!(store.last_seq(), 200);
    let progress = Input::Progress {
        host: HOME,
        epoch: 0,
        cursor: 1,
    };
    assert_eq!(inbox.send(progress), Err(Closed));
}

#[test]
fn a_full_inbox_makes_senders_wait_and_lets_them_go() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let alice = person(1);
    let large = |seq: u64| {
        let mut event = proven(&alice, &alice.identity(), seq);
        let mut frame = event.frame.to_vec();
        frame.resize(4_000_000, 0);
        event.frame = frame.into();
        event
    };
    let (sent, sends) = bounded(100);
    let inbox = f.inbox.clone();
    let events: Vec<Event> = (1..=20).map(large).collect();
    let body = move || {
        for event in events {
            inbox.send(Input::Event(Box::new(event))).unwrap();
            sent.send(()).unwrap();
        }
    };
    let sender = threads::spawn(Role::Simulator, "test", 1 << 20, body).unwrap();
    // 64 MB hold 17 of them, and no more whatever the time.
    for _ in 0..17 {
        sends.recv().unwrap();
    }
    assert!(sends.recv_timeout(Duration::from_millis(50)).is_err());
    while f.seqs().len() < 20 {
        f.work_some();
    }
    drop(sender);
    f.work();
    f.close();
}

/// Who floods waits for its own events only, and nobody waits for them.
#[test]
fn a_host_has_its_share_of_the_inbox_and_others_find_room() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let (alice, bob) = (person(1), person(2));
    let event = |of: &Person, seq: u64| {
        let event = proven(of, &of.identity(), seq);
        Input::Event(Box::new(event))
    };
    let of_other = |seq| {
        let mut event = proven(&bob, &bob.identity(), seq);
        event.host = AWAY;
        Input::Event(Box::new(event))
    };
    let (sent, sends) = bounded(2 * INBOX_HOST_EVENTS_MAX);
    let inbox = f.inbox.clone();
    let events: Vec<Input> = (1..=INBOX_HOST_EVENTS_MAX as u64 + 5)
        .map(|seq| event(&alice, seq))
        .collect();
    let body = move || {
        for event in events {
            inbox.send_of_host(event).unwrap();
            sent.send(()).unwrap();
        }
    };
    let flood = threads::spawn(Role::Simulator, "test", 1 << 20, body).unwrap();
    for _ in 0..INBOX_HOST_EVENTS_MAX {
        sends.recv().unwrap();
    }
    assert!(sends.recv_timeout(Duration::from_millis(50)).is_err());
    assert_eq!(f.metrics.inbox_full.get(), 0);
    // Another host, and a thread that works for all.
    f.inbox.send_of_host(of_other(1)).unwrap();
    f.inbox.send(event(&person(3), 1_000)).unwrap();
    while f.seqs().len() < INBOX_HOST_EVENTS_MAX + 7 {
        f.work_some();
    }
    drop(flood);
    assert_eq!(f.metrics.inbox_events.get(), 0);
    f.close();
}

impl Fixture {
    /// What waits now, while somebody may still be sending.
    fn work_some(&mut self) {
        let outbox = &mut self.sequencer.outbox;
        let mut first = outbox.next();
        if first.is_none() && self.sequencer.writing.is_none() {
            first = outbox.receiver.recv().ok();
        }
        self.sequencer.work(first).unwrap();
    }
}
