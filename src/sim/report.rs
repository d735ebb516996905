//! What a run says about itself: a line a second, and the verdict.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{Network, check::Checker, expected::Differences, relay, traffic::Sent};

/// Samples of resident memory that a slope is made of, at least.
const SLOPE_SAMPLES_MIN: usize = 20;

/// Numbers from one line to the next.
#[derive(Debug)]
pub(super) struct Lines {
    start: Instant,
    last: Instant,
    sent: u64,
    received: u64,
    /// Seconds since the start and bytes.
    resident: Vec<(f64, u64)>,
}

impl Lines {
    pub(super) fn new() -> Lines {
        let now = Instant::now();
        Lines {
            start: now,
            last: now,
            sent: 0,
            received: 0,
            resident: Vec::new(),
        }
    }

    /// The line of the second that ends now.
    pub(super) fn line(
        &mut self,
        network: &Network,
        sent: &Sent,
        checker: Option<&Checker>,
        pid: Option<u32>,
    ) -> String {
        let elapsed = self.last.elapsed().as_secs_f64().max(0.001);
        self.last = Instant::now();
        let valid = sent.valid.load(Ordering::Relaxed);
        let connected = network.hosts().iter().filter(|h| h.connected() > 0);
        let mut line = format!(
            "{:>5.0}s  sent {:>5.0}/s",
            self.start.elapsed().as_secs_f64(),
            (valid - self.sent) as f64 / elapsed
        );
        self.sent = valid;
        if let Some(checker) = checker {
            let received = checker.stats.frames.load(Ordering::Relaxed);
            let rate = (received - self.received) as f64 / elapsed;
            self.received = received;
            let outstanding = network.expected().outstanding();
            let _ = write!(line, "  received {rate:>5.0}/s  to come {outstanding:>4}");
        }
        let _ = write!(
            line,
            "  hosts {}/{}  invalid {}  faults {}",
            connected.count(),
            network.len(),
            sent.invalid.load(Ordering::Relaxed),
            sent.faults.load(Ordering::Relaxed)
        );
        if let Some((p50, p99)) = checker.and_then(|checker| checker.stats.take_delays()) {
            let (p50, p99) = (p50 as f64 / 1e3, p99 as f64 / 1e3);
            let _ = write!(line, "  delay p50 {p50:.1} ms p99 {p99:.1} ms");
        }
        if let Some(bytes) = pid.and_then(relay::resident) {
            let at = self.start.elapsed().as_secs_f64();
            self.resident.push((at, bytes));
            let _ = write!(line, "  rss {} MB", bytes / 1_000_000);
        }
        line
    }

    /// How resident memory went: first, last, largest, and the slope of the second half.
    pub(super) fn memory(&self) -> Option<String> {
        let (_, first) = self.resident.first()?;
        let (_, last) = self.resident.last()?;
        let largest = self.resident.iter().map(|(_, bytes)| *bytes).max()?;
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let mut text = format!(
            "rss: {:.1} MB at first, {:.1} MB at last, {:.1} MB at most",
            mb(*first),
            mb(*last),
            mb(largest)
        );
        let half = &self.resident[self.resident.len() / 2..];
        if let Some(slope) = slope(half) {
            let span = half.last()?.0 - half.first()?.0;
            let _ = write!(
                text,
                ", {:+.2} MB a minute over the last {span:.0} s",
                slope * 60.0 / 1e6
            );
        }
        Some(text)
    }
}

/// The slope of a line through the points, in bytes a second.
fn slope(points: &[(f64, u64)]) -> Option<f64> {
    if points.len() < SLOPE_SAMPLES_MIN {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| *y as f64).sum::<f64>() / count;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (x, y) in points {
        xy += (x - mean_x) * (*y as f64 - mean_y);
        xx += (x - mean_x) * (x - mean_x);
    }
    (xx > 0.0).then(|| xy / xx)
}

/// The last words about a checked run.
pub(super) fn verdict(network: &Network, elapsed: Duration, differences: &Differences) -> String {
    let (expected, matched) = network.expected().progress();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{expected} events expected, {matched} came as expected, in {:.0} s; \
         {} directory requests; {} handles left out; {} replays began too late",
        elapsed.as_secs_f64(),
        network.plc().requests(),
        network.expected().handles_left_out(),
        network.hosts().iter().map(|h| h.outdated()).sum::<u64>()
    );
    for sample in &differences.samples {
        let _ = writeln!(text, "  {sample}");
    }
    if differences.none() {
        text.push_str("OK: the output equals the expectation exactly");
    } else {
        let _ = write!(
            text,
            "FAILED: {} missing, {} duplicates, {} out of order, {} unexpected, {} gaps, {} other",
            differences.missing,
            differences.duplicates,
            differences.out_of_order,
            differences.unexpected,
            differences.gaps,
            differences.other
        );
    }
    text
}

/// Injected invalid events by reason, beside what the relay has counted.
pub(super) fn rejects(injected: &BTreeMap<&'static str, u64>, metrics: Option<&str>) -> String {
    let mut text = String::from("rejected, by reason: injected");
    text.push_str(if metrics.is_some() {
        " / counted\n"
    } else {
        "\n"
    });
    for (reason, count) in injected {
        let _ = write!(text, "  {reason:<24} {count:>6}");
        if let Some(metrics) = metrics {
            let counted = counted(metrics, reason);
            let mark = if counted < *count { "  <" } else { "" };
            let _ = write!(text, " / {counted:>6}{mark}");
        }
        text.push('\n');
    }
    text
}

/// The relay's counter for a reason.
fn counted(metrics: &str, reason: &str) -> u64 {
    let name = format!("relay_events_rejected_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_need_points_and_are_right() {
        let line: Vec<_> = (0..30)
            .map(|i| (f64::from(i), 1_000 + 7 * i as u64))
            .collect();
        assert!((slope(&line).unwrap() - 7.0).abs() < 1e-6);
        assert_eq!(slope(&line[..5]), None);
    }

    #[test]
    fn counters_are_found_by_reason() {
        let metrics = "relay_events_rejected_total{reason=\"rev_stale\"} 12\n";
        assert_eq!(counted(metrics, "rev_stale"), 12);
        assert_eq!(counted(metrics, "rev"), 0);
        let injected = BTreeMap::from([("rev_stale", 13)]);
        assert!(rejects(&injected, Some(metrics)).contains("13 /     12  <"));
    }
}
