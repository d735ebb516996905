//! The way of one host's events to the sequencer: decode, find the identity, prove, hand on.
//!
//! An event whose account's identity is not known, or by whose known identity it fails, is parked,
//! and so is every later event of that account, in order; the host's other accounts flow on. A
//! resolver thread proves and hands on what was parked. The cursor that goes with each event says
//! up to where *everything* of the host is handed on, so that what is parked is asked for again
//! after a crash.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use self::judge::{Next, Ready};
use super::{Shared, now, now_ms, terms::Terms};
use crate::{
    atproto::{
        datetime,
        did::{Did, Method},
        envelope::{Body, Event as Parsed, FrameError, Message},
        hostname::Hostname,
        prove,
    },
    identity::{How, Outcome, Waiter},
    limits::{
        HOST_PARKED_BYTES_FAIR, HOST_PARKED_BYTES_MAX, HOST_PARKED_EVENTS_MAX, PARKED_BYTES_MAX,
    },
    logging::REJECTED,
    metrics::{
        hosts::{EventKind, Refusal, Tally},
        labels::{Deferral, FrameType, Wait},
    },
    reject::Reject,
    sequencer::event::{Event, Input, Upstream},
    store::account::HostId,
};

mod judge;
#[cfg(test)]
mod tests;

/// Accounts with parked events for which the room is kept when there are none.
const KEEP_ACCOUNTS: usize = 64;

/// One host's events, on their way.
pub(super) struct Lane {
    shared: Arc<Shared>,
    id: HostId,
    name: Hostname,
    terms: Arc<Terms>,
    tally: Arc<Tally>,
    /// What its host says now is proven only where others keep a core.
    is_rushing: AtomicBool,
    state: Mutex<State>,
    /// Something parked has left, or the lane is closed.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    epoch: u32,
    /// The last upstream seq that was handed on, parked or rejected.
    read: u64,
    /// What was last told to the sequencer.
    told: u64,
    parked: HashMap<Did, VecDeque<Waiting>>,
    /// The upstream seqs of what is parked, of this epoch.
    seqs: BTreeSet<u64>,
    /// What is parked, of any epoch.
    events: usize,
    bytes: usize,
    closed: bool,
    /// Nothing more is handed on.
    silent: bool,
}

/// A parked event.
struct Waiting {
    seq: u64,
    epoch: u32,
    frame: Box<[u8]>,
    /// The identity was fetched anew for this event already.
    refreshed: bool,
}

/// Where a connection is in the host's stream.
#[derive(Debug, Default)]
pub(super) struct Position {
    /// The cursor that the stream was asked for from.
    pub cursor: Option<u64>,
    /// The last seq of this connection.
    pub last: Option<u64>,
}

/// What a frame was, beside an event that went its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// An event; it is on its way, or rejected and counted.
    Event,
    /// Not an event: ignored.
    Ignored,
    /// The host ends the stream with an error of this name.
    Error(String),
    /// The first event of a connection is older than what was asked for: the host's sequence has
    /// started anew. The frame was not taken.
    WentBack,
    /// Not a frame at all.
    Malformed,
}

/// Who hands an event on: the thread of the host, or one that works for all hosts.
enum On {
    HostThread,
    Resolver,
}

/// Whether other events of the account were parked already.
#[derive(PartialEq, Eq)]
enum Parked {
    First,
    Joined,
}

impl Lane {
    /// A lane of a host whose stream was read up to `cursor` in `epoch`.
    pub(super) fn new(
        shared: Arc<Shared>,
        id: HostId,
        name: Hostname,
        terms: Arc<Terms>,
        epoch: u32,
        cursor: u64,
    ) -> Arc<Lane> {
        let state = State {
            epoch,
            read: cursor,
            told: cursor,
            ..State::default()
        };
        Arc::new(Lane {
            tally: shared.metrics.hosts.of(id),
            shared,
            id,
            name,
            terms,
            is_rushing: AtomicBool::new(false),
            state: Mutex::new(state),
            moved: Condvar::new(),
        })
    }

