//! The one writer: decides what needs the account's state, gives each event its seq, and writes
//! events, accounts and host cursors in one batch. What is in a batch becomes visible only after
//! the batch is durable.

mod ahead;
mod batch;
pub mod event;
mod full;
mod held;
mod import;
mod inbox;
mod index;
mod payload;
mod pieces;
mod progress;
mod published;
mod room;
pub mod rules;
pub mod status;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crossbeam_channel::Sender;

pub use self::inbox::{Closed, Inbox};
#[doc(hidden)]
pub use self::published::published;
use self::{
    ahead::Ahead,
    batch::{Forming, Reply},
    event::{Event, Input, Kind, Ruled, Ruling, Upstream},
    full::Disk,
    held::Held,
    inbox::Outbox,
    index::Collections,
    pieces::Writing,
    progress::Progress,
    published::Published,
    room::Rooms,
    rules::{Change, Terms, Verdict},
    status::Cause,
};
use crate::{
    atproto::{did::Did, seq::Seq},
    firehose::{Frame, Packer, frame},
    logging::{HostName, REJECTED},
    metrics::{Metrics, hosts::Refusal, labels::Deferral},
    reject::Reject,
    store::{
        Counters, Store, StoreError, Takedown,
        account::{Account, HostId, HostRecord, Sanction, Status},
    },
};

/// Where what has become durable goes, in order.
pub type Publish = Box<dyn FnMut(Publication) + Send>;

/// What has become durable.
#[derive(Debug)]
pub struct Publication {
    /// Accounts that the operator has taken down, or not any more. To be heeded before the frames are
    /// published, which say so.
    pub takedowns: Vec<(Did, Option<Takedown>)>,
    /// Frames, in the order of their seq.
    pub frames: Vec<Frame>,
}

/// Why the sequencer could not go on. The process must end: what the store holds is the truth.
#[derive(Debug)]
pub enum SequencerError {
    /// The store failed.
    Store(StoreError),
    /// There are no sequence numbers left.
    SeqExhausted,
}

impl fmt::Display for SequencerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SequencerError::Store(error) => write!(f, "the store failed: {error}"),
            SequencerError::SeqExhausted => f.write_str("there are no sequence numbers left"),
        }
    }
}

impl std::error::Error for SequencerError {}

impl From<StoreError> for SequencerError {
    fn from(error: StoreError) -> Self {
        SequencerError::Store(error)
    }
}

/// The state that the sequencer alone holds.
pub struct Sequencer {
    store: Arc<Store>,
    outbox: Outbox,
    publish: Publish,
    metrics: Arc<Metrics>,
    last_seq: u64,
    counters: Counters,
    hosts: HashMap<HostId, HostRecord>,
    collections: Collections,
    rooms: Rooms,
    /// Hosts of which nothing is taken.
    banned: HashSet<HostId>,
    /// Replies that are due once the batch is durable.
    replies: Vec<Reply>,
    held: Held,
    ahead: Ahead,
    /// Takes questions about the status of accounts.
    questions: Option<Sender<Did>>,
    /// The large event that is being written.
    writing: Option<Writing>,
    /// Where it is looked whether there is room.
    disk: Option<Disk>,
    progress: Progress,
    packer: Packer,
}

impl Sequencer {
    /// A sequencer on what the store holds, and the inbox through which everything reaches it.
    pub fn new(
        store: Arc<Store>,
        publish: Publish,
        metrics: Arc<Metrics>,
    ) -> Result<(Sequencer, Inbox), StoreError> {
        let (inbox, outbox) = Inbox::new(metrics.clone());
        let hosts = store.hosts()?.into_iter().collect();
        let (last_seq, counters) = (store.last_seq(), store.counters());
        metrics.last_seq.set(last_seq);
        metrics.accounts.set(counters.accounts);
        metrics.collections.set(counters.collections);
        metrics.collection_pairs.set(counters.pairs);
        let replies = Vec::new();
        let sequencer = Sequencer {
            store,
            outbox,
            publish,
            metrics,
            last_seq,
            counters,
            hosts,
            collections: Collections::default(),
            rooms: Rooms::default(),
            banned: HashSet::new(),
            replies,
            held: Held::default(),
            ahead: Ahead::default(),
            questions: None,
            writing: None,
            disk: None,
            progress: Progress::default(),
            packer: Packer::default(),
        };
        Ok((sequencer, inbox))
    }

