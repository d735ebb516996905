//! The configuration: environment variables, each with a flag of the same name, parsed once.
//!
//! A variable that begins with `RELAY_` and is not known is an error that names the nearest known
//! one: a misspelt limit must not silently be the default.

#[cfg(test)]
mod described;
mod effective;
mod secret;
mod values;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use self::effective::Setting;
use self::{
    effective::{secret_setting, settings},
    values::{bytes, contact, http_url, interval, name, page_url, port},
};

pub use self::secret::Secret;

/// The command line of `zlay`.
#[derive(Parser, Debug)]
#[command(name = "zlay", version, about, long_about = LONG_ABOUT, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; `serve` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The configuration of `serve`.
    #[command(flatten)]
    pub config: Config,
    /// Every variable and what it is set to, for people.
    #[arg(skip)]
    pub settings: Vec<Setting>,
}

const LONG_ABOUT: &str = "zlay is an AT Protocol relay: it subscribes to the firehose of every PDS \
host, verifies every event, merges them into one sequenced stream and serves that stream to \
subscribers.\n\nEvery option is also an environment variable (--port is RELAY_PORT). Without any, \
zlay serves on port 3000, keeps its state in ./data, and asks bsky.network for its list of hosts.";

const AFTER_HELP: &str = "Secrets come from the environment, or from files that RELAY_ADMIN_PASSWORD_FILE \
and DATABASE_URL_FILE name (credentials of systemd, secrets of containers):\n  \
RELAY_ADMIN_PASSWORD  password of the admin API; unset: the admin API answers 403\n  \
DATABASE_URL          postgres://USER:PASSWORD@HOST/DATABASE keeps what the operator decides and \
what is known of hosts; unset: RELAY_DATA_DIR does. Options: ?sslmode=disable, prefer (the default), \
require. Wherever TLS is used the certificate is verified (RELAY_EXTRA_CA_FILE)\n\n\
Examples:\n  zlay                                  crawl the whole network\n  \
zlay --upstream none                  only hosts that ask for it (requestCrawl)\n  \
RELAY_PORT=8080 RUST_LOG=debug zlay   another port, more to read\n  \
zlay top                              what it does, live in the terminal\n\n\
RUST_LOG sets the log level (error, warn, info, debug, trace), also per module:\n  \
RUST_LOG=info,zlay::rejected=debug    every event that is not forwarded, and why\n  \
RUST_LOG=info,zlay::host=debug        connections to hosts\n  \
RUST_LOG=warn                         only what is wrong\n\
Lines of one kind are limited to 10 a second; left_out= counts the others.\n\n\
Exit codes: 0 after SIGTERM or SIGINT; 1 when it could not start, a host was not taken (crawl), the relay can not \
be reached (top), or is not well (health); \
2 for a wrong option or variable; 70 after a fault in a thread that it needs; 71 when the store can \
not be read or written; 72 when a stop took over 30 seconds.";

/// What `zlay` can do.
#[derive(Subcommand, Debug, Clone)]
pub enum Command {
    /// Run the relay (the default).
    Serve,
    /// Ask a running relay to crawl hosts, as anybody may (requestCrawl).
    Crawl {
        /// Hostnames, such as pds.example.com.
        #[arg(required = true)]
        hosts: Vec<String>,
        /// The relay to ask.
        #[arg(long, default_value = "http://localhost:3000")]
        relay: String,
    },
    /// Ask the relay of this machine how it does, as a probe of a container does. Exit code 1 when it is
    /// not well, or does not answer.
    Health {
        /// Its internal port; where RELAY_METRICS_BIND and RELAY_METRICS_PORT say when left out.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
        /// Whether subscribers should be sent there (/readyz), and not only whether events get through
        /// (/healthz).
        #[arg(long)]
        ready: bool,
    },
    /// Hosts of a running relay.
    Hosts {
        /// What to do.
        #[command(subcommand)]
        command: HostsCommand,
    },
    /// A running relay, live in the terminal: events, delay, subscribers, and its hosts by rate.
    #[command(after_help = TOP_AFTER_HELP)]
    Top {
        /// The relay to look at.
        #[arg(long, default_value = "http://localhost:3000", value_name = "URL")]
        relay: String,
        /// The time between two looks: 500ms, 1s, 1m.
        #[arg(long, default_value = "1s", value_name = "TIME", value_parser = interval)]
        interval: Duration,
        /// Print it once, as plain text, and end; exit code 1 when the relay can not be reached.
        #[arg(long)]
        once: bool,
        /// Hosts in plain text, the first of the order; all of them when left out.
        #[arg(long, value_name = "NUMBER")]
        hosts: Option<usize>,
    },
    /// The control store: what the operator decides, and what is known of hosts.
    Control {
        /// What to do.
        #[command(subcommand)]
        command: ControlCommand,
    },
}

