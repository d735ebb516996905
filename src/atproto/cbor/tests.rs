//! Every rule of the encoding with what it allows and what it forbids, and both directions against
//! an implementation of other authors.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ipld_core::{cid, ipld::Ipld};
use proptest::prelude::*;
use serde_ipld_dagcbor as oracle;

use super::*;
use crate::limits::CBOR_DEPTH_MAX;

/// A link to the empty tree.
const LINK: &str =
    "d82a582500017112209dfefe61dd76ea3dcae5023880b08379d57adf20482d6fdbe2759289f647677b";

/// What is not canonical, and why: for the tests of all that is written in this encoding. Each is a
/// whole item, or what takes the place of one.
pub(crate) const NOT_CANONICAL: &[(&str, &str)] = &[
    ("half float", "f93c00"),
    ("float", "fa3f800000"),
    ("double", "fb3ff0000000000000"),
    ("not a number", "f97e00"),
    ("undefined", "f7"),
    ("simple value", "e0"),
    ("simple value of two bytes", "f8ff"),
    ("break", "ff"),
    ("reserved", "1c"),
    ("tag 0", "c0607431393730"),
    ("tag 1", "c100"),
    ("bignum", "c24101"),
    ("negative bignum", "c34101"),
    ("tag 55799", "d9d9f700"),
    ("link with an over-long tag", "d9002a450001550000"),
    ("link without a CID", "d82a4100"),
    ("indefinite bytes", "5f4100ff"),
    ("indefinite text", "7f6161ff"),
    ("indefinite array", "9f00ff"),
    ("indefinite map", "bf616100ff"),
    ("over-long integer", "1817"),
    ("over-long length", "5800"),
    ("over-long count", "9800"),
    ("integer outside of 64 bits with sign", "1bffffffffffffffff"),
    ("repeated key", "a2616100616101"),
    ("unsorted keys", "a2616200616100"),
    ("longer key first", "a262616100616200"),
    ("integer key", "a10000"),
    ("not UTF-8", "61ff"),
    ("2^40 bytes", "5b0000010000000000"),
    ("2^40 items", "9b0000010000000000"),
];

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

fn canonical(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    reader.skip() == Ok(0..bytes.len()) && reader.is_at_end()
}

/// Reads the next item by its type and writes it again.
fn copy(reader: &mut Reader<'_>, writer: &mut Writer) {
    let at = reader.position();
    if reader.take_null() {
        writer.null();
        return;
    }
    // A read of another type than the item's leaves the reader anywhere.
    macro_rules! or_back {
        ($read:expr) => {
            $read.inspect_err(|_| reader.seek(at))
        };
    }
    if let Ok(n) = or_back!(reader.int()) {
        writer.int(n);
    } else if let Ok(text) = or_back!(reader.text()) {
        writer.text(text);
    } else if let Ok(bytes) = or_back!(reader.bytes()) {
        writer.bytes(bytes);
    } else if let Ok(bool) = or_back!(reader.bool()) {
        writer.bool(bool);
    } else if let Ok(cid) = or_back!(reader.cid()) {
        writer.cid(&cid);
    } else if let Ok(cid) = or_back!(reader.link()) {
        writer.link(cid);
    } else if let Ok(count) = or_back!(reader.array()) {
        writer.array(count);
        (0..count).for_each(|_| copy(reader, writer));
    } else {
        let mut map = reader.map().unwrap();
        writer.map(map.left());
        while let Some(key) = map.next_key(reader).unwrap() {
            writer.text(key);
            copy(reader, writer);
        }
    }
}

/// What our reader accepts is the same bytes when it is written again, by us and by others.
#[track_caller]
pub(crate) fn re_encodes(bytes: &[u8]) {
    assert!(canonical(bytes), "{bytes:x?}");
    let (mut reader, mut writer) = (Reader::new(bytes), Writer::new());
    copy(&mut reader, &mut writer);
    assert!(reader.is_at_end());
    assert_eq!(writer.into_bytes(), bytes);
    assert_eq!(others(bytes).as_deref(), Some(bytes), "{bytes:x?}");
}

/// What the other implementation makes of bytes, if it accepts them.
fn others(bytes: &[u8]) -> Option<Vec<u8>> {
    let value = oracle::from_slice::<Ipld>(bytes).ok()?;
    Some(oracle::to_vec(&value).unwrap())
}

