//! The check that a host passes before it exists anywhere: is this the name of a host, is it one
//! that may be crawled, is a PDS there, and is it not another relay.
//!
//! A row that is made first and checked later is how relays have filled their tables with names
//! that lead nowhere; so nothing is written before both halves of the check are passed.

use std::fmt;

use serde_json::Value;

use crate::{
    atproto::{
        handle::is_disallowed_tld,
        hostname::{Endpoint, HostnameError},
    },
    config::Config,
    limits::{PROBE_BODY_BYTES_MAX, PROBE_TIMEOUT},
    outbound::{FetchError, GetOptions, Outbound},
};

/// The mark of a relay in its `Server` header.
const RELAY_MARK: &str = "atproto-relay";

/// Decides who may become a host.
#[derive(Clone, Debug)]
pub struct Admission {
    outbound: Outbound,
    private: bool,
}

/// Why a host is not admitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Not the name of a host.
    Name(HostnameError),
    /// `localhost`, outside of a private network.
    Localhost,
    /// Below a name that is reserved for other things than hosts.
    Reserved,
    /// A port, outside of a private network.
    Port,
    /// Without TLS, outside of a private network.
    NotTls,
    /// Nobody answers there, or there is no such name.
    Unreachable(FetchError),
    /// Somebody answers, but not as a PDS does.
    NotAPds(String),
    /// It is a relay itself.
    IsRelay,
    /// The operator has banned the host or its domain.
    Banned,
}

impl Refused {
    /// The name of the error in XRPC.
    pub fn error(&self) -> &'static str {
        match self {
            Refused::Name(_)
            | Refused::Localhost
            | Refused::Reserved
            | Refused::Port
            | Refused::NotTls
            | Refused::IsRelay => "InvalidRequest",
            Refused::Unreachable(_) | Refused::NotAPds(_) => "HostNotFound",
            Refused::Banned => "HostBanned",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(&self) -> u16 {
        match self {
            Refused::Banned => 403,
            _ => 400,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Name(error) => write!(f, "hostname is {error}"),
            Refused::Localhost => f.write_str("localhost is crawled only in private networks"),
            Refused::Reserved => f.write_str("hostname is below a reserved top-level name"),
            Refused::Port => f.write_str("hosts with a port are crawled only in private networks"),
            Refused::NotTls => {
                f.write_str("hosts without TLS are crawled only in private networks")
            }
            Refused::Unreachable(error) => write!(f, "host can not be reached: {error}"),
            Refused::NotAPds(why) => write!(f, "host does not answer like a PDS: {why}"),
            Refused::IsRelay => f.write_str("host is a relay; relays do not crawl each other"),
            Refused::Banned => f.write_str("host or its domain is banned here"),
        }
    }
}

impl std::error::Error for Refused {}

impl Admission {
    /// The rules that the configuration asks for.
    pub fn new(config: &Config, outbound: Outbound) -> Admission {
        Admission {
            outbound,
            private: config.allow_private_hosts,
        }
    }

    /// The half that needs no network: syntax and policy.
    pub fn check(&self, text: &str) -> Result<Endpoint, Refused> {
        let endpoint = Endpoint::parse(text.trim()).map_err(Refused::Name)?;
        if self.private {
            return Ok(endpoint);
        }
        let name = endpoint.host.name();
        if endpoint.host.is_localhost() {
            return Err(Refused::Localhost);
        }
        if name
            .rsplit('.')
            .next()
            .is_some_and(|top| is_disallowed_tld(top) || top == "test")
        {
            return Err(Refused::Reserved);
        }
        if !endpoint.tls {
            return Err(Refused::NotTls);
        }
        if endpoint.host.port().is_some() {
            return Err(Refused::Port);
        }
        Ok(endpoint)
    }

