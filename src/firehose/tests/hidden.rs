//! What subscribers are sent of accounts that are taken down.

use super::*;
use crate::{
    atproto::envelope::{Event, Message as Parsed},
    sim::{account::Account as Person, event},
    store::Takedown,
};

const AT_MS: u64 = 1_700_000_000_000;

/// Two accounts and what they publish in turn, from seq 1 on.
struct Stage {
    alice: Person,
    bob: Person,
    frames: Vec<Frame>,
}

impl Stage {
    fn new() -> Stage {
        let mut random = fastrand::Rng::with_seed(1);
        Stage {
            alice: Person::random(&mut random, 0),
            bob: Person::random(&mut random, 0),
            frames: Vec::new(),
        }
    }

    fn next(&mut self, event: &event::Event) {
        let seq = self.frames.len() as u64 + 1;
        let bytes = ws_message(&[&event.frame(seq)]);
        let seq = Seq::new(seq).unwrap();
        self.frames.push(Frame { seq, bytes });
    }

    /// So many commits of each.
    fn commits(&mut self, count: usize) {
        for _ in 0..count {
            let commit = |person: &mut Person| {
                let post = person.post("words that should not be seen");
                person.commit(&[post])
            };
            let (one, other) = (commit(&mut self.alice), commit(&mut self.bob));
            self.next(&one);
            self.next(&other);
        }
    }

    fn alice(&self) -> Did {
        Did::parse(self.alice.did()).unwrap()
    }

    /// What a subscriber must get where alice was taken down at this seq.
    fn expected(&self, down_at: u64) -> Vec<Frame> {
        let cover = |frame: &Frame| {
            let is_alice = event_of(frame).did == &**self.alice.did();
            if is_alice && frame.seq.get() < down_at {
                let status = Some("takendown");
                let account = event::account(self.alice.did(), status, AT_MS * 1_000);
                Frame {
                    seq: frame.seq,
                    bytes: ws_message(&[&account.frame(frame.seq.get())]),
                }
            } else {
                frame.clone()
            }
        };
        self.frames.iter().map(cover).collect()
    }
}

fn event_of(frame: &Frame) -> Event<'_> {
    let Ok(Parsed::Event(event)) = Parsed::parse(content(frame)) else {
        panic!("{frame:?}");
    };
    event
}

fn down(did: Did, seq: u64) -> Vec<(Did, Option<Takedown>)> {
    vec![(did, Some(Takedown { seq, at_ms: AT_MS }))]
}

/// Rule 143: <https://atproto.com/specs/account#hosting-status-propagation>
#[test]
fn what_was_published_before_a_takedown_is_hidden_wherever_it_is_read() {
    // Everything in the ring; pages of the store; a store that is read ahead.
    for (ring_bytes_max, page_bytes_max) in [(1 << 20, 1 << 20), (5_000, 1 << 20), (5_000, 3_000)] {
        let mut settings = settings();
        (settings.ring_bytes_max, settings.page_bytes_max) = (ring_bytes_max, page_bytes_max);
        let relay = Relay::new(settings);
        let mut stage = Stage::new();
        let identity = stage.alice.identity();
        stage.next(&identity);
        let word = stage.alice.account();
        stage.next(&word);
        stage.commits(40);
        let sync = stage.alice.sync().unwrap();
        stage.next(&sync);
        relay.emit_frames(&stage.frames);
        let mut live = relay.connect(Some("0"));
        live.expect_frames(&stage.frames);

        let down_at = stage.frames.len() as u64 + 1;
        relay.firehose.hide(down(stage.alice(), down_at));
        let told = event::account(stage.alice.did(), Some("takendown"), AT_MS * 1_000);
        stage.next(&told);
        // What comes of it later is no content, and is as it was said.
        let identity = stage.alice.identity();
        stage.next(&identity);
        relay.emit_frames(&stage.frames[down_at as usize - 1..]);
        live.expect_frames(&stage.frames[down_at as usize - 1..]);
        let expected = stage.expected(down_at);
        for cursor in ["0", "1", "30", "83", "84"] {
            let from = cursor.parse::<usize>().unwrap();
            relay.connect(Some(cursor)).expect_frames(&expected[from..]);
        }

        relay.firehose.hide(vec![(stage.alice(), None)]);
        relay.connect(Some("0")).expect_frames(&stage.frames);
    }
}

