//! Commits that must pass, unusual as they are: forwarded as they came but for `seq`.

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;
use zlay::{
    atproto::{cbor::Writer, cid::Cid, tid::Tid},
    limits::{COMMIT_BLOCKS_BYTES_MAX, COMMIT_OPS_MAX, RECORD_BYTES_MAX},
    reject::Reject,
    sim::{
        account::{Account, record},
        clock,
        event::{self, Event},
        keys::Curve,
        plc::DocumentForm,
        repo::{Sealed, Write},
        tree::{Block, Tree},
    },
};

use crate::{
    craft::{self, Fields},
    site::{next_commit, wait_until},
    stage::Stage,
    subscriber,
};

mod proofs;

const DISCONTINUOUS: &str = "relay_events_discontinuous_total";

/// The account's next commit, with everything in it.
fn commit(account: &mut Account, writes: &[Write]) -> Sealed {
    let draft = account.draft(writes);
    account.seal(draft)
}

/// A write of a record of a collection of these tests.
fn put(rkey: &str, text: &str) -> Write {
    let record = record("com.example.note", text, 0);
    Write::Put(format!("com.example.note/{rkey}"), record)
}

fn delete(rkey: &str) -> Write {
    Write::Delete(format!("com.example.note/{rkey}"))
}

/// Nothing was refused so far, and every commit continued the one before.
fn all_passed(stage: &Stage) {
    assert_eq!(stage.relay.rejects(), BTreeMap::new());
    assert_eq!(stage.relay.metric(DISCONTINUOUS), 0);
}

/// The event that was published last, as bytes.
fn last_frame(stage: &Stage) -> Vec<u8> {
    let before = stage.relay.metric("relay_seq") - 1;
    let mut websocket = subscriber::open(stage.relay.public, Some(&before.to_string())).unwrap();
    loop {
        if let tungstenite::Message::Binary(frame) = websocket.read().unwrap() {
            return frame.to_vec();
        }
    }
}

/// Read with a decoder that shares no code with the relay.
///
/// Rules 9, 56: <https://atproto.com/specs/sync#commit-events>
#[test]
fn what_arrives_is_what_was_sent_but_for_its_seq() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let link = |cid: &Cid| Ipld::Link(cid.as_bytes().as_slice().try_into().unwrap());
    let text = |text: &str| Ipld::String(text.to_owned());
    for writes in [
        vec![put("a", "one")],
        vec![put("a", "two"), put("b", "one")],
        vec![delete("a")],
    ] {
        let message = commit(&mut account, &writes).message;
        let event = message.event();
        let host = stage.site.network.host(0);
        let upstream = host.emit_at(&event, host.seq() + 1_000_000);
        stage.subscriber.expect(&[&event]);

        let (header, payload) = craft::items(&last_frame(&stage));
        let expected = [("op", Ipld::Integer(1)), ("t", text("#commit"))];
        let expected: Fields = expected.map(|(key, value)| (key.to_owned(), value)).into();
        assert_eq!(header, expected);
        let ops = message.ops.iter().map(|op| {
            let mut fields = Fields::new();
            fields.insert("action".into(), text(&op.action));
            fields.insert("path".into(), text(&op.path));
            fields.insert("cid".into(), op.cid.as_ref().map_or(Ipld::Null, link));
            if let Some(prev) = &op.prev {
                fields.insert("prev".into(), link(prev));
            }
            Ipld::Map(fields)
        });
        let seq = stage.relay.metric("relay_seq");
        assert_ne!(seq, upstream);
        let expected = [
            ("seq", Ipld::Integer(seq.into())),
            ("repo", text(account.did())),
            ("rev", text(&message.rev)),
            ("since", text(message.since.as_ref().unwrap())),
            ("commit", link(&message.commit)),
            ("prevData", link(message.prev_data.as_ref().unwrap())),
            ("ops", Ipld::List(ops.collect())),
            ("blocks", Ipld::Bytes(message.blocks.clone())),
            ("blobs", Ipld::List(Vec::new())),
            ("time", text(&message.time)),
            ("rebase", Ipld::Bool(false)),
            ("tooBig", Ipld::Bool(false)),
        ];
        let expected: Fields = expected.map(|(key, value)| (key.to_owned(), value)).into();
        assert_eq!(payload, expected);
    }
    all_passed(&stage);
}

