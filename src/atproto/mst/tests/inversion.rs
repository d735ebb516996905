//! Undoing the operations of a commit.

use super::*;

/// What a commit did to one path: the record before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    pub(crate) path: String,
    pub(crate) before: Option<Cid>,
    pub(crate) after: Option<Cid>,
}

fn inverted(root: &Cid, blocks: &[Block], changes: &[Change]) -> Result<Cid, TreeError> {
    let mut buffer = event::car(1, &[*root], blocks);
    let car = 0..buffer.len();
    let mut push = |bytes: &[u8]| {
        let start = buffer.len();
        buffer.extend_from_slice(bytes);
        Span::new(start, buffer.len())
    };
    let ops: Vec<Op> = changes
        .iter()
        .map(|change| {
            let path = push(change.path.as_bytes());
            let mut link = |cid: &Cid| push(cid.as_bytes());
            let kind = match (&change.before, &change.after) {
                (None, Some(cid)) => OpKind::Create { cid: link(cid) },
                (Some(prev), Some(cid)) => OpKind::Update {
                    cid: link(cid),
                    prev: link(prev),
                },
                (Some(prev), None) => OpKind::Delete { prev: link(prev) },
                (None, None) => panic!("no change"),
            };
            Op { path, kind }
        })
        .collect();
    let mut table = BlockTable::new();
    table.read(&buffer, car).unwrap();
    let (mut tree, mut order) = (Tree::new(), Vec::new());
    let first = invert(&mut tree, root, &table, &buffer, &ops, &mut order);
    let again = invert(&mut tree, root, &table, &buffer, &ops, &mut order);
    assert_eq!(first, again, "nothing is left of the tree before");
    first
}

/// A random commit on a random repository, by the simulator's tree.
struct Commit {
    before: Cid,
    tree: Whole,
    changes: Vec<Change>,
    /// Every node of the tree after it.
    nodes: Vec<Block>,
    /// What a host sends: new nodes, and those beside each change.
    proof: Vec<Block>,
}

fn record(rng: &mut fastrand::Rng) -> Cid {
    Cid::of_cbor(&rng.u64(..).to_be_bytes())
}

fn path(rng: &mut fastrand::Rng) -> String {
    format!("com.example.c{}/{}", rng.u8(..3), rng.u32(..400))
}

fn commit(seed: u64) -> Commit {
    let rng = &mut fastrand::Rng::with_seed(seed);
    let mut tree = Whole::new();
    for _ in 0..rng.usize(..120) {
        tree.set(&path(rng), record(rng));
    }
    let before = tree.root().cid;
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    for _ in 0..1 + rng.usize(..12) {
        let path = match tree.pick(rng).filter(|_| rng.bool()) {
            Some(path) => path.to_string(),
            None => path(rng),
        };
        if changes.contains_key(&path) {
            continue;
        }
        let exists = tree.get(&path).is_some();
        let (before, after) = if exists && rng.bool() {
            (tree.remove(&path), None)
        } else {
            let cid = record(rng);
            (tree.set(&path, cid), Some(cid))
        };
        let change = Change {
            path: path.clone(),
            before,
            after,
        };
        changes.insert(path, change);
    }
    let mut changes: Vec<Change> = changes.into_values().collect();
    rng.shuffle(&mut changes);
    let mut proof = tree.fresh_blocks();
    for change in &changes {
        proof.extend(tree.covering_proof(&change.path));
    }
    let mut seen = HashSet::new();
    proof.retain(|block| seen.insert(block.cid));
    Commit {
        before,
        nodes: all_nodes(&tree),
        tree,
        changes,
        proof,
    }
}

/// The nodes of `tree`, which a commit has made, that undoing its changes in this order looks at;
/// and the root before.
pub(crate) fn needed(tree: &Whole, order: &[Change]) -> (Vec<Block>, Cid) {
    let nodes = all_nodes(tree);
    let mut tree = tree.clone();
    let mut needed: HashSet<Cid> = HashSet::from([tree.root().cid]);
    for change in order {
        let looked_at = tree.least_proof(&change.path, change.before.is_none());
        needed.extend(looked_at.iter().map(|block| block.cid));
        match change.before {
            Some(before) => tree.set(&change.path, before),
            None => tree.remove(&change.path),
        };
    }
    let nodes = nodes.into_iter().filter(|b| needed.contains(&b.cid));
    (nodes.collect(), tree.root().cid)
}

