//! What the list of all accounts says of one, and its bytes in the store.

use super::super::account::{Account, HostId, Input, Listed, Status};
use crate::atproto::{did::Did, tid::Tid};

/// An account as the list of all has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListEntry {
    /// Who it is.
    pub did: Did,
    /// The place in the order of first appearance, from 1.
    pub ordinal: u64,
    /// The host that speaks for it; [`HostId::NOWHERE`] where none has done so yet.
    pub host: HostId,
    /// The status that subscribers are told.
    pub status: Status,
    /// Its last commit as far as anybody can say ([`Account::latest`]).
    pub latest: Option<Listed>,
}

/// The first byte of every value. A value of the first version was the text of a DID and nothing else,
/// which begins with a `d`.
const VERSION: u8 = 2;

const ACTIVE: u8 = 1;
const HAS_REASON: u8 = 1 << 1;
const HAS_LATEST: u8 = 1 << 2;

/// A value as it is in the store.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// All that the list says.
    Entry(ListEntry),
    /// Of the first version: who it is. The rest is looked up.
    Name(Did),
}

impl ListEntry {
    /// What the list says of an account.
    pub fn of(did: Did, account: &Account) -> ListEntry {
        ListEntry {
            did,
            ordinal: account.ordinal,
            host: account.host,
            status: account.effective().clone(),
            latest: account.latest(),
        }
    }
}

/// Puts the value of an account into `out`. Numbers are little-endian:
///
/// ```text
/// version 1 | flags 1 | host 4 | last commit, if any: rev 8, commit 36
///           | reason of the status, if any: length 4, text | DID, the rest
/// ```
pub(in crate::store) fn encode(did: &Did, account: &Account, out: &mut Vec<u8>) {
    let (status, latest) = (account.effective(), account.latest());
    let mut flags = 0;
    for (is_set, flag) in [
        (status.active, ACTIVE),
        (status.reason.is_some(), HAS_REASON),
        (latest.is_some(), HAS_LATEST),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    out.clear();
    out.extend_from_slice(&[VERSION, flags]);
    out.extend_from_slice(&account.host.0.to_le_bytes());
    if let Some(latest) = latest {
        out.extend_from_slice(&latest.rev.raw().to_le_bytes());
        out.extend_from_slice(latest.commit.as_bytes());
    }
    if let Some(reason) = &status.reason {
        out.extend_from_slice(&(reason.len() as u32).to_le_bytes());
        out.extend_from_slice(reason.as_bytes());
    }
    out.extend_from_slice(did.as_str().as_bytes());
}

/// The value at a place in the order; `None`: it is damaged.
pub(super) fn decode(ordinal: u64, bytes: &[u8]) -> Option<Value> {
    let name = |bytes| Did::parse(std::str::from_utf8(bytes).ok()?).ok();
    let Some(bytes) = bytes.strip_prefix(&[VERSION]) else {
        return name(bytes).map(Value::Name);
    };
    let mut input = Input(bytes);
    let [flags] = input.array()?;
    let has = |flag: u8| flags & flag != 0;
    if flags & !(ACTIVE | HAS_REASON | HAS_LATEST) != 0 {
        return None;
    }
    let host = HostId(input.u32()?);
    let latest = if has(HAS_LATEST) {
        Some(Listed {
            rev: Tid::from_raw(input.u64()?),
            commit: input.cid()?,
        })
    } else {
        None
    };
    let reason = if has(HAS_REASON) {
        Some(input.text()?)
    } else {
        None
    };
    Some(Value::Entry(ListEntry {
        did: name(input.0)?,
        ordinal,
        host,
        status: Status {
            active: has(ACTIVE),
            reason,
        },
        latest,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::account::tests::account;

    proptest! {
        #[test]
        fn entries_come_back_as_they_were(account in account(), cut: usize) {
            let did = Did::parse("did:web:a.example.com").unwrap();
            let mut bytes = Vec::new();
            encode(&did, &account, &mut bytes);
            let entry = ListEntry::of(did.clone(), &account);
            prop_assert_eq!(decode(account.ordinal, &bytes), Some(Value::Entry(entry)));
            // What is cut off before the DID is damage.
            let cut = cut % (bytes.len() - did.as_str().len() + "did:".len());
            prop_assert_eq!(decode(1, &bytes[..cut]), None);
        }

        #[test]
        fn any_bytes_decode_without_a_panic(bytes: Vec<u8>) {
            let _ = decode(1, &bytes);
        }
    }

    #[test]
    fn a_value_of_the_first_version_is_a_name() {
        let did = Did::parse("did:web:a.example.com").unwrap();
        let value = decode(1, did.as_str().as_bytes());
        assert_eq!(value, Some(Value::Name(did)));
        assert_eq!(decode(1, b"did:nothing"), None);
    }
}
