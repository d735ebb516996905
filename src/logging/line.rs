//! One record as one line: for people, or as a JSON object. Pure.

use std::fmt::{self, Write as _};

use log::{
    Level,
    kv::{self, Key, Source, Value, VisitSource, VisitValue},
};

use super::escape;
use crate::limits::{LOG_FIELD_CHARS_MAX, LOG_FIELDS_MAX, LOG_MESSAGE_CHARS_MAX};

/// What a line is made of.
pub(super) struct Line<'a> {
    /// In RFC 3339.
    pub(super) time: &'a str,
    pub(super) level: Level,
    pub(super) target: &'a str,
    /// The name of the thread.
    pub(super) thread: &'a str,
    pub(super) message: fmt::Arguments<'a>,
    pub(super) fields: &'a dyn Source,
}

/// Members that every JSON line has; a field of the same name is written with `_` behind it.
const MEMBERS: [&str; 5] = ["time", "level", "target", "thread", "message"];

/// `TIME LEVEL message name=value …`. A line of a library has its target as a field.
pub(super) fn text(line: &Line<'_>) -> String {
    let mut out = format!("{} {:5} ", line.time, line.level);
    escape::plain(&mut out, line.message, LOG_MESSAGE_CHARS_MAX);
    let mut fields = Fields::new(&mut out, text_field);
    if !is_ours(line.target) {
        fields.add("target", &Value::from(line.target));
    }
    // A field that can not be read is left out; the message is there all the same.
    let _ = line.fields.visit(&mut fields);
    out.push('\n');
    out
}

/// One JSON object, with the fields as members beside `time`, `level`, `target`, `thread` and
/// `message`.
pub(super) fn json(line: &Line<'_>) -> String {
    let mut out = String::from("{");
    for (name, value) in [
        ("time", line.time),
        ("level", line.level.as_str()),
        ("target", line.target),
        ("thread", line.thread),
    ] {
        let _ = write!(out, "\"{name}\":");
        escape::quoted(&mut out, value, LOG_FIELD_CHARS_MAX);
        out.push(',');
    }
    out.push_str("\"message\":");
    escape::quoted(&mut out, line.message, LOG_MESSAGE_CHARS_MAX);
    let _ = line.fields.visit(&mut Fields::new(&mut out, json_field));
    out.push_str("}\n");
    out
}

fn is_ours(target: &str) -> bool {
    target
        .strip_prefix("zlay")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('-'))
}

fn text_field(out: &mut String, name: &str, value: &Value<'_>) {
    out.push(' ');
    escape::plain(out, name, LOG_FIELD_CHARS_MAX);
    out.push('=');
    escape::word(out, value, LOG_FIELD_CHARS_MAX);
}

fn json_field(out: &mut String, name: &str, value: &Value<'_>) {
    let tail = if MEMBERS.contains(&name) { "_" } else { "" };
    out.push(',');
    escape::quoted(out, format_args!("{name}{tail}"), LOG_FIELD_CHARS_MAX);
    out.push(':');
    match Kind::of(value) {
        Kind::Bare => {
            let _ = write!(out, "{value}");
        }
        _ => escape::quoted(out, value, LOG_FIELD_CHARS_MAX),
    }
}

/// Writes the fields of one line, each name once, and no more than there may be.
struct Fields<'a> {
    out: &'a mut String,
    write: fn(&mut String, &str, &Value<'_>),
    names: Vec<String>,
}

impl<'a> Fields<'a> {
    fn new(out: &'a mut String, write: fn(&mut String, &str, &Value<'_>)) -> Fields<'a> {
        Fields {
            out,
            write,
            names: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, value: &Value<'_>) {
        let is_there = self.names.iter().any(|known| known == name);
        if is_there || self.names.len() == LOG_FIELDS_MAX || Kind::of(value) == Kind::Nothing {
            return;
        }
        self.names.push(name.to_owned());
        (self.write)(self.out, name, value);
    }
}

impl<'kvs> VisitSource<'kvs> for Fields<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        self.add(key.as_str(), &value);
        Ok(())
    }
}

/// How a value is written in JSON.
#[derive(PartialEq, Eq)]
enum Kind {
    /// Not at all.
    Nothing,
    /// A number or a truth: as it is.
    Bare,
    /// As a string.
    Quoted,
}

impl Kind {
    fn of(value: &Value<'_>) -> Kind {
        let mut kind = Kind::Quoted;
        // What it is not told it takes as text.
        let _ = value.visit(&mut kind);
        kind
    }
}

impl<'v> VisitValue<'v> for Kind {
    fn visit_any(&mut self, _: Value<'_>) -> Result<(), kv::Error> {
        *self = Kind::Quoted;
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        *self = Kind::Nothing;
        Ok(())
    }

