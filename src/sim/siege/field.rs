//! The relay that is attacked, and the network that behaves.

use std::{fs, io, path::PathBuf, sync::Arc};

use serde_json::{Value, json};

use crate::{
    sim::{
        Config, Network, cli,
        relay::{Client, Launch, Relay},
        tls::Tls,
    },
    threads::{self, Stop},
};

/// Accounts that a host that attacks may have.
const ACCOUNT_LIMIT: u64 = 100;

/// What attacks can reach. All of it is shared between threads.
pub(super) struct Field {
    /// The hosts that behave, and the directory.
    pub(super) network: Arc<Network>,
    /// The relay's public port, as its operator.
    pub(super) client: Client,
    /// Its internal port.
    pub(super) metrics: Client,
    /// The relay's process.
    pub(super) pid: u32,
    /// An authority that the relay trusts, and a certificate of it for `localhost`.
    pub(super) tls: Tls,
    /// Whether those who behave run before everybody else on this machine. They are on machines of their own, and
    /// what an attack takes of the processor is not to be taken for a delay of the relay.
    pub(super) runs_first: bool,
    ca_file: PathBuf,
}

impl Field {
    /// Starts a network and a relay that crawls it. Nobody is trusted; the hosts that behave have
    /// the limits of hosts that are known for long, so that they never have to wait.
    pub(super) fn start(
        config: &Config,
        mut launch: Launch,
        stop: &Stop,
    ) -> io::Result<(Arc<Field>, Relay)> {
        let (network, runs_first) = threads::run_first(|| Network::start(config));
        let network = Arc::new(network?);
        let tls = Tls::new()?;
        let name = format!("zlay-siege-{:016x}.pem", fastrand::u64(..));
        let ca_file = std::env::temp_dir().join(name);
        fs::write(&ca_file, &tls.ca_pem)?;
        let variables = [
            ("RELAY_EXTRA_CA_FILE", ca_file.display().to_string()),
            ("RELAY_TRUSTED_DOMAINS", "*.example.com".to_owned()),
            ("RELAY_DEFAULT_ACCOUNT_LIMIT", ACCOUNT_LIMIT.to_string()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value));
        // What the caller says comes last, and holds.
        launch.environment.splice(0..0, variables);
        let relay = launch.start(&network, stop)?;
        let field = Arc::new(Field {
            client: relay.client(),
            metrics: Client::new(&relay.metrics_url),
            pid: relay.pid(),
            network,
            tls,
            runs_first,
            ca_file,
        });
        cli::crawl(&field.network, &field.client, stop)?;
        for host in field.network.hosts() {
            let terms = json!({
                "host": host.name(),
                "repo_limit": 1_000_000,
                "events_per_hour": 1_000_000,
                "events_per_day": 1_000_000,
            });
            field.change(&terms)?;
        }
        Ok((field, relay))
    }

    /// Changes the terms of a host, as the operator.
    pub(super) fn change(&self, terms: &Value) -> io::Result<()> {
        self.client.post("/admin/pds/changeLimits", terms)
    }

    /// What anybody may know of a host.
    pub(super) fn host_page(&self, name: &str) -> io::Result<Value> {
        let (status, body) = self.client.get(&format!("/hosts/{name}.json"))?;
        if status != 200 {
            return Err(io::Error::other(format!("HTTP {status} {body}")));
        }
        Ok(serde_json::from_str(&body)?)
    }

    /// A counter or gauge of the relay, by name and labels.
    pub(super) fn metric(&self, name: &str) -> io::Result<Option<f64>> {
        let (_, text) = self.metrics.get("/metrics")?;
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        Ok(values.find_map(|rest| rest.strip_prefix(' ')?.parse().ok()))
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.ca_file);
    }
}
