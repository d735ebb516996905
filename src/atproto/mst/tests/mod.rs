//! The tree against the rules of its structure, one by one, and the inversion against the
//! simulator's own tree, which shares no code with it.

pub(crate) mod inversion;

use std::collections::{BTreeMap, HashSet};

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::{Op, OpKind, Span, Tree, TreeError, empty_root, invert, layer_of, tree::Link};
use crate::{
    atproto::{
        car::BlockTable,
        cbor::{Writer, tests::NOT_CANONICAL},
        cid::{Cid, Codec},
    },
    limits::{MST_KEY_BYTES_MAX, MST_KEYS_BYTES_MAX, MST_NODE_ENTRIES_MAX},
    sim::{
        event,
        tree::{Block, Tree as Whole},
    },
};

/// The record of every test that does not care for records.
fn leaf() -> Cid {
    Cid::parse("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454").unwrap()
}

/// The first key of `layer` that begins with `prefix`.
fn key(prefix: &str, layer: u8) -> String {
    (0..)
        .map(|n| format!("{prefix}{n}"))
        .find(|key| layer_of(key.as_bytes()) == layer)
        .unwrap()
}

/// One entry as it is written, right or wrong.
#[derive(Clone)]
struct Raw {
    prefix: u64,
    suffix: Vec<u8>,
    right: Option<Cid>,
}

fn raw(prefix: usize, suffix: &[u8]) -> Raw {
    Raw {
        prefix: prefix as u64,
        suffix: suffix.to_vec(),
        right: None,
    }
}

fn node(left: Option<&Block>, entries: &[Raw]) -> Block {
    let mut out = Writer::new();
    out.map(2).text("e").array(entries.len());
    for entry in entries {
        out.map(4).text("k").bytes(&entry.suffix);
        out.text("p").uint(entry.prefix);
        out.text("t").cid_or_null(entry.right.as_ref());
        out.text("v").cid(&leaf());
    }
    out.text("l").cid_or_null(left.map(|block| &block.cid));
    Block::of_cbor(out.into_bytes())
}

/// Entries of whole keys, compressed as they must be.
fn entries(keys: &[impl AsRef<[u8]>]) -> Vec<Raw> {
    let mut last: &[u8] = &[];
    let mut entries = Vec::new();
    for key in keys {
        let key = key.as_ref();
        let prefix = last.iter().zip(key).take_while(|(a, b)| a == b).count();
        entries.push(raw(prefix, &key[prefix..]));
        last = key;
    }
    entries
}

/// A node of these keys without children.
fn plain(keys: &[impl AsRef<[u8]>]) -> Block {
    node(None, &entries(keys))
}

/// A node of one key with a child on either side.
fn between(left: Option<&Block>, key: &str, right: Option<&Block>) -> Block {
    let mut entry = raw(0, key.as_bytes());
    entry.right = right.map(|block| block.cid);
    node(left, &[entry])
}

fn load(root: Cid, blocks: &[Block]) -> Result<(), TreeError> {
    let buffer = event::car(1, &[root], blocks);
    let mut table = BlockTable::new();
    table.read(&buffer, 0..buffer.len()).unwrap();
    let mut tree = Tree::new();
    tree.load(&root, &table, &buffer)?;
    let index = tree.root;
    forget(&mut tree, index);
    assert_eq!(tree.root_cid(&buffer), root, "it encodes as it was");
    Ok(())
}

/// Forgets the CIDs and the blocks of all nodes, so that they are encoded anew.
fn forget(tree: &mut Tree, index: u32) {
    tree.node_mut(index).cid = None;
    tree.node_mut(index).block = None;
    for i in 0..=tree.node(index).entries.len() {
        if let Link::Node(child) = tree.node(index).link_before(i) {
            forget(tree, child);
        }
    }
}

#[track_caller]
fn accepted(root: &Block, others: &[&Block]) {
    let blocks: Vec<Block> = others.iter().copied().chain([root]).cloned().collect();
    assert_eq!(load(root.cid, &blocks), Ok(()));
}

#[track_caller]
fn refused(root: &Block, others: &[&Block]) {
    let blocks: Vec<Block> = others.iter().copied().chain([root]).cloned().collect();
    assert_eq!(load(root.cid, &blocks), Err(TreeError::Invalid));
}

