//! Log lines: for people, or one JSON object each.

use std::io::Write;

use env_logger::{Builder, Env, Target, fmt::Formatter};
use log::Record;
use serde_json::json;

use crate::config::LogFormat;

/// Sends log lines to standard error; `RUST_LOG` sets the level, `info` without it.
pub fn init(format: LogFormat) {
    let mut builder = Builder::from_env(Env::default().default_filter_or("info"));
    builder.target(Target::Stderr);
    match format {
        LogFormat::Text => builder.format_timestamp_millis().format_target(false),
        LogFormat::Json => builder.format(json_line),
    };
    // A second call finds the logger of the first, which is as good.
    let _ = builder.try_init();
}

fn json_line(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let line = json!({
        "time": out.timestamp_millis().to_string(),
        "level": record.level().as_str(),
        "target": record.target(),
        "thread": std::thread::current().name(),
        "message": record.args().to_string(),
    });
    writeln!(out, "{line}")
}
