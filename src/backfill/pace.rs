//! How fast a backfill goes, and what it does about a page that could not be read. Pure.

use std::time::Duration;

use crate::{
    limits::{
        BACKFILL_ACCOUNTS_A_SECOND, BACKFILL_BACKOFF_FIRST, BACKFILL_BACKOFF_MAX,
        BACKFILL_RETRY_AFTER_MAX, BACKFILL_UNREADABLE_TRIES,
    },
    outbound::{
        FetchError,
        pages::{PageFailure, backoff},
    },
};

/// How long to rest after so many entries that took `spent`.
pub(super) fn rest(entries: usize, spent: Duration) -> Duration {
    let due = Duration::from_secs(1).mul_f64(entries as f64 / BACKFILL_ACCOUNTS_A_SECOND as f64);
    due.saturating_sub(spent)
}

/// How often a page is tried that may be there later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// Until there is an answer: there is nobody else to ask.
    Endless,
    /// So many times.
    Tries(u32),
}

/// What to do after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Ask again after this time.
    Again(Duration),
    /// Go on to the next list.
    GiveUp,
}

/// What to do after a page could not be read, after so many failures in a row before this one.
/// `jitter` is a random number in 0 to 1.
pub(super) fn after(failure: &PageFailure, failures: u32, patience: Patience, jitter: f64) -> Step {
    let tries = match failure {
        PageFailure::Status(408 | 425 | 429 | 500, _) => patience,
        // There is no such method, now and later.
        PageFailure::Status(501, _) => Patience::Tries(0),
        PageFailure::Status(502.., _) => patience,
        // It understands the question and refuses it, or sends us elsewhere.
        PageFailure::Status(..) => Patience::Tries(0),
        PageFailure::Json(_) | PageFailure::Fetch(FetchError::TooLarge) => {
            Patience::Tries(BACKFILL_UNREADABLE_TRIES)
        }
        PageFailure::Fetch(FetchError::Url) => Patience::Tries(0),
        PageFailure::Fetch(_) => patience,
    };
    if matches!(tries, Patience::Tries(tries) if failures + 1 >= tries) {
        return Step::GiveUp;
    }
    let own = backoff(
        failures,
        BACKFILL_BACKOFF_FIRST,
        BACKFILL_BACKOFF_MAX,
        jitter,
    );
    Step::Again(match failure {
        // What it asks for goes before what we think, but not to no time at all.
        PageFailure::Status(_, Some(asked)) => {
            (*asked).clamp(BACKFILL_BACKOFF_FIRST, BACKFILL_RETRY_AFTER_MAX)
        }
        _ => own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BACKFILL_HOST_TRIES;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_handed_on_in_a_second_is_bounded() {
        assert_eq!(rest(BACKFILL_ACCOUNTS_A_SECOND, Duration::ZERO), SECOND);
        assert_eq!(rest(BACKFILL_ACCOUNTS_A_SECOND, SECOND * 2), Duration::ZERO);
        assert_eq!(rest(0, Duration::ZERO), Duration::ZERO);
        let half = rest(BACKFILL_ACCOUNTS_A_SECOND / 2, SECOND / 4);
        assert_eq!(half, SECOND / 4);
    }

    #[test]
    fn a_service_that_is_down_or_busy_is_asked_again_for_ever() {
        let down = [
            PageFailure::Status(429, None),
            PageFailure::Status(500, None),
            PageFailure::Status(503, None),
            PageFailure::Fetch(FetchError::Timeout),
            PageFailure::Fetch(FetchError::Failed("refused".into())),
        ];
        for failure in &down {
            for failures in [0, 5, u32::MAX - 1] {
                let step = after(failure, failures, Patience::Endless, 1.0);
                let full = SECOND * (1 << failures.min(16));
                assert_eq!(step, Step::Again(full.min(BACKFILL_BACKOFF_MAX)));
            }
            let tries = Patience::Tries(BACKFILL_HOST_TRIES);
            let last = BACKFILL_HOST_TRIES - 1;
            assert_ne!(after(failure, last - 1, tries, 0.5), Step::GiveUp);
            assert_eq!(after(failure, last, tries, 0.5), Step::GiveUp);
        }
    }

    #[test]
    fn what_is_asked_for_wins_within_a_bound() {
        let step = |seconds| {
            let asked = PageFailure::Status(429, Some(Duration::from_secs(seconds)));
            after(&asked, 0, Patience::Endless, 0.0)
        };
        assert_eq!(step(77), Step::Again(SECOND * 77));
        assert_eq!(step(0), Step::Again(BACKFILL_BACKOFF_FIRST));
        assert_eq!(step(1 << 40), Step::Again(BACKFILL_RETRY_AFTER_MAX));
    }

    #[test]
    fn a_refusal_is_final_and_nonsense_is_after_a_few_tries() {
        for status in [301, 400, 401, 403, 404, 410, 501] {
            let refused = PageFailure::Status(status, None);
            assert_eq!(
                after(&refused, 0, Patience::Endless, 0.0),
                Step::GiveUp,
                "{status}"
            );
        }
        for nonsense in [
            PageFailure::Json("eof".into()),
            PageFailure::Fetch(FetchError::TooLarge),
        ] {
            let step = |failures| after(&nonsense, failures, Patience::Endless, 0.0);
            assert!(matches!(step(0), Step::Again(_)));
            assert_eq!(step(BACKFILL_UNREADABLE_TRIES - 1), Step::GiveUp);
        }
    }
}
