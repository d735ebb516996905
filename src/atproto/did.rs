//! Decentralised identifiers (<https://atproto.com/specs/did>).

use std::{borrow::Borrow, fmt, sync::Arc};

/// A syntactically valid DID of any method.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did(Arc<str>);

/// How a [`Did`] can be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method<'a> {
    /// `did:plc:` and 24 base32 characters: asked of the PLC directory.
    Plc,
    /// `did:web:` and a hostname (still percent-encoded): asked of that host.
    Web(&'a str),
    /// Valid syntax that this network does not use (another method, a path-based `did:web`, a
    /// malformed `did:plc`).
    Unsupported,
}

/// Why text is not a DID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DidError;

impl fmt::Display for DidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a DID")
    }
}

impl std::error::Error for DidError {}

impl Did {
    /// The longest DID, in bytes.
    pub const LEN_MAX: usize = 2048;

    /// Parses `did:method:identifier`.
    pub fn parse(text: &str) -> Result<Did, DidError> {
        Did::check(text)?;
        Ok(Did(Arc::from(text)))
    }

    /// Whether `text` is a DID, without keeping it.
    pub fn check(text: &str) -> Result<(), DidError> {
        let rest = text.strip_prefix("did:").ok_or(DidError)?;
        let (method, id) = rest.split_once(':').ok_or(DidError)?;
        let method_ok = !method.is_empty() && method.bytes().all(|b| b.is_ascii_lowercase());
        let id_ok = id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'%' | b'-'));
        let end_ok = !matches!(id.bytes().last(), None | Some(b':' | b'%'));
        if method_ok && id_ok && end_ok && text.len() <= Did::LEN_MAX {
            Ok(())
        } else {
            Err(DidError)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How to resolve it.
    pub fn method(&self) -> Method<'_> {
        if let Some(id) = self.0.strip_prefix("did:plc:") {
            let plc = id.len() == 24 && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
            return if plc {
                Method::Plc
            } else {
                Method::Unsupported
            };
        }
        match self.0.strip_prefix("did:web:") {
            Some(host) if !host.contains(':') => Method::Web(host),
            _ => Method::Unsupported,
        }
    }
}

impl Borrow<str> for Did {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_told_apart() {
        let method = |text: &str| match Did::parse(text).unwrap().method() {
            Method::Plc => "plc".to_owned(),
            Method::Web(host) => host.to_owned(),
            Method::Unsupported => "unsupported".to_owned(),
        };
        assert_eq!(method("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), "plc");
        assert_eq!(method("did:plc:EWVI7nxzyoun6zhxrhs64oiz"), "unsupported");
        assert_eq!(method("did:web:example.com"), "example.com");
        assert_eq!(method("did:web:localhost%3A1234"), "localhost%3A1234");
        assert_eq!(method("did:web:example.com:user"), "unsupported");
        assert_eq!(method("did:key:zQ3sh"), "unsupported");
    }

    /// Rule 190: <https://atproto.com/specs/did#at-protocol-did-identifier-syntax>
    #[test]
    fn length_and_alphabet_are_bounded() {
        let long = format!("did:m:{}", "a".repeat(2048 - 6));
        assert!(Did::parse(&long).is_ok());
        assert_eq!(format!("{long}a").len(), 2_049);
        assert!(Did::parse(&format!("{long}a")).is_err());
        for good in [
            "did:m:x",
            "did:m:x:y",
            "did:m:x%20y",
            "did:m:X.y-_z",
            "did:m:::x",
        ] {
            assert!(Did::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "did:method:val:",
            "did:method:val%",
            "did:METHOD:x",
            "did:m123:x",
            "did:m:x:",
            "did:m:x%",
            "did:m:",
            "DID:m:x",
        ] {
            assert!(Did::parse(bad).is_err(), "{bad}");
        }
    }
}
