//! The Merkle search tree of a repository, whole and in memory
//! (<https://atproto.com/specs/repository#mst-structure>).
//!
//! Written apart from the relay's own: the relay holds only the part of a tree that a commit
//! shows, this one holds all of it. Nodes are immutable and shared, so a change costs the nodes on
//! one path, a copy of a tree costs nothing, and a node without its block is one that was made
//! since the last commit.

use std::{
    cmp::Ordering,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::digest;

use crate::atproto::{cbor::Writer, cid::Cid};

#[cfg(test)]
pub(crate) mod tests;

/// A block and its CID.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// The CID of `bytes`.
    pub cid: Cid,
    /// The block itself.
    pub bytes: Arc<[u8]>,
}

impl Block {
    /// The block of `bytes`, which are DRISL-CBOR.
    pub fn of_cbor(bytes: Vec<u8>) -> Block {
        Block {
            cid: Cid::of_cbor(&bytes),
            bytes: bytes.into(),
        }
    }
}

/// A key and the CID of its record.
type Entry = (Arc<str>, Cid);
/// A subtree, or nothing.
type Child = Option<Arc<Node>>;

/// `children` has one item more than `entries`: before, between and after them.
struct Node {
    layer: u32,
    entries: Vec<Entry>,
    children: Vec<Child>,
    block: OnceLock<Block>,
}

/// A tree of keys (`collection/rkey`) and CIDs. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Tree {
    root: Child,
    len: usize,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree({} keys)", self.len)
    }
}

/// The layer of a key: half the leading zero bits of its SHA-256.
pub fn layer_of(key: &str) -> u32 {
    let hash = digest::digest(&digest::SHA256, key.as_bytes());
    let mut zeros = 0;
    for byte in hash.as_ref() {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    zeros / 2
}

impl Tree {
    /// A tree without keys.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no keys.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The CID behind `key`.
    pub fn get(&self, key: &str) -> Option<Cid> {
        let mut node = self.root.as_ref()?;
        loop {
            match node.find(key) {
                Ok(i) => return Some(node.entries[i].1),
                Err(i) => node = node.children[i].as_ref()?,
            }
        }
    }

    /// Some key, chosen by going down at random: evenly enough, and without a list of all.
    pub fn pick(&self, rng: &mut fastrand::Rng) -> Option<Arc<str>> {
        let mut node = self.root.as_ref()?;
        loop {
            let i = rng.usize(..node.children.len());
            // Most keys are in the lowest layer: go down where there is something.
            match &node.children[i] {
                Some(child) => node = child,
                None => {
                    let i = i.min(node.entries.len().checked_sub(1)?);
                    return Some(node.entries[i].0.clone());
                }
            }
        }
    }

    /// All keys in order.
    pub fn keys(&self) -> Vec<Arc<str>> {
        fn walk(node: &Node, keys: &mut Vec<Arc<str>>) {
            for (i, child) in node.children.iter().enumerate() {
                if let Some(child) = child {
                    walk(child, keys);
                }
                if let Some((key, _)) = node.entries.get(i) {
                    keys.push(key.clone());
                }
            }
        }
        let mut keys = Vec::with_capacity(self.len);
        if let Some(root) = &self.root {
            walk(root, &mut keys);
        }
        keys
    }

    /// Sets `key` to `value`; returns what it was.
    pub fn set(&mut self, key: &str, value: Cid) -> Option<Cid> {
        let previous = self.get(key);
        let entry = (Arc::from(key), value);
        let layer = layer_of(key);
        self.root = Some(match self.root.take() {
            None => Node::leaf(layer, entry),
            Some(root) if layer > root.layer => {
                let below = layer - 1;
                let (left, right) = split(Some(&root), key);
                Node::make(
                    layer,
                    vec![entry],
                    vec![lift(left, below), lift(right, below)],
                )
            }
            Some(root) => put(&root, layer, entry),
        });
        self.len += usize::from(previous.is_none());
        previous
    }

    /// Removes `key`; returns what it was.
    pub fn remove(&mut self, key: &str) -> Option<Cid> {
        let previous = self.get(key)?;
        let mut root = self.root.take().and_then(|root| remove(&root, key));
        // A root that only points downwards is not a root.
        while let Some(node) = &root {
            match (node.entries.is_empty(), &node.children[0]) {
                (true, child) => root = child.clone(),
                (false, _) => break,
            }
        }
        self.root = root;
        self.len -= 1;
        Some(previous)
    }

    /// The layer of the root; none for an empty tree.
    pub fn layer(&self) -> Option<u32> {
        self.root.as_ref().map(|root| root.layer)
    }

    /// The block of the root node.
    pub fn root(&self) -> Block {
        match &self.root {
            Some(root) => root.block().clone(),
            None => empty_node(),
        }
    }

    /// The nodes made since the last call of it (or of [`Tree::root`]) on this tree or on one it
    /// shares them with; an empty tree's node counts as made.
    pub fn fresh_blocks(&self) -> Vec<Block> {
        fn walk(node: &Arc<Node>, blocks: &mut Vec<Block>) {
            if node.block.get().is_some() {
                return;
            }
            for child in node.children.iter().flatten() {
                walk(child, blocks);
            }
            blocks.push(node.block().clone());
        }
        let mut blocks = Vec::new();
        match &self.root {
            Some(root) => walk(root, &mut blocks),
            None => blocks.push(empty_node()),
        }
        blocks
    }

    /// The nodes that prove `key` and its neighbours: those on the path to where the key is or
    /// would be, and on the paths to the keys before and after it. Whoever has them can undo a
    /// change of `key`.
    pub fn covering_proof(&self, key: &str) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut next = self.root.as_ref();
        while let Some(node) = next {
            blocks.push(node.block().clone());
            match node.find(key) {
                Err(i) => next = node.children[i].as_ref(),
                Ok(i) => {
                    let mut left = node.children[i].as_ref();
                    while let Some(node) = left {
                        blocks.push(node.block().clone());
                        left = node.children[node.entries.len()].as_ref();
                    }
                    let mut right = node.children[i + 1].as_ref();
                    while let Some(node) = right {
                        blocks.push(node.block().clone());
                        right = node.children[0].as_ref();
                    }
                    return blocks;
                }
            }
        }
        blocks
    }

    /// The nodes that undoing one change of `key` looks into, and no other: those on the path to
    /// where the key is or would be and, where undoing it `removes` the key, the two sides that
    /// grow together in its place, as deep as there are two. Where nothing is left beside it at the
    /// top, the way down to the next key too.
    pub fn least_proof(&self, key: &str, removes: bool) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut next = self.root.as_ref();
        while let Some(node) = next {
            blocks.push(node.block().clone());
            next = match node.find(key) {
                Err(i) => node.children[i].as_ref(),
                Ok(i) if removes => {
                    let alone = blocks.len() == 1 && node.entries.len() == 1;
                    let (left, right) = (&node.children[i], &node.children[i + 1]);
                    seam(left, right, alone, &mut blocks);
                    None
                }
                Ok(_) => None,
            };
        }
        blocks
    }
}

