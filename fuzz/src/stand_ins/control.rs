//! In the place of `src/control/mod.rs`: values of the control store, without a store.

use std::fmt;

/// As in `src/control/mod.rs`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HostTerms {
    pub banned: bool,
    pub trusted: Option<bool>,
    pub lenient: bool,
    pub accounts: Option<u64>,
    pub events_per_second: Option<u64>,
    pub events_per_hour: Option<u64>,
    pub events_per_day: Option<u64>,
}

/// As in `src/control/mod.rs`.
#[derive(Debug)]
pub enum ControlError {
    /// It does not answer.
    Unavailable(String),
    /// What is stored can not be read.
    Damaged(String),
    /// There is no such host.
    NoSuchHost(u32),
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