/// `head`, then `count` bytes.
fn filled(head: &str, fill: u8, count: usize) -> String {
    head.to_owned() + &HEXLOWER.encode(&vec![fill; count])
}

/// A map of 24 pairs and so with a head of two bytes, or that with another head.
fn map_of_24(head: &str) -> String {
    let pairs = (b'a'..=b'x').map(|key| HEXLOWER.encode(&[0x61, key, 0]));
    head.to_owned() + &pairs.collect::<String>()
}

/// Rule 182: <https://dasl.ing/drisl.html>
#[test]
fn every_rule_allows_something_and_forbids_something() {
    let owned = |list: &[&str]| -> Vec<String> { list.iter().map(|s| (*s).to_owned()).collect() };
    let link = LINK.to_owned();
    for (rule, allowed, forbidden) in [
        (
            "integers are in their shortest form",
            owned(&[
                "00",
                "17",
                "1818",
                "18ff",
                "190100",
                "19ffff",
                "1a00010000",
                "1affffffff",
                "1b0000000100000000",
                "20",
                "37",
                "3818",
                "38ff",
                "390100",
                "3a00010000",
                "3b0000000100000000",
            ]),
            owned(&[
                "1800",
                "1817",
                "190000",
                "1900ff",
                "1a00000000",
                "1a0000ffff",
                "1b0000000000000000",
                "1b00000000ffffffff",
                "3817",
                "3900ff",
                "3a0000ffff",
                "3b00000000ffffffff",
            ]),
        ),
        (
            "integers have 64 bits with sign",
            owned(&["1b7fffffffffffffff", "3b7fffffffffffffff"]),
            owned(&[
                "1b8000000000000000",
                "1bffffffffffffffff",
                "3b8000000000000000",
            ]),
        ),
        (
            "lengths are in their shortest form",
            vec![
                filled("57", 7, 23),
                filled("5818", 7, 24),
                filled("58ff", 7, 255),
                filled("590100", 7, 256),
                filled("77", b'x', 23),
                filled("7818", b'x', 24),
                filled("97", 0, 23),
                filled("9818", 0, 24),
                filled("990100", 0, 256),
                map_of_24("b818"),
            ],
            vec![
                "5800".into(),
                filled("5817", 7, 23),
                filled("590018", 7, 24),
                filled("5a00000100", 7, 256),
                filled("7817", b'x', 23),
                filled("790018", b'x', 24),
                filled("9817", 0, 23),
                filled("990018", 0, 24),
                "b800".into(),
                map_of_24("b90018"),
            ],
        ),
        (
            "lengths are definite",
            owned(&["4100", "6161", "8100", "a1616100"]),
            owned(&[
                "5f4100ff",
                "5fff",
                "7f6161ff",
                "7fff",
                "9f00ff",
                "9fff",
                "bf616100ff",
                "bfff",
                "ff",
                "81ff",
                "8261615fff",
            ]),
        ),
        (
            "no other additional information",
            owned(&["17", "1818"]),
            owned(&[
                "1c", "1d", "1e", "1f", "3c", "5c", "7d", "9e", "bc", "dc", "df", "fc", "fe",
            ]),
        ),
        (
            "keys are text",
            owned(&["a0", "a1616100", "a16000"]),
            vec![
                "a10000".into(),
                "a1410000".into(),
                "a1f600".into(),
                "a18000".into(),
                format!("a1{link}00"),
            ],
        ),
        (
            "keys ascend by length and then bytewise",
            vec![
                "a2616100616200".into(),
                "a261620062616100".into(),
                "a26000617f00".into(),
                map_of_24("b818"),
            ],
            owned(&["a2616200616100", "a262616100616200", "a2616100615a00"]),
        ),
        (
            "no key is there twice",
            owned(&["a1616100"]),
            owned(&["a2616100616100", "a2600060f6", "81a2616100616100"]),
        ),
        (
            "tags are links and are short",
            vec![link.clone(), format!("81{link}"), format!("a16161{link}")],
            vec![
                "c0607431393730".into(),
                "c100".into(),
                "c24101".into(),
                "c34101".into(),
                "d82b00".into(),
                "d8294100".into(),
                "d9d9f700".into(),
                link.replacen("d82a", "d9002a", 1),
                link.replacen("d82a", "da0000002a", 1),
                "d82a".into(),
            ],
        ),
        (
            "links are bytes of 0x00 and a CID",
            vec![
                link.clone(),
                link.replacen("0171", "0155", 1),
                // As records may have them: version 0, and another codec.
                link.replacen("582500017112", "58230012", 1),
                link.replacen("0171", "0170", 1),
            ],
            vec![
                "d82a40".into(),
                "d82a4100".into(),
                "d82a420001".into(),
                "d82a43000171".into(),
                "d82af6".into(),
                "d82a80".into(),
                link.replacen("5825", "7825", 1),
                link.replacen("582500", "582501", 1),
                link.replacen("58250001", "58250002", 1),
                // One byte of the digest more or less.
                link.replacen("5825", "5826", 1) + "00",
                link.replacen("5825", "5824", 1)[..link.len() - 2].to_owned(),
                link.replacen("5825", "590025", 1),
            ],
        ),
        (
            "no simple values but false, true and null",
            owned(&["f4", "f5", "f6", "83f4f5f6"]),
            owned(&["e0", "f3", "f7", "f800", "f814", "f816", "f818", "f8ff"]),
        ),
        (
            "no floats",
            owned(&["01"]),
            owned(&[
                "f90000",
                "f93c00",
                "f97c00",
                "f97e00",
                "fa00000000",
                "fa3f800000",
                "fa7fc00000",
                "fb0000000000000000",
                "fb3ff0000000000000",
                "fb7ff8000000000000",
                "81fb3ff0000000000000",
            ]),
        ),
        (
            "text is UTF-8 and not normalised",
            owned(&["62c3a9", "6365cc81", "64f09f909b", "6100", "617f"]),
            owned(&[
                "61ff",
                "61c3",
                "62c080",
                "63eda080",
                "64f4908080",
                "a161ff00",
            ]),
        ),
        (
            "one item and nothing after it",
            owned(&["00", "8100"]),
            owned(&["0000", "8100ff", "80f6", "a0a0"]),
        ),
        (
            "all of the item is there",
            owned(&["8200f6", "a1616101", "420000", "626162"]),
            owned(&[
                "",
                "18",
                "1901",
                "1a000100",
                "1b00000001",
                "4200",
                "6261",
                "8200",
                "a16161",
                "a1",
                "a2616100",
                "5b0000010000000000",
                "7b0000010000000000",
                "9b0000010000000000",
                "bb0000010000000000",
                "bb4000000000000000",
                "5bffffffffffffffff",
                "9bffffffffffffffff",
            ]),
        ),
    ] {
        assert!(!allowed.is_empty() && !forbidden.is_empty());
        for hex in allowed {
            re_encodes(&bytes(&hex));
        }
        for hex in forbidden {
            assert!(!canonical(&bytes(&hex)), "{rule}: {hex}");
            // Also where it is not alone.
            if !hex.is_empty() && rule != "one item and nothing after it" {
                let inside = bytes(&format!("82{hex}00"));
                assert!(!canonical(&inside), "{rule}: {hex} in an array");
            }
        }
    }
    for (why, hex) in NOT_CANONICAL {
        assert!(!canonical(&bytes(hex)), "{why}");
    }
}

