//! Frames against the rules of the stream, one by one, and frames that were damaged at random.

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::{
    atproto::{
        cbor::{Writer, tests::NOT_CANONICAL},
        seq::Seq,
        splice,
    },
    sim::{account::Account, event},
};

type Field = (&'static str, fn(&mut Writer));

const COMMIT: [Field; 12] = [
    ("ops", |w| {
        w.array(0);
    }),
    ("rev", |w| {
        w.text("r");
    }),
    ("seq", |w| {
        w.uint(9);
    }),
    ("repo", |w| {
        w.text("did:web:a.b");
    }),
    ("time", |w| {
        w.text("t");
    }),
    ("blobs", |w| {
        w.array(1).cid(&Cid::of_cbor(b"blob"));
    }),
    ("since", |w| {
        w.text("s");
    }),
    ("blocks", |w| {
        w.bytes(b"car");
    }),
    ("commit", |w| {
        w.cid(&Cid::of_cbor(b"x"));
    }),
    ("rebase", |w| {
        w.bool(false);
    }),
    ("tooBig", |w| {
        w.bool(false);
    }),
    ("prevData", |w| {
        w.cid(&Cid::of_cbor(b"y"));
    }),
];

const SYNC: [Field; 5] = [
    ("did", |w| {
        w.text("did:web:a.b");
    }),
    ("rev", |w| {
        w.text("r");
    }),
    ("seq", |w| {
        w.uint(9);
    }),
    ("time", |w| {
        w.text("t");
    }),
    ("blocks", |w| {
        w.bytes(b"car");
    }),
];

const IDENTITY: [Field; 4] = [
    SYNC[0],
    SYNC[2],
    SYNC[3],
    ("handle", |w| {
        w.text("a.b");
    }),
];

const ACCOUNT: [Field; 5] = [
    SYNC[0],
    SYNC[2],
    SYNC[3],
    ("active", |w| {
        w.bool(true);
    }),
    ("status", |w| {
        w.text("x");
    }),
];

const INFO: [Field; 1] = [("name", |w| {
    w.text("OutdatedCursor");
})];

const TYPES: [(&str, &[Field], &[&str]); 4] = [
    // What may be missing.
    (
        "#commit",
        &COMMIT,
        &["blobs", "since", "rebase", "tooBig", "prevData"],
    ),
    ("#sync", &SYNC, &[]),
    ("#identity", &IDENTITY, &["handle"]),
    ("#account", &ACCOUNT, &["status"]),
];

fn frame(t: &str, fields: &[Field]) -> Vec<u8> {
    let mut out = Writer::append_to(event::header(t));
    out.map(fields.len());
    for (name, value) in fields {
        out.text(name);
        value(&mut out);
    }
    out.into_bytes()
}

fn parse(frame: &[u8]) -> Result<Event<'_>, FrameError> {
    Message::parse(frame).map(|message| match message {
        Message::Event(event) => event,
        other => panic!("{other:?}"),
    })
}

fn headed(header: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    header(&mut out);
    out.map(0);
    out.into_bytes()
}

fn unknown(header: impl FnOnce(&mut Writer)) -> bool {
    matches!(Message::parse(&headed(header)), Ok(Message::Unknown))
}

fn malformed(header: impl FnOnce(&mut Writer)) -> bool {
    matches!(Message::parse(&headed(header)), Err(FrameError::Malformed))
}

#[test]
fn headers_are_known_ignored_or_malformed() {
    let sync = frame("#sync", &SYNC);
    assert_eq!(sync[..9], *b"\xa2\x61t\x65#sync");
    assert!(unknown(|w| {
        w.map(2).text("t").text("#handle").text("op").int(1);
    }));
    assert!(unknown(|w| {
        w.map(2).text("t").text("#commit").text("op").int(2);
    }));
    assert!(unknown(|w| {
        w.map(2).text("t").text("#commit").text("op").int(i64::MIN);
    }));
    assert!(unknown(|w| {
        w.map(2).text("t").text("commit").text("op").int(1);
    }));
    assert!(unknown(|w| {
        w.map(1).text("op").int(1);
    }));
    // Other fields are nobody's business.
    let extra = |w: &mut Writer| {
        w.map(3)
            .text("t")
            .text("#sync")
            .text("op")
            .int(1)
            .text("zzz")
            .map(0);
    };
    let mut out = Writer::new();
    extra(&mut out);
    let mut with_extra = out.into_bytes();
    with_extra.extend_from_slice(&sync[event::header("#sync").len()..]);
    assert!(parse(&with_extra).is_ok());
    assert!(malformed(|w| {
        w.map(0);
    }));
    assert!(malformed(|w| {
        w.map(1).text("t").text("#sync");
    }));
    assert!(malformed(|w| {
        w.map(1).text("op").text("1");
    }));
    assert!(malformed(|w| {
        w.map(2).text("t").int(1).text("op").int(1);
    }));
    assert!(malformed(|w| {
        w.map(2).text("op").int(1).text("t").text("#sync");
    }));
    assert!(malformed(|w| {
        w.array(0);
    }));
}

