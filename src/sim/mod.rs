//! The simulated network.

pub mod clock;
pub mod event;
pub mod keys;
pub mod repo;
pub mod tree;
