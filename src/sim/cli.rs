//! The command line of `zlay-sim`.

use std::{
    fs, io,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{
    Config, Network,
    bench::{self, BenchArgs},
    check::Checker,
    faults::Faults,
    lab,
    relay::{Client, Launch, Relay},
    report::{self, Lines},
    traffic::{Mix, Sent, Traffic},
};
use crate::{
    config::LogFormat,
    descriptors,
    limits::SERVICE_STACK_BYTES,
    logging,
    threads::{self, Role, Stop, Thread},
};

/// A simulated AT Protocol network: a PLC directory and PDS hosts on loopback, with real accounts,
/// real repositories and valid commits, to try a relay on.
///
/// Everything comes from a seed. With a relay to check, the exact output that a correct relay must
/// give is compared with what it gives, event by event.
#[derive(Parser, Debug)]
#[command(
    name = "zlay-sim",
    version,
    about,
    after_help = AFTER_HELP,
    args_override_self = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Examples:\n  \
zlay-sim demo                                   a network and a relay to look at\n  \
zlay-sim soak --hosts 300 --rate 300 --duration 10m --faults some\n  \
zlay-sim memlab --quick                         the memory lab (docs/memory.md)\n  \
zlay-sim run --hosts 30 --plc-port 2582 --relay http://localhost:3000\n\n\
A relay that is to crawl this network needs RELAY_ALLOW_PRIVATE_HOSTS=true, RELAY_PLC_URL, \
RELAY_TRUSTED_DOMAINS=localhost and a RELAY_NEW_HOSTS_PER_DAY_LIMIT of at least the number of \
hosts; with --tls also RELAY_EXTRA_CA_FILE. Where RELAY_ADMIN_PASSWORD is set, `run` asks as the \
operator, which more than a few hosts need: strangers may ask ten times a minute.\n\n\
Exit code: 0 when the output equals the expectation, 1 when it does not, 2 when nothing could be \
tried.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a network, and check a relay that runs already.
    Run(RunArgs),
    /// Run a network and a relay beside it, to look at; ends with Ctrl-C.
    Demo(DemoArgs),
    /// Run a network and a relay for a while, and check the relay's output and memory.
    Soak(SoakArgs),
    /// Measure a relay under load: cost of an event, delay, fan-out, replay, start.
    Bench(BenchArgs),
    /// Measure what relays take of the machine, by allocator, stack size and number of hosts.
    Memlab(lab::MemlabArgs),
    /// Hosts that say nothing, for the lab.
    #[command(hide = true)]
    Network(lab::QuietArgs),
}

#[derive(Args, Clone, Debug)]
struct NetworkArgs {
    /// Where all choices come from; timestamps are the only difference between two runs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How unevenly events spread over hosts: host n gets a share of 1/n^SKEW.
    #[arg(long, default_value_t = 1.0)]
    skew: f64,
    /// Records of an account at the start, at most.
    #[arg(long, default_value_t = 30)]
    records: usize,
    /// Hosts speak TLS, with certificates of an authority of their own.
    #[arg(long)]
    tls: bool,
    /// Write the authority's certificate to this file, for RELAY_EXTRA_CA_FILE.
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// The port of the PLC directory; 0 is any free one.
    #[arg(long, default_value_t = 0)]
    plc_port: u16,
    /// Now and then a record of up to 1 MB.
    #[arg(long)]
    large: bool,
    /// The directory never fails, whatever else goes wrong.
    #[arg(long)]
    steady_directory: bool,
}

#[derive(Args, Debug)]
struct RunArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// PDS hosts.
    #[arg(long, default_value_t = 30)]
    hosts: usize,
    /// Accounts of each host at the start.
    #[arg(long, default_value_t = 10)]
    accounts: usize,
    /// Events a second, over all hosts.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long: 90s, 10m, 2h.
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// How much goes wrong.
    #[arg(long, value_enum, default_value_t = Faults::None)]
    faults: Faults,
    /// The relay to check, such as http://localhost:3000; it is asked to crawl every host. Without
    /// it the network waits for whoever connects.
    #[arg(long, value_name = "URL")]
    relay: Option<String>,
    /// The relay's internal address, such as http://localhost:3001, to compare its counters.
    #[arg(long, value_name = "URL")]
    relay_metrics: Option<String>,
    /// The relay's process, to report its memory.
    #[arg(long, value_name = "PID")]
    relay_pid: Option<u32>,
}

