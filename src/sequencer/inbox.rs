//! The sequencer's inbox, bounded in messages and in bytes. A full inbox makes host threads wait,
//! and TCP with them: nothing is ever dropped here.

use std::{
    collections::HashMap,
    ops::{AddAssign, SubAssign},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    event::{Import, Imported, Input, Turn},
    turns::Turns,
};
use crate::{
    limits::{
        INBOX_BYTES_MAX, INBOX_COMMANDS_MAX, INBOX_EVENTS_MAX, INBOX_HOST_BYTES_MAX,
        INBOX_HOST_EVENTS_MAX,
    },
    metrics::{Metrics, labels::Wait},
    store::account::HostId,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The sending end; cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: Sender<Input>,
    budget: Arc<Budget>,
}

/// The sequencer's end.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) receiver: Receiver<Input>,
    pub(super) budget: Arc<Budget>,
    /// What was received and not dealt with.
    pub(super) turns: Turns,
}

impl Outbox {
    /// The next message, if there is one now.
    pub(super) fn next(&mut self) -> Option<Input> {
        self.next_within(usize::MAX)
    }

    /// The same, if it has no more than so many bytes.
    pub(super) fn next_within(&mut self, bytes_max: usize) -> Option<Input> {
        while let Ok(input) = self.receiver.try_recv() {
            self.turns.push(input);
        }
        self.turns.next(bytes_max)
    }
}

/// The sequencer has ended, or takes nothing more of hosts before it does: nothing can be delivered
/// any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed;

impl Inbox {
    /// Both ends.
    pub(super) fn new(metrics: Arc<Metrics>) -> (Inbox, Outbox) {
        let most = Used {
            events: INBOX_EVENTS_MAX,
            bytes: INBOX_BYTES_MAX,
        };
        let share = Used {
            events: INBOX_HOST_EVENTS_MAX,
            bytes: INBOX_HOST_BYTES_MAX,
        };
        Inbox::with_room(most, share, metrics)
    }

    fn with_room(most: Used, share: Used, metrics: Arc<Metrics>) -> (Inbox, Outbox) {
        // The budget is full before the channel is: who waits for a place in the channel itself
        // first tries again and again, and is woken for one place at a time.
        let (sender, receiver) = bounded(INBOX_EVENTS_MAX + INBOX_COMMANDS_MAX);
        let budget = Arc::new(Budget {
            inside: Mutex::default(),
            closed: AtomicBool::new(false),
            most,
            share,
            freed: Condvar::new(),
            metrics,
        });
        (
            Inbox {
                sender,
                budget: budget.clone(),
            },
            Outbox {
                receiver,
                budget,
                turns: Turns::default(),
            },
        )
    }

    /// Delivers a message; waits while the inbox is full.
    pub fn send(&self, input: Input) -> Result<(), Closed> {
        self.budget.acquire(&input, false)?;
        self.sender.send(input).map_err(|_| Closed)
    }

    /// The same on the thread of one host, which waits too while the inbox holds its host's share:
    /// nobody but the host itself is kept waiting by that.
    pub fn send_of_host(&self, input: Input) -> Result<(), Closed> {
        self.budget.acquire(&input, true)?;
        self.sender.send(input).map_err(|_| Closed)
    }

    /// Delivers what a backfill brings, and waits until it is stored. Waits while the inbox is full.
    pub fn import(&self, import: Import) -> Result<Imported, Closed> {
        let (done, imported) = bounded(1);
        self.send(Input::Import { import, done })?;
        imported.recv().map_err(|_| Closed)
    }

    /// Delivers a message to which there is an answer, and waits for that; for so long at the most.
    pub fn ask<T>(&self, question: impl FnOnce(Sender<T>) -> Input, within: Duration) -> Option<T> {
        let deadline = Instant::now() + within;
        let (done, answer) = bounded(1);
        self.sender.send_deadline(question(done), deadline).ok()?;
        answer.recv_deadline(deadline).ok()
    }
}

#[cfg(test)]
impl Inbox {
    /// An inbox that a test reads in the sequencer's place, as long as the channel has room.
    pub(crate) fn with_receiver(metrics: Arc<Metrics>) -> (Inbox, Receiver<Input>) {
        let all = Used {
            events: usize::MAX,
            bytes: usize::MAX,
        };
        let (inbox, outbox) = Inbox::with_room(all, all, metrics);
        (inbox, outbox.receiver)
    }
}

