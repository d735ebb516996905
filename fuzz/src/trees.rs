//! Trees out of bytes: a fuzzer can not find CIDs, so nodes name each other by number and are
//! hashed here.

use std::sync::OnceLock;

use crate::{
    atproto::{
        car::BlockTable,
        cbor::Writer,
        cid::Cid,
        mst::{self, Op, OpKind, Span, Tree, layer_of},
    },
    sequence::Bytes,
};

/// Keys that a node may have: of each letter, one for each of these layers.
const LAYERS: u8 = 4;
/// To find a key of a layer takes dozens of hashes, for which Miri takes a second or two.
const LETTERS: u8 = if cfg!(miri) { 2 } else { 26 };
/// Nodes and operations of one case.
const NODES_MAX: usize = 24;
const OPS_MAX: usize = 8;

fn key(choice: u8) -> &'static [u8] {
    static KEYS: OnceLock<Vec<String>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let all = (b'a'..b'a' + LETTERS).flat_map(|letter| (0..LAYERS).map(move |l| (letter, l)));
        all.map(|(letter, layer)| {
            (0..)
                .map(|n| format!("{}/{n}", char::from(letter)))
                .find(|key| layer_of(key.as_bytes()) == layer)
                .unwrap_or_default()
        })
        .collect()
    });
    keys[usize::from(choice) % keys.len()].as_bytes()
}

/// The value of a record: one of four.
fn record(choice: u8) -> Cid {
    Cid::of_cbor(&[choice % 4])
}

/// A link to an earlier node, to one that is not there, or none.
fn link(choice: u8, nodes: &[Vec<u8>]) -> Option<Cid> {
    match usize::from(choice) {
        0..=127 => None,
        128 => Some(Cid::of_cbor(b"missing")),
        n => nodes
            .len()
            .checked_sub(1 + n - 129)
            .map(|i| Cid::of_cbor(&nodes[i])),
    }
}

/// One node; the flag in its first byte makes it break the compression of keys.
fn node(bytes: &mut Bytes<'_>, nodes: &[Vec<u8>]) -> Vec<u8> {
    let head = bytes.next();
    let mut out = Writer::new();
    let count = usize::from(head & 7);
    out.map(2).text("e").array(count);
    let mut last: &[u8] = &[];
    for _ in 0..count {
        let key = key(bytes.next());
        let mut prefix = key.iter().zip(last).take_while(|(a, b)| a == b).count();
        if head & 0x80 != 0 {
            prefix = usize::from(bytes.next());
        }
        let suffix = &key[prefix.min(key.len())..];
        out.map(4)
            .text("k")
            .bytes(suffix)
            .text("p")
            .uint(prefix as u64);
        let right = link(bytes.next(), nodes);
        out.text("t").cid_or_null(right.as_ref());
        out.text("v").cid(&record(bytes.next()));
        last = key;
    }
    let left = link(bytes.next(), nodes);
    out.text("l").cid_or_null(left.as_ref());
    out.into_bytes()
}

fn push(buffer: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = buffer.len();
    buffer.extend_from_slice(bytes);
    Span::new(start, buffer.len())
}

fn op(bytes: &mut Bytes<'_>, buffer: &mut Vec<u8>) -> Op {
    let action = bytes.next();
    let path = push(buffer, key(bytes.next()));
    let a = push(buffer, record(bytes.next()).as_bytes());
    let b = push(buffer, record(bytes.next()).as_bytes());
    let kind = match action % 3 {
        0 => OpKind::Create { cid: a },
        1 => OpKind::Update { cid: a, prev: b },
        _ => OpKind::Delete { prev: b },
    };
    Op { path, kind }
}

/// Operations undone on a tree, both out of `bytes`. The answer depends on nothing that was before.
pub fn mst_invert(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let ops_count = 1 + usize::from(bytes.next()) % OPS_MAX;
    let mut buffer = Vec::new();
    let ops: Vec<Op> = (0..ops_count)
        .map(|_| op(&mut bytes, &mut buffer))
        .collect();
    let mut nodes = Vec::new();
    while nodes.len() < NODES_MAX && !bytes.is_empty() {
        let node = node(&mut bytes, &nodes);
        nodes.push(node);
    }
    let root = Cid::of_cbor(nodes.last().map_or(&[][..], |node| node));
    let start = buffer.len();
    let mut header = Writer::new();
    header.map(2).text("roots").array(1).cid(&root);
    header.text("version").uint(1);
    car_block(&mut buffer, &[&header.into_bytes()]);
    for node in &nodes {
        car_block(&mut buffer, &[Cid::of_cbor(node).as_bytes(), node]);
    }
    let mut blocks = BlockTable::new();
    blocks
        .read(&buffer, start..buffer.len())
        .expect("a CAR file");
    let (mut tree, mut order) = (Tree::new(), Vec::new());
    let first = mst::invert(&mut tree, &root, &blocks, &buffer, &ops, &mut order);
    let again = mst::invert(&mut tree, &root, &blocks, &buffer, &ops, &mut order);
    assert_eq!(first, again);
}

fn car_block(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let mut len: usize = parts.iter().map(|part| part.len()).sum();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
