//! The text form of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use std::fmt::{Display, Write};

use super::histogram::Buckets;

/// The text form, metric by metric.
#[derive(Default, Debug)]
pub struct Text {
    out: String,
    name: &'static str,
}

impl Text {
    /// Begins a metric: `kind` is `counter`, `gauge` or `histogram`.
    pub fn metric(&mut self, kind: &str, name: &'static str, help: &str) {
        self.name = name;
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Begins a number that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) {
        self.metric("gauge", name, help);
    }

    /// Begins a number that only grows.
    pub fn counter(&mut self, name: &'static str, help: &str) {
        self.metric("counter", name, help);
    }

    /// A value of the metric that was begun last; none where it is not known.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: Option<impl Display>) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, of)| format!("{label}=\"{of}\""))
            .collect();
        self.labelled(&labels.join(","), value);
    }

    /// The same with labels as they are written; they may be empty.
    pub fn labelled(&mut self, labels: &str, value: Option<impl Display>) {
        let Some(value) = value else { return };
        let (open, close) = match labels {
            "" => ("", ""),
            _ => ("{", "}"),
        };
        let name = self.name;
        let _ = writeln!(self.out, "{name}{open}{labels}{close} {value}");
    }

    /// What a histogram has counted, with labels as they are written; they may be empty.
    pub fn buckets(&mut self, labels: &str, buckets: &Buckets) {
        buckets.render(&mut self.out, self.name, labels);
    }

    /// A metric of one value.
    pub fn single(&mut self, name: &'static str, help: &str, value: Option<impl Display>) {
        self.gauge(name, help);
        self.sample(&[], value);
    }

    /// What was written.
    pub fn into_string(self) -> String {
        self.out
    }
}
