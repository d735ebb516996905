//! Workspaces for proving: about as many as there are cores, borrowed for one event at a time.
//! Thousands of host threads would otherwise each keep one, and as many proofs at once as hosts
//! would only take turns on the same cores.

use std::{ops::DerefMut, thread};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::atproto::prove::Workspace;

/// The pool.
pub(super) struct Workspaces {
    free: Receiver<Box<Workspace>>,
    give_back: Sender<Box<Workspace>>,
}

/// A borrowed workspace; given back when dropped, also by a panic.
pub(super) struct Borrowed<'a> {
    workspace: Option<Box<Workspace>>,
    pool: &'a Workspaces,
}

impl Workspaces {
    /// One workspace a core.
    pub(super) fn new() -> Workspaces {
        let count = thread::available_parallelism().map_or(2, usize::from);
        let (give_back, free) = bounded(count);
        for _ in 0..count {
            // There is room for exactly as many.
            let _ = give_back.try_send(Box::default());
        }
        Workspaces { free, give_back }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.give_back.capacity().unwrap_or(0)
    }

    /// A free workspace; waits for one.
    pub(super) fn borrow(&self) -> Borrowed<'_> {
        // The pool holds a sender itself, so receiving can not fail.
        Borrowed {
            workspace: Some(self.free.recv().unwrap_or_default()),
            pool: self,
        }
    }
}

impl Borrowed<'_> {
    /// The workspace.
    pub(super) fn get(&mut self) -> &mut Workspace {
        self.workspace.get_or_insert_default().deref_mut()
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let workspace = match self.workspace.take() {
            // A panic may have left it in any state.
            Some(_) if thread::panicking() => Box::default(),
            Some(workspace) => workspace,
            None => return,
        };
        let _ = self.pool.give_back.try_send(workspace);
    }
}
