//! Which addresses and ports may be connected to, and names to addresses.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::{
    limits,
    threads::{self, Role},
};

/// Where connections may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Anywhere; otherwise to ports 80 and 443 of public addresses.
    pub(super) private: bool,
}

/// Why a name leads to no address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressError {
    /// The name server says that there is no such name, or that it has no address.
    NoSuchName,
    /// All addresses of the name are private, or special otherwise.
    NotPublic,
    /// The port is neither 80 nor 443.
    Port(u16),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::NoSuchName => f.write_str("no such name"),
            AddressError::NotPublic => f.write_str("not a public address"),
            AddressError::Port(port) => write!(f, "port {port} is neither 80 nor 443"),
        }
    }
}

impl std::error::Error for AddressError {}

impl From<AddressError> for io::Error {
    fn from(error: AddressError) -> io::Error {
        let kind = match error {
            AddressError::NoSuchName => io::ErrorKind::NotFound,
            AddressError::NotPublic | AddressError::Port(_) => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, error)
    }
}

impl Policy {
    /// The addresses of `name` (which may be an address itself) that may be connected to: at least
    /// one, and at most [`limits::OUTBOUND_ADDRESSES_MAX`].
    pub(super) fn addresses(
        self,
        name: &str,
        port: u16,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<SocketAddr>> {
        if !self.private && !matches!(port, 80 | 443) {
            return Err(AddressError::Port(port).into());
        }
        let mut addresses = match name.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => lookup(name, port, timeout)?,
        };
        if addresses.is_empty() {
            return Err(AddressError::NoSuchName.into());
        }
        addresses.retain(|address| self.private || is_public(address.ip()));
        addresses.truncate(limits::OUTBOUND_ADDRESSES_MAX);
        if addresses.is_empty() {
            return Err(AddressError::NotPublic.into());
        }
        Ok(addresses)
    }
}

/// Whether `address` is a unicast address of the public internet, by the registries of special
/// addresses (<https://www.iana.org/assignments/iana-ipv4-special-registry>,
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>). An IPv6 address that stands for
/// an IPv4 address is what that one is; tunnels (6to4, Teredo) are not public.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..]                 // this network, private, loopback
            | [100, 64..=127, ..]          // carriers' own
            | [169, 254, ..]               // link-local, and clouds' metadata
            | [172, 16..=31, ..]           // private
            | [192, 0, 0 | 2, _]           // protocol assignments, documentation
            | [192, 88, 99, _]             // 6to4 relays
            | [192, 168, ..]               // private
            | [198, 18 | 19, ..]           // benchmarks
            | [198, 51, 100, _]            // documentation
            | [203, 0, 113, _]             // documentation
            | [224..=255, ..] // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low), // IPv4-mapped
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low), // NAT64
        [0x2001, 0..=0x01ff, ..] => false,                         // protocols, Teredo
        [0x2001, 0x0db8, ..] => false,                             // documentation
        [0x2002, ..] => false,                                     // 6to4
        [0x3fff, 0..=0x0fff, ..] => false,                         // documentation
        [first, ..] => first & 0xe000 == 0x2000,                   // all global unicast is 2000::/3
    }
}

/// Asks the system's resolver. It has no deadline of its own, so with a `timeout` a thread is left
/// behind to wait for it.
fn lookup(name: &str, port: u16, timeout: Option<Duration>) -> io::Result<Vec<SocketAddr>> {
    let Some(timeout) = timeout else {
        return resolve(name, port);
    };
    let (sender, receiver) = bounded(1);
    let asked = name.to_owned();
    threads::spawn(
        Role::Resolver,
        "dns",
        limits::OUTBOUND_DNS_STACK_BYTES,
        move || {
            // Who asked may have given up.
            let _ = sender.send(resolve(&asked, port));
        },
    )?
    .detach();
    receiver.recv_timeout(timeout).unwrap_or_else(|e| {
        Err(match e {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::Error::other("the lookup ended without answer"),
        })
    })
}

fn resolve(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match (name, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(e) if says_no_such_name(&e) => Err(AddressError::NoSuchName.into()),
        Err(e) => Err(e),
    }
}

/// Whether `getaddrinfo` failed for good. The standard library keeps only its words: those of
/// glibc and musl, which are not translated in a process that sets no locale.
fn says_no_such_name(error: &io::Error) -> bool {
    let words = error.to_string();
    [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ]
    .iter()
    .any(|conclusive| words.contains(conclusive))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 53: <https://atproto.com/specs/sync#security-considerations>
    #[test]
    fn special_addresses_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn neighbours_of_special_addresses_are_public() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:200::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// Rule 53: <https://atproto.com/specs/sync#security-considerations>
    #[test]
    fn ports_and_literals_follow_the_policy() {
        let public = Policy { private: false };
        let refused = |name, port| {
            let error = public.addresses(name, port, None).unwrap_err();
            *error
                .get_ref()
                .unwrap()
                .downcast_ref::<AddressError>()
                .unwrap()
        };
        assert_eq!(refused("1.1.1.1", 22), AddressError::Port(22));
        assert_eq!(refused("127.0.0.1", 443), AddressError::NotPublic);
        assert_eq!(refused("::ffff:127.0.0.1", 443), AddressError::NotPublic);
        assert_eq!(refused("localhost", 80), AddressError::NotPublic);
        assert_eq!(
            public.addresses("1.1.1.1", 443, None).unwrap(),
            ["1.1.1.1:443".parse().unwrap()]
        );
        let open = Policy { private: true };
        let timeout = Some(Duration::from_secs(10));
        assert!(!open.addresses("localhost", 22, timeout).unwrap().is_empty());
    }

    #[test]
    fn a_name_that_does_not_exist_is_told_from_a_failure() {
        let words = |text: &str| {
            let prefix = "failed to lookup address information";
            says_no_such_name(&io::Error::other(format!("{prefix}: {text}")))
        };
        assert!(words("Name or service not known"));
        assert!(words("No address associated with hostname"));
        assert!(!words("Temporary failure in name resolution"));
        assert!(!words("Try again"));
    }
}
