//! Trees that are none. The commit creates one record in a tree with one thing wrong, and all else
//! is right: the root is that of the commit, every node is there, and taking the record out of the
//! tree leads to `prevData`, for whoever does not look.

use std::rc::Rc;

use zlay::{
    atproto::cid::Cid,
    reject::Reject,
    sim::{
        account::{self, Account},
        repo::Write,
        tree,
    },
};

use super::{
    forgery::{
        Block, DAG_CBOR, Fields, RAW, array, cid_of, forge_draft, in_parts, item, link, null,
        sha512_cid_of,
    },
    shape::{Coding, Node, inner, keys_after, layer_of, leaf},
};
use crate::stage::Stage;

/// The keys of the trees; each group is behind the one before.
struct Keys {
    /// Of layer 0.
    a: [String; 3],
    /// Of layer 1.
    b: String,
    /// Of layer 0; the record with the third is the one that is created.
    c: [String; 6],
    /// Of layer 1.
    d: String,
    /// Of layer 0.
    e: [String; 3],
    /// Of layer 1.
    f: String,
    /// Of layer 2.
    g: String,
}

impl Keys {
    fn find() -> Keys {
        let a: [_; 3] = keys_after("", 0);
        let [b] = keys_after(&a[2], 1);
        let c: [_; 6] = keys_after(&b, 0);
        let [d] = keys_after(&c[5], 1);
        let e: [_; 3] = keys_after(&d, 0);
        let [f] = keys_after(&e[2], 1);
        let [g] = keys_after(&f, 2);
        Keys {
            a,
            b,
            c,
            d,
            e,
            f,
            g,
        }
    }

    fn created(&self) -> &String {
        &self.c[2]
    }

    /// The node of layer 0 that the new key goes to, with it or without.
    fn middle(&self, created: bool) -> Node {
        let [c0, _, new, c3, c4, _] = &self.c;
        let keys = [c0, new, c3, c4];
        let keys = keys.into_iter().filter(|key| created || *key != new);
        leaf(&keys.collect::<Vec<_>>())
    }

    /// A right tree of two layers with other nodes in the places of these.
    fn around(&self, left: Option<Node>, middle: Node, right: Node) -> Node {
        inner(left, vec![(&self.b, Some(middle)), (&self.d, Some(right))])
    }

    fn left(&self) -> Node {
        leaf(&self.a.each_ref())
    }

    fn right(&self) -> Node {
        leaf(&self.e.each_ref())
    }

    /// A right tree, with the new key or without.
    fn tree(&self, created: bool) -> Node {
        self.around(Some(self.left()), self.middle(created), self.right())
    }
}

/// A shape with the new key or without, for the commit and for what is before it.
type Shape = Box<dyn Fn(&Keys, bool) -> Node>;

/// Where a node is that is written in a wrong way.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The root. It is written anew when the record is taken out, and then the right way.
    Root,
    /// The node with the new key, which is written anew as well.
    OnThePath,
    /// A node that is there and not touched: it is in the tree before as it is now.
    Beside,
}

/// A right tree with one node that is written in a wrong way.
fn coded(place: Place, coding: Coding) -> Shape {
    Box::new(move |keys, created| {
        let coding = Some(coding.clone());
        let now = coding.clone().filter(|_| created);
        match place {
            Place::Root => keys.tree(created).coded(now),
            Place::OnThePath => {
                let middle = keys.middle(created).coded(now);
                keys.around(Some(keys.left()), middle, keys.right())
            }
            Place::Beside => {
                let right = keys.right().coded(coding);
                keys.around(Some(keys.left()), keys.middle(created), right)
            }
        }
    })
}

