//! What threads of a soak count together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What went wrong is kept in words so many times.
const WORDS_MAX: usize = 10;

/// Counts that several threads add to; each of its copies is the same.
#[derive(Clone, Default, Debug)]
pub(super) struct Tally<T>(Arc<Mutex<T>>);

impl<T: Clone> Tally<T> {
    /// To be added to.
    pub(super) fn add(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted so far.
    pub(super) fn told(&self) -> T {
        self.add().clone()
    }
}

/// Counts something that went wrong, and keeps the first in words.
pub(super) fn note(count: &mut u64, words: &mut Vec<String>, what: String) {
    *count += 1;
    if words.len() < WORDS_MAX {
        words.push(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_counted_and_the_first_is_kept_in_words() {
        let tally = Tally::<(u64, Vec<String>)>::default();
        let other = tally.clone();
        for n in 0..WORDS_MAX + 5 {
            let (count, words) = &mut *other.add();
            note(count, words, n.to_string());
        }
        let (count, words) = tally.told();
        assert_eq!(count, WORDS_MAX as u64 + 5);
        assert_eq!((words.len(), words[0].as_str()), (WORDS_MAX, "0"));
    }
}
