//! Keys, and what is found under them.

use rocksdb::{DB, Direction, IteratorMode};

use super::backend;
use crate::{
    control::{ControlError, domain::Domain},
    store::account::HostId,
};

/// The format that this version reads and writes.
pub(super) const FORMAT: u32 = 1;
pub(super) const FORMAT_KEY: &[u8] = b"f";
pub(super) const ID_KEY: &[u8] = b"i";
pub(super) const NEXT_ID_KEY: &[u8] = b"n";
pub(super) const MIRROR_KEY: &[u8] = b"m";
pub(super) const HOST_PREFIX: u8 = b'h';
pub(super) const DOMAIN_PREFIX: u8 = b'd';
pub(super) const TAKEDOWN_PREFIX: u8 = b't';
pub(super) const SETTING_PREFIX: u8 = b's';
pub(super) const NOTE_PREFIX: u8 = b'p';
pub(super) const AUDIT_PREFIX: u8 = b'a';
pub(super) const CURSOR_PREFIX: u8 = b'c';

pub(super) fn named(prefix: u8, name: &str) -> Vec<u8> {
    [&[prefix], name.as_bytes()].concat()
}

pub(super) fn domain_key(domain: &Domain) -> Vec<u8> {
    named(DOMAIN_PREFIX, domain.as_str())
}

pub(super) fn numbered(prefix: u8, id: HostId) -> [u8; 5] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [prefix, a, b, c, d]
}

pub(super) fn audit_key(number: u64) -> [u8; 9] {
    let mut key = [AUDIT_PREFIX; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn number(bytes: &[u8]) -> Result<u32, ControlError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ControlError::Damaged("a number that is not four bytes".into()))?;
    Ok(u32::from_be_bytes(bytes))
}

pub(super) fn long(bytes: &[u8]) -> Result<u64, ControlError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| ControlError::Damaged("a number that is not eight bytes".into()))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What follows the prefix of a key, and the value.
pub(super) type Entry = (Box<[u8]>, Box<[u8]>);

/// Everything below a prefix.
pub(super) fn below(db: &DB, prefix: u8) -> impl Iterator<Item = Result<Entry, ControlError>> + '_ {
    let entries = db.iterator(IteratorMode::From(&[prefix], Direction::Forward));
    entries
        .map(|entry| entry.map_err(backend))
        .take_while(move |entry| {
            let key = entry.as_ref().ok().map(|(key, _)| key);
            key.is_none_or(|key| key.first() == Some(&prefix))
        })
        .map(|entry| entry.map(|(key, value)| (key[1..].into(), value)))
}
