//! Bounds of what a host may do, and of what is done for it.

use std::time::Duration;

use super::{FRAME_BYTES_MAX, HOSTS_STALL_MAX};

/// The read buffer of a host's websocket, in bytes; there is one per host. A message that does not
/// fit in, which few do, has a buffer of its own while it is read and proven.
pub const HOST_READ_BUFFER_BYTES: usize = 8 << 10;
/// The first room for such a message, in bytes, if it says that it is so long. The room doubles as
/// the message arrives.
pub const HOST_LARGE_MESSAGE_BYTES_FIRST: usize = 64 << 10;
/// A record of TLS with its header, in bytes (<https://www.rfc-editor.org/rfc/rfc5246#section-6.2.3>).
pub const TLS_RECORD_BYTES_MAX: usize = 5 + (16 << 10) + 2_048;
/// The records of one message of the handshake, in bytes, as far as they have come.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 64 << 10;
/// What is encrypted at once of what is sent to a host, in bytes.
pub const TLS_WRITE_BYTES_MAX: usize = 16 << 10;
/// Rooms for records that are kept while no host needs them, of 18 to 36 kilobytes each.
pub const TLS_ROOMS_KEPT_MAX: usize = 64;
/// Resolving a host's name and connecting to one address of it.
pub const HOST_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// TLS and websocket handshakes with a host, together.
pub const HOST_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// A host that has been silent this long is pinged.
pub const HOST_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Silent intervals after which a connection counts as dead.
pub const HOST_SILENT_INTERVALS_MAX: u32 = 4;
/// A message, from its first byte to its last, and the silence before it. A host that drips
/// bytes loses its connection.
pub const HOST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(150);
/// Pieces of one message; the connection of a host that sends one in more is ended. A proxy may cut
/// the largest message into some thousand of the size of a page.
pub const HOST_MESSAGE_PIECES_MAX: u32 = 4_096;
/// Pings and pongs of one host in an hour; all of them may come at once. The connection of a host
/// that sends more is ended: it would keep a core busy with answers.
pub const HOST_CONTROL_FRAMES_AN_HOUR_MAX: u64 = 3_600;
/// A host that sends so many messages in [`HOST_RUSH_SPAN`] is in a rush: its thread runs for longer at a time, and
/// so comes after those of others.
pub const HOST_RUSH_MESSAGES: u32 = 100;
/// See [`HOST_RUSH_MESSAGES`].
pub const HOST_RUSH_SPAN: Duration = Duration::from_millis(100);
/// A write (a ping, a pong) to a host that does not read.
pub const HOST_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lasted this long was no failure, also when nothing happened on it.
pub const HOST_SETTLED: Duration = Duration::from_secs(60);
/// A connection that ended sooner than this after the host had said something was brief. One now and
/// then is everyday life; a host that is cut or goes away again and again is left alone a little
/// longer each time, up to the delay of [`HOST_BRIEF_FAILURES_MAX`] failures.
pub const HOST_BRIEF: Duration = Duration::from_secs(10);
/// As how many failures in a row brief connections count at most: a host that says something each
/// time is tried every few seconds, and never shown as offline.
pub const HOST_BRIEF_FAILURES_MAX: u32 = 4;
/// The first delay after a failure; it doubles with each further one.
pub const HOST_BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest delay between two attempts: hosts are retried for ever.
pub const HOST_BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// Consecutive failures after which a host is shown as offline; it is retried all the same.
pub const HOST_FAILURES_OFFLINE: u32 = 8;
/// Consecutive failures after which the log says that a host has trouble: fewer are everyday life
/// with thousands of hosts.
pub const HOST_FAILURES_LOGGED: u32 = 5;
/// How often the crawler says in the log how many hosts are connected.
pub const HOST_REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How often the crawler looks for host threads that a panic has ended, to start them anew.
pub const HOST_REVIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Connections lost at the same frame before that frame is skipped.
pub const HOST_POISON_DROPS_MAX: u32 = 3;
/// Workspaces for proving that are kept while nobody needs them, of about ten kilobytes each; beyond,
/// they are freed, and made anew when that many hosts are busy at once again.
pub const WORKSPACES_KEPT_MAX: usize = 64;
/// Events of one host that wait for an identity; beyond, the host is not read.
pub const HOST_PARKED_EVENTS_MAX: usize = 4_096;
/// Bytes of one host's events that wait for an identity; beyond, the host is not read.
pub const HOST_PARKED_BYTES_MAX: usize = 16 << 20;
/// Bytes of events of all hosts that wait for an identity. Beyond, a host is read only while it has
/// less than [`HOST_PARKED_BYTES_FAIR`] of them: a directory that is down must not fill the memory,
/// and a few hosts with many unknown accounts must not stop the others.
pub const PARKED_BYTES_MAX: usize = 256 << 20;
/// Bytes of one host's events that may wait whatever the other hosts do.
pub const HOST_PARKED_BYTES_FAIR: usize = 128 << 10;
/// Events of one host in a second, and one more for every
/// [`HOST_ACCOUNTS_PER_EVENT_A_SECOND`] accounts of it. What is over this limit, or one of the next
/// two, waits: the host is not read meanwhile.
pub const HOST_EVENTS_A_SECOND_MAX: u64 = 50;
/// Accounts that give their host one more event a second.
pub const HOST_ACCOUNTS_PER_EVENT_A_SECOND: u64 = 1_000;
/// An event counts once more towards the limits of its host for every so many bytes. Nearly all have a few
/// thousand bytes.
pub const HOST_BYTES_PER_EVENT: usize = 64 << 10;
/// Beyond so many bytes, which hardly any has, once more for every [`HOST_LARGE_BYTES_PER_EVENT`]: all events that
/// come meanwhile wait until it is on the disk.
pub const HOST_LARGE_EVENT_BYTES: usize = 1 << 20;
/// See [`HOST_LARGE_EVENT_BYTES`]. One of the largest counts as five hundred.
pub const HOST_LARGE_BYTES_PER_EVENT: usize = 8 << 10;
/// Events of one host in an hour, and one more for every account of it.
pub const HOST_EVENTS_AN_HOUR_MAX: u64 = 2_500;
/// Events of one host in a day, and [`HOST_EVENTS_A_DAY_PER_ACCOUNT`] more for every account.
pub const HOST_EVENTS_A_DAY_MAX: u64 = 20_000;
/// Events a day that each account gives to its host.
pub const HOST_EVENTS_A_DAY_PER_ACCOUNT: u64 = 10;
/// Events in a second of a host of a trusted domain, which has no other limit.
pub const TRUSTED_HOST_EVENTS_A_SECOND_MAX: u64 = 5_000;
/// A host that is over a limit for this long is shown as throttled.
pub const HOST_THROTTLED_SHOWN: Duration = Duration::from_secs(1);
/// And until nothing of it has waited for this long.
pub const HOST_THROTTLED_CALM: Duration = Duration::from_secs(3);
/// How often the number of accounts by which a host's limits grow is looked up.
pub const HOST_ACCOUNTS_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is kept of connected hosts that they are.
pub const HOST_SEEN_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// A host that waits is tried at once when somebody asks for that, but not more often than this.
pub const HOST_WAKE_INTERVAL: Duration = Duration::from_secs(5);
/// A host whose events are older than this is shown as catching up.
pub const HOST_BEHIND_SHOWN: Duration = Duration::from_secs(5 * 60);
/// Hosts that are dialed at the same time; the others wait their turn.
pub const HOST_DIALS_MAX: usize = 64;
/// The same of hosts that could not be connected to the last time. They wait for each other only:
/// handshakes that hang would else keep everybody waiting.
pub const HOST_REDIALS_MAX: usize = 32;

