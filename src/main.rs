//! The relay's program: reads the configuration, runs the relay, stops it when told to.

use std::{io, process::ExitCode};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use zlay::{
    config::{Cli, Command, Config, ControlCommand, HostsCommand},
    control::copy::copy,
    descriptors,
    http::client,
    limits::{SERVICE_STACK_BYTES, STOP_TIMEOUT},
    logging,
    memory::heap,
    outbound::Outbound,
    relay::{Relay, StartError},
    service::Service,
    threads::{self, Role},
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
    logging::init(cli.config.log_format);
    log::debug!("allocator={} {allocator}", heap::ALLOCATOR);
    let done = match &cli.command {
        None | Some(Command::Serve) => serve(&cli.config).map(|()| true),
        Some(Command::Crawl { hosts, relay }) => crawl(&cli.config, hosts, relay),
        Some(Command::Health { url, ready }) => health(&cli.config, url.as_deref(), *ready),
        Some(Command::Hosts { command }) => hosts(&cli.config, command),
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
fn serve(config: &Config) -> Result<(), StartError> {
    // Before anything else, so that a signal during the start is not lost.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    log::info!(
        "{} data={} pid={}",
        zlay::SERVER,
        config.data_dir.display(),
        std::process::id()
    );
    // A host and a subscriber need some each, and so does the store.
    let files = descriptors::raise();
    log::info!("{files}");
    if let Some(warning) = files.warning() {
        log::warn!("{warning}");
    }
    let service = Service::from_environment();
    let relay = Relay::start(config)?;
    log::info!(
        "listening public={} internal={}",
        relay.public_address(),
        relay.internal_address()
    );
    service.ready(relay.health(), relay.board());
    let signal = signals.forever().next();
    service.stopping();
    log::info!("stopping signal={}", signal.unwrap_or_default());
    let watchdog = threads::spawn(Role::Signals, "watchdog", SERVICE_STACK_BYTES, || {
        std::thread::sleep(STOP_TIMEOUT);
        log::error!("the stop took longer than {STOP_TIMEOUT:?}; ending at once");
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

/// Looks after the control store.
fn control(config: &Config, command: &ControlCommand) -> Result<(), StartError> {
    let ControlCommand::Copy { to, overwrite } = command;
    Ok(copy(config, *to, *overwrite, &mut io::stdout())?)
}
