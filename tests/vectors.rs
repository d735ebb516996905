//! The public interoperability vectors (<https://github.com/bluesky-social/atproto-interop-tests>)
//! of identifiers, data, keys and trees. `ZLAY_VECTORS` names the folder; without it the tests are
//! ignored.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::PathBuf;

use data_encoding::{BASE64_NOPAD, HEXLOWER};
use ipld_core::ipld::Ipld;
use serde_json::Value;
use zlay::{
    atproto::{
        car::BlockTable,
        cbor::{Reader, Writer},
        cid::Cid,
        crypto::{Curve, PublicKey},
        datetime,
        did::Did,
        handle::Handle,
        mst::{self, Op, OpKind, Span},
        nsid::Nsid,
        record_key,
        tid::Tid,
    },
    sim::{
        event, keys,
        tree::{Block, Tree},
    },
};

fn read(path: &str) -> String {
    let folder = PathBuf::from(std::env::var_os("ZLAY_VECTORS").expect("ZLAY_VECTORS is set"));
    std::fs::read_to_string(folder.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn json(path: &str) -> Vec<Value> {
    serde_json::from_str(&read(path)).unwrap()
}

/// Every line of `syntax/{name}.txt` must be `valid` to `check`.
fn syntax(name: &str, valid: bool, check: impl Fn(&str) -> bool) {
    let text = read(&format!("syntax/{name}.txt"));
    let lines: Vec<&str> = text
        .split('\n')
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    assert!(!lines.is_empty(), "{name} has no lines");
    for line in lines {
        assert_eq!(check(line), valid, "{name}: {line:?}");
    }
}

/// Rules 187, 190: <https://github.com/bluesky-social/atproto-interop-tests/tree/main/syntax>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn identifiers_are_told_from_what_is_none() {
    let did = |s: &str| Did::parse(s).is_ok();
    let tid = |s: &str| Tid::parse(s).is_ok();
    let nsid = |s: &str| Nsid::parse(s).is_ok();
    let handle = |s: &str| Handle::parse(s).is_ok();
    let rkey = |s: &str| record_key::check(s).is_ok();
    let datetime = |s: &str| datetime::check(s).is_ok();
    for (name, check) in [
        ("did", &did as &dyn Fn(&str) -> bool),
        ("tid", &tid),
        ("nsid", &nsid),
        ("handle", &handle),
        ("recordkey", &rkey),
        ("datetime", &datetime),
    ] {
        syntax(&format!("{name}_syntax_valid"), true, check);
        syntax(&format!("{name}_syntax_invalid"), false, check);
    }
    // Valid at first sight only, such as a month 13.
    syntax("datetime_parse_invalid", false, datetime);
}

/// Rule 188: <https://github.com/bluesky-social/atproto-interop-tests/tree/main/crypto>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn signatures_are_accepted_only_in_their_one_form() {
    let fixtures = json("crypto/signature-fixtures.json");
    assert!(!fixtures.is_empty());
    for fixture in fixtures {
        let text = |field: &str| fixture[field].as_str().unwrap();
        let bytes = |field| BASE64_NOPAD.decode(text(field).as_bytes()).unwrap();
        let curve = match text("algorithm") {
            "ES256" => Curve::P256,
            "ES256K" => Curve::K256,
            other => panic!("unknown algorithm {other}"),
        };
        let multikey = text("publicKeyDid").strip_prefix("did:key:").unwrap();
        let key = PublicKey::from_multikey(multikey).unwrap();
        assert_eq!(key.curve(), curve);
        assert_eq!(key.to_did_key(), text("publicKeyDid"));
        let legacy = PublicKey::from_legacy(curve, text("publicKeyMultibase")).unwrap();
        assert_eq!(legacy, key);
        let valid = key.verify(&bytes("messageBase64"), &bytes("signatureBase64"));
        assert_eq!(
            valid.is_ok(),
            fixture["validSignature"].as_bool().unwrap(),
            "{}",
            text("comment")
        );
    }
}

/// Rule 188: <https://github.com/bluesky-social/atproto-interop-tests/tree/main/crypto>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn secrets_have_their_known_did_key() {
    let k256 = json("crypto/w3c_didkey_K256.json");
    let p256 = json("crypto/w3c_didkey_P256.json");
    assert!(!k256.is_empty() && !p256.is_empty());
    for (curve, signers, fixture) in k256
        .iter()
        .map(|f| (Curve::K256, keys::Curve::K256, f))
        .chain(p256.iter().map(|f| (Curve::P256, keys::Curve::P256, f)))
    {
        let secret = match fixture["privateKeyBytesHex"].as_str() {
            Some(hex) => HEXLOWER.decode(hex.as_bytes()).unwrap(),
            None => bs58::decode(fixture["privateKeyBytesBase58"].as_str().unwrap())
                .into_vec()
                .unwrap(),
        };
        let key = keys::Key::from_secret(signers, secret.try_into().unwrap()).unwrap();
        let public = PublicKey::from_point(curve, key.compressed()).unwrap();
        assert_eq!(public.to_did_key(), fixture["publicDidKey"]);
        let signature = key.sign(b"message");
        assert_eq!(public.verify(b"message", &signature), Ok(()));
    }
}

