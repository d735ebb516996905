//! A host that keeps to a script: it replays the very same frames whenever it is asked, remembers
//! what it was asked for, and can do what no good host does.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use tungstenite::{
    Bytes, Message, accept_hdr,
    handshake::server::{Request, Response},
};
use zlay::sim::{account::Account, event, event::Event};

use crate::site::{Site, wait_until};

/// What the host does when it is asked for what it has not said yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Future {
    /// It says so, as the protocol wants it.
    Refuse,
    /// It begins with the oldest that it has.
    Replay,
}

/// What the host says at one place of its stream.
#[derive(Clone, Debug)]
enum Said {
    /// A binary message.
    Message(Bytes),
    /// Bytes on the wire, whatever they are.
    Wire(Bytes),
}

#[derive(Debug)]
struct State {
    frames: Vec<(u64, Said)>,
    asked: Vec<Option<u64>>,
    /// The heads of all requests.
    heads: Vec<String>,
    future: Future,
    is_relay: bool,
    /// The name of the error with which every subscription is ended.
    error: Option<&'static str>,
    /// Connections made before the last cut end.
    cuts: u64,
    stopped: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// The host; dropping it ends it.
pub(crate) struct Scripted {
    port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Scripted {
    pub(crate) fn start() -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                frames: Vec::new(),
                asked: Vec::new(),
                heads: Vec::new(),
                future: Future::Refuse,
                is_relay: false,
                error: None,
                cuts: 0,
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let serving = shared.clone();
        let accepting = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.state.lock().unwrap().stopped {
                    break;
                }
                let shared = serving.clone();
                connections.push(std::thread::spawn(move || shared.serve(stream)));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Scripted {
            port,
            shared,
            accepting: Some(accepting),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.changed.notify_all();
    }

    /// `localhost:PORT`.
    pub(crate) fn name(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A new account of this host.
    pub(crate) fn account(&self, site: &mut Site) -> Account {
        let account = site.stranger(0);
        let document = account.document(&format!("http://{}", self.name()));
        site.network.plc().set(account.did(), &document);
        account
    }

    /// Says an event under this sequence number, now and in every replay.
    pub(crate) fn say(&self, seq: u64, event: &Event) {
        self.say_raw(seq, event.frame(seq));
    }

    /// Says anything at this place of the stream, now and in every replay.
    pub(crate) fn say_raw(&self, seq: u64, frame: Bytes) {
        self.change(|state| state.frames.push((seq, Said::Message(frame))));
    }

    /// Puts bytes on the wire at this place of the stream, now and in every replay.
    pub(crate) fn say_wire(&self, seq: u64, bytes: Bytes) {
        self.change(|state| state.frames.push((seq, Said::Wire(bytes))));
    }

    /// Ends every subscription with an error of this name from now on, or no longer.
    pub(crate) fn set_error(&self, error: Option<&'static str>) {
        self.change(|state| state.error = error);
    }

    /// Forgets everything that was said, and ends every connection.
    pub(crate) fn start_anew(&self, future: Future) {
        self.change(|state| {
            state.frames.clear();
            state.future = future;
            state.cuts += 1;
        });
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        self.change(|state| state.cuts += 1);
    }

    /// Says from now on that it is a relay, or no longer.
    pub(crate) fn set_relay(&self, is_relay: bool) {
        self.change(|state| state.is_relay = is_relay);
    }

    /// The cursors that it was asked for, connection by connection.
    pub(crate) fn asked(&self) -> Vec<Option<u64>> {
        self.state().asked.clone()
    }

    /// The heads of the requests that it was sent.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.state().heads.clone()
    }

    /// Waits until it has been asked so many times.
    pub(crate) fn wait_until_asked(&self, times: usize) {
        wait_until("the relay connects", || self.state().asked.len() >= times);
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.change(|state| state.stopped = true);
        // The listener looks up when somebody comes.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let ended = self.accepting.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let head = peek_head(&stream);
        let is_relay = {
            let mut state = self.state.lock().unwrap();
            state.heads.push(head.clone());
            state.is_relay
        };
        let server = if is_relay {
            "somebody/1.0 (atproto-relay)"
        } else {
            "scripted"
        };
        if head.starts_with("GET /xrpc/com.atproto.sync.subscribeRepos") {
            self.stream(stream, server);
            return;
        }
        let body = r#"{"did":"did:web:localhost","availableUserDomains":[]}"#;
        let _ = stream.read_exact(&mut vec![0; head.len()]);
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nServer: {server}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
    }

    fn stream(&self, stream: TcpStream, server: &str) {
        let mut cursor = None;
        #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
        let note = |request: &Request, mut response: Response| {
            let query = request.uri().query().unwrap_or_default();
            cursor = query.strip_prefix("cursor=").map(|c| c.parse().unwrap());
            response
                .headers_mut()
                .insert("server", server.parse().unwrap());
            Ok(response)
        };
        let Ok(mut websocket) = accept_hdr(stream, note) else {
            return;
        };
        let mut state = self.state.lock().unwrap();
        state.asked.push(cursor);
        let cuts = state.cuts;
        let last = state.frames.last().map_or(0, |(seq, _)| *seq);
        let is_future = cursor.is_some_and(|cursor| cursor > last);
        let refused = (is_future && state.future == Future::Refuse).then_some("FutureCursor");
        if let Some(name) = state.error.or(refused) {
            drop(state);
            let error = event::error(name, "The script says so.");
            let _ = websocket.send(Message::Binary(error));
            let _ = websocket.close(None);
            let _ = websocket.flush();
            return;
        }
        let mut at = match cursor {
            None => state.frames.len(),
            Some(_) if is_future => 0,
            Some(cursor) => state.frames.partition_point(|(seq, _)| *seq <= cursor),
        };
        while !state.stopped && state.cuts == cuts {
            let Some((_, said)) = state.frames.get(at).cloned() else {
                state = self.changed.wait(state).unwrap();
                continue;
            };
            at += 1;
            drop(state);
            let sent = match said {
                Said::Message(frame) => websocket.send(Message::Binary(frame)).is_ok(),
                Said::Wire(bytes) => websocket.get_mut().write_all(&bytes).is_ok(),
            };
            if !sent {
                return;
            }
            state = self.state.lock().unwrap();
        }
        let _ = websocket.get_ref().shutdown(Shutdown::Both);
    }
}

/// The head of the request, which stays in the socket.
fn peek_head(stream: &TcpStream) -> String {
    let mut buffer = [0; 4096];
    for _ in 0..30_000 {
        match stream.peek(&mut buffer) {
            Ok(0) | Err(_) => return String::new(),
            Ok(len) => {
                let head = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if head.contains("\r\n\r\n") {
                    return head;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    String::new()
}