/// An account that is inactive and sends events all the same is asked about at its host, at most
/// once in this time: the word that it is active again may have been lost.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The time in which [`STATUS_PER_HOST_MAX`] are counted.
pub const STATUS_WINDOW: Duration = Duration::from_secs(60);
/// Questions of that kind to one host; beyond, events of its inactive accounts are rejected unasked.
pub const STATUS_PER_HOST_MAX: u32 = 30;
/// Accounts remembered as asked about; beyond, no further ones are asked about for a while.
pub const STATUS_ACCOUNTS_MAX: usize = 16_384;
/// Events held while their hosts are asked, in bytes; beyond, they are rejected unasked.
pub const STATUS_HELD_BYTES_MAX: usize = 32 << 20;
/// Questions that wait for a thread; beyond, events are rejected unasked.
pub const STATUS_QUEUE_MAX: usize = 256;
/// Threads that ask.
pub const STATUS_THREADS: usize = 4;
/// One question, everything together.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// The answer, in bytes.
pub const STATUS_BODY_BYTES_MAX: usize = 16 << 10;

const _: () = assert!(HOST_EVENTS_A_SECOND_MAX < TRUSTED_HOST_EVENTS_A_SECOND_MAX);
const _: () = assert!(4 * HOST_PING_INTERVAL.as_secs() < HOSTS_STALL_MAX.as_secs());
const _: () = assert!(HOST_THROTTLED_CALM.as_secs() < HOST_PING_INTERVAL.as_secs());
const _: () = assert!(HOST_READ_BUFFER_BYTES < HOST_LARGE_MESSAGE_BYTES_FIRST);
const _: () = assert!(HOST_LARGE_MESSAGE_BYTES_FIRST < FRAME_BYTES_MAX);
const _: () = assert!(HOST_PARKED_BYTES_FAIR < HOST_PARKED_BYTES_MAX);
const _: () = assert!(HOST_PARKED_BYTES_MAX < PARKED_BYTES_MAX);
const _: () = assert!(HOST_BRIEF.as_secs() < HOST_SETTLED.as_secs());
const _: () = assert!(HOST_BRIEF_FAILURES_MAX < HOST_FAILURES_LOGGED);
