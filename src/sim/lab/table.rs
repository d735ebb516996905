//! The results as rows: CSV for programs, Markdown for people.

use std::fmt::Write;

use serde::Serialize;

use super::{
    args::Conditions,
    cell::{Outcome, Phase, Row},
};
use crate::sim::fit::{self, Line};

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
/// Bytes of these phases are compared.
const COMPARED: [Phase; 3] = [Phase::Idle, Phase::Load, Phase::Burst];

/// One row for each cell and phase, and a heading. Sizes are in KiB; a field is empty where the
/// relay does not say it.
pub(super) fn csv(outcomes: &[Outcome]) -> String {
    let roles = roles(outcomes);
    let mut text = String::from(
        "allocator,stack_kib,hosts,phase,seconds,connected,health_slowest_ms,health_failed,\
         rss_kib,pss_kib,anonymous_kib,huge_pages_kib,vmsize_kib,threads,mappings,minor_faults,\
         major_faults,cpu_seconds,subscriber_bytes,stacks_resident_kib,heap_in_use_kib,\
         heap_retained_kib,ring_kib,identity_cache_kib,identities_cached,rocksdb_kib",
    );
    for role in &roles {
        let _ = write!(text, ",stack_high_water_{role}_kib");
    }
    text.push('\n');
    for outcome in outcomes {
        for row in &outcome.rows {
            csv_row(&mut text, outcome, row, &roles);
        }
    }
    text
}

fn csv_row(text: &mut String, outcome: &Outcome, row: &Row, roles: &[&str]) {
    let (cell, sample, inside) = (&outcome.cell, &row.sample, &row.sample.inside);
    let connecting = row.phase == Phase::Connect;
    let only = |shown: bool, value: String| if shown { value } else { String::new() };
    let kib = |bytes: u64| (bytes >> 10).to_string();
    let maybe = |bytes: Option<u64>| bytes.map_or_else(String::new, kib);
    let identities = outcome
        .identities
        .map_or_else(String::new, |n| n.to_string());
    let mut fields = vec![
        cell.variant.name.clone(),
        cell.stack_kib.to_string(),
        cell.hosts.to_string(),
        row.phase.name().to_owned(),
        format!("{:.3}", row.seconds),
        only(connecting, outcome.connected.to_string()),
        only(connecting, format!("{:.1}", outcome.health.slowest_ms)),
        only(connecting, outcome.health.failed.to_string()),
        kib(sample.rss),
        kib(sample.pss),
        kib(sample.anonymous),
        kib(sample.huge),
        kib(sample.vmsize),
        sample.threads.to_string(),
        sample.mappings.to_string(),
        sample.minor_faults.to_string(),
        sample.major_faults.to_string(),
        format!("{:.2}", sample.cpu_seconds),
        row.subscriber_bytes.to_string(),
        maybe(inside.stacks),
        maybe(inside.heap_in_use),
        maybe(inside.heap_retained),
        maybe(inside.ring),
        maybe(inside.identity_cache),
        only(row.phase == Phase::Fill, identities),
        maybe(inside.rocksdb),
    ];
    let high_water = |role: &&str| maybe(inside.stack_high_water.get(*role).copied());
    fields.extend(roles.iter().map(high_water));
    text.push_str(&fields.join(","));
    text.push('\n');
}

/// The roles of threads that any relay tells of.
fn roles(outcomes: &[Outcome]) -> Vec<&str> {
    let rows = outcomes.iter().flat_map(|outcome| &outcome.rows);
    let roles = rows.flat_map(|row| row.sample.inside.stack_high_water.keys());
    let mut roles: Vec<_> = roles.map(String::as_str).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// The ticks of all soaks.
pub(super) fn soak_csv(outcomes: &[Outcome]) -> String {
    let mut text =
        String::from("allocator,stack_kib,hosts,seconds,rss_kib,anonymous_kib,cpu_seconds\n");
    for outcome in outcomes {
        let cell = &outcome.cell;
        for tick in &outcome.ticks {
            let _ = writeln!(
                text,
                "{},{},{},{:.1},{},{},{:.2}",
                cell.variant.name,
                cell.stack_kib,
                cell.hosts,
                tick.at,
                tick.rss >> 10,
                tick.anonymous >> 10,
                tick.cpu_seconds
            );
        }
    }
    text
}

/// What a further host costs, by allocator and phase.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Slope {
    pub(super) allocator: String,
    pub(super) phase: Phase,
    /// RSS in KiB over hosts.
    pub(super) line: Line,
    /// Numbers of hosts that the line goes through.
    pub(super) points: usize,
}

