//! Small GET requests: documents, probes, lists. Built on ureq, whose transport interface is not
//! stable between minor versions; this file and what is below it are the only ones that use it.

mod meter;

use std::{
    fmt, io,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use ureq::{
    Agent,
    config::Config,
    http::{Uri, header},
    unversioned::{
        resolver::{ArrayVec, ResolvedSocketAddrs, Resolver},
        transport::{
            Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
            Transport, TransportAdapter, time,
        },
    },
};

use self::meter::MeterConnector;
use super::{
    address::{AddressError, Policy},
    retry_after,
};
use crate::{USER_AGENT, limits};

/// What a GET may cost, and what it asks for.
#[derive(Clone, Copy, Debug)]
pub struct GetOptions<'a> {
    /// Everything together: resolving, connecting, handshake, answer.
    pub timeout: Duration,
    /// The longest body that is accepted, in bytes.
    pub body_bytes_max: usize,
    /// The `Accept` header.
    pub accept: &'a str,
}

/// A request that is more than a GET.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Where to.
    pub url: &'a str,
    /// Headers, but for those that every request has.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body of a `POST`.
    pub body: &'a [u8],
    /// Everything together: resolving, connecting, handshake, answer.
    pub timeout: Duration,
    /// The longest body that is accepted, in bytes.
    pub body_bytes_max: usize,
}

