//! The internal port: metrics, probes, and the same routes as the public port, over `tiny_http`.
//!
//! `tiny_http` is not made for strangers, which is why this port is bound to loopback or a
//! private network. What it does badly even there is dealt with here:
//! - after an error of `accept` its server is dead, and after a panic of the thread that accepts (no
//!   descriptor for the second handle of a connection, or no thread for it) dead without a word: a new one is
//!   made on the same socket, as soon as connections have waited there for a while;
//! - it allocates what `Content-Length` promises when a request is dropped unread, and a promise
//!   of terabytes ends the process: such a request is never dropped;
//! - it has no timeouts: writes get one from the socket, and nothing that waits for another
//!   machine, or for the body of a request, occupies the threads that answer probes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    app::App,
    front_door::listen,
    head,
    request::{Headers, Method, Request},
    response::{COMMON_HEADERS, Response},
    router::{self, Port},
};
use crate::{
    limits::{
        HTTP_BODY_BYTES_MAX, HTTP_RETRY_AFTER, HTTP_STACK_BYTES, INTERNAL_BODY_BYTES_DROPPED_MAX,
        INTERNAL_DEAF_LOOKS, INTERNAL_LOOK_INTERVAL, INTERNAL_RETRY, INTERNAL_SLOW_MAX,
        INTERNAL_WORKERS, INTERNAL_WRITE_TIMEOUT, LISTEN_BACKLOG, SERVICE_STACK_BYTES,
    },
    threads::{self, Role, Stop, Stopper, Thread, stop_pair},
};

/// Bodies that `tiny_http` reads before it hands a request out.
const LIBRARY_READS_BYTES: usize = 1_024;

/// The running internal port; dropping it closes the port.
pub struct Internal {
    address: SocketAddr,
    shared: Arc<Shared>,
    stopper: Option<Stopper>,
    workers: Vec<Thread>,
}

struct Shared {
    app: Arc<App>,
    listener: TcpListener,
    server: Mutex<Arc<tiny_http::Server>>,
    stop: Stop,
    slow: AtomicUsize,
}

impl Internal {
    /// Serves `app` at `address`.
    pub fn start(address: SocketAddr, app: Arc<App>) -> io::Result<Internal> {
        let listener = listen(address)?;
        // Sockets that are accepted inherit it. A read timeout would be one of `accept` as well.
        socket2::SockRef::from(&listener).set_write_timeout(Some(INTERNAL_WRITE_TIMEOUT))?;
        let address = listener.local_addr()?;
        let (stopper, stop) = stop_pair();
        let shared = Arc::new(Shared {
            app,
            server: Mutex::new(Arc::new(server(&listener)?)),
            listener,
            stop,
            slow: AtomicUsize::new(0),
        });
        let mut internal = Internal {
            address,
            shared,
            stopper: Some(stopper),
            workers: Vec::new(),
        };
        for n in 0..INTERNAL_WORKERS {
            let shared = Arc::clone(&internal.shared);
            let body = move || shared.work();
            let thread = threads::spawn(Role::Metrics, &n.to_string(), SERVICE_STACK_BYTES, body)?;
            internal.workers.push(thread);
        }
        Ok(internal)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        drop(self.stopper.take());
        let server = self.shared.server();
        for _ in 0..self.workers.len() {
            server.unblock();
        }
        self.workers.clear();
        discard_waiting(&server);
    }
}

impl Shared {
    /// Answers requests until the stop.
    fn work(self: &Arc<Shared>) {
        // Looks in a row at which connections waited, and no request had come since the one before.
        let mut deaf = 0;
        while !self.stop.requested() {
            let server = self.server();
            // Without this thread nobody sees any more how the relay does.
            threads::survive(|| match server.recv_timeout(INTERNAL_LOOK_INTERVAL) {
                Ok(Some(request)) => {
                    deaf = 0;
                    self.answer(request);
                }
                // Time has passed, or the other worker, or a stop, wakes this one.
                Ok(None) => {
                    deaf = if self.somebody_waits() { deaf + 1 } else { 0 };
                    if deaf >= INTERNAL_DEAF_LOOKS {
                        deaf = 0;
                        let error = io::Error::other("connections are not accepted any more");
                        self.rebuild(&server, &error);
                    }
                }
                Err(error) => self.rebuild(&server, &error),
            });
        }
    }

