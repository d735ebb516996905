//! The column families and the keys in them.

use crate::{
    atproto::seq::Seq,
    store::{StoreError, account::HostId, large::Kept},
};

/// A column family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    /// Names to numbers: format, last seq, window, counters.
    Meta,
    /// Seq (8 bytes, big-endian) to time (8 bytes, big-endian, milliseconds since 1970) and the
    /// websocket bytes of the frame, or where those of a large one are ([`Kept`]).
    Events,
    /// Number of a large event (8 bytes, big-endian) and number of a piece (4 bytes, big-endian) to that piece
    /// of its frame; behind the last, [`END_OF_PIECES`] to its seq (8 bytes, big-endian).
    Large,
    /// DID to [`Account`](super::account::Account).
    Accounts,
    /// Ordinal (8 bytes, big-endian) to [`ListEntry`](super::listing::ListEntry): accounts in order of
    /// first appearance, with what the list of all says of each, so that a page is one scan.
    AccountOrder,
    /// Host number (4 bytes, big-endian) to [`HostRecord`](super::account::HostRecord).
    Hosts,
    /// The DIDs of accounts that the operator has taken down, to [`Takedown`](super::Takedown): a list
    /// of them takes no look at every account.
    Takedowns,
    /// Host number (4 bytes, big-endian) and ordinal (8 bytes, big-endian) to DID: accounts that are
    /// throttled at that host, in order of first appearance.
    Throttled,
    /// The name of a collection to [`Collection`](super::collections::Collection).
    Collections,
    /// Collection (4 bytes, big-endian) and number (8 bytes, big-endian) to flags and a DID: the
    /// accounts that have records of it, in order of first appearance.
    ByCollection,
    /// Ordinal (8 bytes, big-endian) to [`Pairs`](super::collections::Pairs).
    ByAccount,
}

impl Family {
    pub(super) const ALL: [Family; 11] = [
        Family::Meta,
        Family::Events,
        Family::Large,
        Family::Accounts,
        Family::AccountOrder,
        Family::Hosts,
        Family::Takedowns,
        Family::Throttled,
        Family::Collections,
        Family::ByCollection,
        Family::ByAccount,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Events => "events",
            Family::Large => "large",
            Family::Accounts => "accounts",
            Family::AccountOrder => "account_order",
            Family::Hosts => "hosts",
            Family::Takedowns => "takedowns",
            Family::Throttled => "throttled",
            Family::Collections => "collections",
            Family::ByCollection => "by_collection",
            Family::ByAccount => "by_account",
        }
    }
}

/// A number of [`Family::Meta`], kept as 8 bytes, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meta {
    /// The format of the whole store.
    Format,
    /// The highest seq ever assigned.
    LastSeq,
    /// The highest seq ever removed from the window.
    Pruned,
    /// How the last run ended, or that one is running: see [`Ending`].
    Ending,
    /// The ordinal of the next account.
    NextOrdinal,
    /// Accounts there are.
    AccountCount,
    /// Collections there are.
    CollectionCount,
    /// Pairs of an account and a collection there are.
    PairCount,
    /// How often the end of a run may have lost the last batches.
    Losses,
    /// The control store that this store belongs to.
    ControlId,
    /// What is counted as an account of a host: see [`recount`](super::recount).
    Counting,
}

impl Meta {
    pub(super) const fn key(self) -> &'static str {
        match self {
            Meta::Format => "format",
            Meta::LastSeq => "last_seq",
            Meta::Pruned => "pruned",
            Meta::Ending => "ending",
            Meta::NextOrdinal => "next_ordinal",
            Meta::AccountCount => "account_count",
            Meta::CollectionCount => "collection_count",
            Meta::PairCount => "pair_count",
            Meta::Losses => "losses",
            Meta::ControlId => "control_id",
            Meta::Counting => "counting",
        }
    }
}

/// What is known of the end of the run that wrote last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// It closed the store.
    Clean,
    /// It synced every batch and did not close: nothing is missing.
    Synced,
    /// It left syncing to the operating system and did not close: the last batches may be gone.
    Unsynced,
}

impl Ending {
    pub(super) const fn code(self) -> u64 {
        match self {
            Ending::Clean => 0,
            Ending::Synced => 1,
            Ending::Unsynced => 2,
        }
    }

    pub(super) const fn of(code: u64) -> Option<Ending> {
        match code {
            0 => Some(Ending::Clean),
            1 => Some(Ending::Synced),
            2 => Some(Ending::Unsynced),
            _ => None,
        }
    }
}

/// The key of an event: in the order of the stream.
pub(super) fn event_key(seq: u64) -> [u8; 8] {
    seq.to_be_bytes()
}

/// The seq of an event's key.
pub(super) fn event_seq(key: &[u8]) -> Result<Seq, StoreError> {
    let bytes = <[u8; 8]>::try_from(key).ok();
    bytes
        .and_then(|b| Seq::new(u64::from_be_bytes(b)))
        .ok_or_else(|| StoreError::damaged(Family::Events.name(), format_args!("{key:02x?}")))
}

/// Set in the time of an event of which the frame is in pieces.
pub(super) const IN_PIECES: u64 = 1 << 63;

/// The time of an event's value, and what is kept there of its frame.
pub(super) fn event_parts(seq: Seq, value: &[u8]) -> Result<(u64, Kept<'_>), StoreError> {
    let parts = value.split_first_chunk::<8>();
    parts
        .and_then(|(time, kept)| {
            let time = u64::from_be_bytes(*time);
            let kept = Kept::decode(kept, time & IN_PIECES != 0)?;
            Some((time & !IN_PIECES, kept))
        })
        .ok_or_else(|| StoreError::damaged(Family::Events.name(), seq))
}

/// The piece under which the seq of a large event is.
pub(super) const END_OF_PIECES: u32 = u32::MAX;

/// The key of a piece of a large event.
pub(super) fn large_key(number: u64, piece: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&piece.to_be_bytes());
    key
}

/// The number of the event and of the piece of such a key.
pub(super) fn large_key_parts(key: &[u8]) -> Result<(u64, u32), StoreError> {
    let parts = key.split_first_chunk::<8>();
    parts
        .and_then(|(number, piece)| Some((number, <[u8; 4]>::try_from(piece).ok()?)))
        .map(|(number, piece)| (u64::from_be_bytes(*number), u32::from_be_bytes(piece)))
        .ok_or_else(|| StoreError::damaged(Family::Large.name(), format_args!("{key:02x?}")))
}

/// The key of a place in the order of accounts.
pub(super) fn ordinal_key(ordinal: u64) -> [u8; 8] {
    ordinal.to_be_bytes()
}

/// The key of an account that is throttled at a host.
pub(super) fn throttled_key(host: HostId, ordinal: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&host_key(host));
    key[4..].copy_from_slice(&ordinal_key(ordinal));
    key
}

/// The key of a host.
pub(super) fn host_key(host: HostId) -> [u8; 4] {
    host.0.to_be_bytes()
}
