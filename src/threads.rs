//! Threads as values: spawned in one place with a role, a name and a stack size, joined when
//! dropped, and told to stop through one token.
//!
//! A panic in a host or a subscriber ends that connection only and is counted; a panic anywhere
//! else leaves a relay whose promises nobody keeps, so it ends the process, loudly.

use std::{
    io,
    panic::{self, AssertUnwindSafe},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{getpriority_process, setpriority_process};

pub use self::{
    servants::Servants,
    slice::{run_first, run_when_idle},
    spawner::Spawner,
    stop::{Stop, Stopper, stop_pair},
};
use crate::memory::stacks::Registered;

mod servants;
mod slice;
mod spawner;
mod stop;

/// What a thread is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Reads one host.
    Host,
    /// The one writer.
    Sequencer,
    /// Looks identities up, and proves what waited for them.
    Resolver,
    /// Owns the set of hosts.
    Crawler,
    /// Writes into the control store.
    Control,
    /// Serves one firehose subscriber.
    Subscriber,
    /// Reads the store ahead of a subscriber.
    Replay,
    /// Wakes subscribers.
    Ticker,
    /// Accepts on the public port, or serves one of its plain connections.
    Http,
    /// Makes pages of lists.
    List,
    /// Serves the internal port, or samples what the status page, metrics and probes show.
    Metrics,
    /// Frees what has left the window.
    Retention,
    /// Gives memory back.
    Memory,
    /// Waits for signals.
    Signals,
    /// Says how many log lines were left out.
    Log,
    /// Asks another relay, for `zlay top`.
    Client,
    /// Anything of the simulator.
    Simulator,
}

impl Role {
    /// Every role, for reports.
    pub const ALL: [Role; 17] = [
        Role::Host,
        Role::Sequencer,
        Role::Resolver,
        Role::Crawler,
        Role::Subscriber,
        Role::Replay,
        Role::Ticker,
        Role::Http,
        Role::List,
        Role::Metrics,
        Role::Retention,
        Role::Control,
        Role::Memory,
        Role::Signals,
        Role::Log,
        Role::Client,
        Role::Simulator,
    ];

    /// The role's name in metrics and thread names.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Host => "host",
            Role::Sequencer => "sequencer",
            Role::Resolver => "resolver",
            Role::Crawler => "crawler",
            Role::Subscriber => "subscriber",
            Role::Replay => "replay",
            Role::Ticker => "ticker",
            Role::Http => "http",
            Role::List => "list",
            Role::Metrics => "metrics",
            Role::Retention => "retention",
            Role::Control => "control",
            Role::Memory => "memory",
            Role::Signals => "signals",
            Role::Log => "log",
            Role::Client => "client",
            Role::Simulator => "sim",
        }
    }

    /// How far its threads stand back where there are more that could run than cores. Thousands of
    /// host threads would otherwise leave a hundredth of a core to the one thread that they all wait
    /// for, and as little to subscribers and to the probes of the internal port. Strangers who ask, replay
    /// or list everything come behind what happens now. A thread is at least as nice as the one that spawns it,
    /// unless a [`Spawner`] is between them.
    const fn nice(self) -> i32 {
        match self {
            Role::Host => crate::limits::HOST_NICE,
            Role::Http => crate::limits::HTTP_NICE,
            Role::Replay => crate::limits::REPLAY_NICE,
            Role::List => crate::limits::LIST_NICE,
            _ => 0,
        }
    }

    /// Whether its threads run as long at a time as the system has them: those that do what takes long, and
    /// that nobody's events wait for. All others have [`crate::limits::PROMPT_SLICE`].
    const fn is_patient(self) -> bool {
        matches!(
            self,
            Role::Replay | Role::Http | Role::List | Role::Retention | Role::Memory
        )
    }

    /// Whether a panic ends only the connection that the thread serves.
    const fn is_expendable(self) -> bool {
        matches!(
            self,
            Role::Host | Role::Subscriber | Role::Replay | Role::Http | Role::List | Role::Metrics
        )
    }
}

static RUNNING: [AtomicUsize; Role::ALL.len()] = [const { AtomicUsize::new(0) }; Role::ALL.len()];
static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many threads of `role` run now.
pub fn running(role: Role) -> usize {
    RUNNING[role as usize].load(Ordering::Relaxed)
}

/// Panics caught in threads whose end is survivable, since the start.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// A running thread; dropping it waits for its end.
#[must_use = "dropping the handle waits for the thread"]
#[derive(Debug)]
pub struct Thread(Option<thread::JoinHandle<()>>);

impl Thread {
    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// What tells it from every other thread that ever was; none once it was let go.
    pub fn id(&self) -> Option<thread::ThreadId> {
        self.0.as_ref().map(|handle| handle.thread().id())
    }

    /// Lets the thread run on its own: for threads that are counted and told to stop otherwise.
    pub fn detach(mut self) {
        self.0.take();
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // A test that fails must not wait for what it holds up itself.
        if cfg!(test) && thread::panicking() {
            return;
        }
        if let Some(thread) = self.0.take() {
            // The thread itself has caught and reported any panic.
            let _ = thread.join();
        }
    }
}

