//! A network, a relay that reads it, and a checker that reads the relay.

use std::{
    io,
    path::Path,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{corpus::Corpus, report::Disk};
use crate::{
    sim::{
        Config, Network,
        check::Checker,
        cli,
        process::Usage,
        relay::{Client, Launch, Relay},
    },
    threads::Stop,
};

/// No progress for this long, and what has not come is lost.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Nothing more goes into the sockets for this long: they are full.
const FILLED: Duration = Duration::from_millis(300);
/// Between two looks at what is still to come.
const LOOK: Duration = Duration::from_millis(5);

/// What is measured, and what drives it.
pub(super) struct Rig {
    pub(super) network: Arc<Network>,
    pub(super) relay: Relay,
    pub(super) client: Client,
    pub(super) checker: Checker,
    pub(super) corpus: Corpus,
    sent: u64,
}

impl Rig {
    /// Starts everything, and lets every account say something once, so that the relay knows all
    /// identities. Before the relay starts, `prepare` may put something into its data directory.
    pub(super) fn start(
        config: &Config,
        launch: &Launch,
        accounts: usize,
        records: usize,
        stop: &Stop,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Rig> {
        let network = Arc::new(Network::start(config)?);
        let corpus = Corpus::new(&network, accounts, records, config.seed);
        let relay = launch.start_on(&network, stop, prepare)?;
        let client = relay.client();
        let checker = Checker::start(client.address(), network.expected().clone())?;
        cli::crawl(&network, &client, stop)?;
        let mut rig = Rig {
            network,
            relay,
            client,
            checker,
            corpus,
            sent: 0,
        };
        let accounts = rig.corpus.accounts();
        rig.corpus.make(accounts);
        rig.publish(accounts)?;
        rig.drain(stop)?;
        Ok(rig)
    }

    /// Sends the next `count` commits at once.
    pub(super) fn publish(&mut self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            let (host, event) = self.corpus.next().ok_or_else(too_few)?;
            self.network.publish(host, &event);
            self.sent += 1;
        }
        Ok(())
    }

    /// The same while the relay's process is stopped, so that all of it lies in the sockets before
    /// the relay goes on: then the simulator takes nothing away from it, and it has always something
    /// to read.
    pub(super) fn publish_ahead(&mut self, count: usize, stop: &Stop) -> io::Result<()> {
        let pid = Pid::from_raw(self.relay.pid() as i32).ok_or(io::ErrorKind::InvalidInput)?;
        kill_process(pid, Signal::STOP)?;
        let published = self.publish(count);
        let unsent = |rig: &Rig| rig.network.hosts().iter().map(|h| h.unsent()).sum::<u64>();
        let (mut left, mut progress) = (unsent(self), Instant::now());
        while left > 0 && progress.elapsed() < FILLED && !stop.wait(LOOK) {
            let now = unsent(self);
            if now != left {
                (left, progress) = (now, Instant::now());
            }
        }
        kill_process(pid, Signal::CONT)?;
        published
    }

    /// Sends `count` commits, evenly in time.
    pub(super) fn pace(&mut self, rate: u32, count: usize, stop: &Stop) -> io::Result<()> {
        let start = Instant::now();
        for n in 0..count {
            let due = start + Duration::from_secs(n as u64) / rate;
            let wait = due.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
            if stop.requested() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.publish(1)?;
        }
        Ok(())
    }

    /// Waits until everything sent has come out of the relay. What is lost or wrong is an error: a
    /// relay that leaves something out is not measured.
    pub(super) fn drain(&mut self, stop: &Stop) -> io::Result<()> {
        let expected = self.network.expected();
        let frames = &self.checker.stats.frames;
        let (mut seen, mut progress) = (frames.load(Ordering::Relaxed), Instant::now());
        while expected.outstanding() > 0 {
            if stop.wait(LOOK) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let now = frames.load(Ordering::Relaxed);
            if now != seen {
                (seen, progress) = (now, Instant::now());
            }
            if let Some(status) = self.relay.ended() {
                return Err(io::Error::other(format!("the relay ended: {status}")));
            }
            if progress.elapsed() > DRAIN_TIMEOUT {
                break;
            }
        }
        let differences = expected.differences();
        if expected.outstanding() > 0 || !differences.none() {
            let left = expected.outstanding();
            let message = format!("{left} events did not come out of the relay; {differences:?}");
            return Err(io::Error::other(message));
        }
        Ok(())
    }

    /// Ends the checker, then the relay; what that leaves on the disk.
    pub(super) fn finish(self) -> io::Result<Disk> {
        let frame_bytes = self.received_bytes();
        let Rig {
            mut relay, checker, ..
        } = self;
        drop(checker);
        let status = relay.stop()?;
        if !status.success() {
            return Err(io::Error::other(format!("the relay stopped with {status}")));
        }
        Disk::of(&relay.data, frame_bytes)
    }

    /// How many events were sent so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of frames that have come out of the relay.
    pub(super) fn received_bytes(&self) -> u64 {
        self.checker.stats.bytes.load(Ordering::Relaxed)
    }

    /// What the relay's process has used so far.
    pub(super) fn usage(&self) -> io::Result<Usage> {
        Usage::of(self.relay.pid())
    }

    /// A counter or gauge of the relay's, where it is zlay.
    pub(super) fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = Client::new(&self.relay.metrics_url).get("/metrics").ok()?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        values.find_map(|rest| rest.strip_prefix(' ')?.parse().ok())
    }
}

fn too_few() -> io::Error {
    io::Error::other("too few commits were made")
}
