//! How much of the threads' stacks is really there.
//!
//! A thread with a stack of 2 MiB has 2 MiB of addresses; the kernel gives it a page when one is
//! touched and does not take it back, so what is resident of a stack is what the thread has needed
//! at most. A TLS handshake takes more than all that comes after it, and what goes wrong takes more than what
//! does not: threads of which there are thousands give back now and then what they do not need ([`Shedding`]).
//!
//! `/proc/self/pagemap` says of every page of a range of addresses whether it is there, and takes no
//! privilege for that. It is exact where `smaps` is not: the kernel merges mappings that lie next to
//! each other, such as a stack and the neighbour's, into one entry of `smaps`.
//!
//! A stack's range includes what glibc keeps at its upper end, the thread's descriptor and its
//! thread-local variables (a page or two, which every thread costs), and whatever a thread touched
//! that had the stack before: glibc gives the stack of a thread that has ended to the next one. A
//! thread that ends while it is looked at may be counted with what lies at these addresses next.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde::Serialize;

use super::ffi;
use crate::{limits::STACK_SHED_INTERVAL, threads::Role};

/// Bits of an entry of the page map
/// (<https://docs.kernel.org/admin-guide/mm/pagemap.html>).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Entries that are read at once: those of 16 MiB of addresses.
const ENTRIES: usize = 4_096;

/// The stacks of running threads, by a number that is never given twice.
static STACKS: Mutex<BTreeMap<u64, Stack>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Where the stack of a running thread is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stack {
    role: Role,
    range: Range<usize>,
}

/// Says, for as long as it lives, where the stack of a thread is.
#[derive(Debug)]
pub struct Registered(Option<u64>);

impl Registered {
    /// The stack of the thread that calls this, and has to drop the value before it ends.
    pub fn this_thread(role: Role) -> Registered {
        let Some(range) = ffi::stack_of_this_thread() else {
            return Registered(None);
        };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        stacks().insert(id, Stack { role, range });
        Registered(Some(id))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            stacks().remove(&id);
        }
    }
}

/// How deep the stacks of a role had been when something of them was given back, in bytes.
static DEEPEST: [AtomicU64; Role::ALL.len()] = [const { AtomicU64::new(0) }; Role::ALL.len()];

/// The part of a thread's stack that it has needed once and does not need any more, given back from time to time.
#[derive(Debug)]
pub struct Shedding {
    role: Role,
    next: Option<Instant>,
}

impl Shedding {
    /// Of a thread of this role. What was never given back is due.
    pub fn new(role: Role) -> Shedding {
        Shedding { role, next: None }
    }

    /// Gives it back where it is due. To be called where the thread is about to wait, and little of its stack is in
    /// use.
    pub fn when_due(&mut self, now: Instant) {
        if self.next.is_none_or(|next| now >= next) {
            self.shed(now);
        }
    }

    /// Gives it back.
    pub fn shed(&mut self, now: Instant) {
        self.next = Some(now + STACK_SHED_INTERVAL);
        let Some(stack) = ffi::stack_of_this_thread() else {
            return;
        };
        // What can not be measured is given back all the same.
        if let Ok(used) = PageMap::open().and_then(|mut map| map.used(&stack)) {
            DEEPEST[self.role as usize].fetch_max(used.high_water_bytes, Ordering::Relaxed);
        }
        ffi::release_stack_below(&stack);
    }
}

fn stacks() -> MutexGuard<'static, BTreeMap<u64, Stack>> {
    STACKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stacks of all threads of a role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct RoleStacks {
    /// The role.
    pub role: &'static str,
    /// Its threads.
    pub threads: u64,
    /// The addresses of their stacks.
    pub reserved_bytes: u64,
    /// Of this, what is in memory; none where the page map is not to be read.
    pub resident_bytes: Option<u64>,
    /// The most that the stack of a thread of this role was ever in use, from its upper end to the lowest page
    /// that was touched; none where the page map is not to be read.
    pub high_water_bytes: Option<u64>,
}

/// What is used of one stack.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Use {
    resident_bytes: u64,
    high_water_bytes: u64,
}

