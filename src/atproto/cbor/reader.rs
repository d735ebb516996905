//! Reading canonical items, without copying, and refusing everything that is not canonical:
//! indefinite or over-long lengths, floats, undefined, tags other than links, map keys that are not
//! text, repeated or unsorted. What is accepted re-encodes to the same bytes.

use std::{fmt, ops::Range};

use crate::{
    atproto::cid::{self, Cid},
    limits::CBOR_DEPTH_MAX,
};

/// Why bytes are not DRISL-CBOR, or not of the type that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CborError {
    /// Not canonical DRISL-CBOR at all.
    Malformed,
    /// Canonical, but of another type or out of range.
    Type,
}

impl fmt::Display for CborError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CborError::Malformed => "not canonical DRISL-CBOR",
            CborError::Type => "an item of an unexpected type",
        })
    }
}

impl std::error::Error for CborError {}

type Result<T> = std::result::Result<T, CborError>;

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;
const LINK_TAG: u64 = 42;

/// A position in a buffer of items.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    buffer: &'a [u8],
    at: usize,
}

/// The pairs of a map that are still to come; checks that keys ascend.
#[derive(Debug)]
pub struct Map<'a> {
    left: usize,
    last_key: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `buffer`.
    pub fn new(buffer: &'a [u8]) -> Reader<'a> {
        Reader { buffer, at: 0 }
    }

    /// The offset of the next item.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Goes on at another offset, where an item begins.
    pub fn seek(&mut self, position: usize) {
        self.at = position.min(self.buffer.len());
    }

    /// Whether everything is read.
    pub fn is_at_end(&self) -> bool {
        self.at == self.buffer.len()
    }

    /// An integer from 0 to 2^63 - 1.
    #[inline]
    pub fn uint(&mut self) -> Result<u64> {
        match self.head()? {
            (UINT, n) if i64::try_from(n).is_ok() => Ok(n),
            _ => Err(CborError::Type),
        }
    }

    /// An integer of 64 bits with sign.
    pub fn int(&mut self) -> Result<i64> {
        let (major, n) = self.head()?;
        let n = i64::try_from(n).map_err(|_| CborError::Type)?;
        match major {
            UINT => Ok(n),
            NEGATIVE => Ok(!n),
            _ => Err(CborError::Type),
        }
    }

    /// A text string.
    #[inline]
    pub fn text(&mut self) -> Result<&'a str> {
        match self.head()? {
            (TEXT, len) => std::str::from_utf8(self.take(len)?).map_err(|_| CborError::Malformed),
            _ => Err(CborError::Type),
        }
    }

    /// A byte string.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        match self.head()? {
            (BYTES, len) => self.take(len),
            _ => Err(CborError::Type),
        }
    }

    /// `true` or `false`.
    pub fn bool(&mut self) -> Result<bool> {
        match self.head()? {
            (SIMPLE, FALSE) => Ok(false),
            (SIMPLE, TRUE) => Ok(true),
            _ => Err(CborError::Type),
        }
    }

    /// The number of items of an array; they follow.
    pub fn array(&mut self) -> Result<usize> {
        match self.head()? {
            (ARRAY, len) => self.count(len, 1),
            _ => Err(CborError::Type),
        }
    }

    /// A map; its pairs follow, read with [`Map::next_key`] and a value each.
    pub fn map(&mut self) -> Result<Map<'a>> {
        match self.head()? {
            (MAP, len) => Ok(Map {
                left: self.count(len, 2)?,
                last_key: None,
            }),
            _ => Err(CborError::Type),
        }
    }

    /// A link to a blessed CID.
    pub fn cid(&mut self) -> Result<Cid> {
        if let Some((cid, _)) = self.blessed() {
            return Ok(cid);
        }
        Cid::from_bytes(self.link()?).map_err(|_| CborError::Type)
    }

    /// A link; the binary CID behind it may be of any version, codec and hash function.
    pub fn link(&mut self) -> Result<&'a [u8]> {
        if let Some((_, bytes)) = self.blessed() {
            return Ok(bytes);
        }
        match self.head()? {
            (TAG, LINK_TAG) => self.link_bytes(),
            _ => Err(CborError::Type),
        }
    }

    /// `null`: consumes it and is true, or leaves another item where it is.
    #[inline]
    pub fn take_null(&mut self) -> bool {
        self.take_exact(&[0xf6])
    }

    /// Just these bytes, which are canonical: consumes them and is true, or leaves others where
    /// they are.
    #[inline]
    pub fn take_exact(&mut self, bytes: &[u8]) -> bool {
        let same = self.buffer[self.at..].starts_with(bytes);
        self.at += if same { bytes.len() } else { 0 };
        same
    }

    /// A link to a blessed CID, as nearly all links are: in one step, or not at all.
    #[inline]
    fn blessed(&mut self) -> Option<(Cid, &'a [u8])> {
        const HEAD: &[u8] = &[0xd8, LINK_TAG as u8, 0x58, 1 + Cid::LEN as u8, 0];
        let item = self.buffer.get(self.at..self.at + HEAD.len() + Cid::LEN)?;
        let bytes = item.strip_prefix(HEAD)?;
        let cid = Cid::from_bytes(bytes).ok()?;
        self.at += item.len();
        Some((cid, bytes))
    }

    /// Skips one whole item, checked to be canonical, and gives its place.
    pub fn skip(&mut self) -> Result<Range<usize>> {
        let start = self.at;
        self.skip_nested(CBOR_DEPTH_MAX)?;
        Ok(start..self.at)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<()> {
        let (major, n) = self.head()?;
        match major {
            UINT | NEGATIVE if i64::try_from(n).is_err() => return Err(CborError::Malformed),
            UINT | NEGATIVE | SIMPLE => {}
            BYTES => {
                self.take(n)?;
            }
            TEXT => {
                std::str::from_utf8(self.take(n)?).map_err(|_| CborError::Malformed)?;
            }
            ARRAY => {
                let depth = depth.checked_sub(1).ok_or(CborError::Malformed)?;
                for _ in 0..self.count(n, 1)? {
                    self.skip_nested(depth)?;
                }
            }
            MAP => {
                let depth = depth.checked_sub(1).ok_or(CborError::Malformed)?;
                let mut map = Map {
                    left: self.count(n, 2)?,
                    last_key: None,
                };
                while map.next_key(self)?.is_some() {
                    self.skip_nested(depth)?;
                }
            }
            _ => {
                self.link_bytes()?;
            }
        }
        Ok(())
    }

    /// The byte string behind a link's tag: 0x00, then one CID.
    fn link_bytes(&mut self) -> Result<&'a [u8]> {
        let bytes = self.bytes().map_err(|_| CborError::Malformed)?;
        match bytes {
            [0, bytes @ ..] if cid::is_cid(bytes) => Ok(bytes),
            _ => Err(CborError::Malformed),
        }
    }

    /// A declared number of items, none of which is shorter than `item_bytes_min`.
    fn count(&self, n: u64, item_bytes_min: usize) -> Result<usize> {
        let room = (self.buffer.len() - self.at) / item_bytes_min;
        usize::try_from(n)
            .ok()
            .filter(|n| *n <= room)
            .ok_or(CborError::Malformed)
    }

    #[inline]
    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.at.checked_add(len));
        let taken = end.and_then(|end| self.buffer.get(self.at..end));
        let taken = taken.ok_or(CborError::Malformed)?;
        self.at += taken.len();
        Ok(taken)
    }

    /// The major type and the argument of the next item, in the shortest form or not at all.
    #[inline]
    fn head(&mut self) -> Result<(u8, u64)> {
        let first = *self.buffer.get(self.at).ok_or(CborError::Malformed)?;
        self.at += 1;
        let (major, info) = (first >> 5, first & 31);
        if info < 24 {
            let n = u64::from(info);
            return match major {
                SIMPLE if !(FALSE..=NULL).contains(&n) => Err(CborError::Malformed),
                TAG => Err(CborError::Malformed),
                _ => Ok((major, n)),
            };
        }
        if major == SIMPLE || info > 27 {
            return Err(CborError::Malformed);
        }
        let width = 1usize << (info - 24);
        let mut bytes = [0u8; 8];
        let argument = self
            .buffer
            .get(self.at..self.at + width)
            .ok_or(CborError::Malformed)?;
        bytes[8 - width..].copy_from_slice(argument);
        self.at += width;
        let n = u64::from_be_bytes(bytes);
        let least = if width == 1 { 24 } else { 1 << (4 * width) };
        if n < least || (major == TAG && n != LINK_TAG) {
            return Err(CborError::Malformed);
        }
        Ok((major, n))
    }
}

impl<'a> Map<'a> {
    /// The next key, or none after the last pair. The value must be read before the next call.
    pub fn next_key(&mut self, reader: &mut Reader<'a>) -> Result<Option<&'a str>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key = reader.text().map_err(|_| CborError::Malformed)?;
        if self.last_key.is_some_and(|last| !ascends(last, key)) {
            return Err(CborError::Malformed);
        }
        self.last_key = Some(key);
        Ok(Some(key))
    }

    /// How many pairs are still to come.
    pub fn left(&self) -> usize {
        self.left
    }
}

/// Whether `b` may follow `a` as a key: shorter keys first, then bytewise.
pub fn ascends(a: &str, b: &str) -> bool {
    (a.len(), a.as_bytes()) < (b.len(), b.as_bytes())
}