#[test]
fn a_frame_is_two_items() {
    let good = frame("#sync", &SYNC);
    assert!(parse(&good).is_ok());
    for len in 0..good.len() {
        assert_eq!(
            Message::parse(&good[..len]).unwrap_err(),
            FrameError::Malformed
        );
    }
    let long = [&good[..], &[0xf6]].concat();
    assert_eq!(Message::parse(&long).unwrap_err(), FrameError::Malformed);
    // An unknown type does not excuse what is not canonical.
    let float = [&event::header("#new")[..], b"\xf9\x3c\x00"].concat();
    assert_eq!(Message::parse(&float).unwrap_err(), FrameError::Malformed);
    let list = [&event::header("#sync")[..], &[0x80]].concat();
    assert_eq!(Message::parse(&list).unwrap_err(), FrameError::Schema);
}

/// A frame with one field more, of which only the encoding matters.
fn with_unknown(t: &str, fields: &[Field], item: &[u8]) -> Vec<u8> {
    let mut out = Writer::append_to(event::header(t));
    out.map(fields.len() + 1);
    for (name, value) in fields {
        out.text(name);
        value(&mut out);
    }
    out.text("unknownField").raw(item);
    out.into_bytes()
}

/// The header of a frame with one field more.
fn header_with(item: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.map(3).text("t").text("#sync").text("op").int(1);
    out.text("unknownField").raw(item);
    out.into_bytes()
}

/// Rule 184: <https://dasl.ing/drisl.html>
#[test]
fn nothing_that_is_not_canonical_passes_anywhere() {
    let payload = &frame("#sync", &SYNC)[event::header("#sync").len()..];
    let everywhere = |item: &[u8]| {
        let mut frames: Vec<Vec<u8>> = TYPES
            .iter()
            .map(|(t, fields, _)| with_unknown(t, fields, item))
            .collect();
        // In the header, in a type that is not known, and further inside.
        frames.push([&header_with(item)[..], payload].concat());
        frames.push(with_unknown("#new", &SYNC, item));
        frames.push(with_unknown("#info", &INFO, item));
        let inside = [&[0xa1, 0x61, b'k', 0x82, 0x00], item].concat();
        frames.push(with_unknown("#commit", &COMMIT, &inside));
        frames
    };
    for frame in everywhere(&[0x00]) {
        assert!(Message::parse(&frame).is_ok());
    }
    for (why, hex) in NOT_CANONICAL {
        for frame in everywhere(&HEXLOWER.decode(hex.as_bytes()).unwrap()) {
            let error = Message::parse(&frame).unwrap_err();
            assert_eq!(error, FrameError::Malformed, "{why}");
        }
    }
    for (t, fields, _) in TYPES {
        let malformed = |frame: &[u8]| {
            assert_eq!(Message::parse(frame).unwrap_err(), FrameError::Malformed);
        };
        for at in 1..fields.len() {
            let mut swapped = fields.to_vec();
            swapped.swap(at - 1, at);
            malformed(&frame(t, &swapped));
            let mut repeated = fields.to_vec();
            repeated.insert(at, fields[at]);
            malformed(&frame(t, &repeated));
        }
        // The map itself: without an end that is known, and with an over-long count.
        let good = frame(t, fields);
        let (head, body) = good.split_at(event::header(t).len());
        malformed(&[head, &[0xbf], &body[1..], &[0xff]].concat());
        malformed(&[head, &[0xb8, body[0] & 0x1f], &body[1..]].concat());
    }
}

