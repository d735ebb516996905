//! The soak: a relay under everything at once for long. Many hosts, bursts, faults; hosts that come
//! and go, an operator who bans some, subscribers of all sorts; a window that turns over. In the end its
//! output must be that of a correct relay to the last event, and what it takes of the machine must be
//! flat.

mod args;
mod churn;
mod readers;
mod results;
mod samples;
mod tally;

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(super) use self::args::SoakArgs;
use self::{
    churn::Churn,
    readers::Readers,
    results::{Results, write_samples},
    samples::Sample,
};
use super::{
    Network,
    check::Checker,
    cli::{self, TRAFFIC_STACK_BYTES},
    crawl,
    moving::Moves,
    relay::{Client, Relay},
    report::{self, Lines},
    seen::Seen,
    traffic::{Mix, Sent, Traffic},
};
use crate::threads::{self, Role, Stop};

/// Events that hosts have sent are kept by them for so long: longer than any of them is away.
const BACKLOG_AGE: Duration = Duration::from_secs(300);
/// No further host connected for this long, and traffic begins without the rest.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// No progress for this long in the end, and what has not come is missing.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);
/// Between two times that hosts say again that they are there, in the end.
const CALL_INTERVAL: Duration = Duration::from_secs(10);
/// After the last event, for what must not come.
const AFTERMATH: Duration = Duration::from_secs(2);
/// Between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(100);
/// Between two times that the files are written while it goes on.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// Runs it; false where something is not as it must be.
pub(super) fn run(mut args: SoakArgs, stop: &Stop) -> io::Result<bool> {
    fs::create_dir_all(&args.out)?;
    let network = cli::start(&args.network, args.hosts + args.spares())?;
    for host in network.hosts() {
        host.set_backlog_age(BACKLOG_AGE);
    }
    let began = Instant::now();
    let traffic = Traffic::new(network.clone(), mix(&args));
    println!(
        "network {} hosts and {} more to move to, {} accounts, made in {:.1} s",
        args.hosts,
        args.spares(),
        args.hosts * args.accounts,
        began.elapsed().as_secs_f64()
    );
    let mut relay = launch(&mut args, &network, stop)?;
    println!(
        "relay   {}  metrics {}/metrics",
        relay.url, relay.metrics_url
    );
    let seen = Arc::<Seen>::default();
    let client = relay.client();
    let expected = network.expected().clone();
    let checker = Checker::start_noting(client.address(), expected, Some(seen.clone()))?;
    connect(&network, &client, args.hosts, stop)?;
    let mut soak = Soak {
        sent: traffic.sent(),
        results: Results::begun(args.hosts),
        internal: Client::new(&relay.metrics_url),
        oldest: Arc::default(),
        lines: Lines::new(),
        samples: Vec::new(),
        start: Instant::now(),
        written: Instant::now(),
        checker: Some(checker),
        network,
        client,
        seen,
        args,
    };
    soak.churn(traffic, &mut relay, stop)?;
    let ended = relay.ended();
    if let Some(status) = ended {
        soak.fail(format!("the relay ended by itself: {status}"));
    } else {
        soak.settle(&mut relay)?;
    }
    soak.judge();
    // The checker goes first, so that it does not take the relay's end for a loss.
    soak.checker = None;
    if ended.is_none() {
        let status = relay.stop()?;
        if !status.success() {
            soak.fail(format!("the relay stopped with {status}"));
        }
    }
    soak.results.write(&soak.args.out, &soak.samples)?;
    println!("\n{}", soak.results.markdown());
    println!("written to {}", soak.args.out.display());
    Ok(soak.results.failures.is_empty())
}

fn mix(args: &SoakArgs) -> Mix {
    Mix {
        bursts: args.bursts(),
        spares: args.spares(),
        newcomers: args.newcomers,
        ..cli::mix(
            &args.network,
            cli::SKEW_SOAK,
            args.accounts,
            args.rate,
            args.faults,
        )
    }
}

