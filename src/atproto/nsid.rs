//! Namespaced identifiers: the names of collections and of methods
//! (<https://atproto.com/specs/nsid>).

use std::{borrow::Borrow, fmt, sync::Arc};

/// A syntactically valid NSID, such as `app.bsky.feed.post`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nsid(Arc<str>);

/// Why text is not an NSID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NsidError;

impl fmt::Display for NsidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an NSID")
    }
}

impl std::error::Error for NsidError {}

impl Nsid {
    /// The longest NSID, in bytes.
    pub const LEN_MAX: usize = 317;

    /// Parses a domain authority in reverse order and a name: at least three segments.
    pub fn parse(text: &str) -> Result<Nsid, NsidError> {
        Nsid::check(text)?;
        Ok(Nsid(Arc::from(text)))
    }

    /// Whether `text` is an NSID, without keeping it.
    pub fn check(text: &str) -> Result<(), NsidError> {
        let (authority, name) = text.rsplit_once('.').ok_or(NsidError)?;
        let name_ok = text.len() <= Nsid::LEN_MAX
            && name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric());
        let authority_ok = authority.contains('.')
            && authority.starts_with(|c: char| c.is_ascii_alphabetic())
            && authority.split('.').all(is_label);
        if name_ok && authority_ok {
            Ok(())
        } else {
            Err(NsidError)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `label` is a label of a domain name: 1 to 63 letters, digits and inner hyphens.
pub(crate) fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

impl Borrow<str> for Nsid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Nsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_labels_and_the_last_is_a_name() {
        for good in ["a.b.c", "cn.8.lex.stuff", "one.two.three.four-and.FiVe"] {
            assert_eq!(Nsid::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a.b",
            "a..c",
            "8.b.c",
            "a.b.3c",
            "a.b.c-d",
            "a.-b.c",
            "a.b.c.",
            "a.b.\u{e9}",
        ] {
            assert_eq!(Nsid::check(bad), Err(NsidError), "{bad}");
        }
    }

    #[test]
    fn segments_and_the_whole_are_bounded() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}.{label}", &label[..61]);
        assert_eq!(longest.len(), Nsid::LEN_MAX);
        assert_eq!(Nsid::check(&longest), Ok(()));
        assert!(Nsid::check(&format!("a{longest}")).is_err());
        assert!(Nsid::check(&format!("b.c.{label}a")).is_err());
        assert!(Nsid::check(&format!("b.c.{label}")).is_ok());
    }
}
