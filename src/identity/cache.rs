//! The documents that are known, and how long each is believed.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::sync::Cache as QuickCache;

use super::{
    document::Identity,
    lookups::Doubt,
    outcome::{Missing, Outcome},
};
use crate::{
    atproto::did::{Did, Method},
    limits,
};

/// What one entry of the cache costs, in bytes, measured with 500,000 of them in a running relay, where
/// one in 32 had a P-256 key: the key of such an account alone is some hundred bytes more.
pub const CACHE_ENTRY_BYTES: u64 = 330;

/// A bounded cache of outcomes; which entries go is quick_cache's choice (those not used again).
pub(super) struct Cache {
    entries: QuickCache<Key, Entry>,
}

/// A DID as the cache knows it, in 16 bytes: the 120 bits of a `did:plc`, and of any other the
/// beginning of its SHA-256, with the first bit set to tell the two apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key([u64; 2]);

impl Key {
    fn of(did: &Did) -> Key {
        const OTHER: u128 = 1 << 127;
        if let (Method::Plc, Some(id)) = (did.method(), did.as_str().strip_prefix("did:plc:")) {
            let digit = |c: u8| {
                if c.is_ascii_digit() {
                    c - b'2' + 26
                } else {
                    c - b'a'
                }
            };
            return Key::from(id.bytes().fold(0, |n, c| (n << 5) | u128::from(digit(c))));
        }
        let mut first = [0; 16];
        first.copy_from_slice(&digest(&SHA256, did.as_str().as_bytes()).as_ref()[..16]);
        Key::from(u128::from_be_bytes(first) | OTHER)
    }
}

impl From<u128> for Key {
    /// In two halves: a u128 would be aligned to 16 bytes, and an entry as much larger.
    fn from(bits: u128) -> Key {
        Key([(bits >> 64) as u64, bits as u64])
    }
}

