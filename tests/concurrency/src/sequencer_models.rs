//! Hosts, the inbox, and a sequencer that only notes what it is given.

use std::sync::Arc;

use crossbeam_channel::select;
use loom::thread::{self, JoinHandle};

use super::{
    event::{Event, Import, Imported, Input},
    inbox::{Closed, Inbox, Outbox, Taken},
};
use crate::{
    every_order,
    metrics::Metrics,
    store::account::HostId,
    threads::{Stop, stop_pair},
};

/// As `Sequencer::run` and `work`, with batches of at most `batch` messages.
fn run(outbox: &mut Outbox, stop: &Stop, batch: usize) -> Vec<(u32, u64)> {
    let mut sequenced = Vec::new();
    loop {
        let first = outbox.next().or_else(|| {
            select! {
                recv(outbox.receiver) -> input => input.ok(),
                recv(stop.channel()) -> _ => outbox.receiver.try_recv().ok(),
            }
        });
        let Some(first) = first else {
            return sequenced;
        };
        let (mut next, mut taken, mut count) = (Some(first), Taken::default(), 0);
        let mut replies = Vec::new();
        while let Some(input) = next {
            taken.add(&input);
            count += 1;
            match input {
                Input::Event(event) => sequenced.push((event.host.0, event.number)),
                Input::Progress { .. } => {}
                Input::Import { done, .. } => replies.push(done),
            }
            next = match count < batch {
                true => outbox.next(),
                false => None,
            };
        }
        outbox.budget.release(taken);
        for done in replies {
            let _ = done.send(Imported);
        }
    }
}

fn sequencer(mut outbox: Outbox, stop: Stop, batch: usize) -> JoinHandle<Vec<(u32, u64)>> {
    thread::spawn(move || run(&mut outbox, &stop, batch))
}

fn event(host: u32, number: u64) -> Input {
    let host = HostId(host);
    Input::Event(Event { host, number })
}

/// A host's thread, which waits for its share; or a resolver's, which does not.
fn sender(inbox: &Inbox, host: u32, events: u64, fair: bool) -> JoinHandle<()> {
    let inbox = inbox.clone();
    thread::spawn(move || {
        for number in 0..events {
            let sent = match fair {
                true => inbox.send_of_host(event(host, number)),
                false => inbox.send(event(host, number)),
            };
            assert_eq!(sent, Ok(()));
        }
    })
}

/// Two senders have as much as there is room for, and more, and the stop comes when they have ended: nobody waits for
/// ever, nothing is lost, and what is of one of them stays in order.
pub fn a_full_inbox_loses_nothing_and_lets_everybody_go_on() {
    every_order(2, || nothing_is_lost(false));
}

/// The same where each waits for its host's share, too.
pub fn who_has_its_share_waits_and_goes_on() {
    every_order(2, || nothing_is_lost(true));
}

fn nothing_is_lost(fair: bool) {
    let (inbox, outbox) = Inbox::new(Arc::new(Metrics::default()));
    let (stopper, stop) = stop_pair();
    let sequencer = sequencer(outbox, stop, 2);
    let senders = [sender(&inbox, 0, 2, fair), sender(&inbox, 1, 1, fair)];
    for sender in senders {
        sender.join().unwrap();
    }
    drop(stopper);
    let sequenced = sequencer.join().unwrap();
    let of = |host| -> Vec<u64> {
        let of = sequenced.iter().filter(|(from, _)| *from == host);
        of.map(|(_, number)| *number).collect()
    };
    assert_eq!((of(0), of(1)), (vec![0, 1], vec![0]));
    assert_eq!(sequenced.len(), 3);
}

/// A disk that is full at the stop: whoever waits for room, or comes later, is told that there will be none,
/// and does not wait for ever.
pub fn who_waits_for_room_is_told_that_there_will_be_none() {
    every_order(3, || {
        let (inbox, outbox) = Inbox::new(Arc::new(Metrics::default()));
        let senders = [0, 1].map(|host| {
            let inbox = inbox.clone();
            thread::spawn(move || {
                let sent = (0..3).map(|number| inbox.send_of_host(event(host, number)));
                sent.take_while(Result::is_ok).count()
            })
        });
        outbox.budget.close();
        let sent: usize = senders.map(|sender| sender.join().unwrap()).iter().sum();
        assert!(sent <= 2, "there is room for two");
        let mut outbox = outbox;
        let left = std::iter::from_fn(|| outbox.next()).count();
        assert_eq!(left, sent);
        assert_eq!(inbox.send(event(2, 0)), Err(Closed));
    });
}

/// Who waits for an answer gets it, or learns that the sequencer has ended.
pub fn who_asks_is_answered_or_told_that_nobody_is_there() {
    every_order(3, || {
        let (inbox, outbox) = Inbox::new(Arc::new(Metrics::default()));
        let (stopper, stop) = stop_pair();
        let sequencer = sequencer(outbox, stop, 2);
        let asker = inbox.clone();
        let asker =
            thread::spawn(move || matches!(asker.import(Import), Ok(Imported) | Err(Closed)));
        drop(stopper);
        assert!(asker.join().unwrap());
        sequencer.join().unwrap();
    });
}