#[derive(Args, Clone, Debug)]
struct RelayArgs {
    /// The relay's binary; the zlay beside this program when left out.
    #[arg(long, value_name = "FILE")]
    relay_binary: Option<PathBuf>,
    /// The relay's public port; if it is taken, the next free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The relay's internal port; if it is taken, the next free one.
    #[arg(long, default_value_t = 3001)]
    metrics_port: u16,
    /// Where the relay keeps its data; a temporary directory when left out.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the relay's log goes; standard error when left out.
    #[arg(long, value_name = "FILE")]
    relay_log: Option<PathBuf>,
    /// A variable of the relay's environment; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
}

#[derive(Args, Debug)]
struct DemoArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    relay: RelayArgs,
    /// PDS hosts.
    #[arg(long, default_value_t = 30)]
    hosts: usize,
    /// Accounts of each host at the start.
    #[arg(long, default_value_t = 10)]
    accounts: usize,
    /// Events a second, over all hosts.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// How long: 90s, 10m, 2h; until Ctrl-C when left out.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// How much goes wrong.
    #[arg(long, value_enum, default_value_t = Faults::Some)]
    faults: Faults,
}

#[derive(Args, Debug)]
struct SoakArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    relay: RelayArgs,
    /// PDS hosts.
    #[arg(long, default_value_t = 300)]
    hosts: usize,
    /// Accounts of each host at the start.
    #[arg(long, default_value_t = 10)]
    accounts: usize,
    /// Events a second, over all hosts.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// How long: 90s, 10m, 2h.
    #[arg(long, default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// How much goes wrong.
    #[arg(long, value_enum, default_value_t = Faults::Some)]
    faults: Faults,
}

/// Until Ctrl-C is for ever, as far as clocks go.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Connecting to all hosts, before traffic begins without the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// No progress for this long, and what has not come is missing.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// After the last event, for what must not come.
const AFTERMATH: Duration = Duration::from_secs(1);
/// The stack of the thread that makes the traffic, in bytes: trees are followed recursively.
const TRAFFIC_STACK_BYTES: usize = 8 << 20;
/// The exit code when nothing could be tried.
const EXIT_NOTHING: u8 = 2;

/// Runs the command line.
pub fn main() -> ExitCode {
    logging::init(LogFormat::Text, log::LevelFilter::Warn);
    let cli = Cli::parse();
    // Every host has some open, and so has a relay that is started from here.
    log::info!("{}", descriptors::raise());
    match run(cli.command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("zlay-sim: {error}");
            ExitCode::from(EXIT_NOTHING)
        }
    }
}

fn run(command: Command) -> io::Result<bool> {
    let (stop, _signals) = stop_on_signal()?;
    match command {
        Command::Run(args) => run_checked(args, &stop),
        Command::Demo(args) => {
            let mix = mix(&args.network, args.accounts, args.rate, args.faults);
            let network = start(&args.network, args.hosts)?;
            let mut relay = launch(args.relay).start(&network, &stop)?;
            println!("relay   {}  (open this in a browser)", relay.url);
            println!("metrics {}/metrics", relay.metrics_url);
            println!("admin   password {}", relay.password);
            let duration = args.duration.unwrap_or(FOR_EVER);
            beside(network, mix, &mut relay, duration, &stop)
        }
        Command::Memlab(args) => lab::run(&args, &stop),
        Command::Network(args) => lab::serve_quiet(&args).map(|()| true),
        Command::Soak(args) => {
            let mix = mix(&args.network, args.accounts, args.rate, args.faults);
            let network = start(&args.network, args.hosts)?;
            let mut relay = launch(args.relay).start(&network, &stop)?;
            println!("relay   {}", relay.url);
            beside(network, mix, &mut relay, args.duration, &stop)
        }
        Command::Bench(args) => bench::run(&args, &stop),
    }
}