#[test]
fn errors_and_infos_are_told() {
    let error = event::error("FutureCursor", "Cursor in the future.");
    assert!(matches!(
        Message::parse(&error),
        Ok(Message::Error {
            error: "FutureCursor",
            message: Some("Cursor in the future.")
        })
    ));
    let info = event::info("OutdatedCursor", "x");
    assert!(matches!(
        Message::parse(&info),
        Ok(Message::Info {
            name: "OutdatedCursor",
            message: Some("x")
        })
    ));
    let nameless = [&event::header("#info")[..], &[0xa0]].concat();
    assert_eq!(Message::parse(&nameless).unwrap_err(), FrameError::Schema);
}

#[test]
fn required_fields_are_there_and_others_may_be() {
    for (t, fields, optional) in TYPES {
        let event = frame(t, fields);
        let parsed = parse(&event).unwrap();
        assert_eq!(
            (parsed.did, parsed.seq.get(), parsed.time),
            ("did:web:a.b", 9, "t")
        );
        assert_eq!(format!("#{}", parsed.body.name()), t);
        for (missing, (name, _)) in fields.iter().enumerate() {
            let mut some = fields.to_vec();
            some.remove(missing);
            let event = frame(t, &some);
            let expected = optional.contains(name);
            assert_eq!(parse(&event).is_ok(), expected, "{t} without {name}");
        }
    }
}

#[test]
fn fields_have_their_types() {
    for (t, fields, _) in TYPES {
        for at in 0..fields.len() {
            // No field is a map.
            let mut wrong = fields.to_vec();
            wrong[at].1 = |w| {
                w.map(0);
            };
            let event = frame(t, &wrong);
            assert_eq!(
                parse(&event).unwrap_err(),
                FrameError::Schema,
                "{t} {}",
                fields[at].0
            );
            // Only `since` may be null.
            wrong[at].1 = |w| {
                w.null();
            };
            let event = frame(t, &wrong);
            assert_eq!(
                parse(&event).is_ok(),
                fields[at].0 == "since",
                "{t} {}",
                fields[at].0
            );
        }
    }
    let mut wrong = SYNC;
    for bad in [
        (|w| {
            w.uint(0);
        }) as fn(&mut Writer),
        |w| {
            w.int(-1);
        },
        |w| {
            w.uint(Seq::MAX.get() + 1);
        },
        |w| {
            w.text("9");
        },
    ] {
        wrong[2].1 = bad;
        let event = frame("#sync", &wrong);
        assert_eq!(parse(&event).unwrap_err(), FrameError::Schema);
    }
    wrong[2].1 = |w| {
        w.uint(Seq::MAX.get());
    };
    assert!(parse(&frame("#sync", &wrong)).is_ok());
    let mut wrong = COMMIT;
    wrong[5].1 = |w| {
        w.array(1).text("no link");
    };
    let event = frame("#commit", &wrong);
    assert_eq!(parse(&event).unwrap_err(), FrameError::Schema);
}

/// The operations of a `#commit` whose op has these fields.
fn ops(action: &str, cid: Option<bool>, prev: Option<bool>) -> Result<(OpKind, bool), Reject> {
    let (cid, prev) = (
        cid.map(|some| some.then(|| Cid::of_cbor(b"a"))),
        prev.map(|some| some.then(|| Cid::of_cbor(b"b"))),
    );
    let mut out = Writer::new();
    out.array(1);
    out.map(2 + usize::from(cid.is_some()) + usize::from(prev.is_some()));
    if let Some(cid) = cid {
        out.text("cid").cid_or_null(cid.as_ref());
    }
    out.text("path").text("a.b.c/d");
    if let Some(prev) = prev {
        out.text("prev").cid_or_null(prev.as_ref());
    }
    out.text("action").text(action);
    let bytes = out.into_bytes();
    let (place, mut out) = (0..bytes.len(), Vec::new());
    let legacy = parse_ops(&bytes, &place, &mut out)?;
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].path.of(&bytes), b"a.b.c/d");
    let link = |span: Span| Cid::from_bytes(span.of(&bytes)).ok();
    match out[0].kind {
        OpKind::Create { cid } => assert_eq!(link(cid), Some(Cid::of_cbor(b"a"))),
        OpKind::Update { cid, prev } => {
            assert_eq!(link(cid), Some(Cid::of_cbor(b"a")));
            assert_eq!(link(prev), (!legacy).then(|| Cid::of_cbor(b"b")));
        }
        OpKind::Delete { prev } => assert_eq!(link(prev), (!legacy).then(|| Cid::of_cbor(b"b"))),
    }
    Ok((out[0].kind, legacy))
}