#[test]
fn what_was_read_ahead_before_a_takedown_is_hidden_too() {
    let mut settings = settings();
    (settings.ring_bytes_max, settings.page_bytes_max) = (5_000, 64 << 10);
    let relay = Relay::new(settings);
    let mut stage = Stage::new();
    stage.commits(3_000);
    relay.emit_frames(&stage.frames);
    let bytes: usize = stage.frames.iter().map(|frame| frame.bytes.len()).sum();
    assert!(bytes > 3 * limits::READ_AHEAD_PAGE_BYTES, "{bytes}");
    let mut client = relay.connect_narrow(Some("0"));
    let mut read = 0;
    while relay.metrics().replay_reads.get(Tier::Store) <= u64::from(limits::READ_AHEAD_AFTER_PAGES)
    {
        client.expect_frames(&stage.frames[read..=read]);
        read += 1;
    }
    let down_at = stage.frames.len() as u64 + 1;
    relay.firehose.hide(down(stage.alice(), down_at));
    // The page that was taken already may come as it is; then nothing of her does.
    let expected = stage.expected(down_at);
    let mut seen = 0;
    for (frame, covered) in stage.frames.iter().zip(&expected).skip(read) {
        let message = client.message();
        if seen == 0 && *message == *content(frame) {
            continue;
        }
        seen += 1;
        assert_eq!(*message, *content(covered), "seq {}", frame.seq);
    }
    assert!(seen > 1_000, "{seen}");
}

#[test]
fn a_takedown_hides_what_was_published_before_the_process_began() {
    let relay = Relay::new(settings());
    let mut stage = Stage::new();
    stage.commits(5);
    relay.emit_frames(&stage.frames);
    let mut batch = relay.store.batch();
    let at = |seq| Some(Takedown { seq, at_ms: AT_MS });
    batch.put_takedown(&stage.alice(), at(8));
    // Taken down where nothing of it had been published.
    batch.put_takedown(&Did::parse(stage.bob.did()).unwrap(), at(0));
    relay.store.commit(batch).unwrap();
    let hiding = relay.store.hiding().unwrap();
    assert_eq!(hiding, [(stage.alice(), at(8).unwrap())]);
    let (_stopper, stop) = stop_pair();
    let metrics = Arc::new(Metrics::default());
    let (firehose, _ticker) =
        Firehose::start(Arc::clone(&relay.store), metrics, settings(), stop).unwrap();
    let mut page = stage.frames.clone().into();
    firehose.hidden.cover(&mut page);
    for (got, expected) in page.iter().zip(stage.expected(8)) {
        assert_eq!((got.seq, &got.bytes), (expected.seq, &expected.bytes));
    }
    // It needs no place in memory once what it hides has left the window.
    relay.store.prune(8_000, None).unwrap();
    assert_eq!(relay.store.window().oldest, Some(8));
    assert_eq!(relay.store.hiding().unwrap(), []);
    drop(_stopper);
}

#[test]
fn a_takedown_is_remembered_while_anybody_may_be_sent_what_it_hides() {
    let mut settings = settings();
    settings.ring_bytes_max = 5_000;
    let relay = Relay::new(settings);
    let mut stage = Stage::new();
    stage.commits(20);
    relay.emit_frames(&stage.frames);
    let remembered = || {
        let mut page = stage.frames[..1].to_vec().into();
        relay.firehose.hidden.cover(&mut page);
        page[0].bytes != stage.frames[0].bytes
    };
    relay.firehose.hide(down(stage.alice(), 20));
    assert!(remembered());
    // A subscriber who is still at the beginning, though the window is not.
    let peer = "192.0.2.1:5".parse().unwrap();
    let slow = relay
        .firehose
        .registry
        .register(peer, String::new())
        .unwrap();
    relay.store.prune(30_000, None).unwrap();
    let other = Did::parse("did:web:other.example").unwrap();
    relay.firehose.hide(vec![(other.clone(), None)]);
    assert!(remembered());
    slow.entry
        .position
        .store(20, std::sync::atomic::Ordering::Relaxed);
    relay.firehose.hide(vec![(other, None)]);
    assert!(!remembered());
}
