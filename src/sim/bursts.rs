//! Times with more events than usual.

use std::time::Duration;

/// Bursts, each at the end of a period.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bursts {
    /// Events a second meanwhile, over all hosts.
    pub rate: f64,
    /// From the beginning of one period to that of the next.
    pub every: Duration,
    /// How long they last.
    pub length: Duration,
}

impl Bursts {
    /// Whether there is one, so long after the start.
    pub(super) fn is_on(&self, since_start: Duration) -> bool {
        let every = self.every.as_nanos().max(1);
        since_start.as_nanos() % every >= every.saturating_sub(self.length.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_at_the_end_of_their_periods() {
        let bursts = Bursts {
            rate: 2_000.0,
            every: Duration::from_secs(120),
            length: Duration::from_secs(10),
        };
        let seconds = [0, 109, 110, 119, 120, 229, 230];
        let on = seconds.map(|second| bursts.is_on(Duration::from_secs(second)));
        assert_eq!(on, [false, false, true, true, false, false, true]);
    }
}
