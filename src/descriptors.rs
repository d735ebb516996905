//! Open files: how many this process may have.

use std::{
    fmt, io,
    os::fd::AsRawFd,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::limits::{DESCRIPTORS_KEPT, OPEN_FILES_WANTED, STORE_OPEN_FILES_MAX};

/// How many files the process may have open; none is as many as it likes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenFiles {
    /// What was allowed at the start (the soft limit).
    pub before: Option<u64>,
    /// What is allowed now.
    pub now: Option<u64>,
}

impl fmt::Display for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u64>| n.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        let (now, before) = (number(self.now), number(self.before));
        write!(f, "open files limit={now}")?;
        if now != before {
            write!(f, " raised_from={before}")?;
        }
        Ok(())
    }
}

/// The first number of those that are kept for the relay itself. Until the limit is known there are none.
static KEPT_FROM: AtomicU64 = AtomicU64::new(u64::MAX);

/// How many of so many descriptors are kept.
fn kept(allowed: u64) -> u64 {
    let wanted = u64::from(STORE_OPEN_FILES_MAX) + DESCRIPTORS_KEPT;
    wanted.min(allowed / 2)
}

/// Whether a connection of a stranger has taken one of the last descriptors, and is to be closed: without
/// one for a file of its store the relay ends. A new descriptor has the lowest number that is free. So
/// the numbers that are refused here are never taken by strangers, who can not use up the others'.
pub fn is_kept(descriptor: &impl AsRawFd) -> bool {
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(0);
    number >= KEPT_FROM.load(Ordering::Relaxed)
}

/// The same as an error, which says what is missing.
pub fn check(descriptor: &impl AsRawFd) -> io::Result<()> {
    match is_kept(descriptor) {
        true => Err(Errno::MFILE.into()),
        false => Ok(()),
    }
}

/// Raises the limit as far as the process may by itself: to the hard limit. Soft limits are low by
/// default (1,024 under systemd) for the sake of programs that use `select`; we use `poll`. Children
/// inherit it.
pub fn raise() -> OpenFiles {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        // Where it may not be raised, what was allowed before still is.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let now = getrlimit(Resource::Nofile).current;
    let kept_from = now.map_or(u64::MAX, |now| now - kept(now));
    KEPT_FROM.store(kept_from, Ordering::Relaxed);
    OpenFiles {
        before: limit.current,
        now,
    }
}

impl OpenFiles {
    /// What to tell an operator who allows fewer than a relay of the whole network needs.
    pub fn warning(&self) -> Option<String> {
        let now = self.now.filter(|now| *now < OPEN_FILES_WANTED)?;
        Some(format!(
            "at most {now} open files, {} of which are kept for the store and the internal port: a host \
             takes one, a subscriber two; allow {OPEN_FILES_WANTED} or more (ulimit -Hn, LimitNOFILE= \
             of systemd)",
            kept(now)
        ))
    }
}

/// What to say after an error, where it is that there are too many open files.
pub fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => " (see ulimit -Hn, or LimitNOFILE= of systemd)",
        Some(Errno::NFILE) => " (of the whole machine: see fs.file-max)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let now = raise().now;
        assert_eq!(now, getrlimit(Resource::Nofile).maximum);
        assert_eq!(raise().before, now);
    }

    #[test]
    fn the_last_descriptors_are_kept() {
        assert_eq!(
            kept(1_000_000),
            u64::from(STORE_OPEN_FILES_MAX) + DESCRIPTORS_KEPT
        );
        assert_eq!((kept(1_024), kept(100)), (512, 50));
        raise();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_kept(&file) && check(&file).is_ok());
        assert!(is_kept(&i32::MAX));
        let error = check(&i32::MAX).unwrap_err();
        assert!(hint(&error).contains("LimitNOFILE"), "{error}");
    }

    #[test]
    fn a_raise_is_told() {
        let raised = OpenFiles {
            before: Some(1024),
            now: None,
        };
        let told = "open files limit=unlimited raised_from=1024";
        assert_eq!(raised.to_string(), told);
        let same = OpenFiles {
            before: Some(9),
            now: Some(9),
        };
        assert_eq!(same.to_string(), "open files limit=9");
        assert!(same.warning().unwrap().contains("at most 9 open files"));
        assert_eq!(raised.warning(), None);
    }

    #[test]
    fn too_many_open_files_is_a_limit_with_a_name() {
        assert!(hint(&Errno::MFILE.into()).contains("LimitNOFILE"));
        assert_eq!(hint(&io::ErrorKind::ConnectionReset.into()), "");
    }
}
