//! Operations, tree and `prevData` that do not belong together, and proofs that lack something.

use zlay::{
    atproto::cid::Cid,
    reject::Reject,
    sim::{
        account::{self, Account},
        event::Op,
        repo::{Draft, Repo, Write},
        tree::Block,
    },
};

use super::{
    forgery::{
        Case, Spoil, drops_all, forge, forge_draft, in_draft, in_parts, link, null, one_of_each,
        writer,
    },
    shape::{Node, inner, keys_after, leaf},
};
use crate::stage::Stage;

const CREATE: usize = 0;
const UPDATE: usize = 1;
const DELETE: usize = 2;

/// A record that is in nobody's tree.
fn another_record() -> Block {
    account::record("com.example.other", "another", 7)
}

/// Rule 104: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn a_record_that_is_not_there() {
    let without = |n: usize| {
        in_draft(move |draft| {
            let record = draft.ops[n].cid.unwrap();
            draft.blocks.retain(|block| block.cid != record);
        })
    };
    // It is there, but under another CID: as raw bytes.
    let raw = |n: usize| {
        in_parts(move |parts| {
            let record = parts.ops[n].get("cid").to_vec();
            let named = |cid: &[u8]| record.ends_with(cid);
            let block = parts.blocks.iter_mut().find(|block| named(&block.cid));
            block.unwrap().cid[1] = 0x55;
        })
    };
    let cases = [
        ("of a create", without(CREATE)),
        ("of an update", without(UPDATE)),
        ("of a create, but as raw bytes", raw(CREATE)),
        ("of an update, but as raw bytes", raw(UPDATE)),
    ];
    let cases = cases.map(|(name, spoil)| Case::new(name, spoil, Reject::RecordMissing));
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// The tree has changed in three places, of which the operations name two; or one, or none. The
/// proof covers them all.
///
/// Rules 105, 112: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn a_change_that_is_hidden() {
    let mut cases = Vec::new();
    for hidden in [
        &[CREATE][..],
        &[UPDATE],
        &[DELETE],
        &[CREATE, UPDATE],
        &[CREATE, DELETE],
    ] {
        let spoil = in_draft(|draft| {
            for n in hidden.iter().rev() {
                draft.ops.remove(*n);
            }
        });
        cases.push(Case::new(
            format!("{hidden:?}"),
            spoil,
            Reject::TreeMismatch,
        ));
    }
    let all = in_draft(|draft| draft.ops.clear());
    cases.push(Case::new("all", all, Reject::TreeMismatch));
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// A delete alone, or two, of which one is not said, and the proof is just that of what is said.
///
/// Rule 105: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn a_delete_that_is_hidden_from_the_proof_too() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let keys = account.repo.tree().keys();
    let delete = |n: usize| Write::Delete(keys[n].to_string());
    for (said, hidden) in [
        (vec![], 1),
        (vec![delete(0)], 1),
        (vec![account.post("x")], 0),
    ] {
        let mut other = account.clone();
        let writes = [said.clone(), vec![delete(hidden)]].concat();
        let mut draft = other.draft(&writes);
        let gone = draft.ops.pop().unwrap();
        assert_eq!(gone.path, *keys[hidden]);
        // The nodes around what is said, in the tree as it is now.
        let tree = other.repo.tree();
        let proof: Vec<_> = draft
            .ops
            .iter()
            .flat_map(|op| tree.covering_proof(&op.path))
            .collect();
        let said: Vec<_> = draft.ops.iter().filter_map(|op| op.cid).collect();
        draft
            .blocks
            .retain(|block| said.contains(&block.cid) || proof.contains(block));
        let event = forge_draft(&account, draft, &Spoil::Nothing);
        stage.drops(&mut account, &event, Reject::TreeMismatch);
    }
}

/// Puts into the proof what shows that an operation does not hold.
fn invent(draft: &mut Draft, account: &Account, op: Op) {
    let proof = account.repo.tree().covering_proof(&op.path);
    draft.blocks.extend(proof);
    draft.ops.push(op);
}