fn run_checked(args: RunArgs, stop: &Stop) -> io::Result<bool> {
    let mut mix = mix(&args.network, args.accounts, args.rate, args.faults);
    mix.checked = args.relay.is_some();
    let network = start(&args.network, args.hosts)?;
    if args.relay.is_none() {
        for host in network.hosts() {
            println!("host    {}", host.url());
        }
    }
    // A secret is taken from the environment only.
    let password = std::env::var("RELAY_ADMIN_PASSWORD").ok();
    let client = args.relay.as_deref().map(Client::new);
    let client = client.map(|client| client.with_password(password));
    let mut session = Session::begin(network, mix, client, args.relay_pid, stop)?;
    session.metrics = args.relay_metrics.as_deref().map(Client::new);
    session.run(args.duration, stop)?;
    session.finish(stop)
}

/// Runs traffic beside a relay of our own, which is stopped in the end.
fn beside(
    network: Arc<Network>,
    mix: Mix,
    relay: &mut Relay,
    duration: Duration,
    stop: &Stop,
) -> io::Result<bool> {
    let client = relay.client();
    let mut session = Session::begin(network, mix, Some(client), Some(relay.pid()), stop)?;
    session.metrics = Some(Client::new(&relay.metrics_url));
    session.run(duration, stop)?;
    if let Some(status) = relay.ended() {
        println!("FAILED: the relay ended by itself: {status}");
        return Ok(false);
    }
    let good = session.finish(stop)?;
    // The checker goes first, so that it does not take the relay's end for a loss.
    drop(session);
    let status = relay.stop()?;
    if !status.success() {
        println!("FAILED: the relay stopped with {status}");
    }
    Ok(good && status.success())
}

fn start(args: &NetworkArgs, hosts: usize) -> io::Result<Arc<Network>> {
    let network = Network::start(&Config {
        seed: args.seed,
        hosts,
        tls: args.tls,
        plc_tls: false,
        plc_port: args.plc_port,
    })?;
    if let (Some(file), Some(pem)) = (&args.ca_file, network.ca_pem()) {
        fs::write(file, pem)?;
    }
    println!("plc     {}", network.plc_url());
    Ok(Arc::new(network))
}

fn mix(args: &NetworkArgs, accounts: usize, rate: f64, faults: Faults) -> Mix {
    Mix {
        seed: args.seed,
        accounts,
        records: args.records,
        rate,
        skew: args.skew,
        faults,
        large: args.large,
        directory_fails: !args.steady_directory,
        checked: true,
    }
}

fn launch(args: RelayArgs) -> Launch {
    Launch {
        binary: args.relay_binary,
        command: None,
        stranger: false,
        scratch: None,
        port: args.port,
        metrics_port: args.metrics_port,
        data_dir: args.data_dir,
        log: args.relay_log,
        environment: args.environment,
    }
}

/// A network with traffic, and perhaps a relay that is checked.
struct Session {
    network: Arc<Network>,
    traffic: Option<Traffic>,
    sent: Arc<Sent>,
    checker: Option<Checker>,
    metrics: Option<Client>,
    pid: Option<u32>,
    lines: Lines,
    start: Instant,
}

impl Session {
    fn begin(
        network: Arc<Network>,
        mix: Mix,
        relay: Option<Client>,
        pid: Option<u32>,
        stop: &Stop,
    ) -> io::Result<Session> {
        let accounts = mix.accounts * network.len();
        let began = Instant::now();
        let traffic = Traffic::new(network.clone(), mix);
        println!(
            "network {} hosts, {accounts} accounts, made in {:.1} s",
            network.len(),
            began.elapsed().as_secs_f64()
        );
        let mut checker = None;
        if let Some(client) = &relay {
            checker = Some(Checker::start(
                client.address(),
                network.expected().clone(),
            )?);
            crawl(&network, client, stop)?;
        }
        Ok(Session {
            sent: traffic.sent(),
            traffic: Some(traffic),
            network,
            checker,
            metrics: None,
            pid,
            lines: Lines::new(),
            start: Instant::now(),
        })
    }

