//! What hosts and directories send: frames, their parts, documents, names, websocket bytes.

use std::{str, time::Duration};

use crate::{
    atproto::{
        car::BlockTable,
        cbor::{Reader, Writer},
        cid::Cid,
        crypto::{Curve, PublicKey},
        datetime,
        did::Did,
        envelope::{Body, Message},
        handle::Handle,
        hostname::{Endpoint, Hostname},
        nsid::Nsid,
        prove::{self, Workspace},
        record_key::{self, RepoPath},
        seq::Seq,
        splice,
        tid::Tid,
    },
    control::domain::{Domain, domains_of},
    firehose::cursor::Cursor,
    identity::document::Identity,
};

/// The secret of the account that signed the seeds: see `src/atproto/prove/tests/seeds.rs`.
const SECRET: [u8; 32] = [7; 32];
/// Later than any seed.
const NOW: Duration = Duration::from_secs(1 << 33);

/// A whole frame: parsed, proven, spliced. What comes out is a frame again, which says the same, and in
/// which there is nothing left to splice.
pub fn frame(bytes: &[u8]) {
    let Ok(Message::Event(event)) = Message::parse(bytes) else {
        return;
    };
    let layout = &event.layout;
    let same = splice::put_seq(bytes, &layout.seq, event.seq, Vec::new());
    assert_eq!(same, bytes, "the encoding of a seq is the only one");
    let plain = splice::plain(bytes, layout, event.body.name());
    let spliced = match &event.body {
        Body::Commit(_) => splice::fill_commit(bytes, layout),
        Body::Identity { .. } => splice::drop_handle(bytes, layout),
        Body::Account { .. } => Some(splice::set_status(bytes, layout, false, Some("x"))),
        Body::Sync(_) => None,
    };
    let spliced = spliced.or(plain).unwrap_or_else(|| splice::Spliced {
        frame: bytes.to_vec(),
        seq: layout.seq.clone(),
    });
    let out = splice::put_seq(&spliced.frame, &spliced.seq, Seq::MAX, Vec::new());
    let Ok(Message::Event(again)) = Message::parse(&out) else {
        panic!("what is spliced is no frame: {out:02x?}");
    };
    assert_eq!(
        (again.seq, again.did, again.time),
        (Seq::MAX, event.did, event.time)
    );
    assert_eq!(again.body.name(), event.body.name());
    assert!(splice::plain(&out, &again.layout, again.body.name()).is_none());
    match (&event.body, &again.body) {
        (Body::Commit(before), Body::Commit(after)) => {
            assert!(splice::fill_commit(&out, &again.layout).is_none());
            assert_eq!(bytes[before.blocks.clone()], out[after.blocks.clone()]);
            assert_eq!(bytes[before.ops.clone()], out[after.ops.clone()]);
            assert_eq!(before.rev, after.rev);
        }
        (Body::Sync(before), Body::Sync(after)) => {
            assert_eq!(bytes[before.blocks.clone()], out[after.blocks.clone()]);
            assert_eq!(before.rev, after.rev);
        }
        (_, Body::Identity { handle }) => assert_eq!(*handle, None),
        (_, Body::Account { active, status }) => assert_eq!((*active, *status), (false, Some("x"))),
        _ => panic!("another body"),
    }
    if prove::check_event(&event, NOW).is_err() {
        return;
    }
    assert_eq!(prove::check_event(&again, NOW), Ok(()));
    prove_both(bytes, &event, &out, &again);
}

type Event<'a> = crate::atproto::envelope::Event<'a>;

/// What is proven of a frame is what is proven of the frame that it becomes.
fn prove_both(bytes: &[u8], event: &Event<'_>, out: &[u8], again: &Event<'_>) {
    let (key, mut workspace) = (signer(), Workspace::new());
    let mut prove = |bytes: &[u8], event: &Event<'_>, lenient| match &event.body {
        Body::Commit(m) => Some(workspace.prove_commit(bytes, event.did, m, &key, lenient)),
        Body::Sync(m) => Some(workspace.prove_sync(bytes, event.did, m, &key)),
        _ => None,
    };
    let strict = prove(bytes, event, false);
    assert_eq!(strict, prove(out, again, false));
    if let (Some(Ok(strict)), Some(lenient)) = (&strict, prove(bytes, event, true)) {
        assert_eq!(Ok(strict), lenient.as_ref(), "who is lenient takes no less");
    }
}

