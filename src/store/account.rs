//! What the relay knows of one account, and its bytes in the store.

use std::{fmt, sync::LazyLock};

use crate::atproto::{cid::Cid, tid::Tid};

/// The number of a host, given by the control store when the host is admitted and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub u32);

impl HostId {
    /// The number of no host: of an account for which none has spoken yet. Hosts count from 1.
    pub const NOWHERE: HostId = HostId(0);
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A hosting status: what one service says of an account
/// (<https://atproto.com/specs/account#hosting-status>).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Whether the account's content is served.
    pub active: bool,
    /// Why not, or a note beside `active`: an open vocabulary, kept verbatim.
    pub reason: Option<Box<str>>,
}

impl Status {
    /// Active, without a note.
    pub const ACTIVE: Status = Status {
        active: true,
        reason: None,
    };

    /// Whether it says that the account is gone for good, as far as its host can tell.
    pub fn is_deleted(&self) -> bool {
        !self.active && self.reason.as_deref() == Some("deleted")
    }

    /// Inactive, and why.
    pub fn inactive(reason: &str) -> Status {
        Status {
            active: false,
            reason: Some(reason.into()),
        }
    }
}

/// What this relay itself has against an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Local {
    /// What its operator has against it.
    pub sanction: Option<Sanction>,
    /// Its host has as many accounts as it may, not counting this one.
    pub throttled: bool,
}

/// What an operator has against an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sanction {
    /// It is taken down.
    Takedown,
    /// It is suspended.
    Suspension,
}

static TAKENDOWN: LazyLock<Status> = LazyLock::new(|| Status::inactive("takendown"));
static SUSPENDED: LazyLock<Status> = LazyLock::new(|| Status::inactive("suspended"));
static THROTTLED: LazyLock<Status> = LazyLock::new(|| Status::inactive("throttled"));

impl Local {
    /// The status that follows from it; none where nothing is against the account.
    pub fn status(self) -> Option<&'static Status> {
        match self.sanction {
            Some(Sanction::Takedown) => Some(&TAKENDOWN),
            Some(Sanction::Suspension) => Some(&SUSPENDED),
            None => self.throttled.then_some(&THROTTLED),
        }
    }
}

/// The last commit or sync of an account that was accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its revision.
    pub rev: Tid,
    /// The CID of the signed commit object.
    pub commit: Cid,
    /// The CID of the tree's root.
    pub data: Cid,
}

/// The last commit of an account as a list has it: a claim, which no event has proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its revision.
    pub rev: Tid,
    /// The CID of the signed commit object.
    pub commit: Cid,
}

/// How far a host's stream was processed for this account, so that an event which arrives again
/// after a crash is recognised also when it has no `rev`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// The host's [`HostRecord::epoch`] at that time; sequence numbers of different epochs do not
    /// compare.
    pub epoch: u32,
    /// The upstream seq.
    pub seq: u64,
}

/// What the relay knows of one account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// The place in the order of first appearance, from 1.
    pub ordinal: u64,
    /// The host that speaks for it; [`HostId::NOWHERE`] where none has done so yet.
    pub host: HostId,
    /// When the document that says so was fetched, in milliseconds since 1970.
    pub authority_at: u64,
    /// What the host says.
    pub upstream: Status,
    /// Whether the stream of its host has shown that, by an `#account` or by content that passed. What is
    /// only in a list, or taken for granted, is not in the way of what the host has sent before it.
    pub status_heard: bool,
    /// What this relay itself has against it.
    pub local: Local,
    /// The last commit, if any was seen.
    pub head: Option<Head>,
    /// What its host has listed as its last commit, while no event has shown any. No event is stale by
    /// it; it only tells what is older than a list that calls the account inactive.
    pub listed: Option<Listed>,
    /// How far the host's stream was processed for it.
    pub seen: Seen,
}

impl Account {
    /// The status that subscribers are told: active only where nothing here is against it and the
    /// host says so too; what is against it here goes before what the host says
    /// (<https://atproto.com/specs/account#hosting-status-propagation>).
    pub fn effective(&self) -> &Status {
        self.local.status().unwrap_or(&self.upstream)
    }

    /// Whether a host has spoken for it.
    pub fn has_host(&self) -> bool {
        self.host != HostId::NOWHERE
    }

    /// Its last commit as far as anybody can say: the one that was seen, or else the one that its host
    /// has listed.
    pub fn latest(&self) -> Option<Listed> {
        let seen = self.head.map(|head| Listed {
            rev: head.rev,
            commit: head.commit,
        });
        seen.or(self.listed)
    }

    /// Whether it has a place among those that its host may have. One that is throttled has none,
    /// one that its host calls deleted needs none, and without a host there is none to have.
    pub fn is_live(&self) -> bool {
        self.has_host() && !self.local.throttled && !self.upstream.is_deleted()
    }

