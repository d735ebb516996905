//! What was measured, for people and for programs.

use std::{fmt::Write, fs, io, path::Path};

use serde::Serialize;
use serde_json::Value;

use super::{
    pages::Pages,
    stages::{Connect, Delay, FanOut, Ingest, Replay},
};
use crate::sim::clock;

/// Everything of one run.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    relay: String,
    time: String,
    machine: Machine,
    pub(super) connect: Option<Connect>,
    pub(super) ingest: Option<Ingest>,
    pub(super) delay: Vec<Delay>,
    pub(super) fan_out: Vec<FanOut>,
    pub(super) replay: Option<Replay>,
    pub(super) pages: Option<Pages>,
    pub(super) disk: Option<Disk>,
}

/// Where it was measured.
#[derive(Serialize, Debug)]
struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
}

/// What the relay keeps.
#[derive(Serialize, Debug)]
pub(super) struct Disk {
    /// Bytes of all frames that came out of the relay.
    frame_bytes: u64,
    /// Bytes in the relay's data directory after it has stopped.
    data_bytes: u64,
    data_per_frame_byte: f64,
}

impl Report {
    pub(super) fn new(relay: String) -> Report {
        Report {
            relay,
            time: clock::datetime(clock::micros()),
            machine: Machine::this(),
            connect: None,
            ingest: None,
            delay: Vec::new(),
            fan_out: Vec::new(),
            replay: None,
            pages: None,
            disk: None,
        }
    }

    pub(super) fn json(&self) -> io::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// A line for each number; with what it was in an earlier run, and the ratio.
    pub(super) fn text(&self, earlier: Option<&Value>) -> io::Result<String> {
        let mut now = Vec::new();
        flatten("", &serde_json::to_value(self)?, &mut now);
        let mut before = Vec::new();
        if let Some(earlier) = earlier {
            flatten("", earlier, &mut before);
        }
        let width = now.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for (name, value) in &now {
            let _ = write!(out, "{name:width$}  {:>14}", shown(value));
            let old = before.iter().find(|(other, _)| other == name);
            if let Some((_, old)) = old {
                let _ = write!(out, "  before {:>14}", shown(old));
                if let (Some(new), Some(old)) = (value.as_f64(), old.as_f64())
                    && old != 0.0
                {
                    let _ = write!(out, "  x {:.2}", new / old);
                }
            }
            out.push('\n');
        }
        Ok(out)
    }
}

/// The leaves of a document under their paths.
fn flatten(path: &str, value: &Value, out: &mut Vec<(String, Value)>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&below(name), value, out);
            }
        }
        Value::Array(items) => {
            for (n, value) in items.iter().enumerate() {
                flatten(&below(&n.to_string()), value, out);
            }
        }
        Value::Null => {}
        leaf => out.push((path.to_owned(), leaf.clone())),
    }
}

fn shown(value: &Value) -> String {
    match (value.as_u64(), value.as_f64(), value.as_str()) {
        (Some(whole), _, _) => whole.to_string(),
        (_, Some(number), _) if number >= 1_000.0 => format!("{number:.0}"),
        (_, Some(number), _) => format!("{number:.3}"),
        (_, _, Some(text)) => text.to_owned(),
        _ => value.to_string(),
    }
}

impl Machine {
    fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let model = model.and_then(|rest| rest.split_once(':'));
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: model.map_or_else(String::new, |(_, name)| name.trim().to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl Disk {
    /// Of the data directory of a relay that has stopped.
    pub(super) fn of(directory: &Path, frame_bytes: u64) -> io::Result<Disk> {
        let data_bytes = size(directory)?;
        Ok(Disk {
            frame_bytes,
            data_bytes,
            data_per_frame_byte: data_bytes as f64 / frame_bytes.max(1) as f64,
        })
    }
}

/// Bytes of all files below a directory.
fn size(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() {
            size(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_of_two_runs_stand_side_by_side() {
        let mut report = Report::new("zlay".into());
        report.delay.push(Delay {
            events_per_second: 600,
            events: 10,
            p50_ms: 3.0,
            p99_ms: 9.5,
            cpu_seconds_per_second: 0.25,
        });
        let earlier = json!({"delay": [{"p50_ms": 1.5, "gone": 1}]});
        let text = report.text(Some(&earlier)).unwrap();
        let line = text
            .lines()
            .find(|l| l.starts_with("delay.0.p50_ms"))
            .unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1..], ["3.000", "before", "1.500", "x", "2.00"]);
        assert!(!text.contains("gone"));
        let json: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["delay"][0]["p99_ms"], 9.5);
    }

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("a"), [0; 10]).unwrap();
        fs::write(dir.path().join("below/b"), [0; 5]).unwrap();
        let disk = Disk::of(dir.path(), 30).unwrap();
        assert_eq!((disk.data_bytes, disk.data_per_frame_byte), (15, 0.5));
    }
}