/// Sends a commit that creates the new key in a tree of this shape, by an account whose tree had
/// the other keys; returns the account as it was before, and the event.
fn create_in(stage: &mut Stage, keys: &Keys, shape: &Shape) -> (Account, zlay::sim::event::Event) {
    let mut account = stage.site.account(0);
    let record = account::record("com.example.tree", "the same for all", 1);
    let put = |key: &String| Write::Put(key.clone(), record.clone());
    let before = shape(keys, false);
    let mut paths = before.keys();
    // Of those that no repository has, and of more than a commit may have, it has not seen all.
    paths.retain(|path| (1..500).contains(&path.len()));
    paths.sort();
    paths.dedup();
    let writes: Vec<_> = paths.iter().take(100).map(put).collect();
    let first = account.commit(&writes);
    stage.pass(&[&first]);

    let value = record.cid.as_bytes();
    let prev_data = before.blocks(value).pop().unwrap().cid;
    let mut blocks = shape(keys, true).blocks(value);
    let root = blocks.last().unwrap().cid.clone();
    let mut draft = account.clone().draft(&[put(keys.created())]);
    draft.prev_data = Some(Cid::from_bytes(&prev_data).unwrap());
    draft.data = Cid::from_bytes(&root).unwrap();
    blocks.push(Block {
        cid: value.to_vec(),
        bytes: record.bytes.to_vec(),
    });
    let spoil = in_parts(move |parts| parts.blocks.clone_from(&blocks));
    let event = forge_draft(&account, draft, &spoil);
    (account, event)
}

fn drops(stage: &mut Stage, keys: &Keys, name: &str, shape: &Shape) {
    println!("{name}");
    let (mut account, event) = create_in(stage, keys, shape);
    stage.drops(&mut account, &event, Reject::TreeInvalid);
}

/// What is done here is right as long as nothing is wrong: the tree is that of the simulator, and
/// the commit passes.
fn passes(stage: &mut Stage, keys: &Keys) {
    let shape: Shape = Box::new(Keys::tree);
    let (account, event) = create_in(stage, keys, &shape);
    let record = account::record("com.example.tree", "the same for all", 1);
    for created in [false, true] {
        let ours = keys.tree(created).blocks(record.cid.as_bytes());
        let mut tree = tree::Tree::new();
        for key in keys.tree(created).keys() {
            tree.set(&key, record.cid);
        }
        assert_eq!(ours.last().unwrap().cid, tree.root().cid.as_bytes());
    }
    let discontinuous = stage.relay.metric("relay_events_discontinuous_total");
    stage.pass(&[&event]);
    let name = "relay_events_discontinuous_total";
    assert_eq!(stage.relay.metric(name), discontinuous);
    drop(account);
}

fn entries(change: impl Fn(&mut Vec<Fields>) + 'static) -> Coding {
    Coding::Entries(Rc::new(change))
}

fn fields(change: impl Fn(&mut Fields) + 'static) -> Coding {
    Coding::Fields(Rc::new(change))
}

fn bytes(change: impl Fn(&mut Vec<u8>) + 'static) -> Coding {
    Coding::Bytes(Rc::new(change))
}

/// The number and the bytes of an entry's key.
fn key_of(entry: &Fields) -> (u8, Vec<u8>) {
    // A prefix below 256, and a suffix below 24 bytes or with a byte of length.
    let prefix = *entry.get("p").last().unwrap();
    let suffix = entry.get("k");
    let suffix = match suffix[0] {
        0x58 => &suffix[2..],
        _ => &suffix[1..],
    };
    (prefix, suffix.to_vec())
}

