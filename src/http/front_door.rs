//! The public listener: strangers reach it, so that everything has a deadline and a bound.
//!
//! One thread accepts and one thread serves each connection, and then the next; pages of lists are made by a few others
//! ([`Crew`]). Who is over a cap is told so by a
//! third kind of thread, one for all, which never waits long. A connection that becomes a
//! subscription leaves the front door with its socket.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    app::App,
    connection::{Connection, End, Line, refuse},
    gate::{Gate, Pass},
    head::Head,
    rate::Pace,
    request::{Method, Request, client_address},
    response::Response,
    router::{self, Port},
    subscribe::{self, Handover, Upgrade},
    wake::{Wake, Woken},
    xrpc,
};
use crate::{
    crew::Crew,
    descriptors,
    limits::{
        HTTP_ACCEPT_RETRY, HTTP_CONNECTIONS_MAX, HTTP_CONNECTIONS_PER_ADDRESS_MAX,
        HTTP_HEAD_TIMEOUT, HTTP_IDLE_TIMEOUT, HTTP_LINGER, HTTP_REFUSAL_TIMEOUT, HTTP_REFUSALS_MAX,
        HTTP_RETRY_AFTER, HTTP_STACK_BYTES, HTTP_STOP_TIMEOUT, HTTP_THREAD_IDLE,
        HTTP_WRITE_TIMEOUT, LIST_THREADS, LISTEN_BACKLOG,
    },
    metrics::{
        Metrics,
        labels::{Code, Route},
        micros,
    },
    threads::{self, Role, Servants, Thread},
};

/// What is counted where the client has gone before it was answered; it is never sent.
const CLIENT_GONE: u16 = 499;

/// Errors of the listener are written to the log at most this often.
const ACCEPT_ERROR_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How long the steps of a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// A head from its first byte to its last; after it, its body.
    pub head: Duration,
    /// Silence between two requests.
    pub idle: Duration,
    /// Writing an answer.
    pub write: Duration,
}

/// The bounds of a front door.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long steps may take.
    pub times: Times,
    /// Connections altogether.
    pub connections_max: usize,
    /// Connections of one client.
    pub connections_per_client_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            times: Times {
                head: HTTP_HEAD_TIMEOUT,
                idle: HTTP_IDLE_TIMEOUT,
                write: HTTP_WRITE_TIMEOUT,
            },
            connections_max: HTTP_CONNECTIONS_MAX,
            connections_per_client_max: HTTP_CONNECTIONS_PER_ADDRESS_MAX,
        }
    }
}

/// The running public port; dropping it closes the port and ends its connections (subscriptions
/// have left it and go on).
#[derive(Debug)]
pub struct FrontDoor {
    address: SocketAddr,
    wake: Arc<Wake>,
    gate: Arc<Gate>,
    acceptor: Option<Thread>,
    refuser: Option<Thread>,
}

/// What acceptor and connections share.
struct Shared {
    app: Arc<App>,
    wake: Arc<Wake>,
    gate: Arc<Gate>,
    times: Times,
    /// Makes pages of lists.
    crew: Crew,
}

impl Shared {
    /// Answers a request for a page of a list; nothing where the client has gone before its turn came.
    fn list(&self, request: &Arc<Request>, line: Line) -> Option<Response> {
        let (app, request) = (Arc::clone(&self.app), Arc::clone(request));
        let wake = Arc::clone(&self.wake);
        let made = self.crew.run(move || {
            // Who has waited until the stop has waited for nothing.
            if wake.rest(Duration::ZERO) {
                return Some(Response::error(
                    503,
                    "InternalServerError",
                    "The relay stops",
                ));
            }
            // A page costs a thousand times what it costs to ask for it.
            (!line.is_dead()).then(|| router::route(&app, Port::Public, &request))
        });
        made.unwrap_or_else(|| {
            let failed = Response::error(500, "InternalServerError", "The page could not be made");
            Some(failed)
        })
    }
}

/// A listening socket with the backlog that thousands of simultaneous clients need.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

