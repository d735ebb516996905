//! The relay under test: a running one, or one that is started as a child.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Network, host::Host};
use crate::threads::Stop;

/// A whole request to the relay.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a relay may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a relay may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// Between two looks at a relay that starts or stops.
const LOOK: Duration = Duration::from_millis(100);

/// Requests to a relay, without TLS.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    agent: ureq::Agent,
    password: Option<String>,
}

impl Client {
    /// A client of the relay at `url`.
    pub fn new(url: &str) -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent("zlay-sim")
            .build();
        Client {
            url: url.trim_end_matches('/').to_owned(),
            agent: config.new_agent(),
            password: None,
        }
    }

    /// The same on behalf of the operator, for whom the limits on strangers do not hold.
    pub fn with_password(self, password: Option<String>) -> Client {
        Client { password, ..self }
    }

    /// `host:port` of the relay.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Status and body of a GET request.
    pub fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let request = self.agent.get(format!("{}{path}", self.url));
        let mut response = request.call().map_err(io::Error::other)?;
        let body = response.body_mut().read_to_string();
        Ok((response.status().as_u16(), body.map_err(io::Error::other)?))
    }

    /// Asks the relay to crawl a host; the relay's answer where it refuses.
    pub fn request_crawl(&self, host: &Host) -> io::Result<()> {
        self.request_crawl_of(&host.url())
    }

    /// The same for the host at this URL.
    pub fn request_crawl_of(&self, url: &str) -> io::Result<()> {
        // A bare localhost is spoken to without TLS.
        let hostname = url.strip_prefix("http://").unwrap_or(url);
        let path = match self.password {
            Some(_) => "/admin/pds/requestCrawl",
            None => "/xrpc/com.atproto.sync.requestCrawl",
        };
        let body = json!({"hostname": hostname}).to_string();
        self.post(path, &body)
    }

    /// Posts JSON, on behalf of the operator where there is a password; the relay's answer where it
    /// refuses.
    pub fn post(&self, path: &str, body: &str) -> io::Result<()> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        request = request.header("Content-Type", "application/json");
        if let Some(password) = &self.password {
            request = request.header("Authorization", format!("Bearer {password}"));
        }
        let mut response = request.send(body).map_err(io::Error::other)?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(());
        }
        let body = response.body_mut().read_to_string().unwrap_or_default();
        Err(io::Error::other(format!("HTTP {status} {body}")))
    }
}

/// How a relay is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The binary; none is the `zlay` beside this program.
    pub binary: Option<PathBuf>,
    /// A shell command in place of the binary, for any other relay; `{port}`, `{metrics_port}`,
    /// `{plc}`, `{data}`, `{ca}` and `{password}` are filled in.
    pub command: Option<String>,
    /// It is asked to crawl as a stranger asks, whatever its operator could do.
    pub stranger: bool,
    /// The public port; if it is taken, the next free one.
    pub port: u16,
    /// The internal port; if it is taken, the next free one.
    pub metrics_port: u16,
    /// Where it keeps its data; none is a directory that is removed afterwards.
    pub data_dir: Option<PathBuf>,
    /// Where that directory is made; none is the system's place for temporary ones.
    pub scratch: Option<PathBuf>,
    /// Where its log goes; none is this program's standard error.
    pub log: Option<PathBuf>,
    /// Further variables of its environment.
    pub environment: Vec<(String, String)>,
}

/// A relay that runs as a child; dropping it stops it and removes its temporary directory.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    /// Its public address.
    pub url: String,
    /// Its internal address.
    pub metrics_url: String,
    /// The password of its admin API, made for this run.
    pub password: String,
    /// Where it keeps its data.
    pub data: PathBuf,
    directory: PathBuf,
    temporary: bool,
    stopped: bool,
    is_zlay: bool,
    stranger: bool,
}

impl Launch {
    /// Starts a relay for `network` and waits until it answers.
    pub fn start(&self, network: &Network, stop: &Stop) -> io::Result<Relay> {
        self.start_on(network, stop, |_| Ok(()))
    }

