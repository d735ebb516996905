//! The allocators: how they are set up, and what they hold.
//!
//! Rust's allocations go to the one that the program was built with. RocksDB and aws-lc are C and
//! C++ and always use the C library's, so where the program was built with another there are two.

#[cfg(target_env = "gnu")]
use std::{os::unix::process::CommandExt, process::Command};

use serde::Serialize;

#[cfg(target_env = "gnu")]
use super::ffi;
#[cfg(target_env = "gnu")]
use crate::limits::{
    ARENAS_MAX, MMAP_THRESHOLD_BYTES, THREAD_CACHE_BLOCKS_MAX, TRIM_THRESHOLD_BYTES,
};

/// The C library's allocator in reports.
const SYSTEM: &str = "system";

/// The allocator of Rust's allocations.
pub const ALLOCATOR: &str = if cfg!(feature = "mimalloc") {
    "mimalloc"
} else if cfg!(feature = "jemalloc") {
    "jemalloc"
} else {
    SYSTEM
};

/// What an allocator holds. What it does not say is none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Heap {
    /// Its name.
    pub allocator: &'static str,
    /// What it has given to the program, which has not given it back. Of glibc this includes the
    /// blocks that each thread keeps for its next allocations, where it may keep any.
    pub in_use_bytes: Option<u64>,
    /// What it keeps for later, or lost between blocks: it has it from the system and the program
    /// has not got it. An upper bound: the kernel may have taken some pages back.
    pub retained_bytes: Option<u64>,
    /// Both together.
    pub held_bytes: Option<u64>,
    /// Of what is in use: large blocks that go back to the system when they are freed.
    pub mmapped_bytes: Option<u64>,
}

/// What the allocators hold, the one of Rust's allocations first.
pub fn heaps() -> Vec<Heap> {
    other().into_iter().chain([system()]).collect()
}

/// The C library's allocator.
fn system() -> Heap {
    #[cfg(target_env = "gnu")]
    {
        let held = ffi::glibc();
        let (heaps, free, mapped) = (held.in_use as u64, held.free as u64, held.mapped as u64);
        Heap {
            mmapped_bytes: Some(mapped),
            ..Heap::of(SYSTEM, heaps + mapped, free)
        }
    }
    #[cfg(not(target_env = "gnu"))]
    Heap {
        allocator: SYSTEM,
        ..Heap::default()
    }
}

#[cfg(not(any(feature = "mimalloc", feature = "jemalloc")))]
fn other() -> Option<Heap> {
    None
}

#[cfg(feature = "jemalloc")]
fn other() -> Option<Heap> {
    use tikv_jemalloc_ctl::{epoch, stats};

    // Its numbers are those of the last time that this was called.
    epoch::advance().ok()?;
    let allocated = stats::allocated::read().ok()? as u64;
    // Pages in use and not yet given back, and its own tables. What jemalloc calls retained is
    // addresses without memory.
    let resident = stats::resident::read().ok()? as u64;
    let free = resident.saturating_sub(allocated);
    Some(Heap::of(ALLOCATOR, allocated, free))
}

#[cfg(feature = "mimalloc")]
fn other() -> Option<Heap> {
    let json = mimalloc::MiMalloc::stats_json().ok()?;
    let stats: serde_json::Value = serde_json::from_slice(json.to_bytes()).ok()?;
    Some(mimalloc_heap(&stats))
}

/// What mimalloc says of itself. Only when it is built to keep count of blocks, which costs time
/// with every allocation, does it know what is in use.
#[cfg(any(test, feature = "mimalloc"))]
fn mimalloc_heap(stats: &serde_json::Value) -> Heap {
    let current = |name: &str| stats[name]["current"].as_u64();
    let committed = current("committed");
    let in_use = current("malloc_normal").zip(current("malloc_huge"));
    let in_use = in_use.map(|(normal, huge)| normal + huge);
    let in_use = in_use.filter(|bytes| *bytes > 0);
    let both = committed.zip(in_use);
    Heap {
        allocator: "mimalloc",
        in_use_bytes: in_use,
        retained_bytes: both.map(|(committed, in_use)| committed.saturating_sub(in_use)),
        held_bytes: committed,
        mmapped_bytes: None,
    }
}