impl FrontDoor {
    /// Serves `app` on a listener made by [`listen`].
    pub fn start(listener: TcpListener, app: Arc<App>, bounds: Bounds) -> io::Result<FrontDoor> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let wake = Arc::new(Wake::new()?);
        let gate = Gate::new(bounds.connections_max, bounds.connections_per_client_max);
        let shared = Arc::new(Shared {
            app,
            wake: Arc::clone(&wake),
            gate: Arc::clone(&gate),
            times: bounds.times,
            crew: Crew::start(Role::List, 1, LIST_THREADS)?,
        });
        let (refused, to_refuse) = bounded(HTTP_REFUSALS_MAX);
        let refuser_wake = Arc::clone(&wake);
        let refuser = threads::spawn(Role::Http, "refuse", HTTP_STACK_BYTES, move || {
            refuse_all(&to_refuse, &refuser_wake);
        })?;
        let acceptor = threads::spawn(Role::Http, "accept", HTTP_STACK_BYTES, move || {
            accept_all(&listener, &shared, &refused);
        })?;
        Ok(FrontDoor {
            address,
            wake,
            gate,
            acceptor: Some(acceptor),
            refuser: Some(refuser),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FrontDoor {
    fn drop(&mut self) {
        self.wake.set();
        drop(self.acceptor.take());
        // The acceptor held the other end of its channel.
        drop(self.refuser.take());
        let left = self.gate.wait_empty(HTTP_STOP_TIMEOUT);
        if left > 0 {
            log::warn!(connections = left; "connections of the public port did not end in time");
        }
    }
}

/// Accepts until the stop. No error ends it: running out of file descriptors passes.
fn accept_all(listener: &TcpListener, shared: &Arc<Shared>, refused: &Sender<TcpStream>) {
    let mut last_logged: Option<Instant> = None;
    let servants = Servants::new(Role::Http, HTTP_STACK_BYTES, HTTP_THREAD_IDLE);
    loop {
        let error = match shared.wake.readable(listener, None) {
            Ok(Woken::Stop) => return,
            Ok(_) => match listener.accept() {
                Ok((stream, peer)) => {
                    // Without this thread nobody is let in any more.
                    threads::survive(|| take_in(stream, peer, shared, &servants, refused));
                    continue;
                }
                Err(error) if is_passing(&error) => continue,
                Err(error) => error,
            },
            Err(error) => error,
        };
        if last_logged.is_none_or(|at| at.elapsed() >= ACCEPT_ERROR_LOG_INTERVAL) {
            last_logged = Some(Instant::now());
            let hint = descriptors::hint(&error);
            log::error!(error:% = error; "the public port can not accept connections{hint}; trying on");
        }
        if shared.wake.rest(HTTP_ACCEPT_RETRY) {
            return;
        }
    }
}

/// Whether it is about one connection only, which is gone.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn take_in(
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    servants: &Servants,
    refused: &Sender<TcpStream>,
) {
    // The store needs descriptors more than strangers do.
    let pass = match descriptors::is_kept(&stream) {
        true => None,
        false => shared.gate.enter(peer.ip()),
    };
    let Some(pass) = pass else {
        shared.app.metrics.http_refused.inc();
        // Where even those who wait to be told are too many, the socket is closed here.
        let _ = refused.try_send(stream);
        return;
    };
    let connection_shared = Arc::clone(shared);
    // The gate counts it, and the switch ends it.
    let begun = servants.run(move || serve(stream, peer, pass, &connection_shared));
    if let Err(error) = begun {
        shared.app.metrics.http_refused.inc();
        log::warn!(error:% = error; "no thread for a connection of the public port");
    }
}

/// Tells those who are over a cap, one after the other, until the acceptor is gone. The more of them wait,
/// the less each is waited for: who says nothing must not keep the others from being told.
fn refuse_all(refused: &Receiver<TcpStream>, wake: &Arc<Wake>) {
    let answer = Response::too_many("Too many connections", HTTP_RETRY_AFTER);
    for stream in refused {
        let wake = Arc::clone(wake);
        let waiting = u32::try_from(refused.len()).unwrap_or(u32::MAX - 1);
        let patience = HTTP_REFUSAL_TIMEOUT / (waiting + 1);
        threads::survive(|| refuse(stream, wake, &answer, patience));
    }
}

/// Serves one connection to its end.
fn serve(stream: TcpStream, peer: SocketAddr, pass: Pass, shared: &Shared) {
    let Ok(mut connection) = Connection::new(stream, Arc::clone(&shared.wake), shared.times) else {
        return;
    };
    let metrics = &shared.app.metrics;
    metrics.http_connections.add(1);
    let _counted = Counted(metrics);
    // Left before it is no longer counted.
    let pass = pass;
    let mut first = true;
    let mut pace = Pace::new(Instant::now());
    loop {
        let (request, keep_alive) = match read_request(&mut connection, peer, first) {
            Ok((request, keep_alive)) => (Arc::new(request), keep_alive),
            Err(End::Quiet) => return,
            Err(End::Refused(answer)) => {
                shared.app.metrics.http_refused.inc();
                let bytes = answer.encode(false, true, SystemTime::now());
                if connection.write(&bytes).is_ok() {
                    connection.finish(HTTP_LINGER);
                }
                return;
            }
        };
        first = false;
        let keep_alive = keep_alive && !shared.gate.is_crowded();
        let (began, route) = (Instant::now(), Route::of(&request.path));
        let response = match upgrade(&request) {
            Some(upgrade) => match Arc::clone(&shared.app.firehose).admit(request.client) {
                Ok(seat) => {
                    metrics.http_requests.inc((route, Code::of(101)));
                    return hand_over(connection, pass, upgrade, &request, peer, seat);
                }
                Err(full) => Response::too_many(&full.to_string(), HTTP_RETRY_AFTER),
            },
            None if xrpc::is_list(&request.path) => {
                let Some(page) = shared.list(&request, connection.line()) else {
                    metrics.http_requests.inc((route, Code::of(CLIENT_GONE)));
                    return;
                };
                page
            }
            None => router::route(&shared.app, Port::Public, &request),
        };
        let head_only = request.method == Method::Head;
        let bytes = response.encode(head_only, !keep_alive, SystemTime::now());
        metrics
            .http_requests
            .inc((route, Code::of(response.status)));
        let written = connection.write(&bytes);
        metrics
            .http_duration
            .observe(route, micros(began.elapsed()));
        if written.is_err() {
            return;
        }
        if !keep_alive {
            return connection.finish(HTTP_LINGER);
        }
        let wait = pace.count(Instant::now());
        if !wait.is_zero() && shared.wake.rest(wait) {
            return;
        }
    }
}

/// Counts a connection while it is served.
struct Counted<'a>(&'a Metrics);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.http_connections.sub(1);
    }
}