#[test]
fn operations_say_what_their_action_needs() {
    let (absent, null, some) = (None, Some(false), Some(true));
    assert!(matches!(
        ops("create", some, absent),
        Ok((OpKind::Create { .. }, false))
    ));
    assert!(matches!(
        ops("create", some, null),
        Ok((OpKind::Create { .. }, false))
    ));
    assert!(matches!(
        ops("update", some, some),
        Ok((OpKind::Update { .. }, false))
    ));
    assert!(matches!(
        ops("delete", null, some),
        Ok((OpKind::Delete { .. }, false))
    ));
    // As before Sync 1.1.
    assert!(matches!(ops("update", some, absent), Ok((_, true))));
    assert!(matches!(ops("delete", null, null), Ok((_, true))));
    for (action, cid, prev) in [
        ("create", null, absent),
        ("create", some, some),
        ("update", null, some),
        ("delete", some, some),
        ("upsert", some, absent),
        ("", some, absent),
    ] {
        assert_eq!(
            ops(action, cid, prev).unwrap_err(),
            Reject::OpInvalid,
            "{action}"
        );
    }
    for action in ["create", "update", "delete"] {
        assert_eq!(
            ops(action, absent, some).unwrap_err(),
            Reject::SchemaInvalid
        );
    }
}

/// Some valid frame.
fn valid(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut account = Account::random(rng, 0);
    account.status = [None, Some("deactivated")][rng.usize(..2)];
    for text in ["one", "two"] {
        let post = account.post(text);
        account.commit(&[post]);
    }
    let event = match rng.u8(..4) {
        0 => account.identity(),
        1 => account.account(),
        2 => account.sync().unwrap(),
        _ => {
            let post = account.post("three");
            account.commit(&[post])
        }
    };
    event.frame(rng.u64(1..1 << 53)).to_vec()
}

/// Everything that the relay may do to a frame leaves two canonical items that say the same.
fn splice_all(bytes: &[u8], rng: &mut fastrand::Rng) {
    let Ok(Message::Event(event)) = Message::parse(bytes) else {
        return;
    };
    let (layout, did) = (&event.layout, event.did);
    let mut results = vec![splice::Spliced {
        frame: bytes.to_vec(),
        seq: layout.seq.clone(),
    }];
    results.extend(splice::drop_handle(bytes, layout));
    match event.body {
        Body::Account { .. } => {
            let status = [None, Some("takendown")][rng.usize(..2)];
            results.push(splice::set_status(bytes, layout, rng.bool(), status));
        }
        Body::Commit(_) => results.extend(splice::fill_commit(bytes, layout)),
        _ => {}
    }
    for spliced in results {
        let bits = rng.u32(1..54);
        let seq = Seq::new(rng.u64(1..1 << bits)).unwrap();
        let out = splice::put_seq(&spliced.frame, &spliced.seq, seq, Vec::new());
        let again = parse(&out).unwrap();
        assert_eq!((again.seq, again.did, again.time), (seq, did, event.time));
        assert_eq!(again.body.name(), event.body.name());
        if let (Body::Commit(a), Body::Commit(b)) = (&event.body, &again.body) {
            assert_eq!(bytes[a.blocks.clone()], out[b.blocks.clone()]);
            assert_eq!(bytes[a.ops.clone()], out[b.ops.clone()]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        splice_all(&bytes, rng);
        let headed = [&event::header("#account")[..], &bytes].concat();
        splice_all(&headed, rng);
    }

    #[test]
    fn damaged_frames_are_survived(seed in any::<u64>()) {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut bytes = valid(rng);
        splice_all(&bytes, rng);
        for _ in 0..1 + rng.usize(..4) {
            let at = rng.usize(..bytes.len());
            match rng.u8(..4) {
                0 => bytes[at] = rng.u8(..),
                1 => bytes[at] ^= 1 << rng.u8(..8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, rng.u8(..)),
            }
            splice_all(&bytes, rng);
            if bytes.is_empty() {
                break;
            }
        }
    }
}