    /// Where to ask, without waiting, what the host of an account says of it now. Each question
    /// that is taken must be answered with an [`Input::Status`].
    pub fn ask_through(&mut self, questions: Sender<Did>) {
        self.questions = Some(questions);
    }

    fn take(&mut self, input: Input, forming: &mut Forming) -> Result<(), SequencerError> {
        match input {
            Input::Event(event) => self.sequence(*event, forming),
            Input::Progress {
                host,
                epoch,
                cursor,
            } => {
                self.advance(forming, host, epoch, cursor);
                Ok(())
            }
            Input::Status { did, status } => {
                self.held.answered(&did);
                self.release(&did, status, forming)
            }
            Input::AccountLimit { host, limit } => {
                self.rooms.set_limit(host, limit);
                Ok(())
            }
            Input::Ban { host, banned } => {
                match banned {
                    true => {
                        // What is owed to it is behind what is held, which is not taken any more.
                        self.held.take_owed(host);
                        self.banned.insert(host)
                    }
                    false => self.banned.remove(&host),
                };
                Ok(())
            }
            Input::Reached { done } => {
                self.replies.push(Reply::Reached(done));
                Ok(())
            }
            Input::Restart { host, done } => {
                self.begin_epoch(host, 0, done, forming);
                Ok(())
            }
            Input::Reset { host, cursor, done } => {
                self.begin_epoch(host, cursor.unwrap_or(0), done, forming);
                Ok(())
            }
            Input::Import { import, done } => {
                let imported = self.import(import, forming)?;
                self.replies.push(Reply::Imported(done, imported));
                Ok(())
            }
            Input::Rule { did, ruling, done } => {
                let ruled = self.rule(&did, ruling, forming)?;
                self.replies.push(Reply::Ruled(done, ruled));
                Ok(())
            }
        }
    }

    fn sequence(&mut self, mut event: Event, forming: &mut Forming) -> Result<(), SequencerError> {
        if self.banned.contains(&event.host) {
            // Its host's cursor stays before it: it is asked for again if the ban ends.
            return Ok(());
        }
        if self.held.holds(&event.did) {
            if self.held.has_room(&event) {
                self.hold(event, forming);
                return Ok(());
            }
            self.release(&event.did, None, forming)?;
        }
        let known = self.known(&event.did, forming)?;
        match self.judge(known.as_ref(), &event, forming)? {
            Verdict::Reject { ask: true, .. } if self.ask(&event, forming.now_ms) => {
                self.hold(event, forming);
                return Ok(());
            }
            Verdict::Reject { reject, change, .. } => {
                self.refuse(&event, reject, forming.now_ms);
                if let Some(Change { account, announce }) = change {
                    if announce {
                        self.announce(&event.did, &account, forming)?;
                    }
                    self.keep_account(&event.did, known.as_ref(), account, forming)?;
                }
            }
            Verdict::Forward {
                change,
                discontinuous,
            } => self.forward(&mut event, known.as_ref(), change, discontinuous, forming)?,
        }
        let (host, Upstream { epoch, seq, cursor }) = (event.host, event.upstream);
        self.advance(forming, host, epoch, cursor);
        let record = self.record(host, forming);
        if event.kind == Kind::Identity && record.epoch == epoch && record.cursor < seq {
            self.ahead.note(host, seq, &event.did);
        }
        Ok(())
    }

    /// What the rules say of an event.
    fn judge(
        &self,
        known: Option<&Account>,
        event: &Event,
        forming: &Forming,
    ) -> Result<Verdict, StoreError> {
        let terms = Terms {
            ordinal: self.counters.next_ordinal,
            room: self.has_room(event.host, forming),
            taken_down: known.is_none() && self.is_taken_down(&event.did, forming)?,
            processed: self.is_processed(event, forming),
        };
        Ok(rules::judge(known, event, terms))
    }

    /// Whether an event was processed before, by what is known of its host: the cursor of the stream has passed it,
    /// or it is an identity event that was published ahead of the cursor.
    fn is_processed(&self, event: &Event, forming: &Forming) -> bool {
        let record = self.record(event.host, forming);
        let Upstream { epoch, seq, .. } = event.upstream;
        let is_known = seq <= record.cursor || self.ahead.contains(event.host, seq, &event.did);
        record.epoch == epoch && is_known
    }

