//! Why an event is not forwarded: one list for logs, metrics, pages and tests.

use std::fmt;

macro_rules! rejects {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The reason why an event was not forwarded.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Reject { $($(#[doc = $doc])+ $variant,)+ }

        impl Reject {
            /// Every reason.
            pub const ALL: &[Reject] = &[$(Reject::$variant,)+];

            /// The name in metrics, logs and pages.
            pub const fn name(self) -> &'static str {
                match self { $(Reject::$variant => $name,)+ }
            }

            /// What it means, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reject::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

rejects! {
    /// The message is not two canonical DRISL items in a binary frame, or is over 5,000,000 bytes,
    /// as it came or with this relay's own seq.
    FrameMalformed = "frame_malformed",
    /// A required field is missing, a known one has the wrong type, or the status of an account is
    /// over 1,024 bytes.
    SchemaInvalid = "schema_invalid",
    /// The upstream seq does not increase within the connection.
    SeqNotIncreasing = "seq_not_increasing",
    /// `time` is not a datetime.
    TimeInvalid = "time_invalid",
    /// The account's DID is not a DID.
    DidInvalid = "did_invalid",
    /// The account's DID has a method that this network does not use.
    DidMethodUnsupported = "did_method_unsupported",
    /// There is no DID document.
    IdentityNotFound = "identity_not_found",
    /// What is served as the DID document is none, is too large, or is that of another DID.
    IdentityInvalid = "identity_invalid",
    /// The DID document could not be fetched for a long time.
    IdentityUnresolved = "identity_unresolved",
    /// The DID document names no signing key that the protocol knows.
    IdentityNoKey = "identity_no_key",
    /// The DID document names no PDS.
    IdentityNoHost = "identity_no_host",
    /// The DID document names another host.
    WrongHost = "wrong_host",
    /// The account is deactivated, deleted, suspended or taken down.
    AccountInactive = "account_inactive",
    /// The account's host has as many accounts as it may, without this one: it is throttled.
    AccountLimit = "account_limit",
    /// `rev` is not a TID.
    RevInvalid = "rev_invalid",
    /// `rev` is not newer than the last one: a retransmission.
    RevStale = "rev_stale",
    /// `rev` is more than five minutes in the future.
    RevFuture = "rev_future",
    /// `blocks` is empty or over its limit.
    BlocksSize = "blocks_size",
    /// More than 200 ops.
    TooManyOps = "too_many_ops",
    /// `blocks` is not a CAR v1 file.
    CarInvalid = "car_invalid",
    /// A block does not hash to its CID.
    BlockHash = "block_hash",
    /// The commit block is missing, or is not the one that the message names.
    CommitBlock = "commit_block",
    /// The commit object is not canonical, lacks a field, or has a version other than 3.
    CommitInvalid = "commit_invalid",
    /// The commit's `did` or `rev` differs from the message's.
    CommitMismatch = "commit_mismatch",
    /// The signature is not by the account's key, not low-S, or not 64 bytes.
    SignatureInvalid = "signature_invalid",
    /// `rebase` or `tooBig` is set: the commit can not be verified.
    Deprecated = "deprecated",
    /// An op has an unknown action, a bad or repeated path, or the wrong CIDs for its action.
    OpInvalid = "op_invalid",
    /// An update or delete without `prev`, or a commit without `prevData` that is not the first of
    /// its account, even if it says so: not Sync 1.1.
    NotInductive = "not_inductive",
    /// A created or updated record is not in `blocks`.
    RecordMissing = "record_missing",
    /// A record is over 1,000,000 bytes.
    RecordSize = "record_size",
    /// A tree node breaks a rule of the tree's structure.
    TreeInvalid = "tree_invalid",
    /// A tree node that the proof needs is not in `blocks`.
    TreeMissingBlock = "tree_missing_block",
    /// The ops do not lead from `prevData` to the commit's tree.
    TreeMismatch = "tree_mismatch",
    /// Duplicate of an event that was processed before.
    Duplicate = "duplicate",
    /// Judging it failed: a fault of this relay, which its log tells more of.
    Internal = "internal",
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_said_in_words() {
        let names: HashSet<_> = Reject::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reject::ALL.len());
        for (i, reject) in Reject::ALL.iter().enumerate() {
            assert_eq!(*reject as usize, i);
            assert!(
                reject.meaning().ends_with('.'),
                "{reject}: {}",
                reject.meaning()
            );
        }
    }
}
