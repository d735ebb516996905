//! What a host has to say, in order: its events, and what it does wrong between them.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tungstenite::Bytes;

use super::{event::Event, listen::Waker};

/// Bytes of events that were sent and are kept for replay, per host, unless it is told otherwise.
const BACKLOG_BYTES: usize = 4 << 20;
/// Events that were sent and are kept for replay, per host.
const BACKLOG_EVENTS: usize = 8_192;
/// Events not yet sent at which a host is congested.
const UNSENT_EVENTS_MAX: u64 = 1_024;
/// Ages of items are known to this part of the age at which they go.
const MARKS_EACH_AGE: u32 = 8;
/// The chance that a sequence number is skipped.
const GAP_CHANCE: f64 = 0.1;
/// The widest gap between two sequence numbers.
const GAP_MAX: u64 = 1_000;

/// Something that happens once, on whichever connection comes to it first, and never in a replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Once {
    /// A binary message, whatever it is.
    Binary(Bytes),
    /// A text message.
    Text(String),
    /// The connection ends without a farewell.
    Cut,
    /// A message is sent up to its middle, then the connection ends.
    CutInside(Bytes),
    /// A closing handshake.
    Close,
    /// Nothing is sent or read for so long.
    Stall(Duration),
}

/// An item of the feed.
#[derive(Clone, Debug)]
enum Item {
    Event(Bytes),
    Once(Option<Once>),
}

/// The next thing to do for a connection.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this message.
    Event(Bytes),
    /// Do this.
    Once(Once),
    /// Nothing until woken.
    Wait,
}

/// Where a new connection starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// At this position.
    At(u64),
    /// At this position, and something before it is gone.
    Outdated(u64),
    /// Nowhere: the cursor is ahead of the stream.
    Future,
}

/// Positions count items since the start of the simulation; sequence numbers are the protocol's.
#[derive(Debug)]
pub(crate) struct Feed {
    items: VecDeque<(u64, Item)>,
    first: u64,
    bytes: usize,
    backlog_bytes: usize,
    backlog_age: Option<Duration>,
    /// When some items ended, and where: what is older can be told by them.
    marks: VecDeque<(Instant, u64)>,
    /// The last sequence number.
    seq: u64,
    /// The last sequence number that left the backlog.
    evicted: u64,
    /// The furthest position that a connection has reached.
    sent: u64,
    rng: fastrand::Rng,
    connections: Vec<(u64, Waker)>,
    opened: u64,
}

impl Feed {
    pub(crate) fn new(seed: u64) -> Feed {
        Feed {
            items: VecDeque::new(),
            first: 0,
            bytes: 0,
            backlog_bytes: BACKLOG_BYTES,
            backlog_age: None,
            marks: VecDeque::new(),
            seq: 0,
            evicted: 0,
            sent: 0,
            rng: fastrand::Rng::with_seed(seed),
            connections: Vec::new(),
            opened: 0,
        }
    }

    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// The last sequence number.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    /// Connections that are open, and that ever were.
    pub(crate) fn connections(&self) -> (usize, u64) {
        (self.connections.len(), self.opened)
    }

    /// Whether events come faster than they are taken.
    pub(crate) fn is_congested(&self) -> bool {
        self.unsent() > UNSENT_EVENTS_MAX
    }

    /// Items that no connection has come to yet.
    pub(crate) fn unsent(&self) -> u64 {
        self.end() - self.sent
    }

    /// Keeps so many bytes of events that were sent, from now on.
    pub(crate) fn set_backlog_bytes(&mut self, bytes: usize) {
        self.backlog_bytes = bytes;
        self.trim();
    }

    /// Keeps events that were sent for so long, from now on.
    pub(crate) fn set_backlog_age(&mut self, age: Duration) {
        self.backlog_age = Some(age);
        self.trim();
    }

    /// Appends an event under the next sequence number.
    pub(crate) fn push(&mut self, event: &Event) -> u64 {
        let gap = if self.rng.f64() < GAP_CHANCE {
            self.rng.u64(1..=GAP_MAX)
        } else {
            0
        };
        self.push_at(event, self.seq + 1 + gap)
    }

    /// Appends an event under a sequence number of choice; one that does not increase is sent
    /// once and not replayed.
    pub(crate) fn push_at(&mut self, event: &Event, seq: u64) -> u64 {
        let frame = event.frame(seq);
        if seq <= self.seq {
            self.push_once(Once::Binary(frame));
            return seq;
        }
        self.seq = seq;
        self.bytes += frame.len();
        self.items.push_back((seq, Item::Event(frame)));
        self.trim();
        self.wake();
        seq
    }

    /// Appends something that happens once.
    pub(crate) fn push_once(&mut self, once: Once) {
        self.items.push_back((self.seq, Item::Once(Some(once))));
        self.wake();
    }

    fn wake(&self) {
        self.connections.iter().for_each(|(_, waker)| waker.wake());
    }

    /// Up to which position everything is too old to be kept.
    fn too_old(&mut self) -> u64 {
        let Some(age) = self.backlog_age else {
            return 0;
        };
        let now = Instant::now();
        let marked = self.marks.back().map(|(at, _)| *at);
        if marked.is_none_or(|at| now - at >= age / MARKS_EACH_AGE) {
            self.marks.push_back((now, self.end()));
        }
        // Those that are too old but for the last of them say nothing more.
        while self.marks.get(1).is_some_and(|(at, _)| now - *at >= age) {
            self.marks.pop_front();
        }
        let first = self.marks.front().filter(|(at, _)| now - *at >= age);
        first.map_or(0, |(_, position)| *position)
    }

