//! What was measured, for people and for programs.

use std::{fmt::Write, io, time::Duration};

use serde::Serialize;

use super::{SiegeArgs, attack::Seen};
use crate::sim::{clock, expected::Differences};

const MIB: f64 = (1 << 20) as f64;

/// What was measured in all rounds of one kind.
#[derive(Default, Debug)]
pub(super) struct Measured {
    /// Of each round the delays of accounts that the relay knows, and of first events, in microseconds.
    delays: Vec<[Vec<u64>; 2]>,
    rss_max: u64,
    cpu: Duration,
    stolen: Duration,
    time: Duration,
}

impl Measured {
    /// The relay holds so many bytes now.
    pub(super) fn look(&mut self, rss: u64) {
        self.rss_max = self.rss_max.max(rss);
    }

    /// The most that it has held so far.
    pub(super) fn rss_max(&self) -> u64 {
        self.rss_max
    }

    /// In so much time it has used so much of the processor, and other machines had so much that this one wanted.
    pub(super) fn add_time(&mut self, cpu: Duration, stolen: Duration, time: Duration) {
        self.cpu += cpu;
        self.stolen += stolen;
        self.time += time;
    }

    /// These delays were seen in a further round.
    pub(super) fn add_delays(&mut self, mut delays: [Vec<u64>; 2]) {
        delays.iter_mut().for_each(|seen| seen.sort_unstable());
        self.delays.push(delays);
    }

    fn of_each_second(&self, time: Duration) -> f64 {
        time.as_secs_f64() / self.time.as_secs_f64().max(1e-9)
    }

    fn figures(&self) -> Figures {
        let of_rounds = |kind: usize, percent| {
            let rounds = self.delays.iter();
            let mut all: Vec<f64> = rounds.map(|of| percentile(&of[kind], percent)).collect();
            all.sort_unstable_by(f64::total_cmp);
            all
        };
        let middle = |kind, percent| median(&of_rounds(kind, percent));
        let worst = |kind, percent| of_rounds(kind, percent).last().copied().unwrap_or(0.0);
        let events = self.delays.iter().flatten().map(Vec::len);
        Figures {
            events: events.sum(),
            p50_ms: middle(0, 50),
            p99_ms: middle(0, 99),
            p99_worst_ms: worst(0, 99),
            max_ms: worst(0, 100),
            first_p50_ms: middle(1, 50),
            first_p99_ms: middle(1, 99),
            cpu: self.of_each_second(self.cpu),
            stolen: self.of_each_second(self.stolen),
            rss_max: self.rss_max,
        }
    }
}

/// In milliseconds; 0 of nothing.
fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let at = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(at).map_or(0.0, |micros| *micros as f64 / 1e3)
}

/// The middle one, or what is between the two in the middle; 0 of nothing.
fn median(sorted: &[f64]) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    (sorted[last / 2] + sorted[last.div_ceil(2)]) / 2.0
}

/// One side of a comparison. Percentiles are those of the round in the middle: a disk that stands still for
/// half a second does so beside attacks and without them, and in one round.
#[derive(Clone, Copy, Serialize, Debug)]
struct Figures {
    events: usize,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the round in which it was the longest.
    p99_worst_ms: f64,
    max_ms: f64,
    /// The same of the first events of accounts, for which the directory was asked.
    first_p50_ms: f64,
    first_p99_ms: f64,
    /// Processor time of the relay in each second.
    cpu: f64,
    /// Processor time in each second that other machines on the same hardware had instead of this one.
    stolen: f64,
    rss_max: u64,
}

/// One attack.
#[derive(Serialize, Debug)]
pub(super) struct Row {
    name: &'static str,
    about: &'static str,
    calm: Figures,
    attack: Figures,
    /// How many times as long the 99th percentile is under attack.
    ratio: f64,
    first_ratio: f64,
    /// What the relay held under attack beyond what it held in the calm before, at most.
    rss_over_mib: f64,
    /// What the relay says of it.
    seen: String,
    /// Why it is not as promised.
    failures: Vec<String>,
}

impl Row {
    pub(super) fn new(
        name: &'static str,
        about: &'static str,
        [calm, attack]: [&Measured; 2],
        rss_before: u64,
        seen: Seen,
    ) -> Row {
        let (calm, attack) = (calm.figures(), attack.figures());
        Row {
            name,
            about,
            calm,
            attack,
            ratio: attack.p99_ms / calm.p99_ms.max(1e-3),
            first_ratio: attack.first_p99_ms / calm.first_p99_ms.max(1e-3),
            rss_over_mib: attack.rss_max.saturating_sub(rss_before) as f64 / MIB,
            seen: seen.words,
            failures: seen.amiss.into_iter().collect(),
        }
    }

    /// In one line.
    pub(super) fn line(&self) -> String {
        let (calm, attack) = (&self.calm, &self.attack);
        format!(
            "p50 {:.1} → {:.1} ms, p99 {:.1} → {:.1} ms (×{:.2}; at worst {:.1} → {:.1}), first p99 {:.1} → {:.1} ms (×{:.2}), \
             cpu {:.2} → {:.2}, rss +{:.0} MiB; {}{}",
            calm.p50_ms,
            attack.p50_ms,
            calm.p99_ms,
            attack.p99_ms,
            self.ratio,
            calm.p99_worst_ms,
            attack.p99_worst_ms,
            calm.first_p99_ms,
            attack.first_p99_ms,
            self.first_ratio,
            calm.cpu,
            attack.cpu,
            self.rss_over_mib,
            self.seen,
            if self.failures.is_empty() {
                ""
            } else {
                "; AMISS: "
            },
        ) + &self.failures.join("; ")
    }
}