/// Rule 185: <https://atproto.com/specs/repository#security-considerations>
#[test]
fn nesting_is_bounded() {
    let nested = |open: &str, depth: usize| bytes(&(open.repeat(depth) + "00"));
    for open in ["81", "a16161", "9f", "bf6161", "d82a", "8200", "a260606161"] {
        let deep = nested(open, 10_000);
        assert_eq!(Reader::new(&deep).skip(), Err(CborError::Malformed));
    }
    for open in ["81", "a16161"] {
        re_encodes(&nested(open, CBOR_DEPTH_MAX));
        assert!(!canonical(&nested(open, CBOR_DEPTH_MAX + 1)));
    }
}

#[test]
fn typed_reads_tell_types_apart() {
    let mut writer = Writer::new();
    writer
        .int(-7)
        .text("x")
        .bytes(b"y")
        .bool(true)
        .null()
        .uint(5);
    let bytes = writer.into_bytes();
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.clone().uint(), Err(CborError::Type));
    assert_eq!(reader.int(), Ok(-7));
    assert_eq!(reader.text(), Ok("x"));
    assert_eq!(reader.bytes(), Ok(&b"y"[..]));
    assert_eq!(reader.bool(), Ok(true));
    assert!(reader.take_null());
    assert!(!reader.take_null());
    assert_eq!(reader.uint(), Ok(5));
    assert!(reader.is_at_end());
}