/// The slopes over hosts at the base stack. There is none where a number of hosts is missing to make
/// two.
pub(super) fn slopes(outcomes: &[Outcome], conditions: &Conditions) -> Vec<Slope> {
    let mut slopes = Vec::new();
    for allocator in allocators(outcomes) {
        for phase in COMPARED {
            let of_it = outcomes.iter().filter(|o| o.cell.variant.name == allocator);
            let points: Vec<_> = of_it
                .filter(|o| o.cell.stack_kib == conditions.base_stack_kib)
                // A relay that is short of hosts is short of their cost.
                .filter(|o| o.connected == o.cell.hosts)
                .filter_map(|o| {
                    let rss = o.row(phase)?.sample.rss;
                    Some((o.cell.hosts as f64, rss as f64 / KIB))
                })
                .collect();
            if let Some(line) = fit::line(&points) {
                slopes.push(Slope {
                    allocator: allocator.to_owned(),
                    phase,
                    line,
                    points: points.len(),
                });
            }
        }
    }
    slopes
}

/// The slope of the second half of a soak, in bytes of RSS a second.
pub(super) fn drift(outcome: &Outcome) -> Option<f64> {
    let half = &outcome.ticks[outcome.ticks.len() / 2..];
    let points: Vec<_> = half.iter().map(|tick| (tick.at, tick.rss as f64)).collect();
    fit::line(&points).map(|line| line.slope)
}

/// The names of the relays in the order of their first cells.
pub(super) fn allocators(outcomes: &[Outcome]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !names.contains(&outcome.cell.variant.name.as_str()) {
            names.push(&outcome.cell.variant.name);
        }
    }
    names
}

/// The tables that a person reads.
pub(super) fn markdown(outcomes: &[Outcome], conditions: &Conditions) -> String {
    let mut text = String::new();
    text.push_str("### Memory (MiB)\n\n");
    table(
        &mut text,
        &[
            "allocator",
            "stack KiB",
            "hosts",
            "RSS idle",
            "RSS load",
            "RSS burst",
            "PSS idle",
            "VmSize",
            "stacks",
            "host stack, deepest KiB",
            "heap in use",
            "retained burst",
            "huge pages",
        ],
        outcomes.iter().map(memory_cells),
    );
    text.push_str("\n### Time and faults\n\n");
    table(
        &mut text,
        &[
            "allocator",
            "stack KiB",
            "hosts",
            "connected s",
            "health, slowest ms",
            "CPU s connect",
            "CPU s idle",
            "CPU s load",
            "CPU s burst",
            "faults connect",
            "faults load",
            "faults burst",
            "threads",
            "mappings",
        ],
        outcomes.iter().map(time_cells),
    );
    let slopes = slopes(outcomes, conditions);
    if !slopes.is_empty() {
        text.push_str("\n### What a further host costs (RSS, least squares)\n\n");
        let rows = slopes.iter().map(|slope| {
            vec![
                slope.allocator.clone(),
                slope.phase.name().to_owned(),
                format!("{:.1}", slope.line.slope),
                format!("{:.1}", slope.line.intercept / KIB),
                slope.points.to_string(),
            ]
        });
        let heads = [
            "allocator",
            "phase",
            "KiB per host",
            "MiB without hosts",
            "points",
        ];
        table(&mut text, &heads, rows);
    }
    let filled = outcomes
        .iter()
        .filter_map(|o| Some((o, o.row(Phase::Fill)?)));
    let rows: Vec<_> = filled
        .map(|(outcome, row)| fill_cells(outcome, row))
        .collect();
    if !rows.is_empty() {
        text.push_str("\n### Identities\n\n");
        let heads = [
            "allocator",
            "cached",
            "seconds",
            "a second",
            "RSS MiB",
            "CPU s",
        ];
        table(&mut text, &heads, rows.into_iter());
    }
    let rows: Vec<_> = outcomes.iter().filter_map(soak_cells).collect();
    if !rows.is_empty() {
        text.push_str("\n### Soak\n\n");
        let heads = [
            "allocator",
            "seconds",
            "RSS first",
            "last",
            "most",
            "MiB a minute, second half",
        ];
        table(&mut text, &heads, rows.into_iter());
    }
    for outcome in outcomes {
        for note in &outcome.notes {
            let _ = write!(text, "\n* {}: {note}", outcome.cell);
        }
    }
    text
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / MIB)
}

