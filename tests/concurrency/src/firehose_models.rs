//! A stream, its ticker and its subscribers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded};
use loom::thread::{self, JoinHandle};

use super::{
    Frame, Seq, Timing,
    registry::{Registration, Registry},
    ring::{Answer, Ring},
    ticker,
};
use crate::{
    every_order,
    threads::{Stop, Stopper, stop_pair},
};

/// The bytes of each frame.
const LEN: usize = 10;

struct Stream {
    ring: Ring,
    registry: Arc<Registry>,
    news: Sender<()>,
    stop: Stop,
}

impl Stream {
    fn new(frames: usize) -> (Arc<Stream>, Stopper, Receiver<()>) {
        let (news, heard) = bounded(1);
        let (stopper, stop) = stop_pair();
        let stream = Stream {
            ring: Ring::new(frames * LEN, 0),
            registry: Arc::new(Registry::default()),
            news,
            stop,
        };
        (Arc::new(stream), stopper, heard)
    }

    /// As `Firehose::publish`.
    fn publish(&self, seqs: std::ops::RangeInclusive<u64>) {
        let frame = |seq| Frame {
            seq: Seq(seq),
            bytes: vec![0; LEN].into(),
        };
        self.ring.push(seqs.map(frame).collect());
        let _ = self.news.try_send(());
    }

    fn register(&self) -> Registration {
        let peer = "192.0.2.1:5".parse().unwrap();
        self.registry.register(peer, String::new()).unwrap()
    }

    fn tick(self: &Arc<Self>, heard: Receiver<()>) -> JoinHandle<()> {
        let stream = self.clone();
        let timing = Timing {
            close_timeout: Duration::from_secs(1 << 20),
            ..Timing::default()
        };
        thread::spawn(move || ticker::tick(&stream.registry, &heard, &stream.stop, &timing))
    }

    /// A subscriber as `Subscriber::stream`, without a socket: until it has seen `last`, or is told to end.
    fn follow(self: &Arc<Self>, registration: Registration, last: u64) -> JoinHandle<Vec<u64>> {
        let stream = self.clone();
        thread::spawn(move || {
            let (entry, mut seen) = (&registration.entry, Vec::new());
            while !stream.stop.requested() && !entry.is_dismissed() {
                let position = seen.last().copied().unwrap_or(0);
                if position == last {
                    break;
                }
                let mut page = VecDeque::new();
                match stream.ring.read_after(position, 9, usize::MAX, &mut page) {
                    Answer::Frames => seen.extend(page.iter().map(|frame| frame.seq.get())),
                    // The store has it.
                    Answer::Behind => seen.extend(position + 1..=stream.ring.after()),
                    Answer::CaughtUp => {
                        if entry.falls_asleep(|| stream.ring.head() > position) {
                            entry.bell.wait();
                            entry.wake_up();
                        }
                    }
                }
            }
            seen
        })
    }
}

/// However a reader falls asleep while frames are published, it is woken for each: none is missed, and
/// none comes twice or out of order, also where the ring is too small for what it has not read.
pub fn who_sleeps_hears_of_every_frame() {
    for frames in [1, 9] {
        let model: fn() = match frames {
            1 => || frames_reach_a_reader(1),
            _ => || frames_reach_a_reader(9),
        };
        every_order(3, model);
    }
}

fn frames_reach_a_reader(room: usize) {
    let (stream, stopper, heard) = Stream::new(room);
    let reader = stream.follow(stream.register(), 2);
    let ticker = stream.tick(heard);
    stream.publish(1..=1);
    stream.publish(2..=2);
    assert_eq!(reader.join().unwrap(), [1, 2]);
    drop(stopper);
    ticker.join().unwrap();
}

/// Two readers, one publication: both hear of it.
pub fn everybody_who_sleeps_is_woken() {
    every_order(2, || {
        let (stream, stopper, heard) = Stream::new(9);
        let readers = [(); 2].map(|()| stream.follow(stream.register(), 1));
        let ticker = stream.tick(heard);
        stream.publish(1..=1);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), [1]);
        }
        drop(stopper);
        ticker.join().unwrap();
    });
}

/// A reader that sleeps, or is about to, ends with the stop; so does the ticker, after it; and what it has
/// seen is a beginning of what was published.
pub fn the_stop_ends_everybody() {
    every_order(3, || {
        let (stream, stopper, heard) = Stream::new(9);
        let reader = stream.follow(stream.register(), u64::MAX);
        let ticker = stream.tick(heard);
        stream.publish(1..=2);
        drop(stopper);
        ticker.join().unwrap();
        let seen = reader.join().unwrap();
        assert!(seen.is_empty() || seen == [1, 2]);
    });
}

/// So does one that the operator sends away.
pub fn who_is_sent_away_wakes_for_it() {
    every_order(3, || {
        let (stream, stopper, heard) = Stream::new(9);
        let registration = stream.register();
        let id = registration.entry.id();
        let reader = stream.follow(registration, u64::MAX);
        let ticker = stream.tick(heard);
        assert!(stream.registry.dismiss(id));
        reader.join().unwrap();
        drop(stopper);
        ticker.join().unwrap();
    });
}

/// A read while frames come and go is whole: what follows, without a gap, or the word that it is gone.
pub fn reads_are_whole_and_memory_is_bounded() {
    every_order(3, || {
        let (stream, _stopper, _heard) = Stream::new(2);
        let writer = stream.clone();
        let writer = thread::spawn(move || {
            for seqs in [1..=1, 2..=3, 4..=4] {
                let frame = |seq| Frame {
                    seq: Seq(seq),
                    bytes: vec![0; LEN].into(),
                };
                let bytes = writer.ring.push(seqs.map(frame).collect());
                assert!(bytes <= 2 * LEN);
            }
        });
        let mut position = 0;
        for _ in 0..2 {
            // What was published before the read is in it.
            let head = stream.ring.head();
            let mut page = VecDeque::new();
            match stream.ring.read_after(position, 9, usize::MAX, &mut page) {
                Answer::Frames => {
                    let seqs: Vec<u64> = page.iter().map(|frame| frame.seq.get()).collect();
                    let last = seqs[seqs.len() - 1];
                    assert_eq!(seqs, (position + 1..=last).collect::<Vec<_>>());
                    assert!(last >= head);
                    position = last;
                }
                Answer::Behind => position = stream.ring.after(),
                Answer::CaughtUp => assert_eq!(position, head.max(position)),
            }
        }
        writer.join().unwrap();
    });
}
