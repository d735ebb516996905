//! What unit tests of several parts need.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Nothing that happens at all takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so. A test that waits for ever would stop all the others, and say nothing.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