    /// Its host begins, or ends, to send a lot at a time.
    pub(super) fn rush(&self, is_on: bool) {
        self.is_rushing.store(is_on, Ordering::Relaxed);
    }

    /// The last upstream seq that was read, 0: none.
    pub(super) fn read(&self) -> u64 {
        self.lock().read
    }

    /// The host's sequence starts anew.
    pub(super) fn restart(&self, epoch: u32) {
        let mut state = self.lock();
        state.epoch = epoch;
        state.read = 0;
        state.told = 0;
        // What is parked keeps the epoch that it came in and holds no cursor back any more.
        state.seqs.clear();
    }

    /// Passes over the next upstream seq, whatever is there: for a host whose next message can not
    /// even be received.
    pub(super) fn skip_one(&self) {
        self.lock().read += 1;
    }

    /// Takes one frame of the host.
    pub(super) fn take(self: &Arc<Lane>, frame: &[u8], position: &mut Position) -> Frame {
        let event = match Message::parse(frame) {
            Ok(Message::Event(event)) => event,
            Ok(Message::Unknown) => {
                self.tally.kinds.inc(EventKind::Other);
                return self.ignore(FrameType::Unknown);
            }
            Ok(Message::Info { name, message }) => {
                self.tally.kinds.inc(EventKind::Other);
                log::debug!(
                    host:% = self.name, name = name, info = message;
                    "the host says something"
                );
                return self.ignore(FrameType::Info);
            }
            Ok(Message::Error { error, message }) => {
                self.shared.metrics.frames.inc(FrameType::Error);
                let error = printable(error);
                log::debug!(
                    host:% = self.name, error = error, info = message;
                    "the host sends an error"
                );
                return Frame::Error(error);
            }
            Err(FrameError::Malformed) => {
                self.shared.metrics.frames.inc(FrameType::Invalid);
                self.malformed();
                return Frame::Malformed;
            }
            Err(FrameError::Schema) => {
                self.shared.metrics.frames.inc(FrameType::Invalid);
                self.reject_unread(Reject::SchemaInvalid);
                return Frame::Event;
            }
        };
        self.tally.kinds.inc(EventKind::of(&event.body));
        self.shared.metrics.frames.inc(frame_type(&event.body));
        if let Some(happened_ms) = datetime::to_millis(event.time) {
            self.tally.happened_at_ms.set(happened_ms);
        }
        let seq = event.seq.get();
        match position.last {
            None if position.cursor.is_some_and(|cursor| seq < cursor) => return Frame::WentBack,
            Some(last) if seq <= last => {
                self.reject(Reject::SeqNotIncreasing, &event);
                return Frame::Event;
            }
            _ => position.last = Some(seq),
        }
        if let Err(reject) = self.begin(&event, frame) {
            self.reject(reject, &event);
            self.lock().read = seq;
        }
        Frame::Event
    }

    /// Tells the sequencer how far the host is read, where the last event did not.
    pub(super) fn report(&self) {
        let mut state = self.lock();
        let cursor = state.cursor(None, state.read);
        if cursor <= state.told || state.silent {
            return;
        }
        state.told = cursor;
        let epoch = state.epoch;
        drop(state);
        let _ = self.shared.inbox.send(Input::Progress {
            host: self.id,
            epoch,
            cursor,
        });
    }

