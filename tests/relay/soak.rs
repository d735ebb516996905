//! The soak, whole but short: the real program among hosts and subscribers that come and go.

use std::{fs, process::Command};

use serde_json::Value;

#[test]
fn whatever_comes_and_goes_the_output_is_the_expected_one() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let mut soak = Command::new(env!("CARGO_BIN_EXE_zlay-sim"));
    soak.args(["soak", "--hosts", "12", "--accounts", "3", "--records", "5"]);
    soak.args(["--rate", "60", "--burst-rate", "200", "--burst-every", "5s"]);
    soak.args(["--burst-length", "1s", "--duration", "25s"]);
    soak.args(["--newcomers", "1"]);
    soak.args([
        "--vanish", "40", "--away", "2s", "--bans", "40", "--ban", "1s",
    ]);
    soak.args(["--disconnects", "40", "--moves", "20"]);
    soak.args(["--live", "2", "--replayers", "2", "--rest", "1s"]);
    soak.args(["--slow", "1", "--slow-rate", "1000", "--stopped", "1"]);
    soak.args(["--stopped-for", "3s", "--sample", "1s", "--out"]);
    soak.arg(&out);
    soak.args(["--port", "0", "--metrics-port", "0"]);
    soak.args(["--relay-binary", env!("CARGO_BIN_EXE_zlay")]);
    soak.args(["--port", "0", "--metrics-port", "0"]);
    let ran = soak.output().unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(ran.status.success(), "{said}");

    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let found: Value = serde_json::from_str(&read("soak.json")).unwrap();
    let number = |at: &str| found.pointer(at).and_then(Value::as_u64).unwrap();
    assert!(number("/expected") > 0 && number("/matched") == number("/expected"));
    for (what, undone) in [
        ("vanished", "returned"),
        ("banned", "unbanned"),
        ("moved", "moved"),
    ] {
        let (done, undone) = (format!("/churn/{what}"), format!("/churn/{undone}"));
        assert!(
            number(&done) > 0 && number(&done) == number(&undone),
            "{said}"
        );
    }
    assert!(number("/readers/compared") > 0, "{said}");
    assert_eq!(number("/readers/live_open"), 2, "{said}");
    // Whether anything is flat is not to be seen in so short a time.
    let trends = found["trends"].as_array().unwrap();
    assert_eq!(trends.len(), 4);
    assert!(trends.iter().all(|trend| trend["flat"].is_null()));
    assert!(trends.iter().all(|t| t["median"].as_f64() > Some(0.0)));
    assert!(read("samples.csv").lines().count() > 2);
    assert!(read("soak.svg").contains("<polyline"));
    assert!(read("soak.md").contains("OK: the output equals the expectation exactly"));
}

#[test]
fn what_is_not_flat_fails() {
    let directory = tempfile::tempdir().unwrap();
    let mut soak = Command::new(env!("CARGO_BIN_EXE_zlay-sim"));
    soak.args(["soak", "--hosts", "3", "--accounts", "2", "--records", "5"]);
    soak.args(["--rate", "50", "--burst-every", "0", "--duration", "4s"]);
    soak.args([
        "--faults", "none", "--vanish", "0", "--moves", "0", "--bans", "0",
    ]);
    soak.args(["--disconnects", "0", "--sample", "0.5s", "--out"]);
    soak.arg(directory.path());
    // Nothing may grow at all, and nobody waits until it has stopped.
    soak.args(["--flat=-1000", "--flat-after", "0s", "--warm-up", "0"]);
    soak.args(["--port", "0", "--metrics-port", "0"]);
    soak.args(["--relay-binary", env!("CARGO_BIN_EXE_zlay")]);
    soak.args(["--port", "0", "--metrics-port", "0"]);
    let ran = soak.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    let words = fs::read_to_string(directory.path().join("soak.md")).unwrap();
    assert!(words.contains("FAILED: threads is not flat"), "{words}");
    assert!(!words.contains("the output is not"), "{words}");
}