    /// The same where `prepare` puts something into its data directory before.
    pub fn start_on(
        &self,
        network: &Network,
        stop: &Stop,
        prepare: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<Relay> {
        // Both are held until both are chosen, or the second could be the first.
        let public = free_port(self.port)?;
        let internal = free_port(self.metrics_port)?;
        let port = public.local_addr()?.port();
        let metrics_port = internal.local_addr()?.port();
        drop((public, internal));
        let (directory, temporary) = match &self.data_dir {
            Some(directory) => (directory.clone(), false),
            None => (temporary_directory(self.scratch.as_deref())?, true),
        };
        let data = directory.join("data");
        if let Err(error) = prepare(&data) {
            if temporary {
                let _ = fs::remove_dir_all(&directory);
            }
            return Err(error);
        }
        let ca = directory.join("ca.pem");
        if let Some(pem) = network.ca_pem() {
            fs::write(&ca, pem)?;
        }
        let password = format!("{:032x}", fastrand::u128(..));
        let mut command = match &self.command {
            None => Command::new(self.binary()?),
            Some(line) => {
                // What is not there yet, most relays do not make.
                fs::create_dir_all(&data)?;
                let words = [
                    ("{port}", port.to_string()),
                    ("{metrics_port}", metrics_port.to_string()),
                    ("{plc}", network.plc_url()),
                    ("{data}", data.display().to_string()),
                    ("{ca}", ca.display().to_string()),
                    ("{password}", password.clone()),
                ];
                let line = words.iter().fold(line.clone(), |line, (name, value)| {
                    line.replace(name, value)
                });
                let mut shell = Command::new("sh");
                // The shell makes room, so that what is measured and stopped is the relay itself.
                shell.args(["-c", &format!("exec {line}")]);
                shell
            }
        };
        // What the caller's environment says about another relay is not meant for this one.
        for (name, _) in std::env::vars() {
            if name.starts_with("RELAY_") || name == "DATABASE_URL" {
                command.env_remove(name);
            }
        }
        command
            .env("RELAY_BIND", "127.0.0.1")
            .env("RELAY_PORT", port.to_string())
            .env("RELAY_METRICS_PORT", metrics_port.to_string())
            .env("RELAY_DATA_DIR", &data)
            .env("RELAY_UPSTREAM", "none")
            .env("RELAY_ALLOW_PRIVATE_HOSTS", "true")
            .env("RELAY_PLC_URL", network.plc_url())
            .env("RELAY_TRUSTED_DOMAINS", "localhost")
            .env("RELAY_DEFAULT_ACCOUNT_LIMIT", "1000000")
            .env("RELAY_NEW_HOSTS_PER_DAY_LIMIT", "1000000");
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn");
        }
        if network.ca_pem().is_some() {
            command.env("RELAY_EXTRA_CA_FILE", &ca);
        }
        command.env("RELAY_ADMIN_PASSWORD", &password);
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        if let Some(log) = &self.log {
            command.stderr(fs::File::create(log)?);
        }
        // A Ctrl-C in the terminal is meant for this program, which stops the relay in its turn.
        command.process_group(0);
        let mut relay = Relay {
            child: command.spawn()?,
            url: format!("http://localhost:{port}"),
            metrics_url: format!("http://localhost:{metrics_port}"),
            password,
            data,
            directory,
            temporary,
            stopped: false,
            is_zlay: self.command.is_none(),
            stranger: self.stranger,
        };
        relay.wait_until_ready(stop)?;
        Ok(relay)
    }

    fn binary(&self) -> io::Result<PathBuf> {
        if let Some(binary) = &self.binary {
            return Ok(binary.clone());
        }
        let own = std::env::current_exe()?;
        let binary = own.with_file_name("zlay");
        if binary.exists() {
            Ok(binary)
        } else {
            let message = format!("{} is not there: build it first", binary.display());
            Err(io::Error::new(io::ErrorKind::NotFound, message))
        }
    }
}

impl Relay {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A client of it: its operator's, unless it is asked as strangers ask.
    pub fn client(&self) -> Client {
        let password = (!self.stranger).then(|| self.password.clone());
        Client::new(&self.url).with_password(password)
    }

    fn wait_until_ready(&mut self, stop: &Stop) -> io::Result<()> {
        let client = Client::new(&self.url);
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match client.get("/xrpc/_health") {
                Ok((200, _)) => return Ok(()),
                // Others may have their health elsewhere.
                Ok(_) if !self.is_zlay => return Ok(()),
                _ => {}
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the relay ended: {status}")));
            }
            if stop.wait(LOOK) {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the relay does not answer /xrpc/_health",
                ));
            }
        }
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to stop and waits; kills it when it takes too long.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.stopped = true;
        if self.child.try_wait()?.is_none() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                log::error!("the relay does not stop; it is killed");
                self.child.kill()?;
                return self.child.wait();
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if !self.stopped {
            let _ = self.stop();
        }
        if self.temporary {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The resident memory of a process, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

/// A listener on `wanted`, or on the next port that is free on loopback; 0 is any.
fn free_port(wanted: u16) -> io::Result<TcpListener> {
    let mut last = None;
    for port in wanted..=wanted.saturating_add(100) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn temporary_directory(scratch: Option<&Path>) -> io::Result<PathBuf> {
    let name = format!("zlay-sim-{}-{:08x}", std::process::id(), fastrand::u32(..));
    let parent = scratch.map_or_else(std::env::temp_dir, Path::to_owned);
    let directory = parent.join(name);
    fs::create_dir(&directory)?;
    Ok(directory)
}
