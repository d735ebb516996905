//! One look at a relay: from outside, and by what it says of itself.

use std::{collections::BTreeMap, io, time::Duration};

use serde::Serialize;
use serde_json::Value;

use crate::sim::{
    process::{Memory, Usage, mappings},
    relay::Client,
};

/// Where zlay says what its memory is made of; other relays answer 404.
const BREAKDOWN: &str = "/memory.json";

/// A relay at the end of a phase. Bytes, unless said otherwise.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Sample {
    pub(super) rss: u64,
    pub(super) pss: u64,
    pub(super) anonymous: u64,
    pub(super) huge: u64,
    pub(super) vmsize: u64,
    pub(super) threads: u64,
    pub(super) mappings: u64,
    /// Page faults of the phase.
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    /// Processor time of the phase, in seconds.
    pub(super) cpu_seconds: f64,
    pub(super) inside: Inside,
}

/// What the relay says of itself; none where it does not.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub(super) struct Inside {
    /// Resident memory of the stacks of all threads that it knows.
    pub(super) stacks: Option<u64>,
    /// The deepest that a thread of each role has been.
    pub(super) stack_high_water: BTreeMap<String, u64>,
    /// What the program has of its allocators.
    pub(super) heap_in_use: Option<u64>,
    /// What the allocators keep beyond that.
    pub(super) heap_retained: Option<u64>,
    pub(super) ring: Option<u64>,
    pub(super) identity_cache: Option<u64>,
    /// Of all databases: memtables, block cache, indexes and filters.
    pub(super) rocksdb: Option<u64>,
    /// Everything it said.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) raw: Value,
}

impl Sample {
    /// A look at `pid`; what is counted over a phase began at `since`.
    pub(super) fn take(pid: u32, internal: &Client, since: &Usage) -> io::Result<Sample> {
        // First from outside: what it says of itself costs it memory.
        let usage = Usage::of(pid)?;
        let memory = Memory::of(pid)?;
        let mappings = mappings(pid)?;
        let inside = match internal.get(BREAKDOWN) {
            Ok((200, body)) => serde_json::from_str(&body).map_or_else(
                |error| {
                    log::warn!("{BREAKDOWN}: {error}");
                    Inside::default()
                },
                Inside::read,
            ),
            Ok(_) | Err(_) => Inside::default(),
        };
        Ok(Sample {
            rss: memory.rss,
            pss: memory.pss,
            anonymous: memory.anonymous,
            huge: memory.huge,
            vmsize: usage.vmsize,
            threads: usage.threads,
            mappings,
            minor_faults: usage.minor_faults.saturating_sub(since.minor_faults),
            major_faults: usage.major_faults.saturating_sub(since.major_faults),
            cpu_seconds: usage.cpu.saturating_sub(since.cpu).as_secs_f64(),
            inside,
        })
    }
}

impl Inside {
    /// Reads zlay's breakdown, and leaves out what it does not find there.
    fn read(raw: Value) -> Inside {
        let list = |name: &str| raw[name].as_array().map_or(&[][..], Vec::as_slice);
        let sum = |items: &[Value], field: &str| {
            let values = items.iter().filter_map(|item| item[field].as_u64());
            values.reduce(|a, b| a.saturating_add(b))
        };
        let part = |name: &str| {
            let part = list("parts").iter().find(|part| part["part"] == name)?;
            part["bytes"].as_u64()
        };
        let (stacks, heaps) = (list("stacks"), list("heaps"));
        let high_water = stacks.iter().filter_map(|of| {
            let role = of["role"].as_str()?;
            Some((role.to_owned(), of["high_water_bytes"].as_u64()?))
        });
        Inside {
            stacks: sum(stacks, "resident_bytes"),
            stack_high_water: high_water.collect(),
            heap_in_use: sum(heaps, "in_use_bytes"),
            heap_retained: sum(heaps, "retained_bytes"),
            ring: part("ring"),
            identity_cache: part("identities"),
            rocksdb: ROCKSDB_FIELDS
                .iter()
                .filter_map(|field| sum(list("databases"), field))
                .reduce(|a, b| a.saturating_add(b)),
            raw,
        }
    }
}

/// What a database keeps, by the names of the breakdown.
const ROCKSDB_FIELDS: [&str; 3] = [
    "memtables_bytes",
    "block_cache_bytes",
    "table_readers_bytes",
];

/// A cheap look during a soak.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Tick {
    /// Since the load began, in seconds.
    pub(super) at: f64,
    pub(super) rss: u64,
    pub(super) anonymous: u64,
    /// Processor time since the load began, in seconds.
    pub(super) cpu_seconds: f64,
}

impl Tick {
    pub(super) fn take(pid: u32, at: Duration, since: &Usage) -> io::Result<Tick> {
        let memory = Memory::of(pid)?;
        Ok(Tick {
            at: at.as_secs_f64(),
            rss: memory.rss,
            anonymous: memory.anonymous,
            cpu_seconds: Usage::of(pid)?.cpu.saturating_sub(since.cpu).as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_breakdown_is_summed_up() {
        let inside = Inside::read(json!({
            "stacks": [
                {"role": "host", "threads": 2, "resident_bytes": 70, "high_water_bytes": 40},
                {"role": "ticker", "resident_bytes": 5, "high_water_bytes": null},
            ],
            "heaps": [
                {"allocator": "jemalloc", "in_use_bytes": 100, "retained_bytes": 10},
                {"allocator": "glibc", "in_use_bytes": 1, "retained_bytes": null},
            ],
            "parts": [{"part": "ring", "bytes": 7}, {"part": "identities", "entries": 3}],
            "databases": [
                {"database": "events", "memtables_bytes": 4, "block_cache_bytes": 2},
                {"database": "control", "memtables_bytes": 1},
            ],
        }));
        assert_eq!(inside.stacks, Some(75));
        assert_eq!(
            inside.stack_high_water,
            BTreeMap::from([("host".into(), 40)])
        );
        assert_eq!(
            (inside.heap_in_use, inside.heap_retained),
            (Some(101), Some(10))
        );
        assert_eq!((inside.ring, inside.identity_cache), (Some(7), None));
        assert_eq!(inside.rocksdb, Some(7));
    }

    #[test]
    fn what_is_not_said_is_left_out() {
        let inside = Inside::read(json!({"stacks": "soon", "parts": 3}));
        assert_eq!(
            (inside.stacks, inside.ring, inside.rocksdb),
            (None, None, None)
        );
        assert!(inside.stack_high_water.is_empty());
    }
}
