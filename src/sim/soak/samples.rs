//! What the relay takes of the machine over time, and whether that is flat.

use std::{fmt::Write, fs, io, os::unix::fs::MetadataExt, path::Path};

use serde::Serialize;

use crate::sim::{
    fit,
    plot::{self, Axis, Labels},
    process::{self, Usage},
    relay::Client,
};

const MIB: f64 = (1 << 20) as f64;
/// What `st_blocks` counts in (<https://man7.org/linux/man-pages/man3/stat.3type.html>).
const BLOCK_BYTES: u64 = 512;

/// One look, so many seconds after the traffic began. Bytes, unless said otherwise.
#[derive(Clone, PartialEq, Default, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) at: f64,
    pub(super) rss: u64,
    pub(super) threads: u64,
    pub(super) files: u64,
    pub(super) disk: u64,
    /// Processor time of the relay since it began, in seconds.
    pub(super) cpu_seconds: f64,
    /// The same of the simulator, and its memory.
    pub(super) sim_cpu_seconds: f64,
    pub(super) sim_rss: u64,
    /// Events that the relay must forward, sent and received so far.
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) to_come: u64,
    pub(super) hosts_connected: u64,
    pub(super) inside: Inside,
}

/// What the relay says.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct Inside {
    pub(super) seq: u64,
    pub(super) oldest_seq: u64,
    pub(super) pruned_seq: u64,
    pub(super) identities: u64,
    pub(super) subscribers: u64,
    /// Of the heap, in bytes, and what is in it. It is looked at every ten seconds.
    pub(super) heap_in_use: u64,
    pub(super) memtables: u64,
    pub(super) block_cache: u64,
    pub(super) ring: u64,
    /// What the allocators keep beyond what is in use, and what is resident of stacks.
    pub(super) retained: u64,
    pub(super) stacks: u64,
}

impl Sample {
    /// A look at the process `pid` that keeps its data in `data`, from outside first: what it says of
    /// itself costs it memory.
    pub(super) fn take(pid: u32, data: &Path, internal: &Client) -> io::Result<Sample> {
        let usage = Usage::of(pid)?;
        let own = Usage::of(std::process::id())?;
        Ok(Sample {
            rss: usage.rss,
            threads: usage.threads,
            files: process::open_files(pid)?,
            disk: disk_bytes(data),
            cpu_seconds: usage.cpu.as_secs_f64(),
            sim_cpu_seconds: own.cpu.as_secs_f64(),
            sim_rss: own.rss,
            inside: match internal.get("/metrics") {
                Ok((200, body)) => Inside::read(&body),
                Ok(_) | Err(_) => Inside::default(),
            },
            ..Sample::default()
        })
    }
}

impl Inside {
    fn read(metrics: &str) -> Inside {
        // Of all its labels together.
        let value = |name: &str| {
            let values = metrics.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?;
                let (_, value) = rest.rsplit_once(' ')?;
                let whole = rest.starts_with([' ', '{']);
                value.parse::<f64>().ok().filter(|_| whole)
            });
            values.sum::<f64>() as u64
        };
        Inside {
            seq: value("relay_seq"),
            oldest_seq: value("relay_oldest_seq"),
            pruned_seq: value("relay_pruned_seq"),
            identities: value("relay_identity_cache_entries"),
            subscribers: value("relay_subscribers"),
            heap_in_use: value("relay_memory_heap_in_use_bytes"),
            memtables: value("relay_memory_bytes{kind=\"memtable\"}"),
            block_cache: value("relay_memory_bytes{kind=\"block_cache\"}"),
            ring: value("relay_memory_bytes{kind=\"ring\"}"),
            retained: value("relay_memory_heap_retained_bytes"),
            stacks: value("relay_memory_bytes{kind=\"stack\"}"),
        }
    }

    /// What is in use of the heap beyond memtables, which come and go, and what fills up once.
    fn rest_of_heap(&self) -> u64 {
        let known = self.memtables + self.block_cache + self.ring;
        self.heap_in_use.saturating_sub(known)
    }
}

/// What the files below a directory take of the disk. Files may go while they are counted.
fn disk_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(of_it) if of_it.is_dir() => disk_bytes(&entry.path()),
        Ok(of_it) => of_it.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

/// How something went in the steady part of a run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Trend {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
    /// By how much it grows in an hour: the slope of the line with the least squares.
    pub(super) per_hour: f64,
    /// By how much it may.
    pub(super) bound: f64,
    /// None where the steady part is too short to say.
    pub(super) flat: Option<bool>,
}