/// Rule 57: <https://atproto.com/specs/sync#repository-operations>
#[test]
fn every_sort_of_operation_passes() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for (writes, actions) in [
        (vec![put("a", "one")], vec!["create"]),
        (vec![put("a", "two")], vec!["update"]),
        (vec![delete("a")], vec!["delete"]),
        (
            vec![put("a", "one"), put("b", "one"), put("c", "one")],
            vec!["create"; 3],
        ),
        (vec![put("c", "two"), put("a", "two")], vec!["update"; 2]),
        (
            vec![delete("b"), put("d", "one"), put("a", "three")],
            vec!["delete", "create", "update"],
        ),
        (vec![delete("d"), delete("a")], vec!["delete"; 2]),
    ] {
        let message = commit(&mut account, &writes).message;
        let ops: Vec<_> = message.ops.iter().map(|op| op.action.as_str()).collect();
        assert_eq!(ops, actions);
        stage.pass(&[&message.event()]);
    }
    all_passed(&stage);
}

/// With and without the root of the tree, which is not new and need not be there.
///
/// Rule 58: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn commits_without_operations_pass() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for with_root in [false, true, false] {
        let mut draft = account.draft(&[]);
        assert_eq!(draft.prev_data, Some(draft.data));
        if with_root {
            draft.blocks.push(account.repo.tree().root());
        }
        let sealed = account.seal(draft);
        assert_eq!(sealed.blocks.len(), 1 + usize::from(with_root));
        stage.pass(&[&sealed.message.event()]);
    }
    stage.pass(&[&next_commit(&mut account)]);
    all_passed(&stage);
}

/// Known are its revision, so that the same commit does not pass twice, and its tree, so that the
/// next one continues it. A host may say that what was before it is the tree without records.
///
/// Rule 59: <https://atproto.com/guides/account-lifecycle>
#[test]
fn a_first_commit_makes_its_account_known() {
    let mut stage = Stage::set_up();
    let known = stage.relay.metric("relay_accounts");
    let mut count = 0;
    for writes in [
        vec![put("a", "one")],
        vec![put("a", "one"), put("b", "one"), put("c", "one")],
        Vec::new(),
    ] {
        for before in [None, Some(Tree::new().root().cid)] {
            let mut account = stage.site.account(0);
            let mut message = commit(&mut account, &writes).message;
            assert_eq!((&message.since, message.prev_data), (&None, None));
            message.prev_data = before;
            stage.pass(&[&message.event()]);
            stage.drops(&mut account, &message.event(), Reject::RevStale);
            count += 1;
        }
    }
    wait_until("the accounts are known", || {
        stage.relay.metric("relay_accounts") == known + count
    });
}

/// Rule 60: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn an_account_may_be_older_than_what_is_known_of_it() {
    let mut stage = Stage::set_up();
    let mut account = stage.site.account(0);
    for _ in 0..20 {
        next_commit(&mut account);
    }
    for writes in [vec![put("a", "one")], vec![delete("a")]] {
        let message = commit(&mut account, &writes).message;
        assert!(message.since.is_some() && message.prev_data.is_some());
        stage.pass(&[&message.event()]);
    }
    all_passed(&stage);
}

/// Passes a commit of several operations whose blocks `change` has arranged; it is given the commit
/// object and all others.
fn pass_arranged(
    stage: &mut Stage,
    account: &mut Account,
    change: impl FnOnce(&mut Vec<Block>, &Block),
) {
    let count = account.records().to_string();
    let writes = [account.post("one"), put("a", &count), put(&count, "two")];
    let mut sealed = commit(account, &writes);
    let object = sealed.commit.clone();
    sealed.blocks.retain(|block| *block != object);
    change(&mut sealed.blocks, &object);
    craft::repack(&mut sealed, &[object.cid]);
    stage.pass(&[&sealed.message.event()]);
}

