//! A partial tree: the nodes whose blocks are there, links to those whose are not.
//!
//! Nodes live in an arena that is reused from commit to commit. Keys and values are spans: keys of
//! the tree's own key buffer, values of the buffer (the frame) that the commit came in.

use std::{cmp::Ordering, ops::Range};

use super::{TreeError, node};
use crate::atproto::{car::BlockTable, cid::Cid};

/// A part of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// `start..end` of a buffer; buffers are frames and what is derived from one, far below 4 GB.
    pub fn new(start: usize, end: usize) -> Span {
        Span {
            start: start as u32,
            end: end as u32,
        }
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    /// The bytes.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Span {
        Span::new(range.start, range.end)
    }
}

/// The index of a node in the arena.
pub(super) type Index = u32;

/// A subtree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// Nothing there.
    None,
    /// There, but its block is not.
    Stub(Cid),
    /// A node of the arena.
    Node(Index),
}

/// A key with its value and what lies between it and the next one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// The full key, in the tree's key buffer.
    pub(super) key: Span,
    /// The binary CID, in the frame.
    pub(super) value: Span,
    /// The subtree after the key.
    pub(super) right: Link,
    /// Where its CID is in the node's block, where it has one.
    pub(super) right_at: u32,
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) layer: u8,
    /// The subtree before the first key.
    pub(super) left: Link,
    /// Where its CID is in the node's block, where it has one.
    pub(super) left_at: u32,
    pub(super) entries: Vec<Entry>,
    /// The block that the node came from, in the frame, while they differ in nothing but the CIDs
    /// of subtrees: most nodes that an operation changes are only above of what it changes.
    pub(super) block: Option<Span>,
    /// The CID, unless the node has changed since it was known.
    pub(super) cid: Option<Cid>,
}

impl Node {
    fn new() -> Node {
        Node {
            layer: 0,
            left: Link::None,
            left_at: 0,
            entries: Vec::new(),
            block: None,
            cid: None,
        }
    }

    /// The subtree before entry `i` (or after the last one).
    pub(super) fn link_before(&self, i: usize) -> Link {
        match i.checked_sub(1) {
            None => self.left,
            Some(before) => self.entries[before].right,
        }
    }

    /// Where the CID of the subtree before entry `i` is in the node's block.
    pub(super) fn link_place(&self, i: usize) -> usize {
        let place = match i.checked_sub(1) {
            None => self.left_at,
            Some(before) => self.entries[before].right_at,
        };
        place as usize
    }

    /// The entries, to be changed: afterwards the node is not like its block any more.
    pub(super) fn entries_mut(&mut self) -> &mut Vec<Entry> {
        self.block = None;
        self.cid = None;
        &mut self.entries
    }

    /// Replaces the subtree before entry `i`.
    pub(super) fn set_link_before(&mut self, i: usize, link: Link) {
        if (link == Link::None) != (self.link_before(i) == Link::None) {
            self.block = None;
        }
        match i.checked_sub(1) {
            None => self.left = link,
            Some(before) => self.entries[before].right = link,
        }
        self.cid = None;
    }
}

/// A partial tree, and the buffers that the next one reuses.
#[derive(Default, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    /// How many of `nodes` are in use.
    used: usize,
    pub(super) keys: Vec<u8>,
    scratch: Vec<u8>,
    pub(super) root: Index,
}

/// What the keys of a subtree must lie between, both exclusive.
#[derive(Clone, Copy)]
struct Bounds {
    low: Option<Span>,
    high: Option<Span>,
}

/// Nodes of one partial tree. A commit of 200 operations needs a few thousand; a slice of two
/// megabytes can not hold more than this many nodes.
const NODES_MAX: usize = 1 << 16;
/// Entries of a node for which the room is kept for the next commit.
const KEEP_ENTRIES: usize = 64;

impl Tree {
    /// An empty workspace; [`Tree::load`] fills it.
    pub fn new() -> Tree {
        Tree::default()
    }

    /// Loads the tree below `root` as far as its blocks are in `blocks`, in place of what was
    /// loaded before. Every node that is there is checked against every rule of the structure:
    /// layers, order within and across nodes, no empty node but the root of an empty tree.
    pub fn load(
        &mut self,
        root: &Cid,
        blocks: &BlockTable,
        buffer: &[u8],
    ) -> Result<(), TreeError> {
        self.used = 0;
        self.keys.clear();
        let place = blocks.get(root).ok_or(TreeError::MissingBlock)?;
        let index = self.alloc(0)?;
        self.root = index;
        self.parse_into(index, root, place, buffer)?;
        let node = &self.nodes[index as usize];
        let Some(first) = node.entries.first() else {
            // A root that only points further down should have been trimmed.
            return if node.left == Link::None {
                Ok(())
            } else {
                Err(TreeError::Invalid)
            };
        };
        let layer = node::layer_of(first.key.of(&self.keys));
        self.nodes[index as usize].layer = layer;
        self.check(
            index,
            Bounds {
                low: None,
                high: None,
            },
            blocks,
            buffer,
        )
    }

