//! Names of accounts and hosts for the tests.

use super::fair::Asker;
use crate::atproto::{did::Did, hostname::Hostname};

/// A `did:plc`, one for each character.
pub(super) fn plc(c: char) -> Did {
    Did::parse(&format!("did:plc:{}", c.to_string().repeat(24))).unwrap()
}

/// A `did:web`, each of a host of its own.
pub(super) fn web(n: usize) -> Did {
    Did::parse(&format!("did:web:n{n}.test")).unwrap()
}

/// A host by the first part of its name.
pub(super) fn host(name: &str) -> Hostname {
    Hostname::parse(&format!("{name}.test")).unwrap()
}

/// A host that has something looked up.
pub(super) fn asker(name: &str) -> Asker {
    Some(host(name))
}