/// What must be flat: its name, its unit, and how it is read.
type Column = (&'static str, &'static str, fn(&Sample) -> f64);
const COLUMNS: [Column; 4] = [
    ("RSS", "MiB", |s| s.rss as f64 / MIB),
    ("threads", "", |s| s.threads as f64),
    ("open files", "", |s| s.files as f64),
    ("disk", "MiB", |s| s.disk as f64 / MIB),
];

/// The trends of what was sampled from second `from` on. A share `flat` of the median is what each may
/// grow by in an hour; nothing is said of a part that is shorter than `flat_after` seconds.
pub(super) fn trends(samples: &[Sample], from: f64, flat: f64, flat_after: f64) -> Vec<Trend> {
    let steady: Vec<_> = samples.iter().filter(|s| s.at >= from).collect();
    let span = match (steady.first(), steady.last()) {
        (Some(first), Some(last)) => last.at - first.at,
        _ => return Vec::new(),
    };
    let trend = |(name, unit, read): Column| {
        let mut values: Vec<_> = steady.iter().map(|s| read(s)).collect();
        let points: Vec<_> = steady.iter().map(|s| (s.at / 3_600.0, read(s))).collect();
        let per_hour = fit::line(&points).map_or(0.0, |line| line.slope);
        values.sort_by(f64::total_cmp);
        let median = values[values.len() / 2];
        let bound = flat * median;
        Trend {
            name,
            unit,
            min: values[0],
            median,
            max: values[values.len() - 1],
            per_hour,
            bound,
            flat: (span >= flat_after).then_some(per_hour <= bound),
        }
    };
    COLUMNS.map(trend).into()
}

/// A line of words for each trend.
pub(super) fn table(trends: &[Trend]) -> String {
    let mut text = String::from(
        "| steady part | lowest | median | highest | slope an hour | flat up to | flat |\n\
         |---|---:|---:|---:|---:|---:|---|\n",
    );
    for trend in trends {
        let flat = match trend.flat {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "too short to say",
        };
        let name = match trend.unit {
            "" => trend.name.to_owned(),
            unit => format!("{} ({unit})", trend.name),
        };
        let _ = writeln!(
            text,
            "| {name} | {:.1} | {:.1} | {:.1} | {:+.2} | +{:.2} | {flat} |",
            trend.min, trend.median, trend.max, trend.per_hour, trend.bound
        );
    }
    text
}

/// A row for each sample, and a heading.
pub(super) fn csv(samples: &[Sample]) -> String {
    let mut text = String::from(
        "seconds,cpu_seconds,sim_cpu_seconds,rss,threads,open_files,disk,sim_rss,sent,received,\
         to_come,hosts_connected,seq,oldest_seq,pruned_seq,identities,subscribers,heap_in_use,\
         memtables,block_cache,ring,retained,stacks\n",
    );
    for s in samples {
        let numbers = [
            s.rss,
            s.threads,
            s.files,
            s.disk,
            s.sim_rss,
            s.sent,
            s.received,
            s.to_come,
            s.hosts_connected,
            s.inside.seq,
            s.inside.oldest_seq,
            s.inside.pruned_seq,
            s.inside.identities,
            s.inside.subscribers,
            s.inside.heap_in_use,
            s.inside.memtables,
            s.inside.block_cache,
            s.inside.ring,
            s.inside.retained,
            s.inside.stacks,
        ];
        let (relay, simulator) = (s.cpu_seconds, s.sim_cpu_seconds);
        let _ = write!(text, "{:.1},{relay:.2},{simulator:.2}", s.at);
        numbers.iter().for_each(|number| {
            let _ = write!(text, ",{number}");
        });
        text.push('\n');
    }
    text
}

/// What happened from one sample to the next, a second.
pub(super) fn rates(samples: &[Sample], of: fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let rate = |pair: &[Sample]| {
        let seconds = (pair[1].at - pair[0].at).max(0.001);
        (pair[1].at, (of(&pair[1]) - of(&pair[0])) / seconds)
    };
    samples.windows(2).map(rate).collect()
}

