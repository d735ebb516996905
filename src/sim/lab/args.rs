//! What the lab can be asked for.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::plan::{Cell, Variant};
use crate::sim::cli::duration;

const HOSTS: [usize; 5] = [250, 1_000, 2_750, 5_000, 10_000];
const HOSTS_QUICK: [usize; 2] = [100, 250];
const BASE_HOSTS: usize = 2_750;
const STACKS_KIB: [u32; 5] = [256, 512, 1_024, 2_048, 8_192];
const STACKS_KIB_QUICK: [u32; 2] = [256, 2_048];
const BASE_STACK_KIB: u32 = 2_048;
const IDLE: Duration = Duration::from_secs(5);
const LOAD: Duration = Duration::from_secs(20);
const LOAD_QUICK: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(5);
/// A relay may need a while to write a burst to its disk.
const CALM: Duration = Duration::from_secs(15);
const SETTLE_QUICK: Duration = Duration::from_secs(2);

const ABOUT_VARIANTS: &str = "A relay to measure, under a name of your choice, with variables of \
its environment; may be repeated. Left out: the zlay beside this program. Any relay will do that \
reads zlay's variables (a wrapper script may translate them)";

/// `zlay-sim memlab`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MemlabArgs {
    #[arg(long = "allocator", value_name = "NAME=BINARY[,VAR=VALUE...]", help = ABOUT_VARIANTS)]
    #[arg(value_parser = Variant::parse)]
    variants: Vec<Variant>,
    /// Numbers of hosts [default: 250,1000,2750,5000,10000].
    #[arg(long, value_delimiter = ',', value_name = "HOSTS")]
    hosts: Vec<usize>,
    /// Stacks of host and subscriber threads (RELAY_THREAD_STACK_KIB)
    /// [default: 256,512,1024,2048,8192].
    #[arg(long, value_delimiter = ',', value_name = "KIB")]
    stacks: Vec<u32>,
    /// The number of hosts at which stacks are compared [default: 2750, or the largest of --hosts].
    #[arg(long, value_name = "HOSTS")]
    base_hosts: Option<usize>,
    /// The stack at which numbers of hosts are compared [default: 2048, or the largest of --stacks].
    #[arg(long, value_name = "KIB")]
    base_stack: Option<u32>,
    /// Which cells [default: both; base with --identities or --soak].
    #[arg(long, value_enum)]
    design: Option<Design>,
    /// Fewer and smaller cells and shorter phases, to try the lab out.
    #[arg(long)]
    quick: bool,
    /// How long nothing happens before the idle sample [default: 5s].
    #[arg(long, value_parser = duration, value_name = "TIME")]
    idle: Option<Duration>,
    /// How long the load lasts [default: 20s].
    #[arg(long, value_parser = duration, value_name = "TIME")]
    load: Option<Duration>,
    /// How long nothing happens after the burst, before its sample [default: 5s].
    #[arg(long, value_parser = duration, value_name = "TIME")]
    settle: Option<Duration>,
    /// Subscribers have taken nothing for this long, and the burst is over [default: 15s].
    #[arg(long, value_parser = duration, value_name = "TIME")]
    calm: Option<Duration>,
    /// Events a second under load, over all hosts of the first process.
    #[arg(long, default_value_t = 600.0)]
    rate: f64,
    /// Subscribers under load and in the burst.
    #[arg(long, default_value_t = 20)]
    subscribers: usize,
    /// The text of the large record that every host sends in the burst, in bytes.
    #[arg(long, default_value_t = 500_000, value_name = "BYTES")]
    large: usize,
    /// Ordinary events after the large ones.
    #[arg(long, default_value_t = 3_000, value_name = "EVENTS")]
    burst_events: usize,
    /// Before the load: further accounts, one #account event of each, so that the relay looks up
    /// and caches their identities.
    #[arg(long, default_value_t = 0, value_name = "ACCOUNTS")]
    identities: u64,
    /// The load lasts so long instead, and is sampled all the while: is memory flat?
    #[arg(long, value_parser = duration, value_name = "TIME")]
    soak: Option<Duration>,
    /// Between two samples of a soak.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    soak_interval: Duration,
    /// Where the results go.
    #[arg(long, default_value = "memlab-results", value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Where the relays keep their data, each in a new directory that is removed afterwards; a burst
    /// at 5,000 hosts writes gigabytes [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where all choices come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hosts of one process of the simulator, at most: what its open files allow when left out.
    #[arg(long, hide = true)]
    hosts_per_process: Option<usize>,
}

/// Which cells there are.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Design {
    /// Stacks and hosts.
    Both,
    /// Every stack with every allocator, at --base-hosts.
    Stacks,
    /// Every number of hosts with every allocator, at --base-stack.
    Hosts,
    /// Every allocator, at --base-hosts and --base-stack.
    Base,
}

/// What is the same for all cells.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Conditions {
    pub(super) base_hosts: usize,
    pub(super) base_stack_kib: u32,
    pub(super) idle: Duration,
    pub(super) load: Duration,
    pub(super) settle: Duration,
    pub(super) calm: Duration,
    pub(super) rate: f64,
    pub(super) subscribers: usize,
    pub(super) large_bytes: usize,
    pub(super) burst_events: usize,
    pub(super) identities: u64,
    /// Between two samples, where the load is a soak.
    pub(super) soak: Option<Duration>,
    pub(super) data_dir: PathBuf,
    /// Where the relays' logs go.
    pub(super) logs: PathBuf,
    pub(super) seed: u64,
    pub(super) hosts_per_process: Option<usize>,
}