fn read_request(
    connection: &mut Connection,
    peer: SocketAddr,
    first: bool,
) -> Result<(Request, bool), End> {
    let head = connection.read_head(first)?;
    let body = connection.read_body(&head)?;
    let Head {
        method,
        path,
        query,
        headers,
        keep_alive,
        ..
    } = head;
    let client = client_address(peer.ip(), &headers);
    let request = Request {
        method,
        path,
        query,
        headers,
        body,
        client,
    };
    Ok((request, keep_alive))
}

/// The upgrade to the firehose, if the request is a good one; the router answers all others.
fn upgrade(request: &Request) -> Option<Upgrade> {
    (request.path == subscribe::PATH)
        .then(|| subscribe::check(request).ok())
        .flatten()
}

fn hand_over(
    mut connection: Connection,
    pass: Pass,
    upgrade: Upgrade,
    request: &Request,
    peer: SocketAddr,
    seat: subscribe::Seat,
) {
    if connection.write(&upgrade.switching()).is_err() {
        return;
    }
    let Ok((stream, leftover)) = connection.into_parts() else {
        return;
    };
    // From here on it counts as a subscriber, no longer as a connection.
    drop(pass);
    let taken = seat(Handover {
        stream,
        leftover,
        cursor: upgrade.cursor,
        peer: SocketAddr::new(request.client, peer.port()),
        user_agent: upgrade.user_agent,
    });
    if let Err(error) = taken {
        log::warn!(error:% = error; "no thread for a subscriber");
    }
}
