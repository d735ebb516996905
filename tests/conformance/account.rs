//! The status of accounts.
