//! Threads that share what the relay's threads share. `just tsan` runs this under the thread sanitizer.

use zlay_fuzz::relay_under_load;

#[test]
#[cfg_attr(miri, ignore = "waits for an eventfd")]
fn nothing_is_lost_between_hosts_and_subscribers() {
    for round in 0..20 {
        // With a ring for all, and with one that most have to read the store behind.
        let ring_bytes = if round % 2 == 0 { 16 << 20 } else { 500 };
        relay_under_load(3, 300, 3, ring_bytes);
    }
}