/// The stacks now, of every role that has threads.
pub fn by_role() -> Vec<RoleStacks> {
    let running: Vec<Stack> = stacks().values().cloned().collect();
    let mut map = PageMap::open().ok();
    let mut roles: Vec<RoleStacks> = Vec::new();
    for role in Role::ALL {
        let mut all = RoleStacks {
            role: role.name(),
            threads: 0,
            reserved_bytes: 0,
            resident_bytes: Some(0),
            high_water_bytes: Some(DEEPEST[role as usize].load(Ordering::Relaxed)),
        };
        for stack in running.iter().filter(|stack| stack.role == role) {
            let used = map.as_mut().and_then(|map| map.used(&stack.range).ok());
            all.add(stack.range.len() as u64, used);
        }
        if all.threads > 0 {
            roles.push(all);
        }
    }
    roles
}

impl RoleStacks {
    fn add(&mut self, reserved_bytes: u64, used: Option<Use>) {
        self.threads += 1;
        self.reserved_bytes += reserved_bytes;
        let sum = self.resident_bytes.zip(used);
        self.resident_bytes = sum.map(|(sum, used)| sum + used.resident_bytes);
        let max = self.high_water_bytes.zip(used);
        self.high_water_bytes = max.map(|(max, used)| max.max(used.high_water_bytes));
    }
}

/// The kernel's map of this process's pages.
struct PageMap {
    file: File,
    page_bytes: usize,
    buffer: Vec<u8>,
}

impl PageMap {
    fn open() -> io::Result<PageMap> {
        Ok(PageMap {
            file: File::open("/proc/self/pagemap")?,
            page_bytes: rustix::param::page_size(),
            buffer: vec![0; ENTRIES * size_of::<u64>()],
        })
    }

    /// What is used of a stack, which grows downwards from the end of `range`.
    fn used(&mut self, range: &Range<usize>) -> io::Result<Use> {
        let (mut page, end) = (range.start / self.page_bytes, range.end / self.page_bytes);
        let mut tally = Tally::default();
        while page < end {
            let count = (end - page).min(ENTRIES);
            let entries = &mut self.buffer[..count * size_of::<u64>()];
            let at = page as u64 * size_of::<u64>() as u64;
            self.file.read_exact_at(entries, at)?;
            tally.add(entries);
            page += count;
        }
        Ok(tally.used(self.page_bytes as u64))
    }
}

/// Entries of the page map, from the lowest address on.
#[derive(Default)]
struct Tally {
    pages: u64,
    resident: u64,
    /// Pages below the first that was touched.
    untouched: Option<u64>,
}

impl Tally {
    fn add(&mut self, entries: &[u8]) {
        for entry in entries.chunks_exact(size_of::<u64>()) {
            let entry = entry.try_into().map_or(0, u64::from_ne_bytes);
            if entry & (PRESENT | SWAPPED) != 0 {
                self.untouched.get_or_insert(self.pages);
            }
            self.resident += u64::from(entry & PRESENT != 0);
            self.pages += 1;
        }
    }

