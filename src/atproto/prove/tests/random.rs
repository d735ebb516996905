//! Random repositories and random commits on them, through the whole proof.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::{
    atproto::mst::tests::inversion::{Change, all_nodes, needed, orders},
    sim::tree::{Tree as Whole, layer_of},
};

/// What a commit is like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Some of everything.
    Mixed,
    /// One operation.
    Single,
    /// All keys of the root's layer go, so that the tree becomes lower.
    Lower,
    /// Everything goes.
    Empty,
    /// The first records of an empty repository that has a past.
    Fill,
    /// The first commit of all, with records.
    First,
}

pub(super) const KINDS: [Kind; 6] = [
    Kind::Mixed,
    Kind::Single,
    Kind::Lower,
    Kind::Empty,
    Kind::Fill,
    Kind::First,
];

/// A commit that is not signed yet, of an account of either curve; the account is after it.
pub(super) fn commit(kind: Kind, rng: &mut fastrand::Rng) -> (Account, Draft) {
    let curve = [keys::Curve::K256, keys::Curve::P256][rng.usize(..2)];
    let mut account = Account::with_curve(rng, 0, curve);
    let some = rng.usize(1..120);
    let records: Vec<Write> = (0..some).map(|_| put(rng)).collect();
    if !matches!(kind, Kind::First) {
        account.commit(&records);
    }
    if matches!(kind, Kind::Fill) {
        let all = deletes(account.repo.tree(), |_| true);
        account.commit(&all);
        assert!(account.repo.tree().is_empty());
    }
    let mut writes = match kind {
        Kind::Mixed => (0..rng.usize(1..40))
            .map(|_| write(account.repo.tree(), rng))
            .collect(),
        Kind::Single => vec![write(account.repo.tree(), rng)],
        Kind::Lower => lower(account.repo.tree(), rng),
        Kind::Empty => deletes(account.repo.tree(), |_| true),
        Kind::Fill | Kind::First => records,
    };
    rng.shuffle(&mut writes);
    let mut seen = std::collections::HashSet::new();
    writes.retain(|write| {
        let (Write::Put(path, _) | Write::Delete(path)) = write;
        seen.insert(path.clone())
    });
    let draft = account.draft(&writes);
    assert_eq!(draft.ops.len(), writes.len());
    (account, draft)
}

/// A record that is new or replaces another.
fn put(rng: &mut fastrand::Rng) -> Write {
    // Some begin like others, and of most there is only little.
    let names = ["c", "c-x.y", "c.d", "b", "d", "a0", "a1", "zzz", "cc"];
    let names_most = 9 + rng.usize(..20);
    let rare = rng.usize(..names_most);
    let name = names.get(rare).unwrap_or(&"c");
    let path = format!("com.example.{name}/{}", rng.u32(..400));
    let record = Block::of_cbor([&[0x48][..], &rng.u64(..).to_be_bytes()].concat());
    Write::Put(path, record)
}

fn write(tree: &Whole, rng: &mut fastrand::Rng) -> Write {
    match (tree.pick(rng), put(rng), rng.u8(..4)) {
        (Some(path), _, 0 | 1) => Write::Delete(path.to_string()),
        (Some(path), Write::Put(_, record), 2) => Write::Put(path.to_string(), record),
        (_, new, _) => new,
    }
}

fn deletes(tree: &Whole, which: impl Fn(&str) -> bool) -> Vec<Write> {
    let keys = tree.keys().into_iter().filter(|key| which(key));
    keys.map(|key| Write::Delete(key.to_string())).collect()
}

/// Nothing of the root's layer is left, and perhaps something else changes below it.
fn lower(tree: &Whole, rng: &mut fastrand::Rng) -> Vec<Write> {
    let top = tree.layer().unwrap();
    let mut writes = deletes(tree, |key| layer_of(key) == top);
    for _ in 0..rng.usize(..4) {
        let write = write(tree, rng);
        let (Write::Put(path, _) | Write::Delete(path)) = &write;
        if layer_of(path) < top {
            writes.push(write);
        }
    }
    writes
}

fn changes(draft: &Draft) -> Vec<Change> {
    let ops = draft.ops.iter();
    ops.map(|op| Change {
        path: op.path.clone(),
        before: op.prev,
        after: op.cid,
    })
    .collect()
}

/// The draft with these nodes instead of its own.
fn with_nodes(draft: &Draft, nodes: &[Block], whole: &[Block]) -> Draft {
    let mut draft = draft.clone();
    let is_node = |block: &Block| whole.iter().any(|node| node.cid == block.cid);
    draft.blocks.retain(|block| !is_node(block));
    draft.blocks.extend_from_slice(nodes);
    draft
}

