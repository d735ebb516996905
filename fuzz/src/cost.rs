//! What an input costs: memory, counted exactly, and time of the processor.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    sync::Mutex,
    time::Duration,
};

use crate::Target;

/// How much memory an input may take at once, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Whatever its length.
    pub fixed: usize,
    /// For each of its bytes.
    pub per_byte: usize,
}

/// How long an input may take, of the processor and not of the clock: whatever its length, and for each
/// of its bytes. With all checks on and the machine shared it is some ten times what a release takes.
const TIME_FIXED: Duration = Duration::from_millis(500);
const TIME_PER_BYTE: Duration = Duration::from_micros(20);

/// Counts what each thread has allocated.
#[derive(Debug)]
pub struct Memory(System);

/// The one allocator.
pub const MEMORY: Memory = Memory(System);

thread_local! {
    /// What is allocated now, and the most that was; what this thread frees of others' makes it negative.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    /// How often something was allocated.
    static TIMES: Cell<u64> = const { Cell::new(0) };
}

fn took(bytes: usize) {
    // A thread that ends has no such variables any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get().wrapping_add_unsigned(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
    let _ = TIMES.try_with(|times| times.set(times.get() + 1));
}

fn gave(bytes: usize) {
    let _ = NOW.try_with(|now| now.set(now.get().wrapping_sub_unsigned(bytes)));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may be there for a moment.
        took(size);
        gave(layout.size());
        // SAFETY: as the caller promises.
        unsafe { self.0.realloc(place, layout, size) }
    }
}

/// What one input has cost.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    /// How long it was.
    pub len: usize,
    /// The most memory that was taken at once, in bytes.
    pub peak: usize,
    /// How often memory was allocated.
    pub allocations: u64,
    /// Time of the processor.
    pub time: Duration,
}

/// Runs one input of a target, which must not cost more than it may. The most that any has cost is
/// written where `ZLAY_FUZZ_COSTS` says.
///
/// # Panics
///
/// Where it costs too much, or the target panics.
pub fn measure(target: &Target, bytes: &[u8]) -> Cost {
    let before = NOW.get();
    PEAK.set(before);
    let times = TIMES.get();
    let began = processor_time();
    (target.run)(bytes);
    let cost = Cost {
        len: bytes.len(),
        peak: usize::try_from(PEAK.get() - before).unwrap_or(0),
        allocations: TIMES.get() - times,
        time: processor_time().saturating_sub(began),
    };
    let most = target.bound.fixed + target.bound.per_byte * bytes.len();
    assert!(cost.peak <= most, "more memory than {most} bytes: {cost:?}");
    let most = TIME_FIXED + TIME_PER_BYTE * u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    assert!(cost.time <= most, "longer than {most:?}: {cost:?}");
    note(target, cost);
    cost
}

/// The most that any input has cost so far.
static MOST: Mutex<Cost> = Mutex::new(Cost {
    len: 0,
    peak: 0,
    allocations: 0,
    time: Duration::ZERO,
});

fn note(target: &Target, cost: Cost) {
    let Ok(mut most) = MOST.lock() else { return };
    let is_more =
        cost.peak > most.peak || cost.allocations > most.allocations || cost.time > most.time;
    if !is_more {
        return;
    }
    most.len = most.len.max(cost.len);
    most.peak = most.peak.max(cost.peak);
    most.allocations = most.allocations.max(cost.allocations);
    most.time = most.time.max(cost.time);
    if let Some(path) = std::env::var_os("ZLAY_FUZZ_COSTS") {
        let Cost {
            peak,
            allocations,
            time,
            ..
        } = *most;
        let text = format!(
            "{} {peak} {allocations} {}\n",
            target.name,
            time.as_micros()
        );
        // Only a report.
        let _ = fs::write(path, text);
    }
}

/// What this thread has had of the processor.
#[cfg(not(miri))]
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

/// Under Miri, which takes a thousand times as long, there is no bound of time.
#[cfg(miri)]
fn processor_time() -> Duration {
    Duration::ZERO
}
