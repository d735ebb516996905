//! A lane with a directory on loopback that answers, fails and changes its mind, and a test in the
//! place of the sequencer.

use std::{collections::BTreeSet, thread, time::Duration};

use clap::Parser;
use crossbeam_channel::Receiver;

use super::*;
use crate::{
    atproto::{cbor::Writer, hostname::Endpoint},
    config::Cli,
    control::{HostRow, Source, settings::Settings},
    host::policy::Policy,
    identity::Directory,
    metrics::Metrics,
    outbound::Outbound,
    sequencer::{Inbox, event::Kind},
    sim::{
        self, Network,
        account::Account,
        event,
        keys::{Curve, Key},
        plc::PlcFaults,
    },
    testing::wait_until,
    threads::{Stopper, Thread, stop_pair},
};

/// No answer takes this long.
const LONG: Duration = Duration::from_secs(30);
const HOST: HostId = HostId(7);

struct Fixture {
    lane: Arc<Lane>,
    position: Position,
    inputs: Receiver<Input>,
    metrics: Arc<Metrics>,
    network: Network,
    rng: fastrand::Rng,
    stopper: Option<Stopper>,
    resolvers: Vec<Thread>,
    /// The upstream seqs that were sent, or rejected, so far.
    done: BTreeSet<u64>,
    /// Those that were taken.
    taken: BTreeSet<u64>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stopper.take();
        self.resolvers.clear();
    }
}

impl Fixture {
    fn start() -> Fixture {
        let network = Network::start(&sim::Config::default()).unwrap();
        let url = network.plc_url();
        let flags = ["zlay", "--allow-private-hosts", "--plc-url", &url];
        let config = Cli::try_parse_from(flags).unwrap().config;
        let metrics = Arc::new(Metrics::default());
        let outbound = Outbound::new(&config).unwrap();
        let (stopper, stop) = stop_pair();
        let (directory, resolvers) =
            Directory::start(&config, outbound.clone(), metrics.clone(), stop.clone()).unwrap();
        let (inbox, inputs) = Inbox::with_receiver(metrics.clone());
        let policy = Arc::new(Policy::new(&config, Settings::default()));
        let name = network.host(0).name();
        let row = HostRow::new(HOST, &Endpoint::parse(name).unwrap(), Source::Request, 0);
        let terms = Arc::new(policy.terms(&row));
        let shared = Shared::new(inbox, directory, outbound, metrics.clone(), stop, policy);
        Fixture {
            lane: Lane::new(shared, HOST, row.name, terms, 0, 0),
            position: Position::default(),
            inputs,
            metrics,
            network,
            rng: fastrand::Rng::with_seed(5),
            stopper: Some(stopper),
            resolvers,
            done: BTreeSet::new(),
            taken: BTreeSet::new(),
        }
    }

    /// A new account of `host`, in the directory.
    fn person(&mut self, host: usize) -> Account {
        let person = Account::random(&mut self.rng, host);
        self.network.register(&person);
        person
    }

    /// The same, and its document is in the cache.
    fn known(&mut self, seq: u64) -> Account {
        let person = self.person(0);
        self.take(&person.account(), seq);
        self.expect(seq);
        self.settle();
        person
    }

    fn directory_fails(&self, fail: bool) {
        self.network.plc().set_faults(PlcFaults {
            fail,
            ..PlcFaults::default()
        });
    }

    fn take(&mut self, event: &event::Event, seq: u64) {
        self.taken.insert(seq);
        let frame = self.lane.take(&event.frame(seq), &mut self.position);
        assert_eq!(frame, Frame::Event);
    }

    /// The next event that is handed on. No cursor is ahead of what is done.
    fn next(&mut self) -> Event {
        match self.inputs.recv_timeout(LONG).expect("an event") {
            Input::Event(event) => {
                self.done.insert(event.upstream.seq);
                if event.upstream.epoch == 0 {
                    self.check_cursor(event.upstream.cursor);
                }
                *event
            }
            other => panic!("{other:?}"),
        }
    }

    fn check_cursor(&self, cursor: u64) {
        let undone = self.taken.difference(&self.done).next();
        assert!(
            undone.is_none_or(|seq| cursor < *seq),
            "{cursor} {undone:?}"
        );
    }

    fn expect(&mut self, seq: u64) -> Event {
        let event = self.next();
        assert_eq!(event.upstream.seq, seq);
        event
    }

    /// Waits until so many events were rejected for this reason.
    fn rejected(&mut self, reject: Reject, count: u64, seq: u64) {
        wait_until("the rejections", || {
            self.metrics.rejected.get(reject) >= count
        });
        assert_eq!(self.metrics.rejected.get(reject), count);
        self.done.insert(seq);
    }