#[cfg(any(target_env = "gnu", feature = "jemalloc"))]
impl Heap {
    fn of(allocator: &'static str, in_use: u64, free: u64) -> Heap {
        Heap {
            allocator,
            in_use_bytes: Some(in_use),
            retained_bytes: Some(free),
            held_bytes: Some(in_use + free),
            mmapped_bytes: None,
        }
    }
}

/// A parameter of glibc's allocator.
#[cfg(target_env = "gnu")]
struct Setting {
    parameter: libc::c_int,
    /// Its name in `GLIBC_TUNABLES`.
    tunable: &'static str,
    /// Its variable of its own.
    variable: &'static str,
    value: usize,
}

/// Setting either of the last two also ends glibc's own way to choose both: after one large block
/// was freed it would put blocks of up to 32 MiB into the heaps, and keep twice that at their ends.
#[cfg(target_env = "gnu")]
const SETTINGS: [Setting; 3] = [
    Setting {
        parameter: libc::M_ARENA_MAX,
        tunable: "glibc.malloc.arena_max",
        variable: "MALLOC_ARENA_MAX",
        value: ARENAS_MAX,
    },
    Setting {
        parameter: libc::M_MMAP_THRESHOLD,
        tunable: "glibc.malloc.mmap_threshold",
        variable: "MALLOC_MMAP_THRESHOLD_",
        value: MMAP_THRESHOLD_BYTES,
    },
    Setting {
        parameter: libc::M_TRIM_THRESHOLD,
        tunable: "glibc.malloc.trim_threshold",
        variable: "MALLOC_TRIM_THRESHOLD_",
        value: TRIM_THRESHOLD_BYTES,
    },
];

/// Sets the C library's allocator up for thousands of threads, but for what the environment says
/// itself. To be called before there are threads. Returns what was set, for the log.
#[cfg(target_env = "gnu")]
pub fn configure() -> String {
    let environment = |name: &str| std::env::var(name).ok();
    let mut set = Vec::new();
    for setting in SETTINGS.iter().filter(|s| !s.is_set(environment)) {
        let value = libc::c_int::try_from(setting.value).unwrap_or(libc::c_int::MAX);
        if ffi::set_glibc(setting.parameter, value) {
            set.push(format!("{}={value}", setting.tunable));
        }
    }
    set.join(" ")
}

/// What glibc reads before a program begins: how many free blocks of each size a thread keeps for itself. With
/// the seven that are its own choice, thousands of threads keep ever more of them, for an hour and more.
#[cfg(target_env = "gnu")]
const CACHE: (&str, usize) = ("glibc.malloc.tcache_count", THREAD_CACHE_BLOCKS_MAX);

/// Begins the program again, in the same process, where the C library has to be told something that it reads
/// only then. Returns where it knows already, or can not be told. To be called before there are
/// threads.
pub fn start_over() {
    #[cfg(target_env = "gnu")]
    if ALLOCATOR == SYSTEM
        && let Some(tunables) = with_cache(std::env::var("GLIBC_TUNABLES").ok())
        && let Ok(program) = std::env::current_exe()
    {
        let mut arguments = std::env::args_os();
        let mut again = Command::new(program);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        // Nothing after this is reached but where it fails, and then the relay takes more memory.
        let _ = again.args(arguments).env("GLIBC_TUNABLES", tunables).exec();
    }
}

/// The tunables with ours among them, unless the environment has a word on it.
#[cfg(target_env = "gnu")]
fn with_cache(tunables: Option<String>) -> Option<String> {
    let (name, value) = CACHE;
    let ours = format!("{name}={value}");
    match tunables {
        Some(set) if names(&set).any(|set| set == name) => None,
        Some(set) if !set.is_empty() => Some(format!("{set}:{ours}")),
        _ => Some(ours),
    }
}

