//! What anybody sends to the public port.

use super::{
    head::{self, Checked, Head},
    query::Query,
    request::{client_address, network},
    xrpc,
};
use crate::limits::HTTP_BODY_BYTES_MAX;

/// A request: where its head ends, the head, its query and parameters, and who asks.
pub fn request_head(bytes: &[u8]) {
    beginning(bytes);
    let end = head::end(bytes, 0);
    // As it is found when the bytes arrive one by one.
    let arriving =
        (0..=bytes.len()).find_map(|len| head::end(&bytes[..len], len.saturating_sub(4)));
    assert_eq!(end, arriving);
    let Some(end) = end else {
        return;
    };
    assert!(end <= bytes.len());
    match head::parse(&bytes[..end]) {
        Ok(head) => check(&head),
        Err(answer) => {
            assert!(matches!(answer.status, 400 | 411 | 413 | 417 | 431 | 505));
            let bytes = answer.encode(false, true, std::time::UNIX_EPOCH);
            assert!(bytes.ends_with(&answer.body));
        }
    }
}

/// What is said of a beginning does not depend on the pieces in which it arrives.
fn beginning(bytes: &[u8]) {
    let check = |upto, from| {
        let checked = head::check_beginning(&bytes[..upto], from);
        checked.map_err(|answer| answer.status)
    };
    let whole = check(bytes.len(), 0);
    let mut known = 0;
    for len in 0..=bytes.len() {
        match check(len, known) {
            Ok(Checked::NotYet) => known = len,
            said => {
                assert_eq!(said, whole);
                return;
            }
        }
    }
    assert_eq!(whole, Ok(Checked::NotYet));
}

fn check(head: &Head) {
    assert!(head.path.starts_with('/') || head.path == "*");
    assert!(!head.path.contains('?') && head.body_bytes <= HTTP_BODY_BYTES_MAX);
    if let Ok(query) = Query::parse(&head.query) {
        for name in ["did", "cursor", "hostname", "limit"] {
            assert!(query.get(name).is_none_or(|value| !value.is_empty()));
        }
    }
    xrpc::targets::parameters(&head.query);
    for peer in ["127.0.0.1", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1"] {
        let client = client_address(peer.parse().expect("an address"), &head.headers);
        assert_eq!(client, client.to_canonical());
        assert_eq!(network(network(client)), network(client));
    }
}
