//! A simulated network, a data directory, and relays that run on them as processes.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use zlay::sim::{Config, Network, account::Account, event::Event};

/// How long anything may take that must happen. Nothing waits this long unless the test fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// The password of the admin API.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// Lines of the log that a failing test shows.
const LOG_LINES_SHOWN: usize = 60;

/// Waits until `is_so`; panics where it never is.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A network, and where a relay keeps what it knows of it.
pub(crate) struct Site {
    pub(crate) network: Arc<Network>,
    /// What the relay's environment holds beside the usual.
    pub(crate) variables: Vec<(&'static str, String)>,
    directory: TempDir,
    rng: fastrand::Rng,
}

impl Site {
    /// A network of so many hosts, and an empty data directory.
    pub(crate) fn new(hosts: usize) -> Site {
        Site::of(&Config {
            hosts,
            ..Config::default()
        })
    }

    /// The same with hosts that speak TLS; the relay is told to trust them.
    pub(crate) fn with_tls(hosts: usize) -> Site {
        Site::of(&Config {
            hosts,
            tls: true,
            ..Config::default()
        })
    }

    /// Any network, and an empty data directory. Where anybody speaks TLS, the relay is told to trust
    /// that.
    pub(crate) fn of(config: &Config) -> Site {
        let mut site = Site {
            network: Arc::new(Network::start(config).unwrap()),
            variables: Vec::new(),
            directory: TempDir::new().unwrap(),
            rng: fastrand::Rng::with_seed(7),
        };
        if let Some(pem) = site.network.ca_pem() {
            let file = site.directory.path().join("ca.pem");
            std::fs::write(&file, pem).unwrap();
            let file = file.to_str().unwrap().to_owned();
            site.variables.push(("RELAY_EXTRA_CA_FILE", file));
        }
        site
    }

    /// The data directory.
    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    /// A new account of a host, known to the directory.
    pub(crate) fn account(&mut self, host: usize) -> Account {
        let account = self.stranger(host);
        self.network.register(&account);
        account
    }

    /// A new account of a host, of which nobody knows.
    pub(crate) fn stranger(&mut self, host: usize) -> Account {
        Account::random(&mut self.rng, host)
    }

    /// The command that starts the relay, with nothing of the caller's own environment in it.
    pub(crate) fn command(&self) -> Command {
        let mut command = bare_command();
        command
            .env("RELAY_BIND", "127.0.0.1")
            .env("RELAY_PORT", "0")
            .env("RELAY_METRICS_PORT", "0")
            .env("RELAY_DATA_DIR", self.data())
            .env("RELAY_UPSTREAM", "none")
            .env("RELAY_ALLOW_PRIVATE_HOSTS", "true")
            .env("RELAY_PLC_URL", self.network.plc_url())
            .env("RELAY_TRUSTED_DOMAINS", "localhost")
            .env("RELAY_ADMIN_PASSWORD", PASSWORD)
            .env("RUST_LOG", "info,zlay=debug");
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Starts a relay and waits until it listens.
    pub(crate) fn start(&self) -> Relay {
        Relay::start(self.command())
    }

    /// The same by another command, which ends as the relay's program.
    #[allow(dead_code, reason = "not every suite that shares this file needs it")]
    pub(crate) fn start_by(&self, command: Command) -> Relay {
        Relay::start(command)
    }

    /// Starts a relay, asks it to crawl every host, and waits until it is connected to all.
    pub(crate) fn start_crawling(&self) -> Relay {
        let relay = self.start();
        for host in self.network.hosts() {
            assert_eq!(relay.request_crawl(&crawl_name(&host.url())).0, 200);
        }
        self.wait_until_connected();
        relay
    }

    /// Waits until every host has a consumer.
    pub(crate) fn wait_until_connected(&self) {
        wait_until("the relay connects to all hosts", || {
            self.network.hosts().iter().all(|host| host.connected() > 0)
        });
    }

    /// Sends a commit of one new post that the relay must forward.
    pub(crate) fn publish_post(&self, account: &mut Account) -> Event {
        let event = next_commit(account);
        self.network.publish(account.host, &event);
        event
    }
}

/// The relay's program with an environment that says nothing.
pub(crate) fn bare_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zlay"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["RELAY_", "MALLOC_"]
            .iter()
            .any(|own| text.starts_with(own))
        {
            command.env_remove(name);
        }
    }
    command.env_remove("DATABASE_URL").stdin(Stdio::null());
    command.env_remove("GLIBC_TUNABLES");
    command
}

