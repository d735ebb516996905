//! What the log says first: which program this is, where it keeps and offers what, every setting, and
//! what the machine allows; and what of it is risky.

mod machine;

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf};

use log::Level;
use serde_json::{Map, Value, json};

pub use self::machine::Machine;
use crate::{
    config::{Config, Fsync, Setting},
    control,
    limits::STARTUP_VALUE_CHARS_MAX,
    logging::{self, escape},
};

/// The commit that the program was built of, where the build has said so.
pub const COMMIT: &str = match option_env!("ZLAY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Writes one block at level info, and a line at level warn for every risk.
pub fn announce(config: &Config, settings: &[Setting], machine: &Machine) {
    let block = Block::new(config, settings, machine);
    let (text, object) = (block.text(), block.object());
    logging::block(Level::Info, "zlay::startup", "zlay starts", &text, &object);
    for risk in risks(config, machine) {
        log::warn!("{risk}");
    }
}

/// What is said; the same as text and as an object.
#[derive(Debug)]
struct Block<'a> {
    /// Title, name of the member, and value.
    facts: Vec<(&'static str, &'static str, Value)>,
    settings: &'a [Setting],
}

impl<'a> Block<'a> {
    fn new(config: &Config, settings: &'a [Setting], machine: &Machine) -> Block<'a> {
        let path = std::path::absolute(&config.data_dir);
        let path: PathBuf = path.unwrap_or_else(|_| config.data_dir.clone());
        let address = |ip, port| SocketAddr::new(ip, port).to_string();
        let files = &machine.open_files;
        let threads = machine.threads.map(|(n, of)| format!("{n} ({of})"));
        let number = |n: Option<u64>| n.map_or(Value::Null, Value::from);
        let facts = vec![
            ("version", "version", env!("CARGO_PKG_VERSION").into()),
            ("commit", "commit", COMMIT.into()),
            ("process", "pid", std::process::id().into()),
            (
                "public address",
                "public",
                address(config.bind, config.port).into(),
            ),
            (
                "internal address",
                "internal",
                address(config.metrics_bind, config.metrics_port).into(),
            ),
            (
                "data directory",
                "data_dir",
                path.display().to_string().into(),
            ),
            (
                "control store",
                "control_store",
                control::describe(config).into(),
            ),
            ("log levels", "log_levels", log_levels().into()),
            (
                "cores",
                "cores",
                machine.cores.map_or(Value::Null, Value::from),
            ),
            ("open files", "open_files", number(files.now)),
            (
                "open files before",
                "open_files_before",
                number(files.before),
            ),
            (
                "threads",
                "threads",
                threads.map_or(Value::Null, Value::from),
            ),
            ("memory bytes", "memory_bytes", number(machine.memory_bytes)),
            (
                "of the cgroup",
                "memory_limit_bytes",
                number(machine.memory_limit_bytes),
            ),
        ];
        Block { facts, settings }
    }

    /// Lines of names and values, in two columns; `*` stands before what differs from the default.
    fn text(&self) -> String {
        let facts = self.facts.iter().map(|(title, ..)| title.len());
        let names = self.settings.iter().map(|setting| setting.name.len());
        let width = facts.chain(names).max().unwrap_or_default();
        let mut out = String::new();
        for (title, _, value) in &self.facts {
            let value = match value {
                Value::Null => "no limit, or not known".to_owned(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            row(&mut out, ' ', title, width, &value, "");
        }
        out.push_str("  settings (* differs from the default)\n");
        for setting in self.settings {
            let shown =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".into());
            let (mark, tail) = match setting.is_changed() {
                true => ('*', format!("  (default: {})", shown(&setting.default))),
                false => (' ', String::new()),
            };
            row(
                &mut out,
                mark,
                &setting.name,
                width,
                &shown(&setting.value),
                &tail,
            );
        }
        out
    }

    /// The facts as members, and the settings as two: what they are, and the names of those that differ
    /// from the default.
    fn object(&self) -> Value {
        let shown = |value: &Option<String>| match value {
            Some(value) => json!(safe(value)),
            None => json!("(not set)"),
        };
        let facts = self.facts.iter().map(|(_, name, value)| {
            let value = match value {
                Value::String(text) => json!(safe(text)),
                value => value.clone(),
            };
            ((*name).to_owned(), value)
        });
        let mut object: Map<String, Value> = facts.collect();
        let settings = self.settings.iter();
        let values = settings.clone().map(|s| (s.name.clone(), shown(&s.value)));
        object.insert("settings".into(), Value::Object(values.collect()));
        let changed = settings.filter(|s| s.is_changed()).map(|s| json!(s.name));
        object.insert("changed".into(), Value::Array(changed.collect()));
        Value::Object(object)
    }
}

fn row(out: &mut String, mark: char, title: &str, width: usize, value: &str, tail: &str) {
    let _ = writeln!(
        out,
        "  {mark} {title:width$}  {}{}",
        safe(value),
        safe(tail)
    );
}

fn safe(value: &str) -> String {
    let mut out = String::new();
    escape::plain(&mut out, value, STARTUP_VALUE_CHARS_MAX);
    out
}

fn log_levels() -> String {
    std::env::var("RUST_LOG")
        .ok()
        .filter(|levels| !levels.is_empty())
        .unwrap_or_else(|| "info".to_owned())
}

/// What an operator may not have meant, one sentence each.
fn risks(config: &Config, machine: &Machine) -> Vec<String> {
    let mut risks = Vec::new();
    if config.admin_password.is_none() {
        risks.push(
            "RELAY_ADMIN_PASSWORD is not set: nobody can ban a host or take an account down; the admin \
             API answers 403"
                .to_owned(),
        );
    }
    if config.fsync == Fsync::Off {
        risks.push(
            "RELAY_FSYNC=off: a power loss may lose the last seconds, and subscribers then see the seq \
             jump ahead"
                .to_owned(),
        );
    }
    if config.allow_private_hosts && !config.bind.is_loopback() {
        risks.push(format!(
            "RELAY_ALLOW_PRIVATE_HOSTS=true while the public port is open on {}: whoever reaches it \
             can make this relay connect to its own machine and network",
            config.bind
        ));
    }
    risks.extend(machine.open_files.warning());
    risks
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{config::Cli, descriptors::OpenFiles};

    fn machine() -> Machine {
        Machine {
            open_files: OpenFiles {
                before: Some(1_024),
                now: None,
            },
            threads: Some((4_096, "ulimit -u")),
            memory_bytes: Some(8 << 30),
            memory_limit_bytes: None,
            cores: Some(2),
        }
    }

    fn config(args: &[&str]) -> Config {
        Cli::parse_from(std::iter::once(&"zlay").chain(args)).config
    }

    fn setting(name: &str, value: Option<&str>, default: Option<&str>) -> Setting {
        Setting {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            default: default.map(str::to_owned),
        }
    }

    #[test]
    fn text_and_object_say_the_same() {
        let config = config(&["--data-dir", "/var/lib/zlay"]);
        let settings = [
            setting("RELAY_PORT", Some("8080"), Some("3000")),
            setting("RELAY_UPSTREAM", Some("none\n2026 ERROR x"), Some("none")),
            setting("RELAY_FSYNC", Some("batch"), Some("batch")),
            setting("RELAY_ADMIN_PASSWORD", None, None),
        ];
        let block = Block::new(&config, &settings, &machine());
        let text = block.text();
        for line in [
            "    public address        0.0.0.0:3000",
            "    data directory        /var/lib/zlay",
            "    control store         in the data directory",
            "    open files            no limit, or not known",
            "    open files before     1024",
            "    threads               4096 (ulimit -u)",
            "  * RELAY_PORT            8080  (default: 3000)",
            "  * RELAY_UPSTREAM        none\\n2026 ERROR x  (default: none)",
            "    RELAY_FSYNC           batch",
            "    RELAY_ADMIN_PASSWORD  (not set)",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "{line:?} is not in\n{text}"
            );
        }
        let object = block.object();
        assert_eq!(object["public"], "0.0.0.0:3000");
        assert_eq!(object["memory_bytes"], 8_u64 << 30);
        assert_eq!(object["open_files"], Value::Null);
        assert_eq!(object["settings"]["RELAY_PORT"], "8080");
        assert_eq!(object["settings"]["RELAY_ADMIN_PASSWORD"], "(not set)");
        assert_eq!(object["changed"], json!(["RELAY_PORT", "RELAY_UPSTREAM"]));
    }

    #[test]
    fn every_risk_is_told_once() {
        let mut safe = config(&["--bind", "127.0.0.1", "--allow-private-hosts"]);
        safe.admin_password = Some("hunter2".to_owned().into());
        assert_eq!(risks(&safe, &machine()), Vec::<String>::new());
        let risky = config(&["--fsync", "off", "--allow-private-hosts"]);
        let few = Machine {
            open_files: OpenFiles {
                before: Some(9),
                now: Some(9),
            },
            ..machine()
        };
        let said = risks(&risky, &few);
        let names = [
            "RELAY_ADMIN_PASSWORD",
            "RELAY_FSYNC",
            "RELAY_ALLOW_PRIVATE_HOSTS",
            "open files",
        ];
        assert_eq!(said.len(), names.len(), "{said:?}");
        for (risk, name) in said.iter().zip(names) {
            assert!(risk.contains(name), "{risk}");
        }
        // One address that strangers reach is enough.
        let open = config(&["--bind", "192.0.2.7", "--allow-private-hosts"]);
        assert!(
            risks(&open, &machine())
                .iter()
                .any(|risk| risk.contains("192.0.2.7"))
        );
    }
}