/// All attacks of one run.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    time: String,
    cores: usize,
    hosts: usize,
    attackers: usize,
    events_per_second: f64,
    seconds: f64,
    rounds: usize,
    /// Whether those who behave run before everybody else on the machine.
    runs_first: bool,
    rows: Vec<Row>,
    /// What is over a bound, or is amiss.
    failures: Vec<String>,
    /// How what the relay emitted compares with what those who behave have sent.
    #[serde(serialize_with = "in_words")]
    pub(super) differences: Differences,
}

fn in_words<S: serde::Serializer>(value: &Differences, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&words(value))
}

fn words(differences: &Differences) -> String {
    if differences.none() {
        return "none".to_owned();
    }
    let Differences {
        missing,
        duplicates,
        out_of_order,
        unexpected,
        gaps,
        other,
        samples,
    } = differences;
    format!(
        "{missing} missing, {duplicates} duplicate, {out_of_order} out of order, {unexpected} \
         unexpected, {gaps} gaps, {other} other: {}",
        samples.join("; ")
    )
}

impl Report {
    pub(super) fn new(args: &SiegeArgs, runs_first: bool) -> Report {
        Report {
            time: clock::datetime(clock::micros()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            hosts: args.hosts,
            attackers: args.attackers,
            events_per_second: args.rate,
            seconds: args.seconds,
            rounds: args.rounds,
            runs_first,
            rows: Vec::new(),
            failures: Vec::new(),
            differences: Differences::default(),
        }
    }

    pub(super) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Compares with the bounds; whether all is as promised, as far as that is asked for. What came
    /// out of the relay must be right in any case.
    pub(super) fn judge(&mut self, args: &SiegeArgs) -> bool {
        for row in &mut self.rows {
            let mut over = |what: &str, is: f64, most: f64| {
                if is > most {
                    row.failures.push(format!("{what} {is:.2} is over {most}"));
                }
            };
            over("ratio", row.ratio, args.ratio_max);
            over("first events' ratio", row.first_ratio, args.ratio_max);
            over("MiB over calm", row.rss_over_mib, args.rss_max);
            let named = row.failures.iter().map(|f| format!("{}: {f}", row.name));
            self.failures.extend(named);
        }
        self.differences.none() && (self.failures.is_empty() || !args.strict)
    }

    /// As Markdown.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} hosts that behave{}, {} events/s in all; {} attackers; {} rounds of {} s; {} cores; {}\n\n",
            self.hosts,
            if self.runs_first {
                " and run first"
            } else {
                " and wait for the processor like all others (only root may have them run first)"
            },
            self.events_per_second,
            self.attackers,
            self.rounds,
            self.seconds,
            self.cores,
            self.time,
        );
        text.push_str(
            "| attack | p50 calm → attack, ms | p99 calm → attack, ms | ratio | in the worst rounds, ms \
             | first events' p99, ms | ratio | relay's cores | stolen cores | MiB over calm | what the relay says |\n\
             |---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let (calm, attack) = (&row.calm, &row.attack);
            let _ = writeln!(
                text,
                "| {} | {:.1} → {:.1} | {:.1} → {:.1} | {:.2} | {:.1} → {:.1} | {:.1} → {:.1} | {:.2} | {:.2} → {:.2} \
                 | {:.2} → {:.2} | {:.0} | {} |",
                row.name,
                calm.p50_ms,
                attack.p50_ms,
                calm.p99_ms,
                attack.p99_ms,
                row.ratio,
                calm.p99_worst_ms,
                attack.p99_worst_ms,
                calm.first_p99_ms,
                attack.first_p99_ms,
                row.first_ratio,
                calm.cpu,
                attack.cpu,
                calm.stolen,
                attack.stolen,
                row.rss_over_mib,
                row.seen,
            );
        }
        let _ = writeln!(
            text,
            "\ndifferences of those who behave: {}",
            words(&self.differences)
        );
        for failure in &self.failures {
            let _ = writeln!(text, "over a bound or amiss: {failure}");
        }
        text
    }

    /// As JSON.
    pub(super) fn json(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(delays: Vec<u64>) -> Measured {
        let mut measured = Measured::default();
        measured.add_delays([delays, vec![7_000]]);
        measured.look(3 << 20);
        let second = Duration::from_secs(1);
        measured.add_time(second, second / 5, 2 * second);
        measured
    }

    #[test]
    fn the_ratio_is_that_of_the_99th_percentiles() {
        let calm = measured((1..=100).rev().map(|n| n * 1_000).collect());
        let mut attack = measured((1..=100).map(|n| n * 2_000).collect());
        attack.look(5 << 20);
        // One bad round of three is none of the attack's.
        let quick = || [(1..=100).map(|n| n * 2_000).collect(), vec![7_000]];
        attack.add_delays(quick());
        attack.add_delays([vec![9_000_000; 9], vec![7_000]]);
        let rounds = [&calm, &attack];
        let row = Row::new("a", "b", rounds, 3 << 20, Seen::default());
        assert_eq!((row.calm.p50_ms, row.calm.p99_ms), (50.0, 99.0));
        assert_eq!(
            (row.ratio, row.first_ratio, row.rss_over_mib),
            (2.0, 1.0, 2.0)
        );
        assert_eq!(row.attack.p99_worst_ms, 9_000.0);
        assert_eq!(
            (row.calm.events, row.calm.cpu, row.calm.stolen),
            (101, 0.5, 0.1)
        );
        assert!(row.line().contains("×2.00"));
    }
}
