//! What the memory of this process is made of, measured while it runs.
//!
//! A [`Sample`] says what the kernel counts of the process ([`process`]), how much of the threads'
//! stacks is resident ([`stacks`]), what the allocators hold ([`heap`]), and which of the relay's own
//! parts have how much of it ([`Parts`]). `docs/memory.md` explains how to read it.
//!
//! Not known here: which part a block of the heap belongs to (parts count what they keep, without
//! the allocator's overhead); the stacks of threads that a library made, of the main thread, and
//! of threads that have ended, which glibc keeps for the next ones; what the kernel holds for the
//! process, such as socket buffers.
//!
//! Taking a sample costs milliseconds with thousands of threads, so it is taken at most once in a
//! while, by whoever asks first, and shown to all.

use std::{
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use self::{
    heap::Heap,
    process::{Process, Rollup},
    stacks::RoleStacks,
};
use crate::{
    limits::{MEMORY_SAMPLE_INTERVAL, MEMORY_SAMPLE_INTERVAL_FRESH, MEMORY_SAMPLE_PAUSE},
    store::RocksMemory,
};

mod ffi;
pub mod heap;
pub mod process;
mod render;
pub mod stacks;
pub mod trim;

/// What the relay's parts know of their own memory.
pub trait Parts: Send + Sync {
    /// What each part keeps. No call may wait for anything but a short lock.
    fn parts(&self) -> Vec<Part>;

    /// What each database keeps, by its name.
    fn databases(&self) -> Vec<(&'static str, RocksMemory)>;
}

/// What a part of the relay keeps, as it counts it itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Part {
    /// Its name.
    pub part: &'static str,
    /// How many things it keeps, where that says more than the bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Their bytes; for some an estimate from the number of entries, none where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// The breakdown at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub taken_ms: u64,
    /// How long it took.
    pub took: Took,
    /// What the kernel counts of the process; none where it does not say.
    pub process: Option<Process>,
    /// What takes the kernel a walk through the page tables.
    pub rollup: Option<Rollup>,
    /// Mappings of the process.
    pub mappings: Option<u64>,
    /// The stacks of threads that run, by their role.
    pub stacks: Vec<RoleStacks>,
    /// The allocators in use: the relay's, and the system's for C and C++ libraries.
    pub heaps: Vec<Heap>,
    /// What the parts of the relay keep; most of it is in the heaps.
    pub parts: Vec<Part>,
    /// What the databases keep; it is in the heap of the system's allocator.
    pub databases: Vec<Database>,
    /// Resident memory that is not of a file and neither stack nor heap; below 0 where an allocator
    /// counts memory as its own that is not resident. None where anything is not known.
    pub rest_bytes: Option<i64>,
}

/// How long the pieces of a [`Sample`] took, in seconds.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Took {
    /// [`Sample::rollup`]
    pub rollup: f64,
    /// [`Sample::mappings`]
    pub mappings: f64,
    /// [`Sample::stacks`]
    pub stacks: f64,
    /// [`Sample::heaps`]
    pub heaps: f64,
    /// [`Sample::databases`]
    pub databases: f64,
    /// Everything.
    pub all: f64,
}

/// A database by its name.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Database {
    /// Its name.
    pub database: &'static str,
    /// What it keeps.
    #[serde(flatten)]
    pub memory: RocksMemory,
}

/// Takes samples.
pub struct Memory {
    parts: Arc<dyn Parts>,
    started: SystemTime,
    last: Mutex<Option<(Instant, Arc<Sample>)>>,
    /// Held while a sample is taken.
    taking: Mutex<()>,
}

impl Memory {
    /// The memory of this process, and of the relay's `parts` in it.
    pub fn new(parts: Arc<dyn Parts>) -> Memory {
        Memory {
            parts,
            started: SystemTime::now(),
            last: Mutex::new(None),
            taking: Mutex::new(()),
        }
    }

    /// The breakdown in the text form of Prometheus. It is taken anew where it is old, unless
    /// somebody is doing so: this never waits for them.
    pub fn metrics(&self) -> String {
        let taking = match self.taking.try_lock() {
            Ok(taking) => Some(taking),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let sample = match taking {
            Some(_) => Some(self.refreshed(self.interval())),
            None => self.last(),
        };
        drop(taking);
        render::text(Process::read().as_ref(), sample.as_deref(), self.started)
    }

    /// The breakdown as a JSON document, at most [`MEMORY_SAMPLE_INTERVAL_FRESH`] old; waits for
    /// who is taking one.
    pub fn document(&self) -> Result<serde_json::Value, serde_json::Error> {
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = self.refreshed(MEMORY_SAMPLE_INTERVAL_FRESH);
        render::document(&sample)
    }

    /// The last sample, or a new one. Whoever calls this holds `taking`.
    fn refreshed(&self, age_max: Duration) -> Arc<Sample> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, sample)) = &*last
            && at.elapsed() < age_max
        {
            return sample.clone();
        }
        drop(last);
        let sample = Arc::new(take(&*self.parts));
        last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((Instant::now(), sample.clone()));
        sample
    }

    /// How old the last sample may be.
    fn interval(&self) -> Duration {
        let took = self.last().map_or(0.0, |sample| sample.took.all);
        MEMORY_SAMPLE_INTERVAL.max(Duration::from_secs_f64(took) * MEMORY_SAMPLE_PAUSE)
    }

    fn last(&self) -> Option<Arc<Sample>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(_, sample)| sample.clone())
    }
}

