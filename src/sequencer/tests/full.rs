//! The sequencer on a disk that has no room.

use super::*;
use crate::{
    store::Reserve,
    testing::wait_until,
    threads::{Stopper, Thread},
};

/// A sequencer at work that finds the disk full, whatever there is of it.
struct Held {
    inbox: Inbox,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    published: Arc<Mutex<Vec<Frame>>>,
    /// Of those who send.
    leaving: Stopper,
    stopper: Stopper,
    thread: Thread,
    ended: crossbeam_channel::Receiver<Result<(), SequencerError>>,
}

impl Held {
    fn of(mut fixture: Fixture, dir: &TempDir) -> Held {
        let (leaving, left) = stop_pair();
        let (stopper, stop) = stop_pair();
        let (done, ended) = bounded(1);
        let reserve = Reserve::new(dir.path(), Some(u64::MAX));
        fixture.sequencer.keep_free(reserve, left);
        let sequencer = fixture.sequencer;
        let body = move || done.send(sequencer.run(&stop)).unwrap();
        let thread = threads::spawn(Role::Sequencer, "", 1 << 20, body).unwrap();
        Held {
            inbox: fixture.inbox,
            store: fixture.store,
            metrics: fixture.metrics,
            published: fixture.published,
            leaving,
            stopper,
            thread,
            ended,
        }
    }

    /// Ends it; nothing of hosts was taken.
    fn end(self, published: usize, cursor: u64) {
        drop(self.leaving);
        drop(self.stopper);
        let ended = self.ended.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(ended.is_ok(), "{ended:?}");
        drop(self.thread);
        assert_eq!(self.published.lock().unwrap().len(), published);
        assert_eq!(self.store.last_seq(), published as u64);
        assert_eq!(self.store.host(HOME).unwrap().unwrap().cursor, cursor);
    }
}

#[test]
fn what_the_operator_decides_overtakes_what_waits_for_room() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut person = person(1);
    let first = person.commit(&[]);
    f.sequence(proven(&person, &first, 1));
    let second = person.commit(&[]);
    f.send(proven(&person, &second, 2));
    let held = Held::of(f, &dir);
    let progress = Input::Progress {
        host: HOME,
        epoch: 0,
        cursor: 7,
    };
    held.inbox.send(progress).unwrap();
    let within = Duration::from_secs(20);
    let rule = |ruling| {
        let did = did(&person);
        let question = |done| Input::Rule { did, ruling, done };
        held.inbox.ask(question, within)
    };
    assert_eq!(rule(Ruling::Takedown), Some(Ruled::Holds));
    assert_eq!(rule(Ruling::Reversal), Some(Ruled::Holds));
    held.inbox
        .send(Input::Ban {
            host: AWAY,
            banned: true,
        })
        .unwrap();
    let reached = held.inbox.ask(|done| Input::Reached { done }, within);
    assert_eq!(reached, Some(()));
    assert_eq!(held.metrics.disk_full.get(), 1);
    // The event and how far its host is read wait, in their order.
    assert_eq!(held.metrics.inbox_events.get(), 2);
    held.end(3, 1);
}

#[test]
fn who_waits_for_room_in_the_inbox_is_told_when_the_relay_stops() {
    let dir = TempDir::new().unwrap();
    let mut f = Fixture::open(dir.path());
    let mut person = person(1);
    let first = person.commit(&[]);
    f.sequence(proven(&person, &first, 1));
    let held = Held::of(f, &dir);
    // More of them than fit.
    let events: Vec<Event> = (2..27)
        .map(|seq| {
            let mut event = proven(&person, &person.identity(), seq);
            event.frame = vec![0; FRAME_BYTES_MAX].into();
            event
        })
        .collect();
    let count = events.len();
    let inbox = held.inbox.clone();
    let (told, sent) = bounded(count);
    let body = move || {
        for event in events {
            let done = inbox.send(Input::Event(Box::new(event)));
            told.send(done.is_ok()).unwrap();
        }
    };
    let sender = threads::spawn(Role::Simulator, "test", 1 << 20, body).unwrap();
    wait_until("not all of it fits", || {
        held.metrics.hosts_waiting.total() > 0
    });
    let before = sent.try_iter().count();
    assert!((1..count).contains(&before), "{before}");
    let Held { leaving, .. } = held;
    drop(leaving);
    drop(sender);
    // All others were refused, and none was let in behind one that was.
    let rest: Vec<bool> = sent.try_iter().collect();
    assert_eq!(rest.len(), count - before);
    assert!(rest.iter().all(|is_in| !is_in));
}