    fn visit_u64(&mut self, _: u64) -> Result<(), kv::Error> {
        *self = Kind::Bare;
        Ok(())
    }

    fn visit_i64(&mut self, _: i64) -> Result<(), kv::Error> {
        *self = Kind::Bare;
        Ok(())
    }

    fn visit_bool(&mut self, _: bool) -> Result<(), kv::Error> {
        *self = Kind::Bare;
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        // JSON has no word for the others.
        *self = match value.is_finite() {
            true => Kind::Bare,
            false => Kind::Quoted,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn line<'a>(target: &'a str, message: fmt::Arguments<'a>, fields: &'a dyn Source) -> Line<'a> {
        Line {
            time: "2026-01-02T03:04:05.678Z",
            level: Level::Warn,
            target,
            thread: "host:a.example",
            message,
            fields,
        }
    }

    fn read(line: &Line<'_>) -> Json {
        let text = json(line);
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn fields_follow_the_message() {
        let fields = [
            ("host", Value::from("pds.example.com")),
            ("seq", Value::from(7_u64)),
            ("rev", Value::null()),
            ("lenient", Value::from(true)),
            ("error", Value::from("no route")),
        ];
        let fields: &[(&str, Value<'_>)] = &fields;
        let line = line("zlay::host", format_args!("an event is refused"), &fields);
        assert_eq!(
            text(&line),
            "2026-01-02T03:04:05.678Z WARN  an event is refused host=pds.example.com seq=7 \
             lenient=true error=\"no route\"\n"
        );
        let expected = json!({
            "time": "2026-01-02T03:04:05.678Z", "level": "WARN", "target": "zlay::host",
            "thread": "host:a.example", "message": "an event is refused",
            "host": "pds.example.com", "seq": 7, "lenient": true, "error": "no route",
        });
        assert_eq!(read(&line), expected);
    }

    #[test]
    fn a_value_from_outside_forges_nothing() {
        let evil = "x\n2026 ERROR gone\" host=b\u{1b}[0m\u{2028},\"level\":\"INFO";
        let fields = [("host", Value::from(evil)), ("host", Value::from("second"))];
        let fields: &[(&str, Value<'_>)] = &fields;
        let said = text(&line("zlay", format_args!("{evil}"), &fields));
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains('\u{1b}') && !said.contains("second"));
        let read = read(&line("zlay", format_args!("{evil}"), &fields));
        assert_eq!(
            (&read["host"], &read["message"]),
            (&json!(evil), &json!(evil))
        );
        assert_eq!(read["level"], "WARN");
    }

    #[test]
    fn a_field_can_not_take_the_place_of_a_member() {
        let fields = [("message", Value::from("a")), ("level", Value::from(1_u64))];
        let fields: &[(&str, Value<'_>)] = &fields;
        let read = read(&line("zlay", format_args!("b"), &fields));
        assert_eq!(
            (&read["message"], &read["message_"]),
            (&json!("b"), &json!("a"))
        );
        assert_eq!(read["level_"], 1);
    }

    #[test]
    fn everything_is_bounded() {
        let long = "ä".repeat(1 << 16);
        let names: Vec<String> = (0..999).map(|n| format!("f{n}")).collect();
        let fields: Vec<(&str, Value<'_>)> = names
            .iter()
            .map(|name| (name.as_str(), Value::from(long.as_str())))
            .collect();
        let fields = fields.as_slice();
        let chars_max = LOG_MESSAGE_CHARS_MAX + LOG_FIELDS_MAX * (LOG_FIELD_CHARS_MAX + 16) + 256;
        for write in [text, json] {
            let said = write(&line("zlay", format_args!("{long}"), &fields));
            assert!(said.chars().count() < chars_max, "{}", said.len());
        }
        let read = read(&line("zlay", format_args!("{long}"), &fields));
        assert_eq!(read.as_object().unwrap().len(), 5 + LOG_FIELDS_MAX);
    }

    #[test]
    fn numbers_that_json_does_not_have_are_text() {
        let fields = [("a", Value::from(f64::NAN)), ("b", Value::from(0.5))];
        let fields: &[(&str, Value<'_>)] = &fields;
        let read = read(&line("zlay", format_args!(""), &fields));
        assert_eq!((&read["a"], &read["b"]), (&json!("NaN"), &json!(0.5)));
    }

    #[test]
    fn libraries_are_named() {
        let none: &[(&str, Value<'_>)] = &[];
        let said = |target| text(&line(target, format_args!("m"), &none));
        assert!(said("rustls::client").ends_with("m target=rustls::client\n"));
        for ours in ["zlay", "zlay::host", "zlay-sim"] {
            assert!(said(ours).ends_with(" m\n"));
        }
        assert!(said("zlayer").contains("target=zlayer"));
    }
}
