//! A relay under load, measured: what one event costs it, how late an event comes out, what one
//! more subscriber costs, how fast the past is replayed, how long a start with many hosts takes; and
//! beside each what the same machine does at best, in the same run.
//!
//! The load comes from this process and the relay is another one, so that what the relay uses can
//! be told from what making the load takes. Every event that comes out is compared with what went
//! in: a relay that loses or changes something is not measured.

mod corpus;
mod floor;
mod pages;
mod reader;
mod report;
mod rig;
mod stages;

use std::{fs, io, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use self::{report::Report, rig::Rig};
use crate::{
    sim::{Config, relay::Launch},
    threads::Stop,
};

/// What to measure, and how.
#[derive(Args, Debug)]
pub(super) struct BenchArgs {
    /// Where all choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The relay's binary; the zlay beside this program when left out.
    #[arg(long, value_name = "FILE", conflicts_with = "relay_cmd")]
    relay_binary: Option<PathBuf>,
    /// Another relay, as a shell command. {port}, {metrics_port}, {plc}, {data}, {ca} and {password}
    /// are filled in; the RELAY_* variables that zlay takes are in its environment too. It must
    /// listen on 127.0.0.1:{port} without TLS and answer any request once it is ready.
    #[arg(long, value_name = "COMMAND")]
    relay_cmd: Option<String>,
    /// Ask the relay to crawl each host as a stranger does, where its operators' way
    /// (/admin/pds/requestCrawl, Bearer {password}) is not there.
    #[arg(long)]
    stranger: bool,
    /// A variable of the relay's environment; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = super::cli::variable)]
    environment: Vec<(String, String)>,
    /// Where the relay's log goes; standard error when left out.
    #[arg(long, value_name = "FILE")]
    relay_log: Option<PathBuf>,
    /// Where the relay keeps its data meanwhile, on the disk that is to be measured; a temporary
    /// directory when left out.
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// What to measure; everything but the pages when left out.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Stage>,
    /// Hosts that the events come from.
    #[arg(long, default_value_t = 100)]
    hosts: usize,
    /// Accounts, over all hosts.
    #[arg(long, default_value_t = 200)]
    accounts: usize,
    /// Records of each account: the more, the deeper its tree and the larger its commits.
    #[arg(long, default_value_t = 1_000)]
    records: usize,
    /// Hosts speak without TLS.
    #[arg(long)]
    plain: bool,
    /// Events of the measurement at saturation.
    #[arg(long, default_value_t = 60_000)]
    events: usize,
    /// Events a second of the measurements of delay.
    #[arg(long, value_delimiter = ',', default_value = "600,2000")]
    rates: Vec<u32>,
    /// Subscribers of the measurements of fan-out.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,500")]
    subscribers: Vec<usize>,
    /// How long each steady stream lasts, in seconds.
    #[arg(long, default_value_t = 8.0)]
    span: f64,
    /// Hosts of the start that is timed.
    #[arg(long, default_value_t = 2_750)]
    connect_hosts: usize,
    /// Accounts that the relay knows from before in the measurement of pages.
    #[arg(long, default_value_t = 5_000_000)]
    known_accounts: u64,
    /// Write the results to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compare with the results of an earlier run.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

/// A measurement.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Stage {
    /// Everything at once: events per second, and per second of the relay's processor time.
    Ingest,
    /// A steady stream: from send to receive.
    Delay,
    /// A steady stream to many subscribers: processor time per frame.
    FanOut,
    /// The past to one subscriber, from disk and from memory.
    Replay,
    /// A start with many hosts, and the relay's health meanwhile.
    Connect,
    /// A steady stream beside clients of listRepos and listReposByCollection, in a relay that knows
    /// millions of accounts. Filling its store takes minutes, so only where it is named; of zlay only.
    Pages,
}

/// Measures, prints and writes what was found.
pub(super) fn run(args: &BenchArgs, stop: &Stop) -> io::Result<bool> {
    let launch = Launch {
        binary: args.relay_binary.clone(),
        command: args.relay_cmd.clone(),
        stranger: args.stranger,
        port: 3000,
        metrics_port: 3001,
        data_dir: None,
        log: args.relay_log.clone(),
        environment: args.environment.clone(),
        scratch: args.scratch.clone(),
    };
    let earlier = match &args.against {
        Some(file) => Some(serde_json::from_slice(&fs::read(file)?)?),
        None => None,
    };
    let wants = |stage| args.only.is_empty() || args.only.contains(&stage);
    let relay = args.relay_cmd.clone().unwrap_or_else(|| "zlay".to_owned());
    let mut report = Report::new(relay);
    if wants(Stage::Connect) {
        eprintln!("connecting to {} hosts", args.connect_hosts);
        let config = config(args, args.connect_hosts);
        report.connect = Some(stages::connect(&config, &launch, stop)?);
    }
    let alone = [Stage::Connect, Stage::Pages];
    if args.only.iter().any(|stage| !alone.contains(stage)) || args.only.is_empty() {
        eprintln!("making {} accounts", args.accounts);
        let config = config(args, args.hosts);
        let (accounts, records) = (args.accounts, args.records);
        let mut rig = Rig::start(&config, &launch, accounts, records, stop, |_| Ok(()))?;
        measure(args, &wants, &mut rig, &mut report, stop)?;
        report.disk = Some(rig.finish()?);
    }
    if args.only.contains(&Stage::Pages) {
        report.pages = Some(pages(args, &launch, stop)?);
    }
    print!("{}", report.text(earlier.as_ref())?);
    if let Some(file) = &args.out {
        fs::write(file, report.json()?)?;
        println!("written to {}", file.display());
    }
    Ok(true)
}

fn measure(
    args: &BenchArgs,
    wants: &dyn Fn(Stage) -> bool,
    rig: &mut Rig,
    report: &mut Report,
    stop: &Stop,
) -> io::Result<()> {
    let span = Duration::try_from_secs_f64(args.span).map_err(io::Error::other)?;
    if wants(Stage::Ingest) {
        eprintln!("{} events at once", args.events);
        report.ingest = Some(stages::ingest(rig, args.events, stop)?);
    }
    if wants(Stage::Delay) {
        for rate in &args.rates {
            eprintln!("{rate} events a second");
            report.delay.push(stages::delay(rig, *rate, span, stop)?);
        }
    }
    if wants(Stage::FanOut) {
        let rate = args.rates.first().copied().unwrap_or(600);
        eprintln!(
            "{rate} events a second to {:?} subscribers",
            args.subscribers
        );
        report.fan_out = stages::fan_out(rig, rate, span, &args.subscribers, stop)?;
    }
    if wants(Stage::Replay) {
        eprintln!("replaying {} events", rig.sent());
        report.replay = Some(stages::replay(rig, stop)?);
    }
    Ok(())
}

/// A relay of its own, whose store is filled before it starts.
fn pages(args: &BenchArgs, launch: &Launch, stop: &Stop) -> io::Result<pages::Pages> {
    if launch.command.is_some() {
        return Err(io::Error::other("only zlay's own store can be filled"));
    }
    let known = pages::known(args.known_accounts)?;
    let span = Duration::try_from_secs_f64(args.span).map_err(io::Error::other)?;
    let rate = args.rates.iter().copied().max().unwrap_or(2_000);
    let mut size = None;
    let mut rig = Rig::start(
        &config(args, args.hosts),
        launch,
        args.accounts,
        args.records,
        stop,
        |directory| {
            eprintln!("filling the store with {} accounts", known.accounts);
            known.fill(directory)?;
            size = Some(known.index(directory)?);
            Ok(())
        },
    )?;
    let size = size.ok_or(io::ErrorKind::NotFound)?;
    eprintln!("{rate} events a second, with and without queries");
    let load = pages::Load {
        rate,
        span,
        burst: args.events / 3,
    };
    let pages = pages::pages(&mut rig, known, size, load, stop)?;
    rig.finish()?;
    Ok(pages)
}

fn config(args: &BenchArgs, hosts: usize) -> Config {
    Config {
        seed: args.seed,
        hosts,
        tls: !args.plain,
        plc_tls: false,
        plc_port: 0,
    }
}
