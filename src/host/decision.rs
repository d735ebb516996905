//! What the operator decides about hosts. It reaches the crawler as a command and is kept before it
//! is in force, so that it holds after a restart too.

use std::fmt;

use crate::{atproto::hostname::Hostname, control::domain::Domain};

/// A decision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The host is banned, or no longer.
    Ban {
        /// The host, which must be known.
        host: Hostname,
        /// Whether it is.
        banned: bool,
    },
    /// The domain and everything below it is banned, or no longer.
    BanDomain {
        /// The domain, of which no host need be known.
        domain: Domain,
        /// Whether it is.
        banned: bool,
    },
    /// The host has other terms from now on.
    Change {
        /// The host, which must be known.
        host: Hostname,
        /// What is different.
        change: Change,
    },
}

/// What is different about a host; what is not said stays.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Change {
    /// How many accounts it may have.
    pub account_limit: Option<u64>,
    /// Whether its commits pass without the fields of Sync 1.1.
    pub lenient: Option<bool>,
}

/// Why a decision is not in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecisionError {
    /// There is no such host.
    NoSuchHost,
    /// It could not be kept; the text is for the log.
    Failed(String),
}

impl fmt::Display for DecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecisionError::NoSuchHost => f.write_str("there is no such host"),
            DecisionError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for DecisionError {}
