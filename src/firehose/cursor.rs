//! Where a subscriber's stream begins (<https://atproto.com/specs/event-stream#sequence-numbers>).

use std::fmt;

use crate::store::Window;

/// The `cursor` that a subscriber asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cursor {
    /// None: only what is sequenced from now on.
    Live,
    /// What follows this seq; 0: everything there is.
    From(u64),
}

/// A `cursor` that is not an integer from 0 to 2^63 - 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadCursor;

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cursor must be an integer from 0 to 9223372036854775807")
    }
}

impl std::error::Error for BadCursor {}

impl Cursor {
    /// Parses the query parameter, percent-decoded. An empty one is as good as none, which is how
    /// the network's servers read it.
    pub fn parse(value: Option<&str>) -> Result<Cursor, BadCursor> {
        match value {
            None | Some("") => Ok(Cursor::Live),
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
                let seq: i64 = text.parse().map_err(|_| BadCursor)?;
                u64::try_from(seq).map(Cursor::From).map_err(|_| BadCursor)
            }
            Some(_) => Err(BadCursor),
        }
    }

    /// What to do for this cursor where `window` is what can be replayed and `live` was the last
    /// seq when the subscriber was admitted. Whether a cursor is too old is decided by what was
    /// removed, because gaps before the oldest event are legal.
    pub(super) fn start(self, window: Window, live: u64) -> Start {
        match self {
            Cursor::Live => Start::After(live.max(window.pruned)),
            Cursor::From(0) => Start::After(window.pruned),
            Cursor::From(seq) if seq > window.last => Start::Future,
            Cursor::From(seq) if seq < window.pruned => Start::OutdatedAfter(window.pruned),
            Cursor::From(seq) => Start::After(seq),
        }
    }
}

/// How a stream begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Start {
    /// With what follows this seq.
    After(u64),
    /// With a note that events may be missing, then with what follows this seq.
    OutdatedAfter(u64),
    /// Not at all.
    Future,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_integers_are_cursors() {
        assert_eq!(Cursor::parse(None), Ok(Cursor::Live));
        assert_eq!(Cursor::parse(Some("")), Ok(Cursor::Live));
        assert_eq!(Cursor::parse(Some("0")), Ok(Cursor::From(0)));
        assert_eq!(Cursor::parse(Some("007")), Ok(Cursor::From(7)));
        let max = i64::MAX.to_string();
        assert_eq!(Cursor::parse(Some(&max)), Ok(Cursor::From(i64::MAX as u64)));
        for bad in [
            "abc",
            "1.5",
            "1e3",
            "0x10",
            " 5",
            "5 ",
            "-5",
            "+5",
            "-",
            "9223372036854775808",
        ] {
            assert_eq!(Cursor::parse(Some(bad)), Err(BadCursor), "{bad}");
        }
    }

    #[test]
    fn every_row_of_the_cursor_table() {
        let start = |cursor: Option<&str>, pruned, oldest, last| {
            let window = Window {
                pruned,
                oldest,
                last,
            };
            Cursor::parse(cursor).unwrap().start(window, 198)
        };
        let window = (100, Some(105), 200);
        let at = |cursor: Option<&str>| start(cursor, window.0, window.1, window.2);
        assert_eq!(at(None), Start::After(198));
        assert_eq!(start(None, 200, None, 200), Start::After(200));
        assert_eq!(at(Some("0")), Start::After(100));
        assert_eq!(at(Some("1")), Start::OutdatedAfter(100));
        assert_eq!(at(Some("99")), Start::OutdatedAfter(100));
        // 101 to 104 were never given: nothing is missing.
        for cursor in 100..=200 {
            let text = cursor.to_string();
            assert_eq!(at(Some(&text)), Start::After(cursor));
        }
        for future in ["201", "9007199254740993", "9223372036854775807"] {
            assert_eq!(at(Some(future)), Start::Future);
        }
        assert_eq!(start(Some("1"), 0, None, 0), Start::Future);
        assert_eq!(start(Some("0"), 0, None, 0), Start::After(0));
        // Everything was pruned: who has seen it all misses nothing.
        assert_eq!(start(Some("200"), 200, None, 200), Start::After(200));
        assert_eq!(
            start(Some("199"), 200, None, 200),
            Start::OutdatedAfter(200)
        );
        // After a jump of the seq, and with a high first seq, nothing was removed.
        assert_eq!(start(Some("5"), 0, Some(1), 10_000_003), Start::After(5));
    }
}
