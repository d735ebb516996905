//! The memory lab: relays with one allocator and one stack size each, among so many hosts, and what
//! each of them takes of the machine. `docs/memory.md` explains how to read what comes out.

mod args;
mod cell;
mod filler;
mod landscape;
mod plan;
mod results;
mod sample;
mod table;

use std::{
    fs, io,
    time::{Duration, Instant},
};

pub(crate) use args::MemlabArgs;
pub(crate) use landscape::{QuietArgs, serve_quiet};
pub(super) use results::{Machine, commit};

use self::{
    args::Conditions,
    cell::{Outcome, Phase},
    plan::Cell,
    results::Results,
};
use crate::threads::Stop;

/// Runs every cell and writes the results after each; false where something did not go as planned.
pub(crate) fn run(args: &MemlabArgs, stop: &Stop) -> io::Result<bool> {
    let (conditions, cells) = (args.conditions(), args.cells());
    fs::create_dir_all(&conditions.logs)?;
    let mut pace = Pace::new(&conditions, &cells);
    println!(
        "memlab  {} cells, results in {}",
        cells.len(),
        args.out.display()
    );
    let mut outcomes = Vec::with_capacity(cells.len());
    let mut good = true;
    for (i, cell) in cells.iter().enumerate() {
        if stop.requested() {
            break;
        }
        println!("[{:>2}/{}] {cell}", i + 1, cells.len());
        let mut outcome = Outcome::of(cell.clone());
        let result = cell::measure(&mut outcome, &conditions, stop);
        pace.done(cell);
        if let Err(error) = result
            && !stop.requested()
        {
            let log = conditions.logs.join(cell.file_name("log"));
            let note = format!("FAILED: {error} (see {})", log.display());
            outcome.notes.push(note);
        }
        good &= outcome.notes.is_empty();
        println!("        {}", summary(&outcome));
        outcome
            .notes
            .iter()
            .for_each(|note| println!("        {note}"));
        if let Some(left) = pace.left().filter(|_| i + 1 < cells.len()) {
            println!("        about {} left", minutes(left));
        }
        // Rows of an unfinished cell are as good as others.
        if !outcome.rows.is_empty() || !outcome.notes.is_empty() {
            outcomes.push(outcome);
        }
        Results::new(&conditions, &outcomes).write(&args.out)?;
    }
    println!("\n{}", Results::new(&conditions, &outcomes).markdown());
    println!("written to {}", args.out.display());
    Ok(good && !stop.requested())
}

/// A cell in a line.
fn summary(outcome: &Outcome) -> String {
    let mut parts = Vec::new();
    if let Some(row) = outcome.row(Phase::Connect) {
        parts.push(format!(
            "connected in {:.1} s, health within {:.0} ms",
            row.seconds, outcome.health.slowest_ms
        ));
    }
    for phase in [Phase::Idle, Phase::Fill, Phase::Load, Phase::Burst] {
        if let Some(row) = outcome.row(phase) {
            let rss = row.sample.rss as f64 / f64::from(1 << 20);
            parts.push(format!("{} {rss:.0} MiB", phase.name()));
        }
    }
    if parts.is_empty() {
        parts.push("nothing was measured".to_owned());
    }
    parts.join(", ")
}

/// How long the rest will take, judged by what was done: a cell takes its phases and some time for
/// each host.
struct Pace {
    began: Instant,
    fixed: f64,
    done: f64,
    left: f64,
}

/// Connecting to a host, its large event and its end, in seconds on a machine of two cores: only the
/// first estimate depends on it.
const SECONDS_PER_HOST: f64 = 0.012;

impl Pace {
    fn new(conditions: &Conditions, cells: &[Cell]) -> Pace {
        let Conditions {
            idle, load, settle, ..
        } = conditions;
        let fixed = *idle + *load + *settle + conditions.calm;
        let mut pace = Pace {
            began: Instant::now(),
            // And start and stop of the relay.
            fixed: fixed.as_secs_f64() + 2.0,
            done: 0.0,
            left: 0.0,
        };
        pace.left = cells.iter().map(|cell| pace.weight(cell)).sum();
        pace
    }

