//! Why an event is not forwarded: one list for logs, metrics, pages and tests.

use std::fmt;

macro_rules! rejects {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $rule:literal, $advice:literal;)+) => {
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

            /// What the operator of the PDS can do about it.
            pub const fn advice(self) -> &'static str {
                match self { $(Reject::$variant => $advice,)+ }
            }

            /// The public text that the rule comes from.
            pub const fn rule(self) -> &'static str {
                match self { $(Reject::$variant => concat!("https://atproto.com/specs/", $rule),)+ }
            }
        }
    };
}

rejects! {
    /// The message is not two canonical DRISL items in a binary frame, or is over 5,000,000 bytes,
    /// as it came or with this relay's own seq.
    FrameMalformed = "frame_malformed", "event-stream",
        "Send every message as one binary frame of two DRISL-CBOR items, header and payload, of at \
         most 5 MB. A proxy between the PDS and the relay must pass websocket frames on as they \
         are.";
    /// A required field is missing, a known one has the wrong type, or the status of an account is
    /// over 1,024 bytes.
    SchemaInvalid = "schema_invalid", "sync",
        "Compare the event with the lexicon of `com.atproto.sync.subscribeRepos`: a required field \
         is not there, or one has another type. Update the PDS software; if it is current, report \
         it to its authors with the DID and the seq of the event.";
    /// The upstream seq does not increase within the connection.
    SeqNotIncreasing = "seq_not_increasing", "event-stream#sequence-numbers",
        "Number the events of the stream in strictly growing order. Where the database of the PDS \
         was restored from a backup, set its sequence above the last number that was ever sent.";
    /// `time` is not a datetime.
    TimeInvalid = "time_invalid", "lexicon#datetime",
        "Write `time` as an RFC 3339 datetime with a time zone, such as \
         `2026-01-31T23:59:59.123Z`.";
    /// The account's DID is not a DID.
    DidInvalid = "did_invalid", "did#at-protocol-did-identifier-syntax",
        "Send the account's DID in the field `did` (`repo` on a commit), in the exact form in \
         which it was registered.";
    /// The account's DID has a method that this network does not use.
    DidMethodUnsupported = "did_method_unsupported", "did#blessed-did-methods",
        "Accounts of this network have a `did:plc` or a `did:web`. Give the account one of these.";
    /// There is no DID document.
    IdentityNotFound = "identity_not_found", "did",
        "Open the DID document of the account: `https://plc.directory/DID`, or \
         `https://NAME/.well-known/did.json` for a did:web. If it is not there, publish it; if it \
         was there only a moment later, send an `#identity` event.";
    /// What is served as the DID document is none, is too large, or is that of another DID.
    IdentityInvalid = "identity_invalid", "did#did-documents",
        "Make the address of the DID document answer with JSON whose `id` is the DID itself, \
         without a redirect to a page.";
    /// The DID document could not be fetched for a long time.
    IdentityUnresolved = "identity_unresolved", "did",
        "Make the server of the DID document reachable from the public internet, with a valid \
         certificate. For did:plc this is the directory's matter: the relay tries again with the \
         next event.";
    /// The DID document names no signing key that the protocol knows.
    IdentityNoKey = "identity_no_key", "did#did-documents",
        "Publish the account's signing key in the DID document as the verification method \
         `#atproto`, of the curve P-256 or K-256.";
    /// The DID document names no PDS.
    IdentityNoHost = "identity_no_host", "did#did-documents",
        "Publish the PDS in the DID document as the service `#atproto_pds`, with its `https://` \
         address.";
    /// The DID document names another host.
    WrongHost = "wrong_host", "sync",
        "Only the PDS that the DID document names may speak for an account. If the account has \
         moved here, update its DID document and then send an `#identity` event; if it has moved \
         away, deactivate it here.";
    /// The account is deactivated, deleted, suspended or taken down.
    AccountInactive = "account_inactive", "account#hosting-status",
        "The PDS has said that the account is not active, or the relay's operator has taken it \
         down. If it is active again, send an `#account` event with `active: true`.";
    /// The account's host has as many accounts as it may, without this one: it is throttled.
    AccountLimit = "account_limit", "account#hosting-status-propagation",
        "Ask the operator of this relay for a higher limit, with the name of the host. Accounts \
         that the PDS reports as deleted make room for others, which are then let in by \
         themselves.";
    /// `rev` is not a TID.
    RevInvalid = "rev_invalid", "tid",
        "Use a TID as the revision of every commit. Update the PDS software; if it is current, \
         report it to its authors with the DID and the seq of the event.";
    /// `rev` is not newer than the last one: a retransmission.
    RevStale = "rev_stale", "sync",
        "Nothing, if it is rare: the relay has that revision already, as happens after a \
         reconnect. If an account is stuck, its PDS was restored from a backup: write a new commit \
         with a newer revision.";
    /// `rev` is more than five minutes in the future.
    RevFuture = "rev_future", "sync",
        "Set the clock of the PDS (NTP). The account is heard again when the time of its last \
         revision has come, at the latest.";
    /// `blocks` is empty or over its limit.
    BlocksSize = "blocks_size", "sync",
        "Split large changes into several commits: `blocks` may have 2,000,000 bytes. After an \
         import send a `#sync` event instead of one huge commit.";
    /// More than 200 ops.
    TooManyOps = "too_many_ops", "sync",
        "Write at most 200 records in one commit; split batches such as an import.";
    /// `blocks` is not a CAR v1 file.
    CarInvalid = "car_invalid", "repository#car-file-serialization",
        "Send a CAR v1 file with one root, the commit, in `blocks`. Update the PDS software; if it \
         is current, report it to its authors with the DID and the seq of the event.";
    /// A block does not hash to its CID.
    BlockHash = "block_hash", "repository#car-file-serialization",
        "The bytes of a block were changed after its CID was made, or the storage of the PDS is \
         damaged. Check the disk, then rebuild the repository from an export.";
    /// The commit block is missing, or is not the one that the message names.
    CommitBlock = "commit_block", "repository#commit-objects",
        "Put the signed commit object into `blocks`, as the first root of the CAR, and its CID \
         into the field `commit`. Update the PDS software; if it is current, report it to its \
         authors with the DID and the seq of the event.";
    /// The commit object is not canonical, lacks a field, or has a version other than 3.
    CommitInvalid = "commit_invalid", "repository#commit-objects",
        "Make commits of repository version 3, with `did`, `version`, `data`, `rev`, `prev` and \
         `sig`. Update the PDS software; if it is current, report it to its authors with the DID \
         and the seq of the event.";
    /// The commit's `did` or `rev` differs from the message's.
    CommitMismatch = "commit_mismatch", "sync",
        "Take `did` and `rev` of the message from the signed commit itself. Update the PDS \
         software; if it is current, report it to its authors with the DID and the seq of the \
         event.";
    /// The signature is not by the account's key, not low-S, or not 64 bytes.
    SignatureInvalid = "signature_invalid", "cryptography",
        "Sign with the key that the DID document names now. After a change of the key send an \
         `#identity` event before the next commit; signatures have to be low-S.";
    /// `rebase` or `tooBig` is set: the commit can not be verified.
    Deprecated = "deprecated", "sync",
        "Do not send commits with `rebase` or `tooBig`; a commit that is too large is split, or \
         replaced by a `#sync` event.";
    /// An op has an unknown action, a bad or repeated path, or the wrong CIDs for its action.
    OpInvalid = "op_invalid", "sync",
        "Give each path once, as `collection/record-key`: creates and updates with the CID of the \
         record, deletes without. Update the PDS software; if it is current, report it to its \
         authors with the DID and the seq of the event.";
    /// An update or delete without `prev`, or a commit without `prevData` that is not the first of
    /// its account, even if it says so: not Sync 1.1.
    NotInductive = "not_inductive", "sync",
        "Update the PDS to a version with Sync 1.1, which sends `prevData` with every commit and \
         `prev` with every update and delete.";
    /// A created or updated record is not in `blocks`.
    RecordMissing = "record_missing", "sync",
        "Put every record that a commit creates or updates into its `blocks`. Update the PDS \
         software; if it is current, report it to its authors with the DID and the seq of the \
         event.";
    /// A record is over 1,000,000 bytes.
    RecordSize = "record_size", "data-model",
        "Keep records below 1,000,000 bytes: large content belongs into blobs.";
    /// A tree node breaks a rule of the tree's structure.
    TreeInvalid = "tree_invalid", "repository#mst-structure",
        "The tree of the repository is not the one that its keys lead to. Rebuild the repository \
         on the PDS from its records, then send a `#sync` event.";
    /// A tree node that the proof needs is not in `blocks`.
    TreeMissingBlock = "tree_missing_block", "sync",
        "Put the tree nodes along the path of every operation into `blocks`, those of the \
         neighbours of a deleted key too. Update the PDS software; if it is current, report it to \
         its authors with the DID and the seq of the event.";
    /// The ops do not lead from `prevData` to the commit's tree.
    TreeMismatch = "tree_mismatch", "sync",
        "The operations of the commit do not explain how the tree has changed: an event was lost, \
         or the tree before was another one. Send a `#sync` event, and the account goes on from \
         there.";
    /// Duplicate of an event that was processed before.
    Duplicate = "duplicate", "event-stream",
        "Nothing: the relay has this event already, as happens after a reconnect.";
    /// Judging it failed: a fault of this relay, which its log tells more of.
    Internal = "internal", "sync",
        "Nothing on the side of the PDS: this is a fault of the relay. Tell its operator, with the \
         time and the DID.";
}

impl Reject {
    /// Whether it says only that an event came again, which is nobody's fault.
    pub const fn is_repetition(self) -> bool {
        matches!(self, Reject::Duplicate | Reject::RevStale)
    }
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
    fn every_reason_has_advice_and_a_public_rule() {
        for reject in Reject::ALL {
            let (advice, rule) = (reject.advice(), reject.rule());
            assert!(
                advice.len() > 20 && advice.ends_with('.'),
                "{reject}: {advice}"
            );
            assert!(
                advice.matches('`').count().is_multiple_of(2),
                "{reject}: {advice}"
            );
            assert!(
                rule.starts_with("https://atproto.com/specs/"),
                "{reject}: {rule}"
            );
        }
    }

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
