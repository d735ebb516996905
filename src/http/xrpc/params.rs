//! The parameters that several queries have, parsed. Every error is the answer to the client.

use std::ops::RangeInclusive;

use super::super::{query::Query, response::Response};
use crate::atproto::{did::Did, hostname::Endpoint, hostname::Hostname, nsid::Nsid, tid::Tid};

/// The parameters of one request.
pub(super) struct Params<'a> {
    raw: &'a str,
    query: Query,
}

impl<'a> Params<'a> {
    /// Parses what follows the `?`.
    pub(super) fn parse(raw: &'a str) -> Result<Params<'a>, Response> {
        let query = Query::parse(raw)?;
        Ok(Params { raw, query })
    }

    /// What follows the `?`, as it came.
    pub(super) fn raw(&self) -> &'a str {
        self.raw
    }

    /// The account that is asked about.
    pub(super) fn did(&self) -> Result<Did, Response> {
        Did::parse(self.required("did")?).map_err(|error| invalid("did", &error.to_string()))
    }

    /// The host that is asked about, in any form in which a host may ask to be crawled.
    pub(super) fn hostname(&self) -> Result<Hostname, Response> {
        Endpoint::parse(self.required("hostname")?)
            .map(|endpoint| endpoint.host)
            .map_err(|error| invalid("hostname", &error.to_string()))
    }

    /// The collection that is asked about.
    pub(super) fn collection(&self) -> Result<Nsid, Response> {
        let name = Nsid::parse(self.required("collection")?);
        name.map_err(|error| invalid("collection", &error.to_string()))
    }

    /// A revision, where one is given.
    pub(super) fn rev(&self, name: &str) -> Result<Option<Tid>, Response> {
        let rev = self.query.get(name).map(Tid::parse).transpose();
        rev.map_err(|error| invalid(name, &error.to_string()))
    }

