//! The relay's way of an event with real threads: hosts, the inbox, the sequencer, the ring, the ticker and
//! subscribers, to the stop in its order. For the thread sanitizer, and for whatever a model leaves out.

use std::{collections::BTreeMap, sync::Arc, thread};

use super::input::{Content, Said, What};
use crate::{
    atproto::envelope::Message,
    firehose::stream::Stream,
    metrics::Metrics,
    sequencer::{Publication, Sequencer, event::Input},
    store::Store,
    threads::stop_pair,
};

/// So many hosts send so many commits each, of two accounts; so many subscribers follow. Every commit is
/// stored and published once, in the order of its host, and every subscriber sees all of them.
///
/// # Panics
///
/// Where that is not so.
pub fn relay_under_load(hosts: usize, commits: u64, subscribers: usize, ring_bytes: usize) {
    let store = Arc::new(Store::default());
    let (stream, stream_stopper, ticker) = Stream::start(store.clone(), ring_bytes);
    let publishing = stream.clone();
    let publish = Box::new(move |new: Publication| publishing.publish(new.frames));
    let made = Sequencer::new(store.clone(), publish, Arc::new(Metrics::default()));
    let (sequencer, inbox) = made.expect("a sequencer");
    let (stopper, stop) = stop_pair();
    let sequencer = thread::spawn(move || sequencer.run(&stop).expect("a store that works"));
    let followers: Vec<_> = (0..subscribers).map(|_| stream.follow()).collect();
    let sending: Vec<_> = (0..hosts)
        .map(|host| {
            let inbox = inbox.clone();
            thread::spawn(move || {
                for n in 0..commits {
                    let event = commit(host, n).event();
                    inbox
                        .send(Input::Event(Box::new(event)))
                        .expect("a sequencer");
                }
            })
        })
        .collect();
    // As `Relay::stop`: each part drains what the one before has handed on.
    for host in sending {
        host.join().expect("a host");
    }
    drop((stopper, inbox));
    sequencer.join().expect("the sequencer");
    drop(stream_stopper);
    ticker.join().expect("the ticker");
    let total = hosts as u64 * commits;
    let stored: Vec<u64> = store.content().events.keys().copied().collect();
    assert_eq!(stored, (1..=total).collect::<Vec<_>>());
    for follower in followers {
        let seen = follower.join().expect("a subscriber");
        let mut last = BTreeMap::new();
        for (n, frame) in seen.iter().enumerate() {
            assert_eq!(frame.seq.get(), n as u64 + 1);
            assert_eq!(store.content().events[&frame.seq.get()], frame.bytes);
            let header = if frame.bytes[1] == 126 { 4 } else { 2 };
            let Ok(Message::Event(event)) = Message::parse(&frame.bytes[header..]) else {
                panic!("no frame");
            };
            let time = event.time.to_owned();
            let before = last.insert(event.did.to_owned(), time.clone());
            assert!(
                before.is_none_or(|before| before < time),
                "the order of an account"
            );
        }
        assert_eq!(seen.len() as u64, total);
    }
}

/// The commit `n` of a host, of one of its two accounts.
fn commit(host: usize, n: u64) -> Said {
    let round = n / 2;
    Said {
        id: n,
        host,
        did: 2 * host + (n % 2) as usize,
        epoch: 0,
        seq: n + 1,
        cursor: n + 1,
        authority: Some(1),
        what: What::Content(Content {
            is_commit: true,
            rev: round + 1,
            since: round.checked_sub(1).map(|before| before + 1),
            data: round + 1,
            prev: Some(round),
            legacy: false,
            touched: vec![(n as usize % 3, n % 5 != 0)],
        }),
        is_large: false,
    }
}
