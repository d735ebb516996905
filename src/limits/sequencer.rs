//! Bounds of the inbox, of a batch and of the collection index.

use std::time::Duration;

use super::RING_BYTES_MAX;

/// Events in the sequencer's inbox; beyond, host threads wait, and TCP with them.
pub const INBOX_EVENTS_MAX: usize = 4_096;
/// Events of one host in the sequencer's inbox; beyond, its thread waits, so that who floods does not fill it for
/// others.
pub const INBOX_HOST_EVENTS_MAX: usize = 256;
/// The same in bytes.
pub const INBOX_HOST_BYTES_MAX: usize = 8 << 20;
/// Other messages in the sequencer's inbox; beyond, who sends them waits too.
pub const INBOX_COMMANDS_MAX: usize = 4_096;
/// Bytes of events in the sequencer's inbox; beyond, host threads wait, and TCP with them.
pub const INBOX_BYTES_MAX: usize = 64 << 20;
/// Bytes for which a host has one turn at the sequencer: so often others come first, for each time that an event is
/// as large.
pub const TURN_BYTES: usize = 16 << 10;
/// Identity events that are remembered because the cursor of their host has not passed them; of any further one it is
/// not recognised if it comes again before that.
pub const AHEAD_EVENTS_MAX: usize = 65_536;
/// How long it may take until it is written how far a host is processed of which nothing was published; what is
/// published meanwhile, of whatever host, takes it along.
pub const PROGRESS_DELAY: Duration = Duration::from_millis(100);
/// Events of one batch. An event waits for the one that is being written when it comes, and for its own: with so many
/// that is a few milliseconds also while hosts flood, and the sync of each is still a small part of its cost.
pub const BATCH_EVENTS_MAX: usize = 128;
/// Throttled accounts that one batch lets in, or looks at, because there is room for them; the next
/// batch goes on. Those behind them wait some milliseconds longer, and so do the events beside them.
pub const BATCH_LET_IN_MAX: usize = 1_000;
/// Bytes of one batch, beside a piece of a large event: what they cost is the delay of all that are in it, or wait for its
/// end.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// Payloads of more bytes are written in pieces, in batches before that in which the event is.
pub const LARGE_EVENT_BYTES: usize = 64 << 10;
/// Bytes of one such piece.
pub const PIECE_BYTES: usize = 64 << 10;

/// Changes of the collection index in one batch, more or less; the next batch goes on. One event can
/// be as many as an account may have collections.
pub const BATCH_INDEX_CHANGES_MAX: usize = 20_000;

/// Distinct collections in the index; records of any further one are passed on like all others, but
/// nobody finds them by it.
pub const COLLECTIONS_MAX: u64 = 1_000_000;
/// Collections of one account in the index; so with any further one.
pub const ACCOUNT_COLLECTIONS_MAX: usize = 1_000;
/// Collections whose numbers the sequencer keeps in memory; beyond, they are looked up in the store.
pub const COLLECTIONS_CACHED_MAX: usize = 16_384;
/// Numbers of each collection that are passed over after an end that may have lost the last batches:
/// more than can be given between two times that the operating system writes to the disk.
pub const PAIR_NUMBER_JUMP: u64 = 1 << 20;
/// Seqs skipped after an end that may have lost the last batches: more than can be assigned
/// between two times that the operating system writes to the disk.
pub const SEQ_JUMP: u64 = 10_000_000;

const _: () = assert!(BATCH_BYTES_MAX <= INBOX_BYTES_MAX);
const _: () = assert!(LARGE_EVENT_BYTES + PIECE_BYTES < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_EVENTS_MAX <= INBOX_EVENTS_MAX);
const _: () = assert!(INBOX_HOST_EVENTS_MAX < INBOX_EVENTS_MAX);
const _: () = assert!(INBOX_HOST_BYTES_MAX < INBOX_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < RING_BYTES_MAX);
const _: () = assert!(COLLECTIONS_MAX < u32::MAX as u64);
const _: () = assert!(ACCOUNT_COLLECTIONS_MAX < BATCH_INDEX_CHANGES_MAX);