/// Rule 186: <https://github.com/bluesky-social/atproto-interop-tests/tree/main/mst>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn keys_are_in_their_layer() {
    let heights = json("mst/key_heights.json");
    assert!(!heights.is_empty());
    for height in heights {
        let key = height["key"].as_str().unwrap();
        let layer = u64::from(mst::layer_of(key.as_bytes()));
        assert_eq!(layer, height["height"].as_u64().unwrap(), "{key}");
    }
    let keys = read("mst/example_keys.txt");
    assert!(keys.lines().count() > 100);
    for key in keys.lines() {
        let layer = mst::layer_of(key.as_bytes());
        assert_eq!(
            char::from(b'0' + layer),
            key.chars().nth(1).unwrap(),
            "{key}"
        );
    }
}

/// The prefix that the simulator's tree gives the second of two keys of one node; the relay's own
/// accepts no other.
/// Rule 186: <https://github.com/bluesky-social/atproto-interop-tests/tree/main/mst>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn keys_share_their_common_prefix() {
    let pairs = json("mst/common_prefix.json");
    assert!(!pairs.is_empty());
    for pair in pairs {
        let text = |side: &str| pair[side].as_str().unwrap();
        let mut keys = [text("left"), text("right")];
        keys.sort_unstable();
        if keys[0] == keys[1] {
            // No key is in a tree twice.
            continue;
        }
        // Behind something that both begin with, they are neighbours in one node.
        let layer = |key: &str| mst::layer_of(key.as_bytes());
        let [left, right] = (0..)
            .map(|n| keys.map(|key| format!("{n}/{key}")))
            .find(|[left, right]| layer(left) == layer(right))
            .unwrap();
        let shared = right.len() - keys[1].len() + pair["len"].as_u64().unwrap() as usize;
        let mut tree = Tree::new();
        tree.set(&left, Cid::of_cbor(b"x"));
        tree.set(&right, Cid::of_cbor(b"x"));
        let root = tree.root();
        let suffix = &right.as_bytes()[shared..];
        let written = [&[0x61, b'k', 0x40 | suffix.len() as u8], suffix].concat();
        assert!(root.bytes.windows(written.len()).any(|w| w == written));
        let car = event::car(1, &[root.cid], std::slice::from_ref(&root));
        let mut blocks = BlockTable::new();
        blocks.read(&car, 0..car.len()).unwrap();
        let loaded = mst::Tree::new().load(&root.cid, &blocks, &car);
        assert_eq!(loaded, Ok(()), "{left:?} {right:?}");
    }
}

/// Appends a value of the data model, in its JSON form, as our writer encodes it.
fn encode(value: &Value, out: &mut Writer) {
    let wrapped = |name: &str| value.get(name).and_then(Value::as_str);
    match value {
        Value::Null => out.null(),
        Value::Bool(bool) => out.bool(*bool),
        Value::Number(number) => out.int(number.as_i64().unwrap()),
        Value::String(text) => out.text(text),
        Value::Array(items) => {
            out.array(items.len());
            items.iter().for_each(|item| encode(item, out));
            out
        }
        Value::Object(_) if wrapped("$link").is_some() => {
            out.cid(&Cid::parse(wrapped("$link").unwrap()).unwrap())
        }
        Value::Object(_) if wrapped("$bytes").is_some() => out.bytes(
            &BASE64_NOPAD
                .decode(wrapped("$bytes").unwrap().as_bytes())
                .unwrap(),
        ),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| (name.len(), name.as_bytes()));
            out.map(fields.len());
            for (name, value) in fields {
                encode(value, out.text(name));
            }
            out
        }
    };
}

/// The same value as another implementation knows it.
fn of_others(value: &Value) -> Ipld {
    let wrapped = |name: &str| value.get(name).and_then(Value::as_str);
    match value {
        Value::Null => Ipld::Null,
        Value::Bool(bool) => Ipld::Bool(*bool),
        Value::Number(number) => Ipld::Integer(number.as_i64().unwrap().into()),
        Value::String(text) => Ipld::String(text.clone()),
        Value::Array(items) => Ipld::List(items.iter().map(of_others).collect()),
        Value::Object(fields) => match (wrapped("$link"), wrapped("$bytes")) {
            (Some(link), _) => Ipld::Link(link.parse().unwrap()),
            (_, Some(bytes)) => Ipld::Bytes(BASE64_NOPAD.decode(bytes.as_bytes()).unwrap()),
            _ => Ipld::Map(
                fields
                    .iter()
                    .map(|(name, value)| (name.clone(), of_others(value)))
                    .collect(),
            ),
        },
    }
}

