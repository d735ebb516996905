//! Waiting for a socket and for the stop at the same time.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// A switch that, once set, wakes everybody who waits through it, for ever.
#[derive(Debug)]
pub(super) struct Wake(OwnedFd);

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Woken {
    /// The socket is ready, or broken: the next call on it tells.
    Ready,
    /// The switch is set.
    Stop,
    /// The deadline has passed.
    Late,
}

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        Ok(Wake(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?))
    }

    /// Sets the switch.
    pub(super) fn set(&self) {
        // It fails only when the counter is full, and then the switch is set.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until `socket` can be read; without deadline for ever.
    pub(super) fn readable(
        &self,
        socket: &impl AsFd,
        deadline: Option<Instant>,
    ) -> io::Result<Woken> {
        self.wait(Some((socket, PollFlags::IN)), deadline)
    }

    /// Waits until `socket` can be written; the stop does not end this, an answer is finished.
    pub(super) fn writable(&self, socket: &impl AsFd, deadline: Instant) -> io::Result<Woken> {
        loop {
            let mut fds = [PollFd::new(socket, PollFlags::OUT)];
            match poll(&mut fds, Some(&remaining(deadline))) {
                Ok(0) => return Ok(Woken::Late),
                Ok(_) => return Ok(Woken::Ready),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the switch alone; true when it is set.
    pub(super) fn rest(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let woken = self.wait(None::<(&OwnedFd, PollFlags)>, Some(deadline));
        !matches!(woken, Ok(Woken::Late))
    }

    fn wait(
        &self,
        socket: Option<(&impl AsFd, PollFlags)>,
        deadline: Option<Instant>,
    ) -> io::Result<Woken> {
        loop {
            let timeout = deadline.map(remaining);
            let switch = PollFd::new(&self.0, PollFlags::IN);
            let (ready, stop) = match socket {
                Some((socket, flags)) => {
                    let mut fds = [switch, PollFd::new(socket, flags)];
                    (
                        poll(&mut fds, timeout.as_ref()),
                        !fds[0].revents().is_empty(),
                    )
                }
                None => {
                    let mut fds = [switch];
                    (
                        poll(&mut fds, timeout.as_ref()),
                        !fds[0].revents().is_empty(),
                    )
                }
            };
            match ready {
                Ok(0) => return Ok(Woken::Late),
                Ok(_) if stop => return Ok(Woken::Stop),
                Ok(_) => return Ok(Woken::Ready),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn remaining(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    // Only durations of hundreds of years do not fit.
    Timespec::try_from(left).unwrap_or(Timespec {
        tv_sec: i64::MAX,
        tv_nsec: 0,
    })
}
