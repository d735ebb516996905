//! Subscribers of all sorts: some live, some slow, some that replay, some that stop reading.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, recv};
use serde::Serialize;
use tungstenite::Message;

use super::{
    args::SoakArgs,
    tally::{Tally, note},
};
use crate::{
    sim::{
        check,
        event::Digest,
        seen::Seen,
        sink::{self, PONG, PONG_INTERVAL, Sinks},
        wire,
        workers::Workers,
    },
    threads::Stop,
};

/// Between two times that a slow subscriber reads.
const SIP: Duration = Duration::from_millis(100);
/// Before a subscriber that was refused or cut comes again.
const RETRY: Duration = Duration::from_secs(1);
/// A replay without a frame for so long, though there are some, is stuck.
const STUCK: Duration = Duration::from_secs(60);
/// The stack of a thread, in bytes.
const STACK_BYTES: usize = 1 << 20;

/// What subscribers saw.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct Told {
    /// Subscribers that took everything, and how many of them are still there.
    pub(super) live: usize,
    pub(super) live_open: usize,
    pub(super) live_bytes: u64,
    /// Replays that were read to their end, those of them that began below the window, and the frames
    /// that were compared with what had come under their seq.
    pub(super) replays: u64,
    pub(super) outdated: u64,
    pub(super) compared: u64,
    /// Replays that the end of the window has overtaken.
    pub(super) overtaken: u64,
    pub(super) slow_connections: u64,
    pub(super) slow_bytes: u64,
    pub(super) stopped_connections: u64,
    /// Connections that were not made.
    pub(super) refused: u64,
    /// What must not be, and some of it in words.
    pub(super) wrong: u64,
    pub(super) problems: Vec<String>,
}

/// Subscribers; dropping them ends their connections.
pub(super) struct Readers {
    sinks: Sinks,
    live: usize,
    tally: Tally<Told>,
    _workers: Workers,
}

impl Readers {
    /// Lets all of them subscribe to the relay at `address`. Replays are compared with `seen`; `oldest`
    /// is about where the window begins.
    pub(super) fn start(
        args: &SoakArgs,
        address: &str,
        seen: &Arc<Seen>,
        oldest: &Arc<AtomicU64>,
    ) -> io::Result<Readers> {
        let tally = Tally::default();
        let relay = address.to_socket_addrs()?.find(SocketAddr::is_ipv4);
        let reader = Reader {
            address: address.to_owned(),
            relay: relay.ok_or(io::ErrorKind::AddrNotAvailable)?,
            seen: seen.clone(),
            oldest: oldest.clone(),
            tally: tally.clone(),
            rest: args.rest,
            slow_rate: args.slow_rate,
            stopped_for: args.stopped_for,
        };
        let mut workers = Workers::none();
        let mut spawn = |name: &str, index: usize, run: fn(&Reader, usize, &Stop)| {
            let reader = reader.clone();
            workers.add(name, STACK_BYTES, move |stop| run(&reader, index, stop))
        };
        for i in 0..args.replayers {
            spawn("replays", i, Reader::replay_again)?;
        }
        // Each has an address of its own, after those of the live ones.
        for i in 0..args.slow {
            spawn("slow", args.live + i, Reader::read_slowly)?;
        }
        for i in 0..args.stopped {
            spawn("stopped", args.live + args.slow + i, Reader::stop_reading)?;
        }
        Ok(Readers {
            sinks: Sinks::connect(address, args.live, None)?,
            live: args.live,
            tally,
            _workers: workers,
        })
    }

    /// What they saw so far.
    pub(super) fn told(&self) -> Told {
        Told {
            live: self.live,
            live_open: self.sinks.open(),
            live_bytes: self.sinks.total(),
            ..self.tally.told()
        }
    }
}

/// What a thread needs to be a subscriber of any sort.
#[derive(Clone)]
struct Reader {
    address: String,
    relay: SocketAddr,
    seen: Arc<Seen>,
    oldest: Arc<AtomicU64>,
    tally: Tally<Told>,
    rest: Duration,
    slow_rate: u64,
    stopped_for: Duration,
}

/// How a replay went so far.
struct Replay {
    cursor: u64,
    /// The last seq that is waited for.
    goal: u64,
    /// The last one that came.
    last: Option<u64>,
    outdated: bool,
}

impl Reader {
    fn replay_again(&self, index: usize, stop: &Stop) {
        let mut rng = fastrand::Rng::with_seed(index as u64);
        loop {
            let rest = self.rest.mul_f64(rng.f64());
            if stop.wait(rest.max(SIP)) {
                return;
            }
            let (oldest, last) = (self.oldest.load(Ordering::Relaxed), self.seen.last());
            if last < 2 {
                continue;
            }
            let oldest = oldest.min(last - 1);
            let cursor = match rng.u8(..10) {
                0 => 0,
                1 => rng.u64(0..=oldest),
                _ => rng.u64(oldest..last),
            };
            let replay = Replay {
                cursor,
                goal: last,
                last: None,
                outdated: false,
            };
            if let Err(error) = self.replay(replay, stop) {
                log::info!("a replay from {cursor}: {error}");
                self.tally.add().refused += 1;
            }
        }
    }

