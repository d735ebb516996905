//! Names for log lines where only a number is at hand: the sequencer knows hosts by their numbers, and
//! people by their names.

use std::{
    collections::HashMap,
    fmt,
    sync::{PoisonError, RwLock},
};

use crate::store::account::HostId;

/// Written by the crawler; read only when a line is written.
static NAMES: RwLock<Option<HashMap<HostId, Box<str>>>> = RwLock::new(None);

/// Remembers the name of a host, a few dozen bytes for each host that there ever was.
pub fn name_host(id: HostId, name: &str) {
    let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
    names.get_or_insert_default().insert(id, name.into());
}

/// A host by its name, or by its number where nobody has told the name. It costs nothing until it is
/// shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostName(pub HostId);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
        match names.as_ref().and_then(|names| names.get(&self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shown_by_its_name() {
        let id = HostId(u32::MAX - 7);
        assert_eq!(HostName(id).to_string(), id.to_string());
        name_host(id, "pds.example.com");
        assert_eq!(HostName(id).to_string(), "pds.example.com");
    }
}