/// Rule 186: <https://atproto.com/specs/repository#mst-structure>
#[test]
fn the_empty_tree_has_its_known_root() {
    let empty = node(None, &[]);
    assert_eq!(empty.cid, empty_root());
    assert_eq!(
        empty_root().to_string(),
        "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
    );
    accepted(&empty, &[]);
}

/// Rule 186: <https://github.com/bluesky-social/atproto/blob/main/packages/repo/tests/mst.test.ts>
#[test]
fn published_trees_have_their_known_roots() {
    for (rkey, layer, root) in [
        (
            "3jqfcqzm3fo2j",
            0,
            "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu",
        ),
        (
            "3jqfcqzm3fx2j",
            2,
            "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai",
        ),
    ] {
        let path = format!("com.example.record/{rkey}");
        assert_eq!(layer_of(path.as_bytes()), layer);
        let root_node = plain(&[path]);
        assert_eq!(root_node.cid.to_string(), root);
        accepted(&root_node, &[]);
    }
}

#[test]
fn keys_of_a_node_are_of_one_layer() {
    accepted(&plain(&[key("A", 0), key("B", 0)]), &[]);
    refused(&plain(&[key("A", 0), key("B", 1)]), &[]);
    refused(&plain(&[key("A", 1), key("B", 0)]), &[]);
}

#[test]
fn keys_ascend() {
    let (a, b) = (key("A", 0), key("B", 0));
    accepted(&plain(&[&a, &b]), &[]);
    refused(&plain(&[&b, &a]), &[]);
    refused(&plain(&[&a, &a]), &[]);
    refused(
        &node(None, &[raw(0, a.as_bytes()), raw(0, a.as_bytes())]),
        &[],
    );
    // The same prefix, and then a smaller byte.
    let (x, y) = (key("Ax", 0), key("Ay", 0));
    refused(
        &node(None, &[raw(0, y.as_bytes()), raw(1, &x.as_bytes()[1..])]),
        &[],
    );
}

#[test]
fn prefixes_are_compressed_in_their_one_form() {
    let (a, b) = (key("Ax", 0), key("Ay", 0));
    let (a, b) = (a.as_bytes(), b.as_bytes());
    accepted(&node(None, &[raw(0, a), raw(1, &b[1..])]), &[]);
    refused(&node(None, &[raw(0, a), raw(0, b)]), &[]);
    // The same key again, and a prefix longer than the key before.
    refused(&node(None, &[raw(0, a), raw(2, &a[2..])]), &[]);
    refused(&node(None, &[raw(0, a), raw(a.len() + 1, b"zz")]), &[]);
    refused(&node(None, &[raw(1, a)]), &[]);
    // A key that goes on where the one before it ends.
    let longer = key(std::str::from_utf8(a).unwrap(), 0);
    let rest = &longer.as_bytes()[a.len()..];
    accepted(&node(None, &[raw(0, a), raw(a.len(), rest)]), &[]);
    refused(&node(None, &[raw(0, a), raw(a.len() - 1, rest)]), &[]);
}

#[test]
fn keys_have_a_length() {
    let long = |len: usize| {
        (0..)
            .map(|n| format!("{n:0>len$}"))
            .find(|key| layer_of(key.as_bytes()) == 0)
            .unwrap()
    };
    accepted(&plain(&[long(MST_KEY_BYTES_MAX)]), &[]);
    refused(&plain(&[long(MST_KEY_BYTES_MAX + 1)]), &[]);
    refused(&node(None, &[raw(0, b"")]), &[]);
}

#[test]
fn every_field_is_there_and_no_other() {
    let key = key("A", 0);
    let build = |left: &str, fields: &[&str]| {
        let mut out = Writer::new();
        out.map(1 + usize::from(!left.is_empty()));
        out.text("e").array(1).map(fields.len());
        for field in fields {
            out.text(field);
            match *field {
                "k" => out.bytes(key.as_bytes()),
                "p" => out.uint(0),
                "v" => out.cid(&leaf()),
                _ => out.null(),
            };
        }
        if !left.is_empty() {
            out.text(left).null();
        }
        Block::of_cbor(out.into_bytes())
    };
    accepted(&build("l", &["k", "p", "t", "v"]), &[]);
    refused(&build("", &["k", "p", "t", "v"]), &[]);
    refused(&build("m", &["k", "p", "t", "v"]), &[]);
    for missing in 0..4 {
        let mut fields = vec!["k", "p", "t", "v"];
        fields.remove(missing);
        refused(&build("l", &fields), &[]);
    }
    refused(&build("l", &["k", "p", "t", "v", "w"]), &[]);
    let mut long = node(None, &[]).bytes.to_vec();
    long.push(0);
    refused(&Block::of_cbor(long), &[]);
}

