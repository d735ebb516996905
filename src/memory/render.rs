//! A [`Sample`] as text for Prometheus, and as a document.

use std::{
    fmt::{Display, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::{Sample, heap::ALLOCATOR, process::Process};

/// The document of `/memory.json`.
pub(super) fn document(sample: &Sample) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(sample)?;
    document["version"] = env!("CARGO_PKG_VERSION").into();
    document["allocator"] = ALLOCATOR.into();
    Ok(document)
}

/// The text: of the process as it is now, of the rest as the sample says. What is not known is
/// left out.
pub(super) fn text(
    process: Option<&Process>,
    sample: Option<&Sample>,
    started: SystemTime,
) -> String {
    let mut text = Text::default();
    text.gauge("relay_build_info", "The program; always 1.");
    let build = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("allocator", ALLOCATOR),
    ];
    text.sample(&build, Some(1));
    if let Some(process) = process {
        of_process(&mut text, process, started);
    }
    if let Some(sample) = sample {
        of_sample(&mut text, sample);
        of_stacks(&mut text, sample);
        of_heaps(&mut text, sample);
        of_parts(&mut text, sample);
    }
    text.out
}

/// The text form, metric by metric.
#[derive(Default)]
struct Text {
    out: String,
    name: &'static str,
}

impl Text {
    fn gauge(&mut self, name: &'static str, help: &str) {
        self.metric("gauge", name, help);
    }

    fn counter(&mut self, name: &'static str, help: &str) {
        self.metric("counter", name, help);
    }

