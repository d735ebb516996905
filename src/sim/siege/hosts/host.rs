//! The server of a hostile host: as much of a PDS as it takes to be admitted, and then whatever its
//! behaviour is.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tungstenite::handshake::derive_accept_key;

use super::{
    super::attack::stand_back,
    Behaviour,
    gate::Gate,
    wire::{Link, Wire},
};
use crate::{
    sim::listen,
    threads::{self, Role, Thread},
};

/// A request of the relay, from the first byte to the last.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The stack of a connection's thread, in bytes.
const STACK_BYTES: usize = 1 << 20;

/// A running host; dropping it ends it.
pub(super) struct Hostile {
    url: String,
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<Thread>,
}

struct Shared {
    tls: Option<Arc<ServerConfig>>,
    behaviour: Box<dyn Behaviour>,
    gate: Arc<Gate>,
    connections: AtomicU64,
    threads: Mutex<Vec<Thread>>,
}

/// A listener on any free port, before anybody listens to it.
pub(super) struct Socket {
    listener: TcpListener,
    pub(super) url: String,
}

/// A place for a host.
pub(super) fn bind(tls: bool) -> io::Result<Socket> {
    let listener = listen::bind(0)?;
    listener.set_nonblocking(false)?;
    let port = listener.local_addr()?.port();
    let scheme = if tls { "https" } else { "http" };
    Ok(Socket {
        listener,
        url: format!("{scheme}://localhost:{port}"),
    })
}

impl Hostile {
    pub(super) fn start(
        socket: Socket,
        tls: Option<Arc<ServerConfig>>,
        behaviour: Box<dyn Behaviour>,
        gate: Arc<Gate>,
    ) -> io::Result<Hostile> {
        let Socket { listener, url } = socket;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            tls,
            behaviour,
            gate,
            connections: AtomicU64::new(0),
            threads: Mutex::default(),
        });
        let serving = shared.clone();
        let accepting = threads::spawn(Role::Simulator, "hostile", STACK_BYTES, move || {
            // The threads of its connections do too. Who may not is only louder.
            let _ = stand_back();
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.gate.is_over() {
                    return;
                }
                serving.accept(stream);
            }
        })?;
        Ok(Hostile {
            url,
            address,
            shared,
            accepting: Some(accepting),
        })
    }

    /// Its URL.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Its name: `localhost:PORT`.
    pub(super) fn name(&self) -> &str {
        self.url
            .split_once("//")
            .map_or(&self.url, |(_, name)| name)
    }

    /// Connections that the relay has made to it.
    pub(super) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.gate.end();
        // The listener looks up when somebody comes.
        let _ = TcpStream::connect(self.address);
        drop(self.accepting.take());
        let threads = &self.shared.threads;
        std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner)).clear();
    }
}

impl Shared {
    fn accept(self: &Arc<Shared>, stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let shared = self.clone();
        let spawned = threads::spawn(Role::Simulator, "hostile", STACK_BYTES, move || {
            if let Err(error) = shared.serve(stream) {
                log::debug!("a hostile host's connection ended: {error}");
            }
        });
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.extend(spawned);
    }

    fn serve(&self, tcp: TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(REQUEST_TIMEOUT))?;
        if self.behaviour.stalls_tls() && self.gate.is_open() {
            let mut wire = Wire::new(Link::Plain(tcp), self.gate.clone())?;
            wire.wait()?;
            return wire.pause(REQUEST_TIMEOUT * 100);
        }
        let mut link = match &self.tls {
            None => Link::Plain(tcp),
            Some(config) => {
                let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Link::Tls(Box::new(StreamOwned::new(session, tcp)))
            }
        };
        let head = read_head(&mut link)?;
        let mut lines = head.lines();
        let target = lines.next().and_then(|line| line.split(' ').nth(1));
        let target = target.unwrap_or_default();
        let key = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("sec-websocket-key");
            is_it.then(|| value.trim().to_owned())
        });
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(key) = key else {
            return describe(&mut link, path);
        };
        let cursor = query.strip_prefix("cursor=").and_then(|c| c.parse().ok());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        let mut wire = Wire::new(link, self.gate.clone())?;
        if wire.is_on() {
            wire.wait()?;
            if self.behaviour.answer(&mut wire, answer.as_bytes())? {
                return Ok(());
            }
        }
        wire.link().write_all(answer.as_bytes())?;
        wire.link().flush()?;
        wire.wait()?;
        self.behaviour.speak(&mut wire, cursor)
    }
}

/// Reads the head of a request, and not a byte more than has come with it.
fn read_head(link: &mut Link) -> io::Result<String> {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let read = link.read(&mut chunk)?;
        head.extend_from_slice(&chunk[..read]);
        if read == 0 || head.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// What a PDS says of itself; of anything else it knows nothing.
fn describe(link: &mut Link, path: &str) -> io::Result<()> {
    let (status, body) = match path {
        "/xrpc/com.atproto.server.describeServer" => (
            "200 OK",
            r#"{"did":"did:web:localhost","availableUserDomains":[]}"#,
        ),
        _ => ("404 Not Found", r#"{"error":"NotFound"}"#),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    link.write_all(head.as_bytes())?;
    link.write_all(body.as_bytes())?;
    link.flush()
}