#[test]
fn fields_have_their_types() {
    let (good, value) = (key("A", 0), leaf());
    let build = |which: usize| {
        let mut out = Writer::new();
        out.map(2).text("e").array(1).map(4).text("k");
        match which {
            1 => out.text(&good),
            _ => out.bytes(good.as_bytes()),
        };
        match which {
            2 => out.text("p").int(-1),
            _ => out.text("p").uint(0),
        };
        match which {
            3 => out.text("t").uint(0),
            _ => out.text("t").null(),
        };
        match which {
            4 => out.text("v").null(),
            _ => out.text("v").cid(&value),
        };
        match which {
            5 => out.text("l").bool(false),
            _ => out.text("l").null(),
        };
        Block::of_cbor(out.into_bytes())
    };
    accepted(&build(0), &[]);
    for which in 1..=5 {
        refused(&build(which), &[]);
    }
}

/// Rule 184: <https://dasl.ing/drisl.html>
#[test]
fn nodes_are_canonical() {
    let key = key("A", 0);
    let mut link = Writer::new();
    link.cid(&leaf());
    let link = link.into_bytes();
    let long_key = [&[0x58, key.len() as u8], key.as_bytes()].concat();
    let split_key = [&[0x5f, 0x40 | key.len() as u8], key.as_bytes(), &[0xff]].concat();
    // The node of one key in pieces: its map, its array of one entry, the entry's four fields.
    let pieces = [
        &[0xa2][..],
        b"\x61e",
        &[0x81],
        &[0xa4],
        b"\x61k",
        &[&[0x40 | key.len() as u8], key.as_bytes()].concat(),
        b"\x61p",
        &[0x00],
        b"\x61t",
        &[0xf6],
        b"\x61v",
        &link,
        b"\x61l",
        &[0xf6],
    ];
    const VALUES: [usize; 6] = [2, 5, 7, 9, 11, 13];
    let with = |others: &[(usize, &[u8])]| {
        let mut pieces = pieces.map(<[u8]>::to_vec);
        for (at, bytes) in others {
            pieces[*at] = bytes.to_vec();
        }
        Block::of_cbor(pieces.concat())
    };
    accepted(&with(&[]), &[]);
    for (why, hex) in NOT_CANONICAL {
        let item = HEXLOWER.decode(hex.as_bytes()).unwrap();
        for at in VALUES {
            let node = with(&[(at, &item)]);
            assert_eq!(load(node.cid, &[node]), Err(TreeError::Invalid), "{why}");
        }
    }
    let ended = |bytes: &[u8]| [bytes, &[0xff]].concat();
    let over_long = [&[0xd9, 0x00][..], &link[1..]].concat();
    for others in [
        // Over-long heads of the map, the array, the entry, the key, the number, the link.
        &[(0, &[0xb8, 0x02][..])][..],
        &[(2, &[0x98, 0x01])],
        &[(3, &[0xb8, 0x04])],
        &[(5, &long_key)],
        &[(7, &[0x18, 0x00])],
        &[(11, &over_long)],
        // Without a length: the same five.
        &[(0, &[0xbf]), (13, &[0xf6, 0xff])],
        &[(2, &[0x9f]), (11, &ended(&link))],
        &[(3, &[0xbf]), (11, &ended(&link))],
        &[(5, &split_key)],
        // Keys out of order, there twice, and of another type.
        &[(4, b"\x61p"), (5, &[0x00]), (6, b"\x61k"), (7, pieces[5])],
        &[(6, b"\x61k"), (7, pieces[5])],
        &[(4, b"\x41k")],
        &[(12, b"\x61e")],
    ] {
        refused(&with(others), &[]);
    }
}