fn op(action: &str, path: &str, cid: Option<Cid>, prev: Option<Cid>) -> Op {
    Op {
        action: action.to_owned(),
        path: path.to_owned(),
        cid,
        prev,
    }
}

/// Each invention comes with the record that it speaks of and with the nodes around its path.
///
/// Rule 106: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn a_change_that_is_invented() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let other = another_record();
    // Whether it is beside a key that the proof covers anyway, or elsewhere.
    let absent = |account: &Account| {
        let keys = account.repo.tree().keys();
        [format!("{}0", keys[0]), "zz.example.a/last".to_owned()]
    };
    let kept = |account: &Account| account.repo.tree().keys()[3].to_string();
    let value = |account: &Account| account.repo.tree().get(&kept(account)).unwrap();
    type Invention<'a> = Box<dyn Fn(&Account) -> Op + 'a>;
    let inventions: Vec<(&str, Invention<'_>)> = vec![
        (
            "a create",
            Box::new(|a| op("create", &absent(a)[0], Some(other.cid), None)),
        ),
        (
            "a create elsewhere",
            Box::new(|a| op("create", &absent(a)[1], Some(other.cid), None)),
        ),
        (
            "an update",
            Box::new(|a| op("update", &absent(a)[0], Some(other.cid), Some(value(a)))),
        ),
        (
            "an update that did not happen",
            Box::new(|a| op("update", &kept(a), Some(other.cid), Some(value(a)))),
        ),
        (
            "an update of what is there from something else",
            Box::new(|a| op("update", &kept(a), Some(value(a)), Some(other.cid))),
        ),
        (
            "a create of what was there",
            Box::new(|a| op("create", &kept(a), Some(value(a)), None)),
        ),
        (
            "a create of something else",
            Box::new(|a| op("create", &kept(a), Some(other.cid), None)),
        ),
        (
            "a delete of what is still there",
            Box::new(|a| op("delete", &kept(a), None, Some(value(a)))),
        ),
        (
            "a delete of what was not there",
            Box::new(|a| op("delete", &absent(a)[0], None, Some(other.cid))),
        ),
        (
            "a delete of what was not there elsewhere",
            Box::new(|a| op("delete", &absent(a)[1], None, Some(other.cid))),
        ),
    ];
    for (name, invention) in &inventions {
        println!("{name}");
        let mut copy = account.clone();
        let mut draft = copy.draft(&one_of_each(&account));
        invent(&mut draft, &copy, invention(&copy));
        draft.blocks.push(other.clone());
        // The record that is there already is not usually sent; here it must not be missed.
        let known = account::record("app.bsky.feed.post", "hello", 4);
        assert_eq!(known.cid, value(&copy));
        draft.blocks.push(known);
        let event = forge_draft(&account, draft, &Spoil::Nothing);
        stage.drops(&mut account, &event, Reject::TreeMismatch);
    }
}

