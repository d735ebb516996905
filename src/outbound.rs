//! Connecting out: one policy for host websockets, the PLC directory, `did:web` hosts and probes.
//!
//! Names come from strangers, so a name may point anywhere: at this machine, at its private
//! network, at a cloud's metadata service. Every connection is made to addresses that were checked
//! after the name was resolved, so that a second answer of the name server changes nothing; ports
//! other than 80 and 443 are refused; redirects and proxies are never followed. An operator of a
//! private network lifts this with `RELAY_ALLOW_PRIVATE_HOSTS`. The PLC directory is the
//! operator's own word and may be anywhere.

mod address;
mod http;
pub mod pages;
mod retry_after;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    fmt, io,
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::ClientConfig;
use socket2::{SockRef, TcpKeepalive};

pub(crate) use self::tls::client_config;
pub use self::{
    address::AddressError,
    http::{Call, FetchError, GetOptions, Response},
};
use self::{address::Policy, http::Client};
use crate::{atproto::hostname::Endpoint, config::Config, descriptors, limits};

/// Makes connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: Policy,
    tls: Arc<ClientConfig>,
    hosts: Client,
    /// Where the operator has said himself where to connect to.
    anywhere: Client,
    directory: Client,
    directory_url: String,
}

/// Why no connections can be made at all: the configuration is wrong.
#[derive(Debug)]
pub enum OutboundError {
    /// The file of further roots can not be read, or is not PEM.
    CaFile(PathBuf, String),
    /// A certificate in the file of further roots is not usable, or there is none.
    CaCertificate(PathBuf, String),
    /// The TLS library refuses its own defaults.
    Tls(rustls::Error),
}

impl fmt::Display for OutboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutboundError::CaFile(path, e) => {
                write!(f, "RELAY_EXTRA_CA_FILE {}: {e}", path.display())
            }
            OutboundError::CaCertificate(path, e) => {
                write!(
                    f,
                    "RELAY_EXTRA_CA_FILE {}: certificate: {e}",
                    path.display()
                )
            }
            OutboundError::Tls(e) => write!(f, "TLS: {e}"),
        }
    }
}

impl std::error::Error for OutboundError {}

impl Outbound {
    /// Reads the further roots, if any, and sets up TLS and the HTTP clients. Opens nothing.
    pub fn new(config: &Config) -> Result<Outbound, OutboundError> {
        let policy = Policy {
            private: config.allow_private_hosts,
        };
        let tls = tls::client_config(config.extra_ca_file.as_deref())?;
        // A did:web host is asked once in a day, the directory all the time.
        let hosts = Client::new(policy, tls.clone(), 0);
        let anywhere = Policy { private: true };
        let directory = Client::new(anywhere, tls.clone(), config.resolver_threads.into());
        Ok(Outbound(Arc::new(Inner {
            policy,
            tls: tls.clone(),
            hosts,
            anywhere: Client::new(anywhere, tls.clone(), 0),
            directory,
            directory_url: config.plc_url.clone(),
        })))
    }

    /// The TLS configuration of every connection out.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.0.tls.clone()
    }

    /// Whether loopback and private addresses and any port are allowed.
    pub fn allows_private(&self) -> bool {
        self.0.policy.private
    }

    /// Connects to the first address of `endpoint` that answers, all within `timeout`. Fails with
    /// [`io::ErrorKind::PermissionDenied`] where the policy refuses the port or all addresses, and
    /// with [`io::ErrorKind::NotFound`] where there is no such name, both of which carry an
    /// [`AddressError`]. The socket has no read or write timeout; dead peers are found by keepalive
    /// probes.
    pub fn connect(&self, endpoint: &Endpoint, timeout: Duration) -> io::Result<TcpStream> {
        let deadline = Instant::now() + timeout;
        let (name, port) = (endpoint.host.name(), endpoint.port());
        let addresses = self.0.policy.addresses(name, port, Some(timeout))?;
        let mut error = io::Error::from(io::ErrorKind::TimedOut);
        for (i, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            // An address that does not answer must not use up the time of the next.
            let last = i + 1 == addresses.len();
            let share = if last { left } else { left / 2 };
            if share.is_zero() {
                break;
            }
            match TcpStream::connect_timeout(address, share) {
                Ok(stream) => {
                    descriptors::check(&stream)?;
                    stream.set_nodelay(true)?;
                    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
                    return Ok(stream);
                }
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    /// Fetches `url` of a host: one GET, without redirects, proxies or a connection kept open.
    pub fn get(&self, url: &str, options: GetOptions<'_>) -> Result<Response, FetchError> {
        self.0.hosts.get(url, options)
    }

    /// Makes a request to a place that the operator has named: its address is not filtered.
    pub fn call(&self, call: &Call<'_>) -> Result<Response, FetchError> {
        self.0.anywhere.call(call)
    }

    /// Fetches `path`, which begins with a slash, of the configured PLC directory. Its address is
    /// the operator's choice and is not filtered; connections are kept open between requests.
    pub fn get_directory(
        &self,
        path: &str,
        options: GetOptions<'_>,
    ) -> Result<Response, FetchError> {
        let url = format!("{}{path}", self.0.directory_url);
        self.0.directory.get(&url, options)
    }

    /// Ends the HTTP requests that are under way, with an error, and allows no further ones: for a
    /// stop that waits for nobody.
    pub fn abort_requests(&self) {
        self.0.hosts.shutdown();
        self.0.anywhere.shutdown();
        self.0.directory.shutdown();
    }
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(limits::OUTBOUND_KEEPALIVE_TIME)
        .with_interval(limits::OUTBOUND_KEEPALIVE_INTERVAL)
        .with_retries(limits::OUTBOUND_KEEPALIVE_RETRIES)
}
