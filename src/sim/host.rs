//! A PDS: its stream and the few queries that a relay makes.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::TcpStream,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::ServerConfig;
use serde_json::json;
use tungstenite::{
    Bytes, Message, WebSocket,
    handshake::derive_accept_key,
    protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
};

use super::{
    event::{self, Event},
    feed::{Feed, Next, Once, Start},
    http::{self, Request},
    lies::Lies,
    listen::{self, Waker},
    stream::{Ready, Stream},
};
use crate::{
    atproto::{cid::Cid, tid::Tid},
    limits::HTTP_WRITE_TIMEOUT,
};

/// How long a consumer may take nothing before its connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(300);
/// Where the host's own document is.
const DOCUMENT_PATH: &str = "/.well-known/did.json";
/// The largest page of `listRepos`.
const LIST_PAGE: usize = 1_000;
/// The longest wait between two looks at a silent connection.
const IDLE_WAIT: Duration = Duration::from_secs(60);

/// An account as its host reports it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hosted {
    /// None when active.
    pub status: Option<String>,
    /// The last commit and its revision.
    pub head: Option<(Cid, Tid)>,
}

/// A simulated PDS.
#[derive(Debug)]
pub struct Host {
    name: String,
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    feed: Mutex<Feed>,
    accounts: Mutex<BTreeMap<Arc<str>, Hosted>>,
    /// The document of the host's own `did:web`.
    document: Mutex<Option<String>>,
    /// What is told instead of it.
    lies: Lies,
    /// How often each path was asked for.
    asked: Mutex<BTreeMap<String, u64>>,
    /// Connections are closed as soon as they are accepted.
    refuses: AtomicBool,
    /// A replay begins with the event of the cursor itself.
    inclusive: AtomicBool,
    outdated: AtomicU64,
}

impl Host {
    pub(crate) fn new(port: u16, tls: Option<Arc<ServerConfig>>, seed: u64) -> Host {
        Host {
            name: format!("localhost:{port}"),
            port,
            tls,
            feed: Mutex::new(Feed::new(seed)),
            accounts: Mutex::default(),
            document: Mutex::default(),
            lies: Lies::default(),
            asked: Mutex::default(),
            refuses: AtomicBool::new(false),
            inclusive: AtomicBool::new(false),
            outdated: AtomicU64::new(0),
        }
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Hosted>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `localhost:PORT`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://localhost:PORT`, or with `https`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.name)
    }

    /// Sends an event under the next sequence number, which it returns.
    pub fn emit(&self, event: &Event) -> u64 {
        self.feed().push(event)
    }

    /// Sends an event under a sequence number of choice, such as one that was used before.
    pub fn emit_at(&self, event: &Event, seq: u64) -> u64 {
        self.feed().push_at(event, seq)
    }

    /// Does something once, after everything sent so far.
    pub fn inject(&self, once: Once) {
        self.feed().push_once(once);
    }

    /// The last sequence number.
    pub fn seq(&self) -> u64 {
        self.feed().seq()
    }

    /// Consumers connected now.
    pub fn connected(&self) -> usize {
        self.feed().connections().0
    }

    /// Consumers that ever connected.
    pub fn connections(&self) -> u64 {
        self.feed().connections().1
    }

    /// Items that no consumer has been sent yet.
    pub fn unsent(&self) -> u64 {
        self.feed().unsent()
    }

    /// From now on so many bytes of events are kept for replay once they were sent.
    pub fn set_backlog_bytes(&self, bytes: usize) {
        self.feed().set_backlog_bytes(bytes);
    }

    /// Whether events come faster than consumers take them.
    pub fn is_congested(&self) -> bool {
        self.feed().is_congested()
    }

    /// Replays that began after events that were gone already.
    pub fn outdated(&self) -> u64 {
        self.outdated.load(Ordering::Relaxed)
    }

    /// From now on connections are closed as soon as they are accepted, or no longer.
    pub fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// From now on replays begin with the event of the cursor itself, or no longer.
    pub fn set_inclusive(&self, inclusive: bool) {
        self.inclusive.store(inclusive, Ordering::Relaxed);
    }

    /// Reports an account like this from now on.
    pub fn set_account(&self, did: &Arc<str>, hosted: Hosted) {
        self.accounts().insert(did.clone(), hosted);
    }

    /// Serves this as the document of the host's own `did:web` from now on.
    pub fn set_document(&self, document: &str) {
        let mut own = self.document.lock().unwrap_or_else(PoisonError::into_inner);
        *own = Some(document.to_owned());
    }

    /// What it tells instead of that document.
    pub fn lies(&self) -> &Lies {
        &self.lies
    }

