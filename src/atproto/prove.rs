//! Proving events: everything about a commit that needs no more than its own bytes and the
//! account's key (<https://atproto.com/specs/sync#commit-validation>).

use std::{ops::Range, time::Duration};

pub use self::touched::{Presence, Touched};
use super::{
    car::BlockTable,
    cid::{Cid, Codec},
    commit,
    crypto::PublicKey,
    datetime, envelope,
    mst::{self, Op, OpKind, Tree},
    record_key::RepoPath,
    tid::Tid,
};
use crate::{
    limits::{
        ACCOUNT_STATUS_BYTES_MAX, COMMIT_BLOCKS_BYTES_MAX, COMMIT_OPS_MAX, RECORD_BYTES_MAX,
        REV_DRIFT_MAX, SYNC_BLOCKS_BYTES_MAX,
    },
    reject::Reject,
};

#[cfg(test)]
mod tests;
mod touched;

/// What proving needs beside the event; reused, so that proving allocates nothing.
#[derive(Default, Debug)]
pub struct Workspace {
    blocks: BlockTable,
    tree: Tree,
    ops: Vec<Op>,
    order: Vec<u16>,
    unsigned: Vec<u8>,
    touched: Vec<u8>,
}

/// A commit or sync that was proven, as the account rules need it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    /// Its revision.
    pub rev: Tid,
    /// The revision that it follows, as the host says.
    pub since: Option<Tid>,
    /// The CID of the signed commit object.
    pub commit: Cid,
    /// The root of the tree.
    pub data: Cid,
    /// The root of the tree before; none in a first commit, in a sync, and in a legacy commit.
    pub prev_data: Option<Cid>,
    /// Fields of Sync 1.1 are missing, so the operations are not proven; only in lenient mode.
    pub legacy: bool,
    /// What a commit shows of the collections that its operations are in; nothing in a sync.
    pub touched: Touched,
}

/// More blocks, nodes or bytes than nearly all commits need; what a larger one took is given back.
const KEEP_BLOCKS: usize = 1_024;
const KEEP_NODES: usize = 512;
const KEEP_BYTES: usize = 64 << 10;

/// What can be said of any event without knowing the account.
pub fn check_event(event: &envelope::Event<'_>, now: Duration) -> Result<(), Reject> {
    datetime::check(event.time).map_err(|_| Reject::TimeInvalid)?;
    match &event.body {
        envelope::Body::Commit(commit) => {
            check_size(&commit.blocks, COMMIT_BLOCKS_BYTES_MAX)?;
            check_rev(commit.rev, now)?;
            if commit.too_big || commit.rebase {
                return Err(Reject::Deprecated);
            }
            Ok(())
        }
        envelope::Body::Sync(sync) => {
            check_size(&sync.blocks, SYNC_BLOCKS_BYTES_MAX)?;
            check_rev(sync.rev, now)
        }
        envelope::Body::Account { status, .. } => match status {
            Some(status) if status.len() > ACCOUNT_STATUS_BYTES_MAX => Err(Reject::SchemaInvalid),
            _ => Ok(()),
        },
        envelope::Body::Identity { .. } => Ok(()),
    }
}

fn check_size(blocks: &Range<usize>, max: usize) -> Result<(), Reject> {
    if blocks.is_empty() || blocks.len() > max {
        return Err(Reject::BlocksSize);
    }
    Ok(())
}