    /// The half that asks the host itself: a PDS describes itself, and does not call itself a
    /// relay. Takes up to [`PROBE_TIMEOUT`].
    pub fn probe(&self, endpoint: &Endpoint) -> Result<(), Refused> {
        let url = format!(
            "{}/xrpc/com.atproto.server.describeServer",
            endpoint.origin()
        );
        let options = GetOptions {
            timeout: PROBE_TIMEOUT,
            body_bytes_max: PROBE_BODY_BYTES_MAX,
            accept: "application/json",
        };
        let answer = self
            .outbound
            .get(&url, options)
            .map_err(Refused::Unreachable)?;
        if answer
            .server
            .is_some_and(|s| s.to_ascii_lowercase().contains(RELAY_MARK))
        {
            return Err(Refused::IsRelay);
        }
        if answer.status != 200 {
            return Err(Refused::NotAPds(format!(
                "describeServer has status {}",
                answer.status
            )));
        }
        // https://github.com/bluesky-social/atproto/blob/main/lexicons/com/atproto/server/describeServer.json
        let description = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        if !description.get("did").is_some_and(Value::is_string) {
            let what = "describeServer is not JSON with a did".to_owned();
            return Err(Refused::NotAPds(what));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use clap::Parser;

    use super::*;
    use crate::{config::Cli, threads};

    /// The admission that these flags of the command line give.
    pub(crate) fn admission(flags: &[&str]) -> Admission {
        let config = Cli::try_parse_from([&["zlay"], flags].concat())
            .unwrap()
            .config;
        let outbound = Outbound::new(&config).unwrap();
        Admission::new(&config, outbound)
    }

    /// A host that gives one answer to everybody, until the process ends.
    pub(crate) fn fake_host(head: &str, body: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        let length = body.len();
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
        let thread = threads::spawn(threads::Role::Simulator, "pds", 256 << 10, move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                assert!(request.is_empty() || request.starts_with(DESCRIBE));
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        thread.unwrap().detach();
        name
    }

    const DESCRIBE: &[u8] = b"GET /xrpc/com.atproto.server.describeServer HTTP/1.1\r\n";

    /// What a PDS says of itself.
    pub(crate) const PDS: &str = r#"{"did":"did:web:localhost","availableUserDomains":[]}"#;

    #[test]
    fn strangers_are_public_hosts_over_tls() {
        let admission = admission(&[]);
        for good in [
            "pds.example.com",
            " https://PDS.example.com/ ",
            "wss://pds.example.com",
        ] {
            let endpoint = admission.check(good).unwrap();
            assert_eq!(endpoint.origin(), "https://pds.example.com");
        }
        for (bad, why) in [
            ("", Refused::Name(HostnameError::Syntax)),
            ("10.0.0.1", Refused::Name(HostnameError::AddressLiteral)),
            ("[::1]", Refused::Name(HostnameError::AddressLiteral)),
            ("relay", Refused::Name(HostnameError::SingleLabel)),
            ("ftp://a.com", Refused::Name(HostnameError::NotAHost)),
            ("a.com/x", Refused::Name(HostnameError::NotAHost)),
            ("localhost", Refused::Localhost),
            ("localhost:2583", Refused::Localhost),
            ("pds.internal", Refused::Reserved),
            ("a.b.LOCAL", Refused::Reserved),
            ("pds.test", Refused::Reserved),
            ("http://pds.example.com", Refused::NotTls),
            ("pds.example.com:8443", Refused::Port),
        ] {
            assert_eq!(admission.check(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn private_networks_have_their_own_names() {
        let admission = admission(&["--allow-private-hosts"]);
        for (text, origin) in [
            ("localhost:2583", "http://localhost:2583"),
            ("https://localhost:2583", "https://localhost:2583"),
            ("http://pds.test:80", "http://pds.test"),
            ("pds.internal:8443", "https://pds.internal:8443"),
        ] {
            assert_eq!(admission.check(text).unwrap().origin(), origin);
        }
        assert!(admission.check("10.0.0.1").is_err());
    }

    #[test]
    fn a_pds_says_that_it_is_one() {
        let admission = admission(&["--allow-private-hosts"]);
        let probe = |head: &str, body: &str| {
            let endpoint = admission.check(&fake_host(head, body)).unwrap();
            admission.probe(&endpoint)
        };
        assert_eq!(probe("200 OK", PDS), Ok(()));
        let relay = "200 OK\r\nServer: indigo/1.0 (ATProto-Relay)";
        assert_eq!(probe(relay, PDS), Err(Refused::IsRelay));
        let relay = "501 Not Implemented\r\nServer: zlay (atproto-relay)";
        assert_eq!(probe(relay, "{}"), Err(Refused::IsRelay));
        for (head, body) in [
            ("404 Not Found", PDS),
            ("302 Found\r\nLocation: /elsewhere", PDS),
            ("200 OK", "<html>"),
            ("200 OK", "{}"),
            ("200 OK", r#"{"did":7}"#),
            ("200 OK", r#"["did"]"#),
        ] {
            let refused = probe(head, body).unwrap_err();
            assert!(
                matches!(refused, Refused::NotAPds(_)),
                "{head} {body}: {refused}"
            );
            assert_eq!((refused.error(), refused.status()), ("HostNotFound", 400));
        }
        let long = format!("{{\"did\":\"{}\"}}", "x".repeat(PROBE_BODY_BYTES_MAX));
        assert_eq!(
            probe("200 OK", &long),
            Err(Refused::Unreachable(FetchError::TooLarge))
        );
    }

    #[test]
    fn a_public_relay_does_not_probe_itself() {
        let name = fake_host("200 OK", PDS);
        let endpoint = Endpoint::parse(&name).unwrap();
        let refused = admission(&[]).probe(&endpoint).unwrap_err();
        assert!(
            matches!(refused, Refused::Unreachable(FetchError::Address(_))),
            "{refused}"
        );
    }
}
