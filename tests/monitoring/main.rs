//! `deploy/monitoring` against the real thing: a Prometheus that reads a running relay, asked every
//! query of the dashboard and of the rules. What a query finds nothing for fails.
//!
//! These tests need Debian's package `prometheus`, and are ignored but for `just test-monitoring`, where
//! a missing program fails.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod prometheus;
#[path = "../support/site.rs"]
#[allow(dead_code, reason = "other suites need more of it")]
mod site;
#[path = "../support/subscriber.rs"]
#[allow(dead_code, reason = "other suites need more of it")]
mod subscriber;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use zlay::reject::Reject;

use crate::{
    prometheus::Prometheus,
    site::{Relay, Site, agent, next_commit},
    subscriber::Subscriber,
};

/// How long traffic is read before anything is asked: enough scrapes for a rate over
/// [`RATE_INTERVAL`], and for the control store to be written to.
const TRAFFIC: Duration = Duration::from_secs(20);
/// What Grafana would put for `$__rate_interval`.
const RATE_INTERVAL: &str = "15s";
/// Queries of the dashboard that rightly find nothing here, and why.
const EMPTY: &[(&str, &str)] = &[];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring")
}

/// Runs a program in `deploy/monitoring`, which must succeed; what it says.
fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} (package prometheus, or python3): {error}"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

#[test]
#[ignore = "needs promtool: just test-monitoring"]
fn rules_and_configuration_are_right() {
    run("promtool", &["check", "rules", "prometheus-rules.yml"], "");
    run("promtool", &["check", "config", "prometheus.yml"], "");
    run(
        "promtool",
        &["test", "rules", "prometheus-rules-test.yml"],
        "",
    );
}

#[test]
fn every_alert_is_tested_and_explained() {
    let read = |path: &str| std::fs::read_to_string(directory().join(path)).unwrap();
    let (rules, tests) = (
        read("prometheus-rules.yml"),
        read("prometheus-rules-test.yml"),
    );
    let docs = read("../../docs/metrics.md");
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for alert in alerts {
        count += 1;
        for kind in ["fires", "is calm"] {
            assert!(
                tests.contains(&format!("- name: {alert} {kind}\n")),
                "{alert}"
            );
        }
        assert!(docs.contains(&format!("\n### {alert}\n")), "{alert}");
        let anchor = format!("docs/metrics.md#{}", alert.to_lowercase());
        assert!(
            rules.contains(&format!("runbook_url: {anchor}\n")),
            "{alert}"
        );
    }
    assert!(count > 15, "{count}");
    assert_eq!(docs.matches("\n### Relay").count(), count);
}

#[test]
#[ignore = "needs python3: just test-monitoring"]
fn the_dashboard_is_what_its_script_writes_and_names_no_data_source() {
    run("python3", &["dashboard.py", "--check"], "");
    let text = std::fs::read_to_string(directory().join("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    for (_, panel) in panels(&dashboard) {
        assert_eq!(panel["datasource"]["uid"], "$datasource", "{panel}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| &variable["name"]).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    let readme = std::fs::read_to_string(directory().join("README.md")).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        if panel["type"] == "row" {
            let title = panel["title"].as_str().unwrap();
            assert!(readme.contains(&format!("| {title} | ")), "{title}");
        }
    }
}

/// Every panel that asks something, with its title.
fn panels(dashboard: &Value) -> Vec<(String, &Value)> {
    let all = dashboard["panels"].as_array().unwrap().iter();
    let asking = all.filter(|panel| panel["type"] != "row");
    asking
        .map(|panel| (panel["title"].as_str().unwrap().to_owned(), panel))
        .collect()
}

/// Every query of the dashboard with the variables filled in, and whose it is.
fn queries() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(directory().join("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    for (title, panel) in panels(&dashboard) {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("$job", "zlay")
                .replace("$instance", ".*")
                .replace("$__rate_interval", RATE_INTERVAL);
            assert!(!query.contains('$'), "{title}: {query}");
            queries.push((title.clone(), query));
        }
    }
    queries
}

/// The series that an expression selects: names with their labels.
fn selectors(expression: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        let is_metric = name.starts_with("relay_")
            || name.starts_with("relay:")
            || name.starts_with("process_")
            || name == "up";
        if !is_metric {
            continue;
        }
        let labels = match after.starts_with('{') {
            true => &after[..=after.find('}').unwrap()],
            false => "",
        };
        found.push(format!("{name}{labels}"));
        rest = &after[labels.len()..];
    }
    found
}

#[test]
fn selectors_are_found_in_expressions() {
    let found = selectors("changes(relay_seq[1m]) == 0 and on (job) up{job=~\".*(relay).*\"} > 1");
    assert_eq!(found, ["relay_seq", "up{job=~\".*(relay).*\"}"]);
}

/// Hosts say what passes and what does not, of accounts old and new; somebody subscribes, somebody
/// reads pages.
fn traffic(site: &mut Site, relay: &Relay, live: &mut Subscriber) {
    let mut accounts: Vec<_> = (0..3).map(|host| site.account(host)).collect();
    let until = Instant::now() + TRAFFIC;
    let mut round = 0;
    while Instant::now() < until {
        let account = &mut accounts[round % 3];
        let commit = next_commit(account);
        site.network.publish(account.host, &commit);
        live.expect(&[&commit]);
        site.network
            .publish_invalid(account.host, &commit, Reject::RevStale);
        let mut newcomer = site.account(round % 3);
        live.expect(&[&site.publish_post(&mut newcomer)]);
        for path in ["", "xrpc/com.atproto.sync.listHosts", "_health"] {
            let url = format!("http://{}/{path}", relay.public);
            agent().get(url).call().unwrap();
        }
        drop(Subscriber::connect(relay, None));
        round += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs prometheus: just test-monitoring"]
fn every_query_finds_something_in_a_relay_with_traffic() {
    let mut site = Site::new(3);
    let relay = site.start_crawling();
    let rules = std::fs::read_to_string(directory().join("prometheus-rules.yml")).unwrap();
    let prometheus = Prometheus::start(relay.internal, &rules);
    let mut live = Subscriber::connect(&relay, None).unwrap();
    traffic(&mut site, &relay, &mut live);
    let url = format!("http://{}/metrics", relay.internal);
    let text = agent().get(url).call().unwrap();
    let text = text.into_body().read_to_string().unwrap();
    let said = run("promtool", &["check", "metrics"], &text);
    assert_eq!(said.trim(), "", "promtool check metrics");

    let mut wrong = Vec::new();
    let queries = queries();
    assert!(queries.len() > 80, "{}", queries.len());
    for (title, query) in &queries {
        let is_empty = prometheus.count(query) == Ok(0);
        let may_be = EMPTY.iter().any(|(panel, _)| panel == title);
        match prometheus.count(query) {
            Ok(_) if is_empty == may_be => {}
            found => wrong.push(format!("panel {title:?}: {query}: {found:?}")),
        }
    }
    let rules = prometheus.rules();
    assert!(rules.len() > 20, "{rules:?}");
    for (name, expression) in &rules {
        if let Err(error) = prometheus.count(expression) {
            wrong.push(format!("rule {name}: {expression}: {error}"));
        }
        // An alert is rightly quiet; that there is nothing to compare is not right.
        for selector in selectors(expression) {
            let found = prometheus.count(&selector);
            if !matches!(found, Ok(1..)) {
                wrong.push(format!("rule {name}: {selector}: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{:#?}", wrong);
}