fn check_rev(rev: &str, now: Duration) -> Result<(), Reject> {
    let rev = Tid::parse(rev).map_err(|_| Reject::RevInvalid)?;
    let latest = now + REV_DRIFT_MAX;
    if u128::from(rev.micros()) > latest.as_micros() {
        return Err(Reject::RevFuture);
    }
    Ok(())
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Workspace {
        Workspace::default()
    }

    /// Proves a `#commit` of `frame`: the blocks are what they say, the account signed it, and its
    /// operations are all that lies between `prevData` and its tree. With `lenient`, a commit
    /// without the fields that this takes passes on its signature alone.
    pub fn prove_commit(
        &mut self,
        frame: &[u8],
        did: &str,
        message: &envelope::Commit<'_>,
        key: &PublicKey,
        lenient: bool,
    ) -> Result<Proven, Reject> {
        let proven = self.prove_commit_inner(frame, did, message, key, lenient);
        self.shrink();
        proven
    }

    fn prove_commit_inner(
        &mut self,
        frame: &[u8],
        did: &str,
        message: &envelope::Commit<'_>,
        key: &PublicKey,
        lenient: bool,
    ) -> Result<Proven, Reject> {
        if envelope::count_ops(frame, &message.ops)? > COMMIT_OPS_MAX {
            return Err(Reject::TooManyOps);
        }
        let since = message.since.map(Tid::parse).transpose();
        let since = since.map_err(|_| Reject::RevInvalid)?;
        self.blocks.read(frame, message.blocks.clone())?;
        if self.blocks.root() != Some(message.commit) {
            return Err(Reject::CommitBlock);
        }
        let (rev, data) = self.prove_signature(frame, did, message.rev, key)?;
        let op_lacks_prev = envelope::parse_ops(frame, &message.ops, &mut self.ops)?;
        self.check_ops(frame)?;
        let is_first = message.prev_data.is_none() && since.is_none();
        let legacy = op_lacks_prev || (message.prev_data.is_none() && !is_first);
        if legacy && !lenient {
            return Err(Reject::NotInductive);
        }
        if legacy {
            self.note_touched(frame, false);
        } else {
            let before = message.prev_data.unwrap_or_else(mst::empty_root);
            self.prove_ops(frame, &data, &before)?;
        }
        Ok(Proven {
            rev,
            since,
            commit: message.commit,
            data,
            prev_data: message.prev_data,
            legacy,
            touched: Touched::new(&self.touched),
        })
    }

    /// Proves a `#sync` of `frame`: the commit is what it says and the account signed it.
    pub fn prove_sync(
        &mut self,
        frame: &[u8],
        did: &str,
        message: &envelope::Sync<'_>,
        key: &PublicKey,
    ) -> Result<Proven, Reject> {
        let proven = self.prove_sync_inner(frame, did, message, key);
        self.shrink();
        proven
    }

    fn prove_sync_inner(
        &mut self,
        frame: &[u8],
        did: &str,
        message: &envelope::Sync<'_>,
        key: &PublicKey,
    ) -> Result<Proven, Reject> {
        self.blocks.read(frame, message.blocks.clone())?;
        let commit = self.blocks.root().ok_or(Reject::CommitBlock)?;
        let (rev, data) = self.prove_signature(frame, did, message.rev, key)?;
        Ok(Proven {
            rev,
            since: None,
            commit,
            data,
            prev_data: None,
            legacy: false,
            touched: Touched::default(),
        })
    }

    /// The commit object of the blocks says what the message says, and `key` signed it.
    fn prove_signature(
        &mut self,
        frame: &[u8],
        did: &str,
        rev: &str,
        key: &PublicKey,
    ) -> Result<(Tid, Cid), Reject> {
        let root = self
            .blocks
            .root()
            .filter(|root| root.codec() == Codec::DagCbor);
        let place = root
            .and_then(|root| self.blocks.get(&root))
            .ok_or(Reject::CommitBlock)?;
        let object = commit::Commit::parse(&frame[place])?;
        let rev = Tid::parse(rev).map_err(|_| Reject::RevInvalid)?;
        if object.did != did || object.rev != rev {
            return Err(Reject::CommitMismatch);
        }
        object.unsigned_into(&mut self.unsigned);
        key.verify(&self.unsigned, object.sig)
            .map_err(|_| Reject::SignatureInvalid)?;
        Ok((object.rev, object.data))
    }

    /// Paths are well-formed and unique, and every record that was written is there. Leaves the
    /// operations in the order of their paths.
    fn check_ops(&mut self, frame: &[u8]) -> Result<(), Reject> {
        self.order.clear();
        self.order.extend(0..self.ops.len() as u16);
        let ops = &self.ops;
        let path = |i: &u16| ops[*i as usize].path.of(frame);
        self.order.sort_unstable_by(|a, b| path(a).cmp(path(b)));
        if self
            .order
            .windows(2)
            .any(|pair| path(&pair[0]) == path(&pair[1]))
        {
            return Err(Reject::OpInvalid);
        }
        for op in &self.ops {
            let path = std::str::from_utf8(op.path.of(frame)).map_err(|_| Reject::OpInvalid)?;
            RepoPath::split(path).map_err(|_| Reject::OpInvalid)?;
            let record = match op.kind {
                OpKind::Create { cid } => cid,
                OpKind::Update { cid, prev } if cid.of(frame) != prev.of(frame) => cid,
                OpKind::Update { .. } => return Err(Reject::OpInvalid),
                OpKind::Delete { .. } => continue,
            };
            let cid = Cid::from_bytes(record.of(frame)).map_err(|_| Reject::RecordMissing)?;
            let block = self.blocks.get(&cid).ok_or(Reject::RecordMissing)?;
            if block.len() > RECORD_BYTES_MAX {
                return Err(Reject::RecordSize);
            }
        }
        Ok(())
    }

    /// Undoing the operations leads from `data` to `before`.
    fn prove_ops(&mut self, frame: &[u8], data: &Cid, before: &Cid) -> Result<(), Reject> {
        // A commit without operations has nothing new: its tree need not be in the blocks.
        if self.ops.is_empty() {
            self.touched.clear();
            return if data == before {
                Ok(())
            } else {
                Err(Reject::TreeMismatch)
            };
        }
        self.tree.load(data, &self.blocks, frame)?;
        self.note_touched(frame, true);
        let found = mst::invert_loaded(
            &mut self.tree,
            data,
            &self.blocks,
            frame,
            &self.ops,
            &mut self.order,
        )?;
        if found == *before {
            Ok(())
        } else {
            Err(Reject::TreeMismatch)
        }
    }

    /// Notes what the commit shows of the collections that its operations, which are in the order
    /// of their paths, are in. With `has_tree`, its own tree is loaded, and shows whether anything
    /// is left of a collection of which it only deletes.
    fn note_touched(&mut self, frame: &[u8], has_tree: bool) {
        self.touched.clear();
        let op = |i: &u16| &self.ops[*i as usize];
        // With the slash: names of collections may begin like others.
        let prefix = |i: &u16| {
            let path = op(i).path.of(frame);
            let end = path.iter().position(|b| *b == b'/');
            &path[..end.map_or(path.len(), |end| end + 1)]
        };
        for ops in self.order.chunk_by(|a, b| prefix(a) == prefix(b)) {
            let prefix = prefix(&ops[0]);
            let is_delete = |i: &u16| matches!(op(i).kind, OpKind::Delete { .. });
            let has_records = if !ops.iter().all(is_delete) {
                Some(true)
            } else if has_tree {
                self.tree.has_prefix(prefix)
            } else {
                None
            };
            if let Some(has_records) = has_records {
                touched::note(&mut self.touched, prefix, has_records);
            }
        }
    }

    fn shrink(&mut self) {
        if self.blocks.len() > KEEP_BLOCKS {
            self.blocks.shrink(KEEP_BLOCKS);
        }
        self.tree.shrink_if_over(KEEP_NODES, KEEP_BYTES);
        for buffer in [&mut self.unsigned, &mut self.touched] {
            if buffer.capacity() > KEEP_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}
