//! One batch after the other: what waits is taken, written together with all that changes by it, and then published.
//! How far hosts are processed of which nothing is published may wait for the next one.

use std::{collections::HashMap, time::Instant};

use crossbeam_channel::{Sender, after, never, select};

use super::{
    Publication, Sequencer, SequencerError,
    event::{Imported, Input, Ruled},
    inbox::Taken,
    index::IndexForming,
    now_ms,
};
use crate::{
    atproto::did::Did,
    crash::{self, Point},
    firehose::Frame,
    limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, PROGRESS_DELAY},
    metrics::micros,
    store::{
        Batch, Takedown,
        account::{Account, HostId, HostRecord},
    },
    threads::Stop,
};

/// What the sequencer has waited for.
enum Waited {
    Message(Input),
    /// How far hosts are processed is to be written.
    Due,
    Stop,
}

/// An answer to a command, and who waits for it.
pub(super) enum Reply {
    Epoch(Sender<u32>, u32),
    Ruled(Sender<Ruled>, Ruled),
    Imported(Sender<Imported>, Imported),
    Reached(Sender<()>),
}

/// One batch while it forms.
pub(super) struct Forming {
    pub(super) batch: Batch,
    pub(super) frames: Vec<Frame>,
    /// When each event of a host among them happened, as far as it says.
    pub(super) happened: Vec<Option<u64>>,
    pub(super) takedowns: Vec<(Did, Option<Takedown>)>,
    pub(super) accounts: HashMap<Did, Account>,
    pub(super) hosts: HashMap<HostId, HostRecord>,
    pub(super) index: IndexForming,
    pub(super) inputs: usize,
    pub(super) taken: Taken,
    pub(super) now_ms: u64,
}

impl Forming {
    /// One more message is dealt with.
    pub(super) fn count(&mut self, input: &Input) {
        self.inputs += 1;
        self.taken.add(input);
    }

    /// Whether there is nothing to write, and nobody to answer.
    pub(super) fn is_empty(&self) -> bool {
        self.inputs == 0 && self.accounts.is_empty() && self.batch.is_empty()
    }

    /// Whether there is nothing to write but how far hosts are processed.
    fn is_progress(&self) -> bool {
        self.accounts.is_empty() && self.batch.is_empty()
    }

    /// Notes a takedown, or its end.
    pub(super) fn put_takedown(&mut self, did: &Did, takedown: Option<Takedown>) {
        self.batch.put_takedown(did, takedown);
        self.takedowns.push((did.clone(), takedown));
    }
}

impl Sequencer {
    /// Works until the stop is asked for, and then until the inbox is empty. Whoever sends must
    /// have ended before, or what it sends last may not be read.
    pub fn run(mut self, stop: &Stop) -> Result<(), SequencerError> {
        self.progress.may_wait(PROGRESS_DELAY);
        if self.finds_disk_full() && !self.wait_for_room(None, stop)? {
            return Ok(());
        }
        loop {
            let first = match self.outbox.next() {
                None if self.writing.is_some() => None,
                None if self.rooms.has_work() && !stop.requested() => None,
                None => match self.wait(stop) {
                    Waited::Message(first) => Some(first),
                    Waited::Due => None,
                    Waited::Stop => break,
                },
                first => first,
            };
            if self.finds_disk_full() {
                if !self.wait_for_room(first, stop)? {
                    return Ok(());
                }
                continue;
            }
            self.work(first)?;
        }
        match self.progress.is_written() {
            true => Ok(()),
            false => self.write(self.forming()),
        }
    }

    /// Waits for the next message; the stop counts when there is no further one.
    fn wait(&self, stop: &Stop) -> Waited {
        let due = self.progress.due_in(Instant::now());
        let due = due.map_or_else(never, after);
        let message = select! {
            recv(self.outbox.receiver) -> input => input.ok(),
            recv(due) -> _ => return Waited::Due,
            recv(stop.channel()) -> _ => self.outbox.receiver.try_recv().ok(),
        };
        message.map_or(Waited::Stop, Waited::Message)
    }

    /// One batch of what waits, if anything does. Public for `fuzz/` only.
    #[doc(hidden)]
    pub fn step(&mut self) -> Result<(), SequencerError> {
        let first = self.outbox.next();
        self.work(first)?;
        while self.writing.is_some() {
            self.work(None)?;
        }
        Ok(())
    }

