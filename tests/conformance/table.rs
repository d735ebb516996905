//! The table of rules in `docs/conformance.md` and the cases: neither names what the other lacks.
//!
//! A case says what it shows in its doc comment, in a line that begins with `Rule` or `Rules`:
//! `/// Rules 19, 56: <https://atproto.com/specs/sync>`. Unit tests may do so too.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Set, the last column of the table is written instead of checked.
const UPDATE: &str = "ZLAY_UPDATE_TABLE";
/// Where it says of which rules a part has no case.
const GAPS: &str = "## What no case shows";

/// The names of the tests that show each rule.
type Shown = BTreeMap<u16, BTreeSet<String>>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every Rust file below a folder, with its path from the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let name = path.strip_prefix(root()).unwrap();
                found.push((name.to_str().unwrap().to_owned(), read(&path)));
            }
        }
    }
    found
}

/// How the table names a test: the file, then the function.
fn test_name(file: &str, function: &str) -> String {
    let file = file.trim_end_matches(".rs");
    let file = file.strip_prefix("tests/").unwrap_or(file);
    format!("`{}::{function}`", file.replace('/', "::"))
}

/// The rules that the tests of one file say they show; every test without one is in `without`.
fn cases_of(file: &str, text: &str, shown: &mut Shown, without: &mut Vec<String>) {
    let (mut rules, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("/// ") {
            let rest = comment.strip_prefix("Rules ");
            if let Some(rest) = rest.or(comment.strip_prefix("Rule ")) {
                let (numbers, link) = rest.split_once(": ").unwrap_or_else(|| {
                    panic!("{file}: no link after the numbers: {comment}");
                });
                assert!(link.starts_with("<https://"), "{file}: {comment}");
                let numbers = numbers.split(',').map(|n| n.trim().parse::<u16>());
                rules.extend(
                    numbers.map(|n| n.unwrap_or_else(|e| panic!("{file}: {comment}: {e}"))),
                );
            }
        } else if line == "#[test]" {
            is_test = true;
        } else if line.starts_with("#[") || line.starts_with("#![") {
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let function = rest.split(['(', '<']).next().unwrap();
            let name = test_name(file, function);
            if is_test && rules.is_empty() {
                without.push(name.clone());
            }
            assert!(is_test || rules.is_empty(), "{name} is not a test");
            for rule in rules.drain(..) {
                shown.entry(rule).or_default().insert(name.clone());
            }
            is_test = false;
        } else if !line.is_empty() && !line.starts_with("///") && !is_test {
            rules.clear();
        }
    }
}

/// The rules of which a part has no case, from `docs/behaviors.md`.
fn gaps() -> BTreeSet<u16> {
    let text = read("docs/behaviors.md");
    let section = text.split(GAPS).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap();
    let first = |line: &str| line.strip_prefix("| ")?.split(" |").next()?.parse().ok();
    section.lines().filter_map(first).collect()
}

#[test]
fn every_rule_has_a_case_and_every_case_a_rule() {
    let (mut shown, mut without) = (Shown::new(), Vec::new());
    for (file, text) in sources("tests/conformance") {
        cases_of(&file, &text, &mut shown, &mut without);
    }
    // Those about the table, and what shows that reasons and flaws are complete.
    without.retain(|name| !name.starts_with("`conformance::table::"));
    assert!(without.is_empty(), "these say no rule: {without:#?}");
    let others = [sources("tests"), sources("src")].concat();
    let others = others
        .iter()
        .filter(|(file, _)| !file.starts_with("tests/conformance/"));
    for (file, text) in others {
        cases_of(file, text, &mut shown, &mut Vec::new());
    }

    let (document, gaps) = (read("docs/conformance.md"), gaps());
    let (mut known, mut written) = (BTreeSet::new(), String::new());
    for line in document.lines() {
        let mut cells: Vec<&str> = line.split(" | ").collect();
        let number = cells[0].strip_prefix("| ").and_then(|n| n.parse().ok());
        let Some(number) = number else {
            written.push_str(line);
            written.push('\n');
            continue;
        };
        let number: u16 = number;
        assert!(known.insert(number), "{number} is there twice");
        assert!(["must", "should", "may"].contains(&cells[1]), "{line}");
        let last = cells.pop().unwrap();
        let source = cells.iter().any(|cell| cell.contains("](https://"));
        assert!(
            source || last.contains("](https://"),
            "{number} has no source"
        );
        if last.contains("](https://") {
            // An empty last cell reads as `… |` at the end of the source.
            cells.push(last.trim_end_matches(" |").trim_end_matches('|').trim_end());
        }
        let tests = shown.get(&number).cloned().unwrap_or_default();
        let tests: Vec<_> = tests.into_iter().collect();
        let gap = match gaps.contains(&number) {
            true => "; [in part](behaviors.md#what-no-case-shows)",
            false => "",
        };
        let tests = tests.join(", ");
        written.push_str(&format!("{} | {tests}{gap} |\n", cells.join(" | ")));
    }
    let named: BTreeSet<u16> = shown.keys().copied().collect();
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "no such rules: {unknown:?}");
    let missing: Vec<_> = known.difference(&named).collect();
    assert!(missing.is_empty(), "these have no case: {missing:?}");
    assert!(gaps.is_subset(&known), "no such rules: {gaps:?}");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(root().join("docs/conformance.md"), &written).unwrap();
    }
    assert_eq!(
        read("docs/conformance.md"),
        written,
        "docs/conformance.md is old: run `just conformance-table`"
    );
}