    /// Checks a parsed node of known layer and loads what is below it. The depth is bounded by the
    /// layer, which is at most 128 and falls by one with each step.
    fn check(
        &mut self,
        index: Index,
        bounds: Bounds,
        blocks: &BlockTable,
        buffer: &[u8],
    ) -> Result<(), TreeError> {
        let layer = self.nodes[index as usize].layer;
        let count = self.nodes[index as usize].entries.len();
        let mut low = bounds.low;
        for i in 0..=count {
            let entry = self.nodes[index as usize].entries.get(i).copied();
            let high = entry.map_or(bounds.high, |e| Some(e.key));
            let link = self.nodes[index as usize].link_before(i);
            if let Some(entry) = entry {
                let in_bounds = self.ascends(bounds.low, Some(entry.key))
                    && self.ascends(Some(entry.key), bounds.high);
                if !in_bounds || node::layer_of(entry.key.of(&self.keys)) != layer {
                    return Err(TreeError::Invalid);
                }
            }
            if let Link::Stub(cid) = link {
                let below = layer.checked_sub(1).ok_or(TreeError::Invalid)?;
                if let Some(place) = blocks.get(&cid) {
                    let child = self.alloc(below)?;
                    self.parse_into(child, &cid, place, buffer)?;
                    let node = &self.nodes[child as usize];
                    if node.entries.is_empty() && node.left == Link::None {
                        return Err(TreeError::Invalid);
                    }
                    self.check(child, Bounds { low, high }, blocks, buffer)?;
                    let parent = &mut self.nodes[index as usize];
                    let cid = parent.cid;
                    parent.set_link_before(i, Link::Node(child));
                    parent.cid = cid;
                }
            }
            low = entry.map(|e| e.key);
        }
        Ok(())
    }

    fn ascends(&self, a: Option<Span>, b: Option<Span>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => a.of(&self.keys) < b.of(&self.keys),
            _ => true,
        }
    }

    fn parse_into(
        &mut self,
        index: Index,
        cid: &Cid,
        place: Range<usize>,
        buffer: &[u8],
    ) -> Result<(), TreeError> {
        let node = &mut self.nodes[index as usize];
        node.cid = Some(*cid);
        node::parse(buffer, place, &mut self.keys, node)
    }

    /// A fresh, empty node.
    pub(super) fn alloc(&mut self, layer: u8) -> Result<Index, TreeError> {
        if self.used >= NODES_MAX {
            return Err(TreeError::Invalid);
        }
        if self.used == self.nodes.len() {
            self.nodes.push(Node::new());
        }
        let node = &mut self.nodes[self.used];
        node.layer = layer;
        node.left = Link::None;
        node.entries.clear();
        node.block = None;
        node.cid = None;
        self.used += 1;
        Ok(self.used as Index - 1)
    }

    pub(super) fn node(&self, index: Index) -> &Node {
        &self.nodes[index as usize]
    }

    pub(super) fn node_mut(&mut self, index: Index) -> &mut Node {
        &mut self.nodes[index as usize]
    }

    /// Where `key` is in a node, or where it would be.
    pub(super) fn find(&self, index: Index, key: &[u8]) -> Result<usize, usize> {
        self.node(index)
            .entries
            .binary_search_by(|entry| -> Ordering { entry.key.of(&self.keys).cmp(key) })
    }

    /// Whether a key begins with `prefix`; none where a subtree that may hold one is not there.
    ///
    /// Such keys are neighbours in the tree, and one of them that a commit has deleted was among
    /// them: where its own neighbours are there, so is what this looks at. Undoing the deletion
    /// looks at them too, so an operation that inverts leaves no doubt.
    pub fn has_prefix(&self, prefix: &[u8]) -> Option<bool> {
        let mut index = self.root;
        loop {
            let (Ok(at) | Err(at)) = self.find(index, prefix);
            let node = self.node(index);
            if let Some(entry) = node.entries.get(at)
                && entry.key.of(&self.keys).starts_with(prefix)
            {
                return Some(true);
            }
            match node.link_before(at) {
                Link::None => return Some(false),
                Link::Stub(_) => return None,
                Link::Node(child) => index = child,
            }
        }
    }

    /// Keeps a key for an entry that is to be inserted.
    pub(super) fn intern(&mut self, key: &[u8]) -> Span {
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        Span::new(start, self.keys.len())
    }

    /// The CID of the root as it is now; nodes that have changed are encoded and hashed.
    pub fn root_cid(&mut self, buffer: &[u8]) -> Cid {
        let root = self.root;
        self.cid_of(root, buffer)
    }

    fn cid_of(&mut self, index: Index, buffer: &[u8]) -> Cid {
        if let Some(cid) = self.node(index).cid {
            return cid;
        }
        for i in 0..=self.node(index).entries.len() {
            if let Link::Node(child) = self.node(index).link_before(i) {
                self.cid_of(child, buffer);
            }
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let link = |link: &Link| match link {
            Link::None => None,
            Link::Stub(cid) => Some(*cid),
            Link::Node(child) => self.node(*child).cid,
        };
        let out = node::encode(self.node(index), &self.keys, buffer, link, out);
        let cid = Cid::of_cbor(&out);
        self.scratch = out;
        self.node_mut(index).cid = Some(cid);
        cid
    }

    /// Gives back what an unusually large commit took.
    pub fn shrink_if_over(&mut self, nodes_max: usize, key_bytes_max: usize) {
        let used = std::mem::take(&mut self.used);
        for node in &mut self.nodes[..used] {
            if node.entries.capacity() > KEEP_ENTRIES {
                node.entries = Vec::new();
            }
        }
        if self.nodes.len() > nodes_max {
            self.nodes.truncate(nodes_max);
            self.nodes.shrink_to_fit();
        }
        for buffer in [&mut self.keys, &mut self.scratch] {
            if buffer.capacity() > key_bytes_max {
                *buffer = Vec::new();
            }
        }
    }
}
