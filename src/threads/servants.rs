//! Threads that are used again: where thousands of short things are done a second, each by a thread of its own, making
//! and ending threads is most of the work, and holds up everybody who needs memory meanwhile.

use std::{io, time::Duration};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{Role, spawn, survive};

type Job = Box<dyn FnOnce() + Send>;

/// Threads that have done something and wait a while for more. Dropping this lets those go that wait; those that are
/// at work end when they have done it.
#[derive(Debug)]
pub struct Servants {
    role: Role,
    stack_bytes: usize,
    idle: Duration,
    // Without room: it takes something only if a thread waits for it at this moment.
    jobs: Sender<Job>,
    waiting: Receiver<Job>,
}

impl Servants {
    /// None yet. Who has nothing to do for `idle` ends.
    pub fn new(role: Role, stack_bytes: usize, idle: Duration) -> Servants {
        let (jobs, waiting) = bounded(0);
        Servants {
            role,
            stack_bytes,
            idle,
            jobs,
            waiting,
        }
    }

    /// Has it done by a thread that waits, or by a new one. An error means that there is none to be had.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let job: Job = Box::new(job);
        let job = match self.jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
        };
        let (waiting, idle) = (self.waiting.clone(), self.idle);
        let body = move || {
            let mut next = Some(job);
            while let Some(job) = next {
                survive(job);
                next = waiting.recv_timeout(idle).ok();
            }
        };
        spawn(self.role, "", self.stack_bytes, body)?.detach();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        thread::{self, ThreadId},
    };

    use crossbeam_channel::RecvTimeoutError;

    use super::*;

    fn servants() -> Servants {
        Servants::new(Role::Http, 256 << 10, Duration::from_secs(60))
    }

    /// Has its thread told, when it waits again.
    fn used(servants: &Servants) -> ThreadId {
        let (tell, told) = bounded(1);
        let run = || {
            let tell = tell.clone();
            servants.run(move || tell.send(thread::current().id()).unwrap())
        };
        run().unwrap();
        told.recv().unwrap()
    }

    #[test]
    fn a_thread_is_used_again() {
        let servants = servants();
        let first = used(&servants);
        // It may not wait yet when the next one comes.
        let mut again = (0..10_000).map(|_| used(&servants));
        assert!(again.any(|id| id == first));
    }

    #[test]
    fn each_has_a_thread_of_its_own() {
        let servants = servants();
        let (tell, told) = bounded(0);
        for n in 0..8 {
            let tell = tell.clone();
            servants.run(move || tell.send(n).unwrap()).unwrap();
        }
        // None of them has ended before all are begun.
        let mut all: Vec<i32> = told.iter().take(8).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_panic_costs_what_has_panicked() {
        let servants = servants();
        servants.run(|| panic!("on purpose")).unwrap();
        used(&servants);
    }

    #[test]
    fn who_waits_ends_when_there_will_be_no_more() {
        thread_local! {
            /// Goes with the thread.
            static OWN: RefCell<Option<Sender<()>>> = const { RefCell::new(None) };
        }
        let servants = servants();
        let (tell, told) = bounded::<()>(0);
        let keep = move || OWN.with(|own| *own.borrow_mut() = Some(tell));
        servants.run(keep).unwrap();
        used(&servants);
        drop(servants);
        assert_eq!(
            told.recv_timeout(Duration::from_secs(60)),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
