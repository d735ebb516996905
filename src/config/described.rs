//! Files of the repository that describe the configuration, beside what it is.

use std::{collections::BTreeMap, fs, path::PathBuf};

use clap::CommandFactory;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{Cli, variables};

const ZLAY_ENV: &str = include_str!("../../deploy/systemd/zlay.env");
const DOT_ENV: &str = include_str!("../../deploy/compose/.env.example");
const COMPOSE: &str = include_str!("../../deploy/compose/compose.yaml");
/// Set by whoever changed the command line, to write the manual anew.
const UPDATE: &str = "ZLAY_UPDATE_MANUAL";

/// `NAME=value` and `#NAME=value` of a file of variables; whoever takes the `#` away has set it.
fn assignments(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().map(|line| line.trim_start_matches('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    pairs.filter(|(name, _)| is_name(name)).collect()
}

/// Defaults as they would be written into a file of variables.
fn defaults() -> BTreeMap<String, String> {
    let command = Cli::command();
    let pairs = command.get_arguments().filter_map(|argument| {
        let name = argument.get_env()?.to_str()?.to_owned();
        let values = argument.get_default_values().iter();
        let values: Vec<&str> = values.filter_map(|value| value.to_str()).collect();
        Some((name, values.join(",")))
    });
    pairs.collect()
}

#[test]
fn the_file_of_the_service_has_every_variable_with_its_default_and_sets_none() {
    let file = assignments(ZLAY_ENV);
    for name in variables() {
        assert!(file.contains_key(name.as_str()), "zlay.env lacks {name}");
    }
    for (name, value) in defaults() {
        // Where the service keeps its data is the unit's choice.
        if name != "RELAY_DATA_DIR" {
            assert_eq!(file[name.as_str()], value, "{name} in zlay.env");
        }
    }
    for name in file.keys() {
        let known = variables().iter().any(|known| known == name);
        assert!(known || *name == "RUST_LOG", "zlay.env has {name}");
    }
    let set = ZLAY_ENV
        .lines()
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(set, None, "what is installed is what the README says");
}

/// Each is either given by compose.yaml or passed on, and what is passed on is in `.env.example`.
#[test]
fn the_files_of_compose_have_every_variable() {
    let file = assignments(DOT_ENV);
    let defaults = defaults();
    for name in variables() {
        if name.ends_with("_FILE") && !defaults.contains_key(&name) {
            continue; // Compose gives the secrets themselves.
        }
        let passed_on = COMPOSE.contains(&format!("\n      {name}:\n"));
        let given = COMPOSE.contains(&format!("\n      {name}: "));
        assert!(passed_on || given, "compose.yaml lacks {name}");
        assert_eq!(file.contains_key(name.as_str()), passed_on, "{name}");
        if passed_on && name != "RELAY_RETENTION_BYTES" {
            assert_eq!(
                file[name.as_str()],
                defaults[&name],
                "{name} in .env.example"
            );
        }
    }
    // And the other way round: what the file has is used.
    for name in file.keys() {
        let passed_on = COMPOSE.contains(&format!("\n      {name}:\n"));
        let used = COMPOSE.contains(&format!("${{{name}:"));
        // Which docker compose itself reads.
        let own = *name == "COMPOSE_PROJECT_NAME";
        assert!(passed_on || used || own, ".env.example has {name}");
    }
}

/// `zlay(1)`.
fn manual() -> String {
    let mut command = Cli::command();
    command.build();
    let man = Man::new(command.clone()).date("").source("zlay");
    let mut page = Vec::new();
    man.render_title(&mut page).unwrap();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    let mut commands = Roff::new();
    commands.control("SH", ["COMMANDS"]);
    list(&command, "", &mut commands);
    commands.to_writer(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    man.render_extra_section(&mut page).unwrap();
    let text = String::from_utf8(page).unwrap();
    // Trailing spaces are nobody's, and the version is the package's.
    let lines = text.lines().map(str::trim_end);
    lines.map(|line| line.to_owned() + "\n").collect()
}

/// Every command with its own options, and those below it.
fn list(command: &clap::Command, above: &str, page: &mut Roff) {
    for command in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("{above} {}", command.get_name());
        let about = command.get_long_about().or_else(|| command.get_about());
        let own = command.get_arguments().filter(|a| a.get_id() != "help");
        let own: Vec<&clap::Arg> = own.collect();
        if command.has_subcommands() {
            list(command, &name, page);
            continue;
        }
        page.control("TP", []);
        page.text([bold(format!("zlay{name}"))]);
        page.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
        for argument in own {
            page.control("RS", []);
            page.control("TP", []);
            page.text([bold(argument.to_string())]);
            let help = argument.get_long_help().or_else(|| argument.get_help());
            page.text([roman(help.map(ToString::to_string).unwrap_or_default())]);
            page.control("RE", []);
        }
    }
}

#[test]
fn the_manual_is_that_of_this_program() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/man/zlay.1");
    let manual = manual();
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &manual).unwrap();
        return;
    }
    let kept = fs::read_to_string(&path).unwrap();
    assert_eq!(
        kept, manual,
        "write it anew: {UPDATE}=1 cargo test --lib manual"
    );
}
