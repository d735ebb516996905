//! Log lines: for people, or one JSON object each; their fields; and how many there may be.
//!
//! A line has a message in plain words and fields, which are the same everywhere: `host` (by name),
//! `did`, `seq` (of the host, unless it is said otherwise), `rev`, `reason` (a word of a fixed list,
//! as of [`crate::reject::Reject`]), `error` (words, also of others) and `client` (an address). The
//! message never holds what came from outside.
//!
//! `error`: the operator must act. `warn`: something is wrong that mends itself or is somebody
//! else's. `info`: what happens seldom. `debug`: what happens with single events and connections.
//!
//! Lines of one place and one `reason` are limited, and counted beyond that ([`Reporter`]).

pub(crate) mod escape;
mod line;
mod names;
mod rate;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    panic::PanicHookInfo,
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use env_logger::{Builder, Env, Target};
use log::{
    Level, LevelFilter, Log, Metadata, Record,
    kv::{self, Key, Source, Value, VisitSource},
};

use serde_json::json;

pub use self::names::{HostName, name_host};
use self::{
    line::Line,
    rate::{Bounds, Kind, LeftOut, Rate, Verdict},
};
use crate::{
    atproto::datetime,
    config::LogFormat,
    limits::{
        LOG_KINDS_MAX, LOG_LINE_INTERVAL, LOG_LINES_BURST, LOG_REASON_CHARS_MAX, LOG_REPORT_AFTER,
        LOG_REPORT_INTERVAL, SERVICE_STACK_BYTES,
    },
    threads::{self, Role, Stopper, Thread, stop_pair},
};

/// The target of every line about an event that was not forwarded: `RUST_LOG=info,zlay::rejected=debug`
/// shows them all, up to the limit, and nothing else of that level.
pub const REJECTED: &str = "zlay::rejected";

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Sends log lines to standard error; `RUST_LOG` sets the level, `default` without it. Panics become
/// lines too. A second call changes nothing.
pub fn init(format: LogFormat, default: LevelFilter) {
    let logger = LOGGER.get_or_init(|| Logger::new(format, default));
    if log::set_logger(logger).is_ok() {
        log::set_max_level(logger.inner.filter());
        std::panic::set_hook(Box::new(report_panic));
    }
}

/// Writes how many lines were left out and not reported yet; for the moment before the process ends.
pub fn flush() {
    if let Some(logger) = LOGGER.get() {
        logger.report(true);
    }
}

