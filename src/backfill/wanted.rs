//! What a backfill is to read.

use crate::atproto::{
    hostname::{Endpoint, Hostname},
    nsid::Nsid,
};

/// What the operator wants to have read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Who has records of what.
    Collections {
        /// The relay or the index that is asked.
        source: Endpoint,
        /// Collections beside those that are known here.
        names: Vec<Nsid>,
    },
    /// Accounts.
    Accounts {
        /// Of this host; none: of all that are not banned.
        host: Option<Hostname>,
    },
}
