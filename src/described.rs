//! The map in `docs/architecture.md` has every source file, and nothing that is not there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const ARCHITECTURE: &str = include_str!("../docs/architecture.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A name of the map; `a/{b,c}` is two of them.
fn choices(name: &str) -> Vec<String> {
    let name = name.trim_end_matches('/');
    let Some((before, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let (inside, after) = rest.split_once('}').unwrap();
    let choices = inside.split(',');
    choices.map(|c| format!("{before}{c}{after}")).collect()
}

/// What is named in the first column of the map.
fn mapped() -> Vec<String> {
    let map = ARCHITECTURE.split("\n## Code map\n").nth(1).unwrap();
    let map = map.split("\n## ").next().unwrap();
    let rows = map.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.flat_map(choices).collect()
}

/// The source files below a directory, by name: `a/b` is `a/b.rs` or `a/b/mod.rs`.
fn read(directory: &Path, of: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = format!("{of}{stem}");
        if path.is_dir() {
            read(&path, &format!("{name}/"), files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = name.trim_end_matches("/mod").to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The modules that a file declares for tests only.
fn tests_of<'a>(name: &'a str, text: &'a str) -> impl Iterator<Item = String> + 'a {
    let below = match name {
        "lib" | "main" => String::new(),
        name => format!("{name}/"),
    };
    let after = text.split("#[cfg(test)]\n").skip(1);
    let declared = after.filter_map(|text| text.lines().next()?.strip_suffix(';'));
    let modules = declared.filter_map(|line| Some(line.split_once("mod ")?.1));
    modules.map(move |module| format!("{below}{module}"))
}

#[test]
fn the_map_has_every_source_file_and_no_other() {
    let mut files = BTreeMap::new();
    read(&Path::new(ROOT).join("src"), "", &mut files);
    let of_tests = files.iter().flat_map(|(name, text)| tests_of(name, text));
    let of_tests: Vec<String> = of_tests.collect();
    assert!(of_tests.iter().any(|name| name == "identity/tests"));
    let is_of_tests = |name: &str| {
        of_tests.iter().any(|test| {
            let below = name.strip_prefix(test.as_str());
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
    };
    let names = mapped();
    let known: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(known.len(), names.len(), "one is named twice: {names:?}");
    let missing: Vec<&String> = files
        .keys()
        .filter(|name| !known.contains(name.as_str()) && !is_of_tests(name))
        .collect();
    assert!(missing.is_empty(), "docs/architecture.md lacks {missing:?}");
    // What is no source file is a part of the repository.
    for name in &names {
        let is_there = files.contains_key(name) || Path::new(ROOT).join(name).exists();
        assert!(is_there, "docs/architecture.md names {name}");
    }
}
