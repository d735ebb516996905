//! Operation inversion: undoing a commit's operations on its own tree must lead to the tree before
//! it (<https://atproto.com/specs/sync#commit-validation>, proposal 0006). A tree is unique for
//! what it maps, so any order in which all operations invert proves the list of operations.

use super::{
    TreeError, empty_root, node,
    tree::{Entry, Index, Link, Span, Tree},
};
use crate::atproto::{car::BlockTable, cid::Cid};

/// One operation of a commit. Spans are of the frame.
#[derive(Clone, Copy, Debug)]
pub struct Op {
    /// `collection/rkey`.
    pub path: Span,
    /// What was done.
    pub kind: OpKind,
}

/// What an operation did; spans are binary CIDs of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpKind {
    /// The path is new.
    Create {
        /// Its record.
        cid: Span,
    },
    /// The path has another record.
    Update {
        /// The record now.
        cid: Span,
        /// The record before.
        prev: Span,
    },
    /// The path is gone.
    Delete {
        /// The record before.
        prev: Span,
    },
}

/// Undoes `ops` on the tree of `root` and gives the root before them.
///
/// A proof may hold just the blocks that one order of operations needs, so several orders are
/// tried; only a missing block is a reason to try the next one. `order` is scratch space.
pub fn invert(
    tree: &mut Tree,
    root: &Cid,
    blocks: &BlockTable,
    buffer: &[u8],
    ops: &[Op],
    order: &mut Vec<u16>,
) -> Result<Cid, TreeError> {
    tree.load(root, blocks, buffer)?;
    invert_loaded(tree, root, blocks, buffer, ops, order)
}