/// Values as the protocol has them.
fn value() -> impl Strategy<Value = Ipld> {
    let link = cid::Cid::try_from(&bytes(LINK)[5..]).unwrap();
    let leaf = prop_oneof![
        Just(Ipld::Null),
        any::<bool>().prop_map(Ipld::Bool),
        any::<i64>().prop_map(|n| Ipld::Integer(n.into())),
        (0..70_000i64).prop_map(|n| Ipld::Integer((n - 300).into())),
        ".{0,30}".prop_map(Ipld::String),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Ipld::Bytes),
        Just(Ipld::Link(link)),
    ];
    leaf.prop_recursive(5, 60, 30, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..30).prop_map(Ipld::List),
            prop::collection::btree_map(".{0,26}", inner, 0..30).prop_map(Ipld::Map),
        ]
    })
}

/// Whether a value is outside of what the protocol allows and the other implementation does.
fn is_beyond(value: &Ipld, depth: usize) -> bool {
    match value {
        Ipld::Float(_) => true,
        Ipld::Integer(n) => i64::try_from(*n).is_err(),
        Ipld::List(items) => depth == 0 || items.iter().any(|item| is_beyond(item, depth - 1)),
        Ipld::Map(map) => depth == 0 || map.values().any(|item| is_beyond(item, depth - 1)),
        _ => false,
    }
}

/// Ours and the other implementation say the same of any bytes.
fn agree(bytes: &[u8]) {
    if canonical(bytes) {
        re_encodes(bytes);
    } else if let Ok(value) = oracle::from_slice::<Ipld>(bytes) {
        let same = oracle::to_vec(&value).is_ok_and(|again| again == bytes);
        assert!(
            !same || is_beyond(&value, CBOR_DEPTH_MAX),
            "{bytes:x?} is refused"
        );
    }
}

/// Heads of every type, with short arguments and long ones.
const HEADS: &[u8] = &[
    0x00, 0x01, 0x17, 0x18, 0x19, 0x20, 0x38, 0x40, 0x41, 0x42, 0x58, 0x60, 0x61, 0x62, 0x78, 0x80,
    0x81, 0x82, 0x98, 0xa0, 0xa1, 0xa2, 0xb8, 0xc2, 0xd8, 0x2a, 0xf4, 0xf6, 0xf7, 0xf9, 0xfb, 0xff,
];

/// The other order of keys: what a map would be if it were sorted as `BTreeMap` does.
fn with_keys_of(map: &BTreeMap<String, Ipld>) -> Vec<u8> {
    let mut out = Writer::new();
    out.map(map.len());
    for (key, value) in map {
        out.text(key).raw(&oracle::to_vec(value).unwrap());
    }
    out.into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever others write is accepted, and written again as it was.
    ///
    /// Rule 182: <https://dasl.ing/drisl.html>
    #[test]
    fn values_of_others_are_read_and_written_alike(value in value()) {
        re_encodes(&oracle::to_vec(&value).unwrap());
        if let Ipld::Map(map) = &value {
            agree(&with_keys_of(map));
        }
    }

    /// Damaged at one to three places, it is accepted by both or by neither.
    ///
    /// Rule 182: <https://dasl.ing/drisl.html>
    #[test]
    fn damaged_values_are_judged_alike(value in value(), seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut bytes = oracle::to_vec(&value).unwrap();
        for _ in 0..rng.usize(1..=3) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..5) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] ^= 1 << rng.u8(..8),
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, rng.u8(..)),
                _ => {
                    let other = rng.usize(..bytes.len());
                    bytes.swap(at, other);
                }
            }
            agree(&bytes);
            if bytes.is_empty() {
                break;
            }
        }
    }

    #[test]
    fn random_bytes_are_judged_alike(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        agree(&bytes);
    }

    /// A few bytes that mean something, in any order.
    #[test]
    fn random_items_are_judged_alike(
        bytes in prop::collection::vec(
            prop::sample::select(HEADS),
            0..12,
        ),
    ) {
        agree(&bytes);
    }
}
