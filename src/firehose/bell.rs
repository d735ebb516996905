//! The bell of one subscriber: something that can be waited for together with its socket.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{EventfdFlags, eventfd};

use crate::descriptors;

/// Rings until it is silenced.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let bell = eventfd(0, flags)?;
        descriptors::check(&bell)?;
        Ok(Bell(bell))
    }

    pub(super) fn ring(&self) {
        // Only a full counter refuses, and that is a bell that rings.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(super) fn silence(&self) {
        // It may not have rung: then there is nothing to read.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

/// Readable while it rings.
impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
