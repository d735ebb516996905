//! What the tree of a commit may be, and how little of it the commit may show.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use zlay::{
    atproto::{cid::Cid, record_key::RepoPath},
    reject::Reject,
    sim::{
        account::{Account, record},
        event::Op,
        repo::{Draft, Write},
        tree::{self, Block, Tree},
    },
};

use super::{all_passed, commit, delete, put};
use crate::stage::Stage;

/// The tree without records.
const EMPTY: &str = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm";

/// All at once and one by one; what follows begins with nothing, as the first commit did.
///
/// Rule 67: <https://atproto.com/specs/repository#mst-structure>
#[test]
fn a_repository_may_be_emptied_and_filled_again() {
    let mut stage = Stage::set_up();
    let keys = ["a", "b", "c", "d", "e"];
    for at_once in [true, false] {
        let mut account = stage.site.account(0);
        stage.pass(&[&account.commit(&keys.map(|key| put(key, "one")))]);
        let deletes = keys.map(delete);
        let steps: Vec<&[Write]> = match at_once {
            true => vec![&deletes],
            false => deletes.chunks(1).collect(),
        };
        for writes in steps {
            stage.pass(&[&account.commit(writes)]);
        }
        assert_eq!(account.repo.tree().root().cid.to_string(), EMPTY);
        // A new revision of nothing, then something.
        stage.pass(&[&account.commit(&[])]);
        let message = commit(&mut account, &[put("f", "one")]).message;
        assert_eq!(message.prev_data.unwrap().to_string(), EMPTY);
        stage.pass(&[&message.event()]);
        stage.pass(&[&account.commit(&[delete("f")])]);
        let several = [put("a", "two"), put("b", "two")];
        stage.pass(&[&account.commit(&several)]);
    }
    all_passed(&stage);
}

/// A record key whose path is of this layer.
fn key_of_layer(layer: u32) -> String {
    let keys = (0..).map(|n: u32| n.to_string());
    let is_it = |key: &String| tree::layer_of(&format!("com.example.note/{key}")) == layer;
    keys.into_iter().find(is_it).unwrap()
}

/// By one layer and by several, with and without other changes; proven by all that a host sends and
/// by the least that will do.
///
/// Rules 65, 68: <https://atproto.com/specs/repository#mst-structure>
#[test]
fn the_root_may_rise_and_fall() {
    let mut stage = Stage::set_up();
    let keys: Vec<String> = (0..6).map(key_of_layer).collect();
    let (up, down) = (|n: usize| put(&keys[n], "one"), |n: usize| delete(&keys[n]));
    let steps = [
        (vec![up(0)], 0),
        (vec![up(1)], 1),
        (vec![up(4)], 4),
        (vec![down(4)], 1),
        (vec![down(1)], 0),
        (vec![up(2), up(1)], 2),
        (vec![down(2), up(3)], 3),
        (vec![up(5), down(3)], 5),
        (vec![down(5)], 1),
        (vec![up(5), put("beside", "one")], 5),
        (vec![down(5), down(1), delete("beside")], 0),
        (vec![up(3), down(0)], 3),
        // All that is left is at the top.
        (vec![down(3), up(0)], 0),
    ];
    for least in [false, true] {
        let mut account = stage.site.account(0);
        for (writes, layer) in &steps {
            let mut draft = account.draft(writes);
            let tree = account.repo.tree();
            assert_eq!(tree.layer(), Some(*layer));
            if least && draft.prev_data.is_some() {
                let proof = least_proof(tree, &draft, ORDERS[0]);
                draft.blocks = [proof, records(&draft)].concat();
            }
            stage.pass(&[&account.seal(draft).message.event()]);
        }
    }
    all_passed(&stage);
}

/// Rule 69: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn a_record_may_move() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let at = |path: &str| {
        (
            format!("com.example.{path}"),
            record("com.example.note", "one", 0),
        )
    };
    let (first, one) = at("note/a");
    stage.pass(&[&account.commit(&[Write::Put(first.clone(), one.clone())])]);
    let mut from = first;
    // Within its collection and to another one, forwards and backwards, the delete first or last.
    for (n, to) in ["note/b", "zoo/a", "alpha/a", "note/a"].iter().enumerate() {
        let (to, record) = at(to);
        let mut writes = [Write::Delete(from), Write::Put(to.clone(), record)];
        if n % 2 == 0 {
            writes.reverse();
        }
        let ops = commit(&mut account, &writes).message;
        let cids: HashSet<_> = ops.ops.iter().map(|op| op.cid.or(op.prev)).collect();
        assert_eq!(cids, [Some(one.cid)].into());
        stage.pass(&[&ops.event()]);
        from = to;
    }
    // Two records change places.
    let two = record("com.example.note", "two", 0);
    let place = |path: &str, record: &Block| Write::Put(path.into(), record.clone());
    stage.pass(&[&account.commit(&[place("com.example.note/b", &two)])]);
    let swap = [
        place("com.example.note/a", &two),
        place("com.example.note/b", &one),
    ];
    stage.pass(&[&account.commit(&swap)]);
    all_passed(&stage);
}

