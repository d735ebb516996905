//! What the fuzz targets do with their bytes. Each function must return, whatever it is given.

#[path = "../../src/atproto/mod.rs"]
pub mod atproto;
#[path = "../../src/identity/document.rs"]
pub mod document;
#[path = "../../src/limits.rs"]
pub mod limits;
pub mod metrics {
    //! What the limits need of it.

    pub mod histogram {
        //! See `src/metrics/histogram.rs`.

        /// The bounds of a histogram.
        pub struct Scale {
            /// The upper bounds of its buckets.
            pub bounds: &'static [u64],
            /// How its values are shown.
            pub per_unit: f64,
        }
    }
}
#[path = "../../src/reject.rs"]
pub mod reject;
#[path = "../../src/host/server_frames.rs"]
mod server_frames;

mod trees;

use std::time::Duration;

use atproto::{
    car::BlockTable,
    cbor::Reader,
    crypto::{Curve, PublicKey},
    did::Did,
    envelope::{Body, Message},
    prove::{self, Workspace},
    seq::Seq,
    splice,
};
use server_frames::{Found, Parser, Violation};

pub use trees::mst_invert;

/// The secret of the account that signed the seeds: see `write_fuzz_seeds` in the crate's tests.
const SECRET: [u8; 32] = [7; 32];
/// Later than any seed.
const NOW: Duration = Duration::from_secs(1 << 33);

/// A whole frame: parsed, proven, spliced; what comes out is a frame again.
pub fn frame(bytes: &[u8]) {
    let Ok(Message::Event(event)) = Message::parse(bytes) else {
        return;
    };
    let layout = &event.layout;
    let spliced = match &event.body {
        Body::Commit(_) => splice::fill_commit(bytes, layout),
        Body::Identity { .. } => splice::drop_handle(bytes, layout),
        Body::Account { .. } => Some(splice::set_status(bytes, layout, false, Some("x"))),
        Body::Sync(_) => None,
    };
    let spliced = spliced.or_else(|| splice::plain(bytes, layout, event.body.name()));
    let spliced = spliced.unwrap_or_else(|| splice::Spliced {
        frame: bytes.to_vec(),
        seq: layout.seq.clone(),
    });
    let out = splice::put_seq(&spliced.frame, &spliced.seq, Seq::MAX, Vec::new());
    assert!(matches!(Message::parse(&out), Ok(Message::Event(e)) if e.seq == Seq::MAX));
    if prove::check_event(&event, NOW).is_err() {
        return;
    }
    let (key, mut workspace) = (signer(), Workspace::new());
    let _ = match &event.body {
        Body::Commit(m) => workspace.prove_commit(bytes, event.did, m, &key, false),
        Body::Sync(m) => workspace.prove_sync(bytes, event.did, m, &key),
        _ => return,
    };
}

fn signer() -> PublicKey {
    let secret = secp256k1::SecretKey::from_secret_bytes(SECRET).expect("a scalar of the group");
    let point = secp256k1::PublicKey::from_secret_key(&secret).serialize();
    PublicKey::from_point(Curve::K256, &point).expect("a point of the curve")
}

/// Any items: what is skipped as canonical lies within the bytes and is skipped again.
pub fn cbor(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while let Ok(place) = reader.skip() {
        assert!(place.start < place.end && place.end <= bytes.len());
        let mut again = Reader::new(&bytes[place.clone()]);
        assert_eq!(again.skip(), Ok(0..place.len()));
        assert!(again.is_at_end());
    }
}

/// A CAR file: its blocks lie within it.
pub fn car(bytes: &[u8]) {
    let mut table = BlockTable::new();
    if table.read(bytes, 0..bytes.len()).is_ok()
        && let Some(place) = table.root().and_then(|root| table.get(&root))
    {
        assert!(place.end <= bytes.len());
    }
}

/// What somebody serves as a DID document.
pub fn did_document(bytes: &[u8]) {
    let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").expect("a DID");
    let _ = document::Identity::parse(&did, bytes, 1);
}

/// What a host sends over its websocket, in whatever pieces it arrives: the first byte says in which.
pub fn websocket(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let piece = usize::from(*size) + 1;
    assert_eq!(messages(bytes, piece), messages(bytes, usize::MAX));
}

fn messages(mut bytes: &[u8], piece: usize) -> (Vec<(Found, Vec<u8>)>, Option<Violation>) {
    let (mut parser, mut all) = (Parser::new(&[]), Vec::new());
    loop {
        match parser.advance() {
            Ok(Some(found)) => {
                all.push((found, parser.payload().to_vec()));
                continue;
            }
            Ok(None) if bytes.is_empty() => return (all, None),
            Ok(None) => {}
            Err(violation) => return (all, Some(violation)),
        }
        let room = parser.room();
        assert!(!room.is_empty());
        let (part, rest) = bytes.split_at(piece.min(room.len()).min(bytes.len()));
        room[..part.len()].copy_from_slice(part);
        parser.arrived(part.len());
        bytes = rest;
    }
}