/// What is in the inbox.
#[derive(Debug)]
pub(super) struct Budget {
    inside: Mutex<Inside>,
    /// Nothing is let in any more.
    closed: AtomicBool,
    most: Used,
    /// What one host may have in the inbox.
    share: Used,
    freed: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Default, Debug)]
struct Inside {
    all: Used,
    /// That of each host that has something in there.
    hosts: HashMap<HostId, Used>,
    /// Threads that wait for room.
    waiting: usize,
}

/// What the messages of a batch took.
#[derive(Default, Debug)]
pub(super) struct Taken {
    all: Used,
    hosts: HashMap<HostId, Used>,
}

impl Taken {
    /// One more message.
    pub(super) fn add(&mut self, input: &Input) {
        let used = Used::by(input);
        self.all += used;
        if let Some(host) = host_of(input) {
            *self.hosts.entry(host).or_default() += used;
        }
    }

    /// The bytes of all.
    pub(super) fn bytes(&self) -> usize {
        self.all.bytes
    }
}

/// The host that has said what is in a message.
fn host_of(input: &Input) -> Option<HostId> {
    match input.turn() {
        Turn::Host(host) => Some(host),
        Turn::Decision | Turn::Other => None,
    }
}

/// What hosts have to say, and its bytes; other messages are few and small.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Used {
    events: usize,
    bytes: usize,
}

impl Used {
    /// What a message takes.
    fn by(input: &Input) -> Used {
        let bytes = input.bytes();
        Used {
            events: usize::from(bytes > 0),
            bytes,
        }
    }

    /// Whether there is no room: a message is let in whenever there is any, because one is far
    /// smaller than all of it.
    fn fills(self, most: Used) -> bool {
        self.bytes >= most.bytes || self.events >= most.events
    }
}

impl AddAssign for Used {
    fn add_assign(&mut self, other: Used) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Used {
    fn sub_assign(&mut self, other: Used) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }
}

impl Budget {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the room of a message; `fair`: also until its host has less than its share.
    fn acquire(&self, input: &Input, fair: bool) -> Result<(), Closed> {
        let message = Used::by(input);
        if message == Used::default() {
            return Ok(());
        }
        let host = host_of(input);
        let mut inside = self.lock();
        let (mut waiting, mut counted) = (None, false);
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(Closed);
            }
            let is_full = inside.all.fills(self.most);
            let of_host = host.and_then(|host| inside.hosts.get(&host));
            let has_its_share = fair && of_host.is_some_and(|used| used.fills(self.share));
            if !is_full && !has_its_share {
                break;
            }
            if is_full && !counted {
                counted = true;
                self.metrics.inbox_full.inc();
            }
            waiting.get_or_insert_with(|| self.metrics.hosts_waiting.during(Wait::Inbox));
            inside.waiting += 1;
            inside = self
                .freed
                .wait(inside)
                .unwrap_or_else(PoisonError::into_inner);
            inside.waiting -= 1;
        }
        drop(waiting);
        inside.all += message;
        if let Some(host) = host {
            *inside.hosts.entry(host).or_default() += message;
        }
        self.show(&inside);
        Ok(())
    }

    /// Lets nothing in any more: whoever waits for room is told so.
    pub(super) fn close(&self) {
        let inside = self.lock();
        self.closed.store(true, Ordering::Relaxed);
        drop(inside);
        self.freed.notify_all();
    }

    /// Gives back what the messages of a batch took.
    pub(super) fn release(&self, batch: Taken) {
        let mut inside = self.lock();
        inside.all -= batch.all;
        for (host, used) in batch.hosts {
            if let Some(left) = inside.hosts.get_mut(&host) {
                *left -= used;
                if *left == Used::default() {
                    inside.hosts.remove(&host);
                }
            }
        }
        self.show(&inside);
        let waits = inside.waiting > 0;
        drop(inside);
        if waits {
            self.freed.notify_all();
        }
    }

    fn show(&self, inside: &Inside) {
        self.metrics.inbox_events.set(inside.all.events as u64);
        self.metrics.inbox_bytes.set(inside.all.bytes as u64);
    }
}