/// The orders of operations in which hosts are known to prove.
const ORDERS: [fn(&mut Vec<Op>); 4] = [
    |ops| ops.reverse(),
    |ops| {
        ops.sort_by(|a, b| a.path.cmp(&b.path));
        ops.sort_by_key(|op| op.action != "delete");
    },
    |_| {},
    |ops| ops.sort_by(|a, b| b.path.cmp(&a.path)),
];

/// All nodes of a tree.
fn nodes(tree: &Tree) -> Vec<Block> {
    let keys = tree.keys();
    let mut nodes: Vec<_> = keys
        .iter()
        .flat_map(|key| tree.covering_proof(key))
        .collect();
    nodes.push(tree.root());
    nodes.sort_by_key(|node| node.cid);
    nodes.dedup();
    nodes
}

/// The nodes of the tree after a commit that undoing its operations in this order looks into.
fn least_proof(after: &Tree, draft: &Draft, order: fn(&mut Vec<Op>)) -> Vec<Block> {
    let mut ops = draft.ops.clone();
    order(&mut ops);
    let mut tree = after.clone();
    let mut needed = HashSet::from([tree.root().cid]);
    for op in &ops {
        let proof = tree.least_proof(&op.path, op.action == "create");
        needed.extend(proof.iter().map(|node| node.cid));
        match op.prev {
            Some(prev) => tree.set(&op.path, prev),
            None => tree.remove(&op.path),
        };
    }
    assert_eq!(Some(tree.root().cid), draft.prev_data);
    let mut nodes = nodes(after);
    nodes.retain(|node| needed.contains(&node.cid));
    nodes
}

/// The records that a commit writes.
fn records(draft: &Draft) -> Vec<Block> {
    let is_record = |block: &&Block| draft.ops.iter().any(|op| op.cid == Some(block.cid));
    draft.blocks.iter().filter(is_record).cloned().collect()
}

/// So many random writes or fewer, of records that are close to one another.
fn random_writes(account: &Account, most: usize, rng: &mut fastrand::Rng) -> Vec<Write> {
    let keys = account.repo.tree().keys();
    let near = rng.usize(..keys.len().max(1));
    let near = &keys[near..keys.len().min(near + most)];
    let mut writes = BTreeMap::new();
    for _ in 0..most {
        let known = near.get(rng.usize(..near.len().max(1)));
        let is_known = rng.bool();
        // Keys high up in the tree are few, and they are where the order matters.
        let tries = [1, 16, 256][rng.usize(..3)];
        let mut beside = || {
            let paths = (0..tries).map(|_| match known {
                Some(path) => format!("{path}{}", rng.u32(..1000)),
                None => format!("com.example.c{}/{}", rng.u8(..3), rng.u32(..4000)),
            });
            paths.max_by_key(|path| tree::layer_of(path)).unwrap()
        };
        let path = match known {
            Some(path) if is_known => path.to_string(),
            _ => beside(),
        };
        let record = record("com.example.note", "random", rng.u64(..1 << 30));
        let write = match account.repo.tree().get(&path).is_some() && rng.bool() {
            true => Write::Delete(path.clone()),
            false => Write::Put(path.clone(), record),
        };
        writes.insert(path, write);
    }
    let mut writes: Vec<Write> = writes.into_values().collect();
    rng.shuffle(&mut writes);
    writes
}

/// Random commits of up to twelve operations, proven in each of the known orders.
///
/// Rule 65: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn the_nodes_that_one_order_needs_are_enough() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(65);
    let (mut less, mut differ) = (0, 0);
    for order in ORDERS {
        let mut account = stage.site.account(0);
        let writes = random_writes(&account, 120, &mut rng);
        stage.pass(&[&account.commit(&writes)]);
        for _ in 0..30 {
            let writes = random_writes(&account, 12, &mut rng);
            let mut draft = account.draft(&writes);
            let tree = account.repo.tree();
            let proof = least_proof(tree, &draft, order);
            let records = records(&draft);
            less += usize::from(proof.len() + records.len() < draft.blocks.len());
            let is_other = |other| least_proof(tree, &draft, other) != proof;
            differ += usize::from(ORDERS.into_iter().any(is_other));
            draft.blocks = [proof, records].concat();
            stage.pass(&[&account.seal(draft).message.event()]);
        }
    }
    // Hosts send more most of the time, and often it matters which order it is.
    assert!(less > 60 && differ > 15, "{less} {differ}");
    all_passed(&stage);
}

