//! What a commit shows of the collections that its operations are in.

use std::fmt;

/// Whether a repository has records of a collection after a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It has at least one.
    Present,
    /// It has none any more.
    Gone,
}

/// Collections that a commit touches, each once and in order, with what it shows of them. A
/// collection of which it shows nothing (records are deleted, and the tree after them is not
/// proven) is left out.
///
/// One piece of memory however many they are, and none where there is nothing to say.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Touched(Box<[u8]>);

const PRESENT: u8 = b'+';
const GONE: u8 = b'-';
/// In no name of a collection.
const END: u8 = b'/';

/// Appends a collection to what will be a [`Touched`]; `prefix` is its name and a slash.
pub(super) fn note(out: &mut Vec<u8>, prefix: &[u8], has_records: bool) {
    debug_assert_eq!(prefix.last(), Some(&END));
    out.push(if has_records { PRESENT } else { GONE });
    out.extend_from_slice(prefix);
}

impl Touched {
    /// What was noted.
    pub(super) fn new(noted: &[u8]) -> Touched {
        Touched(noted.into())
    }

    /// The names of the collections, and what is shown of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Presence)> {
        let collections = self.0.split(|b| *b == END);
        collections.filter_map(|collection| {
            let (mark, name) = collection.split_first()?;
            let presence = match *mark {
                GONE => Presence::Gone,
                _ => Presence::Present,
            };
            Some((std::str::from_utf8(name).ok()?, presence))
        })
    }

    /// Whether nothing is shown of any collection.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a made-up commit shows: for tests and `fuzz/` only.
    #[doc(hidden)]
    pub fn of(collections: &[(&str, Presence)]) -> Touched {
        let mut noted = Vec::new();
        for (name, presence) in collections {
            let prefix = format!("{name}/");
            note(
                &mut noted,
                prefix.as_bytes(),
                *presence == Presence::Present,
            );
        }
        Touched::new(&noted)
    }
}

impl fmt::Debug for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