fn launch(args: &mut SoakArgs, network: &Network, stop: &Stop) -> io::Result<Relay> {
    let relay = &mut args.relay;
    relay.log_to(args.out.join("relay.log"));
    let mut launch = cli::launch(relay.clone());
    // What was said on the command line counts more.
    let sizes = [
        ("RELAY_RETENTION_BYTES", args.retention_bytes.to_string()),
        ("RELAY_IDENTITY_CACHE_SIZE", args.identity_cache.to_string()),
    ];
    let sizes = sizes.map(|(name, value)| (name.to_owned(), value));
    let said = std::mem::take(&mut launch.environment);
    launch.environment = sizes.into_iter().chain(said).collect();
    launch.start(network, stop)
}

/// Asks the relay to crawl the first `count` hosts, and waits until it is connected to them.
fn connect(network: &Network, client: &Client, count: usize, stop: &Stop) -> io::Result<()> {
    let began = Instant::now();
    let hosts = || network.hosts().iter().take(count);
    let refused = crawl::ask(hosts().map(|host| host.url()).collect(), client, stop)?;
    if let Some(error) = refused {
        println!("requestCrawl of {error}");
    }
    let (mut connected, mut progress) = (0, Instant::now());
    while connected < count && progress.elapsed() < CONNECT_PATIENCE && !stop.wait(LOOK) {
        let now = hosts().filter(|host| host.connections() > 0).count();
        if now != connected {
            (connected, progress) = (now, Instant::now());
        }
    }
    println!(
        "crawl   {connected} of {count} hosts connected after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    if connected == 0 {
        return Err(io::Error::other("the relay connects to no host"));
    }
    Ok(())
}

struct Soak {
    args: SoakArgs,
    network: Arc<Network>,
    client: Client,
    internal: Client,
    checker: Option<Checker>,
    seen: Arc<Seen>,
    sent: Arc<Sent>,
    /// Where the window begins, as of the last sample.
    oldest: Arc<AtomicU64>,
    lines: Lines,
    samples: Vec<Sample>,
    results: Results,
    start: Instant,
    written: Instant,
}

impl Soak {
    fn fail(&mut self, what: String) {
        self.results.failures.push(what);
    }

    /// Traffic, and everything beside it, for as long as it was asked for.
    fn churn(&mut self, mut traffic: Traffic, relay: &mut Relay, stop: &Stop) -> io::Result<()> {
        let address = self.client.address().to_owned();
        let readers = Readers::start(&self.args, &address, &self.seen, &self.oldest)?;
        let (order, orders) = crossbeam_channel::unbounded();
        let (leave, left) = crossbeam_channel::unbounded();
        traffic.set_moves(Moves::new(orders, leave));
        let (network, client) = (self.network.clone(), self.client.clone());
        let churn = Churn::start(&self.args, network, client, order, left)?;
        self.start = Instant::now();
        let end = self.start + self.args.duration;
        let (stopper, during) = threads::stop_pair();
        let thread = threads::spawn(Role::Simulator, "traffic", TRAFFIC_STACK_BYTES, move || {
            traffic.run(&during, end);
        })?;
        let mut due = self.start;
        while !thread.is_finished() && !stop.wait(LOOK) && relay.ended().is_none() {
            if Instant::now() >= due {
                self.sample(relay)?;
                due += self.args.sample;
            }
        }
        drop(stopper);
        drop(thread);
        self.results.seconds = self.start.elapsed().as_secs_f64();
        self.results.churn = churn.end();
        self.results.readers = readers.told();
        Ok(())
    }

    fn print_line(&mut self, pid: u32) {
        let checker = self.checker.as_ref();
        println!(
            "{}",
            self.lines
                .line(&self.network, &self.sent, checker, Some(pid))
        );
    }