    /// Whether a connection waits to be accepted, which else takes less than a moment.
    fn somebody_waits(&self) -> bool {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(ready) if ready > 0)
    }

    fn server(&self) -> Arc<tiny_http::Server> {
        Arc::clone(&self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces a server that has failed, unless the other worker has done so.
    fn rebuild(&self, failed: &Arc<tiny_http::Server>, error: &io::Error) {
        let mut current = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stop.requested() || !Arc::ptr_eq(&current, failed) {
            return;
        }
        log::error!(error:% = error; "the internal port fails; it is set up again");
        loop {
            if self.stop.wait(INTERNAL_RETRY) {
                return;
            }
            match server(&self.listener) {
                Ok(server) => {
                    *current = Arc::new(server);
                    break;
                }
                Err(error) => {
                    log::error!(error:% = error; "the internal port can not be set up; trying on")
                }
            }
        }
        // In this order: whoever looks for requests takes a word to unblock away.
        discard_waiting(failed);
        for _ in 1..INTERNAL_WORKERS {
            failed.unblock();
        }
    }

    fn answer(self: &Arc<Shared>, incoming: tiny_http::Request) {
        if incoming.body_length().unwrap_or(0) > INTERNAL_BODY_BYTES_DROPPED_MAX {
            return self.lose(incoming, &head::body_too_large());
        }
        let head = head_of(&incoming);
        if !is_body_unread(&incoming) && !head.as_ref().is_ok_and(router::waits) {
            return self.serve(head, incoming);
        }
        if self.slow.fetch_add(1, Ordering::Relaxed) >= INTERNAL_SLOW_MAX {
            self.slow.fetch_sub(1, Ordering::Relaxed);
            let busy = Response::too_many("Too many requests wait already", HTTP_RETRY_AFTER);
            return match is_body_unread(&incoming) {
                true => self.lose(incoming, &busy),
                false => respond(incoming, &busy),
            };
        }
        let shared = Arc::clone(self);
        let body = move || {
            // The request goes with a panic; tiny_http then answers 500.
            threads::survive(|| shared.serve(head, incoming));
            shared.slow.fetch_sub(1, Ordering::Relaxed);
        };
        match threads::spawn(Role::Metrics, "slow", HTTP_STACK_BYTES, body) {
            Ok(thread) => thread.detach(),
            // The request went with the closure; tiny_http has answered 500.
            Err(error) => {
                self.slow.fetch_sub(1, Ordering::Relaxed);
                log::warn!(error:% = error; "no thread for a request of the internal port");
            }
        }
    }

    fn serve(&self, head: Result<Request, Response>, mut incoming: tiny_http::Request) {
        let request = head.and_then(|head| with_body(head, &mut incoming));
        let response = match request {
            Ok(request) => router::route(&self.app, Port::Internal, &request),
            Err(response) => response,
        };
        respond(incoming, &response);
    }

    /// Answers a request that can not be dropped, as what is left of its body would be read at once into
    /// memory, and waited for without end. It is forgotten instead: its two descriptors and its thread are
    /// lost until the process ends.
    fn lose(&self, incoming: tiny_http::Request, response: &Response) {
        self.app.metrics.http_refused.inc();
        log::warn!(
            status = response.status, bytes = incoming.body_length().unwrap_or(0);
            "the internal port refuses a body, and can not end its connection"
        );
        std::mem::forget(incoming.upgrade("HTTP/1.1", outgoing(response)));
    }
}

/// A server on the socket, which is made to listen anew in case that has ended.
fn server(listener: &TcpListener) -> io::Result<tiny_http::Server> {
    socket2::SockRef::from(listener).listen(LISTEN_BACKLOG)?;
    tiny_http::Server::from_listener(listener.try_clone()?, None)
        .map_err(|e| io::Error::other(e.to_string()))
}

/// Requests that nobody will answer. Those with a body that was not read are forgotten.
fn discard_waiting(server: &tiny_http::Server) {
    while let Ok(Some(request)) = server.try_recv() {
        if is_body_unread(&request) {
            std::mem::forget(request);
        }
    }
}

/// Whether the body is still to be read; the library has read a short one already.
fn is_body_unread(incoming: &tiny_http::Request) -> bool {
    let is_asked_for = incoming.headers().iter().any(|h| h.field.equiv("Expect"));
    let bytes = incoming.body_length().unwrap_or(0);
    bytes > LIBRARY_READS_BYTES || bytes > 0 && is_asked_for
}

/// A request without its body.
fn head_of(incoming: &tiny_http::Request) -> Result<Request, Response> {
    let mut headers = Headers::default();
    for line in incoming.headers() {
        headers.push(line.field.as_str().as_str(), line.value.as_str().as_bytes());
    }
    if headers.first("transfer-encoding").is_some() {
        let message = "Send the body with a Content-Length";
        return Err(Response::error(411, "InvalidRequest", message));
    }
    // One that can not be read is no length to the library; what follows would be another request.
    let lengths = headers.all("content-length").count();
    if lengths > 1 || lengths == 1 && incoming.body_length().is_none() {
        return Err(Response::invalid("Malformed HTTP request"));
    }
    let (path, query) = head::split_target(incoming.url())
        .ok_or_else(|| Response::invalid("Malformed request target"))?;
    let client = incoming.remote_addr().map(SocketAddr::ip);
    Ok(Request {
        method: Method::parse(incoming.method().as_str()),
        path,
        query,
        headers,
        body: Vec::new(),
        client: client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    })
}

/// How long the body is that is to be read.
fn body_bytes(incoming: &tiny_http::Request, head: &Request) -> usize {
    // A request to upgrade has no end that a reader could wait for.
    match head.headers.lists("connection", "upgrade") {
        true => 0,
        false => incoming.body_length().unwrap_or(0),
    }
}

/// Reads the body, for which there is no deadline.
fn with_body(mut request: Request, incoming: &mut tiny_http::Request) -> Result<Request, Response> {
    let bytes = body_bytes(incoming, &request);
    if bytes > HTTP_BODY_BYTES_MAX {
        return Err(head::body_too_large());
    }
    if bytes > 0 {
        let mut reader = io::Read::take(incoming.as_reader(), bytes as u64);
        let read = io::Read::read_to_end(&mut reader, &mut request.body);
        if !matches!(read, Ok(read) if read == bytes) {
            return Err(Response::invalid("The request body did not arrive"));
        }
    }
    Ok(request)
}

/// An answer as the library sends it.
fn outgoing(response: &Response) -> tiny_http::Response<io::Cursor<Vec<u8>>> {
    let body = match response.status {
        204 | 304 => Vec::new(),
        _ => response.body.clone(),
    };
    let mut answer = tiny_http::Response::from_data(body).with_status_code(response.status);
    let headers = COMMON_HEADERS
        .into_iter()
        .chain([("Content-Type", response.content_type)])
        .chain(
            response
                .headers
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
    for (name, value) in headers {
        if let Ok(header) = tiny_http::Header::from_bytes(name, value) {
            answer.add_header(header);
        }
    }
    answer
}

fn respond(incoming: tiny_http::Request, response: &Response) {
    if let Err(error) = incoming.respond(outgoing(response)) {
        log::debug!(error:% = error; "an answer of the internal port can not be sent");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Shutdown, TcpStream},
    };

    use super::*;
    use crate::{
        http::boundary::{Fake, app, get},
        testing::wait_until,
    };

    fn port() -> Internal {
        let app = app(&Arc::new(Fake::default()), &[], false);
        Internal::start("127.0.0.1:0".parse().unwrap(), app).unwrap()
    }

    /// What the library does when the thread that accepts panics: its listener is gone, and nobody is told.
    #[test]
    fn the_port_comes_back_where_nobody_accepts_any_more() {
        let internal = port();
        let dead = internal.shared.server();
        // Closed by its own word, but for the connection that this makes, it accepts nothing more.
        let quiet = tiny_http::Server::http("127.0.0.1:0").unwrap();
        *internal.shared.server.lock().unwrap() = Arc::new(quiet);
        drop(dead);
        // The workers hold it until they look again.
        let address = internal.address();
        wait_until("the port is back", || {
            let mut stream = TcpStream::connect(address).unwrap();
            let patience = Some(std::time::Duration::from_millis(100));
            stream.set_read_timeout(patience).unwrap();
            let head = "GET /metrics HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).is_ok() && answer == *b"HTTP/1.1 200"
        });
    }

    #[test]
    fn bodies_that_do_not_come_do_not_keep_probes_from_being_answered() {
        let internal = port();
        let mut half: Vec<TcpStream> = Vec::new();
        for _ in 0..2 * INTERNAL_SLOW_MAX {
            let mut stream = TcpStream::connect(internal.address()).unwrap();
            let head = "POST /admin/pds/block HTTP/1.1\r\nHost: r\r\nContent-Length: 2000\r\n\r\n{";
            stream.write_all(head.as_bytes()).unwrap();
            half.push(stream);
        }
        let is_full = || internal.shared.slow.load(Ordering::Relaxed) >= INTERNAL_SLOW_MAX;
        wait_until("all that wait for a body are in", is_full);
        assert_eq!(get(internal.address(), "/metrics").0, 200);
        assert_eq!(get(internal.address(), "/healthz").0, 200);
        drop(half);
        wait_until("they are let go", || {
            internal.shared.slow.load(Ordering::Relaxed) == 0
        });
    }

    #[test]
    fn the_port_comes_back_after_an_error_of_its_listener() {
        let app = app(&Arc::new(Fake::default()), &[], false);
        let internal = Internal::start("127.0.0.1:0".parse().unwrap(), app).unwrap();
        // A socket that was bound to any port is bound to another one when it listens again.
        let address = || internal.shared.listener.local_addr().unwrap();
        for _ in 0..2 {
            assert_eq!(get(address(), "/metrics").0, 200);
            let broken = internal.shared.server();
            // Every `accept` on it fails from now on.
            let listener = socket2::SockRef::from(&internal.shared.listener);
            listener.shutdown(Shutdown::Both).unwrap();
            let is_new = || !Arc::ptr_eq(&broken, &internal.shared.server());
            wait_until("the server is replaced", is_new);
        }
        assert_eq!(get(address(), "/metrics").0, 200);
    }
}