/// Rule 106: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn a_record_other_than_the_trees() {
    let other = |n: usize| {
        in_draft(move |draft| {
            draft.ops[n].cid = Some(another_record().cid);
            draft.blocks.push(another_record());
        })
    };
    let exchanged = in_draft(|draft| {
        let (create, update) = (draft.ops[CREATE].cid, draft.ops[UPDATE].cid);
        draft.ops[CREATE].cid = update;
        draft.ops[UPDATE].cid = create;
    });
    let cases = [
        ("a create", other(CREATE)),
        ("an update", other(UPDATE)),
        ("two exchanged", exchanged),
    ];
    let cases = cases.map(|(name, spoil)| Case::new(name, spoil, Reject::TreeMismatch));
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// Rule 107: <https://atproto.com/specs/sync#repository-operations>
#[test]
fn a_prev_that_was_not_there() {
    let prev = |n: usize, cid: fn(&Draft) -> Cid| {
        in_draft(move |draft| draft.ops[n].prev = Some(cid(draft)))
    };
    let raw = |n: usize| {
        in_parts(move |parts| {
            let prev = parts.ops[n].get("prev").to_vec();
            let mut cid = prev[prev.len() - 36..].to_vec();
            cid[1] = 0x55;
            parts.ops[n].set("prev", link(&cid));
        })
    };
    let cases = [
        (
            "an update of another",
            prev(UPDATE, |_| another_record().cid),
        ),
        (
            "a delete of another",
            prev(DELETE, |_| another_record().cid),
        ),
        (
            "an update of what was deleted",
            prev(UPDATE, |draft| draft.ops[DELETE].prev.unwrap()),
        ),
        (
            "a delete of what was updated",
            prev(DELETE, |draft| draft.ops[UPDATE].prev.unwrap()),
        ),
        ("an update of raw bytes", raw(UPDATE)),
        ("a delete of raw bytes", raw(DELETE)),
    ];
    let cases = cases.map(|(name, spoil)| Case::new(name, spoil, Reject::TreeMismatch));
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// An earlier tree of this account, the tree of another, the present one, the empty one, one that
/// is nobody's; with operations, and without.
///
/// Rules 108, 112: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn a_prev_data_that_was_not_before() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let earlier = account.repo.tree().root().cid;
    let of_another = stage.bystander.repo.tree().root().cid;
    let empty = Repo::new("did:plc:ewvi7nxzyoun6zhxrhs64oiz".into())
        .tree()
        .root()
        .cid;
    let nobodys = Cid::of_cbor(b"nobody's");
    drops_all(&mut stage, &mut account, &[]);
    let wrong = [
        ("an earlier one", earlier),
        ("another account's", of_another),
        ("the empty tree", empty),
        ("nobody's", nobodys),
    ];
    for (name, root) in wrong {
        println!("{name}");
        let spoil = in_draft(move |draft| draft.prev_data = Some(root));
        let forged = forge(&account, &one_of_each(&account), &spoil);
        stage.drops(&mut account, &forged, Reject::TreeMismatch);
        let forged = forge(&account, &[], &spoil);
        stage.drops(&mut account, &forged, Reject::TreeMismatch);
    }
    let now = in_draft(|draft| draft.prev_data = Some(draft.data));
    let forged = forge(&account, &one_of_each(&account), &now);
    stage.drops(&mut account, &forged, Reject::TreeMismatch);
    let raw = in_parts(|parts| {
        let root = parts.message.get("prevData").to_vec();
        let mut cid = root[root.len() - 36..].to_vec();
        cid[1] = 0x55;
        parts.message.set("prevData", link(&cid));
    });
    for writes in [one_of_each(&account), Vec::new()] {
        let forged = forge(&account, &writes, &raw);
        stage.drops(&mut account, &forged, Reject::TreeMismatch);
    }
}

/// Left out with and without `since`; and a commit that is right as the first of an account, by an
/// account of which others are known.
///
/// Rule 109: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn no_prev_data_though_there_was_something() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let left_out = |since: bool| {
        in_parts(move |parts| {
            parts.message.remove("prevData");
            if !since {
                parts.message.set("since", null());
            }
        })
    };
    // Without `since` it is the first commit of an account, whose tree was empty before.
    let cases = [
        Case::new("with since", left_out(true), Reject::NotInductive),
        Case::new("without since", left_out(false), Reject::TreeMismatch),
    ];
    drops_all(&mut stage, &mut account, &cases);
    for writes in [one_of_each(&account), Vec::new()] {
        let forged = forge(&account, &writes, &left_out(true));
        stage.drops(&mut account, &forged, Reject::NotInductive);
    }
    let mut anew = account.clone();
    anew.repo = Repo::new(account.did().clone());
    for writes in [vec![account.post("first")], Vec::new()] {
        let forged = forge(&anew, &writes, &Spoil::Nothing);
        stage.drops(&mut account, &forged, Reject::NotInductive);
    }
}

/// What one commit does to the tree of [`needed`], and the nodes that undoing it takes.
struct Needed {
    name: &'static str,
    writes: Vec<Write>,
    nodes: Vec<Node>,
}