    /// The paths that were asked for so far, and how often.
    pub fn asked(&self) -> BTreeMap<String, u64> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Serves one connection to its end.
    pub(crate) fn serve(&self, tcp: TcpStream, stop: &Waker) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut stream = Stream::new(tcp, self.tls.as_ref())?;
        let mut buffer = Vec::new();
        while let Some(request) = http::read_request(&mut stream, &mut buffer, stop)? {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            *asked.entry(request.path.clone()).or_default() += 1;
            drop(asked);
            let stream_path = request.path == "/xrpc/com.atproto.sync.subscribeRepos";
            if let (true, Some(key)) = (stream_path, &request.websocket) {
                let accept = derive_accept_key(key.as_bytes());
                return self.upgrade(stream, &request, &accept, stop);
            }
            let (status, body) = self.query(&request);
            if let (DOCUMENT_PATH, Some(lie)) = (request.path.as_str(), self.lies.get()) {
                if self.lies.tell(lie, &body, &mut stream, stop)? {
                    continue;
                }
                return Ok(());
            }
            http::answer(&mut stream, stop, status, &body, request.keep_alive)?;
            if !request.keep_alive {
                return Ok(());
            }
        }
        Ok(())
    }

    fn query(&self, request: &Request) -> (&'static str, String) {
        let error = |name: &str| ("400 Bad Request", json!({"error": name}).to_string());
        if request.method != "GET" {
            return error("InvalidRequest");
        }
        match request.path.as_str() {
            "/xrpc/com.atproto.server.describeServer" => {
                let body = json!({
                    "did": "did:web:localhost",
                    "availableUserDomains": [".sim.test"],
                    "inviteCodeRequired": false,
                });
                ("200 OK", body.to_string())
            }
            "/xrpc/com.atproto.sync.getRepoStatus" => {
                let did = request.param("did").unwrap_or_default();
                match self.accounts().get(did.as_str()) {
                    Some(hosted) => ("200 OK", status_of(&did, hosted).to_string()),
                    None => error("RepoNotFound"),
                }
            }
            "/xrpc/com.atproto.sync.listRepos" => ("200 OK", self.list(request)),
            DOCUMENT_PATH => {
                let own = self.document.lock().unwrap_or_else(PoisonError::into_inner);
                match own.clone() {
                    Some(document) => ("200 OK", document),
                    None => ("404 Not Found", json!({"error": "NotFound"}).to_string()),
                }
            }
            "/xrpc/_health" => ("200 OK", json!({"version": "zlay-sim"}).to_string()),
            "/xrpc/com.atproto.sync.subscribeRepos" => (
                "426 Upgrade Required",
                json!({"error": "InvalidRequest"}).to_string(),
            ),
            _ => (
                "501 Not Implemented",
                json!({"error": "MethodNotImplemented"}).to_string(),
            ),
        }
    }

    /// A page of accounts that have a commit; the cursor is the last DID.
    fn list(&self, request: &Request) -> String {
        let limit = request.param("limit").and_then(|l| l.parse().ok());
        let limit = limit.unwrap_or(LIST_PAGE).clamp(1, LIST_PAGE);
        let after = request.param("cursor").unwrap_or_default();
        let accounts = self.accounts();
        let range = (Bound::Excluded(after.as_str()), Bound::Unbounded);
        let mut repos: Vec<_> = accounts
            .range::<str, _>(range)
            .filter_map(|(did, hosted)| {
                let (head, _) = hosted.head.as_ref()?;
                let mut item = status_of(did, hosted);
                item["head"] = head.to_string().into();
                Some(item)
            })
            .take(limit + 1)
            .collect();
        let more = repos.len() > limit;
        repos.truncate(limit);
        let mut page = json!({"repos": repos});
        if let (true, Some(last)) = (more, repos.last()) {
            page["cursor"] = last["did"].clone();
        }
        page.to_string()
    }

    fn upgrade(
        &self,
        mut stream: Stream,
        request: &Request,
        accept: &str,
        stop: &Waker,
    ) -> io::Result<()> {
        let cursor = match request.param("cursor").filter(|c| !c.is_empty()) {
            None => None,
            Some(text) => match text.parse::<u64>() {
                Ok(cursor) => Some(cursor),
                Err(_) => {
                    let body = json!({"error": "InvalidRequest"}).to_string();
                    return http::answer(&mut stream, stop, "400 Bad Request", &body, false);
                }
            },
        };
        // The consumer is registered before it is told so: nothing sent from then on is missed.
        let waker = Waker::new()?;
        let (id, start) = {
            let mut feed = self.feed();
            let start = feed.start(cursor, self.inclusive.load(Ordering::Relaxed));
            (feed.connect(waker.clone()), start)
        };
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let result = stream
            .send_all(head.as_bytes(), stop, HTTP_WRITE_TIMEOUT)
            .and_then(|()| {
                let config = WebSocketConfig::default()
                    .read_buffer_size(1 << 10)
                    .write_buffer_size(0);
                let websocket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
                self.stream_events(websocket, start, stop, &waker)
            });
        self.feed().disconnect(id);
        result
    }

    fn stream_events(
        &self,
        mut ws: WebSocket<Stream>,
        start: Start,
        stop: &Waker,
        waker: &Waker,
    ) -> io::Result<()> {
        let mut position = match start {
            Start::At(position) => position,
            Start::Outdated(position) => {
                self.outdated.fetch_add(1, Ordering::Relaxed);
                let message = "Requested cursor exceeded limit. Possibly missing events";
                let info = event::info("OutdatedCursor", message);
                send(&mut ws, Message::Binary(info), stop)?;
                position
            }
            Start::Future => {
                let error = event::error("FutureCursor", "Cursor in the future.");
                send(&mut ws, Message::Binary(error), stop)?;
                return close(&mut ws, CloseCode::Policy, "FutureCursor", stop);
            }
        };
        loop {
            if !read_control(&mut ws)? {
                return Ok(());
            }
            // The lock is held for the look only.
            let next = self.feed().next(&mut position);
            match next {
                Next::Event(frame) => send(&mut ws, Message::Binary(frame), stop)?,
                Next::Once(once) => {
                    if !act(&mut ws, once, stop)? {
                        return Ok(());
                    }
                }
                Next::Wait => {
                    if ws.get_ref().wait(false, stop, Some(waker), IDLE_WAIT)? == Ready::Stop {
                        return close(&mut ws, CloseCode::Away, "", stop);
                    }
                }
            }
        }
    }
}