/// What is set in `GLIBC_TUNABLES`.
#[cfg(target_env = "gnu")]
fn names(tunables: &str) -> impl Iterator<Item = &str> {
    let set = tunables.split(':').filter_map(|t| t.split_once('='));
    set.map(|(name, _)| name)
}

/// What is free in the C library's heaps, in bytes, whether or not its pages are there; none where it
/// does not say.
pub(super) fn free() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    return Some(ffi::glibc().free as u64);
    #[cfg(not(target_env = "gnu"))]
    None
}

/// Gives back what is free in the C library's heaps.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    ffi::trim_glibc();
}

/// Nothing: only glibc's allocator has to be told.
#[cfg(not(target_env = "gnu"))]
pub fn configure() -> String {
    String::new()
}

#[cfg(target_env = "gnu")]
impl Setting {
    /// Whether the environment has a word on it.
    fn is_set(&self, environment: impl Fn(&str) -> Option<String>) -> bool {
        let tunables = environment("GLIBC_TUNABLES").unwrap_or_default();
        environment(self.variable).is_some() || names(&tunables).any(|set| set == self.tunable)
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use serde_json::json;

    use super::*;
    use crate::testing::wait_until;

    #[test]
    fn a_large_block_is_in_use_while_it_is() {
        const BYTES: usize = 64 << 20;
        let in_use = || heaps()[0].in_use_bytes;
        if in_use().is_none() {
            return; // mimalloc does not know.
        }
        // Other tests allocate and free meanwhile.
        wait_until("it is in use", || {
            let before = in_use().unwrap();
            let block = black_box(vec![1u8; BYTES]);
            let during = in_use().unwrap();
            drop(block);
            during > before + BYTES as u64 / 2
        });
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_the_environment_sets_is_left_alone() {
        let left_alone = |variables: &[(&str, &str)]| -> Vec<&str> {
            let environment = |name: &str| {
                let found = variables.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let set = SETTINGS.iter().filter(|s| s.is_set(environment));
            set.map(|s| s.variable).collect()
        };
        assert!(left_alone(&[]).is_empty());
        let (name, value) = CACHE;
        let ours = format!("{name}={value}");
        assert_eq!(with_cache(None), Some(ours.clone()));
        assert_eq!(with_cache(Some(String::new())), Some(ours.clone()));
        let more = Some("glibc.rtld.nns=4".to_owned());
        assert_eq!(with_cache(more), Some(format!("glibc.rtld.nns=4:{ours}")));
        assert_eq!(with_cache(Some(ours)), None);
        assert_eq!(with_cache(Some(format!("a=b:{name}=7"))), None);
        assert_eq!(
            left_alone(&[("MALLOC_ARENA_MAX", "1")]),
            ["MALLOC_ARENA_MAX"]
        );
        let tunables = "glibc.rtld.nns=4:glibc.malloc.trim_threshold=1:glibc.malloc.mmap_max=2";
        assert_eq!(
            left_alone(&[("GLIBC_TUNABLES", tunables)]),
            ["MALLOC_TRIM_THRESHOLD_"]
        );
    }

    #[test]
    fn mimalloc_says_what_it_holds_and_perhaps_what_is_in_use() {
        let stats = |normal: u64| {
            let count = |current| json!({"total": 9, "peak": 9, "current": current});
            json!({"committed": count(100), "malloc_normal": count(normal), "malloc_huge": count(0)})
        };
        let heap = mimalloc_heap(&stats(0));
        assert_eq!((heap.held_bytes, heap.in_use_bytes), (Some(100), None));
        assert_eq!(heap.retained_bytes, None);
        let heap = mimalloc_heap(&stats(30));
        assert_eq!(
            (heap.in_use_bytes, heap.retained_bytes),
            (Some(30), Some(70))
        );
    }
}
