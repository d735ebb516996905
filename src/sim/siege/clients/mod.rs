//! Subscribers and other clients that are up to no good.

use super::attack::Attack;

/// Every attack of clients, each by so many of them.
pub(super) fn all(_attackers: usize) -> Vec<Box<dyn Attack>> {
    Vec::new()
}
