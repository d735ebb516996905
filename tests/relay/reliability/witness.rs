//! Subscribers who remember every frame, over all the deaths of the relay: one who comes back with its
//! cursor, and one who wants to know only what is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tungstenite::{Error, Message};
use zlay::sim::event::Digest;

use super::ledger::Ledger;
use crate::subscriber::{Next, Seen, open, read};

/// How long a read waits before it is looked whether there is another relay.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// Where the relay is now; none: it is dead.
pub(super) type Beacon = Arc<Mutex<Option<SocketAddr>>>;

/// A frame: all of its bytes, and what they say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub(super) whole: Digest,
    pub(super) seen: Seen,
}

impl Frame {
    fn of(bytes: &[u8]) -> Result<Frame, String> {
        match read(bytes) {
            Next::Event(seen) => Ok(Frame {
                whole: Digest::of(bytes, &[]),
                seen,
            }),
            other => Err(format!("{other:?}")),
        }
    }

    fn is_takedown(&self) -> bool {
        let word = Some((false, Some("takendown".to_owned())));
        self.seen.kind == "#account" && self.seen.status == word
    }
}

/// Everything that anybody was sent.
pub(super) struct Record {
    pub(super) ledger: Arc<Ledger>,
    frames: Mutex<BTreeMap<u64, Frame>>,
    /// Whatever was not as it should be.
    wrong: Mutex<Vec<String>>,
    /// The last seq of who follows.
    followed: AtomicU64,
    /// Seqs may jump ahead, and events may come again: syncing is off, and the power goes.
    pub(super) forgets: bool,
    /// What was seen and is gone, where that may be; nothing else may have these seqs.
    lost: Mutex<BTreeSet<u64>>,
}

impl Record {
    pub(super) fn new(ledger: &Arc<Ledger>, forgets: bool) -> Arc<Record> {
        Arc::new(Record {
            ledger: ledger.clone(),
            frames: Mutex::default(),
            wrong: Mutex::default(),
            followed: AtomicU64::new(0),
            forgets,
            lost: Mutex::default(),
        })
    }

    /// The highest seq that anybody was sent; 0: none.
    pub(super) fn last(&self) -> u64 {
        let frames = self.frames.lock().unwrap();
        frames.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// The seq up to which the one who follows has everything.
    pub(super) fn followed(&self) -> u64 {
        self.followed.load(Ordering::Acquire)
    }

    /// How many frames are known.
    pub(super) fn count(&self) -> usize {
        self.frames.lock().unwrap().len()
    }

    /// The seqs from `first` on.
    pub(super) fn seqs_from(&self, first: u64) -> Vec<u64> {
        let frames = self.frames.lock().unwrap();
        frames.range(first..).map(|(seq, _)| *seq).collect()
    }

    /// These are gone, which may be.
    pub(super) fn lose(&self, seqs: &[u64]) {
        let mut frames = self.frames.lock().unwrap();
        let mut lost = self.lost.lock().unwrap();
        for seq in seqs {
            frames.remove(seq);
            lost.insert(*seq);
        }
    }

    pub(super) fn complain(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    /// Panics where anything was wrong.
    #[track_caller]
    pub(super) fn check(&self) {
        let wrong = self.wrong.lock().unwrap();
        let few: Vec<&String> = wrong.iter().take(10).collect();
        assert!(wrong.is_empty(), "{} in all: {few:#?}", wrong.len());
    }

    /// Somebody was sent a frame, which must be the one that others were sent under its seq; the seq of
    /// it.
    pub(super) fn note(&self, bytes: &[u8], who: &str) -> Option<u64> {
        let frame = match Frame::of(bytes) {
            Ok(frame) => frame,
            Err(other) => {
                self.complain(format!("{who} was sent {other}"));
                return None;
            }
        };
        let seq = frame.seen.seq;
        if self.lost.lock().unwrap().contains(&seq) {
            self.complain(format!("{who} was sent another {seq}"));
        }
        let mut frames = self.frames.lock().unwrap();
        let Some(known) = frames.get(&seq) else {
            frames.insert(seq, frame);
            return Some(seq);
        };
        // What was published before a takedown is covered while that holds.
        let covered = (known.is_takedown() || frame.is_takedown())
            && known.seen.did == frame.seen.did
            && self.ledger.is_operated(&frame.seen.did);
        if *known != frame && !covered {
            let what = format!("{who} was sent {frame:?}, and somebody before {known:?}");
            drop(frames);
            self.complain(what);
        }
        Some(seq)
    }

    /// The one who follows was sent a frame.
    fn follow(&self, bytes: &[u8]) {
        let Some(seq) = self.note(bytes, "who follows") else {
            return;
        };
        let last = self.followed();
        let jumps = seq != last + 1;
        if seq <= last || (jumps && !self.forgets) {
            self.complain(format!("who follows was sent {seq} after {last}"));
        }
        if let Ok(frame) = Frame::of(bytes) {
            match self.forgets {
                true => self.ledger.came_perhaps_again(&frame.seen),
                false => self.ledger.came(&frame.seen),
            }
        }
        self.followed.store(seq, Ordering::Release);
    }
}

/// The two of them; dropping ends them.
pub(super) struct Witnesses {
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Witnesses {
    pub(super) fn start(beacon: &Beacon, record: &Arc<Record>) -> Witnesses {
        let stopped = Arc::new(AtomicBool::new(false));
        let threads = [true, false].map(|follows| {
            let (beacon, record, stopped) = (beacon.clone(), record.clone(), stopped.clone());
            std::thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    watch(&beacon, &record, &stopped, follows);
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        });
        Witnesses {
            stopped,
            threads: threads.into(),
        }
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a witness fell");
        }
    }
}

/// One connection.
fn watch(beacon: &Beacon, record: &Record, stopped: &AtomicBool, follows: bool) {
    let Some(relay) = *beacon.lock().unwrap() else {
        return;
    };
    let cursor = follows.then(|| record.followed().to_string());
    let Ok(mut websocket) = open(relay, cursor.as_deref()) else {
        return;
    };
    let socket = websocket.get_ref();
    if socket.set_read_timeout(Some(READ_TIMEOUT)).is_err() {
        return;
    }
    while !stopped.load(Ordering::Relaxed) {
        match websocket.read() {
            Ok(Message::Binary(bytes)) if follows => record.follow(&bytes),
            Ok(Message::Binary(bytes)) => {
                record.note(&bytes, "who listens");
            }
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
