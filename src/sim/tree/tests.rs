//! The tree against its definition, and against itself after every change.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::*;

/// The root of a map, from scratch: the definition, with no change in place.
pub(crate) fn naive_root(map: &BTreeMap<String, Cid>) -> Cid {
    fn node(entries: &[(&str, Cid)], layer: u32) -> Option<Cid> {
        if entries.is_empty() {
            return None;
        }
        let mut out = Writer::new();
        let mut parts = entries.split(|(key, _)| layer_of(key) == layer);
        let own: Vec<_> = entries
            .iter()
            .filter(|(key, _)| layer_of(key) == layer)
            .collect();
        let mut below = |out: &mut Writer| {
            let child = parts.next().and_then(|part| node(part, layer - 1));
            out.cid_or_null(child.as_ref());
        };
        let mut left = Writer::new();
        if layer > 0 {
            below(&mut left);
        } else {
            left.null();
        }
        out.map(2).text("e").array(own.len());
        let mut before = "";
        for (key, value) in own {
            let p = key
                .bytes()
                .zip(before.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            out.map(4).text("k").bytes(&key.as_bytes()[p..]);
            out.text("p").uint(p as u64).text("t");
            if layer > 0 {
                below(&mut out);
            } else {
                out.null();
            }
            out.text("v").cid(value);
            before = key;
        }
        out.text("l").raw(&left.into_bytes());
        Some(Cid::of_cbor(&out.into_bytes()))
    }
    let entries: Vec<_> = map.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let top = entries.iter().map(|(k, _)| layer_of(k)).max();
    top.and_then(|top| node(&entries, top))
        .unwrap_or_else(|| empty_node().cid)
}

fn leaf() -> Cid {
    Cid::parse("bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454").unwrap()
}

/// Rule 186: <https://github.com/bluesky-social/atproto/blob/main/packages/repo/tests/mst.test.ts>
#[test]
fn known_roots() {
    for (key, layer, root) in [
        (
            "com.example.record/3jqfcqzm3fo2j",
            0,
            "bafyreibj4lsc3aqnrvphp5xmrnfoorvru4wynt6lwidqbm2623a6tatzdu",
        ),
        (
            "com.example.record/3jqfcqzm3fx2j",
            2,
            "bafyreih7wfei65pxzhauoibu3ls7jgmkju4bspy4t2ha2qdjnzqvoy33ai",
        ),
    ] {
        let mut tree = Tree::new();
        tree.set(key, leaf());
        assert_eq!(tree.layer(), Some(layer));
        assert_eq!(tree.root().cid.to_string(), root);
    }
    let empty = "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm";
    assert_eq!(Tree::new().root().cid.to_string(), empty);
}

#[test]
fn layers_of_known_keys() {
    for (key, layer) in [
        ("2653ae71", 0),
        ("blue", 1),
        ("app.bsky.feed.post/454397e440ec", 4),
        ("app.bsky.feed.post/9adeb165882c", 8),
        ("", 0),
    ] {
        assert_eq!(layer_of(key), layer, "{key}");
    }
}

#[test]
fn any_history_ends_in_the_tree_that_scratch_gives() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..20 {
        let mut tree = Tree::new();
        let mut map = BTreeMap::new();
        let span = rng.u32(1..400);
        for step in 0..300u32 {
            let key = format!("app.bsky.feed.post/{:04}", rng.u32(..span));
            let value = Cid::of_cbor(&step.to_be_bytes());
            if rng.u32(..100) < 55 {
                assert_eq!(tree.set(&key, value), map.insert(key, value));
            } else {
                assert_eq!(tree.remove(&key), map.remove(&key));
            }
            assert_eq!(tree.len(), map.len());
            assert_eq!(tree.root().cid, naive_root(&map));
        }
        let keys: Vec<_> = map.keys().map(|k| Arc::from(k.as_str())).collect();
        assert_eq!(tree.keys(), keys);
        assert_eq!(tree.pick(&mut rng).is_none(), map.is_empty());
    }
}

#[test]
fn fresh_blocks_are_what_a_mirror_lacks() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut tree = Tree::new();
    let mut mirror: HashMap<Cid, Arc<[u8]>> = HashMap::new();
    for step in 0..200u32 {
        for _ in 0..rng.u32(1..8) {
            let key = format!("app.bsky.feed.like/{:03}", rng.u32(..150));
            if rng.bool() {
                tree.set(&key, Cid::of_cbor(&step.to_be_bytes()));
            } else {
                tree.remove(&key);
            }
        }
        mirror.extend(tree.fresh_blocks().into_iter().map(|b| (b.cid, b.bytes)));
        assert!(tree.fresh_blocks().len() <= 1, "only an empty tree again");
        let mut reachable = vec![tree.root.clone()];
        while let Some(node) = reachable.pop() {
            if let Some(node) = node {
                assert!(mirror.contains_key(&node.block().cid));
                reachable.extend(node.children.iter().cloned());
            }
        }
    }
}

