//! The internal port: metrics, probes, and the same routes as the public port, over `tiny_http`.
//!
//! `tiny_http` is not made for strangers, which is why this port is bound to loopback or a
//! private network. What it does badly even there is dealt with here:
//! - after an error of `accept` its server is dead: a new one is made on the same socket;
//! - it allocates what `Content-Length` promises when a request is dropped unread, and a promise
//!   of terabytes ends the process: such a request is never dropped;
//! - it has no timeouts: writes get one from the socket, and nothing that waits for another
//!   machine occupies the threads that answer probes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

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
        HTTP_BODY_BYTES_MAX, HTTP_RETRY_AFTER, HTTP_STACK_BYTES, INTERNAL_RETRY, INTERNAL_SLOW_MAX,
        INTERNAL_WORKERS, INTERNAL_WRITE_TIMEOUT, LISTEN_BACKLOG, SERVICE_STACK_BYTES,
    },
    threads::{self, Role, Stop, Stopper, Thread, stop_pair},
};

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
        while !self.stop.requested() {
            let server = self.server();
            match server.recv() {
                Ok(request) => {
                    // Without this thread nobody sees any more how the relay does.
                    threads::survive(|| self.answer(request));
                }
                // Also how the other worker, and a stop, wake this one.
                Err(error) => self.rebuild(&server, &error),
            }
        }
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
        log::error!("internal port: {error}; setting it up again");
        loop {
            if self.stop.wait(INTERNAL_RETRY) {
                return;
            }
            match server(&self.listener) {
                Ok(server) => {
                    *current = Arc::new(server);
                    break;
                }
                Err(error) => log::error!("internal port: {error}; trying on"),
            }
        }
        // In this order: whoever looks for requests takes a word to unblock away.
        discard_waiting(failed);
        for _ in 1..INTERNAL_WORKERS {
            failed.unblock();
        }
    }

    fn answer(self: &Arc<Shared>, incoming: tiny_http::Request) {
        let Some(mut incoming) = safe_to_drop(incoming) else {
            self.app.metrics.http_refused.inc();
            return;
        };
        let request = match convert(&mut incoming) {
            Ok(request) => request,
            Err(response) => return respond(incoming, &response),
        };
        if !router::waits(&request) {
            let response = router::route(&self.app, Port::Internal, &request);
            return respond(incoming, &response);
        }
        if self.slow.fetch_add(1, Ordering::Relaxed) >= INTERNAL_SLOW_MAX {
            self.slow.fetch_sub(1, Ordering::Relaxed);
            let busy = Response::too_many("Too many requests wait already", HTTP_RETRY_AFTER);
            return respond(incoming, &busy);
        }
        let shared = Arc::clone(self);
        let body = move || {
            let route = || router::route(&shared.app, Port::Internal, &request);
            let response = threads::survive(route);
            shared.slow.fetch_sub(1, Ordering::Relaxed);
            // The request goes with a panic; tiny_http then answers 500.
            if let Some(response) = response {
                respond(incoming, &response);
            }
        };
        match threads::spawn(Role::Metrics, "slow", HTTP_STACK_BYTES, body) {
            Ok(thread) => thread.detach(),
            // The request went with the closure; tiny_http has answered 500.
            Err(error) => {
                self.slow.fetch_sub(1, Ordering::Relaxed);
                log::warn!("internal port: no thread: {error}");
            }
        }
    }
}

/// A server on the socket, which is made to listen anew in case that has ended.
fn server(listener: &TcpListener) -> io::Result<tiny_http::Server> {
    socket2::SockRef::from(listener).listen(LISTEN_BACKLOG)?;
    tiny_http::Server::from_listener(listener.try_clone()?, None)
        .map_err(|e| io::Error::other(e.to_string()))
}

/// Requests that nobody will answer.
fn discard_waiting(server: &tiny_http::Server) {
    while let Ok(Some(request)) = server.try_recv() {
        drop(safe_to_drop(request));
    }
}

/// Gives back a request whose body is small. Any other one is answered 413 and then forgotten
/// without being dropped: its two descriptors and its thread are lost until the process ends.
fn safe_to_drop(request: tiny_http::Request) -> Option<tiny_http::Request> {
    if request
        .body_length()
        .is_none_or(|bytes| bytes <= HTTP_BODY_BYTES_MAX)
    {
        return Some(request);
    }
    log::warn!(
        "internal port: a body of {} bytes is refused",
        request.body_length().unwrap_or(0)
    );
    let answer = tiny_http::Response::empty(413);
    std::mem::forget(request.upgrade("HTTP/1.1", answer));
    None
}

fn convert(incoming: &mut tiny_http::Request) -> Result<Request, Response> {
    let mut headers = Headers::default();
    for line in incoming.headers() {
        headers.push(line.field.as_str().as_str(), line.value.as_str().as_bytes());
    }
    if headers.first("transfer-encoding").is_some() {
        let message = "Send the body with a Content-Length";
        return Err(Response::error(411, "InvalidRequest", message));
    }
    let (path, query) = head::split_target(incoming.url())
        .ok_or_else(|| Response::invalid("Malformed request target"))?;
    let method = Method::parse(incoming.method().as_str());
    let client = incoming.remote_addr().map(SocketAddr::ip);
    let mut body = Vec::new();
    // A request to upgrade has no end that a reader could wait for.
    let bytes = incoming.body_length().unwrap_or(0) as u64;
    if bytes > 0 && !headers.lists("connection", "upgrade") {
        let mut reader = io::Read::take(incoming.as_reader(), bytes);
        io::Read::read_to_end(&mut reader, &mut body)
            .map_err(|_| Response::invalid("The request body did not arrive"))?;
    }
    Ok(Request {
        method,
        path,
        query,
        headers,
        body,
        client: client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    })
}

fn respond(incoming: tiny_http::Request, response: &Response) {
    let body = if matches!(response.status, 204 | 304) {
        &[][..]
    } else {
        &response.body
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
    if let Err(error) = incoming.respond(answer) {
        log::debug!("internal port: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;

    use super::*;
    use crate::http::boundary::{Fake, app, eventually, get};

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
            assert!(eventually(is_new), "the server was not replaced");
        }
        assert_eq!(get(address(), "/metrics").0, 200);
    }
}
