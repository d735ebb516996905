//! A request, as the routes see it.

use std::net::{IpAddr, Ipv6Addr};

/// A request whose body has been read whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub method: Method,
    /// The path of the target, as sent: `/xrpc/_health`.
    pub path: String,
    /// The query of the target, as sent and without the `?`; empty when there is none.
    pub query: String,
    /// Every header line.
    pub headers: Headers,
    /// The body; empty when there is none.
    pub body: Vec<u8>,
    /// Who asks, for limits and logs: see [`client_address`].
    pub client: IpAddr,
}

/// The methods that mean something to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`: like `GET`, and the answer has no body.
    Head,
    /// `POST`.
    Post,
    /// `OPTIONS`: a browser asks what it may do.
    Options,
    /// Any other one; no route knows it.
    Other,
}

impl Method {
    /// The method of that name; names are case-sensitive.
    pub fn parse(name: &str) -> Method {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }

    /// `GET` or `HEAD`.
    pub fn reads(self) -> bool {
        matches!(self, Method::Get | Method::Head)
    }
}

/// Header lines in the order in which they came.
#[derive(Clone, Default, Debug)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Adds a line; what is not UTF-8 in the value is replaced.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        // No other white space than this is allowed around a value.
        let value = String::from_utf8_lossy(value);
        let value = value.trim_matches([' ', '\t']).to_owned();
        self.0.push((name.to_ascii_lowercase(), value));
    }

    /// Every value of the header called `name` (in lower case).
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of the header called `name` (in lower case).
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether one of the comma-separated values of `name` is `token`, in any case
    /// (<https://www.rfc-editor.org/rfc/rfc9110#name-lists-rule-abnf-extension>).
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    }
}

/// The address that a request counts for. It is the peer's own, except where the peer is a proxy
/// beside us (its address is loopback or private): then it is what that proxy wrote last into
/// `X-Forwarded-For`, since everything before it may be the client's invention.
pub fn client_address(peer: IpAddr, headers: &Headers) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_beside_us(peer) {
        return peer;
    }
    let forwarded = headers.all("x-forwarded-for").last();
    forwarded
        .and_then(|list| list.rsplit(',').next())
        .and_then(parse_forwarded)
        .map_or(peer, |address| address.to_canonical())
}

/// Whether the address can only be of this machine or its own network.
pub fn is_beside_us(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 /64, which is the least that a network
/// gives to one customer.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let prefix = u128::from(v6) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        v4 => v4,
    }
}

fn parse_forwarded(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let socket = || text.parse::<std::net::SocketAddr>().ok().map(|s| s.ip());
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in lines {
            headers.push(name, value.as_bytes());
        }
        headers
    }

    #[test]
    fn lists_are_read_across_lines_and_in_any_case() {
        let headers = headers(&[("Connection", "keep-alive, UPGRADE"), ("connection", "x")]);
        assert!(headers.lists("connection", "upgrade"));
        assert!(headers.lists("connection", "X"));
        assert!(!headers.lists("connection", "keep"));
        assert_eq!(headers.first("connection"), Some("keep-alive, UPGRADE"));
    }

    #[test]
    fn only_a_proxy_beside_us_says_who_asks() {
        let client = |peer: &str, forwarded: &[(&str, &str)]| {
            client_address(peer.parse().unwrap(), &headers(forwarded)).to_string()
        };
        let list = [("X-Forwarded-For", "8.8.8.8, 203.0.113.7")];
        assert_eq!(client("127.0.0.1", &list), "203.0.113.7");
        assert_eq!(client("::ffff:10.0.0.1", &list), "203.0.113.7");
        assert_eq!(client("198.51.100.1", &list), "198.51.100.1");
        assert_eq!(client("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(
            client("127.0.0.1", &[("x-forwarded-for", "me")]),
            "127.0.0.1"
        );
        let with_port = [("x-forwarded-for", "[2001:db8::1]:443")];
        assert_eq!(client("127.0.0.1", &with_port), "2001:db8::1");
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let net = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(net("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(net("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