    /// Lets a thread go that waits for room.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.moved.notify_all();
        self.shared.directory.let_go();
    }

    /// The same, and nothing more of the host is handed on, whatever was read of it.
    pub(super) fn silence(&self) {
        self.lock().silent = true;
        self.close();
    }

    /// Counts a message of which nothing could be read.
    pub(super) fn malformed(&self) {
        self.reject_unread(Reject::FrameMalformed);
    }

    /// What is counted of the host.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ignore(&self, kind: FrameType) -> Frame {
        self.shared.metrics.frames.inc(kind);
        self.shared.metrics.frames_ignored.inc();
        Frame::Ignored
    }

    fn refuse(&self, reject: Reject, did: &str, seq: u64) {
        let refusal = Refusal::new(reject, did, seq, now_ms());
        self.shared.metrics.refuse(self.id, &self.tally, refusal);
    }

    fn reject(&self, reject: Reject, event: &Parsed<'_>) {
        let (did, seq) = (event.did, event.seq.get());
        self.refuse(reject, did, seq);
        let rev = match &event.body {
            Body::Commit(commit) => Some(commit.rev),
            Body::Sync(sync) => Some(sync.rev),
            Body::Identity { .. } | Body::Account { .. } => None,
        };
        log::debug!(
            target: REJECTED,
            host:% = self.name, did = did, seq = seq, rev = rev, reason = reject.name();
            "an event is not forwarded"
        );
    }

    /// The same where nothing could be read that would say more.
    fn reject_unread(&self, reject: Reject) {
        self.refuse(reject, "", 0);
        log::debug!(
            target: REJECTED,
            host:% = self.name, reason = reject.name();
            "a message is not forwarded"
        );
    }

    /// Everything up to the sequencer, or to the parking place; an error is a rejection.
    fn begin(self: &Arc<Lane>, event: &Parsed<'_>, frame: &[u8]) -> Result<(), Reject> {
        let did = Did::parse(event.did).map_err(|_| Reject::DidInvalid)?;
        if did.method() == Method::Unsupported {
            return Err(Reject::DidMethodUnsupported);
        }
        prove::check_event(event, now())?;
        let seq = event.seq.get();
        if matches!(event.body, Body::Identity { .. }) {
            self.shared.directory.purge(&did, &self.name);
        }
        let (epoch, waits) = {
            let state = self.lock();
            (state.epoch, state.parked.contains_key(&did))
        };
        let outcome = if waits {
            None
        } else {
            self.shared.directory.cached(&did)
        };
        let Some(outcome) = outcome else {
            if self.park(&did, Waiting::new(seq, epoch, frame, false)) == Parked::First {
                // A plain lookup is never refused.
                self.ask(&did, How::Miss);
            }
            return Ok(());
        };
        let is_rushing = self.is_rushing.load(Ordering::Relaxed);
        let core = is_rushing.then(|| self.shared.cores.take());
        let judged = self.judge(event, &did, frame, &outcome);
        drop(core);
        match judged {
            Next::Send(ready) => {
                let cursor = self.lock().cursor(None, seq);
                let upstream = Upstream { epoch, seq, cursor };
                self.send(ready, &did, upstream, On::HostThread);
                self.lock().read = seq;
                Ok(())
            }
            Next::Reject(reject) => Err(reject),
            Next::Refresh(reject) => {
                self.park(&did, Waiting::new(seq, epoch, frame, true));
                if self.ask(&did, How::Forced) {
                    return Ok(());
                }
                self.tally.refreshes_refused.inc();
                self.withdraw(&did);
                Err(reject)
            }
        }
    }

    fn ask(self: &Arc<Lane>, did: &Did, how: How) -> bool {
        let waiter = Arc::new(Waits(self.clone()));
        self.shared
            .directory
            .request(did, how, &self.name, waiter)
            .is_ok()
    }

    /// Parks an event; waits while the host has too much parked.
    fn park(&self, did: &Did, waiting: Waiting) -> Parked {
        let mut state = self.lock();
        let mut waiting_here = None;
        while self.is_full(&state) && !state.closed {
            let waits = &self.shared.metrics.hosts_waiting;
            waiting_here.get_or_insert_with(|| waits.during(Wait::Identity));
            state = self
                .moved
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(waiting_here);
        self.shared.metrics.deferred.inc(Deferral::Identity);
        self.shared.metrics.events_waiting.add(1);
        state.read = waiting.seq;
        state.seqs.insert(waiting.seq);
        state.events += 1;
        state.bytes += waiting.bytes();
        let all = &self.shared.parked_bytes;
        all.fetch_add(waiting.bytes(), Ordering::Relaxed);
        let bytes = waiting.bytes() as u64;
        self.shared.metrics.parked_bytes.add(bytes);
        match state.parked.entry(did.clone()) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(waiting);
                Parked::Joined
            }
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::from([waiting]));
                Parked::First
            }
        }
    }

    /// Whether the host must not be read. It is woken by what it has parked itself and what then
    /// leaves, which is something: without any, it is never full.
    fn is_full(&self, state: &State) -> bool {
        let all = self.shared.parked_bytes.load(Ordering::Relaxed);
        state.events >= HOST_PARKED_EVENTS_MAX
            || state.bytes >= HOST_PARKED_BYTES_MAX
            || (state.bytes >= HOST_PARKED_BYTES_FAIR && all >= PARKED_BYTES_MAX)
    }

    /// Takes back the one event of an account that was just parked.
    fn withdraw(&self, did: &Did) {
        let queue = self.lock().parked.remove(did);
        queue
            .into_iter()
            .flatten()
            .for_each(|waiting| self.left(&waiting));
    }

    /// The next parked event of an account. While it is judged the account still counts as
    /// waiting, so that what arrives meanwhile queues up behind it.
    fn next_parked(&self, did: &Did) -> Option<Waiting> {
        let mut state = self.lock();
        let next = state.parked.get_mut(did)?.pop_front();
        if next.is_none() {
            state.parked.remove(did);
        }
        next
    }

    /// Whether nothing of the account is parked any more; then it does not count as waiting.
    fn is_drained(&self, did: &Did) -> bool {
        let mut state = self.lock();
        let drained = state.parked.get(did).is_none_or(VecDeque::is_empty);
        if drained {
            state.parked.remove(did);
            // Thousands of accounts that nobody knew happen once to a host.
            if state.parked.is_empty() && state.parked.capacity() > KEEP_ACCOUNTS {
                state.parked = HashMap::new();
            }
        }
        drained
    }

    /// A parked event has gone its way.
    fn left(&self, waiting: &Waiting) {
        let mut state = self.lock();
        if waiting.epoch == state.epoch {
            state.seqs.remove(&waiting.seq);
        }
        state.events -= 1;
        state.bytes -= waiting.bytes();
        let all = &self.shared.parked_bytes;
        all.fetch_sub(waiting.bytes(), Ordering::Relaxed);
        let bytes = waiting.bytes() as u64;
        self.shared.metrics.parked_bytes.sub(bytes);
        drop(state);
        self.shared.metrics.events_waiting.sub(1);
        self.moved.notify_all();
    }

    /// Hands an event to the sequencer; waits while its inbox is full, or full of this host's events,
    /// unless others would have to wait with it.
    fn send(&self, ready: Ready, did: &Did, upstream: Upstream, on: On) {
        if self.lock().silent {
            return;
        }
        let event = Event {
            host: self.id,
            upstream,
            did: did.clone(),
            authority_at: ready.authority_at,
            kind: ready.kind,
            happened_ms: ready.happened_ms,
            frame: ready.frame,
            seq_at: ready.seq_at,
            stored: None,
        };
        let (inbox, input) = (&self.shared.inbox, Input::Event(Box::new(event)));
        let sent = match on {
            On::HostThread => inbox.send_of_host(input),
            On::Resolver => inbox.send(input),
        };
        if sent.is_ok() {
            let mut state = self.lock();
            // The sequencer takes no cursor of an epoch that is over.
            if upstream.epoch == state.epoch {
                state.told = state.told.max(upstream.cursor);
            }
        }
    }

    /// Judges one parked event; true when the next one may follow.
    fn release(self: &Arc<Lane>, did: &Did, mut waiting: Waiting, outcome: &Outcome) -> bool {
        let Ok(Message::Event(event)) = Message::parse(&waiting.frame) else {
            self.left(&waiting);
            return true;
        };
        match self.judge(&event, did, &waiting.frame, outcome) {
            Next::Send(ready) => {
                let cursor = {
                    let state = self.lock();
                    state.cursor(Some(waiting.seq), state.read)
                };
                let Waiting { epoch, seq, .. } = waiting;
                let upstream = Upstream { epoch, seq, cursor };
                self.send(ready, did, upstream, On::Resolver);
            }
            Next::Refresh(_) if !waiting.refreshed => {
                waiting.refreshed = true;
                if let Some(queue) = self.lock().parked.get_mut(did) {
                    queue.push_front(waiting);
                }
                // Refused: the same judgement is final.
                return !self.ask(did, How::Forced);
            }
            Next::Refresh(reject) | Next::Reject(reject) => {
                self.reject(reject, &event);
            }
        }
        self.left(&waiting);
        true
    }
}