/// What `zlay control` can do.
#[derive(Subcommand, Debug, Clone)]
pub enum ControlCommand {
    /// Copy everything from the data directory (RELAY_DATA_DIR) to the database (DATABASE_URL), or
    /// back, while no relay runs on either.
    #[command(after_help = COPY_AFTER_HELP)]
    Copy {
        /// Where to; the source is the other one.
        #[arg(long, value_enum)]
        to: ControlStore,
        /// Replace everything that the target holds; else a target with hosts, bans, takedowns or
        /// settings is refused.
        #[arg(long)]
        overwrite: bool,
    },
}

const COPY_AFTER_HELP: &str = "Copied are hosts with their limits and states, banned domains, \
takedowns, settings, notes of long jobs, the audit log, and the mirror of seq and cursors; not \
events, which stay where they are. All of it arrives, and is read back, or nothing changes. The source \
stays as it is.\n\nExamples:\n  \
DATABASE_URL=postgres://relay:PASSWORD@db/zlay zlay control copy --to postgres\n  \
zlay --data-dir /var/lib/zlay control copy --to embedded --overwrite";

const TOP_AFTER_HELP: &str = "Keys: q quit; s sort by the next column; f failing hosts only, or all \
again; arrows, page up and down, home and end scroll.\n\n\
Where there is no terminal (a pipe, TERM=dumb) it prints plain text once in each interval. What is not \
known is shown as -. Everything shown is public; with RELAY_ADMIN_PASSWORD in the environment, and \
over https or on this machine only, it is also told how far the slowest subscriber is behind.\n\n\
Examples:\n  zlay top --relay https://relay.example.com\n  \
zlay top --once --hosts 20 | mail -s relay me@example.com\n  \
NO_COLOR=1 zlay top --interval 5s";

/// The two places for a control store.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlStore {
    /// The database that DATABASE_URL names.
    Postgres,
    /// The data directory.
    Embedded,
}

/// What `zlay hosts` can do.
#[derive(Subcommand, Debug, Clone)]
pub enum HostsCommand {
    /// Ask a running relay to crawl every host that another relay lists. With RELAY_ADMIN_PASSWORD
    /// this is the operator's wish, for which no limit of new hosts holds; without it, requestCrawl
    /// takes a few each day. (A relay asks RELAY_UPSTREAM by itself.)
    Pull {
        /// The relay whose list is read.
        #[arg(long, default_value = "bsky.network", value_name = "HOST")]
        from: String,
        /// The relay to ask.
        #[arg(long, default_value = "http://localhost:3000", value_name = "URL")]
        relay: String,
    },
}

/// When a batch is durable.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fsync {
    /// Synced to disk before its events are visible.
    Batch,
    /// Left to the operating system: a power loss may lose the last seconds, and the seq then
    /// jumps ahead by a margin at the next start.
    Off,
}

