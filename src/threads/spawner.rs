//! Threads that are less nice than who wants them. A thread is at least as nice as the one that spawns it,
//! and only the privileged may take that back.

use std::io;

use crossbeam_channel::{Sender, bounded, unbounded};

use super::{Role, Thread, spawn};
use crate::limits::SERVICE_STACK_BYTES;

type Job = Box<dyn FnOnce() + Send>;

/// A thread that spawns others, as nice as the one that has started it. It ends when this is dropped.
#[derive(Debug)]
pub struct Spawner(Sender<Job>);

impl Spawner {
    /// Starts it in this role.
    pub fn start(role: Role) -> io::Result<Spawner> {
        let (jobs, wanted) = unbounded::<Job>();
        let body = move || wanted.into_iter().for_each(|job| job());
        // Not to be waited for: what it could not spawn it drops itself, this with it perhaps.
        spawn(role, "spawner", SERVICE_STACK_BYTES, body)?.detach();
        Ok(Spawner(jobs))
    }

    /// As [`spawn`], which this waits for.
    pub fn spawn(
        &self,
        role: Role,
        detail: &str,
        stack_bytes: usize,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<Thread> {
        let (done, thread) = bounded(1);
        let detail = detail.to_owned();
        let job = move || {
            // Who wants it waits.
            let _ = done.send(spawn(role, &detail, stack_bytes, body));
        };
        let gone = || io::Error::other("the thread that spawns threads is gone");
        self.0.send(Box::new(job)).map_err(|_| gone())?;
        thread.recv().map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{getpriority_process, setpriority_process};

    use super::*;

    /// How nice the thread is that calls this.
    fn niceness() -> i32 {
        getpriority_process(None).unwrap()
    }

    #[test]
    fn who_is_nice_has_threads_that_are_not() {
        let spawner = Spawner::start(Role::Ticker).unwrap();
        let (tell, told) = bounded(2);
        let body = move || {
            setpriority_process(None, 9).unwrap();
            let (own, other) = (tell.clone(), tell);
            drop(spawn(Role::Simulator, "own", 256 << 10, move || {
                own.send(niceness()).unwrap()
            }));
            let thread = spawner.spawn(Role::Simulator, "other", 256 << 10, move || {
                other.send(niceness()).unwrap();
            });
            drop(thread);
        };
        let before = niceness();
        drop(spawn(Role::Simulator, "nice", 256 << 10, body).unwrap());
        assert_eq!((told.recv().unwrap(), told.recv().unwrap()), (9, before));
    }

    #[test]
    fn who_can_not_be_given_a_thread_is_told_why() {
        let spawner = Spawner::start(Role::Ticker).unwrap();
        let error = spawner
            .spawn(Role::Host, "test", 1 << 60, || {})
            .unwrap_err();
        assert!(error.to_string().contains("TasksMax"), "{error}");
        drop(
            spawner
                .spawn(Role::Simulator, "test", 256 << 10, || {})
                .unwrap(),
        );
    }
}