impl Drop for Lane {
    /// What is parked and will not go its way any more makes room for that of others.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let all = &self.shared.parked_bytes;
        all.fetch_sub(state.bytes, Ordering::Relaxed);
        self.shared.metrics.parked_bytes.sub(state.bytes as u64);
        self.shared.metrics.events_waiting.sub(state.events as u64);
    }
}

/// What an event is counted as.
fn frame_type(body: &Body<'_>) -> FrameType {
    match body {
        Body::Commit(_) => FrameType::Commit,
        Body::Sync(_) => FrameType::Sync,
        Body::Identity { .. } => FrameType::Identity,
        Body::Account { .. } => FrameType::Account,
    }
}

/// What a stranger wrote, for a line of the log.
fn printable(text: &str) -> String {
    text.chars()
        .take(100)
        .flat_map(char::escape_debug)
        .collect()
}

/// A lane that waits for an identity.
struct Waits(Arc<Lane>);

impl Waiter for Waits {
    /// Proves and hands on what was parked for this account. The lookup that calls this is still
    /// under way, so asking for the same account again neither blocks nor is lost.
    fn resolved(&self, did: &Did, outcome: &Outcome) {
        let lane = &self.0;
        let mut outcome = outcome.clone();
        if lane.lock().silent {
            return;
        }
        while let Some(waiting) = lane.next_parked(did) {
            if !lane.release(did, waiting, &outcome) {
                return;
            }
            // A later identity event may have made this outcome an old one. Asking comes last: the
            // answer may be given by another thread before this one is done.
            match lane.shared.directory.cached(did) {
                Some(newer) => outcome = newer,
                None if matches!(outcome, Outcome::Unreachable) => {}
                None if lane.is_drained(did) => return,
                None => {
                    lane.ask(did, How::Miss);
                    return;
                }
            }
        }
    }

    /// The host was let go, or the relay stops: what is parked is behind the stored cursor.
    fn is_gone(&self) -> bool {
        self.0.lock().closed
    }
}

impl State {
    /// Up to where everything is handed on once `sent` is, if all up to `upto` is or is parked.
    fn cursor(&self, sent: Option<u64>, upto: u64) -> u64 {
        let waits = self.seqs.iter().find(|seq| Some(**seq) != sent);
        waits.map_or(upto, |seq| upto.min(seq - 1))
    }
}

impl Waiting {
    /// What it takes in memory, about.
    fn bytes(&self) -> usize {
        self.frame.len() + size_of::<Waiting>()
    }

    fn new(seq: u64, epoch: u32, frame: &[u8], refreshed: bool) -> Waiting {
        Waiting {
            seq,
            epoch,
            frame: frame.into(),
            refreshed,
        }
    }
}
