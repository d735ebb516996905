//! The commit object: which one it is, what it says, how it is written, and who signed it.

use std::{sync::Arc, time::Instant};

use zlay::{
    reject::Reject,
    sim::{
        account::Account,
        keys::{Curve, Key},
    },
};

use super::forgery::{
    Case, DAG_CBOR, Fields, File, RAW, Spoil, array, cid_of, drops_all, forge, head, in_block,
    in_file, in_message, in_parts, in_signed, item, link, null, one_of_each, sha512_cid_of, writer,
    writes_a_little,
};
use crate::stage::Stage;

/// Rule 84: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn the_commit_of_another_account() {
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    let other = item(&**stage.bystander.did());
    let in_object = other.clone();
    let cases = [
        Case::new(
            "the message names another account",
            in_message(move |m| m.set("repo", other.clone())),
            Reject::CommitMismatch,
        ),
        Case::new(
            "the commit names another account",
            in_parts(move |parts| parts.object.set("did", in_object.clone())),
            Reject::CommitMismatch,
        ),
    ];
    drops_all(&mut stage, &mut account, &cases);
}

/// The block of the commit itself is there in each case, in one of them under another CID only.
///
/// Rule 85: <https://atproto.com/specs/sync#commit-validation>
#[test]
fn another_block_is_called_the_commit() {
    // Whatever is called so, as the file's root, in the message, or as both.
    let root = |cid: fn(&File) -> Vec<u8>| {
        in_file(move |file| file.header = File::header(&[&cid(file)]).encode())
    };
    let both = |cid: fn(&File) -> Vec<u8>| {
        in_file(move |file| {
            file.commit = cid(file);
            file.header = File::header(&[&file.commit]).encode();
        })
    };
    let node = |file: &File| {
        let other = file.blocks.iter().find(|block| block.cid != file.commit);
        other.unwrap().cid.clone()
    };
    let absent = |_: &File| cid_of(DAG_CBOR, b"nowhere");
    // The right hash under the wrong codec.
    let raw = |file: &File| [&[1, RAW], &file.commit[2..]].concat();
    let message = |cid: Vec<u8>| in_message(move |m| m.set("commit", link(&cid)));
    let second = in_file(move |file| {
        file.header = File::header(&[&node(file), &file.commit]).encode();
    });
    let all_raw = in_file(move |file| {
        let (at, raw) = (file.commit_at(), raw(file));
        file.blocks[at].cid.clone_from(&raw);
        file.header = File::header(&[&raw]).encode();
        file.commit = raw;
    });
    let another_hash = in_file(|file| {
        let at = file.commit_at();
        file.commit = sha512_cid_of(&file.blocks[at].bytes);
    });
    let cases = [
        (
            "in the message, what is not there",
            message(cid_of(DAG_CBOR, b"x")),
        ),
        ("in the message, an odd hash", message(sha512_cid_of(b"x"))),
        ("as the root, a node", root(node)),
        ("as the root, what is not there", root(absent)),
        ("as the root, the raw block", root(raw)),
        ("as the first of two roots, a node", second),
        ("as both, a node", both(node)),
        ("as both, what is not there", both(absent)),
        ("as both, the raw block", both(raw)),
        ("everywhere, the raw block", all_raw),
        ("in the message, the commit's other hash", another_hash),
    ];
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    for (name, spoil) in cases {
        // A node is a map, but none with the fields of a commit. A link of another hash is none.
        let reject = match name {
            "as both, a node" => Reject::CommitInvalid,
            "in the message, an odd hash" | "in the message, the commit's other hash" => {
                Reject::SchemaInvalid
            }
            _ => Reject::CommitBlock,
        };
        drops_all(&mut stage, &mut account, &[Case::new(name, spoil, reject)]);
    }
}

/// An account of each curve.
fn of_both_curves(stage: &mut Stage) -> [Account; 2] {
    [Curve::K256, Curve::P256].map(|curve| {
        let mut rng = fastrand::Rng::with_seed(curve as u64 + 90);
        let account = Account::with_curve(&mut rng, 0, curve);
        stage.site.network.register(&account);
        writes_a_little(stage, account)
    })
}