/// What the commits of the interoperability fixtures show is what ours show.
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "ZLAY_VECTORS is not set")]
fn proofs_of_the_interoperability_fixtures() {
    let cases = vectors("firehose/commit-proof-fixtures.json");
    for case in cases.as_array().unwrap() {
        let strings = |name: &str| -> Vec<String> {
            let items = case[name].as_array().unwrap().iter();
            items.map(|s| s.as_str().unwrap().to_owned()).collect()
        };
        let value = Cid::parse(case["leafValue"].as_str().unwrap()).unwrap();
        let mut tree = Tree::new();
        for key in strings("keys") {
            tree.set(&key, value);
        }
        assert_eq!(tree.root().cid.to_string(), case["rootBeforeCommit"]);
        let (adds, dels) = (strings("adds"), strings("dels"));
        adds.iter()
            .for_each(|key| assert!(tree.set(key, value).is_none()));
        dels.iter()
            .for_each(|key| assert!(tree.remove(key).is_some()));
        assert_eq!(tree.root().cid.to_string(), case["rootAfterCommit"]);
        let proof: HashSet<String> = adds
            .iter()
            .chain(&dels)
            .flat_map(|key| tree.covering_proof(key))
            .map(|block| block.cid.to_string())
            .collect();
        let wanted: HashSet<String> = strings("blocksInProof").into_iter().collect();
        assert_eq!(proof, wanted, "{}", case["comment"]);
    }
}

#[test]
#[cfg_attr(not(zlay_vectors), ignore = "ZLAY_VECTORS is not set")]
fn layers_and_keys_of_the_interoperability_fixtures() {
    for case in vectors("mst/key_heights.json").as_array().unwrap() {
        let key = case["key"].as_str().unwrap();
        assert_eq!(u64::from(layer_of(key)), case["height"], "{key}");
    }
}

fn vectors(path: &str) -> serde_json::Value {
    let root = std::env::var_os("ZLAY_VECTORS").unwrap();
    let file = std::path::Path::new(&root).join(path);
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn proofs_hold_path_and_neighbours() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut tree = Tree::new();
    for i in 0..500u32 {
        tree.set(&format!("c.o.l/{i:05}"), Cid::of_cbor(&i.to_be_bytes()));
    }
    let keys = tree.keys();
    for _ in 0..100 {
        let i = rng.usize(1..keys.len() - 1);
        let proof: HashSet<Cid> = tree
            .covering_proof(&keys[i])
            .iter()
            .map(|b| b.cid)
            .collect();
        for neighbour in [&keys[i - 1], &keys[i], &keys[i + 1]] {
            let mut next = tree.root.as_ref();
            while let Some(node) = next {
                assert!(proof.contains(&node.block().cid));
                next = match node.find(neighbour) {
                    Ok(_) => None,
                    Err(at) => node.children[at].as_ref(),
                };
            }
        }
    }
}

#[test]
fn least_proofs_are_what_changes() {
    let mut rng = fastrand::Rng::with_seed(6);
    let mut smaller = 0;
    for _ in 0..200 {
        let mut tree = Tree::new();
        for _ in 0..rng.usize(1..80) {
            tree.set(&format!("c.o.l/{}", rng.u32(..400)), Cid::of_cbor(b"x"));
        }
        let key = tree.pick(&mut rng).unwrap();
        let cids = |blocks: Vec<Block>| -> HashSet<Cid> { blocks.iter().map(|b| b.cid).collect() };
        let nodes = |tree: &Tree| -> Vec<Block> {
            let keys = tree.keys();
            keys.iter()
                .flat_map(|key| tree.covering_proof(key))
                .collect()
        };
        let covering = cids(tree.covering_proof(&key));
        let least = cids(tree.least_proof(&key, true));
        let path = cids(tree.least_proof(&key, false));
        assert!(path.is_subset(&least) && least.is_subset(&covering));
        smaller += usize::from(least.len() < covering.len());
        let before = nodes(&tree);
        tree.remove(&key);
        let after = cids(nodes(&tree));
        assert!(least.is_disjoint(&after));
        let mut others = before.iter().filter(|node| !least.contains(&node.cid));
        assert!(others.all(|node| after.contains(&node.cid)));
    }
    assert!(smaller > 10, "{smaller}");
}