/// Rules 182, 183: <https://github.com/bluesky-social/atproto-interop-tests/tree/main/data-model>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn data_has_its_known_bytes_and_cid() {
    let fixtures = json("data-model/data-model-fixtures.json");
    assert!(!fixtures.is_empty());
    for fixture in fixtures {
        let value = &fixture["json"];
        let text = |field: &str| fixture[field].as_str().unwrap();
        let expected = BASE64_NOPAD.decode(text("cbor_base64").as_bytes()).unwrap();
        let mut ours = Writer::new();
        encode(value, &mut ours);
        assert_eq!(ours.into_bytes(), expected);
        assert_eq!(
            serde_ipld_dagcbor::to_vec(&of_others(value)).unwrap(),
            expected
        );
        assert_eq!(Cid::of_cbor(&expected).to_string(), text("cid"));
        let mut reader = Reader::new(&expected);
        assert_eq!(reader.skip(), Ok(0..expected.len()));
        let read: Ipld = serde_ipld_dagcbor::from_slice(&expected).unwrap();
        assert_eq!(read, of_others(value));
    }
}

/// Undoes `adds` and `dels` on the tree of `root`, as far as `blocks` show it.
fn inverted(root: Cid, blocks: &[Block], adds: &[String], dels: &[String], leaf: &Cid) -> Cid {
    let mut buffer = event::car(1, &[root], blocks);
    let car = 0..buffer.len();
    let mut push = |bytes: &[u8]| {
        let start = buffer.len();
        buffer.extend_from_slice(bytes);
        Span::new(start, buffer.len())
    };
    let record = push(leaf.as_bytes());
    let mut ops = Vec::new();
    for (paths, kind) in [
        (adds, OpKind::Create { cid: record }),
        (dels, OpKind::Delete { prev: record }),
    ] {
        ops.extend(paths.iter().map(|path| Op {
            path: push(path.as_bytes()),
            kind,
        }));
    }
    let mut table = BlockTable::new();
    table.read(&buffer, car).unwrap();
    let mut tree = mst::Tree::new();
    mst::invert(&mut tree, &root, &table, &buffer, &ops, &mut Vec::new()).unwrap()
}

/// Rule 189: <https://github.com/bluesky-social/atproto-interop-tests/tree/main/firehose>
#[test]
#[cfg_attr(not(zlay_vectors), ignore = "set ZLAY_VECTORS")]
fn commits_invert_with_the_blocks_of_their_proof() {
    let fixtures = json("firehose/commit-proof-fixtures.json");
    assert!(!fixtures.is_empty());
    for fixture in fixtures {
        let comment = fixture["comment"].as_str().unwrap();
        let list = |field: &str| -> Vec<String> {
            let items = fixture[field].as_array().unwrap().iter();
            items
                .map(|item| item.as_str().unwrap().to_owned())
                .collect()
        };
        let cid = |field: &str| Cid::parse(fixture[field].as_str().unwrap()).unwrap();
        let (adds, dels, leaf) = (list("adds"), list("dels"), cid("leafValue"));
        let mut tree = Tree::new();
        for key in list("keys") {
            tree.set(&key, leaf);
        }
        assert_eq!(tree.root().cid, cid("rootBeforeCommit"), "{comment}");
        for key in &adds {
            tree.set(key, leaf);
        }
        for key in &dels {
            tree.remove(key).unwrap();
        }
        let after = tree.root();
        assert_eq!(after.cid, cid("rootAfterCommit"), "{comment}");
        let mut nodes = vec![after.clone()];
        for key in tree
            .keys()
            .iter()
            .map(|key| &**key)
            .chain(adds.iter().map(|key| &**key))
        {
            nodes.extend(tree.covering_proof(key));
        }
        let proof = list("blocksInProof");
        let blocks: Vec<Block> = proof
            .iter()
            .map(|cid| {
                let found = nodes.iter().find(|node| node.cid.to_string() == *cid);
                found
                    .unwrap_or_else(|| panic!("{comment}: no node {cid}"))
                    .clone()
            })
            .collect();
        let before = inverted(after.cid, &blocks, &adds, &dels, &leaf);
        assert_eq!(before, cid("rootBeforeCommit"), "{comment}");
    }
}
