//! Bounds of subscribers.

use std::{ops::RangeInclusive, time::Duration};

/// Recent frames kept in memory for subscribers, in bytes; who is behind them reads from disk.
pub const RING_BYTES_MAX: usize = 32 << 20;
/// Frames lie one behind the other in blocks of this size, in bytes, each with a mapping of its own
/// ([`super::MMAP_THRESHOLD_BYTES`]), which goes back to the system when the last of its frames is gone.
pub const PACK_BYTES: usize = super::MMAP_THRESHOLD_BYTES;
/// A longer frame has a block of its own, so that the end of a block that is left free is short.
pub const PACK_FRAME_BYTES_MAX: usize = 32 << 10;
/// After sleeping subscribers were woken, frames gather this long before they are woken again.
pub const WAKE_GATHER: Duration = Duration::from_millis(3);
/// More subscribers than this are many. Of those only the first [`WAKE_FIRST`] are woken so often.
pub const WAKE_MANY: usize = 50;
/// The others of many are woken no sooner again than after this: a wake-up costs as much as sending several frames.
pub const WAKE_GATHER_MANY: Duration = Duration::from_millis(6);
/// Of many subscribers so many are woken together: those that have been here longest.
pub const WAKE_FIRST: usize = 16;
/// So many of the others are woken at once for each core, with [`WAKE_PAUSE`] between: more keep all cores busy for
/// milliseconds, for which events wait.
pub const WAKE_PORTION_A_CORE: usize = 64;
/// See [`WAKE_PORTION_A_CORE`].
pub const WAKE_PAUSE: Duration = Duration::from_millis(1);
/// How often a subscriber that is being sent frames is listened to, so that its pings are answered.
pub const SUBSCRIBER_LISTEN_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes that a subscriber may say at once, all of which is passed over but for pings: more than any
/// client has to say.
pub const SUBSCRIBER_SAID_BYTES_BURST: usize = 1 << 18;
/// Bytes that it may say in a second beyond that; what comes faster waits in its socket.
pub const SUBSCRIBER_SAID_BYTES_A_SECOND: usize = 16 << 10;
/// Bytes that each of its frames counts as beyond those it has: 256 pings at once, and 16 a second.
pub const SUBSCRIBER_SAID_FRAME_BYTES: usize = 1 << 10;
/// How often frames are looked for on behalf of a subscriber that says too much: it is not woken for each of them, as
/// others are.
pub const SUBSCRIBER_OWN_PACE: Duration = Duration::from_millis(100);
/// Each of them does so a little less often than another, by up to so much more, so that they do not all come together.
pub const SUBSCRIBER_OWN_PACE_SPREAD: Duration = Duration::from_millis(50);
/// For how long the place of a subscriber that broke the protocol, or went at once, stays taken for its address.
pub const SUBSCRIBER_FORFEIT: Duration = Duration::from_secs(10);
/// Who has gone before this, without a farewell, has gone at once: its subscription has cost the start and the end of
/// a thread and was of no use to it.
pub const SUBSCRIBER_STAY_MIN: Duration = Duration::from_secs(1);
/// Frames of one vectored write to a subscriber.
pub const SUBSCRIBER_WRITE_FRAMES_MAX: usize = 64;
/// Bytes that a subscriber takes at once from the ring or the disk, and so holds in memory when it
/// does not read.
pub const SUBSCRIBER_PAGE_BYTES_MAX: usize = 256 << 10;
/// Bytes of frames longer than that which are kept for subscribers that wait for their sockets, all of them together;
/// a dozen of the longest.
pub const LARGE_FRAMES_BYTES_MAX: usize = 64 << 20;
/// Where those are full: subscribers that have a long frame in memory at the same time while it is written. They give it
/// back when their socket takes no more, and read it again.
pub const LARGE_FRAME_TURNS: usize = 4;
/// How long a subscriber waits for such a turn before it looks at what else there is to do.
pub const LARGE_FRAME_PATIENCE: Duration = Duration::from_millis(100);
/// Subscribers for which the store is read ahead at the same time: one for every [`super::REPLAY_CORES_EACH`] cores
/// within these bounds; the others have each page read when they need it, which is slower.
pub const READ_AHEADS: RangeInclusive<usize> = 1..=8;
/// Pages that are read ahead of one subscriber, beside the one that is being read.
pub const READ_AHEAD_PAGES: usize = 2;
/// Bytes of such a page: larger than those of [`SUBSCRIBER_PAGE_BYTES_MAX`], because a page begins and
/// ends within a block of the store, which is taken apart for both its neighbours.
pub const READ_AHEAD_PAGE_BYTES: usize = 1 << 20;
/// A subscriber that has taken so many pages in a row from the store is worth a thread.
pub const READ_AHEAD_AFTER_PAGES: u32 = 2;
/// Pongs and pings that wait for one subscriber; beyond, the oldest is dropped.
pub const SUBSCRIBER_URGENT_FRAMES_MAX: usize = 16;
/// Bytes that the kernel holds for one subscriber beyond what is on its way, so that progress is
/// seen and pongs are not queued behind megabytes. Too few cost system calls.
pub const SUBSCRIBER_UNSENT_BYTES_MAX: u32 = 256 << 10;
/// Silence after which, and interval in which, the kernel probes a subscriber's connection.
pub const SUBSCRIBER_KEEPALIVE: Duration = Duration::from_secs(60);
/// A subscriber that takes no byte for this long is cut as too slow.
pub const SUBSCRIBER_STALL_MAX: Duration = Duration::from_secs(60);
/// A subscriber that was sent nothing for this long is pinged.
pub const SUBSCRIBER_PING_INTERVAL: Duration = Duration::from_secs(30);
/// A subscriber that answers nothing to pings for this long is gone.
pub const SUBSCRIBER_SILENT_MAX: Duration = Duration::from_secs(150);
/// How long a closing handshake, or the last error frame, may take.
pub const SUBSCRIBER_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Subscribers of the whole relay; one more is answered 429.
pub const SUBSCRIBERS_MAX: usize = 4_096;
/// Subscribers of one address (an IPv6 /64 counts as one); one more is answered 429.
pub const SUBSCRIBERS_PER_ADDRESS_MAX: usize = 64;

const _: () = assert!(SUBSCRIBER_SAID_BYTES_A_SECOND < SUBSCRIBER_SAID_BYTES_BURST);
const _: () = assert!(WAKE_GATHER.as_millis() <= WAKE_GATHER_MANY.as_millis());