/// The form of log lines.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Everything an operator can set.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address of the public listener: firehose, queries, requestCrawl, health, status page, admin.
    #[arg(
        long,
        env = "RELAY_BIND",
        default_value = "0.0.0.0",
        value_name = "ADDRESS"
    )]
    pub bind: IpAddr,
    /// Port of the public listener (0: any free one, written to the log).
    #[arg(long, env = "RELAY_PORT", default_value_t = 3000, value_parser = port)]
    pub port: u16,
    /// Address of the internal listener: metrics, probes. Never let strangers reach it.
    #[arg(
        long,
        env = "RELAY_METRICS_BIND",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    pub metrics_bind: IpAddr,
    /// Port of the internal listener (0: any free one, written to the log).
    #[arg(long, env = "RELAY_METRICS_PORT", default_value_t = 3001, value_parser = port)]
    pub metrics_port: u16,
    /// Where events and state are kept; one relay a directory.
    #[arg(
        long,
        env = "RELAY_DATA_DIR",
        default_value = "./data",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
    /// A relay that is asked in the background, at the start and every four hours, for its list of
    /// hosts; `none` to skip.
    #[arg(
        long,
        env = "RELAY_UPSTREAM",
        default_value = "bsky.network",
        value_name = "HOST"
    )]
    pub upstream: String,
    /// The PLC directory.
    #[arg(
        long,
        env = "RELAY_PLC_URL",
        default_value = "https://plc.directory",
        value_name = "URL",
        value_parser = http_url
    )]
    pub plc_url: String,
    /// Hours that events can be replayed.
    #[arg(
        long,
        env = "RELAY_RETENTION_HOURS",
        default_value_t = 72,
        value_name = "HOURS"
    )]
    pub retention_hours: u32,
    /// Bytes of events on disk; the window ends at whichever of the two comes first. Takes K, M,
    /// G, T.
    #[arg(long, env = "RELAY_RETENTION_BYTES", value_name = "BYTES", value_parser = bytes)]
    pub retention_bytes: Option<u64>,
    /// Bytes of the disk with the data directory that are left to the store itself: with less free,
    /// nothing more is taken of hosts until there is room. Unset: 5 % of the disk, at least 128M and
    /// at most 2G; 0: a full disk ends the process. Takes K, M, G, T.
    #[arg(long, env = "RELAY_DISK_RESERVE", value_name = "BYTES", value_parser = bytes)]
    pub disk_reserve: Option<u64>,
    /// When a batch is durable.
    #[arg(long, env = "RELAY_FSYNC", value_enum, default_value_t = Fsync::Batch)]
    pub fsync: Fsync,
    /// For private networks and tests: hosts may have loopback and private addresses and any port;
    /// `localhost:PORT` is spoken to without TLS unless given with https://.
    #[arg(
        long,
        env = "RELAY_ALLOW_PRIVATE_HOSTS",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub allow_private_hosts: bool,
    /// PEM file of further trusted roots, for private networks.
    #[arg(long, env = "RELAY_EXTRA_CA_FILE", value_name = "FILE")]
    pub extra_ca_file: Option<PathBuf>,
    /// Let commits without Sync 1.1 fields pass, counted. Signatures are checked all the same. For
    /// one host only: /admin/pds/changeLimits.
    #[arg(
        long,
        env = "RELAY_LENIENT_SYNC_VALIDATION",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub lenient_sync_validation: bool,
    /// Hosts that may send 5,000 events a second and have no limit of accounts, of events an hour
    /// and a day, or of new hosts a day; comma separated, `*.` matches every subdomain.
    #[arg(
        long,
        env = "RELAY_TRUSTED_DOMAINS",
        default_value = "*.host.bsky.network",
        value_delimiter = ',',
        value_name = "DOMAINS"
    )]
    pub trusted_domains: Vec<String>,
    /// Accounts of a host that is not trusted, unless /admin/pds/changeLimits says otherwise.
    #[arg(
        long,
        env = "RELAY_DEFAULT_ACCOUNT_LIMIT",
        default_value_t = 100,
        value_name = "ACCOUNTS"
    )]
    pub default_account_limit: u64,
    /// Hosts that are not trusted and that requestCrawl may add in a day; the operator has no
    /// limit.
    #[arg(
        long,
        env = "RELAY_NEW_HOSTS_PER_DAY_LIMIT",
        default_value_t = 50,
        value_name = "HOSTS"
    )]
    pub new_hosts_per_day_limit: u64,
    /// Let requestCrawl add no hosts; those that are known may still ask, and the operator may add
    /// some.
    #[arg(
        long,
        env = "RELAY_DISABLE_REQUEST_CRAWL",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub disable_request_crawl: bool,
    /// Relays of the same operator, comma separated: each gets what is asked of this one by
    /// requestCrawl, and what is decided here by admin routes.
    #[arg(
        long,
        env = "RELAY_SIBLING_RELAYS",
        value_delimiter = ',',
        value_name = "URLS"
    )]
    pub sibling_relays: Vec<String>,
    /// The next seq is at least this.
    #[arg(
        long,
        env = "RELAY_INITIAL_SEQ_NUMBER",
        default_value_t = 1,
        value_name = "SEQ",
        value_parser = clap::value_parser!(u64).range(1..(1 << 53))
    )]
    pub initial_seq_number: u64,
    /// Stack of every host and subscriber thread, in KiB.
    #[arg(
        long,
        env = "RELAY_THREAD_STACK_KIB",
        default_value_t = 2048,
        value_name = "KIB",
        value_parser = clap::value_parser!(u32).range(64..=65_536)
    )]
    pub thread_stack_kib: u32,
    /// Threads that look identities up.
    #[arg(
        long,
        env = "RELAY_RESOLVER_THREADS",
        default_value_t = 4,
        value_name = "THREADS",
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub resolver_threads: u16,
    /// Identities kept in memory.
    #[arg(
        long,
        env = "RELAY_IDENTITY_CACHE_SIZE",
        default_value_t = 500_000,
        value_name = "IDENTITIES",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub identity_cache_size: u32,
    /// What the relay is called on its pages.
    #[arg(long, env = "RELAY_NAME", value_name = "NAME", value_parser = name)]
    pub name: Option<String>,
    /// How people reach the operator, shown on the pages: an address of mail, or a URL.
    #[arg(long, env = "RELAY_CONTACT", value_name = "MAIL|URL", value_parser = contact)]
    pub contact: Option<String>,
    /// Where people read what holds for those who use the relay, shown on the pages.
    #[arg(long, env = "RELAY_POLICY_URL", value_name = "URL", value_parser = page_url)]
    pub policy_url: Option<String>,
    /// The form of log lines; RUST_LOG sets the level.
    #[arg(long, env = "RELAY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// From the environment only.
    #[arg(skip)]
    pub admin_password: Option<Secret>,
    /// From the environment only.
    #[arg(skip)]
    pub database_url: Option<Secret>,
}

