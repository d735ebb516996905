//! Threads that end with what they work for.

use std::io;

use crate::threads::{self, Role, Stop, Stopper, Thread};

/// Threads of the simulator; dropping this tells them to stop, and then waits for them.
#[derive(Debug)]
pub(super) struct Workers {
    stop: Stop,
    // Dropped in this order: told to stop, then waited for.
    _stopper: Stopper,
    threads: Vec<Thread>,
}

impl Workers {
    /// None yet.
    pub(super) fn none() -> Workers {
        let (stopper, stop) = threads::stop_pair();
        Workers {
            stop,
            _stopper: stopper,
            threads: Vec::new(),
        }
    }

    /// One of them.
    pub(super) fn one(
        name: &str,
        stack_bytes: usize,
        body: impl FnOnce(&Stop) + Send + 'static,
    ) -> io::Result<Workers> {
        let mut workers = Workers::none();
        workers.add(name, stack_bytes, body)?;
        Ok(workers)
    }

    /// One more.
    pub(super) fn add(
        &mut self,
        name: &str,
        stack_bytes: usize,
        body: impl FnOnce(&Stop) + Send + 'static,
    ) -> io::Result<()> {
        let stop = self.stop.clone();
        let body = move || body(&stop);
        let thread = threads::spawn(Role::Simulator, name, stack_bytes, body)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Whether one has ended by itself.
    pub(super) fn has_lost_one(&self) -> bool {
        self.threads.iter().any(Thread::is_finished)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use super::*;
    use crate::testing::wait_until;

    #[test]
    fn they_end_with_what_they_work_for() {
        let ended = Arc::<AtomicU64>::default();
        let mut workers = Workers::none();
        for _ in 0..2 {
            let ended = ended.clone();
            let body = move |stop: &Stop| {
                while !stop.wait(Duration::from_secs(3_600)) {}
                ended.fetch_add(1, Ordering::SeqCst);
            };
            workers.add("waits", 64 << 10, body).unwrap();
        }
        assert!(!workers.has_lost_one());
        drop(workers);
        assert_eq!(ended.load(Ordering::SeqCst), 2);
        let hasty = Workers::one("hasty", 64 << 10, |_| {}).unwrap();
        wait_until("it has ended by itself", || hasty.has_lost_one());
    }
}
