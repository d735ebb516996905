//! Every bound, named, with its unit and who suffers when it is reached. What a variable of the
//! configuration changes is in `config`; here is what no operator should have to think about.

use std::time::Duration;

/// A whole websocket message, in bytes, in and out: the protocol's hard maximum
/// (<https://atproto.com/specs/sync#limits>). A host that sends more loses its connection.
pub const FRAME_BYTES_MAX: usize = 5_000_000;
/// `blocks` of a `#commit`, in bytes. A larger commit is rejected.
pub const COMMIT_BLOCKS_BYTES_MAX: usize = 2_000_000;
/// `blocks` of a `#sync`, in bytes. A larger event is rejected.
pub const SYNC_BLOCKS_BYTES_MAX: usize = 10_000;
/// `ops` of a `#commit`. A commit with more is rejected.
pub const COMMIT_OPS_MAX: usize = 200;
/// One record block, in bytes. A commit with a larger one is rejected.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// How far in the future a `rev` may lie.
pub const REV_DRIFT_MAX: Duration = Duration::from_secs(5 * 60);

/// Nesting of CBOR containers; deeper input is malformed.
pub const CBOR_DEPTH_MAX: usize = 32;
/// Entries of one tree node. More can only come from keys mined for it; the commit is rejected.
pub const MST_NODE_ENTRIES_MAX: usize = 1_024;
/// A key of the tree, in bytes.
pub const MST_KEY_BYTES_MAX: usize = 1_024;

/// The read buffer of a host's websocket, in bytes; there is one per host.
pub const HOST_READ_BUFFER_BYTES: usize = 8 << 10;
/// Resolving a host's name and connecting to one address of it.
pub const HOST_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// TLS and websocket handshakes with a host, together.
pub const HOST_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// A host that has been silent this long is pinged.
pub const HOST_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Silent intervals after which a connection counts as dead.
pub const HOST_SILENT_INTERVALS_MAX: u32 = 4;
/// A write (a ping, a pong) to a host that does not read.
pub const HOST_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first delay after a failure; it doubles with each further one.
pub const HOST_BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest delay between two attempts: hosts are retried for ever.
pub const HOST_BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// Consecutive failures after which a host is shown as offline; it is retried all the same.
pub const HOST_FAILURES_OFFLINE: u32 = 15;
/// Connections lost at the same frame before that frame is skipped.
pub const HOST_POISON_DROPS_MAX: u32 = 3;
/// Events of one host that wait for an identity; beyond, the host is not read.
pub const HOST_PARKED_EVENTS_MAX: usize = 4_096;
/// Bytes of one host's events that wait for an identity; beyond, the host is not read.
pub const HOST_PARKED_BYTES_MAX: usize = 16 << 20;
/// Hosts that are dialed at the same time; the others wait their turn.
pub const HOST_DIALS_MAX: usize = 64;

/// Events in the sequencer's inbox; beyond, host threads wait, and TCP with them.
pub const INBOX_EVENTS_MAX: usize = 4_096;
/// Bytes of events in the sequencer's inbox; beyond, host threads wait, and TCP with them.
pub const INBOX_BYTES_MAX: usize = 64 << 20;
/// Events of one batch.
pub const BATCH_EVENTS_MAX: usize = 512;
/// Bytes of one batch.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// Recent frames kept in memory for subscribers, in bytes; who is behind them reads from disk.
pub const RING_BYTES_MAX: usize = 64 << 20;
/// Frames gather this long before sleeping subscribers are woken.
pub const WAKE_GATHER: Duration = Duration::from_millis(3);
/// Frames of one vectored write to a subscriber.
pub const SUBSCRIBER_WRITE_FRAMES_MAX: usize = 64;
/// Bytes read from disk at once for a subscriber that is behind the ring.
pub const SUBSCRIBER_PAGE_BYTES_MAX: usize = 1 << 20;
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

