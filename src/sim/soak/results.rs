//! What a soak found, and the files it goes into.

use std::{fmt::Write, fs, io, path::Path};

use serde::Serialize;

use super::{churn, readers, samples};
use crate::sim::{
    clock,
    expected::Differences,
    lab::{Machine, commit},
};

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    pub(super) version: &'static str,
    /// The version of the source, where there is one.
    pub(super) commit: Option<String>,
    pub(super) date: String,
    pub(super) machine: Machine,
    pub(super) hosts: usize,
    pub(super) seconds: f64,
    /// The command line, from `soak` on.
    pub(super) options: Vec<String>,
    /// Events to come, and how many of them came as expected.
    pub(super) expected: u64,
    pub(super) matched: u64,
    pub(super) invalid: u64,
    pub(super) faults: u64,
    pub(super) differences: Counts,
    /// Replays of hosts that began after something that was gone: the simulator's own loss.
    pub(super) hosts_outdated: u64,
    /// Events a second between two samples: half of the time, and at most.
    pub(super) sent_median: f64,
    pub(super) sent_highest: f64,
    /// How often the window has turned over: events that have left it, in windows of those that were
    /// in it in the end.
    pub(super) turnovers: f64,
    pub(super) trends: Vec<samples::Trend>,
    pub(super) churn: churn::Told,
    pub(super) readers: readers::Told,
    /// What is not as it must be.
    pub(super) failures: Vec<String>,
}

/// Differences from the oracle.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct Counts {
    missing: u64,
    duplicates: u64,
    out_of_order: u64,
    unexpected: u64,
    gaps: u64,
    other: u64,
}

impl From<&Differences> for Counts {
    fn from(found: &Differences) -> Counts {
        Counts {
            missing: found.missing,
            duplicates: found.duplicates,
            out_of_order: found.out_of_order,
            unexpected: found.unexpected,
            gaps: found.gaps,
            other: found.other,
        }
    }
}

impl Results {
    /// Results of which only the circumstances are known.
    pub(super) fn begun(hosts: usize) -> Results {
        Results {
            version: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            date: clock::datetime(clock::micros()),
            machine: Machine::this(),
            hosts,
            seconds: 0.0,
            options: std::env::args().skip(1).collect(),
            expected: 0,
            matched: 0,
            invalid: 0,
            faults: 0,
            differences: Counts::default(),
            hosts_outdated: 0,
            sent_median: 0.0,
            sent_highest: 0.0,
            turnovers: 0.0,
            trends: Vec::new(),
            churn: churn::Told::default(),
            readers: readers::Told::default(),
            failures: Vec::new(),
        }
    }

    /// For people.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "## zlay soak\n\nzlay-sim {} ({}), {}\n{}\n`zlay-sim {}`\n\n",
            self.version,
            self.commit.as_deref().unwrap_or("no commit"),
            self.date,
            self.machine.summary(),
            self.options.join(" ")
        );
        let _ = writeln!(
            text,
            "{} hosts, {:.0} s: {} events expected, {} came as expected; {} invalid ones, {} other \
             faults. Sent a second: {:.0} in the median, {:.0} at most. The window turned over {:.1} \
             times.\n",
            self.hosts,
            self.seconds,
            self.expected,
            self.matched,
            self.invalid,
            self.faults,
            self.sent_median,
            self.sent_highest,
            self.turnovers
        );
        let (churn, readers) = (&self.churn, &self.readers);
        let _ = writeln!(
            text,
            "Hosts: {} vanished and {} came back, {} moved and {} of the old ones are gone and \
             banned, {} were banned for a while and {} unbanned, {} disconnected; {} requests \
             refused.\n",
            churn.vanished,
            churn.returned,
            churn.moved,
            churn.retired,
            churn.banned,
            churn.unbanned,
            churn.disconnected,
            churn.failed
        );
        let _ = writeln!(
            text,
            "Subscribers: {} of {} live ones stayed, {} MB to them; {} replays of {} frames that \
             were what they had been, {} of them from below the window, {} more overtaken by its \
             end; slow ones connected {} times, stopped ones {} times; {} connections refused.\n",
            readers.live_open,
            readers.live,
            readers.live_bytes / 1_000_000,
            readers.replays,
            readers.compared,
            readers.outdated,
            readers.overtaken,
            readers.slow_connections,
            readers.stopped_connections,
            readers.refused
        );
        text.push_str(&samples::table(&self.trends));
        for failure in &self.failures {
            let _ = writeln!(text, "\nFAILED: {failure}");
        }
        if self.failures.is_empty() {
            text.push_str("\nOK: the output equals the expectation exactly");
            let judged = self.trends.iter().all(|trend| trend.flat == Some(true));
            text.push_str(if judged && !self.trends.is_empty() {
                ", and everything is flat\n"
            } else {
                "; whether everything is flat, so short a run does not show\n"
            });
        }
        text
    }

    /// Writes all files into `directory`.
    pub(super) fn write(&self, directory: &Path, samples: &[samples::Sample]) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        fs::write(directory.join("soak.json"), json)?;
        fs::write(directory.join("soak.md"), self.markdown())?;
        write_samples(directory, samples)
    }
}

/// Writes what there is while the run goes on, so that it can be looked at.
pub(super) fn write_samples(directory: &Path, samples: &[samples::Sample]) -> io::Result<()> {
    fs::write(directory.join("samples.csv"), samples::csv(samples))?;
    fs::write(directory.join("soak.svg"), samples::picture(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_written_and_says_how_it_went() {
        let directory = tempfile::tempdir().unwrap();
        let mut results = Results::begun(30);
        let samples = vec![samples::Sample::default(); 3];
        results.write(directory.path(), &samples).unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("samples.csv").lines().count(), 4);
        assert!(read("soak.svg").contains("<polyline"));
        assert!(read("soak.md").contains("OK: the output equals"));
        results.failures.push("something".into());
        results.write(directory.path(), &samples).unwrap();
        assert!(read("soak.md").contains("FAILED: something"));
        assert!(!read("soak.md").contains("OK:"));
        let json: serde_json::Value = serde_json::from_str(&read("soak.json")).unwrap();
        assert_eq!(json["hosts"], 30);
        assert_eq!(json["failures"][0], "something");
    }
}
