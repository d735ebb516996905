//! What the directory says is not always to be believed: see [`super::super::witness`].

use std::{sync::PoisonError, time::Instant};

use super::{Directory, Fetched, fetch};
use crate::{
    atproto::did::{Did, Method},
    limits,
};

impl Directory {
    /// What the directory says of an account that it does not have, where it is to be believed.
    pub(super) fn doubt(&self, did: &Did, fetched: Fetched) -> Fetched {
        let came = Instant::now();
        let (believed_alone, words) = match &fetched {
            _ if did.method() != Method::Plc => return fetched,
            Fetched::Missing(missing) => (true, missing.reject().name()),
            Fetched::Invalid(words) => (false, words.as_str()),
            Fetched::Found(_) | Fetched::Limited(_) | Fetched::Unreachable(_) => return fetched,
        };
        // Where there is no witness yet, that there is nothing is believed; nonsense never is.
        if self.is_honest(did, came).unwrap_or(believed_alone) {
            return fetched;
        }
        self.metrics.identity_doubted.inc();
        Fetched::Unreachable(format!("the directory is not believed: {words}"))
    }

    /// Whether the directory still knows whom it knew before; nothing where it knew nobody. What it
    /// said came at `came`.
    fn is_honest(&self, did: &Did, came: Instant) -> Option<bool> {
        let state = self.lock();
        let witnesses = state.witnesses.besides(did);
        if witnesses.is_empty() {
            return None;
        }
        // Nobody is asked while it wants to be left alone.
        if state.lookups.is_plc_paused((self.clock)()) {
            return Some(false);
        }
        drop(state);
        // Others who come meanwhile wait here, and mostly find that this has answered them too.
        let mut honesty = self.honesty.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = honesty.judge(came) {
            return Some(verdict);
        }
        let asked = Instant::now();
        let good = self.knows_one_of(&witnesses);
        honesty.note(asked, good);
        Some(honesty.judge(came).unwrap_or(false))
    }

    fn knows_one_of(&self, witnesses: &[Did]) -> bool {
        // One answer's time for all of them: lookups of others wait meanwhile.
        let deadline = Instant::now() + limits::IDENTITY_FIRST_TIMEOUT;
        for (n, witness) in witnesses.iter().enumerate() {
            let (now, began) = ((self.clock)(), Instant::now());
            let timeout = deadline.saturating_duration_since(began);
            let fetched = fetch(&self.outbound, witness, timeout, now);
            self.count(witness, &fetched, began.elapsed());
            match fetched {
                Fetched::Found(_) => {
                    let mut state = self.lock();
                    let gone = &witnesses[..n];
                    gone.iter().for_each(|did| state.witnesses.remove(did));
                    return true;
                }
                // This account may be gone for good: the others will tell.
                Fetched::Missing(_) | Fetched::Invalid(_) => {}
                Fetched::Limited(wanted) => {
                    self.lock().lookups.pause_plc(wanted, now);
                    self.wake_timer();
                    return false;
                }
                Fetched::Unreachable(_) => return false,
            }
        }
        log::warn!(
            "the directory answers, but does not know accounts that it knew before: events of new \
             accounts wait"
        );
        false
    }
}
