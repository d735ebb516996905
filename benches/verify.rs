//! What one typical commit costs (one new post, 8 tree nodes, 5 KB of blocks), part by part and as a
//! whole, for both curves; and reading its CBOR with our reader and with others.
//!
//! Unit: time of one commit on one core. The limit beside it is `3 signature`: no relay that checks
//! every commit can need less. `1` to `5` are done by the thread of the host, `6` by the sequencer.
//! Ratios between the lines of one run are what counts.
//!
//! `just bench verify`; one curve only: `just bench verify K256/`

use std::{hint::black_box, time::Duration};

use ciborium_ll::{Decoder, Header};
use criterion::{Criterion, criterion_group, criterion_main};
use ipld_core::ipld::Ipld;
use zlay::{
    atproto::{
        car::BlockTable,
        cbor::Reader,
        cid::Cid,
        commit,
        crypto::PublicKey,
        did::Did,
        envelope::{self, Body, Commit, Message},
        mst,
        prove::{Proven, Workspace},
        seq::Seq,
    },
    firehose::Packer,
    sequencer::{
        self,
        event::{Event, Kind, Upstream},
    },
    sim::{account::Account, keys::Curve},
    store::account::HostId,
};

use self::typical::{BYTES, NODES, typical};

#[path = "support/typical.rs"]
mod typical;

/// Walks all items with ciborium's low-level decoder, without any of the checks for strictness.
fn walk_ciborium(frame: &[u8]) -> usize {
    let mut decoder = Decoder::from(frame);
    let mut items = 0;
    let mut scratch = [0; 4096];
    while decoder.offset() < frame.len() {
        match decoder.pull() {
            Ok(Header::Bytes(len)) => {
                let mut segments = decoder.bytes(len);
                while let Ok(Some(mut segment)) = segments.pull() {
                    while let Ok(Some(chunk)) = segment.pull(&mut scratch) {
                        items += usize::from(chunk.is_empty());
                    }
                }
            }
            Ok(Header::Text(len)) => {
                let mut segments = decoder.text(len);
                while let Ok(Some(mut segment)) = segments.pull() {
                    while let Ok(Some(chunk)) = segment.pull(&mut scratch) {
                        items += usize::from(chunk.is_empty());
                    }
                }
            }
            Ok(_) => items += 1,
            Err(_) => return items,
        }
    }
    items
}

fn walk_ours(frame: &[u8]) -> usize {
    let mut reader = Reader::new(frame);
    let mut items = 0;
    while !reader.is_at_end() && reader.skip().is_ok() {
        items += 1;
    }
    items
}

fn cbor(c: &mut Criterion) {
    let (_, frame) = typical(Curve::K256);
    let mut reader = Reader::new(&frame);
    let header = reader.skip().map_or(0, |item| item.end);
    let mut group = c.benchmark_group("cbor");
    group.bench_function("ours, strict", |b| b.iter(|| walk_ours(black_box(&frame))));
    group.bench_function("ciborium-ll, not strict", |b| {
        b.iter(|| walk_ciborium(black_box(&frame)));
    });
    group.bench_function("serde_ipld_dagcbor, strict", |b| {
        b.iter(|| serde_ipld_dagcbor::from_slice::<Ipld>(black_box(&frame[header..])).is_ok());
    });
    group.finish();
}

/// A commit, and what its parts need that come later.
struct Subject<'a> {
    frame: &'a [u8],
    did: &'a str,
    message: &'a Commit<'a>,
    key: PublicKey,
    before: Cid,
    data: Cid,
    blocks: BlockTable,
    tree: mst::Tree,
    ops: Vec<mst::Op>,
    order: Vec<u16>,
    unsigned: Vec<u8>,
}

