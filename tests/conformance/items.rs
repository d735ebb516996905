//! What is in a message, by a decoder that shares no code with the relay's.

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;
use serde_ipld_dagcbor::de::Deserializer;

/// A map.
pub(crate) type Map = BTreeMap<String, Ipld>;

/// The header and the payload of a message, which has nothing beside them, and both in the one
/// encoding that they have: encoded again, they are the message.
pub(crate) fn items(message: &[u8]) -> (Map, Map) {
    let items = Deserializer::from_slice(message).into_iter::<Ipld>();
    let items: Vec<Ipld> = items.collect::<Result<_, _>>().expect("DRISL-CBOR");
    assert_eq!(encoded(&items), message, "not canonical, or not only that");
    match <[Ipld; 2]>::try_from(items) {
        Ok([Ipld::Map(header), Ipld::Map(payload)]) => (header, payload),
        other => panic!("not two maps: {other:?}"),
    }
}

/// The canonical encoding of items, one after the other.
pub(crate) fn encoded(items: &[Ipld]) -> Vec<u8> {
    let encode = |item| serde_ipld_dagcbor::to_vec(item).unwrap();
    items.iter().flat_map(encode).collect()
}

/// A field that is text.
pub(crate) fn text<'a>(map: &'a Map, key: &str) -> &'a str {
    match map.get(key) {
        Some(Ipld::String(text)) => text,
        other => panic!("{key}: {other:?}"),
    }
}

/// A field that is an integer.
pub(crate) fn int(map: &Map, key: &str) -> i128 {
    match map.get(key) {
        Some(Ipld::Integer(int)) => *int,
        other => panic!("{key}: {other:?}"),
    }
}

/// The keys of a map in the order in which they are encoded: shorter ones first.
pub(crate) fn keys(map: &Map) -> Vec<&str> {
    let mut keys: Vec<_> = map.keys().map(String::as_str).collect();
    keys.sort_by_key(|key| (key.len(), *key));
    keys
}
