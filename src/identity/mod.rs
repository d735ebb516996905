//! Who may sign for an account and which host may speak for it: DID documents, fetched, parsed,
//! kept.
//!
//! [`directory::Directory`] is what the rest of the relay talks to. It answers from its cache at
//! once, or queues a lookup for the resolver threads and calls back.

mod allowance;
mod budget;
mod cache;
pub mod directory;
pub mod document;
mod fair;
mod fetch;
mod lookups;
mod outcome;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod witness;

pub use self::{
    allowance::{Rate, Rates},
    cache::CACHE_ENTRY_BYTES,
    directory::{Directory, How, RateLimited, Waiter},
    document::Identity,
    outcome::{Missing, Outcome},
};