/// Rule 61: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn blocks_may_come_in_any_order() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let mut rng = fastrand::Rng::with_seed(61);
    let (stage, account) = (&mut stage, &mut account);
    pass_arranged(stage, account, |blocks, object| blocks.push(object.clone()));
    pass_arranged(stage, account, |blocks, object| {
        blocks.insert(0, object.clone());
    });
    // Records before nodes, nodes from the root down.
    pass_arranged(stage, account, |blocks, object| {
        blocks.reverse();
        blocks.push(object.clone());
    });
    pass_arranged(stage, account, |blocks, object| {
        blocks.push(object.clone());
        blocks.sort_by_key(|block| block.cid);
    });
    for _ in 0..5 {
        pass_arranged(stage, account, |blocks, object| {
            blocks.push(object.clone());
            rng.shuffle(blocks);
        });
    }
    all_passed(stage);
}

/// Rule 62: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn blocks_may_be_repeated_and_unrelated() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let (foreign, foreign_node) = {
        let sealed = commit(&mut stage.bystander, &[put("a", "foreign")]);
        stage.pass(&[&sealed.message.event()]);
        (sealed.commit, stage.bystander.repo.tree().root())
    };
    let old_tree = account.repo.tree().root();
    let (stage, account) = (&mut stage, &mut account);
    pass_arranged(stage, account, |blocks, object| {
        blocks.push(object.clone());
        let again = blocks.clone();
        blocks.extend(again);
    });
    pass_arranged(stage, account, |blocks, object| {
        blocks.push(object.clone());
        *blocks = blocks.iter().flat_map(|b| vec![b.clone(); 3]).collect();
    });
    let nothing = craft::filler(1 + Cid::LEN);
    assert!(nothing.bytes.is_empty());
    // What belongs to nobody, to another account, and to an earlier tree.
    let unrelated = [
        nothing,
        craft::filler(1_000),
        foreign,
        foreign_node,
        old_tree,
    ];
    for unrelated in unrelated {
        for last in [false, true] {
            pass_arranged(stage, account, |blocks, object| {
                blocks.push(object.clone());
                let at = if last { blocks.len() } else { 0 };
                blocks.insert(at, unrelated.clone());
            });
        }
    }
    all_passed(stage);
}

/// Rule 63: <https://atproto.com/specs/repository#car-file-serialization>
#[test]
fn there_may_be_more_roots_behind_the_commit() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for n in 0..4 {
        let mut sealed = commit(&mut account, &[put("a", &n.to_string())]);
        let root = sealed.commit.cid;
        let more = match n {
            0 => vec![account.repo.tree().root().cid],
            1 => vec![root],
            2 => vec![craft::filler(100).cid],
            _ => sealed.blocks.iter().map(|block| block.cid).collect(),
        };
        let roots = [vec![root], more].concat();
        craft::repack(&mut sealed, &roots);
        stage.pass(&[&sealed.message.event()]);
    }
    all_passed(&stage);
}

