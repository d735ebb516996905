//! What strangers declare costs no memory: lengths and counts up to 2^64 in inputs of a few hundred
//! bytes, with every byte counted that is allocated meanwhile.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{hint::black_box, sync::Arc, time::Duration};

use peak_alloc::PeakAlloc;
use serde_json::json;
use zlay::{
    atproto::{
        car::BlockTable,
        cbor::{Reader, Writer},
        cid::Cid,
        commit::Commit,
        crypto::PublicKey,
        did::Did,
        envelope::{Body, Message},
        prove::{self, Workspace},
        seq::Seq,
        splice,
    },
    identity::Identity,
    reject::Reject,
    sim::{
        account::Account,
        event,
        repo::{Draft, Sealed, Signing},
        tree::Block,
    },
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What reading any of these inputs may take at once, in bytes.
const PEAK_MAX: usize = 64 << 10;
/// The inputs themselves, in bytes; those that are deep instead of large have one per level.
const INPUT_MAX: usize = 2_000;
const DEPTH: usize = 10_000;

const LENGTHS: [u64; 10] = [
    1 << 20,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    (1 << 53) - 1,
    1 << 53,
    1 << 61,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// The most that was allocated at once while `read` ran, beside what was there before.
fn peak_of<T>(read: impl FnOnce() -> T) -> (usize, T) {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let result = black_box(read());
    (ALLOCATED.peak_usage() - before, result)
}

/// The head of an item: its major type, and a length or count of eight bytes.
fn head(major: u8, length: u64) -> Vec<u8> {
    [&[major << 5 | 27][..], &length.to_be_bytes()].concat()
}

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const LARGE: [u8; 4] = [BYTES, TEXT, ARRAY, MAP];

/// Items that are not what they say: of every type and length, and of every type too deep.
fn items() -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    for major in LARGE {
        for length in LENGTHS {
            items.push(head(major, length));
            // With something of what was promised.
            items.push([head(major, length), b"\x61a\x61b\x61c\x61d".to_vec()].concat());
        }
    }
    for open in [&[0x81][..], &[0xa1, 0x61, b'k'], &[0x9f], &[0xd8, 0x2a]] {
        items.push(open.repeat(DEPTH));
    }
    items
}

fn writer(write: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    let mut out = Writer::new();
    write(&mut out);
    out.into_bytes()
}

/// A map of which every value in turn is `item`.
fn maps(pairs: &[(&str, Vec<u8>)], item: &[u8]) -> Vec<Vec<u8>> {
    (0..pairs.len())
        .map(|wrong| {
            writer(|out| {
                out.map(pairs.len());
                for (i, (name, value)) in pairs.iter().enumerate() {
                    out.text(name).raw(if i == wrong { item } else { value });
                }
                out
            })
        })
        .collect()
}

/// A signed commit of a tree whose root is `node`, and the key.
struct Author {
    account: Account,
    draft: Draft,
    key: PublicKey,
}

impl Author {
    fn new() -> Author {
        let mut account = Account::random(&mut fastrand::Rng::with_seed(1), 0);
        account.commit(&[account.post("first")]);
        let post = account.post("second");
        let draft = account.draft(&[post]);
        let key = PublicKey::from_multikey(&account.key.multikey()).unwrap();
        Author {
            account,
            draft,
            key,
        }
    }

    /// The frame of a commit whose tree has this root, signed.
    fn with_root(&self, node: Vec<u8>) -> Vec<u8> {
        let (mut draft, node) = (self.draft.clone(), Block::of_cbor(node));
        draft.data = node.cid;
        draft.blocks.push(node);
        self.sealed(draft).message.event().frame(1).to_vec()
    }

    fn sealed(&self, draft: Draft) -> Sealed {
        draft.seal(&Signing::Valid(self.account.key.clone()))
    }

    /// The frame of a commit with another commit object.
    fn with_commit(&self, object: Vec<u8>) -> Vec<u8> {
        let (mut sealed, object) = (self.sealed(self.draft.clone()), Block::of_cbor(object));
        sealed.message.commit = object.cid;
        sealed.blocks.push(object.clone());
        sealed.message.blocks = event::car(1, &[object.cid], &sealed.blocks);
        sealed.message.event().frame(1).to_vec()
    }

    /// The frame of a commit whose `blocks` are these.
    fn with_car(&self, car: Vec<u8>) -> Vec<u8> {
        let mut sealed = self.sealed(self.draft.clone());
        sealed.message.blocks = car;
        sealed.message.event().frame(1).to_vec()
    }

    /// Everything that the relay does with a frame before it knows the account's state.
    fn take(&self, frame: &[u8]) -> Result<(), Reject> {
        let Ok(Message::Event(event)) = Message::parse(frame) else {
            return Err(Reject::FrameMalformed);
        };
        prove::check_event(&event, Duration::from_secs(1 << 33))?;
        let mut workspace = Workspace::new();
        match &event.body {
            Body::Commit(m) => workspace
                .prove_commit(frame, event.did, m, &self.key, false)
                .map(drop),
            Body::Sync(m) => workspace
                .prove_sync(frame, event.did, m, &self.key)
                .map(drop),
            _ => Ok(()),
        }
    }

    /// The frame is refused, cheaply.
    #[track_caller]
    fn refuses(&self, frame: &[u8]) {
        let (peak, verdict) = peak_of(|| self.take(frame));
        assert!(verdict.is_err(), "{:x?}", &frame[..frame.len().min(300)]);
        assert!(peak < PEAK_MAX, "{peak} bytes for {verdict:?}");
    }
}

/// The values of a message or an object, each in its place.
fn commit_object(author: &Author) -> Vec<(&'static str, Vec<u8>)> {
    let draft = &author.draft;
    vec![
        ("did", writer(|w| w.text(&draft.did))),
        ("rev", writer(|w| w.text(&draft.rev.to_string()))),
        ("sig", writer(|w| w.bytes(&[7; 64]))),
        ("data", writer(|w| w.cid(&draft.data))),
        ("prev", writer(|w| w.null())),
        ("version", writer(|w| w.uint(3))),
    ]
}

fn frames(author: &Author, item: &[u8]) -> Vec<Vec<u8>> {
    let (t, op) = (writer(|w| w.text("#commit")), writer(|w| w.int(1)));
    let mut frames = maps(&[("t", t), ("op", op)], item);
    frames.push(item.to_vec());
    let cid = writer(|w| w.cid(&Cid::of_cbor(b"x")));
    let text = writer(|w| w.text("x"));
    let fields = [
        ("ops", item.to_vec()),
        ("rev", text.clone()),
        ("seq", vec![9]),
        ("repo", text.clone()),
        ("time", text.clone()),
        ("blobs", vec![0x80]),
        ("since", text),
        ("blocks", vec![0x41, 0]),
        ("commit", cid.clone()),
        ("rebase", vec![0xf4]),
        ("tooBig", vec![0xf4]),
        ("prevData", cid),
        ("unknownField", vec![0xf6]),
    ];
    let header = event::header("#commit");
    let mut payloads = maps(&fields, item);
    payloads.push(item.to_vec());
    frames.extend(
        payloads
            .iter()
            .map(|payload| [&header[..], payload].concat()),
    );
    // Operations, in a message that is right otherwise.
    let good = author.sealed(author.draft.clone()).message.event().frame(1);
    let ops = good.windows(5).position(|w| w == b"\x63ops\x81").unwrap() + 4;
    frames.push([&good[..ops], item, &good[ops + 1..]].concat());
    frames.push([&good[..=ops], item, &good[ops + 2..]].concat());
    frames
}

fn cars(author: &Author, item: &[u8]) -> Vec<Vec<u8>> {
    let commit = author.sealed(author.draft.clone()).commit;
    let roots = writer(|w| w.array(1).cid(&commit.cid));
    let mut headers = maps(&[("roots", roots), ("version", vec![1])], item);
    headers.push(item.to_vec());
    headers.push([b"\xa2\x65roots\x82".to_vec(), item.to_vec()].concat());
    let framed = |header: Vec<u8>| [varint(header.len() as u64), header].concat();
    headers.into_iter().map(framed).collect()
}

fn nodes(item: &[u8]) -> Vec<Vec<u8>> {
    let leaf = writer(|w| w.cid(&Cid::of_cbor(b"x")));
    let entry = [
        ("k", b"\x41k".to_vec()),
        ("p", vec![0]),
        ("t", vec![0xf6]),
        ("v", leaf),
    ];
    let in_array = |entry: &[u8]| [&[0x81], entry].concat();
    let node = |entries: Vec<u8>| [("e", entries), ("l", vec![0xf6])];
    let mut nodes = maps(&node(vec![0x80]), item);
    nodes.push(item.to_vec());
    for entry in maps(&entry, item).iter().map(Vec::as_slice).chain([item]) {
        nodes.extend(maps(&node(in_array(entry)), &[0xf6]).pop());
    }
    nodes
}

/// An unsigned LEB128 number.
fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn short(bytes: &[u8]) -> bool {
    bytes.len() <= INPUT_MAX || bytes.len() >= DEPTH
}

/// Names of fields and values that are longer, deeper or more than they should be, as JSON.
fn documents(did: &Did) -> Vec<String> {
    let with = |field: &str, value: &str| format!(r#"{{"id":"{did}","{field}":{value}}}"#);
    let method = json!([{"id": "#atproto", "type": "Multikey", "controller": did.as_str(),
        "publicKeyMultibase": format!("z{}", "1".repeat(600))}]);
    let service = json!([{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": format!("https://{}:99999999999999999999", "a.".repeat(200))}]);
    let mut documents = Vec::new();
    for field in ["verificationMethod", "service", "alsoKnownAs", "other"] {
        for value in [
            "[".repeat(DEPTH),
            format!("{}{}", "[".repeat(100), "]".repeat(100)),
            r#"{"a":"#.repeat(DEPTH),
            "1e308".into(),
            "1e999999999".into(),
            "18446744073709551616".into(),
            "9".repeat(400),
            format!("[{}]", "null,".repeat(100) + "0"),
            format!(r#"["at://{}"]"#, "a".repeat(600)),
            method.to_string(),
            service.to_string(),
        ] {
            documents.push(with(field, &value));
        }
    }
    documents
}

/// Everything in one test: what another one allocates meanwhile would be counted too.
///
/// Rule 185: <https://atproto.com/specs/repository#security-considerations>
#[test]
fn declared_lengths_allocate_nothing() {
    let author = Author::new();
    let good = author.sealed(author.draft.clone()).message.event().frame(1);
    let (peak, verdict) = peak_of(|| author.take(&good));
    assert_eq!(verdict, Ok(()));
    assert!(
        peak > 0 && peak < PEAK_MAX,
        "a good commit takes {peak} bytes"
    );
    // The counting counts.
    let (peak, _) = peak_of(|| vec![1u8; 1 << 20]);
    assert!(peak >= 1 << 20);

    for item in items() {
        let (peak, skipped) = peak_of(|| Reader::new(&item).skip());
        assert!(skipped.is_err() && peak == 0, "{peak} bytes");
        for frame in frames(&author, &item) {
            assert!(short(&frame));
            author.refuses(&frame);
        }
        for car in cars(&author, &item) {
            let (peak, read) = peak_of(|| BlockTable::new().read(&car, 0..car.len()));
            assert!(read.is_err() && peak < PEAK_MAX, "{peak} bytes");
            author.refuses(&author.with_car(car));
        }
        for object in maps(&commit_object(&author), &item)
            .into_iter()
            .chain([item.clone()])
        {
            let (peak, parsed) = peak_of(|| Commit::parse(&object).map(drop));
            assert!(parsed.is_err() && peak == 0, "{peak} bytes");
            author.refuses(&author.with_commit(object));
        }
        for node in nodes(&item) {
            author.refuses(&author.with_root(node));
        }
    }
    lengths_of_files_and_keys(&author);

    let did = Did::parse(author.account.did()).unwrap();
    for document in documents(&did) {
        assert!(short(document.as_bytes()));
        let (peak, _) = peak_of(|| Identity::parse(&did, document.as_bytes(), 0).is_ok());
        assert!(peak < PEAK_MAX, "{peak} bytes for {document:.100}");
    }
}

/// Lengths that are not those of items: of a CAR file's parts, of a key's prefix; and a `seq` that
/// grows where it is replaced.
fn lengths_of_files_and_keys(author: &Author) {
    let commit = author.sealed(author.draft.clone()).commit;
    let header = event::car(1, &[commit.cid], &[]);
    for length in LENGTHS {
        for car in [
            varint(length),
            [varint(length), header.clone()].concat(),
            [header.clone(), varint(length)].concat(),
            [
                header.clone(),
                varint(length),
                commit.cid.as_bytes().to_vec(),
            ]
            .concat(),
            [header.clone(), vec![0xff; 300]].concat(),
        ] {
            let (peak, read) = peak_of(|| BlockTable::new().read(&car, 0..car.len()));
            assert!(read.is_err() && peak < PEAK_MAX, "{peak} bytes");
            author.refuses(&author.with_car(car));
        }
        let node = writer(|out| {
            out.map(2).text("e").array(2);
            for prefix in [0, length] {
                out.map(4).text("k").bytes(b"k").text("p").uint(prefix);
                out.text("t").null().text("v").cid(&Cid::of_cbor(b"x"));
            }
            out.text("l").null()
        });
        author.refuses(&author.with_root(node));
    }
    let did: Arc<str> = author.account.did().clone();
    let frame = event::account(&did, None, 0).frame(1);
    let Ok(Message::Event(event)) = Message::parse(&frame) else {
        panic!("not an event");
    };
    let (peak, _) = peak_of(|| splice::put_seq(&frame, &event.layout.seq, Seq::MAX, Vec::new()));
    assert!(peak < 2 * frame.len() + 64);
}
