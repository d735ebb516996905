//! Workspaces for proving, borrowed for one event at a time: thousands of host threads would
//! otherwise each keep one.
//!
//! Nobody waits for a workspace: where all are borrowed, one more is made, and what is more than a
//! few is freed when it comes back. A thread is nearly always interrupted in the middle of a proof,
//! so that a pool of as many as there are cores is empty whenever more hosts than cores are busy;
//! waiting for it cost a tenth of all processor time (docs/performance.md).

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

use crate::{atproto::prove::Workspace, limits::WORKSPACES_KEPT_MAX};

/// The pool.
#[derive(Default)]
pub(super) struct Workspaces(Mutex<Vec<Workspace>>);

/// A borrowed workspace; given back when dropped, also by a panic.
pub(super) struct Borrowed<'a> {
    /// There until it is given back.
    workspace: Option<Workspace>,
    pool: &'a Workspaces,
}

impl Workspaces {
    /// How many are kept and not borrowed now.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A free workspace, or a new one.
    pub(super) fn borrow(&self) -> Borrowed<'_> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = free.pop();
        drop(free);
        Borrowed {
            workspace: Some(workspace.unwrap_or_default()),
            pool: self,
        }
    }
}

impl Borrowed<'_> {
    /// The workspace.
    pub(super) fn get(&mut self) -> &mut Workspace {
        self.workspace.get_or_insert_default()
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // A panic may have left it in any state.
        if thread::panicking() {
            return;
        }
        let mut free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < WORKSPACES_KEPT_MAX {
            free.extend(self.workspace.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_are_needed_are_lent_and_a_few_are_kept() {
        let pool = Workspaces::default();
        let kept = || pool.0.lock().unwrap().len();
        let borrowed: Vec<_> = (0..WORKSPACES_KEPT_MAX + 3)
            .map(|_| pool.borrow())
            .collect();
        assert_eq!(kept(), 0);
        drop(borrowed);
        assert_eq!(kept(), WORKSPACES_KEPT_MAX);
        drop(pool.borrow());
        assert_eq!(kept(), WORKSPACES_KEPT_MAX);
    }

    #[test]
    fn what_a_panic_has_touched_is_not_used_again() {
        let pool = Workspaces::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _borrowed = pool.borrow();
            panic!("on purpose");
        }));
        assert!(result.is_err());
        assert_eq!(pool.0.lock().unwrap().len(), 0);
    }
}