    fn trim(&mut self) {
        let too_old = self.too_old();
        let over = |feed: &Feed| {
            feed.bytes > feed.backlog_bytes
                || feed.items.len() > BACKLOG_EVENTS
                || feed.first < too_old
        };
        while self.first < self.sent && over(self) {
            let Some((seq, item)) = self.items.pop_front() else {
                return;
            };
            if let Item::Event(frame) = item {
                self.bytes -= frame.len();
                self.evicted = seq;
            }
            self.first += 1;
        }
    }

    /// Where a connection with this cursor starts; `inclusive` sends the event of the cursor too.
    pub(crate) fn start(&self, cursor: Option<u64>, inclusive: bool) -> Start {
        let Some(cursor) = cursor else {
            return Start::At(self.end());
        };
        if cursor > self.seq {
            return Start::Future;
        }
        let at = self.items.partition_point(|(seq, _)| *seq < cursor);
        // What happens once carries the sequence number of the event before it, and is still due.
        let event = matches!(self.items.get(at), Some((seq, Item::Event(_))) if *seq == cursor);
        let position = self.first + at as u64 + u64::from(event && !inclusive);
        if cursor > 0 && cursor < self.evicted {
            Start::Outdated(position)
        } else {
            Start::At(position)
        }
    }

    /// Registers a connection; returns its id.
    pub(crate) fn connect(&mut self, waker: Waker) -> u64 {
        self.opened += 1;
        self.connections.push((self.opened, waker));
        self.opened
    }

    pub(crate) fn disconnect(&mut self, id: u64) {
        self.connections.retain(|(other, _)| *other != id);
    }

    /// What is at `position`, which moves on.
    pub(crate) fn next(&mut self, position: &mut u64) -> Next {
        // A connection that was overtaken by the backlog's end goes on where it begins.
        *position = (*position).max(self.first);
        while let Some((_, item)) = self.items.get_mut((*position - self.first) as usize) {
            *position += 1;
            self.sent = self.sent.max(*position);
            match item {
                Item::Event(frame) => return Next::Event(frame.clone()),
                Item::Once(once) => {
                    if let Some(once) = once.take() {
                        return Next::Once(once);
                    }
                }
            }
        }
        // Everything was sent, and a large event need not be kept until the next one.
        self.trim();
        Next::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::event;

    fn feed_of(events: u64) -> (Feed, Vec<u64>) {
        let mut feed = Feed::new(1);
        let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".into();
        let seqs = (0..events)
            .map(|i| feed.push(&event::identity(&did, None, i)))
            .collect();
        (feed, seqs)
    }

    fn count(feed: &mut Feed, start: Start) -> usize {
        let Start::At(mut position) = start else {
            panic!("{start:?}");
        };
        let mut events = 0;
        while let Next::Event(_) | Next::Once(_) = feed.next(&mut position) {
            events += 1;
        }
        events
    }

    #[test]
    fn cursors_are_exclusive_unless_asked_otherwise() {
        let (mut feed, seqs) = feed_of(100);
        assert!(seqs.windows(2).any(|w| w[1] > w[0] + 1), "gaps");
        let start = feed.start(None, false);
        assert_eq!(count(&mut feed, start), 0);
        let start = feed.start(Some(0), false);
        assert_eq!(count(&mut feed, start), 100);
        let start = feed.start(Some(seqs[9]), false);
        assert_eq!(count(&mut feed, start), 90);
        let start = feed.start(Some(seqs[9]), true);
        assert_eq!(count(&mut feed, start), 91);
        assert_eq!(feed.start(Some(seqs[99] + 1), false), Start::Future);
    }

    #[test]
    fn what_happens_once_is_not_replayed() {
        let (mut feed, seqs) = feed_of(10);
        feed.push_once(Once::Cut);
        let start = feed.start(Some(seqs[9]), false);
        assert_eq!(count(&mut feed, start), 1);
        let start = feed.start(Some(seqs[9]), false);
        assert_eq!(count(&mut feed, start), 0);
    }

    #[test]
    fn a_feed_may_keep_nothing_of_what_was_sent() {
        let (mut feed, _) = feed_of(10);
        feed.set_backlog_bytes(0);
        assert_eq!(feed.unsent(), 10);
        let start = feed.start(Some(0), false);
        assert_eq!(count(&mut feed, start), 10);
        assert_eq!((feed.unsent(), feed.bytes, feed.items.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_too_old_goes_once_it_was_sent() {
        let (mut feed, seqs) = feed_of(10);
        feed.set_backlog_age(Duration::ZERO);
        let start = feed.start(Some(seqs[4]), false);
        assert_eq!(
            count(&mut feed, start),
            5,
            "nothing goes before it was sent"
        );
        let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".into();
        feed.push(&event::identity(&did, None, 1));
        assert_eq!((feed.first, feed.items.len()), (10, 1));
        feed.set_backlog_age(Duration::from_secs(3600));
        let start = feed.start(None, false);
        feed.push(&event::identity(&did, None, 2));
        assert_eq!(count(&mut feed, start), 1);
        assert!(feed.items.len() < 3 && feed.marks.len() < 3);
    }

    #[test]
    fn the_backlog_is_bounded_and_says_so() {
        let (mut feed, seqs) = feed_of(10);
        assert!(!feed.is_congested());
        let did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa".into();
        for i in 0..BACKLOG_EVENTS as u64 {
            feed.push(&event::identity(&did, None, i));
        }
        assert!(feed.is_congested());
        assert_eq!(feed.start(Some(seqs[5]), false), Start::At(6));
        let start = feed.start(Some(0), false);
        assert_eq!(count(&mut feed, start), BACKLOG_EVENTS + 10);
        feed.push(&event::identity(&did, None, 1));
        assert!(matches!(
            feed.start(Some(seqs[5]), false),
            Start::Outdated(11)
        ));
    }
}