    /// Whether it waits for such a place.
    pub fn waits(&self) -> bool {
        self.local.throttled && !self.upstream.is_deleted()
    }
}

/// What the store keeps of one host, written by the sequencer with the events of that host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostRecord {
    /// The last upstream seq up to which everything is processed; 0: none.
    pub cursor: u64,
    /// Grows when the host's sequence starts anew.
    pub epoch: u32,
    /// Live accounts that this host speaks for ([`Account::is_live`]): what its limit is about.
    pub accounts: u64,
}

/// The first byte of every encoded value, so that a later form can be told apart.
const VERSION: u8 = 1;
/// That of an account whose status was not heard: the same form.
const VERSION_UNHEARD: u8 = 2;

const UPSTREAM_ACTIVE: u8 = 1;
const UPSTREAM_REASON: u8 = 1 << 1;
/// None of the three local ones.
const LOCAL_ACTIVE: u8 = 1 << 2;
const TAKENDOWN_HERE: u8 = 1 << 3;
const HAS_HEAD: u8 = 1 << 4;
const SUSPENDED_HERE: u8 = 1 << 5;
const THROTTLED_HERE: u8 = 1 << 6;
const HAS_LISTED: u8 = 1 << 7;

impl Account {
    /// The bytes in the store. Numbers are little-endian:
    ///
    /// ```text
    /// version 1, or 2 where the status was not heard | flags 1 | ordinal 8 | host 4
    ///           | authority_at 8 | seen epoch 4, seq 8
    ///           | head, if any: rev 8, commit 36, data 36
    ///           | listed head, if any: rev 8, commit 36
    ///           | upstream reason, if any: length 4, text
    /// ```
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        let sanction = self.local.sanction;
        for (is_set, flag) in [
            (self.upstream.active, UPSTREAM_ACTIVE),
            (self.upstream.reason.is_some(), UPSTREAM_REASON),
            (self.local.status().is_none(), LOCAL_ACTIVE),
            (sanction == Some(Sanction::Takedown), TAKENDOWN_HERE),
            (sanction == Some(Sanction::Suspension), SUSPENDED_HERE),
            (self.local.throttled, THROTTLED_HERE),
            (self.head.is_some(), HAS_HEAD),
            (self.listed.is_some(), HAS_LISTED),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let mut out = Vec::with_capacity(34 + 80);
        let version = match self.status_heard {
            true => VERSION,
            false => VERSION_UNHEARD,
        };
        out.extend_from_slice(&[version, flags]);
        out.extend_from_slice(&self.ordinal.to_le_bytes());
        out.extend_from_slice(&self.host.0.to_le_bytes());
        out.extend_from_slice(&self.authority_at.to_le_bytes());
        out.extend_from_slice(&self.seen.epoch.to_le_bytes());
        out.extend_from_slice(&self.seen.seq.to_le_bytes());
        if let Some(head) = &self.head {
            out.extend_from_slice(&head.rev.raw().to_le_bytes());
            out.extend_from_slice(head.commit.as_bytes());
            out.extend_from_slice(head.data.as_bytes());
        }
        if let Some(listed) = &self.listed {
            out.extend_from_slice(&listed.rev.raw().to_le_bytes());
            out.extend_from_slice(listed.commit.as_bytes());
        }
        if let Some(reason) = &self.upstream.reason {
            out.extend_from_slice(&(reason.len() as u32).to_le_bytes());
            out.extend_from_slice(reason.as_bytes());
        }
        out
    }

    /// The account of `bytes`; `None`: they are damaged.
    pub fn decode(bytes: &[u8]) -> Option<Account> {
        let mut input = Input(bytes);
        let [version, flags] = input.array()?;
        if ![VERSION, VERSION_UNHEARD].contains(&version) {
            return None;
        }
        let has = |flag: u8| flags & flag != 0;
        let local = Local {
            sanction: match (has(TAKENDOWN_HERE), has(SUSPENDED_HERE)) {
                (false, false) => None,
                (true, false) => Some(Sanction::Takedown),
                (false, true) => Some(Sanction::Suspension),
                (true, true) => return None,
            },
            throttled: has(THROTTLED_HERE),
        };
        if has(LOCAL_ACTIVE) != local.status().is_none() {
            return None;
        }
        let mut account = Account {
            ordinal: input.u64()?,
            host: HostId(input.u32()?),
            authority_at: input.u64()?,
            seen: Seen {
                epoch: input.u32()?,
                seq: input.u64()?,
            },
            head: None,
            listed: None,
            upstream: Status {
                active: has(UPSTREAM_ACTIVE),
                reason: None,
            },
            status_heard: version == VERSION,
            local,
        };
        if has(HAS_HEAD) {
            account.head = Some(Head {
                rev: Tid::from_raw(input.u64()?),
                commit: input.cid()?,
                data: input.cid()?,
            });
        }
        if has(HAS_LISTED) {
            account.listed = Some(Listed {
                rev: Tid::from_raw(input.u64()?),
                commit: input.cid()?,
            });
        }
        if has(UPSTREAM_REASON) {
            account.upstream.reason = Some(input.text()?);
        }
        input.0.is_empty().then_some(account)
    }
}