    /// Waits until nothing is parked and no lookup is under way.
    fn settle(&self) {
        wait_until("nothing waits", || {
            self.metrics.events_waiting.get() == 0 && self.metrics.identity_queue.get() == 0
        });
        let state = self.lane.lock();
        assert!(state.parked.is_empty() && state.seqs.is_empty());
        assert_eq!((state.events, state.bytes), (0, 0));
        assert_eq!(self.lane.shared.parked_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(self.metrics.parked_bytes.get(), 0);
    }

    /// What the lane tells of itself now.
    fn progress(&mut self) -> Option<(u32, u64)> {
        self.lane.report();
        match self.inputs.try_recv() {
            Ok(Input::Progress {
                host,
                epoch,
                cursor,
            }) => {
                assert_eq!(host, HOST);
                Some((epoch, cursor))
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }
}

fn post(person: &mut Account) -> event::Event {
    let post = person.post("a post");
    person.commit(&[post])
}

/// Rule 152: <https://atproto.com/specs/sync>
#[test]
fn an_account_waits_in_order_and_the_others_flow() {
    let mut f = Fixture::start();
    let mut bob = f.known(1);
    f.directory_fails(true);
    let mut alice = f.person(0);
    for seq in [10, 12, 14] {
        let commit = post(&mut alice);
        f.take(&commit, seq);
        let commit = post(&mut bob);
        f.take(&commit, seq + 1);
        // What waits holds the cursor back.
        assert_eq!(f.expect(seq + 1).upstream.cursor, 9);
    }
    assert_eq!(f.progress(), None, "bob's events have told it");
    assert_eq!(f.metrics.events_waiting.get(), 3);
    f.directory_fails(false);
    for (seq, cursor) in [(10, 11), (12, 13), (14, 15)] {
        let event = f.expect(seq);
        assert_eq!(event.upstream.cursor, cursor);
        assert_eq!(event.did.as_str(), &**alice.did());
        assert!(matches!(event.kind, Kind::Commit(_)));
    }
    f.settle();
    assert_eq!(f.progress(), None, "the last event has told it");
    let commit = post(&mut alice);
    f.take(&commit, 20);
    assert_eq!(f.expect(20).upstream.cursor, 20);
    assert_eq!(f.metrics.rejected.total(), 0);
}

#[test]
fn many_accounts_wait_and_no_cursor_passes_them() {
    let mut f = Fixture::start();
    f.directory_fails(true);
    let mut people: Vec<Account> = (0..20).map(|_| f.person(0)).collect();
    let mut expected: Vec<Vec<u64>> = vec![Vec::new(); people.len()];
    for seq in 1..=200 {
        let who = f.rng.usize(..people.len());
        let event = match f.rng.u8(..4) {
            0 => people[who].identity(),
            1 => people[who].account(),
            _ => post(&mut people[who]),
        };
        expected[who].push(seq);
        f.take(&event, seq);
    }
    f.directory_fails(false);
    let mut seen: Vec<Vec<u64>> = vec![Vec::new(); people.len()];
    for _ in 1..=200 {
        let event = f.next();
        let who = people.iter().position(|p| **p.did() == *event.did.as_str());
        seen[who.unwrap()].push(event.upstream.seq);
    }
    assert_eq!(seen, expected);
    f.settle();
    assert_eq!(f.metrics.rejected.total(), 0);
    let told = f.progress();
    assert!(told.is_none() || told == Some((0, 200)));
}

/// Rules 128, 129: <https://atproto.com/specs/sync>
#[test]
fn a_new_key_is_found_without_being_told() {
    let mut f = Fixture::start();
    let mut alice = f.known(1);
    alice.key = Arc::new(Key::random(Curve::K256, &mut f.rng));
    f.network.register(&alice);
    let (first, second) = (post(&mut alice), post(&mut alice));
    f.take(&first, 2);
    f.take(&second, 3);
    f.expect(2);
    f.expect(3);
    f.settle();
    // That was the one refresh of this account for now: another bad signature asks nobody.
    let asked = f.network.plc().requests();
    let mut forged = alice.clone();
    forged.key = Arc::new(Key::random(Curve::K256, &mut f.rng));
    let forgery = post(&mut forged);
    f.take(&forgery, 4);
    f.rejected(Reject::SignatureInvalid, 1, 4);
    f.settle();
    assert_eq!(f.network.plc().requests(), asked);
    assert_eq!(f.progress(), Some((0, 4)));
    let commit = post(&mut alice);
    f.take(&commit, 5);
    assert_eq!(f.expect(5).upstream.cursor, 5);
}

#[test]
fn what_a_new_document_does_not_help_is_rejected() {
    let mut f = Fixture::start();
    let mut alice = f.known(1);
    let mut forged = alice.clone();
    forged.key = Arc::new(Key::random(Curve::K256, &mut f.rng));
    let (forgery, good) = (post(&mut forged), post(&mut alice));
    f.take(&forgery, 2);
    f.take(&good, 3);
    f.expect_after_reject(Reject::SignatureInvalid, 2, 3);
    f.settle();
    assert_eq!(f.lane.read(), 3);
}

impl Fixture {
    /// `seq` is rejected, and `next` comes.
    fn expect_after_reject(&mut self, reject: Reject, seq: u64, next: u64) {
        self.rejected(reject, 1, seq);
        self.expect(next);
    }
}

/// Rule 130: <https://atproto.com/specs/sync>
#[test]
fn a_stranger_may_only_say_that_an_identity_has_changed() {
    let mut f = Fixture::start();
    let mut stranger = f.person(1);
    f.take(&stranger.account(), 1);
    f.rejected(Reject::WrongHost, 1, 1);
    let commit = post(&mut stranger);
    f.take(&commit, 2);
    f.rejected(Reject::WrongHost, 2, 2);
    f.take(&stranger.identity(), 3);
    let event = f.expect(3);
    assert_eq!((event.authority_at, event.kind), (None, Kind::Identity));
    let Ok(Message::Event(parsed)) = Message::parse(&event.frame) else {
        panic!("not an event");
    };
    assert!(matches!(parsed.body, Body::Identity { handle: None }));
    assert_eq!(parsed.layout.seq, event.seq_at);
    f.settle();
}

/// Rule 126: <https://atproto.com/specs/sync>
#[test]
fn a_handle_passes_where_the_document_claims_it() {
    let mut f = Fixture::start();
    let mut alice = f.person(0);
    let claimed = alice.identity();
    f.take(&claimed, 1);
    let event = f.expect(1);
    assert!(event.authority_at.is_some());
    assert_eq!(*event.frame, *claimed.frame(1));
    alice.handle = "somebody-else.test".into();
    f.take(&alice.identity(), 2);
    let event = f.expect(2);
    assert!(event.authority_at.is_some());
    assert!(!event.frame.windows(6).any(|w| w == b"handle"));
}

#[test]
fn without_a_document_nothing_but_identities_passes() {
    let mut f = Fixture::start();
    let mut nobody = Account::random(&mut f.rng, 0);
    f.take(&nobody.identity(), 1);
    assert_eq!(f.expect(1).authority_at, None);
    let commit = post(&mut nobody);
    f.take(&commit, 2);
    f.rejected(Reject::IdentityNotFound, 1, 2);
    f.settle();
    assert_eq!(f.progress(), Some((0, 2)));
    // It is registered now, and says so.
    f.network.register(&nobody);
    f.take(&nobody.identity(), 3);
    assert!(f.expect(3).authority_at.is_some());
    let commit = post(&mut nobody);
    f.take(&commit, 4);
    f.expect(4);
}

#[test]
fn a_restart_is_not_held_back_by_what_was_before() {
    let mut f = Fixture::start();
    let bob = f.known(1);
    f.directory_fails(true);
    let mut alice = f.person(0);
    let commit = post(&mut alice);
    f.take(&commit, 100);
    f.lane.restart(1);
    f.position = Position::default();
    f.take(&bob.account(), 1);
    let event = f.expect(1);
    assert_eq!((event.upstream.epoch, event.upstream.cursor), (1, 1));
    // Something that is only passed over.
    f.take(&event::identity(&"did:PLC:x".into(), None, 0), 2);
    f.rejected(Reject::DidInvalid, 1, 2);
    f.directory_fails(false);
    let late = f.expect(100);
    assert_eq!(late.upstream.epoch, 0);
    f.settle();
    assert_eq!(
        f.progress(),
        Some((1, 2)),
        "the late one has told nothing of this epoch"
    );
}

#[test]
fn a_host_with_too_much_parked_is_not_read_until_some_of_it_leaves() {
    let mut f = Fixture::start();
    f.directory_fails(true);
    let people: Vec<Account> = (0..4).map(|_| f.person(0)).collect();
    let (lane, count) = (f.lane.clone(), HOST_PARKED_EVENTS_MAX as u64 + 50);
    let frames: Vec<_> = (1..=count)
        .map(|seq| people[seq as usize % 4].account().frame(seq))
        .collect();
    // Not joined where the test fails, as it would wait for ever then.
    let reader = thread::spawn(move || {
        let mut position = Position::default();
        for frame in frames {
            assert_eq!(lane.take(&frame, &mut position), Frame::Event);
        }
    });
    wait_until("as many wait as may", || {
        f.metrics.events_waiting.get() >= HOST_PARKED_EVENTS_MAX as u64
    });
    assert!(f.lane.is_full(&f.lane.lock()));
    f.directory_fails(false);
    let mut last = [0; 4];
    for _ in 1..=count {
        let seq = f.next().upstream.seq;
        assert!(last[seq as usize % 4] < seq);
        last[seq as usize % 4] = seq;
    }
    reader.join().unwrap();
    f.settle();
    assert_eq!(f.lane.read(), count);
}

#[test]
fn a_closed_lane_lets_its_reader_and_the_directory_go() {
    let mut f = Fixture::start();
    f.directory_fails(true);
    let alice = f.person(0);
    let (lane, count) = (f.lane.clone(), HOST_PARKED_EVENTS_MAX as u64 + 1);
    let frames: Vec<_> = (1..=count).map(|seq| alice.account().frame(seq)).collect();
    // Not joined where the test fails, as it would wait for ever then.
    let reader = thread::spawn(move || {
        let mut position = Position::default();
        for frame in frames {
            lane.take(&frame, &mut position);
        }
    });
    wait_until("as many wait as may", || {
        f.metrics.events_waiting.get() >= HOST_PARKED_EVENTS_MAX as u64
    });
    f.lane.close();
    reader.join().unwrap();
    // The directory still fails, and nobody waits for it any more.
    wait_until("no lookup is under way", || {
        f.metrics.identity_queue.get() == 0
    });
    assert!(
        f.inputs.try_recv().is_err(),
        "nothing was handed on unproven"
    );
    // All of it is asked for again.
    assert_eq!(f.progress(), None);
}

#[test]
fn all_hosts_together_park_no_more_than_the_memory_allows() {
    let f = Fixture::start();
    let parked = |host: usize, all: usize| {
        let state = State {
            bytes: host,
            ..State::default()
        };
        f.lane.shared.parked_bytes.store(all, Ordering::Relaxed);
        let full = f.lane.is_full(&state);
        f.lane.shared.parked_bytes.store(0, Ordering::Relaxed);
        full
    };
    assert!(!parked(HOST_PARKED_BYTES_MAX - 1, PARKED_BYTES_MAX - 1));
    assert!(parked(HOST_PARKED_BYTES_MAX, 0));
    assert!(parked(HOST_PARKED_BYTES_FAIR, PARKED_BYTES_MAX));
    // Everybody has a little room, or a few hosts could stop all others.
    assert!(!parked(HOST_PARKED_BYTES_FAIR - 1, usize::MAX));
}

#[test]
fn frames_are_told_apart() {
    let mut f = Fixture::start();
    let alice = f.known(10);
    let mut position = Position {
        cursor: Some(10),
        last: None,
    };
    let mut take = |frame: &[u8]| f.lane.take(frame, &mut position);
    let event = |seq| alice.account().frame(seq);
    assert_eq!(take(&event(9)), Frame::WentBack);
    assert_eq!(take(&event(10)), Frame::Event, "an inclusive host");
    assert_eq!(take(&event(12)), Frame::Event);
    assert_eq!(take(&event(12)), Frame::Event);
    assert_eq!(take(&event(11)), Frame::Event);
    assert_eq!(f.metrics.rejected.get(Reject::SeqNotIncreasing), 2);
    assert_eq!(take(&event::info("OutdatedCursor", "x\ny")), Frame::Ignored);
    assert_eq!(
        take(&event::error("Future\nCursor", "x")),
        Frame::Error("Future\\nCursor".into())
    );
    assert_eq!(take(&[0xa0]), Frame::Malformed);
    let mut other = Writer::append_to(event::header("#handle"));
    other.map(0);
    assert_eq!(take(&other.into_bytes()), Frame::Ignored);
    let mut poor = Writer::append_to(event::header("#account"));
    poor.map(1).text("seq").uint(13);
    assert_eq!(take(&poor.into_bytes()), Frame::Event);
    assert_eq!(f.metrics.rejected.get(Reject::SchemaInvalid), 1);
    assert_eq!(f.lane.read(), 12);
    let seqs: Vec<u64> = f
        .inputs
        .try_iter()
        .map(|input| match input {
            Input::Event(event) => event.upstream.seq,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(seqs, [10, 12]);
}

#[test]
fn a_lane_that_is_silenced_hands_nothing_on() {
    let mut fixture = Fixture::start();
    let person = fixture.known(1);
    fixture.lane.silence();
    fixture.take(&person.account(), 2);
    fixture.lane.report();
    assert!(fixture.inputs.try_recv().is_err());
}