impl Cli {
    /// Parses the command line and the environment; prints the error and ends the process where
    /// one of them is wrong.
    pub fn parse_or_exit() -> Cli {
        let matches = Cli::command().get_matches();
        let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let names: Vec<String> = std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect();
        if let Some(error) = unknown_variable(names.iter().map(String::as_str)) {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
        let secret = |name| {
            secret::from_environment(name).unwrap_or_else(|error| {
                eprintln!("error: {error}");
                std::process::exit(2);
            })
        };
        cli.config.admin_password = secret("RELAY_ADMIN_PASSWORD");
        cli.config.database_url = secret("DATABASE_URL");
        cli.settings = settings(&Cli::command(), &matches);
        let secrets = [&cli.config.admin_password, &cli.config.database_url];
        for (name, value) in secret::NAMES.iter().zip(secrets) {
            cli.settings.push(secret_setting(name, value.as_ref()));
            cli.settings.push(secret::file_setting(name));
        }
        cli
    }
}

impl Config {
    /// The stack of host and subscriber threads, in bytes.
    pub fn connection_stack_bytes(&self) -> usize {
        self.thread_stack_kib as usize * 1024
    }

    /// Where this machine reaches the internal listener.
    pub fn internal_url(&self) -> String {
        let address = match self.metrics_bind {
            IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        format!("http://{}", SocketAddr::new(address, self.metrics_port))
    }

    /// How long events can be replayed.
    pub fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.retention_hours) * 3600)
    }

    /// The relay to ask for its host list, if any.
    pub fn upstream(&self) -> Option<&str> {
        Some(self.upstream.trim()).filter(|u| !u.is_empty() && !u.eq_ignore_ascii_case("none"))
    }
}

/// Every variable that the configuration knows.
pub fn variables() -> Vec<String> {
    let command = Cli::command();
    let mut names: Vec<String> = command
        .get_arguments()
        .filter_map(|arg| arg.get_env()?.to_str().map(str::to_owned))
        .chain(secret::variables())
        .collect();
    names.sort();
    names
}

