//! What one commit costs, part by part: reading its CBOR with our reader and with others, the
//! signature, and the whole proof. Ratios between the lines of one run are what counts.
//!
//! `just bench`

use std::hint::black_box;

use ciborium_ll::{Decoder, Header};
use criterion::{Criterion, criterion_group, criterion_main};
use ipld_core::ipld::Ipld;
use zlay::{
    atproto::{
        cbor::Reader,
        crypto::PublicKey,
        envelope::{Body, Message},
        prove::Workspace,
        seq::Seq,
        splice,
    },
    sim::{account::Account, keys::Curve},
};

/// An account with a thousand records, and its next commit: one new post.
fn account(curve: Curve) -> (Account, Vec<u8>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut account = Account::with_curve(&mut rng, 0, curve);
    let posts: Vec<_> = (0..1_000)
        .map(|n| account.post(&format!("post {n}")))
        .collect();
    for chunk in posts.chunks(100) {
        account.commit(chunk);
    }
    let text = "a text of the length that people write, more or less, in a post of theirs";
    let frame = account
        .commit(&[account.post(text)])
        .frame(1_000_000)
        .to_vec();
    (account, frame)
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
    let (_, frame) = account(Curve::K256);
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

fn prove(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    for curve in [Curve::K256, Curve::P256] {
        let (account, frame) = account(curve);
        let Ok(Message::Event(event)) = Message::parse(&frame) else {
            return;
        };
        let Body::Commit(message) = &event.body else {
            return;
        };
        let Ok(key) = PublicKey::from_multikey(&account.key.multikey()) else {
            return;
        };
        let mut workspace = Workspace::new();
        group.bench_function(
            format!("{curve:?} whole proof, {} bytes", frame.len()),
            |b| {
                b.iter(|| {
                    let frame = black_box(&frame);
                    workspace
                        .prove_commit(frame, account.did(), message, &key, false)
                        .is_ok()
                });
            },
        );
        let signed = [7u8; 170];
        let signature = account.key.sign(&signed);
        group.bench_function(format!("{curve:?} signature alone"), |b| {
            b.iter(|| key.verify(black_box(&signed), &signature).is_ok());
        });
    }
    let (_, frame) = account(Curve::K256);
    group.bench_function("parse of the message", |b| {
        b.iter(|| Message::parse(black_box(&frame)).is_ok());
    });
    let Ok(Message::Event(event)) = Message::parse(&frame) else {
        return;
    };
    group.bench_function("splice of the seq", |b| {
        b.iter(|| {
            let out = Vec::with_capacity(frame.len() + 8);
            splice::put_seq(black_box(&frame), &event.layout.seq, Seq::MAX, out)
        });
    });
    group.finish();
}

/// What is measured must be a proof that succeeds, not a refusal.
fn check(_: &mut Criterion) {
    for curve in [Curve::K256, Curve::P256] {
        let (account, frame) = account(curve);
        let Ok(Message::Event(event)) = Message::parse(&frame) else {
            unreachable!("an event")
        };
        let Body::Commit(message) = &event.body else {
            unreachable!("a commit")
        };
        let proven = PublicKey::from_multikey(&account.key.multikey())
            .map(|key| Workspace::new().prove_commit(&frame, account.did(), message, &key, false));
        assert!(matches!(proven, Ok(Ok(_))), "{proven:?}");
    }
}

criterion_group!(benches, check, cbor, prove);
criterion_main!(benches);