/// Everything over time, one picture below the other.
pub(super) fn picture(samples: &[Sample]) -> String {
    let minutes = |points: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
        points.into_iter().map(|(x, y)| (x / 60.0, y)).collect()
    };
    let picture = |title: &str, y: &str, series: &[plot::Series<'_>]| {
        let labels = Labels {
            title,
            x: "minutes",
            y,
        };
        plot::lines(labels, Axis::Even, series)
    };
    let mut pictures: Vec<_> = COLUMNS
        .iter()
        .map(|(name, unit, read)| {
            let points = |read: &dyn Fn(&Sample) -> f64| {
                minutes(samples.iter().map(|s| (s.at, read(s))).collect())
            };
            let mut series = vec![("relay", points(read))];
            if *name == "RSS" {
                let mib = |bytes: u64| bytes as f64 / MIB;
                let in_use = points(&|s| mib(s.inside.heap_in_use));
                series.push(("heap in use", in_use));
                let rest = points(&|s| mib(s.inside.rest_of_heap()));
                series.push(("beyond RocksDB, ring", rest));
                let stacks = points(&|s| mib(s.inside.stacks));
                series.push(("stacks", stacks));
            }
            picture(name, unit, &series)
        })
        .collect();
    let sent = minutes(rates(samples, |s| s.sent as f64));
    let received = minutes(rates(samples, |s| s.received as f64));
    let series = [("sent", sent), ("received", received)];
    pictures.push(picture("Events", "a second", &series));
    let relay = minutes(rates(samples, |s| s.cpu_seconds));
    let simulator = minutes(rates(samples, |s| s.sim_cpu_seconds));
    let series = [("relay", relay), ("simulator", simulator)];
    pictures.push(picture("Processor", "cores", &series));
    plot::stacked(&pictures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(minute: u32, rss: u64) -> Sample {
        Sample {
            at: f64::from(minute) * 60.0,
            rss: rss << 20,
            threads: 100,
            files: 50 + u64::from(minute % 2),
            disk: 300 << 20,
            sent: 1_000 * u64::from(minute),
            ..Sample::default()
        }
    }

    #[test]
    fn what_grows_is_told_from_what_stays() {
        // It grows by ten in the first ten minutes, and then by 60 an hour.
        let mut samples: Vec<_> = (0..10).map(|i| sample(i, 90 + u64::from(i))).collect();
        samples.extend((10..=40).map(|i| sample(i, 90 + u64::from(i))));
        let found = trends(&samples, 600.0, 0.05, 600.0);
        let rss = &found[0];
        assert!((rss.per_hour - 60.0).abs() < 0.01, "{rss:?}");
        assert_eq!((rss.min, rss.median, rss.max), (100.0, 115.0, 130.0));
        assert_eq!(rss.flat, Some(false));
        let others: Vec<_> = found[1..].iter().map(|t| (t.name, t.flat)).collect();
        let yes = Some(true);
        assert_eq!(
            others,
            [("threads", yes), ("open files", yes), ("disk", yes)]
        );
        assert!(trends(&samples, 600.0, 0.6, 600.0)[0].flat == Some(true));
        let short = trends(&samples, 600.0, 0.05, 7_200.0);
        assert!(short.iter().all(|trend| trend.flat.is_none()));
        assert!(table(&short).contains("too short") && table(&found).contains("| NO |"));
        assert!(trends(&[], 0.0, 0.05, 1.0).is_empty());
    }

    #[test]
    fn what_shrinks_is_flat() {
        let samples: Vec<_> = (0..30).map(|i| sample(i, 200 - u64::from(i))).collect();
        assert_eq!(trends(&samples, 0.0, 0.01, 60.0)[0].flat, Some(true));
    }

    #[test]
    fn samples_become_rows_and_pictures() {
        let samples = [sample(0, 10), sample(1, 20), sample(2, 30)];
        let csv = csv(&samples);
        let lines: Vec<_> = csv.lines().collect();
        let columns = |line: &str| line.split(',').count();
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| columns(line) == columns(lines[0])));
        assert!(lines[2].starts_with("60.0,0.00,0.00,20971520,100,51,"));
        let svg = picture(&samples);
        assert_eq!(svg.matches("<polyline").count(), 11);
        let rates = rates(&samples, |s| s.sent as f64);
        assert_eq!(rates.len(), 2);
        assert!((rates[1].1 - 1_000.0 / 60.0).abs() < 1e-9);
    }

    #[test]
    fn the_metrics_are_read_by_their_names() {
        let inside = Inside::read(
            "# HELP relay_seq The last seq.\nrelay_seq 12\nrelay_seq_x 9\n\
             relay_memory_heap_in_use_bytes{allocator=\"a\"} 5\n\
             relay_memory_heap_in_use_bytes{allocator=\"b\"} 6\n\
             relay_memory_bytes{kind=\"memtable\"} 4\nrelay_memory_bytes{kind=\"ring\"} 2\n",
        );
        assert_eq!((inside.memtables, inside.rest_of_heap()), (4, 5));
        assert_eq!((inside.seq, inside.oldest_seq), (12, 0));
        assert_eq!(inside.heap_in_use, 11);
    }

    #[test]
    fn a_directory_is_as_large_as_its_files() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below/file"), vec![7; 100_000]).unwrap();
        let bytes = disk_bytes(directory.path());
        assert!(bytes > 0, "{bytes}");
        assert_eq!(disk_bytes(&directory.path().join("nowhere")), 0);
    }
}
