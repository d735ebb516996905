//! The bytes of one tree node.

use aws_lc_rs::digest;

use super::{
    TreeError,
    tree::{Entry, Link, Node, Span},
};
use crate::{
    atproto::{
        cbor::{CborError, Reader, Writer},
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
    node.block = Some(place.into());
    parser.node(node).map_err(|_| TreeError::Invalid)
}

struct Parser<'a> {
    reader: Reader<'a>,
    base: usize,
    keys: &'a mut Vec<u8>,
}

const INVALID: CborError = CborError::Malformed;

impl Parser<'_> {
    fn node(&mut self, node: &mut Node) -> Result<(), CborError> {
        node.entries.clear();
        self.exact(b"\xa2\x61e")?;
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
        self.exact(b"\x61l")?;
        (node.left, node.left_at) = self.child()?;
        if !self.reader.is_at_end() {
            return Err(INVALID);
        }
        Ok(())
    }

    /// One entry; `last` is the key before it in this node.
    fn entry(&mut self, last: Option<Span>) -> Result<Entry, CborError> {
        self.exact(b"\xa4\x61k")?;
        let suffix = self.reader.bytes()?;
        self.exact(b"\x61p")?;
        let prefix = self.reader.uint()? as usize;
        let key = self.full_key(last, prefix, suffix)?;
        self.exact(b"\x61t")?;
        let (right, right_at) = self.child()?;
        self.exact(b"\x61v")?;
        let link = self.reader.link()?;
        let end = self.base + self.reader.position();
        let value = Span::new(end - link.len(), end);
        Ok(Entry {
            key,
            value,
            right,
            right_at,
        })
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

    /// A subtree, and where its CID is in the block.
    fn child(&mut self) -> Result<(Link, u32), CborError> {
        if self.reader.take_null() {
            return Ok((Link::None, 0));
        }
        let cid = self.reader.cid()?;
        if cid.codec() != Codec::DagCbor {
            return Err(INVALID);
        }
        let at = self.reader.position() - Cid::LEN;
        Ok((Link::Stub(cid), at as u32))
    }

    /// The heads of maps and the names of fields: a node has the same ones in the same places as
    /// every other.
    fn exact(&mut self, bytes: &[u8]) -> Result<(), CborError> {
        if self.reader.take_exact(bytes) {
            Ok(())
        } else {
            Err(INVALID)
        }
    }
}

/// Appends the bytes of a node to `out`. `link` gives the CID of a child.
pub(super) fn encode(
    node: &Node,
    keys: &[u8],
    buffer: &[u8],
    link: impl Fn(&Link) -> Option<Cid>,
    mut out: Vec<u8>,
) -> Vec<u8> {
    if let Some(block) = node.block {
        let start = out.len();
        out.extend_from_slice(block.of(buffer));
        for i in 0..=node.entries.len() {
            if let Some(cid) = link(&node.link_before(i)) {
                let at = start + node.link_place(i);
                out[at..at + Cid::LEN].copy_from_slice(cid.as_bytes());
            }
        }
        return out;
    }
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
