//! The documents that are known, and how long each is believed.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache as QuickCache;

use super::{
    directory::{Missing, Outcome},
    document::Identity,
};
use crate::{atproto::did::Did, limits};

/// A bounded cache of outcomes; which entries go is quick_cache's choice (those not used again).
///
/// One entry costs about 400 bytes, measured: an [`Identity`] (150), its texts (50 each), and the
/// entry in the table (80). With a P-256 key, which few accounts have, it is 570.
pub(super) struct Cache {
    entries: QuickCache<Did, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    outcome: Outcome,
    /// Until when the outcome is believed, in milliseconds since 1970. After that a document is
    /// stale but used, unless it is purged; anything else is forgotten.
    until: u64,
    /// The document may have changed: it is of use only while the directory does not answer.
    purged: bool,
}

/// What is known of a DID.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// This, and there is no need to ask.
    Fresh(Outcome),
    /// This, but it is time to ask again.
    Stale(Outcome),
    /// Nothing of use before the directory has been asked.
    Nothing,
}

impl Cache {
    /// A cache for `capacity` outcomes.
    pub(super) fn new(capacity: usize) -> Cache {
        Cache {
            entries: QuickCache::new(capacity),
        }
    }

    /// What is known at `now_ms`.
    pub(super) fn get(&self, did: &Did, now_ms: u64) -> Known {
        let Some(entry) = self.entries.get(did) else {
            return Known::Nothing;
        };
        if now_ms < entry.until {
            Known::Fresh(entry.outcome)
        } else if entry.purged || !matches!(entry.outcome, Outcome::Found(_)) {
            Known::Nothing
        } else {
            Known::Stale(entry.outcome)
        }
    }

    /// Whether there is a document that was purged, so that it serves at best for want of another.
    pub(super) fn is_purged(&self, did: &Did) -> bool {
        self.entries.get(did).is_some_and(|entry| entry.purged)
    }

    /// Keeps a document. One that is `outdated` (it was asked for before the last purge) is purged
    /// from the beginning.
    pub(super) fn found(&self, identity: Arc<Identity>, outdated: bool, now_ms: u64) {
        let did = identity.did.clone();
        let until = if outdated {
            0
        } else {
            after(now_ms, limits::IDENTITY_FRESH)
        };
        let outcome = Outcome::Found(identity);
        let purged = outdated;
        self.entries.insert(
            did,
            Entry {
                outcome,
                until,
                purged,
            },
        );
    }

    /// Keeps that there is no document.
    pub(super) fn missing(&self, did: &Did, missing: Missing, now_ms: u64) {
        self.absent(did, Outcome::Missing(missing), now_ms);
    }

    /// Keeps that nobody answered for a long time.
    pub(super) fn unreachable(&self, did: &Did, now_ms: u64) {
        self.absent(did, Outcome::Unreachable, now_ms);
    }

    fn absent(&self, did: &Did, outcome: Outcome, now_ms: u64) {
        let entry = Entry {
            outcome,
            until: after(now_ms, limits::IDENTITY_MISSING_FRESH),
            purged: false,
        };
        self.entries.insert(did.clone(), entry);
    }

    /// The last good document, which is used for a while longer because nobody answered.
    pub(super) fn hold(&self, did: &Did, now_ms: u64) -> Option<Arc<Identity>> {
        let entry = self.entries.get(did)?;
        let Outcome::Found(identity) = &entry.outcome else {
            return None;
        };
        let identity = identity.clone();
        let until = entry.until.max(after(now_ms, limits::IDENTITY_STALE_RETRY));
        self.entries.insert(did.clone(), Entry { until, ..entry });
        Some(identity)
    }

    /// Believes nothing of `did` any more before the directory has been asked again.
    pub(super) fn purge(&self, did: &Did) {
        match self.entries.get(did) {
            Some(entry) if matches!(entry.outcome, Outcome::Found(_)) => {
                let entry = Entry {
                    until: 0,
                    purged: true,
                    ..entry
                };
                self.entries.insert(did.clone(), entry);
            }
            Some(_) => {
                self.entries.remove(did);
            }
            None => {}
        }
    }