fn prove(draft: Draft, account: &Account) -> Result<Proven, Reject> {
    let sealed = draft.seal(&Signing::Valid(account.key.clone()));
    judge(&sealed.message.event().frame(1), account, false)
}

/// Proven with the nodes that a host sends, with all nodes of the tree, and with the fewest that
/// undoing the operations in any known order needs.
fn is_proven(kind: Kind, rng: &mut fastrand::Rng) {
    let (account, draft) = commit(kind, rng);
    let tree = account.repo.tree();
    let (changes, whole) = (changes(&draft), all_nodes(tree));
    let mut sets = vec![draft.blocks.clone(), whole.clone()];
    for order in orders(&changes) {
        let (nodes, before) = needed(tree, &order);
        assert_eq!(before, draft.prev_data.unwrap_or_else(mst::empty_root));
        sets.push(nodes);
    }
    for nodes in sets {
        let proven = prove(with_nodes(&draft, &nodes, &whole), &account);
        let proven = proven.unwrap_or_else(|e| panic!("{kind:?}, {changes:?}: {e:?}"));
        assert_eq!(
            (proven.data, proven.prev_data, proven.rev),
            (tree.root().cid, draft.prev_data, draft.rev)
        );
        assert!(!proven.legacy);
        assert_eq!(proven.touched, touched(&draft, tree), "{changes:?}");
    }
}

/// What the commit shows of the collections that it touches, by the whole tree after it: nothing is
/// left open.
fn touched(draft: &Draft, tree: &Whole) -> Touched {
    let names = draft
        .ops
        .iter()
        .map(|op| op.path.split_once('/').unwrap().0);
    let names: BTreeSet<&str> = names.collect();
    // In the order of the paths, in which a name comes after those that go on after it.
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_key(|name| format!("{name}/"));
    let keys = tree.keys();
    let presence = |name: &str| {
        let prefix = format!("{name}/");
        match keys.iter().any(|key| key.starts_with(&prefix)) {
            true => Presence::Present,
            false => Presence::Gone,
        }
    };
    let touched = names.iter().map(|name| (*name, presence(name)));
    Touched::of(&touched.collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn random_commits_are_proven(seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        for kind in KINDS {
            is_proven(kind, rng);
        }
    }

    /// Of the fewest nodes that one operation needs, not one can be left out.
    #[test]
    fn no_node_of_the_fewest_can_be_left_out(seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let (account, draft) = commit(Kind::Single, rng);
        let whole = all_nodes(account.repo.tree());
        let (nodes, _) = needed(account.repo.tree(), &changes(&draft));
        for without in 0..nodes.len() {
            let mut nodes = nodes.clone();
            nodes.remove(without);
            let verdict = prove(with_nodes(&draft, &nodes, &whole), &account);
            // A node left alone at the top is taken to be the root before, which it is not.
            let refused = [Err(Reject::TreeMissingBlock), Err(Reject::TreeMismatch)];
            prop_assert!(refused.contains(&verdict), "{verdict:?}");
        }
    }
}

#[test]
fn kinds_are_what_they_say() {
    let rng = &mut fastrand::Rng::with_seed(1);
    let (mut lowered, mut curves) = (0, Vec::new());
    for _ in 0..20 {
        let (account, draft) = commit(Kind::Empty, rng);
        assert_eq!(draft.data, mst::empty_root());
        assert!(draft.ops.iter().all(|op| op.action == "delete"));
        curves.push(account.key.curve());
        let (_, draft) = commit(Kind::Fill, rng);
        assert_eq!(draft.prev_data, Some(mst::empty_root()));
        let (_, draft) = commit(Kind::First, rng);
        assert_eq!((draft.prev_data, draft.since), (None, None));
        let (_, draft) = commit(Kind::Single, rng);
        assert_eq!(draft.ops.len(), 1);
        let (account, draft) = commit(Kind::Lower, rng);
        let mut before = account.repo.tree().clone();
        for change in changes(&draft) {
            match change.before {
                Some(cid) => before.set(&change.path, cid),
                None => before.remove(&change.path),
            };
        }
        lowered += usize::from(account.repo.tree().layer() < before.layer());
    }
    assert_eq!(lowered, 20);
    assert!(curves.contains(&keys::Curve::K256) && curves.contains(&keys::Curve::P256));
}