fn status_of(did: &str, hosted: &Hosted) -> serde_json::Value {
    let mut body = json!({"did": did, "active": hosted.status.is_none()});
    if let Some(status) = &hosted.status {
        body["status"] = status.as_str().into();
    }
    if let Some((_, rev)) = &hosted.head {
        body["rev"] = rev.to_string().into();
    }
    body
}

/// Does something once; false when the connection ends by it.
fn act(ws: &mut WebSocket<Stream>, once: Once, stop: &Waker) -> io::Result<bool> {
    match once {
        Once::Binary(bytes) => send(ws, Message::Binary(bytes), stop)?,
        Once::Text(text) => send(ws, Message::Text(text.into()), stop)?,
        Once::Cut => {
            ws.get_ref().cut();
            return Ok(false);
        }
        Once::CutInside(bytes) => {
            let frame = server_frame(&bytes);
            let half = &frame[..frame.len() / 2];
            ws.get_mut().send_all(half, stop, WRITE_TIMEOUT)?;
            ws.get_ref().cut();
            return Ok(false);
        }
        Once::Close => {
            close(ws, CloseCode::Away, "", stop)?;
            return Ok(false);
        }
        Once::Stall(duration) => return Ok(!listen::sleep(stop, duration)),
    }
    Ok(true)
}

/// A binary message as a server sends it: one frame, not masked.
fn server_frame(payload: &Bytes) -> Vec<u8> {
    let mut frame = vec![0x82];
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Reads what the consumer has sent, answering pings; false when it has gone.
fn read_control(ws: &mut WebSocket<Stream>) -> io::Result<bool> {
    loop {
        match ws.read() {
            Ok(Message::Close(_)) => {
                let _ = ws.flush();
                return Ok(false);
            }
            Ok(_) => {}
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(true);
            }
            Err(_) => return Ok(false),
        }
    }
}

/// Sends one message, waiting for the consumer as long as it takes.
fn send(ws: &mut WebSocket<Stream>, message: Message, stop: &Waker) -> io::Result<()> {
    let deadline = Instant::now() + WRITE_TIMEOUT;
    let mut result = ws.write(message).and_then(|()| ws.flush());
    loop {
        match result {
            Ok(()) => return Ok(()),
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                match ws.get_ref().wait(true, stop, None, left)? {
                    Ready::Socket | Ready::Woken => result = ws.flush(),
                    Ready::Timeout => return Err(ErrorKind::TimedOut.into()),
                    Ready::Stop => return Err(ErrorKind::ConnectionAborted.into()),
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

fn close(
    ws: &mut WebSocket<Stream>,
    code: CloseCode,
    reason: &str,
    stop: &Waker,
) -> io::Result<()> {
    let reason = reason.to_owned().into();
    let frame = CloseFrame { code, reason };
    if ws.close(Some(frame)).and_then(|()| ws.flush()).is_ok() {
        // Give the consumer a moment to answer, so that the last frame is not lost to a reset.
        let deadline = Instant::now() + Duration::from_secs(2);
        while read_control(ws)? {
            let left = deadline.saturating_duration_since(Instant::now());
            if ws.get_ref().wait(false, stop, None, left)? != Ready::Socket {
                break;
            }
        }
    }
    Ok(())
}