    /// Counts an event that is not forwarded.
    fn refuse(&self, event: &Event, reject: Reject, now_ms: u64) {
        let tally = self.metrics.hosts.of(event.host);
        let (did, seq) = (event.did.as_str(), event.upstream.seq);
        self.metrics
            .refuse(event.host, &tally, Refusal::new(reject, did, seq, now_ms));
        let rev = match &event.kind {
            Kind::Commit(proven) | Kind::Sync(proven) => Some(&proven.rev),
            Kind::Identity | Kind::Account(_) => None,
        };
        log::debug!(
            target: REJECTED,
            host:% = HostName(event.host), did = did, seq = seq,
            rev = rev.map(ToString::to_string).as_deref(), reason = reject.name();
            "an event is not forwarded"
        );
    }

    /// Publishes an event, and before it what it does not say of its account.
    fn forward(
        &mut self,
        event: &mut Event,
        known: Option<&Account>,
        change: Option<Change>,
        discontinuous: bool,
        forming: &mut Forming,
    ) -> Result<(), SequencerError> {
        let announces = change.as_ref().is_some_and(|change| change.announce);
        let seq = self.seq_after(u64::from(announces))?;
        let account = change.as_ref().map(|change| &change.account);
        let Some(message) = published(event, account, seq, forming.now_ms, &mut self.packer) else {
            self.refuse(event, Reject::FrameMalformed, forming.now_ms);
            return Ok(());
        };
        if let Some(Change { account, announce }) = change {
            if announce {
                self.announce(&event.did, &account, forming)?;
            }
            let ordinal = account.ordinal;
            self.keep_account(&event.did, known, account, forming)?;
            if let Kind::Commit(proven) = &event.kind {
                self.index_commit(&event.did, ordinal, &proven.touched, forming)?;
            }
        }
        let tally = self.metrics.hosts.of(event.host);
        tally.forwarded.inc();
        if discontinuous {
            self.metrics.discontinuous.inc();
            tally.discontinuous.inc();
        }
        if let Kind::Commit(proven) = &event.kind
            && proven.legacy
        {
            self.metrics.lenient.inc();
            tally.lenient.inc();
        }
        self.append(seq, message, forming);
        forming.happened.push(event.happened_ms);
        Ok(())
    }

    /// The account as the batch leaves it.
    fn known(&self, did: &Did, forming: &Forming) -> Result<Option<Account>, StoreError> {
        match forming.accounts.get(did) {
            Some(account) => Ok(Some(account.clone())),
            None => self.store.account(did),
        }
    }

    /// Whether the host of an inactive account may be asked if it still is so.
    fn may_ask(&mut self, event: &Event, now_ms: u64) -> bool {
        self.questions.is_some() && self.held.may_ask(event, now_ms)
    }

    /// Whether it was asked.
    fn ask(&mut self, event: &Event, now_ms: u64) -> bool {
        let may_ask = self.may_ask(event, now_ms);
        let Some(questions) = &self.questions else {
            return false;
        };
        let asked = may_ask && questions.try_send(event.did.clone()).is_ok();
        if asked {
            self.metrics.status_asked.inc();
            self.held.asked(event, now_ms);
        }
        asked
    }

    /// Holds an event until its host has answered.
    fn hold(&mut self, event: Event, forming: &mut Forming) {
        let (host, upstream) = (event.host, event.upstream);
        self.metrics.deferred.inc(Deferral::AccountStatus);
        self.held.push(event);
        self.advance(forming, host, upstream.epoch, upstream.cursor);
    }

    /// A host was asked about an inactive account: an account that is active again is so from here,
    /// and what was held is judged. Where the host's own word is among what is held, it is not lost,
    /// and counts from its place on.
    fn release(
        &mut self,
        did: &Did,
        status: Option<Status>,
        forming: &mut Forming,
    ) -> Result<(), SequencerError> {
        let mut events = self.held.release(did);
        events.retain(|event| !self.banned.contains(&event.host));
        let mut hosts: Vec<HostId> = events.iter().map(|event| event.host).collect();
        hosts.dedup();
        let known = self.known(did, forming)?;
        if let (Some(said), Some(mut account)) = (status.filter(|s| s.active), known)
            && !events.is_empty()
            && !events
                .iter()
                .any(|event| matches!(event.kind, Kind::Account(_)))
        {
            log::debug!(host:% = HostName(account.host), did:% = did; "its host says that it is active again");
            let (known, had_place) = (account.clone(), account.is_live());
            status::apply(&mut account, Cause::Answered(&said));
            let room = self.has_room(account.host, forming);
            if status::settle(&mut account, had_place, room) {
                self.announce(did, &account, forming)?;
            }
            self.keep_account(did, Some(&known), account, forming)?;
        }
        for event in events {
            self.sequence(event, forming)?;
        }
        for host in hosts {
            if let Some(owed) = self.held.take_owed(host) {
                self.advance(forming, host, owed.epoch, owed.cursor);
            }
        }
        Ok(())
    }

