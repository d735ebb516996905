//! What the operator decides about hosts. It is kept before it is in force, so that it holds after a
//! restart too: [`CrawlerHandle::decide`](super::crawler::CrawlerHandle::decide).

use std::fmt;

use crate::{
    atproto::hostname::Hostname,
    control::{
        ControlError, HostTerms,
        domain::Domain,
        settings::{Choice, Setting},
    },
};

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
    /// A limit of all hosts is another one from now on.
    Set {
        /// Which.
        setting: Setting,
        /// What it is; none: what the configuration says.
        choice: Option<Choice>,
    },
    /// The connection of a host is ended; it is made anew soon.
    Disconnect {
        /// The host, which must be connected.
        host: Hostname,
    },
    /// The host is read from another place of its stream from now on.
    Reset {
        /// The host, which must be known.
        host: Hostname,
        /// The place.
        to: Place,
    },
}

/// A place in the stream of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The oldest event that the host still has.
    Oldest,
    /// What follows this upstream seq.
    After(u64),
    /// What happens from now on.
    Live,
}

/// What is different about a host; what is not said stays. A limit can be taken back, and is then the
/// default one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Change {
    /// Whether its commits pass without the fields of Sync 1.1.
    pub lenient: Option<bool>,
    /// Whether it is trusted.
    pub trusted: Option<Option<bool>>,
    /// How many accounts it may have.
    pub accounts: Option<Option<u64>>,
    /// How many events a second it may send.
    pub events_per_second: Option<Option<u64>>,
    /// How many events an hour.
    pub events_per_hour: Option<Option<u64>>,
    /// How many events a day.
    pub events_per_day: Option<Option<u64>>,
}

impl Change {
    /// The terms of a host after it.
    pub fn apply(&self, terms: &HostTerms) -> HostTerms {
        HostTerms {
            banned: terms.banned,
            lenient: self.lenient.unwrap_or(terms.lenient),
            trusted: self.trusted.unwrap_or(terms.trusted),
            accounts: self.accounts.unwrap_or(terms.accounts),
            events_per_second: self.events_per_second.unwrap_or(terms.events_per_second),
            events_per_hour: self.events_per_hour.unwrap_or(terms.events_per_hour),
            events_per_day: self.events_per_day.unwrap_or(terms.events_per_day),
        }
    }
}

/// Why a decision is not in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DecisionError {
    /// There is no such host.
    NoSuchHost,
    /// The host is not connected.
    NotConnected,
    /// The host is banned.
    Banned,
    /// It can not be kept now; the text is for the operator.
    Unavailable(String),
    /// It could not be kept; the text is for the log.
    Failed(String),
}

impl fmt::Display for DecisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecisionError::NoSuchHost => f.write_str("there is no such host"),
            DecisionError::NotConnected => f.write_str("the host is not connected"),
            DecisionError::Banned => f.write_str("the host is banned"),
            DecisionError::Unavailable(why) | DecisionError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for DecisionError {}

impl From<ControlError> for DecisionError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unavailable(_) => DecisionError::Unavailable(error.to_string()),
            ControlError::NoSuchHost(_) => DecisionError::NoSuchHost,
            _ => DecisionError::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_does_not_say_stays_and_a_limit_can_be_taken_back() {
        let before = HostTerms {
            banned: true,
            trusted: Some(true),
            lenient: true,
            accounts: Some(7),
            events_per_second: Some(8),
            events_per_hour: None,
            events_per_day: Some(9),
        };
        assert_eq!(Change::default().apply(&before), before);
        let change = Change {
            trusted: Some(None),
            accounts: Some(None),
            events_per_hour: Some(Some(3)),
            ..Change::default()
        };
        let after = HostTerms {
            trusted: None,
            accounts: None,
            events_per_hour: Some(3),
            ..before
        };
        assert_eq!(change.apply(&before), after);
    }
}