/// Ways to write a node that are wrong; each node has two entries or more.
fn codings() -> Vec<(&'static str, Coding)> {
    let field = |key: &'static str, value: Vec<u8>| {
        entries(move |entries| entries[1].set(key, value.clone()))
    };
    let without = |key: &'static str| entries(move |entries| entries[1].remove(key));
    let node_field =
        |key: &'static str, value: Vec<u8>| fields(move |node| node.set(key, value.clone()));
    vec![
        (
            "a prefix shorter than what is shared",
            entries(|entries| {
                let (_, first) = key_of(&entries[0]);
                let (prefix, suffix) = key_of(&entries[1]);
                let byte = first[usize::from(prefix) - 1];
                entries[1].set("p", item(prefix - 1));
                entries[1].set("k", item([&[byte], &suffix[..]].concat()));
            }),
        ),
        (
            "no prefix at all",
            entries(|entries| {
                let (_, first) = key_of(&entries[0]);
                let (prefix, suffix) = key_of(&entries[1]);
                let key = [&first[..usize::from(prefix)], &suffix].concat();
                entries[1].set("p", item(0));
                entries[1].set("k", item(key));
            }),
        ),
        (
            "a first prefix of 1 before the whole key",
            entries(|entries| entries[0].set("p", item(1))),
        ),
        (
            "a first prefix of 4, which is left out of the key",
            entries(|entries| {
                let (_, key) = key_of(&entries[0]);
                entries[0].set("p", item(4));
                entries[0].set("k", item(&key[4..]));
            }),
        ),
        (
            "a prefix longer than the previous key",
            field("p", item(200)),
        ),
        ("a prefix of 2^40", field("p", item(1i64 << 40))),
        ("a prefix of 2^63 - 1", field("p", item(i64::MAX))),
        ("a prefix below zero", field("p", item(-1))),
        ("a prefix that is text", field("p", item("1"))),
        ("a key that is text", field("k", item("key"))),
        ("no `l`", fields(|node| node.remove("l"))),
        ("no `e`", fields(|node| node.remove("e"))),
        ("no `t`", without("t")),
        ("no `p`", without("p")),
        ("no `k`", without("k")),
        ("no `v`", without("v")),
        ("a value that is null", field("v", null())),
        ("a value that is text", field("v", item("x"))),
        ("one more field", node_field("x", null())),
        ("one more field of an entry", field("x", null())),
        (
            "entries that are a map",
            node_field("e", Fields(Vec::new()).encode()),
        ),
        (
            "2^40 entries",
            node_field("e", b"\x9b\0\0\x01\0\0\0\0\0".to_vec()),
        ),
        (
            "a key of 2^40 bytes",
            field("k", b"\x5b\0\0\x01\0\0\0\0\0".to_vec()),
        ),
        ("a byte more", bytes(|node| node.push(0))),
        ("an array", bytes(|node| *node = array(&[]))),
        ("nothing", bytes(Vec::clear)),
        (
            "a long integer",
            entries(|entries| entries[0].set("p", b"\x18\x00".to_vec())),
        ),
        ("a float", field("p", b"\xf9\x4c\x40".to_vec())),
        (
            "an array without a length",
            bytes(|node| {
                // Its head is behind that of the map and the key.
                node[3] = 0x9f;
                node.insert(node.len() - left_len(node), 0xff);
            }),
        ),
        (
            "the fields in the other order",
            bytes(|node| {
                let (entries, left) = node.split_at(node.len() - left_len(node));
                *node = [&entries[..1], left, &entries[1..]].concat();
            }),
        ),
    ]
}

/// How many bytes at the end of a node are its field `l`.
fn left_len(node: &[u8]) -> usize {
    if node.ends_with(b"\x61l\xf6") { 3 } else { 43 }
}

/// Links to children beside the path that are none, each as it is written.
fn links() -> Vec<(&'static str, Vec<u8>)> {
    const CHILD: &[u8] = b"a child that is not there";
    vec![
        ("a raw link", link(&cid_of(RAW, CHILD))),
        ("a link of another hash", link(&sha512_cid_of(CHILD))),
        ("the bytes of a link", item(cid_of(DAG_CBOR, CHILD))),
        (
            "the text of a link",
            item("bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"),
        ),
        ("false", item(false)),
    ]
}

/// In the root, in the node with the new key, and in one that is not touched.
///
/// Rules 111, 184: <https://atproto.com/specs/repository#mst-structure>
#[test]
fn a_node_that_is_written_wrong() {
    let keys = Keys::find();
    let mut stage = Stage::set_up();
    passes(&mut stage, &keys);
    for place in [Place::Root, Place::OnThePath, Place::Beside] {
        for (name, coding) in codings() {
            let shape = coded(place, coding);
            drops(&mut stage, &keys, &format!("{place:?}: {name}"), &shape);
        }
    }
    for (name, value) in links() {
        let before = {
            let value = value.clone();
            fields(move |root| root.set("l", value.clone()))
        };
        let behind = entries(move |entries| entries[1].set("t", value.clone()));
        for (place, coding) in [("before the first key", before), ("behind a key", behind)] {
            let shape: Shape =
                Box::new(move |keys, created| keys.tree(created).coded(Some(coding.clone())));
            drops(&mut stage, &keys, &format!("{name} {place}"), &shape);
        }
    }
    // A child that is there, under a raw CID.
    for place in [Place::OnThePath, Place::Beside] {
        let shape = coded(place, Coding::Raw);
        drops(
            &mut stage,
            &keys,
            &format!("{place:?}: a raw child"),
            &shape,
        );
    }
}

/// A leaf of more keys than the usual ones, with the new one in its place or not.
fn leaf_with(keys: &Keys, created: bool, all: &[&String]) -> Node {
    let keys = all.iter().filter(|key| created || **key != keys.created());
    leaf(&keys.copied().collect::<Vec<_>>())
}

