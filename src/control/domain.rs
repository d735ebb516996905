//! A domain that the operator can ban, with everything below it.

use std::{borrow::Borrow, fmt};

use crate::atproto::hostname::{Hostname, HostnameError};

/// A DNS name of at least two labels (or `localhost`), lower case, without a port: a typing error
/// must not ban a whole top-level domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Domain(Box<str>);

impl Domain {
    /// Parses a name in any case.
    pub fn parse(text: &str) -> Result<Domain, HostnameError> {
        let name = Hostname::parse(text)?;
        match name.port() {
            Some(_) => Err(HostnameError::NotAHost),
            None => Ok(Domain(name.as_str().into())),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the host is this domain, on whatever port, or below it.
    pub fn covers(&self, host: &Hostname) -> bool {
        domains_of(host).any(|name| name == &*self.0)
    }
}

/// The name of a host, and every name above it.
pub fn domains_of(host: &Hostname) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host.name()), |name| {
        name.split_once('.').map(|(_, above)| above)
    })
}

impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_a_name_without_a_port() {
        assert_eq!(
            Domain::parse("Example.COM").unwrap().as_str(),
            "example.com"
        );
        assert_eq!(Domain::parse("localhost").unwrap().as_str(), "localhost");
        for bad in [
            "",
            "com",
            "*.example.com",
            "example.com:443",
            "10.0.0.1",
            "a/b.com",
            ".com",
        ] {
            assert!(Domain::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_covers_itself_and_what_is_below() {
        let domain = Domain::parse("example.com").unwrap();
        let covers = |host| domain.covers(&Hostname::parse(host).unwrap());
        for host in [
            "example.com",
            "a.example.com",
            "a.b.example.com",
            "a.example.com:8443",
        ] {
            assert!(covers(host), "{host}");
        }
        for host in [
            "badexample.com",
            "example.com.org",
            "example.org",
            "localhost",
        ] {
            assert!(!covers(host), "{host}");
        }
        let host = Hostname::parse("a.b.example.com:1").unwrap();
        let names: Vec<_> = domains_of(&host).collect();
        assert_eq!(
            names,
            ["a.b.example.com", "b.example.com", "example.com", "com"]
        );
    }
}
