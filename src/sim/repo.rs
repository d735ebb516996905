//! A repository in memory, and the commits it makes
//! (<https://atproto.com/specs/repository#commit-objects>).

use std::{collections::HashSet, sync::Arc};

use crate::{
    atproto::{cbor::Writer, cid::Cid, tid::Tid},
    sim::{
        clock,
        event::{self, Action, CommitMessage, Op},
        keys::Key,
        tree::{Block, Tree},
    },
};

/// A change of one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// The record at a path is this block, whether it was there before or not.
    Put(String, Block),
    /// The record at a path goes.
    Delete(String),
}

/// What one account has published. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Repo {
    did: Arc<str>,
    tree: Tree,
    rev: Option<Tid>,
    data: Option<Cid>,
}

/// How a commit is signed.
#[derive(Clone, Debug)]
pub enum Signing {
    /// As it must be.
    Valid(Arc<Key>),
    /// With s in the upper half.
    HighS(Arc<Key>),
    /// Over the object with `sig: null` instead of without `sig`.
    OverNull(Arc<Key>),
    /// In DER.
    Der(Arc<Key>),
    /// Without the last byte.
    Short(Arc<Key>),
    /// With these bytes.
    Bytes(Vec<u8>),
}

/// A commit before it is signed: valid as it comes from [`Repo::draft`], and open to any change.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The account.
    pub did: Arc<str>,
    /// The version of the commit object: 3.
    pub version: i64,
    /// The revision.
    pub rev: Tid,
    /// The root of the tree.
    pub data: Cid,
    /// The deprecated `prev` of the commit object.
    pub prev: Option<Cid>,
    /// The revision before.
    pub since: Option<Tid>,
    /// The root of the tree before.
    pub prev_data: Option<Cid>,
    /// The changes.
    pub ops: Vec<Op>,
    /// Tree nodes and records.
    pub blocks: Vec<Block>,
    /// When, in microseconds since 1970.
    pub micros: u64,
}

/// A signed commit, with the message about it.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The commit object.
    pub commit: Block,
    /// Everything in `message.blocks`, the commit object among it.
    pub blocks: Vec<Block>,
    /// The message.
    pub message: CommitMessage,
}

impl Repo {
    /// A repository without commits.
    pub fn new(did: Arc<str>) -> Repo {
        Repo {
            did,
            tree: Tree::new(),
            rev: None,
            data: None,
        }
    }

    /// The tree now.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes `writes` and returns the commit of them. Deleting what is not there does nothing.
    pub fn draft(&mut self, writes: &[Write], micros: u64) -> Draft {
        // The nodes of the first tree are all new; afterwards those are, which lack a block.
        let before = self.data.map(|_| self.tree.root().cid);
        let mut ops = Vec::with_capacity(writes.len());
        let mut records = Vec::new();
        for write in writes {
            let (path, cid, prev) = match write {
                Write::Put(path, record) => {
                    records.push(record.clone());
                    let prev = self.tree.set(path, record.cid);
                    (path, Some(record.cid), prev)
                }
                Write::Delete(path) => match self.tree.remove(path) {
                    Some(prev) => (path, None, Some(prev)),
                    None => continue,
                },
            };
            let action = match (cid, prev) {
                (Some(_), None) => Action::Create,
                (Some(_), Some(_)) => Action::Update,
                (None, _) => Action::Delete,
            };
            ops.push(Op {
                action: action.name().to_owned(),
                path: path.clone(),
                cid,
                prev,
            });
        }
        let mut nodes = if ops.is_empty() && before.is_some() {
            Vec::new()
        } else {
            self.tree.fresh_blocks()
        };
        for op in &ops {
            nodes.extend(self.tree.covering_proof(&op.path));
        }
        nodes.extend(records);
        let mut seen = HashSet::with_capacity(nodes.len());
        nodes.retain(|block| seen.insert(block.cid));
        self.advance(before, ops, nodes, micros)
    }

    fn advance(
        &mut self,
        prev_data: Option<Cid>,
        ops: Vec<Op>,
        blocks: Vec<Block>,
        micros: u64,
    ) -> Draft {
        let since = self.rev;
        let rev = Tid::from_micros(micros, 0);
        // Two commits may fall into one microsecond, and clocks may go back; revisions may not.
        let rev = since.map_or(rev, |since| rev.max(Tid::from_raw(since.raw() + 1)));
        let data = self.tree.root().cid;
        self.rev = Some(rev);
        self.data = Some(data);
        Draft {
            did: self.did.clone(),
            version: 3,
            rev,
            data,
            prev: None,
            since,
            prev_data,
            ops,
            blocks,
            micros,
        }
    }
}

impl Draft {
    /// The commit object's own bytes, with `signature` in place of `sig`; without it, what is
    /// signed.
    fn object(&self, signature: Option<Option<&[u8]>>) -> Vec<u8> {
        let mut out = Writer::new();
        out.map(5 + usize::from(signature.is_some()));
        out.text("did").text(&self.did);
        out.text("rev").text(&self.rev.to_string());
        match signature {
            Some(Some(signature)) => out.text("sig").bytes(signature),
            Some(None) => out.text("sig").null(),
            None => &mut out,
        };
        out.text("data").cid(&self.data);
        out.text("prev").cid_or_null(self.prev.as_ref());
        out.text("version").int(self.version);
        out.into_bytes()
    }

    /// The signed commit object.
    pub fn sign(&self, signing: &Signing) -> Block {
        let message = self.object(None);
        let signature = match signing {
            Signing::Valid(key) => key.sign(&message).to_vec(),
            Signing::HighS(key) => key.other_s(&key.sign(&message)).to_vec(),
            Signing::OverNull(key) => key.sign(&self.object(Some(None))).to_vec(),
            Signing::Der(key) => der(&key.sign(&message)),
            Signing::Short(key) => key.sign(&message)[..63].to_vec(),
            Signing::Bytes(bytes) => bytes.clone(),
        };
        Block::of_cbor(self.object(Some(Some(&signature))))
    }

    /// Signs the commit and packs it.
    pub fn seal(self, signing: &Signing) -> Sealed {
        let commit = self.sign(signing);
        // Blocks may come in any order, so the commit is neither first nor last.
        let mut blocks = self.blocks;
        blocks.insert(blocks.len() / 2, commit.clone());
        let message = CommitMessage {
            repo: self.did,
            rev: self.rev.to_string(),
            since: self.since.map(|since| since.to_string()),
            commit: commit.cid,
            prev_data: self.prev_data,
            ops: self.ops,
            blobs: Vec::new(),
            blocks: event::car(1, &[commit.cid], &blocks),
            time: clock::datetime(self.micros),
            rebase: false,
            too_big: false,
        };
        Sealed {
            commit,
            blocks,
            message,
        }
    }
}

/// A compact signature in the DER form that the protocol does not allow.
fn der(signature: &[u8; 64]) -> Vec<u8> {
    let mut body = Vec::new();
    for half in signature.chunks(32) {
        let start = half.iter().position(|b| *b != 0).unwrap_or(31);
        let sign = usize::from(half[start] & 0x80 != 0);
        body.extend_from_slice(&[2, (32 - start + sign) as u8]);
        body.extend_from_slice(&[0][..sign]);
        body.extend_from_slice(&half[start..]);
    }
    [&[0x30, body.len() as u8], &body[..]].concat()
}
