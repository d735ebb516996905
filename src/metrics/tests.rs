//! What is rendered, and that `docs/metrics.md` says the same.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::memory;

const DOCS: &str = include_str!("../../docs/metrics.md");

/// Everything of `/metrics`, as a relay renders it that has done nothing yet.
fn rendered() -> String {
    Metrics::default().render() + &memory::rendered_for_docs()
}

/// Name and type of every metric of a text.
fn types(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types: Vec<_> = lines.map(|line| line.split_once(' ').unwrap()).collect();
    let by_name: BTreeMap<_, _> = types.iter().copied().collect();
    assert_eq!(by_name.len(), types.len(), "a metric is rendered twice");
    by_name
}

/// Name, type and labels of every row of the tables of the documentation.
fn described() -> BTreeMap<&'static str, (&'static str, BTreeSet<&'static str>)> {
    let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut by_name = BTreeMap::new();
    for row in rows {
        let cells: Vec<_> = row.split(" | ").map(str::trim).collect();
        let name = cells[0].trim_end_matches('`');
        if !name.starts_with("relay_") && !name.starts_with("process_") {
            continue;
        }
        let labels = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(by_name.insert(name, (cells[1], labels)).is_none(), "{name}");
    }
    by_name
}

#[test]
fn every_metric_is_described_and_every_description_is_of_a_metric() {
    let text = rendered();
    let (types, described) = (types(&text), described());
    for (name, kind) in &types {
        let (said, _) = described
            .get(name)
            .unwrap_or_else(|| panic!("docs/metrics.md does not describe {name}"));
        assert_eq!(said, kind, "{name}");
    }
    for name in described.keys() {
        assert!(
            types.contains_key(name),
            "{name} is described and not there"
        );
    }
}

#[test]
fn labels_are_those_that_are_described() {
    let metrics = Metrics::default();
    metrics.http_requests.inc((Route::Xrpc, Code::of(200)));
    metrics.control_backend.at(Backend::Embedded).set(1);
    let text = metrics.render() + &memory::rendered_for_docs();
    let described = described();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else {
            continue;
        };
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        let name = name.strip_suffix("_sum").unwrap_or(name);
        let name = name.strip_suffix("_count").unwrap_or(name);
        let labels = labels.split_once('}').unwrap().0.split("\",");
        let labels = labels.map(|label| label.split_once('=').unwrap().0);
        for label in labels.filter(|label| *label != "le") {
            assert!(described[name].1.contains(label), "{name}: {label}");
        }
    }
}

#[test]
fn numbers_are_rendered_with_their_labels() {
    let metrics = Metrics::default();
    metrics.events_sequenced.add(3);
    metrics.rejected.inc(Reject::RevStale);
    metrics.last_frame.set(Some(1_500));
    metrics.http_requests.inc((Route::Page, Code::of(404)));
    metrics.hosts_by_status.at(HostStatus::Offline).set(2);
    metrics
        .identity_lookups
        .inc((DidMethod::Web, LookupResult::Found));
    let waiting = metrics.hosts_waiting.during(Wait::Limit);
    let text = metrics.render();
    for line in [
        "relay_events_sequenced_total 3",
        "relay_events_rejected_total{reason=\"rev_stale\"} 1",
        "relay_upstream_last_frame_timestamp_seconds 1.5",
        "relay_http_requests_total{route=\"page\",code=\"404\"} 1",
        "relay_hosts{status=\"offline\"} 2",
        "relay_identity_lookups_total{method=\"web\",result=\"found\"} 1",
        "relay_identity_lookups_total{method=\"plc\",result=\"found\"} 0",
        "relay_hosts_waiting{for=\"limit\"} 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}");
    }
    assert!(!text.contains("relay_http_requests_total{route=\"page\",code=\"200\"}"));
    drop(waiting);
    assert_eq!(metrics.hosts_waiting.total(), 0);
    assert_eq!(Metrics::default().last_frame.get(), None);
    assert!(
        !Metrics::default()
            .render()
            .contains("\nrelay_window_seconds ")
    );
}

#[test]
fn a_delay_is_known_where_the_event_says_when_it_happened() {
    let metrics = Metrics::default();
    metrics.published(Some(1_000), 1_040);
    metrics.published(Some(1_000), 87_401_000);
    metrics.published(Some(1_041), 1_040);
    metrics.published(None, 1_040);
    let delays = metrics.event_delay.buckets();
    assert_eq!((delays.count(), delays.sum()), (2, 87_400.04));
    assert_eq!(metrics.delay_unknown.get(), 2);
    let text = metrics.render();
    assert!(text.contains("\nrelay_event_delay_seconds_bucket{le=\"0.05\"} 1\n"));
}
