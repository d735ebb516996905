//! `zlay crawl`: asks a running relay to crawl hosts, as anybody may.

use std::{
    fmt, io,
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use serde_json::{Value, json};

use super::crawl;
use crate::USER_AGENT;

/// One request, everything but the answer's length together: the relay checks the host meanwhile.
const TIMEOUT: Duration = Duration::from_secs(30);
/// An answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Where a relay is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Relay {
    tls: bool,
    /// Name or address, without brackets.
    host: String,
    port: u16,
    /// As it was given, for the `Host` header.
    authority: String,
}

/// Why a relay did not take a host.
#[derive(Debug)]
pub enum CrawlError {
    /// Not the URL of a relay.
    Url(String),
    /// No connection, or it broke.
    Io(io::Error),
    /// No HTTP came back.
    NotHttp,
    /// The relay refuses.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl fmt::Display for CrawlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CrawlError::Url(url) => write!(f, "{url:?} is not the URL of a relay"),
            CrawlError::Io(error) => write!(f, "{error}"),
            CrawlError::NotHttp => f.write_str("the relay does not speak HTTP"),
            CrawlError::Refused { status, message } => write!(f, "{message} (status {status})"),
        }
    }
}

impl std::error::Error for CrawlError {}

impl From<io::Error> for CrawlError {
    fn from(error: io::Error) -> CrawlError {
        CrawlError::Io(error)
    }
}

/// Asks the relay at the URL `relay` to crawl each of `hosts` and writes one line about each.
/// Returns whether all were taken. `tls` is used for `https` only.
pub fn crawl(
    hosts: &[String],
    relay: &str,
    tls: &Arc<ClientConfig>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut all = true;
    for host in hosts {
        match request_crawl(host, relay, tls) {
            Ok(()) => writeln!(out, "{host}: ok")?,
            Err(error) => {
                all = false;
                writeln!(out, "{host}: {error}")?;
            }
        }
    }
    Ok(all)
}

/// Asks the relay at the URL `relay` to crawl one host.
pub fn request_crawl(host: &str, relay: &str, tls: &Arc<ClientConfig>) -> Result<(), CrawlError> {
    let relay = Relay::parse(relay).ok_or_else(|| CrawlError::Url(relay.to_owned()))?;
    let body = json!({ "hostname": host }).to_string();
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        crawl::PATH,
        relay.authority,
        body.len(),
    );
    let answer = relay.exchange(request.as_bytes(), tls)?;
    let (status, body) = parse_answer(&answer).ok_or(CrawlError::NotHttp)?;
    if status == 200 {
        return Ok(());
    }
    let error = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let word = |name| error.get(name).and_then(Value::as_str).unwrap_or_default();
    Err(CrawlError::Refused {
        status,
        message: format!("{} {}", word("error"), word("message"))
            .trim()
            .to_owned(),
    })
}

impl Relay {
    /// `http://host:port`, `https://host`, or a bare host, which means `https`.
    fn parse(url: &str) -> Option<Relay> {
        let url = url.trim();
        let (tls, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return None,
            None => (true, url),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ', '\r', '\n']) {
            return None;
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Relay {
            tls,
            host: host.to_owned(),
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_owned(),
        })
    }

    fn exchange(&self, request: &[u8], tls: &Arc<ClientConfig>) -> Result<Vec<u8>, CrawlError> {
        let stream = self.connect()?;
        if !self.tls {
            return Ok(exchange(stream, request)?);
        }
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| CrawlError::Url(self.authority.clone()))?;
        let session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        Ok(exchange(StreamOwned::new(session, stream), request)?)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return Ok(stream);
                }
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut answer = Vec::new();
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer) {
        // Many servers end TLS without saying so; the answer says itself whether it is whole.
        Err(e) if answer.is_empty() || e.kind() != io::ErrorKind::UnexpectedEof => Err(e),
        _ => Ok(answer),
    }
}

/// Status and body of an answer on a connection that is closed after it.
fn parse_answer(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let mut lines = [httparse::EMPTY_HEADER; crate::limits::HTTP_HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut lines);
    match answer.parse(bytes).ok()? {
        httparse::Status::Complete(end) => Some((answer.code?, &bytes[end..])),
        httparse::Status::Partial => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_are_found_by_url() {
        let relay = |url| Relay::parse(url).map(|r| (r.tls, r.host, r.port));
        assert_eq!(
            relay("http://localhost:3000"),
            Some((false, "localhost".into(), 3_000))
        );
        assert_eq!(
            relay("https://relay.example.com/"),
            Some((true, "relay.example.com".into(), 443))
        );
        assert_eq!(
            relay("relay.example.com"),
            Some((true, "relay.example.com".into(), 443))
        );
        assert_eq!(relay("http://[::1]:80"), Some((false, "::1".into(), 80)));
        assert_eq!(relay("http://[::1]"), Some((false, "::1".into(), 80)));
        for bad in [
            "",
            "ftp://a",
            "http://a/b",
            "http://u@a",
            "http://a:x",
            "http://a\r\nb",
        ] {
            assert_eq!(relay(bad), None, "{bad}");
        }
    }
}
