//! Threads that do what strangers ask for and what takes more than a moment: few, and they stand back. So
//! however many list or replay everything at once, they take what events and live subscribers leave, and
//! wait for each other.

use std::{io, ops::RangeInclusive, thread};

use crossbeam_channel::{Sender, bounded, unbounded};

use crate::{
    limits::HTTP_STACK_BYTES,
    threads::{self, Role, Thread},
};

/// Something to be done.
type Job = Box<dyn FnOnce() + Send>;

/// The threads; dropping them waits for what they have begun.
#[derive(Debug)]
pub struct Crew {
    // Dropped first, which ends the threads. It holds no more jobs than there are who wait for them.
    jobs: Sender<Job>,
    _threads: Vec<Thread>,
}

/// One for so many cores of this machine, within these bounds.
pub fn for_cores(cores_each: usize, bounds: RangeInclusive<usize>) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / cores_each).clamp(*bounds.start(), *bounds.end())
}

impl Crew {
    /// Starts threads of this role, one for so many cores, within these bounds.
    pub fn start(role: Role, cores_each: usize, bounds: RangeInclusive<usize>) -> io::Result<Crew> {
        let count = for_cores(cores_each, bounds);
        let (jobs, waiting) = unbounded::<Job>();
        let start = |n: usize| {
            let waiting = waiting.clone();
            threads::spawn(role, &n.to_string(), HTTP_STACK_BYTES, move || {
                for job in waiting {
                    threads::survive(job);
                }
            })
        };
        let threads = threads::spawn_all(count, start)?;
        Ok(Crew {
            jobs,
            _threads: threads,
        })
    }

    /// Has one of the threads do it, in the order in which it is asked for, and waits for that. Nothing
    /// where it panics.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (tell, told) = bounded(1);
        let job = move || {
            // Who has asked waits for it.
            let _ = tell.send(job());
        };
        self.jobs.send(Box::new(job)).ok()?;
        told.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn few_work_at_once_and_all_are_served() {
        let crew = Crew::start(Role::List, 1, 3..=3).unwrap();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        thread::scope(|scope| {
            for n in 0..100 {
                let (now, crew, most) = (Arc::clone(&now), &crew, &most);
                scope.spawn(move || {
                    let at_once = crew.run(move || {
                        let at_once = now.fetch_add(1, Ordering::SeqCst) + 1;
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                        (n, at_once)
                    });
                    let (of, at_once) = at_once.unwrap();
                    assert_eq!(of, n);
                    most.fetch_max(at_once, Ordering::SeqCst);
                });
            }
        });
        assert!(most.into_inner() <= 3);
    }

    #[test]
    fn a_panic_costs_one_answer() {
        let crew = Crew::start(Role::List, 1, 3..=3).unwrap();
        for _ in 0..6 {
            assert_eq!(crew.run(|| -> u8 { panic!("on purpose") }), None);
        }
        assert_eq!(crew.run(|| 7), Some(7));
    }
}
