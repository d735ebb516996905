//! Commits and messages of shapes that the simulator does not make by itself, made by hand or with
//! an encoder that shares no code with the relay.

use std::{collections::BTreeMap, sync::Arc};

use ipld_core::ipld::Ipld;
use zlay::{
    atproto::{
        cbor::Writer,
        cid::{Cid, Codec},
    },
    sim::{
        account::Account,
        event::{self, Event},
        repo::Sealed,
        tree::{Block, layer_of},
        wire,
    },
};

/// The pairs of a map.
pub(crate) type Fields = BTreeMap<String, Ipld>;

/// The blocks of a commit as a file, anew after they have changed.
pub(crate) fn repack(sealed: &mut Sealed, roots: &[Cid]) {
    sealed.message.blocks = event::car(1, roots, &sealed.blocks);
}

/// A block that takes exactly `len` bytes of a file of blocks, and is nothing that is known.
pub(crate) fn filler(len: usize) -> Block {
    let prefix = match len {
        ..=0x80 => 1,
        0x81..=0x4001 => 2,
        _ => 3,
    };
    let bytes: Arc<[u8]> = vec![0x5a; len - prefix - Cid::LEN].into();
    Block {
        cid: Cid::of(Codec::Raw, &bytes),
        bytes,
    }
}

/// A record of exactly `len` bytes, which are more than 65,536.
pub(crate) fn record_of(len: usize) -> Block {
    let record = |text: usize| {
        let mut out = Writer::new();
        out.map(2).text("text").text(&"z".repeat(text));
        out.text("$type").text("com.example.large");
        out.into_bytes()
    };
    let around = record(1 << 16).len() - (1 << 16);
    let record = record(len - around);
    assert_eq!(record.len(), len);
    Block::of_cbor(record)
}

/// A tree of one node: paths of layer 0 in order, and the CIDs of the records that are there.
pub(crate) fn leaf<'a>(entries: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Block {
    let entries: Vec<_> = entries
        .filter_map(|(path, cid)| Some((path, cid?)))
        .collect();
    let mut out = Writer::new();
    out.map(2).text("e").array(entries.len());
    let mut before = "";
    for (path, cid) in entries {
        assert_eq!(layer_of(path), 0, "{path}");
        let same = |(a, b): &(u8, u8)| a == b;
        let prefix = before.bytes().zip(path.bytes()).take_while(same).count();
        out.map(4).text("k").bytes(&path.as_bytes()[prefix..]);
        out.text("p").uint(prefix as u64);
        out.text("t").null().text("v").link(cid);
        before = path;
    }
    out.text("l").null();
    Block::of_cbor(out.into_bytes())
}

/// The two items of a frame.
pub(crate) fn items(frame: &[u8]) -> (Fields, Fields) {
    let mut reader = frame;
    let mut item = || match serde_ipld_dagcbor::de::from_reader_once(&mut reader) {
        Ok(Ipld::Map(fields)) => fields,
        other => panic!("not a map: {other:?}"),
    };
    let items = (item(), item());
    assert!(reader.is_empty(), "nothing follows the payload");
    items
}

/// The event with a header and a payload that are changed by `change`.
pub(crate) fn reworded(event: &Event, change: impl FnOnce(&mut Fields, &mut Fields)) -> Event {
    let (mut header, mut payload) = items(&event.frame(1));
    change(&mut header, &mut payload);
    let mut bytes = encode(header);
    bytes.extend(encode(payload));
    let seq = wire::read(&bytes).unwrap().seq_at;
    Event {
        kind: event.kind,
        did: event.did.clone(),
        head: bytes[..seq.start].to_vec(),
        tail: bytes[seq.end..].to_vec(),
    }
}

/// The commit with an object that is changed by `change`, and signed anew.
pub(crate) fn resigned(
    account: &Account,
    mut sealed: Sealed,
    change: impl FnOnce(&mut Fields),
) -> Sealed {
    let Ok(Ipld::Map(mut object)) = serde_ipld_dagcbor::from_slice(&sealed.commit.bytes) else {
        panic!("a commit object is a map");
    };
    object.remove("sig");
    change(&mut object);
    let signature = account.key.sign(&encode(object.clone())).to_vec();
    object.insert("sig".into(), Ipld::Bytes(signature));
    let commit = Block::of_cbor(encode(object));
    for block in &mut sealed.blocks {
        if block.cid == sealed.commit.cid {
            *block = commit.clone();
        }
    }
    sealed.message.commit = commit.cid;
    sealed.commit = commit;
    let root = sealed.commit.cid;
    repack(&mut sealed, &[root]);
    sealed
}

fn encode(fields: Fields) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(&Ipld::Map(fields)).unwrap()
}