impl MemlabArgs {
    pub(super) fn conditions(&self) -> Conditions {
        let or = |given: Option<Duration>, quick: Duration, full: Duration| {
            given.unwrap_or(if self.quick { quick } else { full })
        };
        let (hosts, stacks) = (self.all_hosts(), self.all_stacks());
        let base_hosts = Some(BASE_HOSTS).filter(|base| hosts.contains(base));
        let base_stack = Some(BASE_STACK_KIB).filter(|base| stacks.contains(base));
        Conditions {
            base_hosts: self
                .base_hosts
                .or(base_hosts)
                .or(hosts.iter().copied().max())
                .unwrap_or(BASE_HOSTS),
            base_stack_kib: self
                .base_stack
                .or(base_stack)
                .or(stacks.iter().copied().max())
                .unwrap_or(BASE_STACK_KIB),
            idle: or(self.idle, SETTLE_QUICK, IDLE),
            load: self.soak.unwrap_or(or(self.load, LOAD_QUICK, LOAD)),
            settle: or(self.settle, SETTLE_QUICK, SETTLE),
            calm: or(self.calm, SETTLE_QUICK, CALM),
            rate: self.rate,
            subscribers: self.subscribers,
            large_bytes: self.large,
            burst_events: self.burst_events,
            identities: self.identities,
            soak: self.soak.map(|_| self.soak_interval),
            data_dir: self.data_dir.clone().unwrap_or_else(std::env::temp_dir),
            logs: self.out.join("logs"),
            seed: self.seed,
            hosts_per_process: self.hosts_per_process,
        }
    }

    /// Every cell once, those at the base first: they say the most.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let Conditions {
            base_hosts,
            base_stack_kib,
            ..
        } = self.conditions();
        let special = self.identities > 0 || self.soak.is_some();
        let design = match (self.design, special) {
            (Some(design), _) => design,
            (None, true) => Design::Base,
            (None, false) => Design::Both,
        };
        let mut points = vec![(base_hosts, base_stack_kib)];
        if matches!(design, Design::Both | Design::Stacks) {
            let stacks = self.all_stacks().into_iter();
            points.extend(stacks.map(|stack| (base_hosts, stack)));
        }
        if matches!(design, Design::Both | Design::Hosts) {
            let hosts = self.all_hosts().into_iter();
            points.extend(hosts.map(|hosts| (hosts, base_stack_kib)));
        }
        let mut cells = Vec::new();
        for (hosts, stack_kib) in points {
            for variant in self.variants() {
                let cell = Cell {
                    variant,
                    hosts,
                    stack_kib,
                };
                if !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
        }
        cells
    }

    fn variants(&self) -> Vec<Variant> {
        if self.variants.is_empty() {
            vec![Variant::beside()]
        } else {
            self.variants.clone()
        }
    }

    fn all_hosts(&self) -> Vec<usize> {
        match (self.hosts.is_empty(), self.quick) {
            (false, _) => self.hosts.clone(),
            (true, false) => HOSTS.to_vec(),
            (true, true) => HOSTS_QUICK.to_vec(),
        }
    }

    fn all_stacks(&self) -> Vec<u32> {
        match (self.stacks.is_empty(), self.quick) {
            (false, _) => self.stacks.clone(),
            (true, false) => STACKS_KIB.to_vec(),
            (true, true) => STACKS_KIB_QUICK.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: MemlabArgs,
    }

    fn args(words: &[&str]) -> MemlabArgs {
        Cli::parse_from(["memlab"].iter().chain(words)).args
    }

    const TWO: [&str; 4] = [
        "--allocator",
        "a=/a",
        "--allocator",
        "b=/b,MALLOC_ARENA_MAX=2",
    ];

    #[test]
    fn each_cell_is_there_once() {
        let cells = args(&TWO).cells();
        // Five stacks and five numbers of hosts, of which one point is both.
        assert_eq!(cells.len(), 2 * 9);
        assert_eq!((cells[0].hosts, cells[0].stack_kib), (2_750, 2_048));
        assert_eq!(cells[1].variant.name, "b");
        let at_base = |c: &&Cell| c.hosts == 2_750 && c.stack_kib == 2_048;
        assert_eq!(cells.iter().filter(at_base).count(), 2);
        let quick = args(&["--quick"]);
        assert_eq!(quick.cells().len(), 3);
        assert_eq!(quick.conditions().base_hosts, 250);
    }

    #[test]
    fn long_runs_are_made_at_one_point() {
        let soak = args(&["--soak", "10m", "--quick"]);
        assert_eq!(soak.cells().len(), 1);
        assert_eq!(soak.conditions().load, Duration::from_secs(600));
        assert_eq!(soak.conditions().soak, Some(Duration::from_secs(5)));
        assert_eq!(args(&["--identities", "9"]).cells().len(), 1);
        let all = ["--identities", "9", "--design", "hosts"];
        assert_eq!(args(&all).cells().len(), 5);
    }

    #[test]
    fn what_is_given_is_the_base_where_the_usual_one_is_not() {
        let few = args(&["--hosts", "10,20", "--stacks", "256"]);
        let conditions = few.conditions();
        assert_eq!(
            (conditions.base_hosts, conditions.base_stack_kib),
            (20, 256)
        );
        let chosen = args(&["--base-hosts", "7", "--base-stack", "512"]).conditions();
        assert_eq!((chosen.base_hosts, chosen.base_stack_kib), (7, 512));
    }
}
