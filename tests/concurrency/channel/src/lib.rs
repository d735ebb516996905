//! Channels as far as the relay's shared parts use them, made of loom's lock and condition variable: they
//! keep the promises of `crossbeam-channel` and none beside. Time does not pass here: who waits with a
//! deadline waits for ever, or not at all.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex as Plain, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use loom::sync::{Condvar, Mutex, MutexGuard};

loom::lazy_static! {
    /// One lock for all channels: who waits for two of them waits for one condition.
    static ref WORLD: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
}

fn lock() -> MutexGuard<'static, ()> {
    world().0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn world() -> &'static (Mutex<()>, Condvar) {
    &WORLD
}

fn wait(guard: MutexGuard<'static, ()>) -> MutexGuard<'static, ()> {
    world()
        .1
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}

fn changed(guard: MutexGuard<'static, ()>) {
    world().1.notify_all();
    drop(guard);
}

/// What is in a channel. It is looked at under the lock of all channels only, and so needs no lock that
/// the model knows of.
struct State<T> {
    queue: VecDeque<T>,
    room: usize,
    senders: usize,
    receivers: usize,
}

type Shared<T> = Arc<Plain<State<T>>>;

fn of<T, R>(shared: &Shared<T>, look: impl FnOnce(&mut State<T>) -> R) -> R {
    look(&mut shared.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A channel with room for so many messages.
pub fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Plain::new(State {
        queue: VecDeque::new(),
        room,
        senders: 1,
        receivers: 1,
    }));
    (Sender(shared.clone()), Receiver(shared))
}

pub struct Sender<T>(Shared<T>);
pub struct Receiver<T>(Shared<T>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendError<T>(pub T);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecvError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    Empty,
    Disconnected,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecvTimeoutError {
    Timeout,
    Disconnected,
}

impl<T> Sender<T> {
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let guard = lock();
        let sent = of(&self.0, |state| {
            if state.receivers == 0 {
                return Err(TrySendError::Disconnected(message));
            }
            if state.queue.len() >= state.room {
                return Err(TrySendError::Full(message));
            }
            state.queue.push_back(message);
            Ok(())
        });
        match sent {
            Ok(()) => changed(guard),
            Err(_) => drop(guard),
        }
        sent
    }

    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut guard = lock();
        loop {
            let (gone, full) = of(&self.0, |state| {
                (state.receivers == 0, state.queue.len() >= state.room)
            });
            if gone {
                return Err(SendError(message));
            }
            if !full {
                break;
            }
            guard = wait(guard);
        }
        of(&self.0, |state| state.queue.push_back(message));
        changed(guard);
        Ok(())
    }

    pub fn send_deadline(&self, message: T, _: Instant) -> Result<(), SendError<T>> {
        self.send(message)
    }
}

impl<T> Receiver<T> {
    /// Whether a receive would not wait.
    #[doc(hidden)]
    pub fn is_ready(&self) -> bool {
        of(&self.0, |state| {
            state.senders == 0 || !state.queue.is_empty()
        })
    }

    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let guard = lock();
        let (got, left) = of(&self.0, |state| (state.queue.pop_front(), state.senders));
        match got {
            Some(message) => {
                changed(guard);
                Ok(message)
            }
            None if left == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    pub fn recv(&self) -> Result<T, RecvError> {
        let mut guard = lock();
        while !self.is_ready() {
            guard = wait(guard);
        }
        let got = of(&self.0, |state| state.queue.pop_front());
        changed(guard);
        got.ok_or(RecvError)
    }

    pub fn recv_deadline(&self, _: Instant) -> Result<T, RecvError> {
        self.recv()
    }

    /// No time passes: it is over at once.
    pub fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
        self.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }
}

/// Which of two receivers `select!` takes where both are ready. The real one takes either: what uses it
/// must be right with both.
pub static PREFERS_SECOND: AtomicBool = AtomicBool::new(false);

/// Waits until one of two receivers is ready; true: it is the first one.
#[doc(hidden)]
pub fn first_ready<A, B>(a: &Receiver<A>, b: &Receiver<B>) -> bool {
    let mut guard = lock();
    loop {
        match (a.is_ready(), b.is_ready()) {
            (true, true) => return !PREFERS_SECOND.load(Ordering::Relaxed),
            (true, false) => return true,
            (false, true) => return false,
            (false, false) => guard = wait(guard),
        }
    }
}

/// Receives from the first of two receivers that is ready.
#[macro_export]
macro_rules! select {
    (recv($a:expr) -> $x:pat => $one:expr, recv($b:expr) -> $y:pat => $other:expr $(,)?) => {{
        let (a, b) = (&$a, &$b);
        if $crate::first_ready(a, b) {
            let $x = a.try_recv();
            $one
        } else {
            let $y = b.try_recv();
            $other
        }
    }};
    (recv($a:expr) -> $x:pat => $one:block recv($b:expr) -> $y:pat => $other:expr $(,)?) => {
        $crate::select!(recv($a) -> $x => $one, recv($b) -> $y => $other)
    };
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        of(&self.0, |state| state.senders += 1);
        Sender(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        of(&self.0, |state| state.receivers += 1);
        Receiver(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let is_last = of(&self.0, |state| {
            state.senders -= 1;
            state.senders == 0
        });
        if is_last {
            changed(lock());
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let is_last = of(&self.0, |state| {
            state.receivers -= 1;
            state.receivers == 0
        });
        if is_last {
            changed(lock());
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
