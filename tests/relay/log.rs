//! What the relay writes on standard error, for people and for programs.

use std::time::Instant;

use serde_json::Value;
use zlay::limits::{LOG_LINE_INTERVAL, LOG_LINES_BURST};

use crate::{
    process::run,
    site::{PASSWORD, Relay, Site, wait_until},
    subscriber::Subscriber,
};

const SECRET: &str = "hunter2";

/// Ends the relay; what it wrote, as objects.
fn objects(relay: Relay) -> Vec<Value> {
    relay.terminate();
    let (status, log) = relay.ended();
    assert!(status.success());
    let read = |line: &String| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    log.iter().map(read).collect()
}

fn with_message<'a>(log: &'a [Value], message: &str) -> Vec<&'a Value> {
    let lines = log.iter().filter(|line| line["message"] == message);
    lines.collect()
}

/// A site whose log is JSON with these levels.
fn site(levels: &str) -> Site {
    let mut site = Site::new(1);
    site.variables.push(("RELAY_LOG_FORMAT", "json".to_owned()));
    site.variables.push(("RUST_LOG", levels.to_owned()));
    site
}

#[test]
fn every_line_is_an_object_with_the_same_fields() {
    let mut site = site("debug");
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&event]);
    site.network.host(0).emit(&event);
    wait_until("the second one is refused", || !relay.rejects().is_empty());
    assert_ne!(relay.request_crawl("no\nsuch\u{1b}[2J host").0, 200);
    let log = objects(relay);
    for line in &log {
        for name in ["time", "level", "target", "thread", "message"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
    }
    let host = site.network.host(0).url().replace("http://", "");
    assert_eq!(
        with_message(&log, "connected for the first time")[0]["host"],
        host
    );
    let refused = with_message(&log, "an event is not forwarded");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["host"], host);
    assert_eq!(refused[0]["did"], account.did().as_ref());
    assert_eq!(refused[0]["seq"], 2);
    assert_eq!(refused[0]["rev"], account.head().unwrap().1.to_string());
    assert!(refused[0]["reason"].is_string());
    assert_eq!(refused[0]["target"], "zlay::rejected");
    assert_eq!(log.last().unwrap()["message"], "stopped");
}

#[test]
fn the_start_is_told_without_secrets() {
    let mut site = site("info");
    let url = format!("https://me:{SECRET}@relay.invalid");
    site.variables.push(("RELAY_TRUSTED_DOMAINS", url));
    let log = objects(site.start());
    let starts = with_message(&log, "zlay starts");
    assert_eq!(starts.len(), 1);
    let start = starts[0];
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert!(start["commit"].is_string());
    assert_eq!(start["data_dir"], site.data().to_str().unwrap());
    let settings = start["settings"].as_object().unwrap();
    let names: Vec<&String> = settings.keys().collect();
    assert_eq!(names, zlay::config::variables().iter().collect::<Vec<_>>());
    assert_eq!(settings["RELAY_ADMIN_PASSWORD"], "(set)");
    assert_eq!(settings["DATABASE_URL"], "(not set)");
    let changed = start["changed"].as_array().unwrap();
    assert!(changed.contains(&"RELAY_UPSTREAM".into()), "{changed:?}");
    assert!(!changed.contains(&"RELAY_FSYNC".into()), "{changed:?}");
    let whole = format!("{log:?}");
    assert!(
        !whole.contains(PASSWORD) && !whole.contains(SECRET),
        "{whole}"
    );
}

#[test]
fn people_read_a_block_and_a_warning_for_every_risk() {
    let site = Site::new(0);
    let mut command = site.command();
    command.env_remove("RELAY_ADMIN_PASSWORD");
    command.env("RELAY_FSYNC", "off");
    // The start fails after the block: nobody listens there.
    command.env(
        "DATABASE_URL",
        format!("postgres://me:{SECRET}@127.0.0.1:1/zlay?sslmode=never"),
    );
    let (code, said) = run(command);
    assert_eq!(code, Some(1), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    let setting = |name: &str| {
        let line = said.lines().find(|line| line[4..].starts_with(name));
        line.unwrap_or_else(|| panic!("{name} is not in {said}"))
            .to_owned()
    };
    assert!(setting("RELAY_FSYNC").starts_with("  * "), "{said}");
    assert!(
        setting("RELAY_FSYNC").ends_with("off  (default: batch)"),
        "{said}"
    );
    assert!(setting("RELAY_METRICS_BIND").starts_with("    "), "{said}");
    assert!(setting("DATABASE_URL").contains("(set)"), "{said}");
    for risk in ["RELAY_ADMIN_PASSWORD is not set", "RELAY_FSYNC=off"] {
        let told = said
            .lines()
            .filter(|line| line.contains(" WARN ") && line.contains(risk));
        assert_eq!(told.count(), 1, "{risk}: {said}");
    }
}

#[test]
fn a_flood_of_refused_events_is_a_few_lines_and_a_count() {
    const EVENTS: u64 = 2_000;
    let mut site = site("info,zlay::rejected=debug");
    let relay = site.start_crawling();
    let mut account = site.account(0);
    let event = site.publish_post(&mut account);
    Subscriber::from_the_beginning(&relay).expect(&[&event]);
    let began = Instant::now();
    for _ in 0..EVENTS {
        site.network.host(0).emit(&event);
    }
    let refused = |relay: &Relay| relay.rejects().values().sum::<u64>();
    wait_until("all are refused", || refused(&relay) == EVENTS);
    let kinds = relay.rejects().len() as u128;
    let intervals = began.elapsed().as_millis() / LOG_LINE_INTERVAL.as_millis();
    let log = objects(relay);
    let lines = with_message(&log, "an event is not forwarded");
    let most = kinds * (u128::from(LOG_LINES_BURST) + intervals + 1);
    assert!(
        (lines.len() as u128) <= most,
        "{} lines, {most} allowed",
        lines.len()
    );
    let left_out = |lines: &[&Value]| -> u64 {
        lines
            .iter()
            .filter_map(|line| line["left_out"].as_u64())
            .sum()
    };
    let reports = with_message(&log, "lines of one kind were left out");
    assert!(
        reports.iter().all(|line| line["reason"].is_string()),
        "{reports:?}"
    );
    let counted = lines.len() as u64 + left_out(&lines) + left_out(&reports);
    assert_eq!(counted, EVENTS);
    assert!(lines.len() as u64 <= EVENTS);
}
