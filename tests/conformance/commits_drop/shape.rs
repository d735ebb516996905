//! Trees of any shape, right or wrong, as blocks: each node is what it is told to be. What is not
//! told otherwise is canonical (<https://atproto.com/specs/repository#mst-structure>).

use std::rc::Rc;

use aws_lc_rs::digest;

use super::forgery::{Block, DAG_CBOR, Fields, RAW, array, item, link, link_or_null};

/// How many of the keys `com.example.tree/0000` and on are made use of.
const KEYS: usize = 400;

/// The layer of a key: two zero bits of its SHA-256 each.
pub(super) fn layer_of(key: &str) -> u32 {
    let hash = digest::digest(&digest::SHA256, key.as_bytes());
    let zeros = hash.as_ref().iter().scan(true, |on, byte| {
        let zeros = if *on { byte.leading_zeros() } else { 0 };
        *on &= *byte == 0;
        Some(zeros)
    });
    zeros.sum::<u32>() / 2
}

/// So many keys of one layer behind another key.
pub(super) fn keys_after<const N: usize>(after: &str, layer: u32) -> [String; N] {
    let keys = (0..KEYS).map(|n| format!("com.example.tree/{n:04}"));
    let keys = keys.filter(|key| **key > *after && layer_of(key) == layer);
    let keys: Vec<_> = keys.take(N).collect();
    keys.try_into().unwrap()
}

type Change<T> = Rc<dyn Fn(&mut T)>;

/// What is done to a node when it is written.
#[derive(Clone)]
pub(super) enum Coding {
    /// Its entries are changed one by one.
    Entries(Change<Vec<Fields>>),
    /// Its two fields are.
    Fields(Change<Fields>),
    /// Its bytes are.
    Bytes(Change<Vec<u8>>),
    /// Its CID is that of raw bytes.
    Raw,
}

/// An entry: the key, and the subtree behind it.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) right: Option<Node>,
}

/// A node.
#[derive(Clone, Default)]
pub(super) struct Node {
    pub(super) left: Option<Box<Node>>,
    pub(super) entries: Vec<Entry>,
    pub(super) coding: Option<Coding>,
}

/// A node of keys with nothing below.
pub(super) fn leaf(keys: &[&String]) -> Node {
    let entries = keys.iter().map(|key| Entry {
        key: (*key).clone(),
        right: None,
    });
    Node {
        entries: entries.collect(),
        ..Node::default()
    }
}

/// A node with something below: before the first key, and behind each.
pub(super) fn inner(left: Option<Node>, entries: Vec<(&String, Option<Node>)>) -> Node {
    let entries = entries.into_iter().map(|(key, right)| Entry {
        key: key.clone(),
        right,
    });
    Node {
        left: left.map(Box::new),
        entries: entries.collect(),
        coding: None,
    }
}

impl Node {
    pub(super) fn coded(mut self, coding: Option<Coding>) -> Node {
        self.coding = coding;
        self
    }

    /// Every key in order.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = self.left.as_ref().map_or(Vec::new(), |left| left.keys());
        for Entry { key, right } in &self.entries {
            keys.push(key.clone());
            keys.extend(right.iter().flat_map(Node::keys));
        }
        keys
    }

    /// The blocks of this tree whose keys all have the same record; the last is its root.
    pub(super) fn blocks(&self, record: &[u8]) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut below = |node: &Node| {
            blocks.extend(node.blocks(record));
            blocks.last().map(|block| block.cid.clone())
        };
        let left = self.left.as_ref().and_then(|left| below(left));
        let mut entries = Vec::new();
        let mut before = "";
        for Entry { key, right } in &self.entries {
            let right = right.as_ref().and_then(&mut below);
            let shared = before.bytes().zip(key.bytes()).take_while(|(a, b)| a == b);
            let prefix = shared.count();
            entries.push(Fields::of([
                ("k", item(&key.as_bytes()[prefix..])),
                ("p", item(prefix)),
                ("t", link_or_null(right.as_deref())),
                ("v", link(record)),
            ]));
            before = key;
        }
        if let Some(Coding::Entries(change)) = &self.coding {
            change(&mut entries);
        }
        let entries: Vec<_> = entries.iter().map(Fields::encode).collect();
        let mut node = Fields::of([("e", array(&entries)), ("l", link_or_null(left.as_deref()))]);
        if let Some(Coding::Fields(change)) = &self.coding {
            change(&mut node);
        }
        let mut bytes = node.encode();
        if let Some(Coding::Bytes(change)) = &self.coding {
            change(&mut bytes);
        }
        let raw = matches!(self.coding, Some(Coding::Raw));
        blocks.push(Block::of(if raw { RAW } else { DAG_CBOR }, bytes));
        blocks
    }
}
