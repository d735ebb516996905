//! The domains whose hosts are trusted.

use crate::atproto::hostname::Hostname;

/// A list of names; `*.` before one means every name below it, and not the name itself.
#[derive(Clone, Default, Debug)]
pub struct TrustedDomains(Vec<String>);

impl TrustedDomains {
    /// The list as the configuration has it.
    pub fn new(domains: &[String]) -> TrustedDomains {
        let lower = |domain: &String| domain.trim().to_ascii_lowercase();
        TrustedDomains(domains.iter().map(lower).collect())
    }

    /// Whether the host is of one of them. The port does not matter.
    pub fn include(&self, host: &Hostname) -> bool {
        let name = host.name();
        self.0.iter().any(|domain| match domain.strip_prefix("*.") {
            Some(parent) => name
                .strip_suffix(parent)
                .is_some_and(|sub| sub.len() > 1 && sub.ends_with('.')),
            None => domain == name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_goes_by_domain() {
        let domains = ["*.host.bsky.network", " Example.com"].map(str::to_owned);
        let domains = TrustedDomains::new(&domains);
        let trusted = |text| domains.include(&Hostname::parse(text).unwrap());
        assert!(trusted("morel.us-east.host.bsky.network"));
        assert!(trusted("a.host.bsky.network:8443"));
        assert!(trusted("example.com"));
        assert!(!trusted("host.bsky.network"));
        assert!(!trusted("evilhost.bsky.network"));
        assert!(!trusted("sub.example.com"));
    }
}