/// Shapes that are none of a tree.
fn shapes() -> Vec<(&'static str, Shape)> {
    fn shape(shape: impl Fn(&Keys, bool) -> Node + 'static) -> Shape {
        Box::new(shape)
    }
    /// A right tree but for the node in the middle.
    fn middle(middle: impl Fn(&Keys, bool) -> Node + 'static) -> Shape {
        shape(move |keys, created| {
            keys.around(Some(keys.left()), middle(keys, created), keys.right())
        })
    }
    vec![
        (
            "a key of layer 1 in a node of layer 0",
            shape(|keys, created| {
                let right = leaf(&[&keys.e[0], &keys.e[1], &keys.e[2], &keys.f]);
                keys.around(Some(keys.left()), keys.middle(created), right)
            }),
        ),
        (
            "a key of layer 2 in a node of layer 1",
            shape(|keys, created| {
                let mut root = keys.tree(created);
                root.entries.extend(leaf(&[&keys.g]).entries);
                root
            }),
        ),
        (
            "a key of layer 0 in a node of layer 1",
            shape(|keys, created| {
                let right = leaf(&[&keys.e[0], &keys.e[1]]);
                let mut root = keys.around(Some(keys.left()), keys.middle(created), right);
                root.entries.extend(leaf(&[&keys.e[2]]).entries);
                root
            }),
        ),
        (
            "a key of layer 0 first in a node of layer 1",
            shape(|keys, created| {
                let left = leaf(&[&keys.a[0], &keys.a[1]]);
                let mut root = keys.around(Some(left), keys.middle(created), keys.right());
                root.entries
                    .insert(0, leaf(&[&keys.a[2]]).entries.remove(0));
                root
            }),
        ),
        (
            "unsorted keys",
            middle(|keys, created| {
                let [c0, _, new, c3, c4, _] = &keys.c;
                leaf_with(keys, created, &[c0, new, c4, c3])
            }),
        ),
        (
            "unsorted keys, the new one among them",
            middle(|keys, created| {
                let [c0, _, new, c3, c4, _] = &keys.c;
                leaf_with(keys, created, &[new, c0, c3, c4])
            }),
        ),
        (
            "a key that is there twice",
            middle(|keys, created| {
                let [c0, _, new, c3, _, _] = &keys.c;
                leaf_with(keys, created, &[c0, new, c3, c3])
            }),
        ),
        (
            "a key that is there twice, in two nodes",
            shape(|keys, created| {
                let left = leaf(&[&keys.a[0], &keys.a[1], &keys.c[0]]);
                keys.around(Some(left), keys.middle(created), keys.right())
            }),
        ),
        (
            "a key that is greater than all to the right of its node",
            shape(|keys, created| {
                let left = leaf(&[&keys.a[0], &keys.a[1], &keys.e[2]]);
                let right = leaf(&[&keys.e[0], &keys.e[1]]);
                keys.around(Some(left), keys.middle(created), right)
            }),
        ),
        (
            "a key that is less than all to the left of its node",
            shape(|keys, created| {
                let left = leaf(&[&keys.a[1], &keys.a[2]]);
                let right = leaf(&[&keys.a[0], &keys.e[0], &keys.e[1]]);
                keys.around(Some(left), keys.middle(created), right)
            }),
        ),
        (
            "subtrees in the places of each other",
            shape(|keys, created| {
                keys.around(Some(keys.right()), keys.middle(created), keys.left())
            }),
        ),
        (
            "a child under layer 0, before the new key",
            middle(|keys, created| {
                let [c0, c1, new, c3, c4, _] = &keys.c;
                let below = Some(leaf(&[c1]));
                let rest = leaf_with(keys, created, &[new, c3, c4]).entries;
                let mut node = inner(None, vec![(c0, below)]);
                node.entries.extend(rest);
                node
            }),
        ),
        (
            "a child under layer 0, before everything",
            middle(|keys, created| {
                let [c0, c1, new, c3, c4, _] = &keys.c;
                let mut node = leaf_with(keys, created, &[c1, new, c3, c4]);
                node.left = Some(Box::new(leaf(&[c0])));
                node
            }),
        ),
        (
            "a child under layer 0, beside the path",
            shape(|keys, created| {
                let [e0, e1, e2] = &keys.e;
                let below = Some(leaf(&[e2]));
                let right = inner(None, vec![(e0, None), (e1, below)]);
                keys.around(Some(keys.left()), keys.middle(created), right)
            }),
        ),
        (
            "a skipped layer on the path",
            shape(|keys, created| inner(Some(keys.middle(created)), vec![(&keys.g, None)])),
        ),
        (
            "a skipped layer beside the path",
            shape(|keys, created| {
                let [beyond] = keys_after(&keys.g, 0);
                let right = leaf(&[&beyond]);
                inner(Some(keys.tree(created)), vec![(&keys.g, Some(right))])
            }),
        ),
        (
            "an empty node at the left",
            shape(|keys, created| {
                keys.around(Some(Node::default()), keys.middle(created), keys.right())
            }),
        ),
        (
            "an empty node at the right",
            shape(|keys, created| {
                keys.around(Some(keys.left()), keys.middle(created), Node::default())
            }),
        ),
        (
            "an empty node below a node without keys",
            shape(|keys, created| {
                let pointer = inner(Some(Node::default()), Vec::new());
                inner(Some(keys.tree(created)), vec![(&keys.g, Some(pointer))])
            }),
        ),
        (
            "a root that only points to one of layer 0",
            shape(|keys, created| {
                let middle = keys.middle(created);
                if created {
                    inner(Some(middle), Vec::new())
                } else {
                    middle
                }
            }),
        ),
        (
            "a root that only points to one of layer 1",
            shape(|keys, created| {
                let tree = keys.tree(created);
                if created {
                    inner(Some(tree), Vec::new())
                } else {
                    tree
                }
            }),
        ),
        (
            "a root that only points to one that only points",
            shape(|keys, created| {
                let tree = keys.tree(created);
                let pointer = |below| inner(Some(below), Vec::new());
                if created {
                    pointer(pointer(tree))
                } else {
                    tree
                }
            }),
        ),
        (
            "a key of no bytes",
            shape(|keys, created| {
                let none = String::new();
                let [a0, a1, a2] = &keys.a;
                let left = leaf(&[&none, a0, a1, a2]);
                keys.around(Some(left), keys.middle(created), keys.right())
            }),
        ),
    ]
}

