//! Names of hosts as the protocol uses them: lower case, with a port only where it is not the
//! scheme's own (<https://atproto.com/specs/did#did-documents>).

use std::{borrow::Borrow, fmt, net::IpAddr, sync::Arc};

/// A DNS name, lower case, with an optional port: `pds.example.com`, `localhost:2583`. Never an
/// address literal. Equal hostnames are the same host: authority is compared on this.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(Arc<str>);

/// A [`Hostname`] and whether it is spoken to over TLS.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// The host.
    pub host: Hostname,
    /// `https` and `wss` rather than `http` and `ws`.
    pub tls: bool,
}

/// Why text is not a hostname or not an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostnameError {
    /// Nothing there, too long, or a label that DNS does not allow.
    Syntax,
    /// One label only, and it is not `localhost`.
    SingleLabel,
    /// An IPv4 or IPv6 address.
    AddressLiteral,
    /// A scheme other than http, https, ws, wss; user information, a path, a query, a fragment.
    NotAHost,
}

impl fmt::Display for HostnameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HostnameError::Syntax => "not a DNS name",
            HostnameError::SingleLabel => "a DNS name of a single label",
            HostnameError::AddressLiteral => "an IP address, not a DNS name",
            HostnameError::NotAHost => "not a bare host: wrong scheme, or more than a host in it",
        })
    }
}

impl std::error::Error for HostnameError {}

impl Hostname {
    /// Parses `name` or `name:port` in any case.
    pub fn parse(text: &str) -> Result<Hostname, HostnameError> {
        if text.starts_with('[') || text.parse::<IpAddr>().is_ok() {
            return Err(HostnameError::AddressLiteral);
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse::<u16>().ok().filter(|p| digits && *p != 0);
                (name, Some(port.ok_or(HostnameError::Syntax)?))
            }
            None => (text, None),
        };
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if name.len() > 253 || !name.split('.').all(label_ok) {
            return Err(HostnameError::Syntax);
        }
        let last = name.rsplit('.').next().unwrap_or(name);
        let numeric = |s: &str| {
            s.bytes().all(|b| b.is_ascii_digit()) || s.starts_with("0x") || s.starts_with("0X")
        };
        if numeric(last) {
            return Err(HostnameError::AddressLiteral);
        }
        let name = name.to_ascii_lowercase();
        if !name.contains('.') && name != "localhost" {
            return Err(HostnameError::SingleLabel);
        }
        Ok(Hostname(match port {
            Some(port) => format!("{name}:{port}").into(),
            None => name.into(),
        }))
    }

    /// `name` or `name:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The DNS name alone.
    pub fn name(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(name, _)| name)
    }

    /// The port, where one was given.
    pub fn port(&self) -> Option<u16> {
        self.0
            .split_once(':')
            .and_then(|(_, port)| port.parse().ok())
    }

    /// `localhost`, with or without a port.
    pub fn is_localhost(&self) -> bool {
        self.name() == "localhost"
    }
}

impl Endpoint {
    /// Parses a bare host or an `http`, `https`, `ws` or `wss` URL of nothing but a host (a
    /// trailing slash is tolerated). A bare host means TLS, except `localhost`. The scheme's own
    /// port is left out of the name.
    pub fn parse(text: &str) -> Result<Endpoint, HostnameError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(HostnameError::NotAHost);
        }
        let tls = match scheme.as_deref() {
            Some("https" | "wss") => Some(true),
            Some("http" | "ws") => Some(false),
            Some(_) => return Err(HostnameError::NotAHost),
            None => None,
        };
        let host = Hostname::parse(rest)?;
        let tls = tls.unwrap_or(!host.is_localhost());
        let host = match (host.port(), tls) {
            (Some(443), true) | (Some(80), false) => Hostname(host.name().into()),
            _ => host,
        };
        Ok(Endpoint { host, tls })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.host.port().unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// `https://host` or `http://host`.
    pub fn origin(&self) -> String {
        format!(
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.host
        )
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Result<String, HostnameError> {
        Endpoint::parse(text).map(|e| format!("{} {}", e.origin(), e.port()))
    }

    #[test]
    fn endpoints_of_every_spelling_are_one() {
        let tls = Ok("https://pds.example.com 443".to_owned());
        for text in [
            "pds.example.com",
            "PDS.Example.com",
            "https://pds.example.com/",
            "wss://pds.example.com:443",
        ] {
            assert_eq!(endpoint(text), tls, "{text}");
        }
        assert_eq!(endpoint("http://a.b:80"), Ok("http://a.b 80".into()));
        assert_eq!(
            endpoint("localhost:2583"),
            Ok("http://localhost:2583 2583".into())
        );
        assert_eq!(
            endpoint("https://localhost:9"),
            Ok("https://localhost:9 9".into())
        );
    }

    #[test]
    fn what_is_not_a_host_is_named() {
        use HostnameError::*;
        for (text, error) in [
            ("", Syntax),
            ("-a.com", Syntax),
            ("a..com", Syntax),
            ("a.com:", Syntax),
            ("a.com:0", Syntax),
            ("a.com:65536", Syntax),
            ("relay", SingleLabel),
            ("10.0.0.1", AddressLiteral),
            ("0x7f000001", AddressLiteral),
            ("[::1]:80", AddressLiteral),
            ("ftp://a.com", NotAHost),
            ("https://a.com/path", NotAHost),
            ("https://user@a.com", NotAHost),
        ] {
            assert_eq!(endpoint(text), Err(error), "{text}");
        }
    }
}
