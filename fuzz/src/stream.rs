//! The stream of a relay, its ticker and its subscribers, without sockets and without a store behind it.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    Frame, Timing,
    registry::Registry,
    ring::{Answer, Ring},
    ticker,
};
use crate::{
    store::Store,
    threads::{Stop, Stopper, stop_pair},
};

pub(crate) struct Stream {
    ring: Ring,
    registry: Arc<Registry>,
    news: Sender<()>,
    stop: Stop,
    store: Arc<Store>,
}

impl Stream {
    /// A stream whose ring has room for so many bytes, what ends it, and its ticker.
    pub(crate) fn start(
        store: Arc<Store>,
        bytes_max: usize,
    ) -> (Arc<Stream>, Stopper, JoinHandle<()>) {
        let (news, heard) = bounded(1);
        let (stopper, stop) = stop_pair();
        let stream = Arc::new(Stream {
            ring: Ring::new(bytes_max, store.last_seq()),
            registry: Arc::default(),
            news,
            stop,
            store,
        });
        let ticking = stream.clone();
        let timing = Timing {
            wake_gather: Duration::from_micros(50),
            wake_gather_many: Duration::from_micros(100),
            wake_pause: Duration::from_micros(50),
            close_timeout: Duration::from_secs(60),
        };
        let body = move || ticker::tick(&ticking.registry, &heard, &ticking.stop, &timing);
        (stream, stopper, thread::spawn(body))
    }

    /// As `Firehose::publish`.
    pub(crate) fn publish(&self, frames: Vec<Frame>) {
        self.ring.push(frames);
        let _ = self.news.try_send(());
    }

    /// A subscriber from the beginning to the stop: what it has seen.
    pub(crate) fn follow(self: &Arc<Self>) -> JoinHandle<Vec<Frame>> {
        let stream = self.clone();
        let peer = "192.0.2.1:5".parse().expect("an address");
        let registered = stream.registry.register(peer, String::new());
        let registration = registered.expect("an eventfd");
        thread::spawn(move || {
            let (entry, mut seen) = (&registration.entry, Vec::<Frame>::new());
            loop {
                let stops = stream.stop.requested();
                let position = seen.last().map_or(0, |frame| frame.seq.get());
                let mut page = VecDeque::new();
                match stream.ring.read_after(position, 64, 1 << 16, &mut page) {
                    Answer::Frames => seen.extend(page),
                    Answer::Behind => stream.read_store(position, &mut seen),
                    Answer::CaughtUp if stops => return seen,
                    Answer::CaughtUp => {
                        if entry.falls_asleep(|| stream.ring.head() > position) {
                            let mut fds = [PollFd::new(&entry.bell, PollFlags::IN)];
                            // Without a limit of time: who is not woken fails the test.
                            let _ = poll(&mut fds, None);
                            entry.wake_up();
                        }
                    }
                }
            }
        })
    }

    fn read_store(&self, after: u64, seen: &mut Vec<Frame>) {
        let content = self.store.content();
        for (seq, bytes) in content.events.range(after + 1..).take(64) {
            let seq = crate::atproto::seq::Seq::new(*seq).expect("a seq");
            let bytes = bytes.clone();
            seen.push(Frame { seq, bytes });
        }
    }
}