/// The same on a tree that is loaded already, of `root` and as it came.
pub fn invert_loaded(
    tree: &mut Tree,
    root: &Cid,
    blocks: &BlockTable,
    buffer: &[u8],
    ops: &[Op],
    order: &mut Vec<u16>,
) -> Result<Cid, TreeError> {
    let mut last = TreeError::MissingBlock;
    for attempt in 0..4 {
        sort(order, ops, buffer, attempt);
        if attempt > 0 {
            tree.load(root, blocks, buffer)?;
        }
        let done = order
            .iter()
            .try_for_each(|i| tree.undo(&ops[*i as usize], buffer));
        match done {
            Ok(()) => return Ok(tree.trimmed_root(buffer)),
            Err(TreeError::MissingBlock) => last = TreeError::MissingBlock,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The orders that real proofs were seen to need.
fn sort(order: &mut Vec<u16>, ops: &[Op], buffer: &[u8], attempt: usize) {
    order.clear();
    order.extend(0..ops.len() as u16);
    let path = |i: &u16| ops[*i as usize].path.of(buffer);
    let is_delete = |i: &u16| matches!(ops[*i as usize].kind, OpKind::Delete { .. });
    match attempt {
        0 => order.reverse(),
        1 => order.sort_by(|a, b| is_delete(b).cmp(&is_delete(a)).then(path(a).cmp(path(b)))),
        2 => {}
        _ => order.sort_by(|a, b| path(b).cmp(path(a))),
    }
}

/// An entry that is in no block.
fn entry(key: Span, value: Span, right: Link) -> Entry {
    let right_at = 0;
    Entry {
        key,
        value,
        right,
        right_at,
    }
}

impl Tree {
    /// Undoes one operation.
    fn undo(&mut self, op: &Op, buffer: &[u8]) -> Result<(), TreeError> {
        let path = op.path.of(buffer);
        let layer = node::layer_of(path);
        match op.kind {
            OpKind::Create { cid } => self.remove_from(self.root, layer, path, cid, buffer),
            OpKind::Update { cid, prev } => {
                let (index, at) = self.locate(layer, path)?;
                let node = self.node_mut(index);
                if node.entries[at].value.of(buffer) != cid.of(buffer) {
                    return Err(TreeError::Mismatch);
                }
                node.entries_mut()[at].value = prev;
                self.touch(path, layer);
                Ok(())
            }
            OpKind::Delete { prev } => {
                let key = self.intern(path);
                self.insert_at_root(layer, key, prev)
            }
        }
    }

    /// The node and place of a key that must be there.
    fn locate(&self, layer: u8, key: &[u8]) -> Result<(Index, usize), TreeError> {
        let mut index = self.root;
        loop {
            let node = self.node(index);
            let place = self.find(index, key);
            if node.layer == layer {
                return place.map(|at| (index, at)).map_err(|_| TreeError::Mismatch);
            }
            if node.layer < layer {
                return Err(TreeError::Mismatch);
            }
            let at = place.err().ok_or(TreeError::Invalid)?;
            index = match node.link_before(at) {
                Link::Node(child) => child,
                Link::Stub(_) => return Err(TreeError::MissingBlock),
                Link::None => return Err(TreeError::Mismatch),
            };
        }
    }

    /// Forgets the CIDs of the nodes from the root to the layer of `key`.
    fn touch(&mut self, key: &[u8], layer: u8) {
        let mut index = self.root;
        loop {
            self.node_mut(index).cid = None;
            if self.node(index).layer <= layer {
                return;
            }
            let (Ok(at) | Err(at)) = self.find(index, key);
            match self.node(index).link_before(at) {
                Link::Node(child) => index = child,
                _ => return,
            }
        }
    }

    /// Removes a key below `index` whose value must be `cid`; empty nodes go with it.
    fn remove_from(
        &mut self,
        index: Index,
        layer: u8,
        key: &[u8],
        cid: Span,
        buffer: &[u8],
    ) -> Result<(), TreeError> {
        let place = self.find(index, key);
        let here = self.node(index).layer;
        if here == layer {
            let at = place.map_err(|_| TreeError::Mismatch)?;
            let entry = self.node(index).entries[at];
            if entry.value.of(buffer) != cid.of(buffer) {
                return Err(TreeError::Mismatch);
            }
            let merged = self.merge(self.node(index).link_before(at), entry.right)?;
            let node = self.node_mut(index);
            node.entries_mut().remove(at);
            node.set_link_before(at, merged);
            return Ok(());
        }
        if here < layer {
            return Err(TreeError::Mismatch);
        }
        let at = place.err().ok_or(TreeError::Invalid)?;
        match self.node(index).link_before(at) {
            Link::Stub(_) => Err(TreeError::MissingBlock),
            Link::None => Err(TreeError::Mismatch),
            Link::Node(child) => {
                self.remove_from(child, layer, key, cid, buffer)?;
                let left = self.node(child);
                let gone = left.entries.is_empty() && left.left == Link::None;
                let link = if gone { Link::None } else { Link::Node(child) };
                self.node_mut(index).set_link_before(at, link);
                Ok(())
            }
        }
    }

    /// Joins two subtrees of one layer between which a key was removed.
    fn merge(&mut self, a: Link, b: Link) -> Result<Link, TreeError> {
        let (a, b) = match (a, b) {
            (Link::None, other) | (other, Link::None) => return Ok(other),
            (Link::Node(a), Link::Node(b)) => (a, b),
            _ => return Err(TreeError::MissingBlock),
        };
        let end = self.node(a).entries.len();
        let middle = self.merge(self.node(a).link_before(end), self.node(b).left)?;
        self.node_mut(a).set_link_before(end, middle);
        let moved = std::mem::take(&mut self.node_mut(b).entries);
        self.node_mut(a).entries_mut().extend_from_slice(&moved);
        self.node_mut(b).entries = moved;
        Ok(Link::Node(a))
    }

    /// Inserts a key that must not be there, growing the tree upwards where its layer asks for it.
    fn insert_at_root(&mut self, layer: u8, key: Span, value: Span) -> Result<(), TreeError> {
        let root = self.root;
        let top = self.node(root).layer;
        let node = self.node(root);
        if node.entries.is_empty() && node.left == Link::None {
            self.node_mut(root).layer = layer;
        } else if layer > top {
            let (mut left, mut right) = self.split(Link::Node(root), key)?;
            for above in top + 1..layer {
                left = self.wrap(left, above)?;
                right = self.wrap(right, above)?;
            }
            let new = self.alloc(layer)?;
            let node = self.node_mut(new);
            node.left = left;
            node.entries.push(entry(key, value, right));
            self.root = new;
            return Ok(());
        }
        self.insert_into(root, layer, key, value)
    }

    /// Inserts a key below `index`, whose layer is not below the key's.
    fn insert_into(
        &mut self,
        index: Index,
        layer: u8,
        key: Span,
        value: Span,
    ) -> Result<(), TreeError> {
        let place = self.find(index, key.of(&self.keys));
        let at = place.err().ok_or(TreeError::Mismatch)?;
        let below = self.node(index).link_before(at);
        if self.node(index).layer == layer {
            let (left, right) = self.split(below, key)?;
            let node = self.node_mut(index);
            node.set_link_before(at, left);
            node.entries_mut().insert(at, entry(key, value, right));
            return Ok(());
        }
        let child = match below {
            Link::Node(child) => child,
            Link::Stub(_) => return Err(TreeError::MissingBlock),
            Link::None => self.alloc(self.node(index).layer - 1)?,
        };
        self.insert_into(child, layer, key, value)?;
        self.node_mut(index).set_link_before(at, Link::Node(child));
        Ok(())
    }

    /// A node of `layer` above a subtree, so that no layer is skipped.
    fn wrap(&mut self, link: Link, layer: u8) -> Result<Link, TreeError> {
        if link == Link::None {
            return Ok(Link::None);
        }
        let above = self.alloc(layer)?;
        self.node_mut(above).left = link;
        Ok(Link::Node(above))
    }

    /// Parts a subtree into what is before `key` and what is after it.
    fn split(&mut self, link: Link, key: Span) -> Result<(Link, Link), TreeError> {
        let index = match link {
            Link::None => return Ok((Link::None, Link::None)),
            Link::Stub(_) => return Err(TreeError::MissingBlock),
            Link::Node(index) => index,
        };
        let place = self.find(index, key.of(&self.keys));
        let at = place.err().ok_or(TreeError::Mismatch)?;
        let (left, right) = self.split(self.node(index).link_before(at), key)?;
        let other = self.alloc(self.node(index).layer)?;
        let mut moved = std::mem::take(&mut self.node_mut(other).entries);
        moved.extend(self.node_mut(index).entries_mut().drain(at..));
        let node = self.node_mut(other);
        node.entries = moved;
        node.left = right;
        self.node_mut(index).set_link_before(at, left);
        Ok((self.or_none(index), self.or_none(other)))
    }

    fn or_none(&self, index: Index) -> Link {
        let node = self.node(index);
        let empty = node.entries.is_empty() && node.left == Link::None;
        if empty { Link::None } else { Link::Node(index) }
    }

    /// The root's CID after nodes at the top that only point further down are taken away. Where
    /// the node below is not known, its CID is the root's.
    fn trimmed_root(&mut self, buffer: &[u8]) -> Cid {
        loop {
            let node = self.node(self.root);
            if !node.entries.is_empty() {
                return self.root_cid(buffer);
            }
            match node.left {
                Link::None => return empty_root(),
                Link::Stub(cid) => return cid,
                Link::Node(child) => self.root = child,
            }
        }
    }
}