/// The backlog of every listener.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// Connections of the public port that are not (yet) subscribers.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// The same, of one address (an IPv6 /64 counts as one).
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// A request head, from the first byte to the last.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A request head, in bytes; a larger one is answered 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header lines of a request; more are answered 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// A request body, in bytes; a larger one is answered 413.
pub const HTTP_BODY_BYTES_MAX: usize = 8 << 10;
/// Writing an answer to a client that reads slowly.
pub const HTTP_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection between two requests.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A lookup of a DID document, everything together.
pub const IDENTITY_LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// A DID document, in bytes.
pub const IDENTITY_DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// A document this old is fetched again in the background when its account is next heard of.
pub const IDENTITY_FRESH: Duration = Duration::from_secs(24 * 3600);
/// How long "there is no such identity" is believed.
pub const IDENTITY_MISSING_FRESH: Duration = Duration::from_secs(120);
/// Lookups that wait for a resolver thread; beyond, hosts with unknown accounts wait.
pub const IDENTITY_QUEUE_MAX: usize = 65_536;
/// Forced refreshes of one account: at most one in this time.
pub const IDENTITY_FORCED_INTERVAL: Duration = Duration::from_secs(30);

/// The first delay before a lookup that failed is tried again; it doubles with each further one.
pub const IDENTITY_RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest delay between two attempts at one lookup.
pub const IDENTITY_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long the PLC directory is left alone after it has answered that we ask too much.
pub const IDENTITY_LIMITED_PAUSE: Duration = Duration::from_secs(5);
/// How long a `did:web` host may fail before its events are refused. The PLC directory is asked for
/// ever: without it nothing can be verified, and everybody waits.
pub const IDENTITY_WEB_PATIENCE: Duration = Duration::from_secs(60);
/// How long an old document is used before a directory that did not answer is asked again.
pub const IDENTITY_STALE_RETRY: Duration = Duration::from_secs(60);
/// Lookups that wait while background refreshes are still added; beyond, old documents stay old.
pub const IDENTITY_REFRESH_QUEUE_MAX: usize = 1_024;
/// Forced refreshes that one host may cause at once; beyond, its events that need one are refused.
pub const IDENTITY_FORCED_BURST: u32 = 64;
/// The time after which a host may cause one more forced refresh.
pub const IDENTITY_FORCED_REFILL: Duration = Duration::from_secs(1);
/// Hosts, and accounts, whose recent forced refreshes are remembered; beyond, none are made.
pub const IDENTITY_FORCED_MAX: usize = 65_536;

/// Addresses of one name that are tried.
pub const OUTBOUND_ADDRESSES_MAX: usize = 8;
/// The head of an answer to us, in bytes.
pub const OUTBOUND_HEAD_BYTES_MAX: usize = 16 << 10;
/// Idle time after which a connection to a host is probed.
pub const OUTBOUND_KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Time between two probes.
pub const OUTBOUND_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the connection is dead.
pub const OUTBOUND_KEEPALIVE_RETRIES: u32 = 4;
/// The stack of a thread that waits for the system's name resolution.
pub const OUTBOUND_DNS_STACK_BYTES: usize = 256 << 10;

/// The stack of threads that are neither hosts nor subscribers.
pub const SERVICE_STACK_BYTES: usize = 1 << 20;
/// How long a stop may take before the process ends all the same.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

const _: () = assert!(IDENTITY_REFRESH_QUEUE_MAX < IDENTITY_QUEUE_MAX);
const _: () = assert!(COMMIT_BLOCKS_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(SYNC_BLOCKS_BYTES_MAX < COMMIT_BLOCKS_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < COMMIT_BLOCKS_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < HOST_PARKED_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= INBOX_BYTES_MAX);
const _: () = assert!(BATCH_EVENTS_MAX <= INBOX_EVENTS_MAX);
const _: () = assert!(BATCH_BYTES_MAX < RING_BYTES_MAX);