/// An answer, of any status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `Server` header, where it is text.
    pub server: Option<String>,
    /// How long it asks to wait before the next request.
    pub retry_after: Option<Duration>,
    /// The body, whole.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchError {
    /// Not a URL that can be asked for.
    Url,
    /// The name leads to no address that may be connected to.
    Address(AddressError),
    /// The head or the body of the answer is over its limit.
    TooLarge,
    /// Not done in time.
    Timeout,
    /// The connection, the handshake or the answer failed; the words are the library's.
    Failed(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FetchError::Url => f.write_str("not an http or https URL"),
            FetchError::Address(e) => fmt::Display::fmt(e, f),
            FetchError::TooLarge => f.write_str("the answer is too large"),
            FetchError::Timeout => f.write_str("no answer in time"),
            FetchError::Failed(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for FetchError {}

/// An HTTP client under one policy.
#[derive(Debug)]
pub(super) struct Client(Agent);

impl Client {
    /// A client that keeps up to `idle_connections` open.
    pub(super) fn new(policy: Policy, tls: Arc<ClientConfig>, idle_connections: usize) -> Client {
        let config = Agent::config_builder()
            // Proxy variables of the environment would lead around the filter of addresses.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(USER_AGENT)
            .max_response_header_size(limits::OUTBOUND_HEAD_BYTES_MAX)
            .input_buffer_size(2 * limits::OUTBOUND_HEAD_BYTES_MAX)
            .output_buffer_size(limits::OUTBOUND_HEAD_BYTES_MAX)
            .max_idle_connections(idle_connections)
            .max_idle_connections_per_host(idle_connections)
            .build();
        let connector =
            ().chain(TcpConnector::default())
                .chain(MeterConnector)
                .chain(TlsConnector(tls));
        Client(Agent::with_parts(config, connector, PolicyResolver(policy)))
    }

    /// One GET. A connection that the server closed while it was idle shows only when it is used:
    /// such a failure is tried once more.
    pub(super) fn get(&self, url: &str, options: GetOptions<'_>) -> Result<Response, FetchError> {
        let deadline = Instant::now() + options.timeout;
        match self.attempt(url, options) {
            Err(ureq::Error::Io(e)) if is_stale_connection(&e) => {
                let timeout = deadline.saturating_duration_since(Instant::now());
                self.attempt(url, GetOptions { timeout, ..options })
            }
            outcome => outcome,
        }
        .map_err(FetchError::from)
    }

    fn attempt(&self, url: &str, options: GetOptions<'_>) -> Result<Response, ureq::Error> {
        meter::begin(options.body_bytes_max);
        let mut response = self
            .0
            .get(url)
            .header(header::ACCEPT, options.accept)
            .config()
            .timeout_global(Some(options.timeout))
            .build()
            .call()?;
        read(&mut response, options.body_bytes_max)
    }

    /// One request, which is not repeated where it fails.
    pub(super) fn call(&self, call: &Call<'_>) -> Result<Response, FetchError> {
        let mut request = ureq::http::Request::builder()
            .method(call.method)
            .uri(call.url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(call.body).map_err(|_| FetchError::Url)?;
        let request = self
            .0
            .configure_request(request)
            .timeout_global(Some(call.timeout))
            .allow_non_standard_methods(false)
            .build();
        meter::begin(call.body_bytes_max);
        let mut response = self.0.run(request).map_err(FetchError::from)?;
        Ok(read(&mut response, call.body_bytes_max)?)
    }

    /// Ends the requests under way with an error; there are no further ones.
    pub(super) fn shutdown(&self) {
        self.0.clone().shutdown();
    }
}

fn read(
    response: &mut ureq::http::Response<ureq::Body>,
    body_bytes_max: usize,
) -> Result<Response, ureq::Error> {
    let server = response.headers().get(header::SERVER);
    let server = server.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|v| v.to_str().ok());
    let retry_after = retry_after.and_then(|v| retry_after::parse(v, SystemTime::now()));
    let body = response
        .body_mut()
        .with_config()
        .limit(body_bytes_max as u64)
        .read_to_vec()?;
    Ok(Response {
        status: response.status().as_u16(),
        server,
        retry_after,
        body,
    })
}

fn is_stale_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

impl From<ureq::Error> for FetchError {
    fn from(error: ureq::Error) -> FetchError {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => FetchError::Url,
            ureq::Error::Timeout(_) => FetchError::Timeout,
            ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => {
                FetchError::TooLarge
            }
            ureq::Error::Io(e) => match e.get_ref().and_then(|e| e.downcast_ref()) {
                Some(address) => FetchError::Address(*address),
                None if e.kind() == io::ErrorKind::TimedOut => FetchError::Timeout,
                None => FetchError::Failed(e.to_string()),
            },
            e => FetchError::Failed(e.to_string()),
        }
    }
}

/// Resolves names to the addresses that the policy allows: those that ureq then connects to.
#[derive(Debug)]
struct PolicyResolver(Policy);

impl Resolver for PolicyResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let bad = || ureq::Error::BadUri(uri.to_string());
        let authority = uri.authority().ok_or_else(bad)?;
        let port = match (authority.port_u16(), uri.scheme_str()) {
            (Some(port), Some("http" | "https")) => port,
            (None, Some("http")) => 80,
            (None, Some("https")) => 443,
            _ => return Err(bad()),
        };
        let name = authority.host().trim_matches(['[', ']']);
        let timeout = match timeout.after {
            time::Duration::Exact(timeout) => Some(timeout),
            time::Duration::NotHappening => None,
        };
        let mut out = ArrayVec::from_fn(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        for address in self.0.addresses(name, port, timeout)? {
            out.push(address);
        }
        Ok(out)
    }
}

/// Speaks TLS, where the URL asks for it, with the configuration that every connection has.
struct TlsConnector(Arc<ClientConfig>);

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConnector")
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| ureq::Error::BadUri(details.uri.to_string()))?;
        let mut conn = ClientConnection::new(self.0.clone(), name)?;
        let mut sock = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        sock.set_timeout(time_left(details));
        conn.complete_io(&mut sock)?;
        Ok(Some(Either::B(TlsTransport {
            buffers: LazyBuffers::new(
                details.config.input_buffer_size(),
                details.config.output_buffer_size(),
            ),
            stream: StreamOwned::new(conn, sock),
        })))
    }
}

/// What connecting has left of the time that was given when it began.
fn time_left(details: &ConnectionDetails<'_>) -> NextTimeout {
    let mut timeout = details.timeout;
    if let (time::Duration::Exact(after), time::Instant::Exact(began), time::Instant::Exact(now)) =
        (timeout.after, details.now, (details.current_time)())
    {
        let passed = now.saturating_duration_since(began);
        timeout.after = time::Duration::Exact(after.saturating_sub(passed));
    }
    timeout
}

/// A TLS connection.
struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
