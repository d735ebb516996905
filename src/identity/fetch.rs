//! Fetching one DID document (<https://atproto.com/specs/did>, <https://web.plc.directory>).

use std::time::Duration;

use super::{document::Identity, outcome::Missing};
use crate::{
    atproto::{
        did::{Did, Method},
        handle,
        hostname::Hostname,
    },
    limits,
    outbound::{AddressError, FetchError, GetOptions, Outbound, Response},
};

/// What came of one attempt.
#[derive(Clone, Debug)]
pub(super) enum Fetched {
    /// The document.
    Found(Identity),
    /// A conclusive answer: there is no document of use.
    Missing(Missing),
    /// What is served under the address of the document is none, which nobody does on purpose; the
    /// words are for the log.
    Invalid(String),
    /// The directory asks us to be slower, perhaps for so long.
    Limited(Option<Duration>),
    /// No answer, which says nothing about the identity; the words are for the log.
    Unreachable(String),
}

const ACCEPT: &str = "application/did+ld+json, application/json";

/// Fetches the document of `did`; blocks up to `timeout`. `now_ms` is the time that the document is
/// from.
pub(super) fn fetch(outbound: &Outbound, did: &Did, timeout: Duration, now_ms: u64) -> Fetched {
    let options = GetOptions {
        timeout,
        body_bytes_max: limits::IDENTITY_DOCUMENT_BYTES_MAX,
        accept: ACCEPT,
    };
    match did.method() {
        Method::Plc => {
            let answer = outbound.get_directory(&format!("/{did}"), options);
            read(answer, did, now_ms, false)
        }
        Method::Web(host) => match web_url(host, outbound.allows_private()) {
            Some(url) => read(outbound.get(&url, options), did, now_ms, true),
            None => Fetched::Missing(Missing::Unsupported),
        },
        Method::Unsupported => Fetched::Missing(Missing::Unsupported),
    }
}

/// Where the document of `did:web:HOST` is; nothing where such a DID can not be of this network.
fn web_url(host: &str, private: bool) -> Option<String> {
    const DOCUMENT: &str = "/.well-known/did.json";
    // Only a port is ever encoded, and only on localhost are ports allowed.
    let (name, port) = match host.split_once("%3A").or_else(|| host.split_once("%3a")) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let text = match port {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    };
    let host = Hostname::parse(&text).ok()?;
    if host.is_localhost() {
        return private.then(|| format!("http://{host}{DOCUMENT}"));
    }
    let tld = host.name().rsplit('.').next().unwrap_or_default();
    if port.is_some() || handle::is_disallowed_tld(tld) {
        return None;
    }
    Some(format!("https://{host}{DOCUMENT}"))
}

/// Judges an answer. What the directory says is not to be taken for gone unless it says so; a
/// `did:web` whose name or address leads nowhere is gone.
fn read(answer: Result<Response, FetchError>, did: &Did, now_ms: u64, web: bool) -> Fetched {
    let response = match answer {
        Ok(response) => response,
        Err(e @ FetchError::TooLarge) => return Fetched::Invalid(e.to_string()),
        Err(FetchError::Address(e)) if web => {
            return match e {
                AddressError::NoSuchName => Fetched::Missing(Missing::NotFound),
                AddressError::NotPublic | AddressError::Port(_) => {
                    Fetched::Missing(Missing::Unsupported)
                }
            };
        }
        Err(e) => return Fetched::Unreachable(e.to_string()),
    };
    match response.status {
        200 => match Identity::parse(did, &response.body, now_ms) {
            Ok(identity) => Fetched::Found(identity),
            Err(e) => Fetched::Invalid(e.to_string()),
        },
        404 | 410 => Fetched::Missing(Missing::NotFound),
        429 if !web => Fetched::Limited(response.retry_after),
        status => Fetched::Unreachable(format!("status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 156: <https://atproto.com/specs/did>
    #[test]
    fn only_hosts_have_a_did_web() {
        let url = |host| web_url(host, false);
        let at = |host: &str| Some(format!("{host}/.well-known/did.json"));
        assert_eq!(url("example.com"), at("https://example.com"));
        assert_eq!(url("A.Example.com"), at("https://a.example.com"));
        for host in [
            "localhost",
            "localhost%3A1234",
            "example.com%3A443",
            "127.0.0.1",
            "a.local",
            "a.onion",
            "single",
            "example.com%2Fpath",
            "a_b.com",
        ] {
            assert_eq!(url(host), None, "{host}");
        }
        assert_eq!(
            web_url("localhost%3A1234", true),
            at("http://localhost:1234")
        );
        assert_eq!(
            web_url("localhost%3a1234", true),
            at("http://localhost:1234")
        );
        assert_eq!(web_url("localhost", true), at("http://localhost"));
        assert_eq!(web_url("example.com%3A443", true), None);
    }

    /// Rules 151, 152: <https://web.plc.directory/spec/v0.1/did-plc>
    #[test]
    fn only_a_conclusive_answer_says_that_there_is_nothing() {
        let did = Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap();
        let status = |status| {
            let body = format!("{{\"id\":\"{did}\"}}").into_bytes();
            Ok(Response {
                status,
                server: None,
                retry_after: None,
                body,
            })
        };
        let judged = |answer, web| match read(answer, &did, 0, web) {
            Fetched::Found(_) => "found",
            Fetched::Missing(Missing::NotFound) => "not found",
            Fetched::Missing(Missing::Unsupported) => "unsupported",
            Fetched::Missing(Missing::BadDocument) | Fetched::Invalid(_) => "bad",
            Fetched::Limited(_) => "limited",
            Fetched::Unreachable(_) => "unreachable",
        };
        for web in [false, true] {
            assert_eq!(judged(status(200), web), "found");
            assert_eq!(judged(status(404), web), "not found");
            assert_eq!(judged(status(410), web), "not found");
            for transient in [301, 400, 403, 500, 502, 503] {
                assert_eq!(judged(status(transient), web), "unreachable");
            }
            assert_eq!(judged(Err(FetchError::TooLarge), web), "bad");
            assert_eq!(judged(Err(FetchError::Timeout), web), "unreachable");
        }
        assert_eq!(judged(status(429), false), "limited");
        assert_eq!(judged(status(429), true), "unreachable");
        let no_name = || Err(FetchError::Address(AddressError::NoSuchName));
        assert_eq!(judged(no_name(), true), "not found");
        assert_eq!(judged(no_name(), false), "unreachable");
        let private = || Err(FetchError::Address(AddressError::NotPublic));
        assert_eq!(judged(private(), true), "unsupported");
    }
}