#[derive(Clone, Debug)]
struct Entry {
    outcome: Outcome,
    /// Until when the outcome is believed, in milliseconds since 1970. After that a document is
    /// stale but used, unless it is purged; anything else is forgotten.
    until: u64,
    /// The document may have changed: it is of use only while the directory does not answer.
    purged: bool,
    /// There were too many purges for one more, which is put off to `until`.
    put_off: bool,
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
        let Some(entry) = self.entries.get(&Key::of(did)) else {
            return Known::Nothing;
        };
        let found = matches!(entry.outcome, Outcome::Found(_));
        if now_ms < entry.until {
            // A document can be doubted by what fails by it; nothing else can.
            match entry.put_off && !found {
                true => Known::Nothing,
                false => Known::Fresh(entry.outcome),
            }
        } else if entry.purged || entry.put_off || !found {
            Known::Nothing
        } else {
            Known::Stale(entry.outcome)
        }
    }

    /// Whether a purge would change anything.
    pub(super) fn can_be_purged(&self, did: &Did, now_ms: u64) -> bool {
        let known = !matches!(self.get(did, now_ms), Known::Nothing);
        known || self.put_off_until(did, now_ms).is_some()
    }

    /// When the directory may be asked again, where a purge was put off.
    pub(super) fn put_off_until(&self, did: &Did, now_ms: u64) -> Option<u64> {
        let entry = self.entries.get(&Key::of(did))?;
        (entry.put_off && now_ms < entry.until).then_some(entry.until)
    }

    /// Whether there is a document that was purged, so that it serves at best for want of another.
    pub(super) fn is_purged(&self, did: &Did) -> bool {
        self.entries
            .get(&Key::of(did))
            .is_some_and(|entry| entry.purged)
    }

    /// Whether there is a document, whatever is thought of it.
    pub(super) fn has_document(&self, did: &Did) -> bool {
        let entry = self.entries.get(&Key::of(did));
        entry.is_some_and(|entry| matches!(entry.outcome, Outcome::Found(_)))
    }

    /// Keeps a document, with the doubt that came up while it was fetched.
    pub(super) fn found(&self, did: &Did, identity: Arc<Identity>, doubt: Doubt, now_ms: u64) {
        let fresh = after(now_ms, limits::IDENTITY_FRESH);
        let entry = Entry {
            until: match doubt {
                Doubt::None => fresh,
                Doubt::From(due) => fresh.min(due),
                Doubt::Now => 0,
            },
            purged: doubt == Doubt::Now,
            put_off: matches!(doubt, Doubt::From(_)),
            outcome: Outcome::Found(identity),
        };
        self.entries.insert(Key::of(did), entry);
    }

    /// Keeps that there is no document, or that nobody answered for a long time, unless that is in
    /// doubt at once.
    pub(super) fn absent(&self, did: &Did, outcome: Outcome, doubt: Doubt, now_ms: u64) {
        let fresh = after(now_ms, limits::IDENTITY_MISSING_FRESH);
        let until = match doubt {
            Doubt::None => fresh,
            Doubt::From(due) => fresh.min(due),
            Doubt::Now => return,
        };
        let entry = Entry {
            outcome,
            until,
            purged: false,
            put_off: doubt != Doubt::None,
        };
        self.entries.insert(Key::of(did), entry);
    }

    /// The same of what is missing for good.
    pub(super) fn missing(&self, did: &Did, missing: Missing, doubt: Doubt, now_ms: u64) {
        self.absent(did, Outcome::Missing(missing), doubt, now_ms);
    }

    /// The last good document, which is used for a while longer because nobody answered.
    pub(super) fn hold(&self, did: &Did, now_ms: u64) -> Option<Arc<Identity>> {
        let entry = self.entries.get(&Key::of(did))?;
        let Outcome::Found(identity) = &entry.outcome else {
            return None;
        };
        let identity = identity.clone();
        let entry = Entry {
            until: entry.until.max(after(now_ms, limits::IDENTITY_STALE_RETRY)),
            purged: entry.purged || entry.put_off,
            put_off: false,
            ..entry
        };
        self.entries.insert(Key::of(did), entry);
        Some(identity)
    }

    /// Believes nothing of `did` any more before the directory has been asked again.
    pub(super) fn purge(&self, did: &Did) {
        match self.entries.get(&Key::of(did)) {
            Some(entry) if matches!(entry.outcome, Outcome::Found(_)) => {
                let entry = Entry {
                    until: 0,
                    purged: true,
                    put_off: false,
                    ..entry
                };
                self.entries.insert(Key::of(did), entry);
            }
            Some(_) => {
                self.entries.remove(&Key::of(did));
            }
            None => {}
        }
    }

    /// The same from `due` on. Until then a document is used; that there is none is not believed.
    pub(super) fn put_off(&self, did: &Did, due: u64) {
        if let Some(entry) = self.entries.get(&Key::of(did)) {
            let entry = Entry {
                until: entry.until.min(due),
                put_off: true,
                ..entry
            };
            self.entries.insert(Key::of(did), entry);
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
    fn every_did_has_a_key_of_its_own() {
        let key = |text: &str| Key::of(&Did::parse(text).unwrap());
        let keys = [
            key("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"),
            key("did:plc:aaaaaaaaaaaaaaaaaaaaaaab"),
            key("did:plc:7aaaaaaaaaaaaaaaaaaaaaaa"),
            key("did:plc:77777777777777777777777z"),
            key("did:web:aaaaaaaaaaaaaaaaaaaaaaaa"),
            key("did:web:example.com"),
            // Not one of the directory's, and not to be mistaken for one.
            key("did:plc:aaaaaaaaaaaaaaaaaaaaaaa"),
        ];
        assert_eq!(keys[0], Key::from(0));
        assert_eq!(keys[1], Key::from(1));
        assert_eq!(keys[2], Key::from(31 << 115));
        let distinct: std::collections::HashSet<Key> = keys.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn a_document_goes_stale_and_what_is_missing_is_forgotten() {
        let cache = Cache::new(10);
        let fresh = after(0, limits::IDENTITY_FRESH);
        let missing = after(0, limits::IDENTITY_MISSING_FRESH);
        assert_eq!(known(&cache, NOW), "nothing");
        cache.found(&did(), identity(), Doubt::None, NOW);
        assert_eq!(known(&cache, NOW + fresh - 1), "fresh");
        assert_eq!(known(&cache, NOW + fresh), "stale");
        cache.missing(&did(), Missing::NotFound, Doubt::None, NOW);
        assert_eq!(known(&cache, NOW + missing - 1), "missing");
        assert_eq!(known(&cache, NOW + missing), "nothing");
        cache.absent(&did(), Outcome::Unreachable, Doubt::None, NOW);
        assert_eq!(known(&cache, NOW + missing - 1), "unreachable");
        assert_eq!(known(&cache, NOW + missing), "nothing");
    }

    #[test]
    fn a_purged_document_serves_only_while_nobody_answers() {
        let cache = Cache::new(10);
        let retry = after(0, limits::IDENTITY_STALE_RETRY);
        cache.found(&did(), identity(), Doubt::None, NOW);
        cache.purge(&did());
        assert_eq!(known(&cache, NOW), "nothing");
        assert!(cache.hold(&did(), NOW).is_some());
        assert_eq!(known(&cache, NOW + retry - 1), "fresh");
        assert_eq!(known(&cache, NOW + retry), "nothing");
        cache.found(&did(), identity(), Doubt::None, NOW + retry);
        assert_eq!(known(&cache, NOW + retry), "fresh");
    }

    #[test]
    fn a_failed_refresh_is_not_repeated_at_once() {
        let cache = Cache::new(10);
        cache.found(&did(), identity(), Doubt::None, NOW);
        let later = NOW + after(0, limits::IDENTITY_FRESH);
        assert_eq!(known(&cache, later), "stale");
        assert!(cache.hold(&did(), later).is_some());
        assert_eq!(known(&cache, later), "fresh");
        let retry = after(later, limits::IDENTITY_STALE_RETRY);
        assert_eq!(known(&cache, retry), "stale");
        // Holding never shortens the life of a good document.
        cache.found(&did(), identity(), Doubt::None, NOW);
        assert!(cache.hold(&did(), NOW).is_some());
        assert_eq!(
            known(&cache, NOW + after(0, limits::IDENTITY_STALE_RETRY)),
            "fresh"
        );
    }

    #[test]
    fn nothing_negative_outlives_a_purge() {
        let cache = Cache::new(10);
        cache.missing(&did(), Missing::BadDocument, Doubt::None, NOW);
        cache.purge(&did());
        assert_eq!(known(&cache, NOW), "nothing");
        assert!(cache.hold(&did(), NOW).is_none());
        cache.purge(&did());
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_document_asked_for_before_the_purge_is_purged() {
        let cache = Cache::new(10);
        cache.found(&did(), identity(), Doubt::Now, NOW);
        assert_eq!(known(&cache, NOW), "nothing");
        assert!(cache.hold(&did(), NOW).is_some());
    }

    #[test]
    fn a_purge_that_is_put_off_comes_in_time() {
        let cache = Cache::new(10);
        let due = NOW + 5000;
        // Where there is nothing, there is nothing to doubt.
        cache.put_off(&did(), due);
        assert!(!cache.can_be_purged(&did(), NOW));
        for doubt in [Doubt::None, Doubt::From(due)] {
            cache.found(&did(), identity(), doubt, NOW);
            cache.put_off(&did(), due);
            cache.put_off(&did(), due + 1);
            assert_eq!(cache.put_off_until(&did(), NOW), Some(due));
            assert_eq!(known(&cache, due - 1), "fresh");
            assert_eq!(known(&cache, due), "nothing");
            assert_eq!(cache.put_off_until(&did(), due), None);
            assert!(!cache.can_be_purged(&did(), due));
        }
        // Nobody answers: it is in use again, and known to be outdated.
        assert!(!cache.is_purged(&did()));
        assert!(cache.hold(&did(), due).is_some());
        assert_eq!(known(&cache, due), "fresh");
        assert!(cache.is_purged(&did()));
        cache.found(&did(), identity(), Doubt::None, due);
        assert_eq!(cache.put_off_until(&did(), due), None);
    }

    #[test]
    fn that_there_is_nothing_is_not_believed_while_a_purge_is_put_off() {
        let cache = Cache::new(10);
        let due = NOW + 5000;
        cache.missing(&did(), Missing::NotFound, Doubt::None, NOW);
        cache.put_off(&did(), due);
        assert_eq!(known(&cache, NOW), "nothing");
        assert_eq!(cache.put_off_until(&did(), NOW), Some(due));
        assert!(cache.can_be_purged(&did(), NOW));
        cache.purge(&did());
        assert_eq!(cache.put_off_until(&did(), NOW), None);
        cache.missing(&did(), Missing::NotFound, Doubt::Now, NOW);
        cache.absent(&did(), Outcome::Unreachable, Doubt::Now, NOW);
        assert_eq!(cache.len(), 0);
        cache.absent(&did(), Outcome::Unreachable, Doubt::From(due), NOW);
        assert_eq!(cache.put_off_until(&did(), due - 1), Some(due));
        assert_eq!(known(&cache, due), "nothing");
    }
}