    fn used(&self, page_bytes: u64) -> Use {
        let touched = self.untouched.map_or(0, |untouched| self.pages - untouched);
        Use {
            resident_bytes: self.resident * page_bytes,
            high_water_bytes: touched * page_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, sync::mpsc, thread};

    use super::*;
    use crate::threads::spawn;

    /// More than any other thread of the tests has: the C library would reuse one of those stacks, which
    /// is larger, and has been used.
    const RESERVED: usize = 17 << 20;

    /// Calls itself until `bytes` of the stack are in use.
    #[inline(never)]
    fn dig(bytes: usize) -> u8 {
        let room = black_box([1u8; 4 << 10]);
        let below = if bytes > room.len() {
            dig(bytes - room.len())
        } else {
            0
        };
        black_box(&room)[0].wrapping_add(below)
    }

    /// The entry of the stack that holds `address`.
    fn holding(address: usize) -> Option<(u64, Stack)> {
        let all = stacks();
        let found = all.iter().find(|(_, s)| s.range.contains(&address));
        found.map(|(id, stack)| (*id, stack.clone()))
    }

    #[test]
    fn what_a_thread_has_touched_is_resident() {
        const DEPTH: usize = 100 << 10;
        let (touched, wait) = mpsc::channel();
        let (go_on, held) = mpsc::channel::<()>();
        let thread = spawn(Role::Simulator, "digs", RESERVED, move || {
            let local = 0u8;
            touched
                .send((dig(DEPTH), &raw const local as usize))
                .unwrap();
            let _ = held.recv();
        });
        let thread = thread.unwrap();
        // Dropped before the thread, which waits for it, where something below fails.
        let go_on = go_on;
        let (_, address) = wait.recv().unwrap();
        let (id, stack) = holding(address).unwrap();
        assert_eq!(stack.role, Role::Simulator);
        let reserved = stack.range.len();
        assert!(
            (RESERVED..RESERVED + (64 << 10)).contains(&reserved),
            "{reserved}"
        );
        let used = PageMap::open().unwrap().used(&stack.range).unwrap();
        let (resident, high) = (used.resident_bytes, used.high_water_bytes);
        assert!(resident >= DEPTH as u64, "{resident}");
        assert!(high >= resident, "{high} {resident}");
        // The frames of unoptimised code, and whatever is above the thread's own.
        assert!(high < 4 * DEPTH as u64, "{high}");
        drop(go_on);
        drop(thread);
        assert!(!stacks().contains_key(&id), "it has ended");
    }

    #[test]
    fn what_was_needed_once_is_given_back_and_not_forgotten() {
        const DEPTH: usize = 300 << 10;
        let used = || {
            let stack = ffi::stack_of_this_thread().unwrap();
            PageMap::open().unwrap().used(&stack).unwrap()
        };
        let body = move || {
            let now = Instant::now();
            let mut shedding = Shedding::new(Role::Simulator);
            let before = black_box([7u8; 5_000]);
            dig(DEPTH);
            assert!(used().resident_bytes > DEPTH as u64);
            shedding.when_due(now);
            let left = used().resident_bytes;
            assert!(left < DEPTH as u64 / 4, "{left}");
            // What is in use is as it was, and the stack can be used as before.
            assert_eq!(before, [7; 5_000]);
            dig(DEPTH);
            shedding.when_due(now);
            assert!(used().resident_bytes > DEPTH as u64, "not yet due");
            shedding.when_due(now + STACK_SHED_INTERVAL);
            assert!(used().resident_bytes < DEPTH as u64 / 4);
        };
        drop(spawn(Role::Simulator, "sheds", RESERVED, body).unwrap());
        let roles = by_role();
        // Of other tests' threads of the role there may be none any more.
        let deepest = DEEPEST[Role::Simulator as usize].load(Ordering::Relaxed);
        assert!(deepest > DEPTH as u64);
        let mut of_role = roles.iter().filter(|of| of.role == Role::Simulator.name());
        assert!(of_role.all(|of| of.high_water_bytes.unwrap() >= deepest));
    }

    #[test]
    fn a_thread_that_panics_is_forgotten_as_well() {
        let (sender, ids) = mpsc::channel();
        let body = move || {
            let local = 0u8;
            let (id, _) = holding(&raw const local as usize).unwrap();
            sender.send(id).unwrap();
            panic!("on purpose");
        };
        drop(spawn(Role::Host, "test", RESERVED, body).unwrap());
        assert!(!stacks().contains_key(&ids.recv().unwrap()));
    }

    #[test]
    fn a_role_has_the_sum_and_the_most() {
        let mut roles = RoleStacks {
            role: "host",
            threads: 0,
            reserved_bytes: 0,
            resident_bytes: Some(0),
            high_water_bytes: Some(0),
        };
        let used = |resident_bytes, high_water_bytes| Use {
            resident_bytes,
            high_water_bytes,
        };
        roles.add(100, Some(used(10, 30)));
        roles.add(200, Some(used(20, 20)));
        assert_eq!((roles.threads, roles.reserved_bytes), (2, 300));
        assert_eq!(roles.resident_bytes, Some(30));
        assert_eq!(roles.high_water_bytes, Some(30));
        roles.add(100, None);
        assert_eq!(roles.resident_bytes, None, "a part is not the sum");
    }

    #[test]
    fn pages_in_swap_were_touched() {
        let entries = [0, SWAPPED, 0, PRESENT, 0, PRESENT | 7];
        let bytes = entries.map(u64::to_ne_bytes).concat();
        let mut tally = Tally::default();
        tally.add(&bytes);
        let used = tally.used(10);
        assert_eq!((used.resident_bytes, used.high_water_bytes), (20, 50));
        assert_eq!(Tally::default().used(10), Use::default());
    }

    #[test]
    fn two_threads_never_share_a_stack() {
        let range = ffi::stack_of_this_thread().unwrap();
        let other = thread::spawn(ffi::stack_of_this_thread).join().unwrap();
        let other = other.unwrap();
        assert!(range.end <= other.start || other.end <= range.start);
    }
}
