//! A Prometheus of one test.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::site::agent;

/// A running Prometheus that reads a relay every second.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    reader: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts it on loopback, with these rules.
    pub(crate) fn start(relay: SocketAddr, rules: &str) -> Prometheus {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        std::fs::write(
            path.join("rules.yml"),
            rules.replace("interval: 30s", "interval: 1s"),
        )
        .unwrap();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [rules.yml]\n\
             scrape_configs:\n- job_name: zlay\n  static_configs:\n  - targets: ['{relay}']\n"
        );
        std::fs::write(path.join("prometheus.yml"), config).unwrap();
        let mut child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg("--web.listen-address=127.0.0.1:0")
            .current_dir(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus (package prometheus): {error}"));
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = log.find_map(|line| {
            let line = line.unwrap();
            let address = line
                .contains("Listening on")
                .then(|| line.rsplit_once("address=")?.1.trim().parse().ok());
            said.push(line);
            address.flatten()
        });
        let address = address.unwrap_or_else(|| panic!("it does not listen: {said:#?}"));
        // A pipe that nobody reads would stop it.
        let reader = std::thread::spawn(move || log.for_each(drop));
        Prometheus {
            child,
            address,
            reader: Some(reader),
            _directory: directory,
        }
    }

    fn get(&self, path: &str, query: Option<&str>) -> Value {
        let request = agent().get(format!("http://{}{path}", self.address));
        let request = match query {
            Some(query) => request.query("query", query),
            None => request,
        };
        let mut response = request.call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// How many series of numbers an expression gives now.
    pub(crate) fn count(&self, expression: &str) -> Result<usize, String> {
        let answer = self.get("/api/v1/query", Some(expression));
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let result = answer["data"]["result"].as_array().unwrap();
        let numbers = result.iter().filter(|series| series["value"][1] != "NaN");
        Ok(numbers.count())
    }

    /// Name and expression of every rule, as it was read; each must have been evaluated without an
    /// error.
    pub(crate) fn rules(&self) -> Vec<(String, String)> {
        let answer = self.get("/api/v1/rules", None);
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| {
            let rules = group["rules"].as_array().unwrap();
            rules.iter().map(|rule| {
                assert_eq!(rule["health"], "ok", "{rule}");
                let text = |key: &str| rule[key].as_str().unwrap().to_owned();
                (text("name"), text("query"))
            })
        });
        rules.collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Both fail where it has ended, which is the purpose.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
