//! What host threads need for a moment, borrowed for as long as they need it: thousands of them would otherwise each
//! keep one.
//!
//! Nobody waits for it: where all are borrowed, one more is made, and what is more than a few is freed when it comes
//! back. A thread is nearly always interrupted in the middle of a proof, so that a pool of as many workspaces as there
//! are cores is empty whenever more hosts than cores are busy; waiting for it cost a tenth of all processor time
//! (docs/performance.md).

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
    thread,
};

/// The pool.
pub(super) struct Pool<T> {
    free: Mutex<Vec<T>>,
    kept_max: usize,
}

/// Something of the pool that `P` points to; given back when dropped, unless by a panic.
pub(super) struct Borrowed<T: Default, P: Deref<Target = Pool<T>>> {
    thing: T,
    pool: P,
}

impl<T: Default> Pool<T> {
    /// At most `kept_max` are kept while nobody needs them.
    pub(super) fn new(kept_max: usize) -> Pool<T> {
        Pool {
            free: Mutex::default(),
            kept_max,
        }
    }

    /// How many are kept and not borrowed now.
    pub(super) fn count(&self) -> usize {
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// A free one, or a new one.
    pub(super) fn borrow(&self) -> Borrowed<T, &Pool<T>> {
        Borrowed::from(self)
    }
}

impl<T: Default, P: Deref<Target = Pool<T>>> Borrowed<T, P> {
    /// A free one of this pool, or a new one.
    pub(super) fn from(pool: P) -> Borrowed<T, P> {
        let mut free = pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        let thing = free.pop();
        drop(free);
        Borrowed {
            thing: thing.unwrap_or_default(),
            pool,
        }
    }
}

impl<T: Default, P: Deref<Target = Pool<T>>> Deref for Borrowed<T, P> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}

impl<T: Default, P: Deref<Target = Pool<T>>> DerefMut for Borrowed<T, P> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.thing
    }
}

impl<T: Default, P: Deref<Target = Pool<T>>> Drop for Borrowed<T, P> {
    fn drop(&mut self) {
        // A panic may have left it in any state.
        if thread::panicking() {
            return;
        }
        let thing = std::mem::take(&mut self.thing);
        let pool = &*self.pool;
        let mut free = pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < pool.kept_max {
            free.push(thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const KEPT_MAX: usize = 5;

    #[test]
    fn as_many_as_are_needed_are_lent_and_a_few_are_kept() {
        let pool = Pool::<String>::new(KEPT_MAX);
        let mut borrowed: Vec<_> = (0..KEPT_MAX + 3).map(|_| pool.borrow()).collect();
        borrowed[0].push_str("used");
        assert_eq!(pool.count(), 0);
        drop(borrowed);
        assert_eq!(pool.count(), KEPT_MAX);
        drop(pool.borrow());
        assert_eq!(pool.count(), KEPT_MAX);
        // It comes back as it was.
        let all: Vec<_> = (0..KEPT_MAX).map(|_| pool.borrow()).collect();
        assert_eq!(
            all.iter().filter(|thing| thing.as_str() == "used").count(),
            1
        );
    }

    #[test]
    fn what_is_borrowed_may_own_its_pool() {
        let pool = Arc::new(Pool::<String>::new(KEPT_MAX));
        let borrowed = Borrowed::from(Arc::clone(&pool));
        assert_eq!(pool.count(), 0);
        drop(borrowed);
        assert_eq!(pool.count(), 1);
    }

    #[test]
    fn what_a_panic_has_touched_is_not_used_again() {
        let pool = Pool::<String>::new(KEPT_MAX);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _borrowed = pool.borrow();
            panic!("on purpose");
        }));
        assert!(result.is_err());
        assert_eq!(pool.count(), 0);
    }
}