    fn sample(&mut self, relay: &Relay) -> io::Result<()> {
        self.print_line(relay.pid());
        let at = self.start.elapsed().as_secs_f64();
        let connected = self.network.hosts().iter().filter(|h| h.connected() > 0);
        let sample = Sample {
            at,
            sent: self.sent.valid.load(Ordering::Relaxed),
            received: self.frames(),
            to_come: self.network.expected().outstanding(),
            hosts_connected: connected.count() as u64,
            ..Sample::take(relay.pid(), &relay.data, &self.internal)?
        };
        self.oldest
            .store(sample.inside.oldest_seq, Ordering::Relaxed);
        self.samples.push(sample);
        if self.written.elapsed() >= WRITE_INTERVAL {
            self.written = Instant::now();
            write_samples(&self.args.out, &self.samples)?;
        }
        Ok(())
    }

    fn frames(&self) -> u64 {
        let stats = self.checker.as_ref().map(|checker| &checker.stats);
        stats.map_or(0, |stats| stats.frames.load(Ordering::Relaxed))
    }

    /// Waits for what is still to come, now that every host is back. A stop by signal has ended the
    /// traffic; what was sent is still compared.
    fn settle(&mut self, relay: &mut Relay) -> io::Result<()> {
        let expected = self.network.expected().clone();
        let (mut frames, mut progress) = (self.frames(), Instant::now());
        let mut call = Instant::now();
        while expected.outstanding() > 0
            && progress.elapsed() < DRAIN_PATIENCE
            && relay.ended().is_none()
        {
            if Instant::now() >= call {
                churn::call_back(&self.network, &self.client);
                self.print_line(relay.pid());
                call = Instant::now() + CALL_INTERVAL;
            }
            std::thread::sleep(LOOK);
            let now = self.frames();
            if now != frames {
                (frames, progress) = (now, Instant::now());
            }
        }
        std::thread::sleep(AFTERMATH);
        let metrics = self.internal.get("/metrics")?.1;
        let injected = expected.rejects();
        print!("{}", report::rejects(&injected, Some(&metrics)));
        Ok(())
    }

    /// Compares.
    fn judge(&mut self) {
        let expected = self.network.expected();
        let differences = expected.verdict();
        let elapsed = self.start.elapsed();
        println!("{}", report::verdict(&self.network, elapsed, &differences));
        let results = &mut self.results;
        (results.expected, results.matched) = expected.progress();
        results.differences = (&differences).into();
        results.invalid = self.sent.invalid.load(Ordering::Relaxed);
        results.faults = self.sent.faults.load(Ordering::Relaxed);
        results.hosts_outdated = self.network.hosts().iter().map(|h| h.outdated()).sum();
        let mut sent = samples::rates(&self.samples, |s| s.sent as f64);
        sent.sort_by(|a, b| a.1.total_cmp(&b.1));
        results.sent_median = sent.get(sent.len() / 2).map_or(0.0, |(_, rate)| *rate);
        results.sent_highest = sent.last().map_or(0.0, |(_, rate)| *rate);
        if let Some(last) = self.samples.last().map(|sample| &sample.inside) {
            let kept = last.seq.saturating_sub(last.pruned_seq).max(1);
            results.turnovers = last.pruned_seq as f64 / kept as f64;
        }
        let args = &self.args;
        let from = args.duration.as_secs_f64() * args.warm_up;
        results.trends = samples::trends(
            &self.samples,
            from,
            args.flat,
            args.flat_after.as_secs_f64(),
        );
        let mut failures = Vec::new();
        if !differences.none() {
            failures.push("the output is not what was expected".to_owned());
            failures.extend(differences.samples.iter().cloned());
        }
        if results.matched == 0 {
            failures.push("nothing came".to_owned());
        }
        let not_flat = results.trends.iter().filter(|t| t.flat == Some(false));
        failures.extend(not_flat.map(|trend| {
            let (name, unit) = (trend.name, trend.unit);
            format!("{name} is not flat: {:+.2} {unit} an hour", trend.per_hour)
        }));
        let readers = &results.readers;
        if readers.live_open < readers.live {
            let (open, all) = (readers.live_open, readers.live);
            failures.push(format!("{open} of {all} live subscribers are left"));
        }
        failures.extend(readers.problems.iter().cloned());
        results.failures.extend(failures);
    }
}