impl HostRecord {
    /// The bytes in the store: version 1, cursor 8, epoch 4, accounts 8, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(21);
        out.push(VERSION);
        out.extend_from_slice(&self.cursor.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.accounts.to_le_bytes());
        out
    }

    /// The record of `bytes`; `None`: they are damaged.
    pub fn decode(bytes: &[u8]) -> Option<HostRecord> {
        let mut input = Input(bytes);
        if input.array()? != [VERSION] {
            return None;
        }
        let record = HostRecord {
            cursor: input.u64()?,
            epoch: input.u32()?,
            accounts: input.u64()?,
        };
        input.0.is_empty().then_some(record)
    }
}

/// What is left to decode.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn cid(&mut self) -> Option<Cid> {
        self.array::<{ Cid::LEN }>()
            .and_then(|bytes| Cid::from_bytes(&bytes).ok())
    }

    pub(super) fn text(&mut self) -> Option<Box<str>> {
        let len = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Box::from)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status() -> impl Strategy<Value = Status> {
        (any::<bool>(), proptest::option::of(".{0,40}")).prop_map(|(active, reason)| Status {
            active,
            reason: reason.map(String::into_boxed_str),
        })
    }

    fn local() -> impl Strategy<Value = Local> {
        let sanctions = vec![None, Some(Sanction::Takedown), Some(Sanction::Suspension)];
        (proptest::sample::select(sanctions), any::<bool>()).prop_map(|(sanction, throttled)| {
            Local {
                sanction,
                throttled,
            }
        })
    }

    prop_compose! {
        fn head()(rev: u64, commit: [u8; 8], data: [u8; 8]) -> Head {
            Head {
                rev: Tid::from_raw(rev),
                commit: Cid::of_cbor(&commit),
                data: Cid::of_cbor(&data),
            }
        }
    }

    prop_compose! {
        fn listed()(rev: u64, commit: [u8; 8]) -> Listed {
            Listed { rev: Tid::from_raw(rev), commit: Cid::of_cbor(&commit) }
        }
    }

    prop_compose! {
        pub(in crate::store) fn account()(
            numbers: (u64, u32, u64, u32, u64),
            upstream in status(),
            status_heard: bool,
            local in local(),
            head in proptest::option::of(head()),
            listed in proptest::option::of(listed()),
        ) -> Account {
            Account {
                ordinal: numbers.0,
                host: HostId(numbers.1),
                authority_at: numbers.2,
                seen: Seen { epoch: numbers.3, seq: numbers.4 },
                upstream,
                status_heard,
                local,
                head,
                listed,
            }
        }
    }

    proptest! {
        #[test]
        fn accounts_come_back_as_they_were(account in account()) {
            prop_assert_eq!(Account::decode(&account.encode()), Some(account));
        }

        /// One whose status was heard is the same bytes as when that was not told apart.
        #[test]
        fn whether_the_status_was_heard_is_in_the_first_byte(account in account()) {
            let [heard, unheard] = [true, false].map(|status_heard| Account {
                status_heard,
                ..account.clone()
            });
            let (heard, unheard) = (heard.encode(), unheard.encode());
            prop_assert_eq!((heard[0], unheard[0]), (1, 2));
            prop_assert_eq!(&heard[1..], &unheard[1..]);
        }

        /// An account without a listed head is the same bytes as before there were any.
        #[test]
        fn a_listed_head_is_all_that_is_new(account in account()) {
            let old = Account { listed: None, ..account.clone() };
            let (with, without) = (account.encode(), old.encode());
            let more = if account.listed.is_some() { 8 + Cid::LEN } else { 0 };
            prop_assert_eq!(with.len(), without.len() + more);
            prop_assert_eq!(with[1] & !HAS_LISTED, without[1]);
            prop_assert_eq!(Account::decode(&without), Some(old));
        }

        #[test]
        fn a_shortened_or_lengthened_account_is_damaged(account in account(), cut: usize) {
            let mut bytes = account.encode();
            prop_assert_eq!(Account::decode(&bytes[..cut % bytes.len()]), None);
            bytes.push(0);
            prop_assert_eq!(Account::decode(&bytes), None);
        }

        #[test]
        fn hosts_come_back_as_they_were(cursor: u64, epoch: u32, accounts: u64) {
            let record = HostRecord { cursor, epoch, accounts };
            let bytes = record.encode();
            prop_assert_eq!(HostRecord::decode(&bytes), Some(record));
            prop_assert_eq!(HostRecord::decode(&bytes[1..]), None);
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes: Vec<u8>) {
            let _ = Account::decode(&bytes);
            let _ = HostRecord::decode(&bytes);
        }
    }
}
