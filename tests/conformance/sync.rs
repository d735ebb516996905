//! Sync events.