/// Every node of a tree.
pub(crate) fn all_nodes(tree: &Whole) -> Vec<Block> {
    let mut nodes = vec![tree.root()];
    for key in tree.keys() {
        nodes.extend(tree.covering_proof(&key));
    }
    let mut seen = HashSet::new();
    nodes.retain(|block| seen.insert(block.cid));
    nodes
}

/// The orders in which hosts have been seen to prove.
pub(crate) fn orders(changes: &[Change]) -> [Vec<Change>; 4] {
    let sorted = |by: fn(&Change, &Change) -> std::cmp::Ordering| {
        let mut order = changes.to_vec();
        order.sort_by(by);
        order
    };
    let is_delete = |change: &Change| change.after.is_none();
    let mut deletes_first = sorted(|a, b| a.path.cmp(&b.path));
    deletes_first.sort_by_key(|change| !is_delete(change));
    [
        changes.iter().rev().cloned().collect(),
        deletes_first,
        changes.to_vec(),
        sorted(|a, b| b.path.cmp(&a.path)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn commits_invert_to_the_root_before(seed in any::<u64>()) {
        let commit = commit(seed);
        let root = commit.tree.root().cid;
        for blocks in [&commit.proof, &commit.nodes] {
            prop_assert_eq!(inverted(&root, blocks, &commit.changes), Ok(commit.before));
        }
    }

    #[test]
    fn the_blocks_of_any_known_order_are_enough(seed in any::<u64>()) {
        let commit = commit(seed);
        let root = commit.tree.root().cid;
        for order in orders(&commit.changes) {
            let (blocks, before) = needed(&commit.tree, &order);
            prop_assert_eq!(before, commit.before);
            prop_assert_eq!(inverted(&root, &blocks, &commit.changes), Ok(commit.before));
        }
    }

    /// Whatever blocks are missing, the answer is the right one, or that blocks are missing, or such
    /// a block itself: one that is left alone at the top is taken to be the root, though it may be
    /// a node that only points further down.
    #[test]
    fn missing_blocks_never_change_the_answer(seed in any::<u64>()) {
        let mut commit = commit(seed);
        let root = commit.tree.root().cid;
        let mut rng = fastrand::Rng::with_seed(seed);
        while !commit.proof.is_empty() {
            commit.proof.swap_remove(rng.usize(..commit.proof.len()));
            match inverted(&root, &commit.proof, &commit.changes) {
                Ok(before) if before == commit.before => {}
                Ok(other) => {
                    prop_assert!(commit.nodes.iter().any(|block| block.cid == other));
                    prop_assert!(commit.proof.iter().all(|block| block.cid != other));
                }
                Err(error) => prop_assert_eq!(error, TreeError::MissingBlock),
            }
        }
    }

    /// One change hidden, invented, or told otherwise is never proven.
    #[test]
    fn other_operations_do_not_invert(seed in any::<u64>()) {
        let commit = commit(seed);
        let root = commit.tree.root().cid;
        let mut rng = fastrand::Rng::with_seed(seed);
        let at = rng.usize(..commit.changes.len());
        let mut lies = Vec::new();
        let mut lie = |change: &dyn Fn(&mut Vec<Change>)| {
            let mut changes = commit.changes.clone();
            change(&mut changes);
            lies.push(changes);
        };
        lie(&|changes| drop(changes.remove(at)));
        let other = record(&mut rng);
        lie(&|changes| changes.push(Change {
            path: "com.example.c0/invented".into(),
            before: None,
            after: Some(other),
        }));
        lie(&|changes| changes.push(Change {
            path: "com.example.c0/invented".into(),
            before: Some(other),
            after: None,
        }));
        if commit.changes[at].after.is_some() {
            lie(&|changes| changes[at].after = Some(other));
        }
        if commit.changes[at].before.is_some() {
            lie(&|changes| changes[at].before = Some(other));
        }
        for changes in lies {
            for blocks in [&commit.proof, &commit.nodes] {
                prop_assert_ne!(inverted(&root, blocks, &changes), Ok(commit.before));
            }
        }
    }

    /// Whatever loads encodes to the same bytes again, so a node has one form only.
    #[test]
    fn what_loads_is_canonical(seed in any::<u64>()) {
        let mut commit = commit(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        for block in commit.nodes.clone() {
            let mut bytes = block.bytes.to_vec();
            let at = rng.usize(..bytes.len());
            bytes[at] ^= 1 << rng.u8(..8);
            let damaged = Block::of_cbor(bytes);
            commit.nodes.push(damaged.clone());
            // The check is in `load`; most of these are refused.
            let _ = load(damaged.cid, &commit.nodes);
        }
    }
}
