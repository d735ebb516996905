//! The Merkle search tree of a repository
//! (<https://atproto.com/specs/repository#mst-structure>): partial trees out of the blocks that a
//! commit carries, and the inversion of a commit's operations on them.

mod invert;
mod node;
#[cfg(test)]
pub(crate) mod tests;
mod tree;

pub use invert::{Op, OpKind, invert, invert_loaded};
pub use node::layer_of;
pub use tree::{Span, Tree};

use crate::{atproto::cid::Cid, reject::Reject};

/// The root of the empty tree.
pub fn empty_root() -> Cid {
    Cid::of_cbor(&[0xa2, 0x61, 0x65, 0x80, 0x61, 0x6c, 0xf6])
}

/// Why a tree can not be loaded or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// A node breaks a rule of the structure.
    Invalid,
    /// A block that is needed is not there. Another order of operations may do without it.
    MissingBlock,
    /// The tree holds something else than the operation says.
    Mismatch,
}

impl From<TreeError> for Reject {
    fn from(error: TreeError) -> Reject {
        match error {
            TreeError::Invalid => Reject::TreeInvalid,
            TreeError::MissingBlock => Reject::TreeMissingBlock,
            TreeError::Mismatch => Reject::TreeMismatch,
        }
    }
}
