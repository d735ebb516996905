//! The fields of the message: all there, of the right type, and what they may hold.

use std::slice::from_ref;

use tungstenite::Bytes;
use zlay::{
    reject::Reject,
    sim::{account::Account, feed::Once},
};

use super::forgery::{
    Case, DAG_CBOR, Fields, HEADER, Spoil, array, cid_of, drops_all, in_message, in_parts, item,
    link, message_of, null, one_of_each, writer,
};
use crate::{
    site::{next_commit, wait_until},
    stage::Stage,
};

/// One value of every type that there is.
fn every_type() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("null", null()),
        ("a bool", item(true)),
        ("a number", item(7)),
        ("text", item("x")),
        ("bytes", item(vec![0u8; 3])),
        ("an array", array(&[])),
        ("a map", Fields(Vec::new()).encode()),
        ("a link", link(&cid_of(DAG_CBOR, b"x"))),
    ]
}

/// Every field of the message but `seq`, the types that it may have, and whether it must be there.
const FIELDS: &[(&str, &[&str], bool)] = &[
    ("repo", &["text"], true),
    ("rev", &["text"], true),
    ("time", &["text"], true),
    ("commit", &["a link"], true),
    ("blocks", &["bytes"], true),
    ("ops", &["an array"], true),
    ("since", &["text", "null"], false),
    ("prevData", &["a link"], false),
    ("blobs", &["an array"], false),
    ("rebase", &["a bool"], false),
    ("tooBig", &["a bool"], false),
];

/// Every field of an operation.
const OP_FIELDS: &[(&str, &[&str], bool)] = &[
    ("action", &["text"], true),
    ("path", &["text"], true),
    ("cid", &["a link", "null"], true),
    // What is `null` counts as not there.
    ("prev", &["a link", "null"], false),
];

/// What becomes of a map whose fields are missing or of another type.
fn mistyped(
    fields: &'static [(&str, &[&str], bool)],
    what: &str,
    spoil: impl Fn(Box<dyn Fn(&mut Fields)>) -> Spoil,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for (field, types, required) in fields {
        if *required {
            let change = Box::new(move |fields: &mut Fields| fields.remove(field));
            let name = format!("{what}{field} is missing");
            cases.push(Case::new(name, spoil(change), Reject::SchemaInvalid));
        }
        let others = every_type().into_iter();
        for (name, value) in others.filter(|(name, _)| !types.contains(name)) {
            let change = Box::new(move |fields: &mut Fields| fields.set(field, value.clone()));
            let name = format!("{what}{field} is {name}");
            cases.push(Case::new(name, spoil(change), Reject::SchemaInvalid));
        }
    }
    cases
}

/// Each required field is left out once, and each field once has each of the other types.
///
/// Rule 80: <https://github.com/bluesky-social/atproto/tree/main/lexicons/com/atproto/sync>
#[test]
fn a_field_that_is_missing_or_of_another_type() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let cases = mistyped(FIELDS, "", |change| in_message(move |m| change(m)));
    drops_all(&mut stage, &mut account, &cases);
    let blobs = |value: Vec<u8>| in_message(move |m| m.set("blobs", array(from_ref(&value))));
    let others = every_type().into_iter();
    let cases = others.filter(|(name, _)| *name != "a link");
    let cases = cases.map(|(name, value)| {
        let name = format!("a blob is {name}");
        Case::new(name, blobs(value), Reject::SchemaInvalid)
    });
    drops_all(&mut stage, &mut account, &cases.collect::<Vec<_>>());
}

/// The same of the fields of each kind of operation.
///
/// Rule 80: <https://atproto.com/specs/sync#repository-operations>
#[test]
fn an_op_whose_fields_are_missing_or_of_another_type() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    for (n, action) in ["create", "update", "delete"].iter().enumerate() {
        let spoil = move |change: Box<dyn Fn(&mut Fields)>| {
            in_parts(move |parts| change(&mut parts.ops[n]))
        };
        let cases = mistyped(OP_FIELDS, &format!("{action}: "), spoil);
        drops_all(&mut stage, &mut account, &cases);
    }
    let others = every_type().into_iter();
    let cases = others.filter(|(name, _)| *name != "a map");
    let cases = cases.map(|(name, value)| {
        let spoil = in_message(move |m| m.set("ops", array(from_ref(&value))));
        Case::new(format!("an op is {name}"), spoil, Reject::SchemaInvalid)
    });
    drops_all(&mut stage, &mut account, &cases.collect::<Vec<_>>());
}

/// A message is dropped; the account goes on.
fn drops_frame(stage: &mut Stage, account: &mut Account, frame: Vec<u8>) {
    let before = stage.refused(Reject::SchemaInvalid);
    let host = stage.site.network.host(0).clone();
    host.inject(Once::Binary(Bytes::from(frame)));
    stage.sentinel();
    wait_until("the message is counted", || {
        stage.refused(Reject::SchemaInvalid) == before + 1
    });
    stage.pass(&[&next_commit(account)]);
}

