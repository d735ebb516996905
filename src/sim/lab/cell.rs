//! One cell: a relay from its start to its end, and a row for each phase of its life.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    args::Conditions,
    filler::Filler,
    landscape::{self, Landscape},
    plan::Cell,
    sample::{Sample, Tick},
};
use crate::{
    sim::{
        Network, crawl,
        event::Event,
        faults::Faults,
        health::{Answers, Prober},
        process::Usage,
        relay::{Client, Launch, Relay},
        sink::Sinks,
        traffic::{Mix, Traffic},
    },
    threads::{self, Role, Stop},
};

/// No further host connected for this long, and the rest never will be.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// No frame and no identity for this long, and there are no more.
const CALM: Duration = Duration::from_secs(3);
/// A burst is given up after this long.
const BURST_PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at something that changes.
const LOOK: Duration = Duration::from_millis(20);
/// The same, where a look costs the relay something.
const LOOK_COSTLY: Duration = Duration::from_millis(250);
/// Hosts that have the filler accounts.
const FILLER_HOSTS: usize = 50;
/// Accounts of each host, and records of each at the start, at most: as few as make mixed traffic.
const ACCOUNTS: usize = 2;
const RECORDS: usize = 3;
/// How unevenly events spread over hosts: so little that most hosts send something under load.
const SKEW: f64 = 0.5;
/// Where the relays' ports are looked for.
const PORT: u16 = 13_000;
const INTERNAL_PORT: u16 = 13_500;
/// The stack of the thread that makes the traffic, in bytes: trees are followed recursively.
const TRAFFIC_STACK_BYTES: usize = 8 << 20;

/// A part of a relay's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// Until every host is connected.
    Connect,
    /// Nothing happens.
    Idle,
    /// Identities are looked up and cached.
    Fill,
    /// Events come at a steady rate.
    Load,
    /// One large event of every host and many others at once, and the calm after it.
    Burst,
}

impl Phase {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Phase::Connect => "connect",
            Phase::Idle => "idle",
            Phase::Fill => "fill",
            Phase::Load => "load",
            Phase::Burst => "burst",
        }
    }
}

/// The relay at the end of a phase.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Row {
    pub(super) phase: Phase,
    /// How long the phase took; of `connect` until all hosts were connected.
    pub(super) seconds: f64,
    pub(super) sample: Sample,
    /// Frames' bytes that all subscribers together took in the phase.
    pub(super) subscriber_bytes: u64,
}

/// Everything that was seen of one relay.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) cell: Cell,
    /// Hosts that were connected at the end of `connect`.
    pub(super) connected: usize,
    pub(super) health: Answers,
    /// Identities in the relay's cache at the end of `fill`.
    pub(super) identities: Option<u64>,
    pub(super) rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ticks: Vec<Tick>,
    /// What went otherwise than planned.
    pub(super) notes: Vec<String>,
}

