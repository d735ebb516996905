//! Asking a relay to crawl many hosts, several at a time.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::relay::Client;
use crate::threads::{self, Role, Stop};

/// Requests under way at the same time: fewer than a relay may refuse.
const THREADS: usize = 8;
/// Requests that failed, after which the relay is not asked to crawl any further host.
const REFUSALS_MAX: usize = 16;
/// The stack of a thread that asks, in bytes.
const STACK_BYTES: usize = 512 << 10;

/// Asks for every host; the first refusal, if there was any. After many nobody asks any more.
pub(super) fn ask(urls: Vec<String>, client: &Client, stop: &Stop) -> io::Result<Option<String>> {
    let urls = Arc::new(urls);
    let next = Arc::new(AtomicUsize::new(0));
    let first = Arc::new(OnceLock::new());
    let refusals = Arc::new(AtomicUsize::new(0));
    let threads: io::Result<Vec<_>> = (0..THREADS)
        .map(|_| {
            let (urls, next) = (urls.clone(), next.clone());
            let (first, refusals) = (first.clone(), refusals.clone());
            let (client, stop) = (client.clone(), stop.clone());
            threads::spawn(Role::Simulator, "crawl", STACK_BYTES, move || {
                while let Some(url) = urls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let many = refusals.load(Ordering::Relaxed) >= REFUSALS_MAX;
                    if many || stop.requested() {
                        return;
                    }
                    if let Err(error) = client.request_crawl_of(url) {
                        refusals.fetch_add(1, Ordering::Relaxed);
                        let _ = first.set(format!("{url}: {error}"));
                    }
                }
            })
        })
        .collect();
    drop(threads?);
    Ok(first.get().cloned())
}
