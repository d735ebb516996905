//! A subscriber that follows a relay over its deaths: it comes back with the cursor that it has.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tungstenite::{Error, Message};
use zlay::sim::expected::Expected;

use crate::{
    site::Relay,
    subscriber::{Next, Seen, open, read},
};

/// How long a read waits before the follower looks whether it shall stop.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Shared {
    relay: Mutex<Option<SocketAddr>>,
    seen: Mutex<Vec<Seen>>,
    /// Whatever was not as it should be.
    wrong: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

/// The follower; [`Follower::stop`] ends it.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Follower {
    /// Follows `relay`; tells `expected` what comes.
    pub(crate) fn start(relay: &Relay, expected: Arc<Expected>) -> Follower {
        let shared = Arc::new(Shared::default());
        *shared.relay.lock().unwrap() = Some(relay.public);
        let run = shared.clone();
        Follower {
            shared,
            thread: std::thread::spawn(move || {
                while !run.stopped.load(Ordering::Relaxed) {
                    run.follow(&expected);
                    std::thread::sleep(Duration::from_millis(5));
                }
            }),
        }
    }

    /// Follows another relay on the same data from now on.
    pub(crate) fn turn_to(&self, relay: &Relay) {
        *self.shared.relay.lock().unwrap() = Some(relay.public);
    }

    /// How much has come.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Everything that came, in the order in which it came; panics where anything was wrong.
    pub(crate) fn stop(self) -> Vec<Seen> {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let wrong = self.shared.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
        std::mem::take(&mut *self.shared.seen.lock().unwrap())
    }
}

impl Shared {
    /// One connection.
    fn follow(&self, expected: &Expected) {
        let Some(relay) = *self.relay.lock().unwrap() else {
            return;
        };
        let last = self.seen.lock().unwrap().last().map_or(0, |seen| seen.seq);
        let Ok(mut websocket) = open(relay, Some(&last.to_string())) else {
            return;
        };
        websocket
            .get_ref()
            .set_read_timeout(Some(READ_TIMEOUT))
            .unwrap();
        while !self.stopped.load(Ordering::Relaxed) {
            match websocket.read() {
                Ok(Message::Binary(bytes)) => self.note(&bytes, expected),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    fn note(&self, bytes: &[u8], expected: &Expected) {
        let mut seen = self.seen.lock().unwrap();
        let last = seen.last().map_or(0, |seen: &Seen| seen.seq);
        match read(bytes) {
            Next::Event(event) if event.seq == last + 1 => {
                expected.observe(&event.did, event.digest, &event.kind);
                seen.push(event);
            }
            other => {
                let what = format!("after seq {last}: {other:?}");
                self.wrong.lock().unwrap().push(what);
            }
        }
    }
}