/// The nodes that [`merge`] joins and, if nothing at the top is left but what they become, those
/// that are no root because they only point downwards.
fn seam(left: &Child, right: &Child, alone: bool, blocks: &mut Vec<Block>) {
    match (left, right) {
        (Some(left), Some(right)) => {
            blocks.extend([left.block().clone(), right.block().clone()]);
            let alone = alone && left.entries.is_empty() && right.entries.is_empty();
            let last = &left.children[left.entries.len()];
            seam(last, &right.children[0], alone, blocks);
        }
        (Some(node), None) | (None, Some(node)) if alone && node.entries.is_empty() => {
            blocks.push(node.block().clone());
            seam(&node.children[0], &None, alone, blocks);
        }
        _ => {}
    }
}

/// The node of a tree without keys.
fn empty_node() -> Block {
    Block::of_cbor(encode(&[], &[None]))
}

impl Node {
    fn make(layer: u32, entries: Vec<Entry>, children: Vec<Child>) -> Arc<Node> {
        debug_assert_eq!(entries.len() + 1, children.len());
        Arc::new(Node {
            layer,
            entries,
            children,
            block: OnceLock::new(),
        })
    }

    fn leaf(layer: u32, entry: Entry) -> Arc<Node> {
        Node::make(layer, vec![entry], vec![None, None])
    }

    /// The place of `key`, or that of the child that covers it.
    fn find(&self, key: &str) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|(k, _)| k.as_bytes().cmp(key.as_bytes()))
    }

    fn with_child(&self, i: usize, child: Child) -> Arc<Node> {
        let mut children = self.children.clone();
        children[i] = child;
        Node::make(self.layer, self.entries.clone(), children)
    }

    fn block(&self) -> &Block {
        self.block
            .get_or_init(|| Block::of_cbor(encode(&self.entries, &self.children)))
    }
}

