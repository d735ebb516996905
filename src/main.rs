//! The relay's program: reads the configuration, runs the relay, stops it when told to.

use std::{io, process::ExitCode};

use log::LevelFilter;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use zlay::{
    config::{Cli, Command, Config, ControlCommand, HostsCommand, Setting},
    control::copy::copy,
    descriptors,
    http::client,
    limits::{SERVICE_STACK_BYTES, STOP_TIMEOUT},
    logging::{self, Reporter},
    memory::heap,
    outbound::Outbound,
    relay::{Relay, StartError},
    service::Service,
    startup::{self, Machine},
    threads::{self, Role},
    top,
};

#[cfg(all(feature = "mimalloc", feature = "jemalloc"))]
compile_error!("choose one allocator: mimalloc or jemalloc");

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code when a stop took too long.
const EXIT_STOP_TIMEOUT: i32 = 72;

fn main() -> ExitCode {
    // Before there is anything in it, and before there are threads.
    let allocator = heap::configure();
    let cli = Cli::parse_or_exit();
    if let None | Some(Command::Serve) = cli.command {
        heap::start_over();
    }
    logging::init(cli.config.log_format, LevelFilter::Info);
    log::debug!(allocator = heap::ALLOCATOR; "{allocator}");
    let done = match &cli.command {
        None | Some(Command::Serve) => serve(&cli.config, &cli.settings).map(|()| true),
        Some(Command::Crawl { hosts, relay }) => crawl(&cli.config, hosts, relay),
        Some(Command::Health { url, ready }) => health(&cli.config, url.as_deref(), *ready),
        Some(Command::Hosts { command }) => hosts(&cli.config, command),
        Some(Command::Top {
            relay,
            interval,
            once,
            hosts,
        }) => {
            let options = top::Options {
                relay: relay.clone(),
                interval: *interval,
                once: *once,
                hosts: *hosts,
            };
            look(&cli.config, &options).map(|()| true)
        }
        Some(Command::Control { command }) => control(&cli.config, command).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the relay until SIGTERM or SIGINT.
fn serve(config: &Config, settings: &[Setting]) -> Result<(), StartError> {
    // Before anything else, so that a signal during the start is not lost.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    // A host and a subscriber need some files each, and so does the store.
    let machine = Machine::read(descriptors::raise());
    startup::announce(config, settings, &machine);
    // Dropped last: what the stop leaves out is counted too.
    let _reporter = Reporter::start()?;
    let service = Service::from_environment();
    let relay = Relay::start(config)?;
    let (public, internal) = (relay.public_address(), relay.internal_address());
    log::info!(public:% = public, internal:% = internal; "listening");
    service.ready(relay.health(), relay.board());
    let signal = signals.forever().next();
    service.stopping();
    log::info!(signal = signal; "stopping");
    let watchdog = threads::spawn(Role::Signals, "watchdog", SERVICE_STACK_BYTES, || {
        std::thread::sleep(STOP_TIMEOUT);
        log::error!("the stop took longer than {STOP_TIMEOUT:?}; ending at once");
        logging::flush();
        std::process::exit(EXIT_STOP_TIMEOUT);
    })?;
    watchdog.detach();
    relay.stop()
}

/// Asks a running relay to crawl hosts; false where it would not take all of them.
fn crawl(config: &Config, hosts: &[String], relay: &str) -> Result<bool, StartError> {
    let outbound = Outbound::new(config)?;
    let relay = client::Relay::new(&outbound, relay, None)?;
    Ok(relay.crawl(hosts, &mut io::stdout())?)
}

/// Asks the relay of this machine how it does; false where it is not well.
fn health(config: &Config, url: Option<&str>, ready: bool) -> Result<bool, StartError> {
    let own = config.internal_url();
    // It is asked without TLS or with, at any address: the operator has named it.
    let mut anywhere = config.clone();
    anywhere.allow_private_hosts = true;
    let outbound = Outbound::new(&anywhere)?;
    let relay = client::Relay::new(&outbound, url.unwrap_or(&own), None)?;
    Ok(relay.health(ready, &mut io::stdout())?)
}

/// Asks a running relay to crawl what another one lists; false where it would not take them.
fn hosts(config: &Config, command: &HostsCommand) -> Result<bool, StartError> {
    let HostsCommand::Pull { from, relay } = command;
    // Both are places that the operator has named.
    let mut anywhere = config.clone();
    anywhere.allow_private_hosts = true;
    let outbound = Outbound::new(&anywhere)?;
    let password = config.admin_password.as_ref();
    let relay = client::Relay::new(&outbound, relay, password)?;
    Ok(relay.pull(from, &mut io::stdout())?)
}

/// Shows a running relay.
fn look(config: &Config, options: &top::Options) -> Result<(), StartError> {
    let outbound = Outbound::new(config)?;
    Ok(top::run(
        options,
        &outbound,
        config.admin_password.as_ref(),
    )?)
}

/// Looks after the control store.
fn control(config: &Config, command: &ControlCommand) -> Result<(), StartError> {
    let ControlCommand::Copy { to, overwrite } = command;
    Ok(copy(config, *to, *overwrite, &mut io::stdout())?)
}
