//! The bytes of one tree node.

use aws_lc_rs::digest;

use super::{
    TreeError,
    tree::{Entry, Link, Node, Span},
};
use crate::{
    atproto::{
        cbor::{CborError, Map, Reader, Writer},
        cid::{Cid, Codec},
    },
    limits::{MST_KEY_BYTES_MAX, MST_KEYS_BYTES_MAX, MST_NODE_ENTRIES_MAX},
};

/// The layer of a key: half the number of leading zero bits of its SHA-256.
pub fn layer_of(key: &[u8]) -> u8 {
    let digest = digest::digest(&digest::SHA256, key);
    let mut zeros = 0;
    for byte in digest.as_ref() {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    (zeros / 2) as u8
}

/// Parses the node at `place` of `buffer` into `node` (its layer is left alone), and appends its
/// keys, written out in full, to `keys`.
///
/// Checks all that the node's own bytes can show: canonical encoding, both nullable fields there,
/// canonical prefix compression, keys ascending, links to tree nodes of the blessed kind.
pub(super) fn parse(
    buffer: &[u8],
    place: std::ops::Range<usize>,
    keys: &mut Vec<u8>,
    node: &mut Node,
) -> Result<(), TreeError> {
    let mut parser = Parser {
        reader: Reader::new(&buffer[place.clone()]),
        base: place.start,
        keys,
    };
    parser.node(node).map_err(|_| TreeError::Invalid)
}

struct Parser<'a> {
    reader: Reader<'a>,
    base: usize,
    keys: &'a mut Vec<u8>,
}

const INVALID: CborError = CborError::Malformed;

impl<'a> Parser<'a> {
    fn node(&mut self, node: &mut Node) -> Result<(), CborError> {
        node.entries.clear();
        let mut map = self.reader.map()?;
        self.key(&mut map, "e")?;
        let count = self.reader.array()?;
        if count > MST_NODE_ENTRIES_MAX {
            return Err(INVALID);
        }
        let mut last = None;
        for _ in 0..count {
            let entry = self.entry(last)?;
            last = Some(entry.key);
            node.entries.push(entry);
        }
        self.key(&mut map, "l")?;
        node.left = self.child()?;
        if map.left() > 0 || !self.reader.is_at_end() {
            return Err(INVALID);
        }
        Ok(())
    }

    /// One entry; `last` is the key before it in this node.
    fn entry(&mut self, last: Option<Span>) -> Result<Entry, CborError> {
        let mut map = self.reader.map()?;
        self.key(&mut map, "k")?;
        let suffix = self.reader.bytes()?;
        self.key(&mut map, "p")?;
        let prefix = self.reader.uint()? as usize;
        let key = self.full_key(last, prefix, suffix)?;
        self.key(&mut map, "t")?;
        let right = self.child()?;
        self.key(&mut map, "v")?;
        let link = self.reader.link()?;
        if map.left() > 0 {
            return Err(INVALID);
        }
        let end = self.base + self.reader.position();
        let value = Span::new(end - link.len(), end);
        Ok(Entry { key, value, right })
    }

    /// Writes a key out in full. Compression has one form only: the prefix is all that the key
    /// shares with the one before it.
    fn full_key(
        &mut self,
        last: Option<Span>,
        prefix: usize,
        suffix: &[u8],
    ) -> Result<Span, CborError> {
        let start = self.keys.len();
        let len = prefix.checked_add(suffix.len()).ok_or(INVALID)?;
        if len == 0 || len > MST_KEY_BYTES_MAX || start + len > MST_KEYS_BYTES_MAX {
            return Err(INVALID);
        }
        match last {
            None if prefix > 0 => return Err(INVALID),
            None => {}
            Some(last) => {
                let rest = last.of(self.keys).get(prefix..).ok_or(INVALID)?;
                // The first byte after the prefix differs, and is the larger one.
                match (rest.first(), suffix.first()) {
                    (None, Some(_)) => {}
                    (Some(a), Some(b)) if a < b => {}
                    _ => return Err(INVALID),
                }
                let from = last.start();
                self.keys.extend_from_within(from..from + prefix);
            }
        }
        self.keys.extend_from_slice(suffix);
        Ok(Span::new(start, self.keys.len()))
    }

    fn child(&mut self) -> Result<Link, CborError> {
        if self.reader.take_null() {
            return Ok(Link::None);
        }
        let cid = self.reader.cid()?;
        if cid.codec() != Codec::DagCbor {
            return Err(INVALID);
        }
        Ok(Link::Stub(cid))
    }

    fn key(&mut self, map: &mut Map<'a>, expected: &str) -> Result<(), CborError> {
        match map.next_key(&mut self.reader)? {
            Some(key) if key == expected => Ok(()),
            _ => Err(INVALID),
        }
    }
}

/// Appends the bytes of a node to `out`. `link` gives the CID of a child.
pub(super) fn encode(
    node: &Node,
    keys: &[u8],
    buffer: &[u8],
    link: impl Fn(&Link) -> Option<Cid>,
    out: Vec<u8>,
) -> Vec<u8> {
    let mut writer = Writer::append_to(out);
    writer.map(2).text("e").array(node.entries.len());
    let mut last: &[u8] = &[];
    for entry in &node.entries {
        let key = entry.key.of(keys);
        let prefix = last.iter().zip(key).take_while(|(a, b)| a == b).count();
        writer
            .map(4)
            .text("k")
            .bytes(&key[prefix..])
            .text("p")
            .uint(prefix as u64);
        writer.text("t").cid_or_null(link(&entry.right).as_ref());
        writer.text("v").link(entry.value.of(buffer));
        last = key;
    }
    writer.text("l").cid_or_null(link(&node.left).as_ref());
    writer.into_bytes()
}