    fn weight(&self, cell: &Cell) -> f64 {
        self.fixed + cell.hosts as f64 * SECONDS_PER_HOST
    }

    fn done(&mut self, cell: &Cell) {
        let weight = self.weight(cell);
        self.done += weight;
        self.left -= weight;
    }

    fn left(&self) -> Option<Duration> {
        let took = self.began.elapsed().as_secs_f64();
        Duration::try_from_secs_f64(self.left * took / self.done).ok()
    }
}

fn minutes(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=90 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use super::{
        cell::Row,
        plan::Variant,
        sample::{Inside, Sample},
        *,
    };

    pub(super) fn conditions() -> Conditions {
        Conditions {
            base_hosts: 500,
            base_stack_kib: 2048,
            idle: Duration::from_secs(1),
            load: Duration::from_secs(2),
            settle: Duration::from_secs(3),
            calm: Duration::from_secs(3),
            rate: 600.0,
            subscribers: 20,
            large_bytes: 500_000,
            burst_events: 100,
            identities: 0,
            soak: None,
            data_dir: PathBuf::from("."),
            logs: PathBuf::from("."),
            seed: 1,
            hosts_per_process: None,
        }
    }

    /// A relay that takes 100 MiB, 64 KiB for each host, and 1 MiB more in each phase.
    pub(super) fn outcome(allocator: &str, hosts: usize, stack_kib: u32) -> Outcome {
        let mut outcome = Outcome::of(Cell {
            variant: Variant {
                name: allocator.into(),
                ..Variant::beside()
            },
            hosts,
            stack_kib,
        });
        outcome.connected = hosts;
        outcome.health = crate::sim::health::Answers {
            asked: 10,
            failed: 0,
            slowest_ms: 7.5,
            ..crate::sim::health::Answers::default()
        };
        let phases = [Phase::Connect, Phase::Idle, Phase::Load, Phase::Burst];
        for (i, phase) in phases.into_iter().enumerate() {
            let rss = ((100 + i as u64) << 20) + (64 << 10) * hosts as u64;
            outcome.rows.push(Row {
                phase,
                seconds: 1.5,
                sample: Sample {
                    rss,
                    pss: rss,
                    anonymous: rss / 2,
                    huge: 0,
                    vmsize: rss * 10,
                    threads: hosts as u64 + 20,
                    mappings: 2 * hosts as u64 + 100,
                    minor_faults: 5,
                    major_faults: 0,
                    cpu_seconds: 0.25,
                    inside: Inside {
                        stacks: Some(1 << 20),
                        stack_high_water: BTreeMap::from([("host".into(), 40 << 10)]),
                        ..Inside::default()
                    },
                },
                subscriber_bytes: 0,
            });
        }
        outcome
    }

    #[test]
    fn the_rest_is_judged_by_what_was_done() {
        let cells: Vec<_> = [2_750, 2_750, 2_750]
            .map(|hosts| outcome("a", hosts, 2048).cell)
            .into();
        let mut pace = Pace::new(&conditions(), &cells);
        pace.began -= Duration::from_secs(60);
        pace.done(&cells[0]);
        let left = pace.left().unwrap().as_secs_f64();
        assert!((120.0..121.0).contains(&left), "{left}");
        assert_eq!(minutes(Duration::from_secs(90)), "90 s");
        assert_eq!(minutes(Duration::from_secs(121)), "3 min");
    }

    #[test]
    fn a_cell_is_told_in_a_line() {
        let outcome = outcome("a", 16, 256);
        let line = "connected in 1.5 s, health within 8 ms, idle 102 MiB, load 103 MiB, \
                    burst 104 MiB";
        assert_eq!(summary(&outcome), line);
        assert_eq!(summary(&Outcome::of(outcome.cell)), "nothing was measured");
    }
}