fn signer() -> PublicKey {
    let secret = secp256k1::SecretKey::from_secret_bytes(SECRET).expect("a scalar of the group");
    let point = secp256k1::PublicKey::from_secret_key(&secret).serialize();
    PublicKey::from_point(Curve::K256, &point).expect("a point of the curve")
}

/// Any items: what is skipped as canonical lies within the bytes, is skipped again, and is written again
/// in the same bytes.
pub fn cbor(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while let Ok(place) = reader.skip() {
        assert!(place.start < place.end && place.end <= bytes.len());
        let mut again = Reader::new(&bytes[place.clone()]);
        assert_eq!(again.skip(), Ok(0..place.len()));
        assert!(again.is_at_end());
    }
}

/// A CAR file: its blocks lie within it, under the names that are their hashes.
pub fn car(bytes: &[u8]) {
    let mut table = BlockTable::new();
    if table.read(bytes, 0..bytes.len()).is_ok()
        && let Some(root) = table.root()
        && let Some(place) = table.get(&root)
    {
        assert_eq!(Cid::of(root.codec(), &bytes[place]), root);
    }
}

/// What somebody serves as a DID document.
pub fn did_document(bytes: &[u8]) {
    let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").expect("a DID");
    if let Ok(identity) = Identity::parse(&did, bytes, 1)
        && let Some(host) = identity.host
    {
        assert_eq!(Hostname::parse(host.as_str()), Ok(host));
    }
}

/// Names of every kind, as they are in frames, queries, documents and admin requests: what is one is
/// written as it was read, or in one normal form.
pub fn names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    if let Ok(did) = Did::parse(text) {
        assert_eq!(did.as_str(), text);
        assert!(Did::check(text).is_ok());
        let _ = did.method();
    }
    if let Ok(handle) = Handle::parse(text) {
        assert_eq!(Handle::parse(handle.as_str()), Ok(handle));
    }
    if let Ok(nsid) = Nsid::parse(text) {
        assert!(Nsid::check(nsid.as_str()).is_ok());
        assert_eq!(Nsid::parse(nsid.as_str()), Ok(nsid));
    }
    if let Ok(tid) = Tid::parse(text) {
        assert_eq!(tid.to_string(), text);
        assert_eq!(Tid::from_raw(tid.raw()), tid);
    }
    if let Ok(cid) = Cid::parse(text) {
        assert_eq!(Cid::from_bytes(cid.as_bytes()), Ok(cid));
        assert_eq!(Cid::parse(&cid.to_string()), Ok(cid));
    }
    if let Ok(host) = Hostname::parse(text) {
        assert_eq!(Hostname::parse(host.as_str()), Ok(host.clone()));
        assert!(domains_of(&host).count() <= text.len());
    }
    if let Ok(endpoint) = Endpoint::parse(text) {
        assert_eq!(Endpoint::parse(&endpoint.origin()), Ok(endpoint));
    }
    if let Ok(domain) = Domain::parse(text) {
        let host = Hostname::parse(domain.as_str()).expect("a domain is the name of a host");
        assert!(domain.covers(&host));
    }
    if let Ok((collection, key)) = RepoPath::split(text) {
        assert_eq!(format!("{collection}/{key}"), text);
        assert!(Nsid::check(collection).is_ok() && record_key::check(key).is_ok());
    }
    if datetime::check(text).is_ok() {
        let _ = datetime::to_millis(text);
    }
    if let Ok(Cursor::From(seq)) = Cursor::parse(Some(text)) {
        assert!(i64::try_from(seq).is_ok());
    }
    // What it calls is C, which Miri knows nothing of.
    if !cfg!(miri) {
        let _ = PublicKey::from_multikey(text);
    }
}
