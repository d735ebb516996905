//! Where the snapshots come from: what any relay of this kind shows of itself.

use std::{fmt, net::IpAddr, time::Duration};

use serde_json::Value;

use super::{snapshot::Snapshot, state::Wish};
use crate::{
    config::Secret,
    host::now_ms,
    http::client::{self, CrawlError},
    outbound::{Call, FetchError, Outbound},
};

/// One request, with its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes: ten thousand hosts take a few of these.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Pages of `/hosts.json`, of a hundred hosts each.
const PAGES_MAX: u64 = 200;

/// Why there is no snapshot.
#[derive(Debug)]
pub enum SourceError {
    /// Not the URL of a relay.
    Url(CrawlError),
    /// No answer.
    Fetch(String, FetchError),
    /// Who answers has no such page: another program, or another version.
    NotZlay(String, u16),
    /// The relay answers that it can not.
    Status(String, u16),
    /// What is answered can not be read.
    Unreadable(String),
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::Url(error) => write!(f, "--relay: {error}"),
            SourceError::Fetch(url, error) => write!(f, "can not reach {url}: {error}"),
            SourceError::NotZlay(url, status) => write!(
                f,
                "who answers at {url} is not a zlay relay, or an old one (status {status})"
            ),
            SourceError::Status(url, status) => write!(f, "{url} answers with status {status}"),
            SourceError::Unreadable(url) => {
                write!(
                    f,
                    "who answers at {url} is not a zlay relay (it is no JSON)"
                )
            }
        }
    }
}

impl std::error::Error for SourceError {}

/// A relay to ask.
#[derive(Clone, Debug)]
pub(super) struct Source {
    outbound: Outbound,
    url: String,
    operator: Option<String>,
}

impl Source {
    /// The relay at `url`. With the password its operator asks, where nobody in between can read it.
    pub(super) fn new(
        outbound: &Outbound,
        url: &str,
        password: Option<&Secret>,
    ) -> Result<Source, SourceError> {
        let url = client::base_url(url).map_err(SourceError::Url)?;
        let password = password.filter(|_| is_private(&url));
        Ok(Source {
            outbound: outbound.clone(),
            operator: password.map(client::authorization),
            url,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Asks for everything, but for hosts beyond those of the wish.
    pub(super) fn snapshot(&self, wish: Wish) -> Result<Snapshot, SourceError> {
        let status = self.get("/status.json", None)?;
        let mut snapshot = Snapshot::read(&status);
        self.hosts(&mut snapshot, wish)?;
        if let Some(operator) = &self.operator {
            // Without the password, or with a wrong one, the rest is shown all the same.
            if let Ok(list) = self.get("/admin/consumers/list", Some(operator)) {
                snapshot.read_subscribers(&list);
            }
        }
        Ok(snapshot)
    }

    /// Pages of hosts, sorted and chosen by the relay, until there are enough.
    fn hosts(&self, snapshot: &mut Snapshot, wish: Wish) -> Result<(), SourceError> {
        let show = if wish.failing_only {
            "&show=failing"
        } else {
            ""
        };
        for page in 1..=PAGES_MAX {
            let sort = wish.sort.query();
            let path = format!("/hosts.json?{sort}{show}&page={page}");
            let answer = self.get(&path, None)?;
            snapshot.read_hosts(&answer, now_ms());
            let pages = answer.get("pages").and_then(Value::as_u64).unwrap_or(1);
            let is_enough = wish.hosts.is_some_and(|most| snapshot.hosts.len() >= most);
            if is_enough || page >= pages {
                break;
            }
        }
        Ok(())
    }

    fn get(&self, path: &str, authorization: Option<&str>) -> Result<Value, SourceError> {
        let url = format!("{}{path}", self.url);
        let mut headers = vec![("accept", "application/json")];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let answer = self.outbound.call(&Call {
            method: "GET",
            url: &url,
            headers: &headers,
            body: &[],
            timeout: TIMEOUT,
            body_bytes_max: ANSWER_BYTES_MAX,
        });
        let answer = answer.map_err(|error| SourceError::Fetch(self.url.clone(), error))?;
        match answer.status {
            200 => serde_json::from_slice(&answer.body).map_err(|_| SourceError::Unreadable(url)),
            // What a relay that is there may say, or the proxy before it.
            status @ (429 | 500 | 502..=504) => Err(SourceError::Status(url, status)),
            status => Err(SourceError::NotZlay(url, status)),
        }
    }
}

/// Whether nobody on the way can read what is sent to `url`.
fn is_private(url: &str) -> bool {
    let Some(authority) = url.strip_prefix("http://") else {
        return url.starts_with("https://");
    };
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    host.is_some_and(|host| {
        let address = host.parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_goes_where_nobody_listens() {
        for url in [
            "https://relay.example.com",
            "http://localhost:3000",
            "http://127.0.0.1:3000",
            "http://127.8.9.1",
            "http://[::1]:3000",
        ] {
            assert!(is_private(url), "{url}");
        }
        for url in [
            "http://relay.example.com",
            "http://10.0.0.1:3000",
            "http://localhost.example.com",
            "http://[2001:db8::1]:3000",
        ] {
            assert!(!is_private(url), "{url}");
        }
    }

    #[test]
    fn errors_are_in_words() {
        let url = || "http://127.0.0.1:1".to_owned();
        let refused = FetchError::Failed("Connection refused".to_owned());
        assert_eq!(
            SourceError::Fetch(url(), refused).to_string(),
            "can not reach http://127.0.0.1:1: Connection refused"
        );
        assert!(
            SourceError::NotZlay(url(), 404)
                .to_string()
                .contains("not a zlay")
        );
        assert!(
            SourceError::Unreadable(url())
                .to_string()
                .contains("not a zlay")
        );
    }
}