    /// How many items are asked for. What is out of range is an error, as who asks for more would
    /// take the shorter page for the last one.
    pub(super) fn limit(
        &self,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, Response> {
        let Some(text) = self.query.get("limit") else {
            return Ok(default);
        };
        let limit = number(text).and_then(|limit| usize::try_from(limit).ok());
        limit.filter(|limit| range.contains(limit)).ok_or_else(|| {
            let (min, max) = range.into_inner();
            invalid("limit", &format!("not a number from {min} to {max}"))
        })
    }

    /// The place after which a page begins, where one is given. Cursors are numbers from 1, in the
    /// very form in which they were given out.
    pub(super) fn cursor(&self) -> Result<Option<u64>, Response> {
        let Some(text) = self.query.get("cursor") else {
            return Ok(None);
        };
        let given_out = |place: &u64| *place > 0 && !text.starts_with('0');
        match number(text).filter(given_out) {
            Some(place) => Ok(Some(place)),
            None => Err(unknown_cursor()),
        }
    }

    fn required(&self, name: &str) -> Result<&str, Response> {
        let value = self.query.get(name);
        value.ok_or_else(|| invalid(name, "missing"))
    }
}

/// 400: the cursor is none of ours.
pub(super) fn unknown_cursor() -> Response {
    invalid("cursor", "not one that this relay has given out")
}

fn invalid(name: &str, what: &str) -> Response {
    Response::invalid(&format!("{name} is {what}"))
}

/// A number written in digits only.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was parsed, or the message of the answer.
    fn message<T>(outcome: Result<T, Response>) -> Result<T, String> {
        outcome.map_err(|answer| {
            assert_eq!(answer.status, 400);
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["error"], "InvalidRequest");
            body["message"].as_str().unwrap().to_owned()
        })
    }

    fn params(raw: &str) -> Params<'_> {
        Params::parse(raw).unwrap()
    }

    /// Rule 169: <https://atproto.com/specs/xrpc#cursors-and-pagination>
    #[test]
    fn a_limit_out_of_range_is_an_error() {
        let limit = |raw: &str| message(params(raw).limit(1..=1_000, 200));
        for (raw, expected) in [
            ("", 200),
            ("limit=", 200),
            ("limit=1", 1),
            ("limit=1000", 1_000),
            ("limit=%31", 1),
            ("limit=0042", 42),
        ] {
            assert_eq!(limit(raw), Ok(expected), "{raw}");
        }
        for text in [
            "0",
            "1001",
            "-1",
            "+1",
            "1.0",
            "1e2",
            "abc",
            "18446744073709551617",
        ] {
            let raw = format!("limit={text}").replace('+', "%2B");
            let expected = Err("limit is not a number from 1 to 1000".to_owned());
            assert_eq!(limit(&raw), expected, "{raw}");
        }
    }

    #[test]
    fn a_cursor_is_one_that_was_given_out() {
        let cursor = |raw: &str| message(params(raw).cursor());
        assert_eq!(cursor(""), Ok(None));
        assert_eq!(cursor("cursor="), Ok(None));
        assert_eq!(cursor("cursor=17"), Ok(Some(17)));
        assert_eq!(cursor(&format!("cursor={}", u64::MAX)), Ok(Some(u64::MAX)));
        for text in ["0", "017", "-1", "%2B1", "1.5", "x", "18446744073709551616"] {
            let raw = format!("cursor={text}");
            let expected = "cursor is not one that this relay has given out";
            assert_eq!(cursor(&raw), Err(expected.to_owned()), "{raw}");
        }
    }

    /// Rule 180: <https://atproto.com/specs/xrpc>
    #[test]
    fn accounts_and_hosts_are_decoded_and_checked() {
        let did = |raw: &str| message(params(raw).did().map(|did| did.to_string()));
        let alice = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
        for raw in [
            format!("did={alice}"),
            format!("did={}", alice.replace(':', "%3A")),
            format!("x=y&%64id={}", alice.replace(':', "%3a")),
        ] {
            assert_eq!(did(&raw), Ok(alice.to_owned()), "{raw}");
        }
        // The escape is part of this one.
        let web = did("did=did%3Aweb%3Alocalhost%253A80");
        assert_eq!(web, Ok("did:web:localhost%3A80".to_owned()));
        for raw in ["", "did", "did=", "DID=did:web:a.b"] {
            assert_eq!(did(raw), Err("did is missing".to_owned()), "{raw}");
        }
        for raw in [
            "did=alice.example.com",
            "did=did:plc:",
            "did=did:web:a.b%20",
        ] {
            assert_eq!(did(raw), Err("did is not a DID".to_owned()), "{raw}");
        }
        let hostname = |raw: &str| message(params(raw).hostname().map(|host| host.to_string()));
        for raw in [
            "hostname=pds.example.com",
            "hostname=PDS.example.com:443",
            "hostname=https%3A%2F%2Fpds.example.com%2F",
        ] {
            assert_eq!(hostname(raw), Ok("pds.example.com".to_owned()), "{raw}");
        }
        assert_eq!(hostname("hostname="), Err("hostname is missing".to_owned()));
        assert!(hostname("hostname=10.0.0.1").is_err());
        assert!(hostname("hostname=pds").is_err());
        let collection = |raw: &str| message(params(raw).collection().map(|c| c.to_string()));
        let post = "app.bsky.feed.post";
        assert_eq!(
            collection(&format!("collection={post}")),
            Ok(post.to_owned())
        );
        for raw in ["", "collection="] {
            assert_eq!(collection(raw), Err("collection is missing".to_owned()));
        }
        for name in [
            "post",
            "app.bsky",
            "app.bsky.feed.post/x",
            "app.bsky.feed.*",
        ] {
            let expected = Err("collection is not an NSID".to_owned());
            assert_eq!(
                collection(&format!("collection={name}")),
                expected,
                "{name}"
            );
        }
        let rev = |raw| {
            message(
                params(raw)
                    .rev("since")
                    .map(|rev| rev.map(|r| r.to_string())),
            )
        };
        assert_eq!(rev("since="), Ok(None));
        assert_eq!(rev("since=3jzfcijpj2z2a"), Ok(Some("3jzfcijpj2z2a".into())));
        assert!(rev("since=yesterday").is_err());
    }
}