/// Runs cases with the signature, for both curves. With a signature that does not hold the
/// directory is asked again, once in a while for each account: the first of each account waits for
/// that, the others do not.
fn signatures(cases: impl Fn() -> Vec<(&'static str, Spoil)>) {
    let mut stage = Stage::set_up();
    let (begun, lookups) = (Instant::now(), stage.site.network.plc().requests());
    for mut account in of_both_curves(&mut stage) {
        println!("{:?}", account.key.curve());
        let cases = cases().into_iter();
        let cases: Vec<_> = cases
            .map(|(name, spoil)| Case::new(name, spoil, Reject::SignatureInvalid))
            .collect();
        drops_all(&mut stage, &mut account, &cases);
    }
    // Each was looked up for its first commit, and once in half a minute because of all these.
    let lookups = stage.site.network.plc().requests() - lookups;
    let half_minutes = begun.elapsed().as_secs() / 30;
    assert!((4..=4 + 2 * half_minutes).contains(&lookups), "{lookups}");
}

/// The order of each curve's group, big-endian, from the standards that define them.
fn order(curve: Curve) -> [u8; 32] {
    let (high, low) = match curve {
        Curve::K256 => (
            "fffffffffffffffffffffffffffffffe",
            "baaedce6af48a03bbfd25e8cd0364141",
        ),
        Curve::P256 => (
            "ffffffff00000000ffffffffffffffff",
            "bce6faada7179e84f3b9cac2fc632551",
        ),
    };
    let hex = [high, low].concat();
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    bytes.try_into().unwrap()
}

/// Replaces the signature.
fn signature(change: impl Fn(&Key, [u8; 64]) -> Vec<u8> + 'static) -> Spoil {
    in_signed(move |parts| {
        let signature = change(&parts.key, parts.signature());
        parts.set_signature(&signature);
    })
}

/// Another key of the same curve and one of the other, each bit of a few bytes of both halves,
/// halves out of range, lengths other than 64, and the signature of something else.
///
/// Rule 90: <https://atproto.com/specs/cryptography>
#[test]
fn a_signature_that_is_not_the_accounts() {
    signatures(|| {
        let mut cases = Vec::new();
        for curve in [Curve::K256, Curve::P256] {
            let another = in_signed(move |parts| {
                let mut rng = fastrand::Rng::with_seed(77);
                parts.key = Arc::new(Key::random(curve, &mut rng));
                parts.set_signature(&parts.signature());
            });
            cases.push(("by another key", another));
        }
        for at in [0, 1, 15, 31, 32, 33, 47, 63] {
            let bit = 1 << (at % 8);
            let flipped = signature(move |_, mut signature| {
                signature[at] ^= bit;
                signature.to_vec()
            });
            cases.push(("a flipped bit", flipped));
        }
        for half in [0..32, 32..64] {
            let name = if half.start == 0 { "r" } else { "s" };
            let with = |bytes: fn(&Key) -> [u8; 32]| {
                let half = half.clone();
                signature(move |key, mut signature| {
                    signature[half.clone()].copy_from_slice(&bytes(key));
                    signature.to_vec()
                })
            };
            cases.push((name, with(|_| [0; 32])));
            cases.push((name, with(|_| [0xff; 32])));
            cases.push((name, with(|key| order(key.curve()))));
        }
        let swapped = |_: &Key, signature: [u8; 64]| [&signature[32..], &signature[..32]].concat();
        cases.push(("the halves in the other order", signature(swapped)));
        for len in [0, 1, 32, 63, 65, 66, 96, 128] {
            let cut = signature(move |_, signature| {
                let padded = [signature, [0; 64]].concat();
                padded[..len].to_vec()
            });
            cases.push(("another length", cut));
            let late = signature(move |_, signature| {
                let padded = [[0; 64], signature].concat();
                padded[128 - len..].to_vec()
            });
            cases.push(("another length, from the end", late));
        }
        let of_another = in_signed(|parts| {
            let mut other = parts.unsigned();
            other.set("version", item(2));
            parts.sign(&other.encode());
        });
        cases.push(("of another object", of_another));
        cases.push(("of nothing", in_signed(|parts| parts.sign(b""))));
        let of_its_hash = in_signed(|parts| {
            let cid = cid_of(DAG_CBOR, &parts.unsigned().encode());
            parts.sign(&cid[4..]);
        });
        cases.push(("of the hash, hashed once more", of_its_hash));
        cases
    });
}

/// Either half of the curve gives a signature that holds; the protocol allows the lower one.
///
/// Rule 91: <https://atproto.com/specs/cryptography#ecdsa-signature-malleability>
#[test]
fn a_high_s_signature() {
    signatures(|| {
        let high = |key: &Key, signature: [u8; 64]| key.other_s(&signature).to_vec();
        vec![
            ("high s", signature(high)),
            ("high s, again", signature(high)),
        ]
    });
}

/// Rule 92: <https://github.com/bluesky-social/atproto-interop-tests>
#[test]
fn a_der_signature() {
    fn der(signature: [u8; 64]) -> Vec<u8> {
        let integer = |half: &[u8]| {
            let zeros = half.iter().take_while(|byte| **byte == 0).count();
            let sign = if half[zeros] >= 0x80 { &[0][..] } else { &[] };
            let bytes = [sign, &half[zeros..]].concat();
            [&[0x02, bytes.len() as u8], &bytes[..]].concat()
        };
        let both = [integer(&signature[..32]), integer(&signature[32..])].concat();
        [&[0x30, both.len() as u8], &both[..]].concat()
    }
    signatures(|| {
        let low = signature(|_, signature| der(signature));
        let high = signature(|key, signature| der(key.other_s(&signature)));
        vec![("DER", low), ("DER, high s", high)]
    });
}

/// What is signed is the object without `sig`: not with `null` in its place, nor with an empty one.
///
/// Rule 93: <https://atproto.com/specs/repository#commit-objects>
#[test]
fn a_signature_over_the_object_with_sig() {
    signatures(|| {
        let over = |sig: Vec<u8>| {
            in_signed(move |parts| {
                let mut object = parts.unsigned();
                object.set("sig", sig.clone());
                parts.sign(&object.encode());
            })
        };
        vec![
            ("null", over(null())),
            ("empty", over(item(Vec::<u8>::new()))),
            ("zeros", over(item(vec![0u8; 64]))),
        ]
    });
}

/// Every field missing, of another type, or with a value that the format does not have; each time
/// the account has signed just that.
///
/// Rule 94: <https://atproto.com/specs/repository#commit-objects>
#[test]
fn an_object_with_a_wrong_field() {
    let odd = || sha512_cid_of(b"x");
    let raw = |parts: &super::forgery::Parts| {
        let blessed = parts.object.get("data").to_vec();
        let at = blessed.windows(2).position(|w| w == [1, DAG_CBOR]).unwrap();
        let mut raw = blessed;
        raw[at + 1] = RAW;
        raw
    };
    let mut spoils = Vec::new();
    for field in ["did", "rev", "data", "prev", "version"] {
        let missing = in_parts(move |parts| parts.object.remove(field));
        spoils.push((format!("{field} is missing"), missing));
        let types = [
            ("null", null()),
            ("a bool", item(true)),
            ("a number", item(7)),
            ("text", item("x")),
            ("bytes", item(vec![1u8])),
            ("an array", array(&[])),
            ("a map", Fields(Vec::new()).encode()),
            ("a link of another hash", link(&odd())),
        ];
        let allowed = |name: &str| matches!((field, name), ("did", "text") | ("prev", "null"));
        for (name, value) in types.into_iter().filter(|(name, _)| !allowed(name)) {
            let spoil = in_parts(move |parts| parts.object.set(field, value.clone()));
            spoils.push((format!("{field} is {name}"), spoil));
        }
    }
    for version in [i64::MIN, -3, 0, 1, 2, 4, 259, i64::MAX] {
        let spoil = in_parts(move |parts| parts.object.set("version", item(version)));
        spoils.push((format!("version {version}"), spoil));
    }
    let raw_data = in_parts(move |parts| {
        let raw = raw(parts);
        parts.object.set("data", raw);
    });
    spoils.push(("data is a raw block".to_owned(), raw_data));
    let raw_root = in_parts(move |parts| {
        let raw = raw(parts);
        let cid = raw[raw.len() - 36..].to_vec();
        let root = parts
            .blocks
            .iter_mut()
            .find(|block| block.cid[2..] == cid[2..]);
        root.unwrap().cid = cid;
        parts.object.set("data", raw);
    });
    spoils.push(("the root is a raw block".to_owned(), raw_root));
    let unsigned = in_signed(|parts| parts.object.remove("sig"));
    spoils.push(("sig is missing".to_owned(), unsigned));
    for (name, value) in [
        ("null", null()),
        ("text", item("x")),
        ("an array", array(&[])),
        ("a link", link(&cid_of(DAG_CBOR, b"x"))),
    ] {
        let spoil = in_signed(move |parts| parts.object.set("sig", value.clone()));
        spoils.push((format!("sig is {name}"), spoil));
    }
    let cases = spoils.into_iter();
    let cases: Vec<_> = cases
        .map(|(name, spoil)| Case::new(name, spoil, Reject::CommitInvalid))
        .collect();
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
}

/// How an object becomes bytes.
type Encode = fn(&Fields) -> Vec<u8>;

/// Ways to write an object that are not canonical.
fn encodings() -> Vec<(&'static str, Encode)> {
    /// The canonical bytes with one part replaced.
    fn replaced(object: &Fields, from: &[u8], to: &[u8]) -> Vec<u8> {
        let bytes = object.encode();
        let mut places = bytes.windows(from.len());
        let at = places.position(|window| window == from).unwrap();
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    }
    /// One more pair at a place.
    fn with_pair(object: &Fields, at: usize, key: &[u8], value: &[u8]) -> Vec<u8> {
        let (before, after) = object.0.split_at(at);
        let before = Fields(before.to_vec()).pairs();
        let after = Fields(after.to_vec()).pairs();
        let pairs = head(5, object.0.len() + 1);
        [&pairs, &before, key, value, &after].concat()
    }
    vec![
        ("keys in reverse", |object| {
            let mut object = object.clone();
            object.0.reverse();
            object.encode()
        }),
        ("keys by the alphabet", |object| {
            let mut object = object.clone();
            object.0.sort();
            object.encode()
        }),
        ("two keys swapped", |object| {
            let mut object = object.clone();
            object.0.swap(0, 1);
            object.encode()
        }),
        ("a key twice", |object| {
            with_pair(object, 0, b"\x63did", object.get("did"))
        }),
        ("a key twice, at the end", |object| {
            with_pair(object, object.0.len(), b"\x67version", b"\x03")
        }),
        ("a long integer", |object| {
            replaced(object, b"\x67version\x03", b"\x67version\x18\x03")
        }),
        ("a longer integer", |object| {
            replaced(
                object,
                b"\x67version\x03",
                b"\x67version\x1b\0\0\0\0\0\0\0\x03",
            )
        }),
        ("a long length of text", |object| {
            replaced(object, b"\x63rev\x6d", b"\x63rev\x78\x0d")
        }),
        ("a long length of a key", |object| {
            replaced(object, b"\x63rev", b"\x78\x03rev")
        }),
        ("a long length of the map", |object| {
            let pairs = object.0.len() as u8;
            [&[0xb8, pairs], &object.pairs()[..]].concat()
        }),
        ("a map without a length", |object| {
            [b"\xbf", &object.pairs()[..], b"\xff"].concat()
        }),
        ("text in parts", |object| {
            let rev = object.get("rev");
            let part = [b"\x63rev\x7f", rev, b"\xff"].concat();
            replaced(object, &[b"\x63rev", rev].concat(), &part)
        }),
        ("a long tag", |object| {
            replaced(object, b"\x64data\xd8\x2a", b"\x64data\xd9\x00\x2a")
        }),
        ("a tag around the version", |object| {
            replaced(object, b"\x67version\x03", b"\x67version\xc1\x03")
        }),
        ("a link without its prefix", |object| {
            replaced(
                object,
                b"\x64data\xd8\x2a\x58\x25\x00",
                b"\x64data\xd8\x2a\x58\x24",
            )
        }),
        ("undefined for null", |object| {
            replaced(object, b"\x64prev\xf6", b"\x64prev\xf7")
        }),
        ("a float for the version", |object| {
            replaced(object, b"\x67version\x03", b"\x67version\xf9\x42\x00")
        }),
        ("a float in a field nobody knows", |object| {
            with_pair(object, object.0.len(), b"\x68whatever", b"\xf9\x42\x00")
        }),
        ("a key that is no text", |object| {
            with_pair(object, 0, b"\x01", b"\x01")
        }),
        ("text that is no text", |object| {
            with_pair(object, object.0.len(), b"\x68whatever", b"\x61\xff")
        }),
        ("one pair too few", |object| {
            [head(5, object.0.len() + 1), object.pairs()].concat()
        }),
    ]
}

/// Once the account has signed what it wrote, and once the canonical form of it.
///
/// Rules 95, 184: <https://dasl.ing/drisl.html>
#[test]
fn an_object_that_is_not_canonical() {
    let mut cases = Vec::new();
    for (name, encode) in encodings() {
        let signed = in_parts(move |parts| parts.encode = encode);
        cases.push(Case::new(name, signed, Reject::CommitInvalid));
        let canonical = in_signed(move |parts| parts.encode = encode);
        let name = format!("{name}; the canonical form is signed");
        cases.push(Case::new(name, canonical, Reject::CommitInvalid));
    }
    let mut deep = vec![0x81; 10_000];
    deep.push(0);
    let bombs = [
        ("deep arrays", deep),
        ("2^40 bytes", b"\x5b\0\0\x01\0\0\0\0\0".to_vec()),
        ("2^40 items", b"\x9b\0\0\x01\0\0\0\0\0".to_vec()),
        ("2^62 pairs", b"\xbb\x40\0\0\0\0\0\0\0".to_vec()),
    ];
    for (name, value) in bombs {
        let spoil = in_parts(move |parts| parts.object.set("whatever", value.clone()));
        cases.push(Case::new(name, spoil, Reject::CommitInvalid));
    }
    for (name, end) in [("a byte more", &b"\0"[..]), ("an item more", b"\xa0")] {
        let spoil = in_block(move |block| block.extend_from_slice(end));
        cases.push(Case::new(name, spoil, Reject::CommitInvalid));
    }
    let cut = in_block(|block| {
        block.pop();
    });
    cases.push(Case::new("a byte less", cut, Reject::CommitInvalid));
    for (name, block) in [
        ("nothing", &b""[..]),
        ("an empty map", b"\xa0"),
        ("null", b"\xf6"),
    ] {
        let spoil = in_block(move |bytes| *bytes = block.to_vec());
        cases.push(Case::new(name, spoil, Reject::CommitInvalid));
    }
    let mut stage = Stage::set_up();
    let mut account = writer(&mut stage);
    drops_all(&mut stage, &mut account, &cases);
    // A field that nobody knows is signed with the rest: it can not be added afterwards.
    let unsigned_field = in_signed(|parts| parts.object.set("whatever", item(1)));
    let forged = forge(&account, &one_of_each(&account), &unsigned_field);
    stage.drops(&mut account, &forged, Reject::SignatureInvalid);
}
