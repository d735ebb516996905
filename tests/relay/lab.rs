//! The memory lab, whole: one small cell of the real program, with hosts in two processes.

use std::{collections::HashMap, fs, process::Command};

#[test]
fn the_lab_measures_a_relay_from_its_start_to_after_a_burst() {
    const HOSTS: u64 = 5;
    const LARGE: u64 = 200_000;
    const SUBSCRIBERS: u64 = 3;
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let mut lab = Command::new(env!("CARGO_BIN_EXE_zlay-sim"));
    // Three hosts can send; two are quiet and served by a process of their own.
    lab.args(["memlab", "--design", "base", "--hosts-per-process", "3"]);
    lab.args(["--hosts", &HOSTS.to_string(), "--stacks", "256"]);
    lab.args([
        "--idle",
        "0s",
        "--load",
        "1s",
        "--settle",
        "0s",
        "--calm",
        "3s",
        "--burst-events",
        "50",
    ]);
    lab.args([
        "--large",
        &LARGE.to_string(),
        "--subscribers",
        &SUBSCRIBERS.to_string(),
    ]);
    lab.args(["--rate", "100", "--identities", "200", "--out"])
        .arg(&out);
    lab.arg("--data-dir").arg(directory.path());
    lab.args(["--allocator", concat!("one=", env!("CARGO_BIN_EXE_zlay"))]);
    let ran = lab.output().unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(ran.status.success(), "{said}");

    let csv = fs::read_to_string(out.join("memlab.csv")).unwrap();
    let mut lines = csv.lines().map(|line| line.split(','));
    let heads: Vec<_> = lines.next().unwrap().collect();
    let rows: Vec<HashMap<_, _>> = lines
        .map(|l| heads.iter().copied().zip(l).collect())
        .collect();
    let phases: Vec<_> = rows.iter().map(|row| row["phase"]).collect();
    assert_eq!(
        phases,
        ["connect", "idle", "fill", "load", "burst"],
        "{said}"
    );
    let number = |row: usize, head: &str| -> u64 { rows[row][head].parse().unwrap() };
    assert_eq!((rows[0]["allocator"], rows[0]["stack_kib"]), ("one", "256"));
    assert_eq!(
        (number(0, "connected"), number(0, "health_failed")),
        (HOSTS, 0)
    );
    assert!(number(2, "identities_cached") >= 200);
    for row in 0..rows.len() {
        assert!(number(row, "rss_kib") > 1_000 && number(row, "pss_kib") > 1_000);
        assert!(number(row, "vmsize_kib") > number(row, "rss_kib"));
        assert!(number(row, "threads") > HOSTS && number(row, "mappings") > HOSTS);
    }
    assert!(number(0, "minor_faults") > 0 && number(3, "subscriber_bytes") > 0);
    // Every subscriber has taken the large event of every host that sent one.
    assert!(number(4, "subscriber_bytes") >= SUBSCRIBERS * 3 * LARGE);
    assert!(said.contains("| one | 256 | 5 |"), "{said}");
    for plot in ["rss-hosts.svg", "rss-stack.svg", "rss-phases.svg"] {
        assert!(fs::read_to_string(out.join(plot)).unwrap().contains("<svg"));
    }
    // Nothing is left of the relay's data.
    let left = fs::read_dir(directory.path()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["out"]);
}