fn point(outcome: &Outcome) -> Vec<String> {
    let cell = &outcome.cell;
    vec![
        cell.variant.name.clone(),
        cell.stack_kib.to_string(),
        cell.hosts.to_string(),
    ]
}

fn memory_cells(outcome: &Outcome) -> Vec<String> {
    let of = |phase: Phase, value: fn(&Row) -> Option<u64>| {
        let bytes = outcome.row(phase).and_then(value);
        bytes.map_or_else(|| "-".to_owned(), mib)
    };
    let deepest = outcome
        .rows
        .iter()
        .filter_map(|row| row.sample.inside.stack_high_water.get("host"))
        .max();
    let rss = |row: &Row| Some(row.sample.rss);
    let mut cells = point(outcome);
    cells.extend([
        of(Phase::Idle, rss),
        of(Phase::Load, rss),
        of(Phase::Burst, rss),
        of(Phase::Idle, |row| Some(row.sample.pss)),
        of(Phase::Idle, |row| Some(row.sample.vmsize)),
        of(Phase::Load, |row| row.sample.inside.stacks),
        deepest.map_or_else(|| "-".to_owned(), |bytes| (bytes >> 10).to_string()),
        of(Phase::Load, |row| row.sample.inside.heap_in_use),
        of(Phase::Burst, |row| row.sample.inside.heap_retained),
        of(Phase::Burst, |row| Some(row.sample.huge)),
    ]);
    cells
}

fn time_cells(outcome: &Outcome) -> Vec<String> {
    let of = |phase: Phase, value: fn(&Row) -> String| {
        let row = outcome.row(phase);
        row.map_or_else(|| "-".to_owned(), value)
    };
    let cpu = |row: &Row| format!("{:.2}", row.sample.cpu_seconds);
    let faults = |row: &Row| (row.sample.minor_faults + row.sample.major_faults).to_string();
    let mut cells = point(outcome);
    cells.extend([
        of(Phase::Connect, |row| format!("{:.1}", row.seconds)),
        format!("{:.1}", outcome.health.slowest_ms),
        of(Phase::Connect, cpu),
        of(Phase::Idle, cpu),
        of(Phase::Load, cpu),
        of(Phase::Burst, cpu),
        of(Phase::Connect, faults),
        of(Phase::Load, faults),
        of(Phase::Burst, faults),
        of(Phase::Load, |row| row.sample.threads.to_string()),
        of(Phase::Load, |row| row.sample.mappings.to_string()),
    ]);
    cells
}

fn fill_cells(outcome: &Outcome, row: &Row) -> Vec<String> {
    let cached = outcome.identities;
    let rate = cached.map(|cached| cached as f64 / row.seconds.max(0.001));
    vec![
        outcome.cell.variant.name.clone(),
        cached.map_or_else(|| "-".to_owned(), |n| n.to_string()),
        format!("{:.1}", row.seconds),
        rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}")),
        mib(row.sample.rss),
        format!("{:.1}", row.sample.cpu_seconds),
    ]
}

fn soak_cells(outcome: &Outcome) -> Option<Vec<String>> {
    let (first, last) = (outcome.ticks.first()?, outcome.ticks.last()?);
    let most = outcome.ticks.iter().map(|tick| tick.rss).max()?;
    let drift = drift(outcome).map(|slope| format!("{:+.2}", slope * 60.0 / MIB));
    Some(vec![
        outcome.cell.variant.name.clone(),
        format!("{:.0}", last.at),
        mib(first.rss),
        mib(last.rss),
        mib(most),
        drift.unwrap_or_else(|| "-".to_owned()),
    ])
}