    /// Begins a metric.
    fn metric(&mut self, kind: &str, name: &'static str, help: &str) {
        self.name = name;
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A value of the metric that was begun last.
    fn sample(&mut self, labels: &[(&str, &str)], value: Option<impl Display>) {
        let Some(value) = value else { return };
        self.out.push_str(self.name);
        for (n, (label, of)) in labels.iter().enumerate() {
            let before = if n == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{label}=\"{of}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{end} {value}");
    }

    /// A metric of one value.
    fn single(&mut self, name: &'static str, help: &str, value: Option<impl Display>) {
        self.gauge(name, help);
        self.sample(&[], value);
    }
}

fn of_process(text: &mut Text, process: &Process, started: SystemTime) {
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    text.single(
        "process_start_time_seconds",
        "When the relay started, in seconds since 1970.",
        Some(started.as_secs_f64()),
    );
    text.counter(
        "process_cpu_seconds_total",
        "CPU time, of the program and of the kernel.",
    );
    let all = process.cpu_user_seconds + process.cpu_system_seconds;
    text.sample(&[], Some(format_args!("{all:.2}")));
    text.counter(
        "relay_process_cpu_seconds_total",
        "The same, by who took it.",
    );
    for (mode, seconds) in [
        ("user", process.cpu_user_seconds),
        ("system", process.cpu_system_seconds),
    ] {
        text.sample(&[("mode", mode)], Some(format_args!("{seconds:.2}")));
    }
    text.single(
        "process_open_fds",
        "Open file descriptors.",
        Some(process.open_files),
    );
    text.single(
        "process_max_fds",
        "File descriptors that may be open.",
        Some(process.open_files_max),
    );
    text.single(
        "process_threads",
        "Threads, also those of libraries.",
        Some(process.threads),
    );
    text.single(
        "process_resident_memory_bytes",
        "Memory that is there, not only promised (RSS).",
        Some(process.resident_bytes),
    );
    text.single(
        "process_virtual_memory_bytes",
        "Addresses in use, with or without memory behind them.",
        Some(process.virtual_bytes),
    );
    text.gauge(
        "relay_process_resident_bytes",
        "Resident memory, by what it is of.",
    );
    for (kind, bytes) in [
        ("anon", process.resident_anon_bytes),
        ("file", process.resident_file_bytes),
        ("shmem", process.resident_shmem_bytes),
    ] {
        text.sample(&[("kind", kind)], Some(bytes));
    }
    text.single(
        "relay_process_resident_peak_bytes",
        "The most that was resident at any time.",
        Some(process.peak_resident_bytes),
    );
    text.single(
        "relay_process_swapped_bytes",
        "Memory that was moved to swap.",
        Some(process.swapped_bytes),
    );
    text.single(
        "relay_process_page_table_bytes",
        "The kernel's page tables for the process, which are not resident memory of it.",
        Some(process.page_table_bytes),
    );
    text.counter(
        "relay_process_page_faults_total",
        "Page faults; major ones waited for a disk.",
    );
    text.sample(&[("kind", "minor")], Some(process.faults_minor));
    text.sample(&[("kind", "major")], Some(process.faults_major));
}

fn of_sample(text: &mut Text, sample: &Sample) {
    text.single(
        "relay_memory_sampled_timestamp_seconds",
        "When the memory breakdown below was taken, in seconds since 1970.",
        Some(sample.taken_ms as f64 / 1e3),
    );
    text.single(
        "relay_memory_sample_duration_seconds",
        "How long that took.",
        Some(sample.took.all),
    );
    text.single(
        "relay_process_proportional_bytes",
        "Resident memory, where a page that processes share counts in parts (PSS).",
        sample.rollup.map(|rollup| rollup.proportional_bytes),
    );
    text.single(
        "relay_process_anon_huge_bytes",
        "Of what is resident: huge pages, which the kernel gave unasked.",
        sample.rollup.map(|rollup| rollup.anon_huge_bytes),
    );
    text.single("relay_process_mappings", "Mappings.", sample.mappings);
    text.single(
        "relay_memory_rest_bytes",
        "Resident memory of no file, less stacks and heaps; below 0 where an allocator counts what \
         is not resident.",
        sample.rest_bytes,
    );
}

fn of_stacks(text: &mut Text, sample: &Sample) {
    text.gauge(
        "relay_memory_stack_reserved_bytes",
        "Addresses of the stacks of threads, by role.",
    );
    for stacks in &sample.stacks {
        text.sample(&[("role", stacks.role)], Some(stacks.reserved_bytes));
    }
    text.gauge(
        "relay_memory_stack_resident_bytes",
        "Of this, what is in memory.",
    );
    for stacks in &sample.stacks {
        text.sample(&[("role", stacks.role)], stacks.resident_bytes);
    }
    text.gauge(
        "relay_memory_stack_high_water_bytes",
        "The most of one stack that was ever in use, of threads that run.",
    );
    for stacks in &sample.stacks {
        text.sample(&[("role", stacks.role)], stacks.high_water_bytes);
    }
}

fn of_heaps(text: &mut Text, sample: &Sample) {
    text.gauge(
        "relay_memory_heap_in_use_bytes",
        "What an allocator has given to the program.",
    );
    for heap in &sample.heaps {
        text.sample(&[("allocator", heap.allocator)], heap.in_use_bytes);
    }
    text.gauge(
        "relay_memory_heap_retained_bytes",
        "What it has from the system and the program has not got.",
    );
    for heap in &sample.heaps {
        text.sample(&[("allocator", heap.allocator)], heap.retained_bytes);
    }
    text.gauge("relay_memory_heap_held_bytes", "Both together.");
    for heap in &sample.heaps {
        text.sample(&[("allocator", heap.allocator)], heap.held_bytes);
    }
    text.gauge(
        "relay_memory_heap_mmapped_bytes",
        "Of what is in use: large blocks, which go back to the system at once.",
    );
    for heap in &sample.heaps {
        text.sample(&[("allocator", heap.allocator)], heap.mmapped_bytes);
    }
}

fn of_parts(text: &mut Text, sample: &Sample) {
    text.gauge(
        "relay_memory_part_bytes",
        "What a part of the relay keeps, as it counts or estimates it; most of it is in the heaps.",
    );
    for part in &sample.parts {
        text.sample(&[("part", part.part)], part.bytes);
    }
    text.gauge("relay_memory_part_entries", "How many things it keeps.");
    for part in &sample.parts {
        text.sample(&[("part", part.part)], part.entries);
    }
    text.gauge(
        "relay_memory_database_bytes",
        "What a database keeps, by kind.",
    );
    for database in &sample.databases {
        let memory = &database.memory;
        for (kind, bytes) in [
            ("memtables", memory.memtables_bytes),
            ("block_cache", memory.block_cache_bytes),
            ("table_readers", memory.table_readers_bytes),
        ] {
            let labels = [("database", database.database), ("kind", kind)];
            text.sample(&labels, Some(bytes));
        }
    }
    text.gauge(
        "relay_memory_database_pinned_bytes",
        "Of the block cache: what can not leave it now.",
    );
    for database in &sample.databases {
        let pinned = database.memory.block_cache_pinned_bytes;
        text.sample(&[("database", database.database)], Some(pinned));
    }
}