/// Changes of a tree of two layers; its keys, in order: three of layer 0, one of layer 1, four of
/// layer 0, one of layer 1. With each come the nodes of the tree that it leads to without which it
/// can not be undone.
fn needed() -> (Vec<String>, Vec<Needed>) {
    let a: [_; 3] = keys_after("", 0);
    let [b] = keys_after(&a[2], 1);
    let [c0, c1] = keys_after(&b, 0);
    let [between] = keys_after(&c1, 1);
    let [c2, c3] = keys_after(&between, 0);
    let [d] = keys_after(&c3, 1);
    let before = [&a[0], &a[1], &a[2], &b, &c0, &c1, &c2, &c3, &d];
    let before: Vec<String> = before.into_iter().cloned().collect();

    let put = |key: &String| Write::Put(key.clone(), another_record());
    let left = leaf(&a.each_ref());
    let root = |first: Node, rest: Vec<(&String, Option<Node>)>| inner(Some(first), rest);
    let of_two = |middle: &Node| root(left.clone(), vec![(&b, Some(middle.clone())), (&d, None)]);
    let split = (leaf(&[&c0, &c1]), leaf(&[&c2, &c3]));
    let joined = leaf(&[&a[0], &a[1], &a[2], &c0, &c1, &c2, &c3]);
    let fewer = leaf(&[&c0, &c2, &c3]);
    let halves = vec![
        (&b, Some(split.0.clone())),
        (&between, Some(split.1.clone())),
        (&d, None),
    ];
    let at_top = [&a[0], &a[1], &a[2], &c0, &c1, &c2, &c3];
    let needed = vec![
        Needed {
            name: "a create in layer 1, which parts a node",
            writes: vec![put(&between)],
            nodes: vec![root(left.clone(), halves), split.0, split.1],
        },
        Needed {
            name: "a delete in layer 1, which joins two",
            writes: vec![Write::Delete(b.clone())],
            nodes: vec![root(joined.clone(), vec![(&d, None)]), joined],
        },
        Needed {
            name: "a delete in layer 0",
            writes: vec![Write::Delete(c1.clone())],
            nodes: vec![of_two(&fewer), fewer],
        },
        Needed {
            name: "deletes of all of layer 1, which lower the tree",
            writes: vec![Write::Delete(b.clone()), Write::Delete(d.clone())],
            nodes: vec![leaf(&at_top)],
        },
    ];
    (before, needed)
}

/// Each node that the proof needs is left out once, all others stay; the same with all of them
/// passes.
///
/// Rule 110: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn a_node_that_is_not_there() {
    let mut stage = Stage::set_up();
    let (before, needed) = needed();
    let record = another_record();
    for Needed {
        name,
        writes,
        nodes,
    } in needed
    {
        let mut account = stage.site.account(0);
        let put = |key: &String| Write::Put(key.clone(), record.clone());
        let first: Vec<_> = before.iter().map(put).collect();
        stage.pass(&[&account.commit(&first)]);
        for (n, node) in nodes.iter().enumerate() {
            println!("{name}: node {n}");
            let cid = node.blocks(record.cid.as_bytes()).pop().unwrap().cid;
            let spoil = in_draft(move |draft| {
                let count = draft.blocks.len();
                draft.blocks.retain(|block| block.cid.as_bytes()[..] != cid);
                assert_eq!(draft.blocks.len(), count - 1, "it was there");
            });
            let forged = forge(&account, &writes, &spoil);
            stage.refuse(0, &forged, Reject::TreeMissingBlock);
        }
        // The state before is still there, and nothing more is needed than these nodes.
        let draft = account.draft(&writes);
        let cids: Vec<_> = nodes
            .iter()
            .map(|node| node.blocks(record.cid.as_bytes()).pop().unwrap().cid)
            .collect();
        let minimal = in_parts(move |parts| {
            let record = another_record().cid;
            parts
                .blocks
                .retain(|block| cids.contains(&block.cid) || block.cid == record.as_bytes());
        });
        let discontinuous = stage.relay.metric("relay_events_discontinuous_total");
        stage.pass(&[&forge_draft(&account, draft, &minimal)]);
        let name = "relay_events_discontinuous_total";
        assert_eq!(stage.relay.metric(name), discontinuous);
    }
}