/// For a single operation there is one order only, and without any one node it is not proven.
///
/// Rules 65, 110: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn the_least_proof_is_enough_and_no_less_is() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(66);
    let mut account = stage.site.account(0);
    let writes = random_writes(&account, 120, &mut rng);
    stage.pass(&[&account.commit(&writes)]);
    let mut refused = 0;
    for _ in 0..12 {
        let writes = random_writes(&account, 1, &mut rng);
        let mut draft = account.draft(&writes);
        let proof = least_proof(account.repo.tree(), &draft, ORDERS[0]);
        let records = records(&draft);
        for missing in 0..proof.len() {
            let mut fewer = draft.clone();
            fewer.blocks = [&proof[..missing], &proof[missing + 1..], &records].concat();
            let event = account.clone().seal(fewer).message.event();
            stage.refuse(0, &event, Reject::TreeMissingBlock);
            refused += 1;
        }
        draft.blocks = [proof, records].concat();
        stage.pass(&[&account.seal(draft).message.event()]);
    }
    assert!(refused > 24, "{refused}");
    assert_eq!(stage.relay.metric(super::DISCONTINUOUS), 0);
}

/// The commits of the public fixtures, each with exactly the nodes that it is published with. Keys that
/// are no paths of records stand for paths of the same layers in the same order, so that the trees
/// have the same shape node by node; the fixtures do not have the records, so these are others.
///
/// Rule 66: <https://github.com/bluesky-social/atproto-interop-tests/blob/main/firehose/commit-proof-fixtures.json>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn the_public_proofs_are_enough() {
    let mut stage = Stage::set_up();
    let folder = std::env::var_os("ZLAY_VECTORS").expect("ZLAY_VECTORS is set");
    let file = std::path::Path::new(&folder).join("firehose/commit-proof-fixtures.json");
    let fixtures: Vec<Value> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(!fixtures.is_empty());
    for fixture in &fixtures {
        let comment = fixture["comment"].as_str().unwrap();
        let list = |field: &str| -> Vec<&str> {
            let items = fixture[field].as_array().unwrap().iter();
            items.map(|item| item.as_str().unwrap()).collect()
        };
        let (keys, adds, dels) = (list("keys"), list("adds"), list("dels"));
        let leaf = Cid::parse(fixture["leafValue"].as_str().unwrap()).unwrap();
        let mut published = Tree::new();
        for key in keys.iter().chain(&adds) {
            published.set(key, leaf);
        }
        dels.iter().for_each(|key| {
            published.remove(key).unwrap();
        });
        assert_eq!(published.root().cid.to_string(), fixture["rootAfterCommit"]);

        let twins = twins(&[&keys[..], &adds].concat());
        let mut account = stage.site.account(0);
        let put = |key: &&str| {
            let record = record("com.example.note", "twin", 0);
            Write::Put(twins[*key].clone(), record)
        };
        let before: Vec<Write> = keys.iter().map(put).collect();
        stage.pass(&[&account.commit(&before)]);
        let deletes = dels.iter().map(|key| Write::Delete(twins[*key].clone()));
        let writes: Vec<Write> = adds.iter().map(put).chain(deletes).collect();
        let mut draft = account.draft(&writes);

        let proof: HashSet<&str> = list("blocksInProof").into_iter().collect();
        let mut nodes = HashMap::new();
        for key in keys.iter().chain(&adds) {
            let theirs = published.covering_proof(key);
            let ours = account.repo.tree().covering_proof(&twins[*key]);
            assert_eq!(theirs.len(), ours.len(), "{comment}");
            nodes.extend(theirs.iter().map(|node| node.cid.to_string()).zip(ours));
        }
        nodes.retain(|cid, _| proof.contains(cid.as_str()));
        assert_eq!(nodes.len(), proof.len(), "{comment}");
        draft.blocks = nodes.into_values().chain(records(&draft)).collect();
        stage.pass(&[&account.seal(draft).message.event()]);
    }
    all_passed(&stage);
}

/// For each key a path of a record, of the same layer and in the same order: the key itself where it
/// is one.
fn twins(keys: &[&str]) -> HashMap<String, String> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    let twin = |(n, key): (usize, &&str)| {
        let layer = tree::layer_of(key);
        let collection = char::from(b'a' + n as u8);
        let mut paths = (0..).map(|m: u32| format!("com.example.{collection}/{m}"));
        let twin = match RepoPath::split(key) {
            Ok(_) => (*key).to_owned(),
            Err(_) => paths.find(|path| tree::layer_of(path) == layer).unwrap(),
        };
        ((*key).to_owned(), twin)
    };
    keys.iter().enumerate().map(twin).collect()
}
