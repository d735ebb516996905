//! Everything that a run found, and the files it goes into.

use std::{fs, io, path::Path, process::Command};

use serde::Serialize;

use super::{
    args::Conditions,
    cell::{Outcome, Phase},
    table::{self, Slope},
};
use crate::sim::{
    clock,
    plot::{self, Axis, Labels},
};

const MIB: f64 = (1 << 20) as f64;

/// The machine on which the lab ran.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(in crate::sim) struct Machine {
    cores: usize,
    processor: Option<String>,
    memory_kib: Option<u64>,
    kernel: Option<String>,
    /// The setting for transparent huge pages, which decides what allocators cost.
    transparent_huge_pages: Option<String>,
}

/// What a run found.
#[derive(Debug, Serialize)]
pub(super) struct Results<'a> {
    version: &'static str,
    /// The version of the source, where there is one.
    commit: Option<String>,
    date: String,
    machine: Machine,
    conditions: &'a Conditions,
    slopes: Vec<Slope>,
    pub(super) outcomes: &'a [Outcome],
}

impl Machine {
    pub(in crate::sim) fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).ok();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = read("/proc/meminfo").and_then(|text| field(&text, "MemTotal"));
        let huge = read("/sys/kernel/mm/transparent_hugepage/enabled");
        Machine {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: read("/proc/cpuinfo").and_then(|text| field(&text, "model name")),
            memory_kib: memory.and_then(|text| text.trim_end_matches(" kB").parse().ok()),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            transparent_huge_pages: huge.and_then(|text| {
                let (_, rest) = text.split_once('[')?;
                Some(rest.split_once(']')?.0.to_owned())
            }),
        }
    }

    pub(in crate::sim) fn summary(&self) -> String {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
        format!(
            "{} cores ({}), {} MiB, Linux {}, transparent huge pages: {}",
            self.cores,
            or(&self.processor),
            self.memory_kib.unwrap_or_default() >> 10,
            or(&self.kernel),
            or(&self.transparent_huge_pages)
        )
    }
}