    /// Reads from an old cursor up to what was the last event at the beginning.
    fn replay(&self, mut replay: Replay, stop: &Stop) -> io::Result<()> {
        let mut websocket = check::connect(&self.address, replay.cursor)?;
        let mut heard = Instant::now();
        while !stop.requested() {
            match websocket.read() {
                Ok(Message::Binary(frame)) => {
                    heard = Instant::now();
                    if self.compare(&mut replay, &frame) {
                        let _ = websocket.close(None);
                        let _ = websocket.flush();
                        return Ok(());
                    }
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if check::is_timeout(&error) => {
                    if heard.elapsed() > STUCK {
                        let (from, last, goal) = (replay.cursor, replay.last, replay.goal);
                        let what = format!("a replay from {from} to {goal} is stuck at {last:?}");
                        self.problem(what);
                        return Ok(());
                    }
                }
                Err(error) => {
                    log::info!("a replay from {}: {error}", replay.cursor);
                    self.tally.add().overtaken += 1;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Compares a frame of a replay with what came before; whether it was the last.
    fn compare(&self, replay: &mut Replay, bytes: &[u8]) -> bool {
        let from = replay.cursor;
        let Some(frame) = wire::read(bytes) else {
            let what = format!("a replay from {from}: not a frame, {} bytes", bytes.len());
            self.problem(what);
            return false;
        };
        let Some(seq) = frame.seq else {
            if frame.op == 1 && frame.name == "OutdatedCursor" && replay.last.is_none() {
                replay.outdated = true;
            } else if frame.op != -1 || frame.name != "ConsumerTooSlow" {
                let what = format!("a replay from {from}: {} {}", frame.t, frame.name);
                self.problem(what);
            }
            // After an error the relay closes the connection.
            return false;
        };
        let follows = match replay.last {
            Some(last) => seq == last + 1,
            None => from == 0 || replay.outdated || seq == from + 1,
        };
        if !follows {
            let what = format!("a replay from {from}: {seq} after {:?}", replay.last);
            self.problem(what);
        }
        replay.last = Some(seq);
        let digest = Digest::of(&bytes[..frame.seq_at.start], &bytes[frame.seq_at.end..]);
        match self.seen.is_same(seq, digest) {
            Some(true) => {
                self.tally.add().compared += 1;
            }
            Some(false) => {
                let what = format!("a replay from {from}: {seq} is not what it was before");
                self.problem(what);
            }
            // Newer than what the checker has.
            None => {}
        }
        let done = seq >= replay.goal;
        if done {
            let mut told = self.tally.add();
            told.replays += 1;
            told.outdated += u64::from(replay.outdated);
        }
        done
    }

    fn read_slowly(&self, index: usize, stop: &Stop) {
        while !stop.wait(RETRY) {
            match sink::subscribe(self.relay, &self.address, index, None) {
                Ok((socket, _)) => {
                    self.tally.add().slow_connections += 1;
                    self.sip(socket, stop);
                }
                Err(error) => self.refused(&error),
            }
        }
    }

    /// Takes a little again and again, until the relay has had enough of it.
    fn sip(&self, mut socket: std::net::TcpStream, stop: &Stop) {
        let sip = (self.slow_rate as f64 * SIP.as_secs_f64()).max(1.0);
        let mut nothing = vec![0; sip as usize];
        let mut alive = Instant::now();
        while !stop.wait(SIP) {
            match recv(&socket, &mut *nothing, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return,
                Ok((n, _)) => {
                    self.tally.add().slow_bytes += n as u64;
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            if alive.elapsed() >= PONG_INTERVAL {
                alive = Instant::now();
                // Whether it arrives shows in whether the relay goes on sending.
                let _ = io::Write::write(&mut socket, &PONG);
            }
        }
    }

    fn stop_reading(&self, index: usize, stop: &Stop) {
        while !stop.wait(RETRY) {
            match sink::subscribe(self.relay, &self.address, index, None) {
                Ok((socket, _)) => {
                    self.tally.add().stopped_connections += 1;
                    stop.wait(self.stopped_for);
                    drop(socket);
                }
                Err(error) => self.refused(&error),
            }
        }
    }

    /// Notes what must not be.
    fn problem(&self, what: String) {
        let told = &mut *self.tally.add();
        note(&mut told.wrong, &mut told.problems, what);
    }

    fn refused(&self, error: &io::Error) {
        log::info!("a subscriber: {error}");
        self.tally.add().refused += 1;
    }
}