fn table(text: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |", heads.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(heads.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::lab::tests::{conditions, outcome};

    #[test]
    fn every_row_has_a_field_for_every_head() {
        let outcomes = [outcome("glibc", 250, 2048), outcome("jemalloc", 500, 2048)];
        let text = csv(&outcomes);
        let mut lines = text.lines();
        let heads: Vec<_> = lines.next().unwrap().split(',').collect();
        let rows: Vec<Vec<_>> = lines.map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 2 * 4);
        assert!(rows.iter().all(|row| row.len() == heads.len()), "{text}");
        let value = |row: usize, head: &str| {
            let at = heads.iter().position(|h| *h == head).unwrap();
            rows[row][at]
        };
        assert_eq!(value(0, "allocator"), "glibc");
        assert_eq!(
            (value(0, "phase"), value(0, "health_slowest_ms")),
            ("connect", "7.5")
        );
        assert_eq!(
            (value(1, "phase"), value(1, "health_slowest_ms")),
            ("idle", "")
        );
        // As the helper makes them: 100 MiB and 64 KiB for each host, and 1 MiB for each phase.
        assert_eq!(value(1, "rss_kib"), ((101 << 10) + 64 * 250).to_string());
        assert_eq!(value(1, "stack_high_water_host_kib"), "40");
        assert_eq!(value(1, "heap_retained_kib"), "");
    }

    #[test]
    fn the_cost_of_a_host_is_the_slope() {
        let mut outcomes = vec![
            outcome("glibc", 250, 2048),
            outcome("glibc", 1_000, 2048),
            outcome("glibc", 1_000, 8192),
            outcome("jemalloc", 250, 2048),
        ];
        let slopes_now = slopes(&outcomes, &conditions());
        assert_eq!(
            slopes_now.len(),
            3,
            "one allocator has one number of hosts only"
        );
        let idle = &slopes_now[0];
        assert_eq!((idle.phase, idle.points), (Phase::Idle, 2));
        assert!((idle.line.slope - 64.0).abs() < 1e-6, "{idle:?}");
        outcomes[1].connected -= 1;
        assert!(slopes(&outcomes, &conditions()).is_empty());
    }

    #[test]
    fn people_get_tables() {
        let mut outcomes = vec![outcome("glibc", 250, 2048), outcome("glibc", 500, 2048)];
        outcomes[1].notes.push("a subscriber was cut".into());
        let text = markdown(&outcomes, &conditions());
        assert!(
            text.contains("| glibc | idle | 64.0 | 101.0 | 2 |"),
            "{text}"
        );
        assert!(
            text.contains("* glibc, 500 hosts, 2048 KiB: a subscriber was cut"),
            "{text}"
        );
        assert!(!text.contains("### Soak") && !text.contains("### Identities"));
        let mut columns = 0;
        for line in text.lines() {
            match line.matches('|').count() {
                0 => columns = 0,
                n if columns == 0 => columns = n,
                n => assert_eq!(n, columns, "{line}"),
            }
        }
    }

    #[test]
    fn a_soak_tells_its_drift() {
        let mut outcome = outcome("glibc", 250, 2048);
        // A minute of nothing, then a MiB a minute.
        outcome.ticks = (0..24_u32)
            .map(|i| crate::sim::lab::sample::Tick {
                at: f64::from(i) * 5.0,
                rss: (50 << 20) + (u64::from(i.max(12)) - 12) * (1 << 20) / 12,
                anonymous: 0,
                cpu_seconds: 0.0,
            })
            .collect();
        let drift = drift(&outcome).unwrap() * 60.0 / MIB;
        assert!((drift - 1.0).abs() < 1e-3, "{drift}");
        let outcomes = [outcome];
        assert!(markdown(&outcomes, &conditions()).contains("| +1.00 |"));
        assert_eq!(soak_csv(&outcomes).lines().count(), 25);
    }
}