    /// How many outcomes are kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn after(now_ms: u64, duration: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn did() -> Did {
        Did::parse("did:plc:ewvi7nxzyoun6zhxrhs64oiz").unwrap()
    }

    fn identity() -> Arc<Identity> {
        let json = format!("{{\"id\":\"{}\"}}", did());
        Arc::new(Identity::parse(&did(), json.as_bytes(), NOW).unwrap())
    }

    fn known(cache: &Cache, now_ms: u64) -> &'static str {
        match cache.get(&did(), now_ms) {
            Known::Fresh(Outcome::Found(_)) => "fresh",
            Known::Fresh(Outcome::Missing(_)) => "missing",
            Known::Fresh(Outcome::Unreachable) => "unreachable",
            Known::Stale(Outcome::Found(_)) => "stale",
            Known::Stale(_) => "impossible",
            Known::Nothing => "nothing",
        }
    }

    #[test]
    fn a_document_goes_stale_and_what_is_missing_is_forgotten() {
        let cache = Cache::new(10);
        let fresh = after(0, limits::IDENTITY_FRESH);
        let missing = after(0, limits::IDENTITY_MISSING_FRESH);
        assert_eq!(known(&cache, NOW), "nothing");
        cache.found(identity(), false, NOW);
        assert_eq!(known(&cache, NOW + fresh - 1), "fresh");
        assert_eq!(known(&cache, NOW + fresh), "stale");
        cache.missing(&did(), Missing::NotFound, NOW);
        assert_eq!(known(&cache, NOW + missing - 1), "missing");
        assert_eq!(known(&cache, NOW + missing), "nothing");
        cache.unreachable(&did(), NOW);
        assert_eq!(known(&cache, NOW + missing - 1), "unreachable");
        assert_eq!(known(&cache, NOW + missing), "nothing");
    }

    #[test]
    fn a_purged_document_serves_only_while_nobody_answers() {
        let cache = Cache::new(10);
        let retry = after(0, limits::IDENTITY_STALE_RETRY);
        cache.found(identity(), false, NOW);
        cache.purge(&did());
        assert_eq!(known(&cache, NOW), "nothing");
        assert!(cache.hold(&did(), NOW).is_some());
        assert_eq!(known(&cache, NOW + retry - 1), "fresh");
        assert_eq!(known(&cache, NOW + retry), "nothing");
        cache.found(identity(), false, NOW + retry);
        assert_eq!(known(&cache, NOW + retry), "fresh");
    }

    #[test]
    fn a_failed_refresh_is_not_repeated_at_once() {
        let cache = Cache::new(10);
        cache.found(identity(), false, NOW);
        let later = NOW + after(0, limits::IDENTITY_FRESH);
        assert_eq!(known(&cache, later), "stale");
        assert!(cache.hold(&did(), later).is_some());
        assert_eq!(known(&cache, later), "fresh");
        let retry = after(later, limits::IDENTITY_STALE_RETRY);
        assert_eq!(known(&cache, retry), "stale");
        // Holding never shortens the life of a good document.
        cache.found(identity(), false, NOW);
        assert!(cache.hold(&did(), NOW).is_some());
        assert_eq!(
            known(&cache, NOW + after(0, limits::IDENTITY_STALE_RETRY)),
            "fresh"
        );
    }

    #[test]
    fn nothing_negative_outlives_a_purge() {
        let cache = Cache::new(10);
        cache.missing(&did(), Missing::BadDocument, NOW);
        cache.purge(&did());
        assert_eq!(known(&cache, NOW), "nothing");
        assert!(cache.hold(&did(), NOW).is_none());
        cache.purge(&did());
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_document_asked_for_before_the_purge_is_purged() {
        let cache = Cache::new(10);
        cache.found(identity(), true, NOW);
        assert_eq!(known(&cache, NOW), "nothing");
        assert!(cache.hold(&did(), NOW).is_some());
    }
}
