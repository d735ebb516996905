//! The merged stream as subscribers see it.
//!
//! There is no queue per subscriber. The sequencer appends each durable frame once to a [`Ring`];
//! every subscriber's thread pulls from there by seq, and from the store when it has fallen behind
//! the ring. So memory does not grow with slow readers, one slow reader delays nobody, and a
//! reader is cut only when it takes nothing at all or falls out of the window.
//!
//! Waking a thread costs more than sending it a frame: a ticker lets frames gather for a few
//! milliseconds and then wakes those who sleep.

mod admission;
mod ahead;
mod bell;
mod client_frames;
mod cursor;
mod ear;
mod end;
pub mod frame;
mod hidden;
mod large;
mod outbox;
mod packer;
mod registry;
mod ring;
mod subscriber;
mod ticker;

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use crossbeam_channel::{Sender, bounded};

pub use self::{
    admission::{Admission, Admissions, TooMany},
    cursor::{BadCursor, Cursor},
    frame::Frame,
    packer::Packer,
    registry::SubscriberInfo,
    ring::{Answer, Ring},
};
use self::{ahead::Turns, hidden::Hidden, large::LargeFrames, registry::Registry};
use crate::{
    atproto::did::Did,
    crew::Crew,
    limits,
    metrics::Metrics,
    store::{Store, Takedown},
    threads::{self, Role, Spawner, Stop, Thread},
};

/// The time limits of subscribers; tests use short ones.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// [`limits::WAKE_GATHER`]
    pub wake_gather: Duration,
    /// [`limits::WAKE_GATHER_MANY`]
    pub wake_gather_many: Duration,
    /// [`limits::WAKE_PAUSE`]
    pub wake_pause: Duration,
    /// [`limits::SUBSCRIBER_STALL_MAX`]
    pub stall_max: Duration,
    /// [`limits::SUBSCRIBER_PING_INTERVAL`]
    pub ping_interval: Duration,
    /// [`limits::SUBSCRIBER_SILENT_MAX`]
    pub silent_max: Duration,
    /// [`limits::SUBSCRIBER_CLOSE_TIMEOUT`]
    pub close_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            wake_gather: limits::WAKE_GATHER,
            wake_gather_many: limits::WAKE_GATHER_MANY,
            wake_pause: limits::WAKE_PAUSE,
            stall_max: limits::SUBSCRIBER_STALL_MAX,
            ping_interval: limits::SUBSCRIBER_PING_INTERVAL,
            silent_max: limits::SUBSCRIBER_SILENT_MAX,
            close_timeout: limits::SUBSCRIBER_CLOSE_TIMEOUT,
        }
    }
}

/// How the firehose behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time limits.
    pub timing: Timing,
    /// Bytes of the ring; [`limits::RING_BYTES_MAX`].
    pub ring_bytes_max: usize,
    /// Bytes that one subscriber takes at once from the ring or the disk, and so holds in memory; a longer frame is a
    /// large one. [`limits::SUBSCRIBER_PAGE_BYTES_MAX`]
    pub page_bytes_max: usize,
    /// Bytes of large frames that are kept for subscribers; [`limits::LARGE_FRAMES_BYTES_MAX`].
    pub large_bytes_max: usize,
    /// The stack of each subscriber's thread, in bytes.
    pub stack_bytes: usize,
    /// Subscribers in all, and of one address.
    pub subscribers_max: (usize, usize),
}

impl Settings {
    /// The settings of a relay whose connection threads have stacks of `stack_bytes`.
    pub fn new(stack_bytes: usize) -> Settings {
        Settings {
            timing: Timing::default(),
            ring_bytes_max: limits::RING_BYTES_MAX,
            page_bytes_max: limits::SUBSCRIBER_PAGE_BYTES_MAX,
            large_bytes_max: limits::LARGE_FRAMES_BYTES_MAX,
            stack_bytes,
            subscribers_max: (limits::SUBSCRIBERS_MAX, limits::SUBSCRIBERS_PER_ADDRESS_MAX),
        }
    }
}

/// The stream and its subscribers.
#[derive(Debug)]
pub struct Firehose {
    ring: Ring,
    hidden: Hidden,
    large: Arc<LargeFrames>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    settings: Settings,
    admissions: Arc<Admissions>,
    registry: Arc<Registry>,
    turns: Turns,
    /// Reads the store for those who are far behind.
    crew: Crew,
    /// Starts the threads of subscribers.
    spawner: Spawner,
    news: Sender<()>,
    stop: Stop,
}

