//! What another service lists.

use super::page::Page;

/// A page of either list, as a backfill reads it.
pub fn page(bytes: &[u8]) {
    let Ok(page) = serde_json::from_slice::<Page>(bytes) else {
        return;
    };
    let (dids, unnamed) = page.dids();
    let (entries, malformed) = page.entries();
    assert_eq!(dids.len() as u64 + unnamed, page.len() as u64);
    assert_eq!(entries.len() as u64 + malformed, page.len() as u64);
    assert!(entries.iter().all(|entry| dids.contains(&entry.did)));
    let next = page.next(None);
    assert_eq!(page.next(next.as_deref()), None, "it would not end");
}