/// `seq` is left out once, has each of the other types once, and is out of its range; the
/// connection stays.
///
/// Rule 80: <https://atproto.com/specs/event-stream#sequence-numbers>
#[test]
fn a_seq_that_is_missing_or_none() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let message = |account: &Account| {
        let mut draft = account.clone().draft(&one_of_each(account));
        message_of(account, &mut draft, &Spoil::Nothing)
    };
    let frame = [HEADER, &message(&account).encode()].concat();
    drops_frame(&mut stage, &mut account, frame);
    let numbers = [0, -1, i64::MIN, 1 << 53, i64::MAX];
    let numbers = numbers.map(|n| (format!("{n}"), item(n)));
    let others = every_type().into_iter();
    let others = others.filter(|(name, _)| *name != "a number");
    let others = others.map(|(name, value)| (name.to_owned(), value));
    for (name, value) in others.chain(numbers) {
        println!("seq is {name}");
        let mut message = message(&account);
        message.set("seq", value);
        let frame = [HEADER, &message.encode()].concat();
        drops_frame(&mut stage, &mut account, frame);
    }
    assert_eq!(stage.site.network.host(0).connections(), 1);
}

/// The DID is the same in the commit object, so that nothing but its form is wrong.
///
/// Rule 81: <https://atproto.com/specs/did>
#[test]
fn a_did_that_is_none_or_of_another_method() {
    let long = format!("did:plc:{}", "a".repeat(2_049 - 8));
    let none = [
        "",
        "did",
        "alice.test",
        "plc:ewvi7nxzyoun6zhxrhs64oiz",
        "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "DID:plc:ewvi7nxzyoun6zhxrhs64oiz",
        "did:PLC:ewvi7nxzyoun6zhxrhs64oiz",
        "did:m123:ewvi7nxzyoun6zhxrhs64oiz",
        "did:plc",
        "did:plc:",
        "did::ewvi7nxzyoun6zhxrhs64oiz",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz:",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz%",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz ",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz/path",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz?query",
        "did:plc:ewvi7nxzyoun6zhxrhs64oiz#atproto",
        "did:plc:ewvi7nxzyoun6zhxrhs64oi\u{e9}",
        &long,
    ];
    let unsupported = [
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1",
        "did:example:ewvi7nxzyoun6zhxrhs64oiz",
        "did:plc:ewvi7nxzyoun6zhxrhs64oi",
        "did:plc:ewvi7nxzyoun6zhxrhs64oizz",
        "did:plc:EWVI7NXZYOUN6ZHXRHS64OIZ",
        "did:plc:ewvi7nxzyoun6zhxrhs64oi1",
        "did:web:localhost:users:alice",
    ];
    let case = |did: &str, reject| {
        let value = item(did);
        let spoil = in_parts(move |parts| parts.set_both("did", "repo", value.clone()));
        Case::new(did, spoil, reject)
    };
    let none = none.iter().map(|did| case(did, Reject::DidInvalid));
    let unsupported = unsupported.iter();
    let unsupported = unsupported.map(|did| case(did, Reject::DidMethodUnsupported));
    let cases: Vec<_> = none.chain(unsupported).collect();
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// Rule 113: <https://atproto.com/specs/lexicon#datetime>
#[test]
fn a_time_that_is_none() {
    let long = format!("2026-01-02T03:04:05.{}Z", "0".repeat(60));
    let times = [
        "",
        "yesterday",
        "1767323045",
        "2026-01-02",
        "2026-01-02T03:04Z",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05-00:00",
        "2026-01-02T03:04:05+0100",
        "2026-01-02t03:04:05Z",
        "2026-01-02T03:04:05z",
        "2026-01-02 03:04:05Z",
        " 2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.Z",
        "2026-1-2T03:04:05Z",
        "26-01-02T03:04:05Z",
        "-2026-01-02T03:04:05Z",
        "2026-13-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "2026-01-02T25:04:05Z",
        "0000-01-01T00:00:00+01:00",
        &long,
    ];
    let case = |time: &&str| {
        let value = item(*time);
        let spoil = in_message(move |m| m.set("time", value.clone()));
        Case::new(*time, spoil, Reject::TimeInvalid)
    };
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let cases: Vec<_> = times.iter().map(case).collect();
    drops_all(&mut stage, &mut account, &cases);
}

/// Rule 114: <https://github.com/bluesky-social/indigo/tree/main/cmd/relay>
#[test]
fn rebase_and_too_big() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let cases = ["rebase", "tooBig"].map(|field| {
        let spoil = in_message(move |m| m.set(field, item(true)));
        Case::new(field, spoil, Reject::Deprecated)
    });
    drops_all(&mut stage, &mut account, &cases);
}