impl<'a> Results<'a> {
    pub(super) fn new(conditions: &'a Conditions, outcomes: &'a [Outcome]) -> Results<'a> {
        Results {
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            date: clock::datetime(clock::micros()),
            machine: Machine::this(),
            conditions,
            slopes: table::slopes(outcomes, conditions),
            outcomes,
        }
    }

    /// The tables, under a heading that says what they are of.
    pub(super) fn markdown(&self) -> String {
        format!(
            "## zlay memlab\n\nzlay-sim {} ({}), {}\n{}\n\n{}\n",
            self.version,
            self.commit.as_deref().unwrap_or("no commit"),
            self.date,
            self.machine.summary(),
            table::markdown(self.outcomes, self.conditions)
        )
    }

    /// Writes all files into `directory`.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        fs::write(directory.join("memlab.json"), json)?;
        fs::write(directory.join("memlab.csv"), table::csv(self.outcomes))?;
        fs::write(directory.join("memlab.md"), self.markdown())?;
        fs::write(directory.join("rss-hosts.svg"), self.rss_over_hosts())?;
        fs::write(directory.join("rss-stack.svg"), self.rss_over_stack())?;
        fs::write(directory.join("rss-phases.svg"), self.rss_by_phase())?;
        if self
            .outcomes
            .iter()
            .any(|outcome| !outcome.ticks.is_empty())
        {
            fs::write(directory.join("soak.csv"), table::soak_csv(self.outcomes))?;
            fs::write(directory.join("soak.svg"), self.rss_over_time())?;
        }
        Ok(())
    }

    /// A line for each allocator through those cells of which `place` says where they are.
    fn series(&self, place: impl Fn(&Outcome) -> Option<f64>) -> Vec<plot::Series<'_>> {
        let point = |outcome: &Outcome| {
            let rss = outcome.row(Phase::Idle)?.sample.rss;
            Some((place(outcome)?, rss as f64 / MIB))
        };
        let series = |name| {
            let of_it = self.outcomes.iter().filter(|o| o.cell.variant.name == name);
            (name, of_it.filter_map(point).collect())
        };
        let allocators = table::allocators(self.outcomes).into_iter();
        allocators.map(series).collect()
    }

    fn rss_over_hosts(&self) -> String {
        let stack = self.conditions.base_stack_kib;
        let series = self.series(|o| {
            let at_base = o.cell.stack_kib == stack && o.connected == o.cell.hosts;
            at_base.then_some(o.cell.hosts as f64)
        });
        let title = format!("Resident memory by hosts, idle, {stack} KiB stacks");
        plot::lines(labels(&title, "hosts (TLS)"), Axis::Even, &series)
    }

    fn rss_over_stack(&self) -> String {
        let hosts = self.conditions.base_hosts;
        let series = self.series(|o| {
            let at_base = o.cell.hosts == hosts;
            at_base.then_some(f64::from(o.cell.stack_kib))
        });
        let title = format!("Resident memory by stack size, idle, {hosts} hosts");
        plot::lines(labels(&title, "stack (KiB)"), Axis::Doubling, &series)
    }

    fn rss_by_phase(&self) -> String {
        let (hosts, stack) = (self.conditions.base_hosts, self.conditions.base_stack_kib);
        let at_base: Vec<_> = self
            .outcomes
            .iter()
            .filter(|o| o.cell.hosts == hosts && o.cell.stack_kib == stack)
            .collect();
        let names: Vec<_> = at_base
            .iter()
            .map(|o| o.cell.variant.name.as_str())
            .collect();
        let phases = [Phase::Idle, Phase::Fill, Phase::Load, Phase::Burst];
        let groups: Vec<_> = phases
            .into_iter()
            .map(|phase| {
                let rss = |o: &&Outcome| Some(o.row(phase)?.sample.rss as f64 / MIB);
                (phase.name(), at_base.iter().map(rss).collect::<Vec<_>>())
            })
            .filter(|(_, values)| values.iter().any(Option::is_some))
            .collect();
        let title = format!("Resident memory by phase, {hosts} hosts, {stack} KiB stacks");
        plot::bars(labels(&title, ""), &names, &groups)
    }

    fn rss_over_time(&self) -> String {
        let series: Vec<_> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let point = |tick: &super::sample::Tick| (tick.at / 60.0, tick.rss as f64 / MIB);
                let points = outcome.ticks.iter().map(point).collect();
                (outcome.cell.variant.name.as_str(), points)
            })
            .collect();
        let rate = self.conditions.rate;
        let title = format!("Resident memory over time at {rate} events a second");
        plot::lines(labels(&title, "minutes"), Axis::Even, &series)
    }
}

fn labels<'a>(title: &'a str, x: &'a str) -> Labels<'a> {
    Labels {
        title,
        x,
        y: "RSS (MiB)",
    }
}

/// The commit that is checked out where this runs.
pub(in crate::sim) fn commit() -> Option<String> {
    let mut git = Command::new("git");
    let output = git
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::lab::tests::{conditions, outcome};

    #[test]
    fn every_file_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let conditions = conditions();
        let outcomes = [outcome("glibc", 250, 2048), outcome("glibc", 500, 2048)];
        let results = Results::new(&conditions, &outcomes);
        results.write(directory.path()).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("memlab.csv").lines().count(), 1 + 2 * 4);
        assert!(read("memlab.md").contains("transparent huge pages"));
        let json: serde_json::Value = serde_json::from_str(&read("memlab.json")).unwrap();
        assert_eq!(json["outcomes"][1]["cell"]["hosts"], 500);
        assert_eq!(json["outcomes"][0]["rows"][1]["phase"], "idle");
        assert_eq!(json["conditions"]["rate"], 600.0);
        assert!(json["machine"]["cores"].as_u64() > Some(0));
        assert_eq!(read("rss-hosts.svg").matches("<circle").count(), 2);
        // At 500 hosts, the base, there is one stack, and all bars are of one relay.
        assert_eq!(read("rss-stack.svg").matches("<circle").count(), 1);
        assert_eq!(
            read("rss-phases.svg").matches("fill=\"#0072b2\"").count(),
            4
        );
        assert!(!directory.path().join("soak.csv").exists());
    }
}