impl<'a> Subject<'a> {
    fn new(account: &'a Account, frame: &'a [u8], message: &'a Commit<'a>) -> Subject<'a> {
        let mut subject = Subject {
            frame,
            did: account.did(),
            message,
            key: match PublicKey::from_multikey(&account.key.multikey()) {
                Ok(key) => key,
                Err(error) => unreachable!("{error}"),
            },
            before: message.prev_data.unwrap_or_else(mst::empty_root),
            data: account.repo.tree().root().cid,
            blocks: BlockTable::new(),
            tree: mst::Tree::new(),
            ops: Vec::new(),
            order: Vec::new(),
            unsigned: Vec::new(),
        };
        assert!(subject.hash() && subject.signature() && subject.inversion());
        subject
    }

    /// The frame's two items, checked to be canonical, and the message out of them.
    fn decode(&self) -> bool {
        Message::parse(black_box(self.frame)).is_ok()
    }

    /// The CAR slice, with every block hashed.
    fn hash(&mut self) -> bool {
        let blocks = self.message.blocks.clone();
        self.blocks.read(black_box(self.frame), blocks).is_ok()
    }

    /// The commit object and its signature.
    fn signature(&mut self) -> bool {
        let place = self.blocks.get(&self.message.commit).unwrap_or_default();
        let Ok(object) = commit::Commit::parse(black_box(&self.frame[place])) else {
            return false;
        };
        object.unsigned_into(&mut self.unsigned);
        self.key.verify(&self.unsigned, object.sig).is_ok()
    }

    /// The operations, undone on the partial tree.
    fn inversion(&mut self) -> bool {
        let frame = black_box(self.frame);
        if envelope::parse_ops(frame, &self.message.ops, &mut self.ops).is_err() {
            return false;
        }
        let Subject {
            tree, ops, order, ..
        } = self;
        mst::invert(tree, &self.data, &self.blocks, frame, ops, order) == Ok(self.before)
    }

    /// All that a host's thread does for it once the identity is known.
    fn whole(&self, workspace: &mut Workspace) -> Option<Proven> {
        let frame = black_box(self.frame);
        let Ok(Message::Event(event)) = Message::parse(frame) else {
            return None;
        };
        let Body::Commit(message) = &event.body else {
            return None;
        };
        let proven = workspace.prove_commit(frame, self.did, message, &self.key, false);
        proven.ok()
    }
}

/// One commit in its parts, and as a whole: all of them and what little lies between.
fn parts(c: &mut Criterion) {
    for curve in [Curve::K256, Curve::P256] {
        let (account, frame) = typical(curve);
        let Ok(Message::Event(event)) = Message::parse(&frame) else {
            unreachable!("an event")
        };
        let Body::Commit(message) = &event.body else {
            unreachable!("a commit")
        };
        let mut subject = Subject::new(&account, &frame, message);
        let mut group = c.benchmark_group(format!("{curve:?}"));
        group.bench_function("1 decode", |b| b.iter(|| subject.decode()));
        group.bench_function("2 hash", |b| b.iter(|| subject.hash()));
        group.bench_function("3 signature", |b| b.iter(|| subject.signature()));
        group.bench_function("4 inversion", |b| b.iter(|| subject.inversion()));
        let mut workspace = Workspace::new();
        group.bench_function("5 whole", |b| {
            b.iter(|| subject.whole(&mut workspace).is_some());
        });
        let proven = subject.whole(&mut workspace);
        if let Some((proven, did)) = proven.zip(Did::parse(subject.did).ok()) {
            let mut event = Event {
                host: HostId(1),
                upstream: Upstream {
                    epoch: 0,
                    seq: 1_000_000,
                    cursor: 1_000_000,
                },
                did,
                authority_at: Some(0),
                kind: Kind::Commit(proven),
                happened_ms: None,
                frame: frame.as_slice().into(),
                seq_at: event.layout.seq.clone(),
                stored: None,
            };
            let mut packer = Packer::default();
            group.bench_function("6 splice", |b| {
                b.iter(|| {
                    sequencer::published(black_box(&mut event), None, Seq::MAX, 0, &mut packer)
                });
            });
        }
        group.finish();
    }
}

/// What is measured must be the commit that it is said to be, and a proof that succeeds.
fn check(_: &mut Criterion) {
    for curve in [Curve::K256, Curve::P256] {
        let (account, frame) = typical(curve);
        let Ok(Message::Event(event)) = Message::parse(&frame) else {
            unreachable!("an event")
        };
        let Body::Commit(message) = &event.body else {
            unreachable!("a commit")
        };
        let proven = PublicKey::from_multikey(&account.key.multikey())
            .map(|key| Workspace::new().prove_commit(&frame, account.did(), message, &key, false));
        assert!(matches!(proven, Ok(Ok(_))), "{proven:?}");
        let mut blocks = BlockTable::new();
        assert_eq!(blocks.read(&frame, message.blocks.clone()), Ok(()));
        // Beside the nodes the commit and the record.
        assert_eq!(blocks.len(), NODES + 2);
        assert!((BYTES.start..6_000).contains(&frame.len()));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1_500));
    targets = check, cbor, parts
}
criterion_main!(benches);
