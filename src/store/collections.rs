//! The collection index: which accounts have records of which collection, both ways.
//!
//! A *pair* is an account and a collection of which it has records. Pairs of a collection are
//! numbered as they come, from 1, and a number is never given again: the list of a collection is in
//! the order of first appearance, and whoever comes back with an old number finds all that is new
//! after it. A number is of its collection, not of the store: the numbers of a list lie close
//! together, so that a part of a list can be bounded by them, whatever was removed in between.
//!
//! | family | key | value |
//! |---|---|---|
//! | `collections` | name | [`Collection`]: its number, and the last number given in it |
//! | `by_collection` | collection 4, number 8 | flags 1, DID: a page is one scan |
//! | `by_account` | ordinal 8 | [`Pairs`]: all that an account has, in one value |
//!
//! An account that is not active keeps its pairs and is *hidden*: a flag in each of its entries.

use super::{Batch, Family, Listing, Store, StoreError, decoded, family::ordinal_key, options};
use crate::{
    atproto::{
        did::{Did, Method},
        varint,
    },
    limits::{LIST_COLLECTION_SCAN_MAX, LIST_COLLECTION_SPAN_MAX, PAIR_NUMBER_JUMP},
};

/// The number of a collection, given at its first appearance and never reused, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CollectionId(pub u32);

/// What is kept of a collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Collection {
    /// Its number.
    pub id: CollectionId,
    /// The last number that was given to one of its pairs; where the end of a run may have lost the
    /// last batches, one above it. 0: none was.
    pub last: u64,
}

/// The first byte of every encoded value, so that a later form can be told apart.
const VERSION: u8 = 1;

impl Collection {
    /// The bytes in the store: version 1, id 4, `losses` 4, last 8, little-endian. `losses`: how
    /// often the end of a run may have lost batches until now.
    fn encode(self, losses: u32) -> [u8; 17] {
        let mut bytes = [VERSION; 17];
        bytes[1..5].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[5..9].copy_from_slice(&losses.to_le_bytes());
        bytes[9..].copy_from_slice(&self.last.to_le_bytes());
        bytes
    }

    /// The collection of `bytes`; `None`: they are damaged. Numbers that may have been given and
    /// lost since they were written are passed over.
    fn decode(bytes: &[u8], losses: u32) -> Option<Collection> {
        let (version, bytes) = bytes.split_first()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        let (then, last) = bytes.split_first_chunk()?;
        let since = losses.checked_sub(u32::from_le_bytes(*then))?;
        let last = u64::from_le_bytes(last.try_into().ok()?);
        (*version == VERSION).then_some(Collection {
            id: CollectionId(u32::from_le_bytes(*id)),
            last: last.saturating_add(u64::from(since) * PAIR_NUMBER_JUMP),
        })
    }
}

/// A collection of an account, and the number of the pair in the list of that collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The collection.
    pub collection: CollectionId,
    /// The place in its list, from 1.
    pub number: u64,
}

/// The collections of which an account has records, ordered by their numbers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Pairs(Vec<Pair>);

impl Pairs {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Pair> {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, collection: CollectionId) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&collection, |pair| pair.collection)
    }

    /// Whether the collection is among them.
    pub fn contains(&self, collection: CollectionId) -> bool {
        self.find(collection).is_ok()
    }

    /// Adds a pair of a collection that is not among them.
    pub fn insert(&mut self, pair: Pair) {
        if let Err(at) = self.find(pair.collection) {
            self.0.insert(at, pair);
        }
    }

    /// Removes the pair of a collection, if there is one.
    pub fn remove(&mut self, collection: CollectionId) -> Option<Pair> {
        let at = self.find(collection).ok()?;
        Some(self.0.remove(at))
    }

    /// The bytes in the store: version 1, then for each, as LEB128, how far its collection's number
    /// is beyond the one before, and its own number.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 + 6 * self.0.len());
        out.push(VERSION);
        let mut last = 0;
        for pair in &self.0 {
            varint::write(u64::from(pair.collection.0 - last), &mut out);
            varint::write(pair.number, &mut out);
            last = pair.collection.0;
        }
        out
    }

    /// The pairs of `bytes`; `None`: they are damaged.
    fn decode(bytes: &[u8]) -> Option<Pairs> {
        let (version, mut bytes) = bytes.split_first()?;
        let (mut pairs, mut last) = (Vec::new(), 0u32);
        while !bytes.is_empty() {
            let (beyond, rest) = varint::read(bytes)?;
            let (number, rest) = varint::read(rest)?;
            last = last.checked_add(u32::try_from(beyond).ok()?)?;
            if beyond == 0 {
                return None;
            }
            let collection = CollectionId(last);
            pairs.push(Pair { collection, number });
            bytes = rest;
        }
        (*version == VERSION).then_some(Pairs(pairs))
    }
}

