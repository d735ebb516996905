//! What one typical commit costs, part by part and as a whole, for both curves; and reading its
//! CBOR with our reader and with others. Ratios between the lines of one run are what counts.
//!
//! `just bench`

use std::{hint::black_box, ops::Range};

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
        envelope::{self, Body, Commit, Message},
        mst,
        prove::Workspace,
        seq::Seq,
        splice,
    },
    sim::{
        account::{self, Account},
        keys::Curve,
        repo::Write,
    },
};

/// Tree nodes in the typical commit.
const NODES: usize = 8;

/// The bytes of its nodes and its record.
const BYTES: Range<usize> = 4_500..5_000;

/// An account with many records, and the commit of a post among them that has the nodes and the
/// bytes of a typical one.
fn typical(curve: Curve) -> (Account, Vec<u8>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut account = Account::with_curve(&mut rng, 0, curve);
    let writes: Vec<Write> = (0..6_000)
        .flat_map(|n| {
            let post = post(&account, 2 * n);
            let like = account::record("app.bsky.feed.like", "", n);
            [
                post,
                Write::Put(format!("app.bsky.feed.like/{}", account.rkey(n)), like),
            ]
        })
        .collect();
    for chunk in writes.chunks(100) {
        account.commit(chunk);
    }
    for n in 0..6_000 {
        let mut next = account.clone();
        let draft = next.draft(&[post(&account, 2 * n + 1)]);
        let bytes: usize = draft.blocks.iter().map(|block| block.bytes.len()).sum();
        if draft.blocks.len() == NODES + 1 && BYTES.contains(&bytes) {
            let frame = next.seal(draft).message.event().frame(1_000_000);
            return (next, frame.to_vec());
        }
    }
    unreachable!("some post is typical")
}

/// The `n`-th post of an account, of the length that people write.
fn post(account: &Account, n: u64) -> Write {
    let text = "a text of the length that people write, more or less, in a post of theirs. ";
    let record = account::record("app.bsky.feed.post", &text.repeat(3), n);
    Write::Put(format!("app.bsky.feed.post/{}", account.rkey(n)), record)
}

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
        let (did, key) = (subject.did, &subject.key);
        group.bench_function("5 whole", |b| {
            b.iter(|| {
                let frame = black_box(&frame[..]);
                let Ok(Message::Event(event)) = Message::parse(frame) else {
                    return false;
                };
                let Body::Commit(message) = &event.body else {
                    return false;
                };
                workspace
                    .prove_commit(frame, did, message, key, false)
                    .is_ok()
            });
        });
        group.finish();
    }
}

fn splicing(c: &mut Criterion) {
    let (_, frame) = typical(Curve::K256);
    let Ok(Message::Event(event)) = Message::parse(&frame) else {
        unreachable!("an event")
    };
    c.bench_function("splice of the seq", |b| {
        b.iter(|| {
            let out = Vec::with_capacity(frame.len() + 8);
            splice::put_seq(black_box(&frame), &event.layout.seq, Seq::MAX, out)
        });
    });
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

criterion_group!(benches, check, cbor, parts, splicing);
criterion_main!(benches);
