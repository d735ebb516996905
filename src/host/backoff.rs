//! How long to wait before the next attempt: doubling, capped, with jitter, for ever.

use std::time::Duration;

use crate::limits::{HOST_BACKOFF_FIRST, HOST_BACKOFF_MAX};

/// The delay after `failures` failures in a row (1 or more). `jitter` is a random number in 0 to 1:
/// hosts that failed together are not retried together.
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let full = HOST_BACKOFF_FIRST
        .saturating_mul(1 << doublings)
        .min(HOST_BACKOFF_MAX);
    full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_never_end() {
        assert_eq!(delay(1, 1.0), HOST_BACKOFF_FIRST);
        assert_eq!(delay(2, 1.0), HOST_BACKOFF_FIRST * 2);
        assert_eq!(delay(5, 0.0), HOST_BACKOFF_FIRST * 8);
        assert_eq!(delay(40, 1.0), HOST_BACKOFF_MAX);
        assert_eq!(delay(u32::MAX, 1.0), HOST_BACKOFF_MAX);
        assert!(delay(0, 0.0) >= HOST_BACKOFF_FIRST / 2);
    }
}