    /// Makes one batch of accounts that are let in, a piece of what is large and what waits, beginning with `first`;
    /// writes and publishes it.
    pub(super) fn work(&mut self, first: Option<Input>) -> Result<(), SequencerError> {
        let mut forming = self.forming();
        self.let_in(&mut forming)?;
        self.go_on_writing(&mut forming)?;
        let mut next = first;
        while let Some(input) = next {
            if let Some(input) = self.begin_writing(input, &mut forming)? {
                forming.count(&input);
                self.take(input, &mut forming)?;
            }
            let full = forming.inputs >= BATCH_EVENTS_MAX || forming.index.is_full();
            let room = BATCH_BYTES_MAX.saturating_sub(forming.taken.bytes());
            // What is larger than what is left is the first of the next batch.
            next = if full {
                None
            } else {
                self.outbox.next_within(room)
            };
        }
        if forming.is_empty() && !self.progress.is_due(Instant::now()) {
            return Ok(());
        }
        if forming.is_progress() && self.replies.is_empty() {
            // Nobody waits for it, and each batch is a sync.
            self.progress.note(&forming.hosts, Instant::now());
            if !self.progress.is_due(Instant::now()) {
                self.hosts.extend(forming.hosts);
                self.outbox.budget.release(forming.taken);
                self.metrics.held_bytes.set(self.held.bytes() as u64);
                return Ok(());
            }
        }
        self.write(forming)
    }

    /// An empty batch.
    pub(super) fn forming(&self) -> Forming {
        Forming {
            batch: self.store.batch(),
            frames: Vec::new(),
            happened: Vec::new(),
            takedowns: Vec::new(),
            accounts: HashMap::new(),
            hosts: HashMap::new(),
            index: IndexForming::default(),
            inputs: 0,
            taken: Taken::default(),
            now_ms: now_ms(),
        }
    }

    /// Makes the batch durable, then visible.
    pub(super) fn write(&mut self, forming: Forming) -> Result<(), SequencerError> {
        let Forming {
            mut batch,
            frames,
            happened,
            takedowns,
            accounts,
            hosts,
            index,
            taken,
            ..
        } = forming;
        for (did, account) in &accounts {
            batch.put_account(did, account);
        }
        let progress = self.progress.take();
        let others = progress
            .iter()
            .filter(|(host, _)| !hosts.contains_key(host));
        for (host, record) in hosts.iter().chain(others) {
            batch.put_host(*host, record);
        }
        for (ordinal, pairs) in index.changed() {
            batch.put_account_collections(ordinal, pairs);
        }
        batch.set_counters(self.counters);
        let began = Instant::now();
        let mut replies = self.replies.iter();
        let imports = replies.any(|reply| matches!(reply, Reply::Imported(..)));
        if imports {
            crash::point(Point::ImportBefore);
        }
        self.store.commit(batch)?;
        if imports {
            crash::point(Point::ImportWritten);
        }
        self.metrics
            .commit_duration
            .observe(micros(began.elapsed()));
        self.metrics.batch_events.observe(frames.len() as u64);
        self.collections.trim();
        self.hosts.extend(hosts);
        self.outbox.budget.release(taken);
        self.metrics.batches.inc();
        self.metrics.events_sequenced.add(frames.len() as u64);
        self.metrics.last_seq.set(self.last_seq);
        self.metrics
            .oldest_seq
            .set(self.store.window().oldest.unwrap_or(0));
        self.metrics.accounts.set(self.counters.accounts);
        self.metrics.collections.set(self.counters.collections);
        self.metrics.collection_pairs.set(self.counters.pairs);
        self.metrics.held_bytes.set(self.held.bytes() as u64);
        if !frames.is_empty() || !takedowns.is_empty() {
            crash::point(Point::PublishBefore);
            (self.publish)(Publication { takedowns, frames });
            crash::point(Point::PublishAfter);
        }
        let published_ms = now_ms();
        for happened in happened {
            self.metrics.published(happened, published_ms);
        }
        for reply in self.replies.drain(..) {
            // Who asked may have gone meanwhile.
            match reply {
                Reply::Epoch(done, epoch) => drop(done.send(epoch)),
                Reply::Ruled(done, ruled) => drop(done.send(ruled)),
                Reply::Imported(done, imported) => drop(done.send(imported)),
                Reply::Reached(done) => drop(done.send(())),
            }
        }
        Ok(())
    }
}