/// A subscriber that the front door has accepted.
#[derive(Debug)]
pub struct Subscription {
    /// Its slot.
    pub admission: Admission,
    /// The connection, after the head of the 101 answer was written to it.
    pub stream: TcpStream,
    /// What was read from it after the head of the request.
    pub leftover: Vec<u8>,
    /// Where the stream begins.
    pub cursor: Cursor,
    /// Where it connects from, as the front door sees it.
    pub peer: SocketAddr,
    /// Its `User-Agent`.
    pub user_agent: String,
}

impl Firehose {
    /// Starts the stream after the store's last seq, and the ticker. Dropping the thread waits
    /// for the stop and for the subscribers to end.
    pub fn start(
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        settings: Settings,
        stop: Stop,
    ) -> io::Result<(Arc<Firehose>, Thread)> {
        let (news, heard) = bounded(1);
        let hidden = Hidden::new(store.hiding().map_err(io::Error::other)?);
        let (total, per_address) = settings.subscribers_max;
        let (bytes, turns) = (settings.large_bytes_max, limits::LARGE_FRAME_TURNS);
        let large = LargeFrames::new(bytes, turns, Arc::clone(&metrics));
        let firehose = Arc::new(Firehose {
            ring: Ring::new(settings.ring_bytes_max, store.last_seq()),
            hidden,
            large: Arc::new(large),
            store,
            metrics,
            settings,
            admissions: Arc::new(Admissions::new(total, per_address)),
            registry: Arc::default(),
            turns: Turns::new(),
            crew: Crew::start(
                Role::Replay,
                limits::REPLAY_CORES_EACH,
                limits::REPLAY_THREADS,
            )?,
            spawner: Spawner::start(Role::Ticker)?,
            news,
            stop,
        });
        let ticking = Arc::clone(&firehose);
        let body = move || {
            let Firehose { registry, stop, .. } = &*ticking;
            ticker::tick(registry, &heard, stop, &settings.timing);
        };
        let thread = threads::spawn(Role::Ticker, "", limits::SERVICE_STACK_BYTES, body)?;
        Ok((firehose, thread))
    }

    /// Publishes frames whose batch is durable, in the order of their seq. Costs the same however
    /// many subscribers there are. Only the sequencer calls this.
    pub fn publish(&self, frames: Vec<Frame>) {
        let bytes = self.ring.push(frames);
        self.metrics.ring_bytes.set(bytes as u64);
        // Full means that the ticker has not yet heard of the last time: once is enough.
        let _ = self.news.try_send(());
    }

    /// Accounts are taken down, or not any more, which is durable. From now on nobody takes a frame of
    /// such an account that is older than its takedown; who took a page before may still be sent that.
    /// Only the sequencer calls this, before it publishes the frames that say so.
    pub fn hide(&self, rulings: Vec<(Did, Option<Takedown>)>) {
        if !rulings.is_empty() {
            self.hidden.rule(rulings, self.oldest());
        }
    }

    /// The oldest seq that anybody may still be sent: of the store, of the ring, or of what a
    /// subscriber has taken already.
    fn oldest(&self) -> u64 {
        // Those who come later begin in the window as it is then, or as it is now.
        let stored = self.store.window().oldest.unwrap_or(u64::MAX);
        let taken = self.registry.lowest().unwrap_or(u64::MAX);
        let before = taken.min(self.ring.after());
        stored.min(before.saturating_add(1))
    }

    /// A slot for a subscriber at `address`, to be asked for before the upgrade is answered: a
    /// live stream begins here.
    pub fn admit(&self, address: IpAddr) -> Result<Admission, TooMany> {
        self.admissions.admit(address, self.store.last_seq())
    }

    /// Serves a subscriber in a thread of its own. An error means that there is none to be had;
    /// the connection is then closed.
    pub fn subscribe(self: &Arc<Self>, subscription: Subscription) -> io::Result<()> {
        subscriber::spawn(self, subscription)
    }

    /// How many events each subscriber is behind the last one, those that are least behind first.
    pub fn lags(&self) -> Vec<u64> {
        let head = self.ring.head();
        let positions = self.registry.positions().into_iter();
        let mut lags: Vec<u64> = positions.map(|at| head.saturating_sub(at)).collect();
        lags.sort_unstable();
        lags
    }

    /// Who subscribes now.
    pub fn subscribers(&self) -> Vec<SubscriberInfo> {
        self.registry.list()
    }

    /// Sends the subscriber of this number away; false where there is none. It is told that the relay
    /// goes away, and may come again.
    pub fn dismiss(&self, id: u64) -> bool {
        self.registry.dismiss(id)
    }

    /// When the first event at or above this seq was written, in milliseconds since 1970; none where
    /// there is none, or it can not be read.
    pub fn written_ms(&self, seq: u64) -> Option<u64> {
        self.store.written_ms(seq).unwrap_or_else(|error| {
            log::error!(seq = seq, error:% = error; "the age of an event can not be read");
            None
        })
    }
}

#[cfg(test)]
mod tests;