/// Takes a sample.
fn take(known: &dyn Parts) -> Sample {
    let start = Instant::now();
    let taken = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut took = Took::default();
    let process = Process::read();
    let rollup = timed(&mut took.rollup, Rollup::read);
    let mappings = timed(&mut took.mappings, process::mappings);
    let stacks = timed(&mut took.stacks, stacks::by_role);
    let heaps = timed(&mut took.heaps, heap::heaps);
    let parts = known.parts();
    let databases = timed(&mut took.databases, || {
        let databases = known.databases().into_iter();
        let named = databases.map(|(database, memory)| Database { database, memory });
        named.collect()
    });
    took.all = start.elapsed().as_secs_f64();
    Sample {
        taken_ms: u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
        took,
        rest_bytes: rest(process.as_ref(), &stacks, &heaps),
        process,
        rollup,
        mappings,
        stacks,
        heaps,
        parts,
        databases,
    }
}

fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *seconds = start.elapsed().as_secs_f64();
    done
}

fn rest(process: Option<&Process>, stacks: &[RoleStacks], heaps: &[Heap]) -> Option<i64> {
    let mut rest = i64::try_from(process?.resident_anon_bytes).ok()?;
    for stacks in stacks {
        rest -= i64::try_from(stacks.resident_bytes?).ok()?;
    }
    for heap in heaps {
        rest -= i64::try_from(heap.held_bytes?).ok()?;
    }
    Some(rest)
}

/// Everything that is rendered of a process, for the test of the documentation.
#[cfg(test)]
pub(crate) fn rendered_for_docs() -> String {
    let memory = Memory::new(Arc::new(tests::Known));
    memory.metrics()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) struct Known;

    impl Parts for Known {
        fn parts(&self) -> Vec<Part> {
            vec![Part {
                part: "ring",
                entries: None,
                bytes: Some(7),
            }]
        }

        fn databases(&self) -> Vec<(&'static str, RocksMemory)> {
            vec![("store", RocksMemory::default())]
        }
    }

    #[test]
    fn a_sample_is_shared_while_it_is_new() {
        let memory = Memory::new(Arc::new(Known));
        let first = memory.refreshed(Duration::MAX);
        assert!(Arc::ptr_eq(&first, &memory.refreshed(Duration::MAX)));
        assert!(!Arc::ptr_eq(&first, &memory.refreshed(Duration::ZERO)));
    }

    #[test]
    fn a_sample_that_takes_long_is_taken_less_often() {
        let memory = Memory::new(Arc::new(Known));
        assert_eq!(memory.interval(), MEMORY_SAMPLE_INTERVAL);
        let mut sample = take(&Known);
        sample.took.all = 0.5;
        *memory.last.lock().unwrap() = Some((Instant::now(), Arc::new(sample)));
        assert_eq!(memory.interval(), Duration::from_secs(50));
    }

    #[test]
    fn metrics_do_not_wait_for_who_takes_a_sample() {
        let memory = Memory::new(Arc::new(Known));
        let taking = memory.taking.lock().unwrap();
        let before = memory.metrics();
        assert!(before.contains("\nprocess_resident_memory_bytes "));
        assert!(!before.contains("relay_memory_bytes"), "{before}");
        drop(taking);
        let after = memory.metrics();
        assert!(after.contains("\nrelay_memory_bytes{kind=\"ring\"} 7\n"));
        let _taking = memory.taking.lock().unwrap();
        assert!(memory.metrics().contains("{kind=\"ring\"} 7\n"));
    }

    #[test]
    fn the_rest_is_what_nothing_else_explains() {
        let process = Process {
            resident_anon_bytes: 100,
            ..Process::default()
        };
        let stacks = |resident_bytes| RoleStacks {
            role: "host",
            threads: 1,
            reserved_bytes: 1_000,
            resident_bytes,
            high_water_bytes: None,
        };
        let heap = |held_bytes| Heap {
            allocator: "system",
            held_bytes,
            ..Heap::default()
        };
        let of = |stack, held| rest(Some(&process), &[stacks(stack); 2], &[heap(held)]);
        assert_eq!(of(Some(10), Some(70)), Some(10));
        assert_eq!(of(Some(10), Some(85)), Some(-5));
        assert_eq!(of(None, Some(70)), None);
        assert_eq!(of(Some(10), None), None);
    }
}