/// Rule 111: <https://atproto.com/specs/repository#mst-structure>
#[test]
fn a_tree_of_a_wrong_shape() {
    let keys = Keys::find();
    let mut stage = Stage::set_up();
    passes(&mut stage, &keys);
    for (name, shape) in shapes() {
        drops(&mut stage, &keys, name, &shape);
    }
}

/// What mining keys could make of a node is bounded: more than 1,024 entries are none, and so are
/// keys of more than 1,024 bytes.
///
/// Rule 111: <https://atproto.com/specs/repository#security-considerations>
#[test]
fn a_node_larger_than_any() {
    let keys = Keys::find();
    let mut stage = Stage::set_up();
    let many = |count: usize| {
        let shape = move |keys: &Keys, created: bool| {
            let candidates = (0..).map(|n| format!("com.example.zzzz/{n:08}"));
            let candidates = candidates.filter(|key| layer_of(key) == 0);
            let more: Vec<_> = candidates.take(count - 4).collect();
            let [c0, _, new, c3, c4, _] = &keys.c;
            let all = [c0, new, c3, c4].into_iter().chain(&more);
            leaf_with(keys, created, &all.collect::<Vec<_>>())
        };
        Box::new(shape) as Shape
    };
    let long = |len: usize| {
        let shape = move |keys: &Keys, created: bool| {
            let mut candidates =
                (0..).map(|n| format!("com.example.zzzz/{n:0width$}", width = len - 17));
            let long = candidates.find(|key| layer_of(key) == 0);
            let [c0, _, new, c3, c4, _] = &keys.c;
            leaf_with(keys, created, &[c0, new, c3, c4, &long.unwrap()])
        };
        Box::new(shape) as Shape
    };
    for shape in [many(1_024), long(1_024)] {
        let (_, event) = create_in(&mut stage, &keys, &shape);
        stage.pass(&[&event]);
    }
    drops(&mut stage, &keys, "1,025 entries", &many(1_025));
    drops(&mut stage, &keys, "a key of 1,025 bytes", &long(1_025));
}
