//! All hosts of a cell. A process may not have enough files open to serve ten thousand of them, so
//! what is beyond its share is served by children, whose hosts connect and say nothing.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Args;
use rustix::process::{Resource, getrlimit};

use crate::{
    sim::{Config, Network},
    threads::{self, Role, Thread},
};

/// Open files of a host: its listener, its connection, and what wakes the thread of that.
const FILES_PER_HOST: u64 = 3;
/// Open files of everything else: subscribers, the directory, the relay's queries.
const FILES_RESERVED: u64 = 1_000;
/// Hosts of one process, at most, however many files it may open: so that the same hosts send on
/// every machine.
const HOSTS_PER_PROCESS_MAX: usize = 5_500;
/// Between two looks of a child at how many of its hosts are connected.
const LOOK: Duration = Duration::from_millis(20);
/// The stack of the thread that hears a child, in bytes.
const STACK_BYTES: usize = 128 << 10;

/// `zlay-sim network`: hosts that say nothing, for the lab. Ends with its standard input.
#[derive(Args, Clone, Debug)]
pub(crate) struct QuietArgs {
    #[arg(long)]
    hosts: usize,
    #[arg(long)]
    seed: u64,
    /// Where the certificate of the hosts' authority goes.
    #[arg(long)]
    ca_file: PathBuf,
}

/// Serves quiet hosts: prints `host URL` for each, `ready`, and `connected N` whenever that changes.
pub(crate) fn serve_quiet(args: &QuietArgs) -> io::Result<()> {
    let network = Network::start(&Config {
        seed: args.seed,
        hosts: args.hosts,
        tls: true,
        plc_tls: false,
        plc_port: 0,
    })?;
    fs::write(&args.ca_file, network.ca_pem().unwrap_or_default())?;
    for host in network.hosts() {
        println!("host {}", host.url());
    }
    println!("ready");
    let (stopper, stop) = threads::stop_pair();
    let input = threads::spawn(Role::Simulator, "input", STACK_BYTES, move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(stopper);
    })?;
    // It may wait for the terminal for ever; the process ends without it.
    input.detach();
    let mut told = 0;
    while !stop.wait(LOOK) {
        let now = connected(&network);
        // Whoever no longer listens closes the input, too.
        if now != told && writeln!(io::stdout(), "connected {now}").is_ok() {
            told = now;
        }
    }
    Ok(())
}

fn connected(network: &Network) -> usize {
    let hosts = network.hosts().iter();
    hosts.filter(|host| host.connected() > 0).count()
}

/// Running hosts; dropping them ends them.
pub(super) struct Landscape {
    /// The hosts of this process, which can send.
    pub(super) network: Arc<Network>,
    quiet: Vec<Quiet>,
    /// The authorities of all hosts.
    pub(super) ca_file: PathBuf,
}

impl Landscape {
    /// So many hosts, of which this process serves `per_process` at most. Certificates go to
    /// `directory`.
    pub(super) fn start(
        hosts: usize,
        per_process: usize,
        seed: u64,
        directory: &Path,
    ) -> io::Result<Landscape> {
        let per_process = per_process.max(1);
        let network = Network::start(&Config {
            seed,
            hosts: hosts.min(per_process),
            tls: true,
            plc_tls: false,
            plc_port: 0,
        })?;
        network.expected().ignore();
        for host in network.hosts() {
            host.set_backlog_bytes(0);
        }
        let mut pem = network.ca_pem().unwrap_or_default().to_owned();
        let mut left = hosts - network.len();
        let mut quiet = Vec::new();
        while left > 0 {
            let share = left.min(per_process);
            let number = quiet.len() + 1;
            let file = directory.join(format!("quiet-{number}.pem"));
            quiet.push(Quiet::start(share, seed + number as u64, &file)?);
            pem.push_str(&fs::read_to_string(&file)?);
            left -= share;
        }
        let ca_file = directory.join("hosts.pem");
        fs::write(&ca_file, pem)?;
        Ok(Landscape {
            network: Arc::new(network),
            quiet,
            ca_file,
        })
    }

    /// The URLs of all hosts.
    pub(super) fn urls(&self) -> Vec<String> {
        let own = self.network.hosts().iter().map(|host| host.url());
        let others = self.quiet.iter().flat_map(|quiet| quiet.urls.clone());
        own.chain(others).collect()
    }

    /// How many hosts are connected now.
    pub(super) fn connected(&self) -> usize {
        let others = self
            .quiet
            .iter()
            .map(|q| q.connected.load(Ordering::Relaxed));
        connected(&self.network) + others.sum::<usize>()
    }
}

/// How many hosts a process can serve with the files that it may open.
pub(super) fn hosts_per_process() -> usize {
    let files = getrlimit(Resource::Nofile).current;
    files.map_or(HOSTS_PER_PROCESS_MAX, |files| {
        let hosts = files.saturating_sub(FILES_RESERVED) / FILES_PER_HOST;
        (hosts as usize).clamp(1, HOSTS_PER_PROCESS_MAX)
    })
}

/// A child that serves hosts; dropping it ends it.
struct Quiet {
    child: Child,
    urls: Vec<String>,
    connected: Arc<AtomicUsize>,
    hearing: Option<Thread>,
}

impl Quiet {
    fn start(hosts: usize, seed: u64, ca_file: &Path) -> io::Result<Quiet> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["network", "--hosts", &hosts.to_string()]);
        command.args(["--seed", &seed.to_string(), "--ca-file"]);
        command.arg(ca_file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // A Ctrl-C in the terminal is meant for this program, which ends the child in its turn.
        let mut child = command.process_group(0).spawn()?;
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let connected = Arc::new(AtomicUsize::new(0));
        let mut quiet = Quiet {
            child,
            urls: Vec::with_capacity(hosts),
            connected: connected.clone(),
            hearing: None,
        };
        let mut lines = BufReader::new(output).lines();
        loop {
            match lines.next().transpose()?.as_deref() {
                Some("ready") => break,
                Some(line) => match line.strip_prefix("host ") {
                    Some(url) => quiet.urls.push(url.to_owned()),
                    None => return Err(io::Error::other(format!("quiet hosts said: {line}"))),
                },
                None => return Err(io::Error::other("the process of quiet hosts has ended")),
            }
        }
        let hearing = threads::spawn(Role::Simulator, "quiet", STACK_BYTES, move || {
            for line in lines.map_while(Result::ok) {
                let count = line.strip_prefix("connected ").and_then(|n| n.parse().ok());
                if let Some(count) = count {
                    connected.store(count, Ordering::Relaxed);
                }
            }
            connected.store(0, Ordering::Relaxed);
        })?;
        quiet.hearing = Some(hearing);
        Ok(quiet)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        drop(self.hearing.take());
    }
}
