//! The whole sequencer, on a store in memory, beside a model of what it has to do: what it publishes, what
//! it keeps of accounts, hosts and collections, and what is there after a crash.

mod bench;
mod input;
mod model;
pub(crate) mod stress;

use self::bench::Bench;

/// Steps of one case.
const STEPS_MAX: usize = 300;

/// Takes bytes one by one; zeros when there are none left.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    pub(crate) fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Events, commands, batches and crashes, as the bytes say.
pub fn sequencer(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut bench = Bench::new(bytes.next());
    for _ in 0..STEPS_MAX {
        if bytes.is_empty() {
            break;
        }
        bench.step(&mut bytes);
    }
    bench.finish();
}