    fn run(&mut self, duration: Duration, stop: &Stop) -> io::Result<()> {
        let end = Instant::now() + duration;
        let Some(mut traffic) = self.traffic.take() else {
            return Ok(());
        };
        let during = stop.clone();
        let thread = threads::spawn(Role::Simulator, "traffic", TRAFFIC_STACK_BYTES, move || {
            traffic.run(&during, end);
        })?;
        while !thread.is_finished() && !stop.wait(Duration::from_secs(1)) {
            self.print_line();
        }
        drop(thread);
        Ok(())
    }

    fn print_line(&mut self) {
        let checker = self.checker.as_ref();
        println!(
            "{}",
            self.lines
                .line(&self.network, &self.sent, checker, self.pid)
        );
    }

    /// Waits for what is still to come, then compares.
    fn finish(&mut self, stop: &Stop) -> io::Result<bool> {
        let Some(checker) = &self.checker else {
            let valid = self.sent.valid.load(Ordering::Relaxed);
            println!("{valid} events sent; nothing was checked");
            return Ok(true);
        };
        let stats = checker.stats.clone();
        let expected = self.network.expected().clone();
        let (mut frames, mut progress) = (0, Instant::now());
        // A stop by signal has ended the traffic; what was sent is still compared.
        while expected.outstanding() > 0 && progress.elapsed() < DRAIN_TIMEOUT {
            std::thread::sleep(Duration::from_secs(1));
            self.print_line();
            let now = stats.frames.load(Ordering::Relaxed);
            if now != frames {
                (frames, progress) = (now, Instant::now());
            }
        }
        if !stop.requested() {
            std::thread::sleep(AFTERMATH);
        }
        let metrics = self.metrics.as_ref().and_then(|c| c.get("/metrics").ok());
        let injected = expected.rejects();
        if !injected.is_empty() {
            let metrics = metrics.as_ref().map(|(_, body)| body.as_str());
            print!("{}", report::rejects(&injected, metrics));
        }
        if let Some(memory) = self.lines.memory() {
            println!("{memory}");
        }
        let differences = expected.verdict();
        println!(
            "{}",
            report::verdict(&self.network, self.start.elapsed(), &differences)
        );
        Ok(differences.none() && expected.progress().0 > 0)
    }
}

/// Asks the relay to crawl every host, and waits until it is connected to all of them.
pub(super) fn crawl(network: &Network, client: &Client, stop: &Stop) -> io::Result<()> {
    let began = Instant::now();
    let mut refused = 0;
    for host in network.hosts() {
        if stop.requested() {
            return Ok(());
        }
        if let Err(error) = client.request_crawl(host) {
            refused += 1;
            if refused == 1 {
                println!("requestCrawl of {}: {error}", host.name());
            }
        }
    }
    let connected = || {
        network
            .hosts()
            .iter()
            .filter(|h| h.connections() > 0)
            .count()
    };
    while connected() < network.len() && began.elapsed() < CONNECT_TIMEOUT {
        if stop.wait(Duration::from_millis(50)) {
            return Ok(());
        }
    }
    let (now, all) = (connected(), network.len());
    println!(
        "crawl   {now} of {all} hosts connected after {:.1} s, {refused} requests refused",
        began.elapsed().as_secs_f64()
    );
    if now == 0 {
        return Err(io::Error::other("the relay connects to no host"));
    }
    Ok(())
}

/// What ends the thread that waits for signals, by being dropped.
struct SignalThread {
    handle: signal_hook::iterator::Handle,
    _thread: Thread,
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// A stop that the first SIGINT or SIGTERM asks for; the second ends the process.
fn stop_on_signal() -> io::Result<(Stop, SignalThread)> {
    let (stopper, stop) = threads::stop_pair();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let thread = threads::spawn(Role::Signals, "", SERVICE_STACK_BYTES, move || {
        let mut stopper = Some(stopper);
        for signal in signals.forever() {
            if stopper.take().is_none() {
                std::process::exit(128 + signal);
            }
            println!("stopping; once more to end at once");
        }
    })?;
    let signals = SignalThread {
        handle,
        _thread: thread,
    };
    Ok((stop, signals))
}

/// `90s`, `10m`, `2h`, or a number of seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("unknown unit {other}; s, m or h")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "a number and s, m or h".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|error| error.to_string())
}

pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(duration("7 days").is_err() && duration("-1s").is_err());
    }
}
