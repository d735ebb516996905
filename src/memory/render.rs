//! A [`Sample`] as text for Prometheus, and as a document.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Sample, heap::ALLOCATOR, process::Process};
use crate::metrics::text::Text;

/// The commit that the program was built from, where whoever built it has said so.
const COMMIT: &str = match option_env!("ZLAY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

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
        ("commit", COMMIT),
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
        of_kinds(&mut text, sample);
        of_databases(&mut text, sample);
    }
    text.into_string()
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

/// The breakdown by kind. What parts and databases keep is in a heap, so that only heaps and stacks
/// add up.
fn of_kinds(text: &mut Text, sample: &Sample) {
    text.gauge(
        "relay_memory_bytes",
        "Memory by kind: heap and stack, and what of the heap a part of the relay keeps, as it counts \
         or estimates it.",
    );
    let all = |bytes: Vec<Option<u64>>| bytes.into_iter().sum::<Option<u64>>();
    let heap = sample.heaps.iter().map(|heap| heap.held_bytes).collect();
    text.sample(&[("kind", "heap")], all(heap));
    let stack = sample.stacks.iter().map(|stacks| stacks.resident_bytes);
    text.sample(&[("kind", "stack")], all(stack.collect()));
    let databases = || sample.databases.iter().map(|database| &database.memory);
    for (kind, bytes) in [
        (
            "block_cache",
            databases().map(|m| m.block_cache_bytes).sum(),
        ),
        ("memtable", databases().map(|m| m.memtables_bytes).sum()),
        (
            "table_readers",
            databases().map(|m| m.table_readers_bytes).sum::<u64>(),
        ),
    ] {
        text.sample(&[("kind", kind)], Some(bytes));
    }
    for part in &sample.parts {
        text.sample(&[("kind", kind(part.part))], part.bytes);
    }
    text.gauge(
        "relay_memory_entries",
        "How many things of a kind there are.",
    );
    for part in &sample.parts {
        text.sample(&[("kind", kind(part.part))], part.entries);
    }
}

/// What a part of the document is called here.
fn kind(part: &'static str) -> &'static str {
    match part {
        "identities" => "identity_cache",
        other => other,
    }
}

fn of_databases(text: &mut Text, sample: &Sample) {
    text.gauge(
        "relay_memory_database_bytes",
        "What a database keeps, by kind.",
    );
    for database in &sample.databases {
        let memory = &database.memory;
        for (kind, bytes) in [
            ("memtable", memory.memtables_bytes),
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
