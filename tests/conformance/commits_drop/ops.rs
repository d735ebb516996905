//! Operations that are none, whatever the tree says.

use zlay::{
    reject::Reject,
    sim::{account, repo::Write},
};

use super::forgery::{
    Case, DAG_CBOR, Spoil, cid_of, drops_all, forge, forge_draft, in_parts, item, link, null,
    one_of_each, writer,
};
use crate::stage::Stage;

const CREATE: usize = 0;
const UPDATE: usize = 1;
const DELETE: usize = 2;

/// Rule 100: <https://atproto.com/specs/sync#repository-operations>
#[test]
fn an_action_that_is_none() {
    let actions = [
        "", "upsert", "Create", "CREATE", "created", "create ", "put", "write", "delete\0",
    ];
    let mut cases = Vec::new();
    for action in actions {
        for n in [CREATE, UPDATE, DELETE] {
            let spoil = in_parts(move |parts| parts.ops[n].set("action", item(action)));
            cases.push(Case::new(action, spoil, Reject::OpInvalid));
        }
    }
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// Rule 101: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn a_path_twice() {
    let twice = |n: usize, at: usize| {
        in_parts(move |parts| {
            let op = parts.ops[n].clone();
            parts.ops.insert(at, op);
        })
    };
    let mut cases = Vec::new();
    for n in [CREATE, UPDATE, DELETE] {
        for at in [0, 3] {
            let name = format!("op {n} again at {at}");
            cases.push(Case::new(name, twice(n, at), Reject::OpInvalid));
        }
    }
    // Together they would do what the tree says: the record goes, and comes back as another one.
    let update_in_two = in_parts(|parts| {
        let (mut delete, mut create) = (parts.ops[UPDATE].clone(), parts.ops[UPDATE].clone());
        delete.set("action", item("delete"));
        delete.set("cid", null());
        create.set("action", item("create"));
        create.remove("prev");
        parts.ops.splice(UPDATE..=UPDATE, [delete, create]);
    });
    let name = "an update as a delete and a create";
    cases.push(Case::new(name, update_in_two, Reject::OpInvalid));
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// The tree has the path all the same, so that nothing but the path itself is wrong.
///
/// Rule 102: <https://atproto.com/specs/record-key>
#[test]
fn a_path_that_is_none() {
    let long_rkey = format!("com.example.a/{}", "k".repeat(513));
    let label = "a".repeat(64);
    let long_label = format!("com.{label}.a/self");
    let labels = vec!["a".repeat(63); 5].join(".");
    let long_nsid = format!("{}.a/self", &labels[..316]);
    let paths = [
        // Not two segments.
        "",
        "/",
        "self",
        "com.example.a",
        "com.example.a/b/c",
        "com.example.a//b",
        "com.example.a/b/",
        "/com.example.a/b",
        "/self",
        // The second is no record key.
        "com.example.a/",
        "com.example.a/.",
        "com.example.a/..",
        "com.example.a/a b",
        "com.example.a/a#b",
        "com.example.a/a@b",
        "com.example.a/a%20b",
        "com.example.a/\"a\"",
        "com.example.a/(a)",
        "com.example.a/a\0",
        "com.example.a/\u{e9}",
        "com.example.a/\u{1f600}",
        &long_rkey,
        // The first is no collection.
        "post/self",
        "com.example/self",
        "com.example.a*/self",
        "com..a/self",
        ".com.example.a/self",
        "com.example.a./self",
        "com.-example.a/self",
        "com.example-.a/self",
        "3com.example.a/self",
        "com.example.3/self",
        "com.example.a-b/self",
        "com.ex ample.a/self",
        "com.ex\u{e4}mple.a/self",
        "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/com.example.a/self",
        &long_label,
        &long_nsid,
    ];
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let create = |path: &str| {
        let record = account::record("com.example.a", "x", 1);
        [Write::Put(path.to_owned(), record)]
    };
    let draft = account.draft(&create("com.example.a/a:b~c_d.e-F"));
    stage.pass(&[&forge_draft(&account, draft, &Spoil::Nothing)]);
    for path in paths {
        println!("{path}");
        let forged = forge(&account, &create(path), &Spoil::Nothing);
        stage.drops(&mut account, &forged, Reject::OpInvalid);
    }
}

/// Rule 103: <https://atproto.com/specs/sync#repository-operations>
#[test]
fn cids_that_do_not_fit_the_action() {
    let some = || link(&cid_of(DAG_CBOR, b"some record"));
    let set = |n: usize, field: &'static str, value: Vec<u8>| {
        in_parts(move |parts| parts.ops[n].set(field, value.clone()))
    };
    let remove = |n: usize, field: &'static str| in_parts(move |parts| parts.ops[n].remove(field));
    let same = in_parts(|parts| {
        let cid = parts.ops[UPDATE].get("cid").to_vec();
        parts.ops[UPDATE].set("prev", cid);
    });
    let cases = [
        (
            "a create without a record",
            set(CREATE, "cid", null()),
            Reject::OpInvalid,
        ),
        (
            "a create of what was there",
            set(CREATE, "prev", some()),
            Reject::OpInvalid,
        ),
        (
            "an update to nothing",
            set(UPDATE, "cid", null()),
            Reject::OpInvalid,
        ),
        ("an update to the same", same, Reject::OpInvalid),
        (
            "an update of nothing",
            remove(UPDATE, "prev"),
            Reject::NotInductive,
        ),
        (
            "a delete that leaves one",
            set(DELETE, "cid", some()),
            Reject::OpInvalid,
        ),
        (
            "a delete of nothing",
            remove(DELETE, "prev"),
            Reject::NotInductive,
        ),
    ];
    let cases = cases.map(|(name, spoil, reject)| Case::new(name, spoil, reject));
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
    // Said as updates, so that the tree needs no other path.
    let writes = one_of_each(&account);
    let spoil = in_parts(|parts| parts.ops[CREATE].set("action", item("update")));
    let forged = forge(&account, &writes, &spoil);
    stage.drops(&mut account, &forged, Reject::NotInductive);
}
