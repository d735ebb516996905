//! Bounds of the protocol, and of what its bytes may be made of.

use std::time::Duration;

use super::{ACCOUNT_COLLECTIONS_MAX, HOST_PARKED_BYTES_MAX};

/// A whole websocket message, in bytes, in and out: the protocol's hard maximum
/// (<https://atproto.com/specs/sync#limits>). A host that sends more loses its connection.
pub const FRAME_BYTES_MAX: usize = 5_000_000;
/// What a server puts before the payload of a websocket message, in bytes, at the most.
pub const WS_HEADER_BYTES_MAX: usize = 10;
/// `blocks` of a `#commit`, in bytes. A larger commit is rejected.
pub const COMMIT_BLOCKS_BYTES_MAX: usize = 2_000_000;
/// `blocks` of a `#sync`, in bytes. A larger event is rejected.
pub const SYNC_BLOCKS_BYTES_MAX: usize = 10_000;
/// `ops` of a `#commit`. A commit with more is rejected.
pub const COMMIT_OPS_MAX: usize = 200;
/// One record block, in bytes. A commit with a larger one is rejected.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// `status` of an `#account`, in bytes: it is kept for as long as the account is. A longer one is
/// rejected; the words in use have a dozen.
pub const ACCOUNT_STATUS_BYTES_MAX: usize = 1_024;
/// How far in the future a `rev` may lie.
pub const REV_DRIFT_MAX: Duration = Duration::from_secs(5 * 60);

/// Nesting of CBOR containers; deeper input is malformed.
pub const CBOR_DEPTH_MAX: usize = 32;
/// Entries of one tree node. More can only come from keys mined for it; the commit is rejected.
pub const MST_NODE_ENTRIES_MAX: usize = 1_024;
/// A key of the tree, in bytes.
pub const MST_KEY_BYTES_MAX: usize = 1_024;
/// The keys of all nodes of one commit, written out in full, in bytes: compressed they can be a
/// hundred times smaller. A commit with more is rejected.
pub const MST_KEYS_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(COMMIT_BLOCKS_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(SYNC_BLOCKS_BYTES_MAX < COMMIT_BLOCKS_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < COMMIT_BLOCKS_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < HOST_PARKED_BYTES_MAX);
const _: () = assert!(COMMIT_BLOCKS_BYTES_MAX < MST_KEYS_BYTES_MAX);
const _: () = assert!(COMMIT_OPS_MAX < ACCOUNT_COLLECTIONS_MAX);
