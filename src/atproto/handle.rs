//! Handles: domain names that accounts go by (<https://atproto.com/specs/handle>).

use std::fmt;

use aws_lc_rs::digest;

use super::nsid::is_label;

/// A syntactically valid handle, in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(Box<str>);

/// Why text is not a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandleError;

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a handle")
    }
}

impl std::error::Error for HandleError {}

/// Top-level domains that are valid syntax and never the end of a real handle.
const DISALLOWED_TLDS: [&str; 8] = [
    "alt",
    "arpa",
    "example",
    "internal",
    "invalid",
    "local",
    "localhost",
    "onion",
];

/// Which handle it is, without its text: the beginning of the SHA-256 of it in lower case. There are
/// hundreds of thousands of them in memory, and all they are for is to be compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HandleDigest([u8; 16]);

impl HandleDigest {
    /// That of any text, in any case.
    pub fn of(text: &str) -> HandleDigest {
        let hash = digest::digest(&digest::SHA256, text.to_ascii_lowercase().as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&hash.as_ref()[..16]);
        HandleDigest(first)
    }
}

impl Handle {
    /// The longest handle, in bytes.
    pub const LEN_MAX: usize = 253;

    /// Parses a handle in any case and keeps it in lower case.
    pub fn parse(text: &str) -> Result<Handle, HandleError> {
        Handle::check(text)?;
        Ok(Handle(text.to_ascii_lowercase().into_boxed_str()))
    }

    /// Whether `text` is a handle in any case, without keeping it.
    pub fn check(text: &str) -> Result<(), HandleError> {
        let (rest, tld) = text.rsplit_once('.').ok_or(HandleError)?;
        let ok = text.len() <= Handle::LEN_MAX
            && tld.starts_with(|c: char| c.is_ascii_alphabetic())
            && is_label(tld)
            && rest.split('.').all(is_label);
        if ok { Ok(()) } else { Err(HandleError) }
    }

    /// The text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `tld`, in lower case, is a top-level domain that neither a handle nor a `did:web` of
/// the network may have.
pub fn is_disallowed_tld(tld: &str) -> bool {
    DISALLOWED_TLDS.contains(&tld)
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_kept_in_lower_case() {
        assert_eq!(Handle::parse("Jan.Test").unwrap().as_str(), "jan.test");
        for bad in ["john", "john.", ".john", "john.0", "jo_hn.test", "a.b-", ""] {
            assert_eq!(Handle::parse(bad), Err(HandleError), "{bad}");
        }
    }

    #[test]
    fn some_top_level_domains_are_never_real() {
        assert!(is_disallowed_tld("local"));
        assert!(is_disallowed_tld("onion"));
        assert!(!is_disallowed_tld("test"));
        assert!(!is_disallowed_tld("com"));
    }
}