/// Rules 57, 64: <https://atproto.com/specs/sync#limits>
#[test]
fn every_limit_may_be_met() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let many = |text: &str| -> Vec<Write> {
        let writes = (0..COMMIT_OPS_MAX).map(|n| put(&n.to_string(), text));
        writes.collect()
    };
    let large = |rkey: &str| {
        let record = craft::record_of(RECORD_BYTES_MAX);
        Write::Put(format!("com.example.large/{rkey}"), record)
    };
    let mut mixed = many("two");
    for (n, write) in mixed.iter_mut().enumerate() {
        if n % 3 == 0 {
            *write = delete(&n.to_string());
        }
    }
    let last = mixed.len() - 1;
    mixed[last] = large("b");
    for (writes, fill) in [
        (vec![large("a")], false),
        (vec![put("few", "one")], true),
        (many("one"), false),
        // All of them at once.
        (mixed, true),
    ] {
        let mut sealed = commit(&mut account, &writes);
        assert_eq!(sealed.message.ops.len(), writes.len());
        if fill {
            let left = COMMIT_BLOCKS_BYTES_MAX - sealed.message.blocks.len();
            let root = sealed.commit.cid;
            sealed.blocks.push(craft::filler(left));
            craft::repack(&mut sealed, &[root]);
            assert_eq!(sealed.message.blocks.len(), COMMIT_BLOCKS_BYTES_MAX);
        }
        stage.pass(&[&sealed.message.event()]);
    }
    assert_eq!([COMMIT_OPS_MAX, RECORD_BYTES_MAX], [200, 1_000_000]);
    assert_eq!(COMMIT_BLOCKS_BYTES_MAX, 2_000_000);
    all_passed(&stage);
}

/// The longest path that there can be among them.
///
/// Rule 70: <https://atproto.com/specs/record-key>
#[test]
fn record_keys_may_be_of_every_allowed_character() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let label = "a".repeat(63);
    let longest_nsid = format!("com.{label}.{label}.{label}.{}.{label}", "b".repeat(57));
    assert_eq!(longest_nsid.len(), 317);
    let long = "x".repeat(512);
    let keys = [
        "a:b",
        ":",
        "~",
        "_",
        "-",
        "a.b",
        "...",
        "~.~",
        "_a:-",
        "A",
        "0",
        "self",
        "example.com",
        "did:plc:abc",
        "lang:en~1.0_x-y",
        &long,
    ];
    let path = |key: &str| match key.len() {
        512 => format!("{longest_nsid}/{key}"),
        _ => format!("com.example.note/{key}"),
    };
    let write = |key: &str, text: &str| Write::Put(path(key), record("com.example.note", text, 0));
    for key in keys {
        let message = commit(&mut account, &[write(key, "one")]).message;
        assert_eq!(message.ops[0].path, path(key));
        stage.pass(&[&message.event()]);
    }
    let updates = keys.map(|key| write(key, "two"));
    stage.pass(&[&account.commit(&updates)]);
    let deletes = keys.map(|key| Write::Delete(path(key)));
    stage.pass(&[&account.commit(&deletes)]);
    all_passed(&stage);
}

/// CIDs of another hash, of the old form, of another codec, and of raw bytes.
fn strange_links() -> [Vec<u8>; 4] {
    let digest = [7; 64];
    [
        [&[1, 0x71, 0x13, 64][..], &digest].concat(),
        [&[0x12, 0x20][..], &digest[..32]].concat(),
        [&[1, 0x70, 0x12, 0x20][..], &digest[..32]].concat(),
        craft::filler(100).cid.as_bytes().to_vec(),
    ]
}

/// Records that no lexicon allows, and some that the data model does not.
fn strange_records() -> Vec<Vec<u8>> {
    fn written(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
        let mut out = Writer::new();
        write(&mut out);
        out.into_bytes()
    }
    let mut records = vec![
        written(|out| out.map(1).text("$type").text("com.example.neverHeardOf")),
        written(|out| out.map(1).text("$type").text("not a type")),
        written(|out| out.map(1).text("text").text("no type")),
        written(|out| out.map(0)),
        // The tree without records.
        Tree::new().root().bytes.to_vec(),
        // A post is known to have a text, which is one, and a time.
        written(|out| {
            out.map(2).text("text").int(-5);
            out.text("$type").text("app.bsky.feed.post")
        }),
        // An array, a text, a number, nothing.
        written(|out| out.array(1).text("x")),
        written(|out| out.text("x")),
        written(|out| out.int(5)),
        written(|out| out.null()),
        // A float.
        written(|out| out.map(1).text("x").raw(b"\xfb\x3f\xf8\0\0\0\0\0\0")),
        // Keys that are not in order, and a key that is there twice.
        written(|out| out.map(2).text("bb").int(1).text("a").int(2)),
        written(|out| out.map(2).text("a").int(1).text("a").int(2)),
        // A number in a longer form than it needs, a tag that is no link, a key that is no text.
        written(|out| out.map(1).text("x").raw(b"\x18\x05")),
        written(|out| out.map(1).text("x").raw(b"\xc1\x05")),
        written(|out| out.map(1).int(1).int(1)),
        // Deeper than anybody needs.
        written(|out| {
            for _ in 0..100 {
                out.array(1);
            }
            out.null()
        }),
    ];
    for link in strange_links() {
        records.push(written(|out| out.map(1).text("link").link(&link)));
    }
    records
}