    /// The seq that the event gets which is published after `count` others.
    fn seq_after(&self, count: u64) -> Result<Seq, SequencerError> {
        Seq::new(self.last_seq + 1 + count).ok_or(SequencerError::SeqExhausted)
    }

    /// Adds a frame to the batch.
    fn append(&mut self, seq: Seq, message: Published, forming: &mut Forming) {
        self.last_seq = seq.get();
        let (bytes, now_ms) = (message.bytes, forming.now_ms);
        match message.stored {
            None => forming.batch.put_event(seq, now_ms, &bytes),
            Some((large, place)) => {
                let outline = place.outline(&bytes);
                forming.batch.put_large_event(seq, now_ms, large, outline);
            }
        }
        forming.frames.push(Frame { seq, bytes });
    }

    /// Tells subscribers the status of an account, where no host's event does.
    fn announce(
        &mut self,
        did: &Did,
        account: &Account,
        forming: &mut Forming,
    ) -> Result<(), SequencerError> {
        let seq = self.seq_after(0)?;
        let bytes = frame::account(seq, did, forming.now_ms, account.effective());
        self.append(seq, bytes.into(), forming);
        Ok(())
    }

    /// The operator's word on an account.
    fn rule(
        &mut self,
        did: &Did,
        ruling: Ruling,
        forming: &mut Forming,
    ) -> Result<Ruled, SequencerError> {
        let Some(known) = self.known(did, forming)? else {
            // What was said of it before anything of it was seen can be taken back.
            if ruling == Ruling::Reversal && self.is_taken_down(did, forming)? {
                forming.put_takedown(did, None);
                return Ok(Ruled::Holds);
            }
            return Ok(Ruled::Unknown);
        };
        let cause = match ruling {
            Ruling::Takedown => Cause::Takedown,
            Ruling::Reversal => Cause::Reversal,
        };
        let mut account = known.clone();
        if status::apply(&mut account, cause) {
            let is_down = account.local.sanction == Some(Sanction::Takedown);
            // What comes before the frame that says so is not shown any more.
            let seq = self.seq_after(0)?.get();
            let at_ms = forming.now_ms;
            forming.put_takedown(did, is_down.then_some(Takedown { seq, at_ms }));
            self.announce(did, &account, forming)?;
            self.keep_account(did, Some(&known), account, forming)?;
        }
        Ok(Ruled::Holds)
    }

    /// Whether the operator has taken an account down, as the batch leaves it.
    fn is_taken_down(&self, did: &Did, forming: &Forming) -> Result<bool, StoreError> {
        let mut rulings = forming.takedowns.iter().rev();
        match rulings.find(|(ruled, _)| ruled == did) {
            Some((_, takedown)) => Ok(takedown.is_some()),
            None => self.store.takedown(did),
        }
    }

    /// The host is processed up to `cursor`, but for what is held; a cursor never goes back within
    /// an epoch.
    fn advance(&mut self, forming: &mut Forming, host: HostId, epoch: u32, cursor: u64) {
        if self.banned.contains(&host) {
            return;
        }
        let cursor = self.held.cursor(host, epoch, cursor);
        let record = self.host(forming, host);
        if record.epoch == epoch && record.cursor < cursor {
            record.cursor = cursor;
            self.ahead.reached(host, cursor);
        }
    }

    /// A host's stream is read from `cursor` on. What is on its way, held or owed belongs to the epoch
    /// before, and moves the cursor no more.
    fn begin_epoch(&mut self, host: HostId, cursor: u64, done: Sender<u32>, forming: &mut Forming) {
        let record = self.host(forming, host);
        record.epoch += 1;
        record.cursor = cursor;
        let epoch = record.epoch;
        self.ahead.restart(host);
        self.replies.push(Reply::Epoch(done, epoch));
    }

    /// The record of a host, as the batch leaves it.
    fn record(&self, host: HostId, forming: &Forming) -> HostRecord {
        let records = [&forming.hosts, &self.hosts];
        let record = records.iter().find_map(|hosts| hosts.get(&host));
        record.copied().unwrap_or_default()
    }

    /// The same, to be written with this batch.
    fn host<'a>(&self, forming: &'a mut Forming, host: HostId) -> &'a mut HostRecord {
        let record = self.record(host, forming);
        forming.hosts.entry(host).or_insert(record)
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
