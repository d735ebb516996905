//! A value that is computed at most once in a while, however many ask for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A shared value of a certain age at most. Who comes while it is computed waits for that, so that a
/// thousand who look cost one computation.
#[derive(Debug)]
pub(super) struct Fresh<T> {
    age_max: Duration,
    last: Mutex<Option<(Instant, Arc<T>)>>,
}

impl<T> Fresh<T> {
    /// Nothing yet; what is computed later is given out until it is older than `age_max`.
    pub(super) fn new(age_max: Duration) -> Fresh<T> {
        Fresh {
            age_max,
            last: Mutex::new(None),
        }
    }

    /// The value, which is computed where the last one is too old. An error is not kept.
    pub(super) fn get<E>(
        &self,
        now: Instant,
        compute: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, value)) = &*last
            && now.saturating_duration_since(*at) < self.age_max
        {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(compute()?);
        *last = Some((now, Arc::clone(&value)));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn many_who_look_at_once_cost_one_computation() {
        let fresh = Fresh::new(Duration::from_secs(60));
        let computed = AtomicU32::new(0);
        let now = Instant::now();
        let look = |now| {
            fresh.get(now, || {
                Ok::<_, ()>(computed.fetch_add(1, Ordering::Relaxed))
            })
        };
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| assert_eq!(look(now).as_deref(), Ok(&0)));
            }
        });
        assert_eq!(look(now + Duration::from_secs(59)).as_deref(), Ok(&0));
        assert_eq!(look(now + Duration::from_secs(60)).as_deref(), Ok(&1));
    }

    #[test]
    fn an_error_is_not_kept() {
        let fresh = Fresh::new(Duration::from_secs(60));
        let now = Instant::now();
        assert_eq!(fresh.get(now, || Err::<u8, _>("no")), Err("no"));
        assert_eq!(fresh.get(now, || Ok::<_, ()>(1)).as_deref(), Ok(&1));
    }
}