/// Rule 71: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn what_records_say_is_nobodys_business() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for record in strange_records() {
        let record = Block::of_cbor(record);
        let path = "app.bsky.feed.post/strange".to_owned();
        stage.pass(&[&account.commit(&[Write::Put(path, record)])]);
    }
    all_passed(&stage);
}

/// The tree has links to records of whatever kind; they may go, and give way to others.
///
/// Rule 71: <https://atproto.com/specs/repository>
#[test]
fn records_that_were_there_may_have_cids_of_any_kind() {
    let mut stage = Stage::set_up();
    let mut account = stage.site.account(0);
    let record = Block::of_cbor(vec![0xa0]);
    // All of these are of one layer.
    let paths = [
        "com.example.note/1",
        "com.example.note/4",
        "com.example.note/7",
        "com.example.note/9",
    ];
    let entries =
        |values: &[Option<&[u8]>]| craft::leaf(paths.iter().copied().zip(values.iter().copied()));
    let [odd, older, ..] = strange_links();
    let (odd, older, new) = (
        Some(&odd[..]),
        Some(&older[..]),
        Some(&record.cid.as_bytes()[..]),
    );
    let steps = [
        [odd, None, older, None],
        [odd, new, older, None],
        [new, new, older, None],
        [new, new, None, new],
    ];
    for pair in steps.windows(2) {
        let mut draft = account.draft(&[]);
        let (before, after) = (entries(&pair[0]), entries(&pair[1]));
        draft.prev_data = Some(before.cid);
        draft.data = after.cid;
        draft.blocks = vec![after, record.clone()];
        if draft.since.is_none() {
            draft.since = Some(Tid::from_raw(1 << 40));
        }
        let link = |cid: &[u8]| Ipld::Link(cid.try_into().unwrap());
        let changes = paths.iter().zip(pair[0].iter().zip(&pair[1]));
        let ops = changes.filter(|(_, (before, after))| before != after);
        let ops = ops.map(|(path, (before, after))| {
            let action = match (before, after) {
                (None, _) => "create",
                (_, None) => "delete",
                _ => "update",
            };
            let mut op = Fields::new();
            op.insert("action".into(), Ipld::String(action.into()));
            op.insert("path".into(), Ipld::String((*path).into()));
            op.insert("cid".into(), after.map_or(Ipld::Null, link));
            op.extend(before.map(|before| ("prev".to_owned(), link(before))));
            Ipld::Map(op)
        });
        let ops = Ipld::List(ops.collect());
        let event = account.seal(draft).message.event();
        let event = craft::reworded(&event, |_, payload| {
            payload.insert("ops".into(), ops);
        });
        stage.pass(&[&event]);
    }
    all_passed(&stage);
}

/// Rule 72: <https://atproto.com/specs/sync#commit-events>
#[test]
fn blobs_may_be_named() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for blobs in [
        vec![craft::filler(100).cid],
        vec![
            Cid::of_cbor(b"x"),
            craft::filler(200).cid,
            Cid::of_cbor(b"x"),
        ],
    ] {
        let mut sealed = commit(&mut account, &[put("a", &blobs.len().to_string())]);
        sealed.message.blobs = blobs;
        stage.pass(&[&sealed.message.event()]);
    }
    all_passed(&stage);
}