/// The canonical form of a node: each key without the prefix it shares with the one before it.
fn encode(entries: &[Entry], children: &[Child]) -> Vec<u8> {
    let link = |child: &Child| child.as_ref().map(|node| node.block().cid);
    let mut out = Writer::new();
    out.map(2).text("e").array(entries.len());
    let mut before: &[u8] = &[];
    for (i, (key, value)) in entries.iter().enumerate() {
        let key = key.as_bytes();
        let prefix = key.iter().zip(before).take_while(|(a, b)| a == b).count();
        out.map(4).text("k").bytes(&key[prefix..]);
        out.text("p").uint(prefix as u64);
        out.text("t").cid_or_null(link(&children[i + 1]).as_ref());
        out.text("v").cid(value);
        before = key;
    }
    out.text("l").cid_or_null(link(&children[0]).as_ref());
    out.into_bytes()
}

/// `child` as a subtree of `layer`: layers are never skipped, so nodes without entries stand in
/// between.
fn lift(child: Child, layer: u32) -> Child {
    let mut child = child?;
    while child.layer < layer {
        child = Node::make(child.layer + 1, Vec::new(), vec![Some(child)]);
    }
    Some(child)
}

/// What of `child` is before `key` and what is after it; `key` itself is not in it.
fn split(child: Option<&Arc<Node>>, key: &str) -> (Child, Child) {
    let Some(node) = child else {
        return (None, None);
    };
    let at = node.entries.partition_point(|(k, _)| **k < *key);
    let (left, right) = split(node.children[at].as_ref(), key);
    let half = |entries: &[Entry], children: Vec<Child>| {
        if entries.is_empty() && children[0].is_none() {
            return None;
        }
        Some(Node::make(node.layer, entries.to_vec(), children))
    };
    let mut before = node.children[..at].to_vec();
    before.push(left);
    let mut after = vec![right];
    after.extend_from_slice(&node.children[at + 1..]);
    (
        half(&node.entries[..at], before),
        half(&node.entries[at..], after),
    )
}

/// Two neighbouring subtrees of one layer as one.
fn merge(left: &Child, right: &Child) -> Child {
    let (Some(l), Some(r)) = (left, right) else {
        return left.as_ref().or(right.as_ref()).cloned();
    };
    let entries = [&l.entries[..], &r.entries[..]].concat();
    let mut children = l.children[..l.entries.len()].to_vec();
    children.push(merge(&l.children[l.entries.len()], &r.children[0]));
    children.extend_from_slice(&r.children[1..]);
    Some(Node::make(l.layer, entries, children))
}

/// `node`, which is not below `layer`, with `entry` in it.
fn put(node: &Arc<Node>, layer: u32, entry: Entry) -> Arc<Node> {
    let at = node.find(&entry.0);
    match (layer.cmp(&node.layer), at) {
        (Ordering::Equal, Ok(i)) => {
            let mut entries = node.entries.clone();
            entries[i] = entry;
            Node::make(node.layer, entries, node.children.clone())
        }
        (Ordering::Equal, Err(i)) => {
            let (left, right) = split(node.children[i].as_ref(), &entry.0);
            let mut children = node.children.clone();
            children.splice(i..=i, [left, right]);
            let mut entries = node.entries.clone();
            entries.insert(i, entry);
            Node::make(node.layer, entries, children)
        }
        (_, Ok(i) | Err(i)) => {
            let child = match &node.children[i] {
                Some(child) => Some(put(child, layer, entry)),
                None => lift(Some(Node::leaf(layer, entry)), node.layer - 1),
            };
            node.with_child(i, child)
        }
    }
}

/// `node` without `key`; nothing when nothing is left.
fn remove(node: &Arc<Node>, key: &str) -> Child {
    match node.find(key) {
        Ok(i) => {
            let mut entries = node.entries.clone();
            entries.remove(i);
            let mut children = node.children.clone();
            let merged = merge(&children[i], &children[i + 1]);
            children.splice(i..=i + 1, [merged]);
            if entries.is_empty() && children[0].is_none() {
                return None;
            }
            Some(Node::make(node.layer, entries, children))
        }
        Err(i) => {
            let child = remove(node.children[i].as_ref()?, key);
            if node.entries.is_empty() && child.is_none() {
                return None;
            }
            Some(node.with_child(i, child))
        }
    }
}