/// A host as requestCrawl names it: `localhost:PORT` alone is spoken to without TLS.
fn crawl_name(url: &str) -> String {
    url.trim_start_matches("http://").to_owned()
}

/// The account's next commit, of one new post.
pub(crate) fn next_commit(account: &mut Account) -> Event {
    let post = account.post("hello");
    account.commit(&[post])
}

/// A relay that runs. Dropping it kills it.
pub(crate) struct Relay {
    pub(crate) child: Child,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Relay {
    fn start(command: Command) -> Relay {
        Relay::launch(command).unwrap_or_else(|(status, log)| panic!("{status}: {log:#?}"))
    }

    /// Starts one that may end before it listens: then how it has ended, and what it said.
    pub(crate) fn launch(mut command: Command) -> Result<Relay, (ExitStatus, Vec<String>)> {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, listening) = mpsc::channel();
        let lines = log.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(addresses) = addresses(&line) {
                    let _ = sender.send(addresses);
                }
                lines.lock().unwrap().push(line);
            }
        });
        let listening = listening.recv_timeout(TIMEOUT);
        let (public, internal) = match listening {
            Ok(addresses) => addresses,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait().unwrap();
                let log = std::mem::take(&mut *log.lock().unwrap());
                return Err((status, log));
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{error}: {:#?}", log.lock().unwrap());
            }
        };
        Ok(Relay {
            child,
            public,
            internal,
            log,
            reader: Some(reader),
        })
    }

    /// Ends the process as a power cut would, as far as a process can tell.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Asks the process to end.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// Waits until the process has ended; what it said is returned with how it ended.
    pub(crate) fn ended(mut self) -> (ExitStatus, Vec<String>) {
        wait_until("the relay ends", || self.has_ended());
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let log = std::mem::take(&mut *self.log.lock().unwrap());
        (status, log)
    }

    /// Asks the relay, as anybody may, to crawl a host; status and body of the answer.
    pub(crate) fn request_crawl(&self, hostname: &str) -> (u16, Value) {
        let url = format!("http://{}/xrpc/com.atproto.sync.requestCrawl", self.public);
        let request = agent().post(url).header("Content-Type", "application/json");
        let body = json!({"hostname": hostname}).to_string();
        answer(request.send(body).unwrap())
    }

    /// Every number of `/metrics`, by name and labels.
    pub(crate) fn metrics(&self) -> BTreeMap<String, u64> {
        let url = format!("http://{}/metrics", self.internal);
        let text = agent().get(url).call().unwrap();
        let text = text.into_body().read_to_string().unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse::<f64>().unwrap() as u64)
        });
        samples.collect()
    }

    /// One number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let value = metrics.get(name);
        *value.unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// Attempts to connect to a host that failed so far.
    pub(crate) fn failed_connects(&self) -> u64 {
        let attempts = self.metrics().into_iter();
        let failed = attempts.filter(|(name, _)| {
            name.starts_with("relay_host_connects_total{") && !name.contains("\"connected\"")
        });
        failed.map(|(_, count)| count).sum()
    }

    /// Events refused so far by the name of the reason; only reasons that there were.
    pub(crate) fn rejects(&self) -> BTreeMap<String, u64> {
        let metrics = self.metrics().into_iter();
        let rejects = metrics.filter_map(|(name, value)| {
            let labels = name.strip_prefix("relay_events_rejected_total{reason=\"")?;
            Some((labels.strip_suffix("\"}")?.to_owned(), value))
        });
        rejects.filter(|(_, value)| *value > 0).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Both fail where the process has ended, which is the purpose.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            for line in log.iter().rev().take(LOG_LINES_SHOWN).rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Makes requests.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
        .build();
    config.new_agent()
}

/// Status and body.
pub(crate) fn answer(mut response: ureq::http::Response<ureq::Body>) -> (u16, Value) {
    let body = response.body_mut().read_to_string().unwrap();
    let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
    (response.status().as_u16(), body)
}

/// The two addresses of the line that says where the relay listens.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    if let Ok(said) = serde_json::from_str::<Value>(line) {
        let address = |name: &str| said[name].as_str()?.parse().ok();
        let is_it = said["message"] == "listening";
        return is_it.then(|| Some((address("public")?, address("internal")?)))?;
    }
    let (_, rest) = line.split_once("listening public=")?;
    let (public, internal) = rest.split_once(" internal=")?;
    Some((public.parse().ok()?, internal.trim().parse().ok()?))
}
