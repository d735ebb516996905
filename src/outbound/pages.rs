//! Pages of the lists of other services, as XRPC methods answer them
//! (<https://atproto.com/specs/xrpc#cursors-and-pagination>), and how long to wait before one that could
//! not be read is asked for again.

use std::{fmt, time::Duration};

use serde::de::DeserializeOwned;

use super::{FetchError, GetOptions, Outbound};
use crate::{atproto::hostname::Endpoint, percent};

/// A list of another service.
#[derive(Clone, Debug)]
pub struct Pages {
    /// Whose it is.
    pub endpoint: Endpoint,
    /// The method in `com.atproto.sync`, such as `listHosts`.
    pub method: &'static str,
    /// One page, everything together.
    pub timeout: Duration,
    /// The longest page that is accepted, in bytes.
    pub bytes_max: usize,
}

/// Why a page could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageError {
    /// The method that was asked.
    pub method: &'static str,
    /// What came of it.
    pub failure: PageFailure,
}

/// What came of asking for a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PageFailure {
    /// No answer.
    Fetch(FetchError),
    /// An answer with this status, and for how long not to ask again where it says so.
    Status(u16, Option<Duration>),
    /// Not the JSON that it should be.
    Json(String),
}

impl Pages {
    /// Asks for a page with these parameters, among them the cursor where there is one.
    pub fn read<T: DeserializeOwned>(
        &self,
        outbound: &Outbound,
        parameters: &[(&str, &str)],
    ) -> Result<T, PageError> {
        let failed = |failure| PageError {
            method: self.method,
            failure,
        };
        let options = GetOptions {
            timeout: self.timeout,
            body_bytes_max: self.bytes_max,
            accept: "application/json",
        };
        let answer = outbound.get(&self.url(parameters), options);
        let answer = answer.map_err(|error| failed(PageFailure::Fetch(error)))?;
        if answer.status != 200 {
            let status = PageFailure::Status(answer.status, answer.retry_after);
            return Err(failed(status));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| failed(PageFailure::Json(error.to_string())))
    }

    fn url(&self, parameters: &[(&str, &str)]) -> String {
        let origin = self.endpoint.origin();
        let mut url = format!("{origin}/xrpc/com.atproto.sync.{}", self.method);
        for (n, (name, value)) in parameters.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            percent::encode(value, b"", &mut url);
        }
        url
    }
}

impl PageError {
    /// Whether it is said that the question is wrong: a cursor may not be known any more.
    pub fn is_refusal(&self) -> bool {
        matches!(self.failure, PageFailure::Status(400, _))
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method;
        match &self.failure {
            PageFailure::Fetch(error) => write!(f, "{method} failed: {error}"),
            PageFailure::Status(status, _) => write!(f, "{method} has status {status}"),
            PageFailure::Json(error) => write!(f, "{method} is not what it should be: {error}"),
        }
    }
}

impl std::error::Error for PageError {}

/// How long to wait after so many failures in a row and one more: it doubles with each, from `first`
/// to `longest`, and is spread so that relays that lost the same service do not come back together.
/// `jitter` is a random number in 0 to 1.
pub fn backoff(failures: u32, first: Duration, longest: Duration, jitter: f64) -> Duration {
    let full = first.saturating_mul(1 << failures.min(16)).min(longest);
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded() {
        let pages = Pages {
            endpoint: Endpoint::parse("relay.example.com").unwrap(),
            method: "listReposByCollection",
            timeout: Duration::from_secs(1),
            bytes_max: 1,
        };
        let base = "https://relay.example.com/xrpc/com.atproto.sync.listReposByCollection";
        assert_eq!(pages.url(&[]), base);
        let parameters = [("collection", "com.example.a-b"), ("cursor", "a/b&c=ä")];
        let query = "?collection=com.example.a-b&cursor=a%2Fb%26c%3D%C3%A4";
        assert_eq!(pages.url(&parameters), format!("{base}{query}"));
    }

    #[test]
    fn the_delay_doubles_to_the_longest() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        let delay = |failures, jitter| backoff(failures, first, longest, jitter);
        assert_eq!(delay(0, 1.0), first);
        assert_eq!(delay(0, 0.0), first / 2);
        assert_eq!(delay(3, 1.0), first * 8);
        assert_eq!(delay(u32::MAX, 1.0), longest);
        assert_eq!(delay(u32::MAX, 0.0), longest / 2);
    }
}