/// Counts a running thread, and says where its stack is, for as long as it lives.
struct Running {
    role: Role,
    _stack: Registered,
}

impl Running {
    fn new(role: Role) -> Running {
        RUNNING[role as usize].fetch_add(1, Ordering::Relaxed);
        stand_in_line(role);
        Running {
            role,
            _stack: Registered::this_thread(role),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING[self.role as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says to the system how far the calling thread stands back, and for how long at a time it runs. Where that can
/// not be said, the relay only runs less evenly.
fn stand_in_line(role: Role) {
    // Of the calling thread alone, on Linux.
    if role.nice() > 0 {
        let _ = setpriority_process(None, role.nice());
    }
    // It has what the thread has that spawned it.
    run_patiently(role.is_patient());
}

/// Has the calling thread run as long at a time as the system has it, or only for [`crate::limits::PROMPT_SLICE`].
pub fn run_patiently(is_patient: bool) {
    let Ok(nice) = getpriority_process(None) else {
        return;
    };
    let slice = match is_patient {
        true => Duration::ZERO,
        false => crate::limits::PROMPT_SLICE,
    };
    let _ = slice::set(slice, nice);
}

/// Starts so many threads. Where not all of them can be, those that run are not waited for: what they
/// serve does not start.
pub fn spawn_all(
    count: usize,
    mut start: impl FnMut(usize) -> io::Result<Thread>,
) -> io::Result<Vec<Thread>> {
    let mut threads = Vec::with_capacity(count);
    for n in 0..count {
        match start(n) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                threads.into_iter().for_each(Thread::detach);
                return Err(error);
            }
        }
    }
    Ok(threads)
}

/// Starts a thread named `role` or `role:detail` with a stack of `stack_bytes`.
pub fn spawn(
    role: Role,
    detail: &str,
    stack_bytes: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Thread> {
    let name = if detail.is_empty() {
        role.name().to_owned()
    } else {
        format!("{}:{detail}", role.name())
    };
    let builder = thread::Builder::new().name(name).stack_size(stack_bytes);
    let handle = builder.spawn(move || {
        let _running = Running::new(role);
        if panic::catch_unwind(AssertUnwindSafe(body)).is_ok() {
            return;
        }
        // The panic hook has printed message and place.
        PANICS.fetch_add(1, Ordering::Relaxed);
        let thread = thread::current();
        let name = thread.name().unwrap_or("?");
        if role.is_expendable() {
            log::error!(thread_name = name; "a thread has panicked; its connection ends, the relay goes on");
        } else {
            log::error!(thread_name = name; "a thread has panicked; the relay can not go on without it");
            crate::logging::flush();
            std::process::exit(EXIT_PANIC);
        }
    });
    Ok(Thread(Some(handle.map_err(explained)?)))
}

/// The system says "resource temporarily unavailable" and not which.
fn explained(error: io::Error) -> io::Error {
    let kind = error.kind();
    if kind != io::ErrorKind::WouldBlock {
        return error;
    }
    let limits = "no more threads, or no address space for a stack: see ulimit -u and -v, TasksMax= \
                  of systemd, pids.max of the container, kernel.threads-max, vm.max_map_count";
    io::Error::new(kind, format!("{error}: {limits}"))
}

/// Runs `body`; nothing where it panics, which is counted and survived. For work on what strangers
/// send: a fault that one message brings out must not end more than the work on that message.
pub fn survive<T>(body: impl FnOnce() -> T) -> Option<T> {
    let done = panic::catch_unwind(AssertUnwindSafe(body)).ok();
    if done.is_none() {
        // The panic hook has printed message and place.
        PANICS.fetch_add(1, Ordering::Relaxed);
    }
    done
}

/// The exit code after a panic in a thread that the relay can not do without.
pub const EXIT_PANIC: i32 = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_host_thread_is_counted_and_survived() {
        let before = panics();
        drop(spawn(Role::Host, "test", 256 << 10, || panic!("on purpose")).unwrap());
        assert!(panics() > before);
    }

    #[test]
    fn where_threads_run_out_the_limits_are_named() {
        // More than there are addresses: refused as any other stack for which there is no room.
        let error = spawn(Role::Host, "test", 1 << 60, || {}).unwrap_err();
        assert!(error.to_string().contains("TasksMax"), "{error}");
        let other = io::Error::from(io::ErrorKind::InvalidInput);
        assert!(!explained(other).to_string().contains("TasksMax"));
    }

    #[test]
    fn a_panic_can_be_survived_where_it_happens() {
        let before = panics();
        assert_eq!(survive(|| 7), Some(7));
        assert_eq!(survive(|| -> u8 { panic!("on purpose") }), None);
        assert!(panics() > before);
    }

    #[test]
    fn a_stop_wakes_who_waits() {
        let (stopper, stop) = stop_pair();
        let waiting = stop.clone();
        let thread = spawn(Role::Host, "waits", 256 << 10, move || {
            assert!(waiting.wait(Duration::from_secs(60)));
        });
        assert!(!stop.requested());
        drop(stopper);
        drop(thread);
        assert!(stop.requested());
    }
}