#[test]
fn children_are_tree_nodes_one_layer_down() {
    let top = key("M", 1);
    let (left, right) = (plain(&[key("A", 0)]), plain(&[key("Z", 0)]));
    let root = between(Some(&left), &top, Some(&right));
    accepted(&root, &[&left, &right]);
    // What is not there can not be wrong.
    accepted(&root, &[&left]);
    accepted(&root, &[]);
    // A raw block can not be a node, there or not.
    let raw_child = Block {
        cid: Cid::of(Codec::Raw, &left.bytes),
        bytes: left.bytes.clone(),
    };
    refused(&between(Some(&raw_child), &top, None), &[&raw_child]);
    refused(&between(None, &top, Some(&raw_child)), &[]);
    // Below layer 0 there is nothing.
    refused(&between(Some(&left), &key("M", 0), None), &[]);
    refused(&between(None, &key("M", 0), Some(&right)), &[&right]);
    // No layer is skipped: a node without entries stands in between.
    let high = key("M", 2);
    refused(&between(Some(&left), &high, None), &[&left]);
    let step = node(Some(&left), &[]);
    accepted(&between(Some(&step), &high, None), &[&step, &left]);
}

#[test]
fn only_the_root_of_an_empty_tree_is_empty() {
    let empty = node(None, &[]);
    refused(&between(Some(&empty), &key("M", 1), None), &[&empty]);
    refused(&between(None, &key("M", 1), Some(&empty)), &[&empty]);
    // A root that only points further down should have been trimmed.
    let below = plain(&[key("A", 0)]);
    refused(&node(Some(&below), &[]), &[&below]);
    refused(&node(Some(&below), &[]), &[]);
}

#[test]
fn keys_of_a_subtree_lie_between_their_neighbours() {
    let (a, m, z) = (
        plain(&[key("A", 0)]),
        plain(&[key("M", 0)]),
        plain(&[key("Z", 0)]),
    );
    let (b, y) = (key("B", 1), key("Y", 1));
    let with = |left: &Block, middle: &Block, right: &Block| {
        let mut list = entries(&[&b, &y]);
        list[0].right = Some(middle.cid);
        list[1].right = Some(right.cid);
        node(Some(left), &list)
    };
    accepted(&with(&a, &m, &z), &[&a, &m, &z]);
    for (left, middle, right) in [
        (&m, &m, &z),
        (&z, &m, &z),
        (&a, &a, &z),
        (&a, &z, &z),
        (&a, &m, &m),
        (&a, &m, &a),
    ] {
        refused(&with(left, middle, right), &[&a, &m, &z]);
    }
    // Also two layers down, through a node without entries.
    let (step_a, step_z) = (node(Some(&a), &[]), node(Some(&z), &[]));
    let top = key("M", 2);
    accepted(
        &between(Some(&step_a), &top, Some(&step_z)),
        &[&step_a, &step_z, &a, &z],
    );
    refused(
        &between(Some(&step_z), &top, None),
        &[&step_a, &step_z, &a, &z],
    );
    refused(
        &between(None, &top, Some(&step_a)),
        &[&step_a, &step_z, &a, &z],
    );
}

#[test]
fn a_node_has_a_size() {
    let mut keys: Vec<String> = (0..)
        .map(|n| format!("k{n}"))
        .filter(|key| layer_of(key.as_bytes()) == 0)
        .take(MST_NODE_ENTRIES_MAX + 1)
        .collect();
    keys.sort();
    refused(&plain(&keys), &[]);
    keys.pop();
    accepted(&plain(&keys), &[]);
}

#[test]
fn keys_of_a_commit_have_a_size() {
    // Nodes of long keys that share nearly everything: small in the file, large in memory.
    let leaves: Vec<Block> = (0..MST_KEYS_BYTES_MAX / MST_NODE_ENTRIES_MAX / 1_000 + 1)
        .map(|n| {
            let keys: Vec<String> = (10_000..)
                .map(|i| format!("k{n:02}{:x<990}{i}", ""))
                .filter(|key| layer_of(key.as_bytes()) == 0)
                .take(MST_NODE_ENTRIES_MAX)
                .collect();
            plain(&keys)
        })
        .collect();
    let keys: Vec<String> = (0..leaves.len())
        .map(|n| key(&format!("k{n:02}y"), 1))
        .collect();
    let tree = |count: usize| {
        let mut list = entries(&keys[..count]);
        for (entry, leaf) in list.iter_mut().zip(&leaves[1..]) {
            entry.right = Some(leaf.cid);
        }
        list[count - 1].right = None;
        node(Some(&leaves[0]), &list)
    };
    let leaves: Vec<&Block> = leaves.iter().collect();
    accepted(&tree(5), &leaves);
    refused(&tree(leaves.len()), &leaves);
}

#[test]
fn the_root_must_be_there() {
    let root = plain(&[key("A", 0)]);
    assert_eq!(load(root.cid, &[]), Err(TreeError::MissingBlock));
}
