//! Bounds of what the process takes of the machine, and of its start and its end.

use std::{ops::RangeInclusive, time::Duration};

/// How nice the threads of hosts are (<https://man7.org/linux/man-pages/man7/sched.7.html>): with
/// this, each gets about a tenth of what others of the relay get when there is not enough for all.
pub const HOST_NICE: i32 = 10;
/// How many threads make pages of lists: one for each core within these bounds. So what strangers take of the machine
/// does not grow with their number.
pub const LIST_THREADS: RangeInclusive<usize> = 2..=16;
/// How many threads read the store for subscribers that are far behind, and send to them: one for every
/// [`REPLAY_CORES_EACH`] cores within these bounds. More of them send no more, and take the cores from events.
pub const REPLAY_THREADS: RangeInclusive<usize> = 1..=8;
/// See [`REPLAY_THREADS`] and [`super::READ_AHEADS`].
pub const REPLAY_CORES_EACH: usize = 2;
/// How nice the threads are that read the past for subscribers: what happens now goes before. A third of what a host
/// gets: the thread of a host that has run for its slice waits until as much has gone to all others that want to
/// run, by what each gets.
pub const REPLAY_NICE: i32 = HOST_NICE + 5;
/// How nice the threads are that serve connections of the public port: as many strangers as there may be ask at
/// once, and events go before their questions.
pub const HTTP_NICE: i32 = HOST_NICE + 5;
/// How nice the threads are that make pages of lists: few, for all who ask, and who asks for one waits for many
/// slices of theirs.
pub const LIST_NICE: i32 = HOST_NICE + 2;
/// For how long at a time a thread runs that an event waits for, where others want the core too; the least that
/// Linux has.
pub const PROMPT_SLICE: Duration = Duration::from_micros(100);

/// How old the memory breakdown in `/metrics` may be: taking it reads the page tables of every stack.
/// Less than the interval at which metrics are usually read, so that each reading shows a new one.
pub const MEMORY_SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// And older where there are more threads: this many times as long as it takes to take it, which is
/// then at most a hundredth of the time of one core.
pub const MEMORY_SAMPLE_PAUSE: u32 = 100;
/// The same in `/memory.json`, which is asked for by who wants to know it now.
pub const MEMORY_SAMPLE_INTERVAL_FRESH: Duration = Duration::from_secs(1);
/// Heaps of glibc's allocator that threads share. Its default is eight for every core, and what one
/// frees no other can use. Threads wait for each other where there are too few.
pub const ARENAS_MAX: usize = 4;
/// Free blocks of each of 64 sizes up to a kilobyte that a thread keeps for its next allocations. glibc's own
/// choice is 7: threads that live for long keep ever more of them, up to dozens of kilobytes each. With none
/// an event costs no more time.
pub const THREAD_CACHE_BLOCKS_MAX: usize = 0;
/// A block this large gets a mapping of its own, which goes back to the system when it is freed: a
/// few large frames must not leave holes in a heap. Each costs two system calls and page faults.
pub const MMAP_THRESHOLD_BYTES: usize = 256 << 10;
/// Free memory at the end of a heap that goes back to the system; below, it is kept for later.
pub const TRIM_THRESHOLD_BYTES: usize = 8 << 20;
/// What glibc's heaps may keep free between blocks in use, in bytes; beyond, it goes back to the system.
pub const HEAP_RETAINED_MAX: u64 = 8 << 20;
/// How often that is looked at.
pub const HEAP_TRIM_INTERVAL: Duration = Duration::from_secs(10);

/// Open files below which the log warns at the start: thousands of hosts,
/// [`super::STORE_OPEN_FILES_MAX`], [`super::HTTP_CONNECTIONS_MAX`], and two of each subscriber.
pub const OPEN_FILES_WANTED: u64 = 8_192;

/// Descriptors that connections of strangers leave free beyond [`super::STORE_OPEN_FILES_MAX`]: for the
/// internal port, the control store, and those who are told that there is no room. Of a machine that
/// allows very few, half.
pub const DESCRIPTORS_KEPT: u64 = 256;

/// How often a host's thread gives back what of its stack it has needed once and does not need now: so seldom that
/// it costs nothing, and often enough that what seldom happens does not stay in memory for every host.
pub const STACK_SHED_INTERVAL: Duration = Duration::from_secs(600);
/// The stack of threads that are neither hosts nor subscribers.
pub const SERVICE_STACK_BYTES: usize = 1 << 20;
/// How long a stop may take before the process ends all the same.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two words to the service manager; less where its watchdog wants them sooner.
pub const SERVICE_REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How much longer than now the service manager is asked to wait for a start that goes on: some
/// intervals, so that one word that is late does not end it.
pub const SERVICE_EXTENSION: Duration = Duration::from_secs(60);
/// How long a start may ask for more time. Counting a large store anew takes minutes; what takes longer
/// than this hangs, and the service manager ends it.
pub const SERVICE_START_MAX: Duration = Duration::from_secs(3600);
/// A word to a service manager that does not read; then it is dropped.
pub const SERVICE_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(SERVICE_REPORT_INTERVAL.as_secs() * 4 < SERVICE_EXTENSION.as_secs());
const _: () = assert!(HOST_NICE < LIST_NICE && LIST_NICE < HTTP_NICE);
