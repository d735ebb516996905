//! Sequence numbers of an event stream
//! (<https://atproto.com/specs/event-stream#sequence-numbers>).

use std::fmt;

/// A sequence number: 1 up to 2^53 - 1, so that every client can hold it exactly.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// The largest sequence number.
    pub const MAX: Seq = Seq((1 << 53) - 1);

    /// `n` as a sequence number, if it is in range.
    pub const fn new(n: u64) -> Option<Seq> {
        if n >= 1 && n <= Seq::MAX.0 {
            Some(Seq(n))
        } else {
            None
        }
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