impl Outcome {
    pub(super) fn of(cell: Cell) -> Outcome {
        Outcome {
            cell,
            connected: 0,
            health: Answers::default(),
            identities: None,
            rows: Vec::new(),
            ticks: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn row(&self, phase: Phase) -> Option<&Row> {
        self.rows.iter().find(|row| row.phase == phase)
    }
}

/// Measures a cell; what was seen before an error or a stop is kept in `outcome`.
pub(super) fn measure(
    outcome: &mut Outcome,
    conditions: &Conditions,
    stop: &Stop,
) -> io::Result<()> {
    let directory = Directory::create(&conditions.data_dir)?;
    let per_process = conditions
        .hosts_per_process
        .unwrap_or_else(landscape::hosts_per_process);
    let cell = &outcome.cell;
    let landscape = Landscape::start(cell.hosts, per_process, conditions.seed, &directory.0)?;
    let log = conditions.logs.join(cell.file_name("log"));
    let relay = start(cell, &landscape, &directory.0, log, stop)?;
    let client = Client::new(&relay.url).with_password(Some(relay.password.clone()));
    let mut run = Run {
        internal: Client::new(&relay.metrics_url),
        client,
        traffic: None,
        sinks: None,
        landscape,
        relay,
        conditions,
        stop,
        outcome,
    };
    let result = run.phases();
    if let Some(status) = run.relay.ended() {
        return Err(io::Error::other(format!(
            "the relay ended by itself: {status}"
        )));
    }
    let status = run.relay.stop()?;
    if !status.success() {
        let note = format!("the relay stopped with {status}");
        run.outcome.notes.push(note);
    }
    result
}

fn start(
    cell: &Cell,
    landscape: &Landscape,
    directory: &Path,
    log: PathBuf,
    stop: &Stop,
) -> io::Result<Relay> {
    let mut environment = vec![
        ("RELAY_THREAD_STACK_KIB".into(), cell.stack_kib.to_string()),
        (
            "RELAY_EXTRA_CA_FILE".into(),
            landscape.ca_file.display().to_string(),
        ),
    ];
    environment.extend(cell.variant.environment.iter().cloned());
    let launch = Launch {
        binary: cell.variant.binary.clone(),
        command: None,
        stranger: false,
        scratch: None,
        port: PORT,
        metrics_port: INTERNAL_PORT,
        data_dir: Some(directory.to_owned()),
        log: Some(log),
        environment,
    };
    launch.start(&landscape.network, stop)
}

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn create(within: &Path) -> io::Result<Directory> {
        let name = format!(
            "zlay-memlab-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let path = within.join(name);
        fs::create_dir_all(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A phase under way.
struct Begun {
    phase: Phase,
    at: Instant,
    usage: Usage,
    subscriber_bytes: u64,
}

/// Dropped in the order of its fields: the subscribers before the relay, and that before the hosts.
struct Run<'a> {
    sinks: Option<Sinks>,
    client: Client,
    internal: Client,
    relay: Relay,
    traffic: Option<Traffic>,
    landscape: Landscape,
    conditions: &'a Conditions,
    stop: &'a Stop,
    outcome: &'a mut Outcome,
}

impl Run<'_> {
    fn phases(&mut self) -> io::Result<()> {
        let begun = self.begin(Phase::Connect)?;
        let seconds = self.connect()?;
        self.end(begun, Some(seconds))?;
        // Made here, where it costs the relay nothing.
        self.make_traffic();

        let begun = self.begin(Phase::Idle)?;
        self.wait(self.conditions.idle)?;
        self.end(begun, None)?;

        if self.conditions.identities > 0 {
            let begun = self.begin(Phase::Fill)?;
            let seconds = self.fill()?;
            self.end(begun, Some(seconds))?;
        }

        let (address, count) = (self.client.address(), self.conditions.subscribers);
        let sinks = Sinks::connect(address, count, None);
        self.sinks = Some(sinks.map_err(|error| named("subscribing", error))?);
        self.load()?;

        let large = self.large_events()?;
        let begun = self.begin(Phase::Burst)?;
        self.burst(large)?;
        self.wait(self.conditions.settle)?;
        self.end(begun, None)
    }

    fn begin(&self, phase: Phase) -> io::Result<Begun> {
        Ok(Begun {
            phase,
            at: Instant::now(),
            usage: Usage::of(self.relay.pid())?,
            subscriber_bytes: self.subscriber_bytes(),
        })
    }

    /// Takes the row of a phase that took so many seconds, or until now.
    fn end(&mut self, begun: Begun, seconds: Option<f64>) -> io::Result<()> {
        let taken = begun.at.elapsed().as_secs_f64();
        let sample = Sample::take(self.relay.pid(), &self.internal, &begun.usage)?;
        self.outcome.rows.push(Row {
            phase: begun.phase,
            seconds: seconds.unwrap_or(taken),
            sample,
            subscriber_bytes: self.subscriber_bytes() - begun.subscriber_bytes,
        });
        if self.relay.ended().is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self
            .sinks
            .as_ref()
            .is_some_and(|s| s.open() < self.conditions.subscribers)
        {
            let note = format!("{}: a subscriber was cut", begun.phase.name());
            self.outcome.notes.push(note);
        }
        Ok(())
    }

    fn subscriber_bytes(&self) -> u64 {
        self.sinks.as_ref().map_or(0, Sinks::total)
    }

    /// Waits; an error where a stop was asked for, or the relay has ended.
    fn wait(&mut self, duration: Duration) -> io::Result<()> {
        if self.stop.wait(duration) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.relay.ended() {
            Some(status) => Err(io::Error::other(format!("the relay has ended: {status}"))),
            None => Ok(()),
        }
    }

    /// Asks the relay to crawl every host and waits until it does; how many seconds until the last.
    fn connect(&mut self) -> io::Result<f64> {
        let began = Instant::now();
        let prober = Prober::start(self.client.address())?;
        let refused = crawl::ask(self.landscape.urls(), &self.client, self.stop)?;
        let hosts = self.outcome.cell.hosts;
        let (mut connected, mut progress) = (0, Instant::now());
        while connected < hosts && progress.elapsed() < CONNECT_PATIENCE {
            self.wait(LOOK)?;
            let now = self.landscape.connected();
            if now != connected {
                (connected, progress) = (now, Instant::now());
            }
        }
        let seconds = (progress - began).as_secs_f64();
        self.outcome.connected = connected;
        self.outcome.health = prober.answers();
        if let Some(error) = refused {
            self.outcome.notes.push(format!("requestCrawl: {error}"));
        }
        if connected < hosts {
            let note = format!("only {connected} of {hosts} hosts connected");
            self.outcome.notes.push(note);
        }
        Ok(seconds)
    }

    fn make_traffic(&mut self) {
        let mix = Mix {
            seed: self.conditions.seed,
            accounts: ACCOUNTS,
            records: RECORDS,
            rate: self.conditions.rate,
            skew: SKEW,
            faults: Faults::None,
            large: false,
            directory_fails: false,
            checked: false,
            ..Mix::default()
        };
        self.traffic = Some(Traffic::new(self.landscape.network.clone(), mix));
    }

    /// Lets the relay hear of every filler account; how many seconds until it knows all of them.
    fn fill(&mut self) -> io::Result<f64> {
        let began = Instant::now();
        let network = self.landscape.network.clone();
        let count = self.conditions.identities;
        let filler = Filler::new(&network, FILLER_HOSTS, count, self.conditions.seed);
        let mut number = 0;
        while number < count {
            let host = network.host(filler.host(number));
            while host.is_congested() {
                self.wait(LOOK)?;
            }
            host.emit(&Filler::event(number));
            number += 1;
        }
        let (mut cached, mut progress) = (None, Instant::now());
        while progress.elapsed() < CALM {
            self.wait(LOOK_COSTLY)?;
            let now = self.cached();
            if now != cached || unsent(&network) > 0 {
                (cached, progress) = (now, Instant::now());
            }
            if cached >= Some(count) {
                break;
            }
        }
        self.outcome.identities = cached;
        // A cache that is full keeps a little less than its size.
        if let Some(cached) = cached.filter(|cached| cached * 10 < count * 9) {
            let note = format!("{cached} of {count} identities are cached");
            self.outcome.notes.push(note);
        }
        Ok((progress - began).as_secs_f64())
    }

    /// Identities in the relay's cache, where it says so.
    fn cached(&self) -> Option<u64> {
        let (_, body) = self.internal.get("/metrics").ok()?;
        let mut lines = body.lines();
        let value = lines.find_map(|line| line.strip_prefix("relay_identity_cache_entries "))?;
        value.trim().parse().ok()
    }

    /// Events at the rate of the conditions. The sample is taken while they come.
    fn load(&mut self) -> io::Result<()> {
        let Some(mut traffic) = self.traffic.take() else {
            return Ok(());
        };
        let begun = self.begin(Phase::Load)?;
        let (stopper, ended) = threads::stop_pair();
        // It ends when it is told to.
        let end = Instant::now() + 2 * self.conditions.load;
        let (give_back, back) = crossbeam_channel::bounded(1);
        let thread = threads::spawn(Role::Simulator, "traffic", TRAFFIC_STACK_BYTES, move || {
            traffic.run(&ended, end);
            let _ = give_back.send(traffic);
        })?;
        let waited = self.watch(&begun);
        let sampled = waited.and_then(|()| self.end(begun, None));
        drop(stopper);
        self.traffic = back.recv().ok();
        drop(thread);
        sampled
    }

    /// Waits for the end of the load; in a soak with a tick now and then.
    fn watch(&mut self, begun: &Begun) -> io::Result<()> {
        let Some(interval) = self.conditions.soak else {
            return self.wait(self.conditions.load);
        };
        while begun.at.elapsed() < self.conditions.load {
            let left = self.conditions.load.saturating_sub(begun.at.elapsed());
            self.wait(interval.min(left))?;
            let tick = Tick::take(self.relay.pid(), begun.at.elapsed(), &begun.usage)?;
            self.outcome.ticks.push(tick);
        }
        Ok(())
    }

    /// A large event of each host that can send. All are made before the first is sent, so that they
    /// come at once.
    fn large_events(&mut self) -> io::Result<Vec<(usize, Event)>> {
        let hosts = self.landscape.network.len();
        let mut large = Vec::with_capacity(hosts);
        for host in 0..hosts {
            self.wait(Duration::ZERO)?;
            if let Some(traffic) = &mut self.traffic {
                let event = traffic.large_commit(host, self.conditions.large_bytes);
                large.push((host, event));
            }
        }
        Ok(large)
    }

    /// Sends the large events, and ordinary ones as fast as they go; waits until every subscriber
    /// has taken all.
    fn burst(&mut self, large: Vec<(usize, Event)>) -> io::Result<()> {
        let network = self.landscape.network.clone();
        for (host, event) in large {
            network.publish(host, &event);
        }
        if let Some(traffic) = &mut self.traffic {
            (0..self.conditions.burst_events).for_each(|_| traffic.step());
            traffic.look();
        }
        let began = Instant::now();
        let (mut taken, mut progress) = (self.subscriber_bytes(), Instant::now());
        while progress.elapsed() < self.conditions.calm && began.elapsed() < BURST_PATIENCE {
            self.wait(LOOK)?;
            let now = self.subscriber_bytes();
            if now != taken || unsent(&network) > 0 {
                (taken, progress) = (now, Instant::now());
            }
        }
        Ok(())
    }
}

/// An error under the name of what was tried.
fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Events that no host has sent yet.
fn unsent(network: &Network) -> u64 {
    network.hosts().iter().map(|host| host.unsent()).sum()
}