/// Rule 73: <https://atproto.com/specs/repository#commit-objects>
#[test]
fn a_commit_object_may_name_the_one_before() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    for n in 0..3 {
        let before = account.head().map(|(cid, _)| cid);
        let mut draft = account.draft(&[put("a", &n.to_string())]);
        draft.prev = before;
        let sealed = account.seal(draft);
        stage.pass(&[&sealed.message.event()]);
    }
    all_passed(&stage);
}

/// And in all forms in which a document may name the key.
///
/// Rule 74: <https://atproto.com/specs/cryptography>
#[test]
fn keys_of_both_curves_sign() {
    let mut stage = Stage::set_up();
    let mut rng = fastrand::Rng::with_seed(74);
    for curve in [Curve::K256, Curve::P256] {
        for form in [
            DocumentForm::Multikey,
            DocumentForm::MultikeyRelative,
            DocumentForm::Legacy,
        ] {
            let mut account = Account::with_curve(&mut rng, 0, curve);
            account.form = form;
            stage.site.network.register(&account);
            // Signatures differ in their leading bits.
            let commits: Vec<Event> = (0..8).map(|_| next_commit(&mut account)).collect();
            stage.pass(&commits.iter().collect::<Vec<_>>());
        }
    }
    all_passed(&stage);
}

/// Rules 75, 76: <https://github.com/bluesky-social/proposals/tree/main/0006-sync-iteration>
#[test]
fn a_break_is_passed_on_and_what_follows_continues_it() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    // How a commit may break with the one that was seen last.
    let breaks: [&dyn Fn(&mut Account) -> Event; 6] = [
        // Commits between that were never seen.
        &|account| {
            (0..3).for_each(|_| drop(next_commit(account)));
            next_commit(account)
        },
        // The same, and the revision of the commit seen as the one before.
        &|account| {
            let seen = account.head().map(|(_, rev)| rev);
            next_commit(account);
            let mut draft = account.draft(&[put("a", "one")]);
            draft.since = seen;
            account.seal(draft).message.event()
        },
        // The tree is the one seen, the revision before is another: earlier, later, none.
        &|account| with_since(account, |rev| Some(Tid::from_raw(rev.raw() - 1))),
        &|account| with_since(account, |rev| Some(Tid::from_raw(rev.raw() + 1))),
        &|account| with_since(account, |_| Some(Tid::from_raw(0))),
        &|account| with_since(account, |_| None),
    ];
    for (n, make) in breaks.iter().enumerate() {
        let (broken, next) = (make(&mut account), next_commit(&mut account));
        stage.pass(&[&broken]);
        assert_eq!(stage.relay.metric(DISCONTINUOUS), n as u64 + 1);
        stage.pass(&[&next]);
        assert_eq!(stage.relay.metric(DISCONTINUOUS), n as u64 + 1);
    }
    assert_eq!(stage.relay.rejects(), BTreeMap::new());
}

/// The account's next commit, with another revision before.
fn with_since(account: &mut Account, since: impl FnOnce(Tid) -> Option<Tid>) -> Event {
    let mut draft = account.draft(&[]);
    draft.since = since(draft.since.unwrap());
    account.seal(draft).message.event()
}

/// Rule 77: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn a_revision_may_be_minutes_ahead() {
    const AHEAD_MICROS: u64 = 4 * 60 * 1_000_000;
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    let micros = clock::micros() + AHEAD_MICROS;
    let draft = account.repo.draft(&[put("a", "one")], micros);
    assert_eq!(draft.rev.micros(), micros);
    let ahead = account.seal(draft).message.event();
    // The next one is later still, whatever the clock says.
    let next = next_commit(&mut account);
    assert!(account.head().unwrap().1.micros() >= micros);
    stage.pass(&[&ahead, &next]);
    all_passed(&stage);
}

