//! Timestamp identifiers, the form of a `rev` (<https://atproto.com/specs/tid>).

use std::fmt;

const ALPHABET: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";

/// A TID: microseconds since 1970 in the upper bits, a clock id in the lowest ten. Ordered as its
/// text is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(u64);

/// Why text is not a TID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TidError;

impl fmt::Display for TidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a TID: 13 characters of base32-sortable, the first of them 2 to j")
    }
}

impl std::error::Error for TidError {}

impl Tid {
    /// Parses the 13-character text. A first character of `c` to `j` sets the top bit: that is
    /// valid syntax and a time far in the future, which the drift rule refuses.
    pub fn parse(text: &str) -> Result<Tid, TidError> {
        let bytes: &[u8; 13] = text.as_bytes().try_into().map_err(|_| TidError)?;
        let mut value: u64 = 0;
        for (i, byte) in bytes.iter().enumerate() {
            let digit = match byte {
                b'2'..=b'7' => byte - b'2',
                b'a'..=b'z' => byte - b'a' + 6,
                _ => return Err(TidError),
            };
            if i == 0 && digit > 15 {
                return Err(TidError);
            }
            value = (value << 5) | u64::from(digit);
        }
        Ok(Tid(value))
    }

    /// The TID of a time in microseconds since 1970 and a clock id (its low ten bits).
    pub const fn from_micros(micros: u64, clock: u16) -> Tid {
        Tid(((micros & ((1 << 53) - 1)) << 10) | (clock as u64 & 0x3ff))
    }

    /// The 64-bit value; `from_raw(t.raw()) == t`.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// A TID from its 64-bit value.
    pub const fn from_raw(raw: u64) -> Tid {
        Tid(raw)
    }

    /// Microseconds since 1970. A set top bit counts as time: far in the future.
    pub const fn micros(self) -> u64 {
        self.0 >> 10
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 13];
        for (i, slot) in text.iter_mut().enumerate() {
            *slot = ALPHABET[(self.0 >> (60 - 5 * i)) as usize & 31];
        }
        text.iter()
            .try_for_each(|b| fmt::Write::write_char(f, char::from(*b)))
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_are_two_forms_of_one() {
        for text in [
            "3jzfcijpj2z2a",
            "2222222222222",
            "jzzzzzzzzzzzz",
            "7777777777777",
        ] {
            assert_eq!(Tid::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "3jzfcijpj2z21",
            "3jzfcijpj2z2",
            "3jzfcijpj2z2aa",
            "kjzfcijpj2z2a",
        ] {
            assert!(Tid::parse(text).is_err(), "{text}");
        }
        assert!(Tid::parse("3jzfcijpj2z2b").unwrap() > Tid::parse("3jzfcijpj2z2a").unwrap());
        assert_eq!(
            Tid::from_micros(1_700_000_000_000_000, 7).micros(),
            1_700_000_000_000_000
        );
    }
}