/// A part of the list of a collection.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CollectionPage {
    /// Accounts, in the order of first appearance.
    pub dids: Vec<Did>,
    /// The number after which the next part begins; none: there is none.
    pub next: Option<u64>,
    /// The last number that was given in the collection; 0: none was.
    pub last: u64,
}

impl Store {
    /// What is known of a collection.
    pub fn collection(&self, name: &str) -> Result<Option<Collection>, StoreError> {
        let family = self.db.family(Family::Collections);
        let Some(value) = self.db.rocks.get_pinned_cf(&family, name)? else {
            return Ok(None);
        };
        let collection = Collection::decode(&value, self.db.losses);
        decoded(collection, Family::Collections, name).map(Some)
    }

    /// The names of the collections that are known, in the order of their bytes, at most `limit`.
    pub fn collection_names(&self, limit: usize) -> Result<Vec<String>, StoreError> {
        let family = self.db.family(Family::Collections);
        let mut entries = self.db.rocks.raw_iterator_cf_opt(&family, options::scan(0));
        let mut names = Vec::new();
        entries.seek_to_first();
        while let Some(key) = entries.key().filter(|_| names.len() < limit) {
            let name = std::str::from_utf8(key).ok().map(str::to_owned);
            let shown = format_args!("{key:02x?}").to_string();
            names.push(decoded(name, Family::Collections, shown)?);
            entries.next();
        }
        entries.status()?;
        Ok(names)
    }

    /// A collection that is not known yet. One of this name may have been, and lost with the end of
    /// a run.
    pub fn new_collection(&self, id: CollectionId) -> Collection {
        Collection {
            id,
            last: u64::from(self.db.losses) * PAIR_NUMBER_JUMP,
        }
    }

    /// The collections of an account, by its ordinal.
    pub fn account_collections(&self, ordinal: u64) -> Result<Pairs, StoreError> {
        let family = self.db.family(Family::ByAccount);
        match self.db.rocks.get_pinned_cf(&family, ordinal_key(ordinal))? {
            Some(value) => decoded(Pairs::decode(&value), Family::ByAccount, ordinal),
            None => Ok(Pairs::default()),
        }
    }

    /// [`Listing::collection_page`], of now.
    pub fn collection_page(
        &self,
        name: &str,
        after: u64,
        limit: usize,
    ) -> Result<CollectionPage, StoreError> {
        self.listing()
            .collection_page(name, after, limit, ScanBounds::default())
    }
}

impl Listing<'_> {
    /// Accounts that have records of a collection and are not hidden, after a number in its list, at
    /// most `limit` of them and at least 1. A part may be short and have a next one, and is empty only at the
    /// end of the list. What one scan looks at is bounded; the scans of a part are not, and at the
    /// worst, where everybody is hidden, pass over the whole list (some seconds for a million).
    pub fn collection_page(
        &self,
        name: &str,
        after: u64,
        limit: usize,
        bounds: ScanBounds,
    ) -> Result<CollectionPage, StoreError> {
        let limit = limit.max(1);
        let family = self.db.family(Family::Collections);
        let Some(value) = self.snapshot.get_pinned_cf(&family, name)? else {
            return Ok(CollectionPage::default());
        };
        let collection = Collection::decode(&value, self.db.losses);
        let Collection { id, last } = decoded(collection, Family::Collections, name)?;
        let mut page = CollectionPage {
            last,
            ..CollectionPage::default()
        };
        let mut place = after;
        while let Some(next) = self.scan_collection(id, place, limit, bounds, &mut page)? {
            if !page.dids.is_empty() {
                page.next = Some(next);
                break;
            }
            place = next;
        }
        Ok(page)
    }

    /// One scan of the list of a collection after a number: adds accounts to the page until it is full
    /// or a bound is reached. The number after which the next scan begins; none: the list has ended.
    fn scan_collection(
        &self,
        id: CollectionId,
        after: u64,
        limit: usize,
        bounds: ScanBounds,
        page: &mut CollectionPage,
    ) -> Result<Option<u64>, StoreError> {
        // What was removed costs time too, until it is compacted away, and is not to be seen. There
        // is not more of it than there are numbers.
        let end = after.saturating_add(bounds.span);
        let mut read = options::scan(0);
        read.set_iterate_upper_bound(pair_key(id, end.saturating_add(1)));
        let family = self.db.family(Family::ByCollection);
        let mut pairs = self.snapshot.raw_iterator_cf_opt(&family, read);
        pairs.seek(pair_key(id, after.saturating_add(1)));
        let (mut place, mut scanned) = (after, 0);
        while let Some((key, value)) = pairs.item() {
            let pair = pair_of(key).zip(Listed::decode(value));
            let shown = || format_args!("{key:02x?}").to_string();
            let (number, listed) = decoded(pair, Family::ByCollection, shown())?;
            let is_full = page.dids.len() == limit;
            if scanned == bounds.entries || (is_full && !listed.hidden) {
                return Ok(Some(place));
            }
            // A full page ends with the last account on it, and looks whether there are more.
            if !is_full {
                place = number;
                if !listed.hidden {
                    page.dids.push(listed.did);
                }
            }
            scanned += 1;
            pairs.next();
        }
        pairs.status()?;
        let is_full = page.dids.len() == limit;
        Ok((end < page.last).then_some(if is_full { place } else { end }))
    }
}