/// Writes a block that has lines of its own: `text` for people, whose lines are safe to show, or the
/// members of `object` beside those that every JSON line has.
pub(crate) fn block(
    level: Level,
    target: &str,
    message: &str,
    text: &str,
    object: &serde_json::Value,
) {
    let Some(logger) = LOGGER.get() else {
        return;
    };
    let metadata = Metadata::builder().level(level).target(target).build();
    if !logger.inner.enabled(&metadata) {
        return;
    }
    let none: &[(&str, Value<'_>)] = &[];
    let (time, thread) = (now_text(), thread::current());
    let head = Line {
        time: &time,
        level,
        target,
        thread: thread.name().unwrap_or_default(),
        message: format_args!("{message}"),
        fields: &none,
    };
    let whole = match logger.format {
        LogFormat::Text => format!("{}{text}", line::text(&head)),
        LogFormat::Json => with_members(&line::json(&head), object),
    };
    // As for any line: there is nobody to tell.
    let _ = io::stderr().lock().write_all(whole.as_bytes());
}

/// Puts the members of `object` behind those of a line.
fn with_members(line: &str, object: &serde_json::Value) -> String {
    let members = object.to_string();
    let inner = members.trim_start_matches('{').trim_end_matches('\n');
    let line = line.trim_end().trim_end_matches('}');
    match object
        .as_object()
        .is_some_and(|members| !members.is_empty())
    {
        true => format!("{line},{inner}\n"),
        false => format!("{line}}}\n"),
    }
}

/// Reports what was left out now and then, and the rest when it is dropped.
#[must_use = "dropping it ends the reports"]
#[derive(Debug)]
pub struct Reporter {
    stopper: Option<Stopper>,
    thread: Option<Thread>,
}

impl Reporter {
    /// Starts the thread that reports. Fails where there is none to be had.
    pub fn start() -> io::Result<Reporter> {
        let (stopper, stop) = stop_pair();
        let body = move || {
            while !stop.wait(LOG_REPORT_INTERVAL) {
                if let Some(logger) = LOGGER.get() {
                    logger.report(false);
                }
            }
        };
        let thread = threads::spawn(Role::Log, "", SERVICE_STACK_BYTES, body)?;
        Ok(Reporter {
            stopper: Some(stopper),
            thread: Some(thread),
        })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        drop(self.stopper.take());
        drop(self.thread.take());
        flush();
    }
}

/// Filters, limits and writes.
struct Logger {
    inner: env_logger::Logger,
    format: LogFormat,
    started: Instant,
    hasher: RandomState,
    rate: Mutex<Rate>,
}

impl Logger {
    fn new(format: LogFormat, default: LevelFilter) -> Logger {
        let env = Env::default().default_filter_or(default.as_str());
        let mut builder = Builder::from_env(env);
        builder.target(Target::Stderr).format(move |out, record| {
            let time = now_text();
            let thread = thread::current();
            let line = Line {
                time: &time,
                level: record.level(),
                target: record.target(),
                thread: thread.name().unwrap_or_default(),
                message: *record.args(),
                fields: record.key_values(),
            };
            let text = match format {
                LogFormat::Text => line::text(&line),
                LogFormat::Json => line::json(&line),
            };
            out.write_all(text.as_bytes())
        });
        Logger {
            inner: builder.build(),
            format,
            started: Instant::now(),
            hasher: RandomState::new(),
            rate: Mutex::new(Rate::new(Bounds {
                burst: LOG_LINES_BURST,
                interval: LOG_LINE_INTERVAL,
                kinds_max: LOG_KINDS_MAX,
                report_after: LOG_REPORT_AFTER,
            })),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn verdict(&self, record: &Record<'_>) -> Verdict {
        let reason = reason(record);
        let place = (
            record.target(),
            record.file(),
            record.line(),
            record.level(),
        );
        let key = self.hasher.hash_one((place, &reason));
        let describe = || Kind {
            level: record.level(),
            target: record.target().to_owned(),
            reason: reason.clone(),
            place: record.file().map(|file| {
                let line = record.line().unwrap_or_default();
                format!("{file}:{line}")
            }),
        };
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that time does not run backwards in it.
        rate.take(key, record.level(), self.now(), describe)
    }

    fn report(&self, all: bool) {
        let reports = {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            rate.report(self.now(), all)
        };
        for LeftOut { kind, count } in reports {
            let fields = [
                ("left_out", Value::from(count)),
                (
                    "reason",
                    kind.reason.as_deref().map_or_else(Value::null, Value::from),
                ),
                (
                    "place",
                    kind.place.as_deref().map_or_else(Value::null, Value::from),
                ),
            ];
            let fields: &[(&str, Value<'_>)] = &fields;
            self.inner.log(
                &Record::builder()
                    .level(kind.level)
                    .target(&kind.target)
                    .args(format_args!("lines of one kind were left out"))
                    .key_values(&fields)
                    .build(),
            );
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.matches(record) {
            return;
        }
        match self.verdict(record) {
            Verdict::LeaveOut => (),
            Verdict::Write { left_out: 0 } => self.inner.log(record),
            Verdict::Write { left_out } => {
                let counted = Counted {
                    fields: record.key_values(),
                    left_out,
                };
                let record = record.to_builder().key_values(&counted).build();
                self.inner.log(&record);
            }
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// The fields of a line, and how many like it were left out before.
struct Counted<'a> {
    fields: &'a dyn Source,
    left_out: u64,
}

impl Source for Counted<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        visitor.visit_pair(Key::from_str("left_out"), Value::from(self.left_out))?;
        self.fields.visit(visitor)
    }
}

/// The field by which lines of one place are told apart.
fn reason(record: &Record<'_>) -> Option<String> {
    let value = record.key_values().get(Key::from_str("reason"))?;
    let mut text = String::new();
    escape::plain(&mut text, value, LOG_REASON_CHARS_MAX);
    Some(text)
}

fn now_text() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    datetime::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// A panic as a line, and the backtrace where `RUST_BACKTRACE` asks for one.
fn report_panic(panic: &PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let thread = thread::current();
    let name = thread.name().unwrap_or_default();
    let error = words_of(panic);
    log::error!(place = place, error = error; "thread {name} panics");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        let text = backtrace.to_string();
        let object = json!({ "backtrace": text });
        block(
            Level::Error,
            "zlay::panic",
            "the backtrace of the panic",
            &text,
            &object,
        );
    }
}

/// What a panic says: text in all but odd cases.
fn words_of<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let said = payload.downcast_ref::<&'static str>().copied();
    said.or(owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    #[test]
    fn a_block_is_one_object() {
        let line = "{\"time\":\"t\",\"message\":\"m}\"}\n";
        let read = |object| -> Json {
            let text = with_members(line, &object);
            assert!(text.ends_with("}\n"));
            serde_json::from_str(&text).unwrap()
        };
        let expected = json!({"time": "t", "message": "m}", "a": {"b": {}}});
        assert_eq!(read(json!({"a": {"b": {}}})), expected);
        assert_eq!(read(json!({})), json!({"time": "t", "message": "m}"}));
    }

    #[test]
    fn a_line_that_stands_for_others_says_how_many() {
        let fields: &[(&str, Value<'_>)] = &[("host", Value::from("a.example"))];
        let counted = Counted {
            fields: &fields,
            left_out: 9,
        };
        assert_eq!(
            counted.get(Key::from_str("left_out")).unwrap().to_u64(),
            Some(9)
        );
        assert!(counted.get(Key::from_str("host")).is_some());
    }

    #[test]
    fn lines_are_told_apart_by_place_and_reason() {
        let logger = Logger::new(LogFormat::Json, LevelFilter::Off);
        let verdicts = |line, reason: &str| {
            let fields: &[(&str, Value<'_>)] = &[("reason", Value::from(reason))];
            let record = Record::builder()
                .level(Level::Debug)
                .target("zlay::test")
                .file_static(Some("src/a.rs"))
                .line(Some(line))
                .key_values(&fields)
                .build();
            let written = (0..LOG_LINES_BURST + 1)
                .map(|_| logger.verdict(&record))
                .filter(|verdict| *verdict != Verdict::LeaveOut);
            written.count()
        };
        let burst = LOG_LINES_BURST as usize;
        assert!(verdicts(1, "a") >= burst);
        assert!(verdicts(1, "b") >= burst);
        assert!(verdicts(2, "a") >= burst);
    }
}
