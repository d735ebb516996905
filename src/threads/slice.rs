//! How long a thread runs at a time. On a core that others want too, a thread that wakes up has to wait until
//! the one that runs there has had its slice, however nice that is: 1.4 ms on two cores, 2.8 ms on eight. An event
//! passes five threads. One with a shorter slice need not wait (Linux 6.12 and later, which is the first to have it;
//! older ones pass it over): <https://docs.kernel.org/scheduler/sched-eevdf.html>.
#![expect(unsafe_code, reason = "the C library has no form of this call at all")]

use std::{io, time::Duration};

use rustix::process::getpriority_process;

/// `struct sched_attr` in its first form (<https://man7.org/linux/man-pages/man2/sched_setattr.2.html>).
#[repr(C)]
#[derive(Default, Debug)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// Of a normal thread: its slice, in nanoseconds.
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Has the thread that calls this run so long at a time, and be so nice, if it is a normal one. Who has given the
/// process another policy has had a reason.
pub(super) fn set(slice: Duration, nice: i32) -> io::Result<()> {
    if !is_normal() {
        return Ok(());
    }
    set_attributes(&Attributes {
        policy: libc::SCHED_OTHER as u32,
        nice,
        runtime: u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX),
        ..Attributes::default()
    })
}

/// Whether nobody has given the thread that calls this, or the process, another policy.
fn is_normal() -> bool {
    // SAFETY: it takes a number, of which 0 is the thread that calls it, and only tells.
    let policy = unsafe { libc::sched_getscheduler(0) };
    policy == libc::SCHED_OTHER
}

/// Has the thread that calls this, and those that it spawns, run only where nothing else wants to.
pub fn run_when_idle() -> io::Result<()> {
    set_attributes(&Attributes {
        policy: libc::SCHED_IDLE as u32,
        nice: 19,
        ..Attributes::default()
    })
}

/// Runs `body`; the threads that it spawns run before all that are not of this kind, as soon as they have something to do.
/// Only the privileged may have that, and normal threads ask for it; false where they do not, and run like others.
pub fn run_first<T>(body: impl FnOnce() -> T) -> (T, bool) {
    let before = Attributes {
        policy: libc::SCHED_OTHER as u32,
        nice: getpriority_process(None).unwrap_or_default(),
        ..Attributes::default()
    };
    let first = Attributes {
        policy: libc::SCHED_FIFO as u32,
        priority: 1,
        ..Attributes::default()
    };
    let are_first = is_normal() && set_attributes(&first).is_ok();
    let value = body();
    if are_first {
        let _ = set_attributes(&before);
    }
    (value, are_first)
}

fn set_attributes(attributes: &Attributes) -> io::Result<()> {
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        ..*attributes
    };
    let (this_thread, flags) = (0, 0);
    // SAFETY: it reads as many bytes as `size` says, which are there, and changes nothing but how this thread
    // is scheduled.
    let done = unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            this_thread,
            &raw const attributes,
            flags,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What the kernel says of the thread that calls this.
    fn of_this_thread() -> Attributes {
        let mut attributes = Attributes::default();
        // SAFETY: it writes at most `size` bytes, which are there.
        let done = unsafe {
            libc::syscall(
                libc::SYS_sched_getattr,
                0,
                &raw mut attributes,
                size_of::<Attributes>(),
                0,
            )
        };
        assert_eq!(done, 0);
        attributes
    }

    #[test]
    fn a_thread_has_its_slice_and_is_as_nice_as_it_was_told() {
        let thread = thread::spawn(|| {
            let before = of_this_thread().policy;
            set(Duration::from_micros(100), 7).unwrap();
            if before != libc::SCHED_OTHER as u32 {
                assert_eq!(of_this_thread().policy, before);
                return;
            }
            let Attributes {
                policy,
                nice,
                runtime,
                ..
            } = of_this_thread();
            assert_eq!((policy, nice), (libc::SCHED_OTHER as u32, 7));
            // Before 6.12 it is passed over.
            assert!(
                [0, 100_000].contains(&runtime) || runtime > 500_000,
                "{runtime}"
            );
        });
        thread.join().unwrap();
    }

    #[test]
    fn who_is_spawned_to_run_first_does_and_who_spawned_it_does_not() {
        let thread = thread::spawn(|| {
            let before = of_this_thread();
            let (child, are_first) = run_first(|| {
                let body = || {
                    set(Duration::from_micros(100), 0).unwrap();
                    of_this_thread().policy
                };
                thread::spawn(body).join().unwrap()
            });
            let after = of_this_thread();
            assert_eq!((after.policy, after.nice), (before.policy, before.nice));
            let expected = match are_first {
                true => libc::SCHED_FIFO as u32,
                // Not privileged.
                false => before.policy,
            };
            assert_eq!(child, expected);
        });
        thread.join().unwrap();
    }

    #[test]
    fn who_runs_when_idle_has_children_that_do() {
        let thread = thread::spawn(|| {
            run_when_idle().unwrap();
            let child = thread::spawn(|| {
                set(Duration::from_micros(100), 19).unwrap();
                of_this_thread().policy
            });
            assert_eq!(child.join().unwrap(), libc::SCHED_IDLE as u32);
        });
        thread.join().unwrap();
    }
}
