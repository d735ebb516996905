//! Giving back what glibc's allocator keeps: what lies free between blocks in use stays with it for
//! ever otherwise, and after a burst that can be most of the memory.

use super::heap;
use crate::{
    limits::{HEAP_RETAINED_MAX, HEAP_TRIM_INTERVAL},
    threads::Stop,
};

/// Looks now and then until the stop. Costs next to nothing while there is nothing to give back; the
/// other allocators do this themselves.
pub fn run(stop: &Stop) {
    let mut trimmer = Trimmer::default();
    while !stop.wait(HEAP_TRIM_INTERVAL) {
        if let Some(free) = heap::free()
            && trimmer.is_due(free)
        {
            heap::trim();
            trimmer.trimmed(heap::free().unwrap_or(free));
        }
    }
}

/// Decides when. What is free counts as free also when its pages have gone back, so that only what
/// has become free since is a reason.
#[derive(Default, Debug)]
struct Trimmer {
    /// What was free, in bytes, and has gone back or is too little.
    floor: u64,
}

impl Trimmer {
    /// Whether so many free bytes are worth it.
    fn is_due(&mut self, free: u64) -> bool {
        self.floor = self.floor.min(free);
        free - self.floor > HEAP_RETAINED_MAX
    }

    /// So many are free afterwards.
    fn trimmed(&mut self, free: u64) {
        self.floor = free;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_become_free_since_is_given_back() {
        let mut trimmer = Trimmer::default();
        assert!(!trimmer.is_due(HEAP_RETAINED_MAX));
        assert!(trimmer.is_due(HEAP_RETAINED_MAX + 1));
        trimmer.trimmed(5 * HEAP_RETAINED_MAX);
        assert!(!trimmer.is_due(6 * HEAP_RETAINED_MAX));
        // Some of it was used again, and its pages are there again when it is free once more.
        assert!(!trimmer.is_due(3 * HEAP_RETAINED_MAX));
        assert!(trimmer.is_due(4 * HEAP_RETAINED_MAX + 1));
    }

    #[test]
    fn a_trim_gives_back_what_lies_between_blocks() {
        let mut blocks: Vec<Vec<u8>> = (0..4_000).map(|_| vec![1; 32 << 10]).collect();
        // Not before: these have taken what other tests have freed.
        let Some(before) = heap::free() else { return };
        // Every second one stays, so that no heap has a free end.
        let mut n = 0;
        blocks.retain(|_| {
            n += 1;
            n % 2 == 0
        });
        assert!(heap::free().unwrap() > before);
        heap::trim();
        assert!(blocks.iter().all(|block| block[100] == 1));
    }
}
