//! Events that are wrong in exactly one way, and frames that are no events.
//!
//! Every forgery begins as the account's next valid commit, so that nothing but the flaw can be
//! the reason to refuse it; the account itself does not move on.

use std::sync::Arc;

use tungstenite::Bytes;

use super::{
    account::{self, Account},
    clock, event,
    event::{Event, Op},
    feed::Once,
    keys::Key,
    repo::{Draft, Sealed, Signing, Write},
    tree::{self, Block},
};
use crate::{
    atproto::{cbor::Writer, cid::Cid, tid::Tid},
    limits::{
        COMMIT_BLOCKS_BYTES_MAX, COMMIT_OPS_MAX, FRAME_BYTES_MAX, RECORD_BYTES_MAX,
        SYNC_BLOCKS_BYTES_MAX,
    },
    reject::Reject,
};

macro_rules! flaws {
    ($($(#[doc = $doc:literal])+ $flaw:ident => $reject:ident,)+) => {
        /// What is wrong with a forged event.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Flaw { $($(#[doc = $doc])+ $flaw,)+ }

        impl Flaw {
            /// Every flaw.
            pub const ALL: &[Flaw] = &[$(Flaw::$flaw,)+];

            /// Why a relay refuses it.
            pub const fn reject(self) -> Reject {
                match self { $(Flaw::$flaw => Reject::$reject,)+ }
            }
        }
    };
}

flaws! {
    /// Signed by a key that is not the account's.
    WrongKey => SignatureInvalid,
    /// The upper of the two values of s.
    HighS => SignatureInvalid,
    /// Signed over the object with `sig: null`.
    SignedOverNull => SignatureInvalid,
    /// A DER signature.
    DerSignature => SignatureInvalid,
    /// 64 bytes that are nobody's signature.
    RandomSignature => SignatureInvalid,
    /// The signature without its last byte.
    ShortSignature => SignatureInvalid,
    /// Version 2 of the commit object.
    Version2 => CommitInvalid,
    /// An integer of the commit object is not in its shortest form.
    ObjectNotCanonical => CommitInvalid,
    /// A revision one hour ahead.
    RevFuture => RevFuture,
    /// The last of all revisions, whose time is far in the future.
    RevLast => RevFuture,
    /// A revision before the last one.
    RevStale => RevStale,
    /// The `rev` of the message is not a TID.
    RevSyntax => RevInvalid,
    /// The `rev` of the message is not that of the commit.
    RevMismatch => CommitMismatch,
    /// The `repo` of the message is another account of the same host.
    RepoMismatch => CommitMismatch,
    /// The `repo` of the message is not a DID.
    RepoSyntax => DidInvalid,
    /// The `repo` of the message is a `did:key`.
    RepoMethod => DidMethodUnsupported,
    /// The `commit` of the message is another block of the file.
    CommitCid => CommitBlock,
    /// The commit object is not in the file.
    CommitMissing => CommitBlock,
    /// The root node is not in the file.
    NodeMissing => TreeMissingBlock,
    /// The created record is not in the file.
    RecordMissing => RecordMissing,
    /// A record of 1,000,001 bytes.
    RecordTooLarge => RecordSize,
    /// A byte of a block is not what its CID says.
    FlippedByte => BlockHash,
    /// The file says version 2.
    CarVersion2 => CarInvalid,
    /// The file has no root.
    CarNoRoot => CarInvalid,
    /// The file ends inside a block.
    CarTruncated => CarInvalid,
    /// The last block is said to be 2^62 bytes long.
    CarLength => CarInvalid,
    /// There is no file.
    BlocksEmpty => BlocksSize,
    /// A file of 2,000,001 bytes.
    BlocksTooLarge => BlocksSize,
    /// Another root before.
    PrevDataWrong => TreeMismatch,
    /// No root before, though there is one.
    PrevDataMissing => NotInductive,
    /// An update that does not say what was there before.
    UpdateWithoutPrev => NotInductive,
    /// A created record has another CID than in the tree.
    OpCid => TreeMismatch,
    /// One of two created records is not among the ops.
    OpHidden => TreeMismatch,
    /// A record is deleted (or created, where there is none), and no op says so.
    DeleteHidden => TreeMismatch,
    /// An op creates what is not in the tree.
    OpInvented => TreeMismatch,
    /// An op deletes what is still in the tree.
    DeleteInvented => TreeMismatch,
    /// An update of another record than there was.
    PrevWrong => TreeMismatch,
    /// An op with an unknown action.
    OpAction => OpInvalid,
    /// An op with a path of one part.
    OpPath => OpInvalid,
    /// The same path twice.
    OpRepeated => OpInvalid,
    /// 201 ops.
    TooManyOps => TooManyOps,
    /// No ops, and yet another tree.
    EmptyButChanged => TreeMismatch,
    /// The root node's first key claims a prefix.
    NodePrefix => TreeInvalid,
    /// The root node has keys of two layers.
    NodeLayers => TreeInvalid,
    /// The root node has the same key twice.
    NodeKeyTwice => TreeInvalid,
    /// `time` is not a datetime.
    Time => TimeInvalid,
    /// `tooBig` is set.
    TooBig => Deprecated,
    /// `rebase` is set.
    Rebase => Deprecated,
    /// There is no `commit`.
    FieldMissing => SchemaInvalid,
    /// `rebase` is a number.
    FieldType => SchemaInvalid,
    /// A `#sync` signed by a key that is not the account's.
    SyncWrongKey => SignatureInvalid,
    /// A `#sync` of the commit that is known already.
    SyncStale => RevStale,
    /// A `#sync` whose `rev` is not that of the commit.
    SyncRevMismatch => CommitMismatch,
    /// A `#sync` of 10,001 bytes of blocks.
    SyncTooLarge => BlocksSize,
    /// An `#identity` of what is not a DID.
    IdentityDid => DidInvalid,
}

/// A commit of `account` (or a `#sync`, or an `#identity`) with one flaw. The account must have
/// published a commit, `other` is another account of its host.
pub fn forge(account: &Account, other: &Arc<str>, flaw: Flaw, rng: &mut fastrand::Rng) -> Event {
    match flaw {
        Flaw::SyncWrongKey | Flaw::SyncStale | Flaw::SyncRevMismatch | Flaw::SyncTooLarge => {
            forge_sync(account, flaw, rng)
        }
        Flaw::IdentityDid => event::identity(&"did:PLC:x".into(), None, clock::micros()),
        _ => forge_commit(account, other, flaw, rng),
    }
}

fn forge_sync(account: &Account, flaw: Flaw, rng: &mut fastrand::Rng) -> Event {
    let mut copy = account.clone();
    let draft = copy.draft(&[]);
    let signing = match flaw {
        Flaw::SyncWrongKey => Signing::Valid(stranger(account, rng)),
        _ => Signing::Valid(account.key.clone()),
    };
    let (did, micros) = (account.did(), draft.micros);
    let commit = draft.sign(&signing);
    let mut rev = draft.rev.to_string();
    let mut blocks = vec![commit.clone()];
    match flaw {
        Flaw::SyncStale => {
            if let Some(event) = account.sync() {
                return event;
            }
        }
        Flaw::SyncRevMismatch => rev = next(draft.rev).to_string(),
        Flaw::SyncTooLarge => {
            let car = event::car(1, &[commit.cid], &blocks);
            blocks.push(filler(SYNC_BLOCKS_BYTES_MAX + 1 - car.len(), rng));
        }
        _ => {}
    }
    event::sync(did, &rev, &event::car(1, &[commit.cid], &blocks), micros)
}

fn forge_commit(account: &Account, other: &Arc<str>, flaw: Flaw, rng: &mut fastrand::Rng) -> Event {
    let mut copy = account.clone();
    let writes = writes(&copy, flaw, rng);
    let mut draft = copy.draft(&writes);
    spoil_draft(&mut draft, flaw, rng);
    let key = account.key.clone();
    let signing = match flaw {
        Flaw::WrongKey => Signing::Valid(stranger(account, rng)),
        Flaw::HighS => Signing::HighS(key),
        Flaw::SignedOverNull => Signing::OverNull(key),
        Flaw::DerSignature => Signing::Der(key),
        Flaw::RandomSignature => {
            let mut bytes = rng_bytes(64, rng);
            // Both halves stay within the group's order.
            (bytes[0], bytes[32]) = (1, 1);
            Signing::Bytes(bytes)
        }
        Flaw::ShortSignature => Signing::Short(key),
        _ => Signing::Valid(key),
    };
    let mut sealed = draft.seal(&signing);
    spoil_sealed(&mut sealed, other, flaw, rng);
    let mut event = sealed.message.event();
    spoil_event(&mut event, flaw);
    event
}

/// What the forged commit does.
fn writes(account: &Account, flaw: Flaw, rng: &mut fastrand::Rng) -> Vec<Write> {
    let post = |n: u64, text: &str| {
        let path = format!("app.bsky.feed.post/{}", account.rkey(account.records() + n));
        let record = account::record("app.bsky.feed.post", text, account.records() + n);
        Write::Put(path, record)
    };
    match flaw {
        Flaw::EmptyButChanged => Vec::new(),
        Flaw::TooManyOps => (0..=COMMIT_OPS_MAX as u64)
            .map(|n| post(n, "many"))
            .collect(),
        Flaw::RecordTooLarge => {
            let path = format!("com.example.blob/{}", account.rkey(account.records()));
            vec![Write::Put(path, filler_of_block(RECORD_BYTES_MAX + 1, rng))]
        }
        Flaw::UpdateWithoutPrev => match account.repo.tree().pick(rng) {
            Some(path) => {
                let record = account::record("app.bsky.feed.post", "edited", rng.u64(..1 << 30));
                vec![Write::Put(path.to_string(), record)]
            }
            None => vec![post(0, "nothing to update")],
        },
        Flaw::DeleteHidden => match account.repo.tree().pick(rng) {
            Some(path) => vec![post(0, "forged"), Write::Delete(path.to_string())],
            None => vec![post(0, "forged"), post(1, "nothing to delete")],
        },
        _ => vec![post(0, "forged"), post(1, "forged too")],
    }
}

fn spoil_draft(draft: &mut Draft, flaw: Flaw, rng: &mut fastrand::Rng) {
    match flaw {
        Flaw::Version2 => draft.version = 2,
        Flaw::RevFuture => draft.rev = Tid::from_micros(draft.micros + 3_600_000_000, 0),
        Flaw::RevLast => draft.rev = Tid::from_raw(u64::MAX),
        Flaw::RevStale => {
            draft.rev = draft.since.map_or(draft.rev, |since| {
                Tid::from_raw(since.raw().saturating_sub(1))
            });
        }
        Flaw::NodeMissing => draft.blocks.retain(|block| block.cid != draft.data),
        Flaw::RecordMissing => {
            let record = draft.ops.first().and_then(|op| op.cid);
            draft.blocks.retain(|block| Some(block.cid) != record);
        }
        Flaw::PrevDataWrong => draft.prev_data = Some(Cid::of_cbor(&rng_bytes(8, rng))),
        Flaw::PrevDataMissing => draft.prev_data = None,
        Flaw::UpdateWithoutPrev => {
            draft.ops[0].action = "update".into();
            draft.ops[0].prev = None;
        }
        Flaw::PrevWrong => {
            draft.ops[0].action = "update".into();
            draft.ops[0].prev = Some(Cid::of_cbor(&rng_bytes(8, rng)));
        }
        Flaw::DeleteInvented => {
            let op = &mut draft.ops[1];
            op.action = "delete".into();
            op.prev = op.cid.take();
        }
        Flaw::OpCid => {
            let block = filler(100, rng);
            draft.ops[0].cid = Some(block.cid);
            draft.blocks.push(block);
        }
        Flaw::OpHidden | Flaw::DeleteHidden => {
            draft.ops.pop();
        }
        Flaw::OpInvented => {
            let block = filler(100, rng);
            // Right beside a path that the proof covers, so that its absence can be seen.
            let path = format!("{}0", draft.ops[0].path);
            draft.ops.push(Op {
                action: "create".into(),
                path,
                cid: Some(block.cid),
                prev: None,
            });
            draft.blocks.push(block);
        }
        Flaw::OpAction => draft.ops[0].action = "upsert".into(),
        Flaw::OpPath => draft.ops[0].path = "self".into(),
        Flaw::OpRepeated => draft.ops.push(draft.ops[0].clone()),
        Flaw::EmptyButChanged => set_root(draft, &[(0, "com.example.changed/self")]),
        Flaw::NodePrefix => set_root(draft, &[(1, "com.example.prefix/self")]),
        Flaw::NodeLayers => {
            let key = |n: u64| format!("com.example.layers/{n}");
            let first = tree::layer_of(&key(0));
            let other = (1..10).find(|n| tree::layer_of(&key(*n)) != first);
            let (first, other) = (key(0), other.unwrap_or(0).to_string());
            set_root(draft, &[(0, &first), (first.len() - 1, &other)]);
        }
        Flaw::NodeKeyTwice => {
            let key = "com.example.twice/self";
            set_root(draft, &[(0, key), (key.len(), "")]);
        }
        _ => {}
    }
}

fn spoil_sealed(sealed: &mut Sealed, other: &Arc<str>, flaw: Flaw, rng: &mut fastrand::Rng) {
    let (message, commit) = (&mut sealed.message, sealed.commit.cid);
    match flaw {
        Flaw::RevSyntax => message.rev = "not-a-tid".into(),
        Flaw::RevMismatch => {
            let rev = Tid::parse(&message.rev).unwrap_or_else(|_| Tid::from_micros(0, 0));
            message.rev = next(rev).to_string();
        }
        Flaw::RepoMismatch => message.repo = other.clone(),
        Flaw::RepoSyntax => message.repo = "did:PLC:x".into(),
        Flaw::RepoMethod => message.repo = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1".into(),
        Flaw::CommitCid => {
            let block = sealed.blocks.iter().find(|block| block.cid != commit);
            message.commit = block.map_or(commit, |block| block.cid);
        }
        Flaw::CommitMissing => {
            sealed.blocks.retain(|block| block.cid != commit);
            message.blocks = event::car(1, &[commit], &sealed.blocks);
        }
        Flaw::FlippedByte => {
            if let Some(last) = message.blocks.last_mut() {
                *last ^= 1;
            }
        }
        Flaw::ObjectNotCanonical => {
            let mut bytes = sealed.commit.bytes.to_vec();
            // The version is the last of the object's pairs.
            bytes.pop();
            bytes.extend_from_slice(&[0x18, 0x03]);
            let object = Block::of_cbor(bytes);
            message.commit = object.cid;
            sealed.blocks.retain(|block| block.cid != commit);
            sealed.blocks.push(object.clone());
            message.blocks = event::car(1, &[object.cid], &sealed.blocks);
        }
        Flaw::CarVersion2 => message.blocks = event::car(2, &[commit], &sealed.blocks),
        Flaw::CarNoRoot => message.blocks = event::car(1, &[], &sealed.blocks),
        Flaw::CarTruncated => message.blocks.truncate(message.blocks.len() - 5),
        Flaw::CarLength => {
            let length = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40];
            message.blocks.extend_from_slice(&length);
        }
        Flaw::BlocksEmpty => message.blocks.clear(),
        Flaw::BlocksTooLarge => {
            let size = COMMIT_BLOCKS_BYTES_MAX + 1 - message.blocks.len();
            sealed.blocks.push(filler(size, rng));
            message.blocks = event::car(1, &[commit], &sealed.blocks);
        }
        Flaw::Time => message.time = "yesterday".into(),
        Flaw::TooBig => message.too_big = true,
        Flaw::Rebase => message.rebase = true,
        _ => {}
    }
}

fn spoil_event(event: &mut Event, flaw: Flaw) {
    match flaw {
        // Another name for the field, which keeps the order of the keys.
        Flaw::FieldMissing => replace(&mut event.tail, b"\x66commit\xd8", b"\x66commis\xd8"),
        Flaw::FieldType => replace(&mut event.tail, b"\x66rebase\xf4", b"\x66rebase\x00"),
        _ => {}
    }
}

/// Replaces the last occurrence of `from`.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    if let Some(at) = bytes.windows(from.len()).rposition(|w| w == from) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

fn next(rev: Tid) -> Tid {
    Tid::from_raw(rev.raw() + 1)
}

fn stranger(account: &Account, rng: &mut fastrand::Rng) -> Arc<Key> {
    Arc::new(Key::random(account.key.curve(), rng))
}

fn rng_bytes(len: usize, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    bytes
}

/// A block that fills exactly `len` bytes of a CAR file (at least 50), its frame included.
fn filler(len: usize, rng: &mut fastrand::Rng) -> Block {
    let prefix = match len - Cid::LEN {
        0..=0x5b => 1,
        0x5c..=0x3fde => 2,
        _ => 3,
    };
    filler_of_block(len - Cid::LEN - prefix, rng)
}

/// A block of exactly `len` bytes (at least 8).
fn filler_of_block(len: usize, rng: &mut fastrand::Rng) -> Block {
    // The head of the byte string grows with its length.
    let head = match len {
        0..=24 => 1,
        25..=257 => 2,
        258..=65_538 => 3,
        _ => 5,
    };
    let mut out = Writer::new();
    out.bytes(&rng_bytes(len - head, rng));
    Block::of_cbor(out.into_bytes())
}

/// Makes a node of these entries the root: how much each key claims to share with the one before
/// it, and the rest of it.
fn set_root(draft: &mut Draft, entries: &[(usize, &str)]) {
    let mut out = Writer::new();
    out.map(2).text("e").array(entries.len());
    for (prefix, rest) in entries {
        out.map(4).text("k").bytes(rest.as_bytes());
        out.text("p").uint(*prefix as u64);
        out.text("t").null().text("v").cid(&Cid::of_cbor(b"x"));
    }
    out.text("l").null();
    let node = Block::of_cbor(out.into_bytes());
    draft.data = node.cid;
    draft.blocks.push(node);
}

/// Messages that end the connection: none of them is two canonical items in a binary frame.
pub fn broken(event: &Event, seq: u64, rng: &mut fastrand::Rng) -> Once {
    let frame = event.frame(seq).to_vec();
    let header = event::header(event.kind.name());
    Once::Binary(Bytes::from(match rng.u8(..7) {
        0 => frame[..frame.len() - 1 - rng.usize(..frame.len() / 2)].to_vec(),
        1 => [&frame[..], &[0x00]].concat(),
        2 => rng_bytes(64, rng),
        3 => header,
        // The map of the payload without a length.
        4 => [&header[..], &[0xbf, 0xff]].concat(),
        // A float in the payload.
        5 => [
            &header[..],
            b"\xa1\x61x\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",
        ]
        .concat(),
        _ => return Once::Text("{\"text\": true}".into()),
    }))
}

/// A message over the protocol's maximum; it ends the connection too.
pub fn oversized() -> Once {
    Once::Binary(Bytes::from(vec![0xa0; FRAME_BYTES_MAX + 1]))
}

/// Messages that a relay passes over: the connection stays, nothing is forwarded.
pub fn ignored(event: &Event, seq: u64, rng: &mut fastrand::Rng) -> Once {
    let mut frame = event.frame(seq).to_vec();
    let header = event::header(event.kind.name()).len();
    Once::Binary(match rng.u8(..3) {
        0 => {
            let unknown = event::header("#handle");
            Bytes::from([&unknown[..], &frame[header..]].concat())
        }
        1 => {
            // The value of `op` is the header's last byte.
            frame[header - 1] = 2;
            Bytes::from(frame)
        }
        _ => event::info("OutdatedCursor", "on purpose"),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        atproto::{
            crypto::PublicKey,
            envelope::{Body, Message},
            prove,
        },
        sim::wire,
    };

    fn account(rng: &mut fastrand::Rng) -> Account {
        let mut account = Account::random(rng, 0);
        for text in ["one", "two", "three"] {
            let post = account.post(text);
            account.commit(&[post]);
        }
        account
    }

    #[test]
    fn every_flaw_makes_a_frame_that_is_not_the_valid_one() {
        let mut rng = fastrand::Rng::with_seed(2);
        let account = account(&mut rng);
        let other = "did:plc:otheraccountofthehostxx".into();
        for flaw in Flaw::ALL {
            let event = forge(&account, &other, *flaw, &mut rng);
            let frame = event.frame(9);
            assert!(frame.len() <= FRAME_BYTES_MAX, "{flaw:?}");
            assert!(wire::read(&frame).is_some(), "{flaw:?}");
        }
        assert_eq!(account.repo.tree().len(), 3, "the account has not moved on");
    }

    /// What the relay's own prover says of a frame, as far as it needs no account state.
    fn prove(frame: &[u8], account: &Account) -> Result<(), Reject> {
        let key = PublicKey::from_multikey(&account.key.multikey()).unwrap();
        let message = Message::parse(frame).map_err(|_| Reject::SchemaInvalid)?;
        let Message::Event(parsed) = message else {
            panic!("not an event");
        };
        let now = Duration::from_micros(clock::micros());
        prove::check_event(&parsed, now)?;
        let (mut workspace, did) = (prove::Workspace::new(), parsed.did);
        match &parsed.body {
            Body::Commit(m) => workspace.prove_commit(frame, did, m, &key, false).map(drop),
            Body::Sync(m) => workspace.prove_sync(frame, did, m, &key).map(drop),
            _ => Ok(()),
        }
    }

    #[test]
    fn every_flaw_is_refused_for_its_reason_and_nothing_else_is() {
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..8 {
            let mut account = account(&mut rng);
            for n in 0..rng.usize(..60) {
                let post = account.post(&format!("post {n}"));
                prove(&account.commit(&[post]).frame(1), &account).unwrap();
            }
            let other = "did:plc:otheraccountofthehostxx".into();
            // These need what is known of the account.
            let stateful = [
                Reject::RevStale,
                Reject::DidInvalid,
                Reject::DidMethodUnsupported,
            ];
            for flaw in Flaw::ALL {
                if !stateful.contains(&flaw.reject()) {
                    let frame = forge(&account, &other, *flaw, &mut rng).frame(1);
                    assert_eq!(prove(&frame, &account), Err(flaw.reject()), "{flaw:?}");
                }
            }
        }
    }

    #[test]
    fn oversized_parts_are_over_by_one() {
        let mut rng = fastrand::Rng::with_seed(2);
        let account = account(&mut rng);
        let other = "did:plc:otheraccountofthehostxx".into();
        for (flaw, size) in [
            (Flaw::BlocksTooLarge, COMMIT_BLOCKS_BYTES_MAX + 1),
            (Flaw::SyncTooLarge, SYNC_BLOCKS_BYTES_MAX + 1),
        ] {
            let frame = forge(&account, &other, flaw, &mut rng).frame(9);
            assert_eq!(wire::read(&frame).unwrap().blocks.len(), size);
        }
        assert_eq!(filler_of_block(1_000_001, &mut rng).bytes.len(), 1_000_001);
    }

    #[test]
    fn broken_messages_are_not_frames_and_ignored_ones_are() {
        let mut rng = fastrand::Rng::with_seed(4);
        let event = account(&mut rng).identity();
        for _ in 0..100 {
            if let Once::Binary(bytes) = ignored(&event, 4, &mut rng) {
                assert!(wire::read(&bytes).is_some());
            }
        }
        assert!(matches!(oversized(), Once::Binary(b) if b.len() > FRAME_BYTES_MAX));
    }
}