/// The error for the first name that begins with `RELAY_` and is not known.
fn unknown_variable<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let known = variables();
    let unknown = names
        .filter(|name| name.starts_with("RELAY_"))
        .find(|name| !known.iter().any(|k| k == name))?;
    let nearest = known.iter().max_by(|a, b| {
        strsim::jaro_winkler(a, unknown).total_cmp(&strsim::jaro_winkler(b, unknown))
    });
    Some(format!(
        "unknown environment variable {unknown}; did you mean {}? (`zlay --help` lists all)",
        nearest.map_or("another one", String::as_str)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"zlay").chain(args)).map(|cli| cli.config)
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = parse(&[]).unwrap();
        assert_eq!((config.port, config.metrics_port), (3000, 3001));
        assert_eq!(config.upstream(), Some("bsky.network"));
        assert_eq!(config.connection_stack_bytes(), 2 << 20);
        assert_eq!(parse(&["--upstream", "none"]).unwrap().upstream(), None);
    }

    #[test]
    fn a_misspelt_variable_is_named_with_its_neighbour() {
        let error = unknown_variable(["PATH", "RELAY_RETENTION_HOUR"].into_iter()).unwrap();
        assert!(error.contains("RELAY_RETENTION_HOURS"), "{error}");
        assert_eq!(
            unknown_variable(variables().iter().map(String::as_str)),
            None
        );
    }

    #[test]
    fn what_pages_link_to_can_be_no_script() {
        let contact = |text: &str| parse(&["--contact", text]).map(|c| c.contact.unwrap()).ok();
        for (text, expected) in [
            ("ops@example.com", "mailto:ops@example.com"),
            ("mailto:ops@example.com", "mailto:ops@example.com"),
            ("https://example.com/contact", "https://example.com/contact"),
        ] {
            assert_eq!(contact(text).as_deref(), Some(expected));
        }
        let long = format!("https://example.com/{}", "x".repeat(300));
        for bad in [
            "javascript:alert(1)@a.b",
            "ops",
            "a@b",
            "a b@example.com",
            "",
            &long,
        ] {
            assert_eq!(contact(bad), None, "{bad}");
        }
        let policy = |text: &str| parse(&["--policy-url", text]).is_ok();
        assert!(policy("https://example.com/policy") && policy("http://localhost"));
        for bad in [
            "javascript:alert(1)",
            "mailto:a@b.c",
            "https://",
            "https://a b",
            &long,
        ] {
            assert!(!policy(bad), "{bad}");
        }
        assert!(parse(&["--name", "Our relay"]).is_ok());
        assert!(parse(&["--name", "two\nlines"]).is_err() && parse(&["--name", " "]).is_err());
    }

    #[test]
    fn values_are_checked_and_explained() {
        assert_eq!(
            parse(&["--retention-bytes", "20GiB"])
                .unwrap()
                .retention_bytes,
            Some(20 << 30)
        );
        assert_eq!(
            parse(&["--retention-bytes", "5g"]).unwrap().retention_bytes,
            Some(5 << 30)
        );
        let error = parse(&["--port", "tcp://10.43.0.1:3000"])
            .unwrap_err()
            .to_string();
        assert!(error.contains("enableServiceLinks"), "{error}");
        assert!(parse(&["--plc-url", "plc.directory"]).is_err());
        assert!(parse(&["--thread-stack-kib", "16"]).is_err());
        assert!(parse(&["--retention-bytes", "5X"]).is_err());
    }

    #[test]
    fn the_internal_port_is_reached_from_the_same_machine() {
        let url = |bind| parse(&["--metrics-bind", bind]).unwrap().internal_url();
        assert_eq!(url("0.0.0.0"), "http://127.0.0.1:3001");
        assert_eq!(url("::"), "http://[::1]:3001");
        assert_eq!(url("10.1.2.3"), "http://10.1.2.3:3001");
    }

    #[test]
    fn flags_and_variables_carry_the_same_names() {
        let command = Cli::command();
        for arg in command.get_arguments() {
            let Some(env) = arg.get_env() else { continue };
            let flag = arg.get_long().unwrap().replace('-', "_").to_uppercase();
            assert_eq!(env.to_str().unwrap(), format!("RELAY_{flag}"));
        }
    }

    #[test]
    fn the_readme_lists_every_variable_with_its_default() {
        let readme = include_str!("../README.md");
        let command = Cli::command();
        for arg in command.get_arguments() {
            let Some(env) = arg.get_env().and_then(|env| env.to_str()) else {
                continue;
            };
            let default = match arg.get_default_values() {
                [] => "unset".to_owned(),
                [value] => format!("`{}`", value.to_str().unwrap()),
                values => panic!("{env}: {values:?}"),
            };
            let row = format!("| `{env}` | {default} |");
            assert!(readme.contains(&row), "the table of the README lacks {row}");
        }
        for secret in secret::variables() {
            assert!(readme.contains(&format!("| `{secret}` |")), "{secret}");
        }
    }
}