/// What one scan of a list looks at: no iterator lives longer, as what it has in use stays in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanBounds {
    /// Entries, hidden ones included, at least 1.
    pub entries: usize,
    /// Numbers, also those of which nothing is left, at least 1.
    pub span: u64,
}

impl Default for ScanBounds {
    fn default() -> ScanBounds {
        ScanBounds {
            entries: LIST_COLLECTION_SCAN_MAX,
            span: LIST_COLLECTION_SPAN_MAX,
        }
    }
}

impl Batch {
    /// Sets what is kept of a collection.
    pub fn put_collection(&mut self, name: &str, collection: Collection) {
        let family = self.db.family(Family::Collections);
        let value = collection.encode(self.db.losses);
        self.batch.put_cf(&family, name, value);
    }

    /// Adds an account to the list of a collection, or shows or hides it there.
    pub fn put_pair(&mut self, pair: Pair, did: &Did, hidden: bool) {
        self.value.clear();
        Listed::encode(did, hidden, &mut self.value);
        let family = self.db.family(Family::ByCollection);
        let key = pair_key(pair.collection, pair.number);
        self.batch.put_cf(&family, key, &self.value);
    }

    /// Removes an account from the list of a collection.
    pub fn delete_pair(&mut self, pair: Pair) {
        let family = self.db.family(Family::ByCollection);
        let key = pair_key(pair.collection, pair.number);
        self.batch.delete_cf(&family, key);
    }

    /// Sets the collections of an account.
    pub fn put_account_collections(&mut self, ordinal: u64, pairs: &Pairs) {
        let family = self.db.family(Family::ByAccount);
        let key = ordinal_key(ordinal);
        if pairs.is_empty() {
            self.batch.delete_cf(&family, key);
        } else {
            self.batch.put_cf(&family, key, pairs.encode());
        }
    }
}

/// The key of a pair in the list of its collection.
fn pair_key(collection: CollectionId, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&collection.0.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number of a pair's key.
fn pair_of(key: &[u8]) -> Option<u64> {
    let number = <[u8; 12]>::try_from(key).ok()?;
    let (_, number) = number.split_last_chunk()?;
    Some(u64::from_be_bytes(*number))
}

/// An entry in the list of a collection.
#[derive(PartialEq, Eq, Debug)]
struct Listed {
    did: Did,
    hidden: bool,
}

const HIDDEN: u8 = 1;
/// The DID is a `did:plc`, as the 15 bytes that its 24 characters stand for.
const PLC: u8 = 1 << 1;
const PLC_BYTES: usize = 15;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

impl Listed {
    /// Appends the bytes in the store: flags 1, then the DID.
    fn encode(did: &Did, hidden: bool, out: &mut Vec<u8>) {
        let hidden = if hidden { HIDDEN } else { 0 };
        let Method::Plc = did.method() else {
            out.push(hidden);
            return out.extend_from_slice(did.as_str().as_bytes());
        };
        out.push(hidden | PLC);
        let name = did.as_str().bytes().skip("did:plc:".len());
        let bits = name.fold(0u128, |bits, c| {
            let digit = match c {
                b'a'..=b'z' => c - b'a',
                _ => c - b'2' + 26,
            };
            bits << 5 | u128::from(digit)
        });
        out.extend_from_slice(&bits.to_be_bytes()[size_of::<u128>() - PLC_BYTES..]);
    }

    /// The entry of `bytes`; `None`: they are damaged.
    fn decode(bytes: &[u8]) -> Option<Listed> {
        let (flags, bytes) = bytes.split_first()?;
        let did = match flags & !HIDDEN {
            0 => Did::parse(std::str::from_utf8(bytes).ok()?).ok()?,
            PLC => {
                let mut bits = [0; size_of::<u128>()];
                let place = &mut bits[size_of::<u128>() - PLC_BYTES..];
                place.copy_from_slice(bytes.get(..PLC_BYTES).filter(|b| b.len() == bytes.len())?);
                let bits = u128::from_be_bytes(bits);
                let mut text = *b"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";
                for (i, c) in text.iter_mut().rev().take(24).enumerate() {
                    *c = BASE32[(bits >> (5 * i)) as usize & 31];
                }
                Did::parse(std::str::from_utf8(&text).ok()?).ok()?
            }
            _ => return None,
        };
        Some(Listed {
            did,
            hidden: flags & HIDDEN != 0,
        })
    }
}

#[cfg(test)]
mod tests;