/// Fields that no lexicon knows, of all types, before, between and after those that are known.
fn unknown_fields() -> Fields {
    let link = |cid: Cid| Ipld::Link(cid.as_bytes().as_slice().try_into().unwrap());
    let nested = Ipld::Map([("seq".to_owned(), Ipld::Integer(1))].into());
    let fields = [
        ("a", Ipld::Integer(-7)),
        ("sea", Ipld::Null),
        ("ser", Ipld::Bool(true)),
        ("prev", link(Cid::of_cbor(b"x"))),
        ("bytes", Ipld::Bytes(vec![0; 300])),
        ("seqSeq", Ipld::List(vec![nested.clone(), Ipld::Null])),
        ("statusNote", Ipld::String("none".into())),
        ("aNameLongerThanAll", nested),
    ];
    fields.map(|(key, value)| (key.to_owned(), value)).into()
}

/// In the payload, in its operations and in the commit object; in every sort of event. Those of a
/// header, which is about one hop, are left out.
///
/// Rules 43, 78: <https://atproto.com/specs/event-stream>
#[test]
fn fields_that_are_not_known_are_kept() {
    let mut stage = Stage::set_up();
    let mut account = stage.known_account();
    stage.pass(&[&account.commit(&[put("a", "one"), put("b", "one")])]);
    let both = |header: &mut Fields, payload: &mut Fields| {
        header.extend(unknown_fields());
        payload.extend(unknown_fields());
    };
    let kept =
        |event: &Event| craft::reworded(event, |_, payload| payload.extend(unknown_fields()));

    let writes = [put("a", "two"), put("c", "one"), delete("b")];
    let mut sealed = commit(&mut account, &writes);
    sealed = craft::resigned(&account, sealed, |object| {
        let mut unknown = unknown_fields();
        // This one is known of a commit object.
        unknown.remove("prev");
        object.extend(unknown);
    });
    let extended = craft::reworded(&sealed.message.event(), |_, payload| {
        payload.extend(unknown_fields());
        let Some(Ipld::List(ops)) = payload.get_mut("ops") else {
            panic!("ops are a list");
        };
        for op in ops {
            let Ipld::Map(op) = op else {
                panic!("an op is a map");
            };
            let mut unknown = unknown_fields();
            unknown.remove("prev");
            op.extend(unknown);
        }
    });
    assert!(extended.size() > sealed.message.event().size() + 1_500);
    let headed = craft::reworded(&extended, |header, _| header.extend(unknown_fields()));
    stage.pass_as(0, &headed, &extended);

    // What the messages of earlier days had.
    for prev in [Ipld::Null, unknown_fields()["prev"].clone()] {
        let event = next_commit(&mut account);
        let event = craft::reworded(&event, |_, payload| {
            payload.insert("prev".into(), prev);
        });
        stage.pass(&[&event]);
    }
    for event in [account.identity(), account.account()] {
        stage.pass_as(0, &craft::reworded(&event, both), &kept(&event));
    }
    account.commit(&[]);
    let sync = account.sync().unwrap();
    stage.pass_as(0, &craft::reworded(&sync, both), &kept(&sync));

    // And where the relay changes something: it leaves out a handle that nobody confirms, and fills
    // in what the lexicon requires.
    let host = stage.site.network.host(0).clone();
    let identity = |handle| event::identity(account.did(), handle, 1_700_000_000_000_000);
    host.emit(&craft::reworded(&identity(Some("somebody.test")), both));
    let without = kept(&identity(None));
    stage.subscriber.expect(&[&without]);
    let whole = kept(&next_commit(&mut account));
    host.emit(&craft::reworded(&whole, |_, payload| {
        for field in ["blobs", "rebase", "tooBig"] {
            payload.remove(field).unwrap();
        }
    }));
    stage.subscriber.expect(&[&whole]);
    stage.pass(&[&next_commit(&mut account)]);
    all_passed(&stage);
}
