//! Bounds of the lists that are read from others: discovery and backfill.

use std::time::Duration;

use super::{BATCH_EVENTS_MAX, IDENTITY_REFRESH_QUEUE_MAX};

/// Hosts that are checked for requestCrawl at the same time; one more is answered 429.
pub const PROBES_MAX: usize = 16;
/// The check of a host, everything together.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a host may answer to the check, in bytes.
pub const PROBE_BODY_BYTES_MAX: usize = 64 << 10;
/// Hosts of the upstream relay that are checked at the same time.
pub const DISCOVERY_THREADS: usize = 16;
/// A page of the upstream relay's host list, everything together.
pub const DISCOVERY_PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// A page of the upstream relay's host list, in bytes.
pub const DISCOVERY_PAGE_BYTES_MAX: usize = 1 << 20;
/// Hosts that are taken from the upstream relay; the rest is left out.
pub const DISCOVERY_HOSTS_MAX: usize = 100_000;
/// The first delay after a page could not be read; it doubles with each further failure.
pub const DISCOVERY_BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest such delay.
pub const DISCOVERY_BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
/// How long after its end the list of the upstream relay is read on.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(4 * 3600);
/// How often it is read from its beginning: hosts that were refused may be different meanwhile.
pub const DISCOVERY_WHOLE_INTERVAL: Duration = Duration::from_secs(7 * 24 * 3600);

/// Entries of a list of collections or hosts that one backfill goes through; the rest is left out, and
/// the status says so.
pub const BACKFILL_ITEMS_MAX: usize = 100_000;
/// Accounts on one page of listRepos that is asked for: the most that its lexicon allows
/// (<https://docs.bsky.app/docs/api/com-atproto-sync-list-repos>).
pub const BACKFILL_REPOS_PAGE: usize = 1_000;
/// Accounts on one page of listReposByCollection that is asked for: the most that its lexicon allows
/// (<https://docs.bsky.app/docs/api/com-atproto-sync-list-repos-by-collection>).
pub const BACKFILL_COLLECTION_PAGE: usize = 2_000;
/// One such page, everything together: the service may have to look for long.
pub const BACKFILL_PAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// One such page, in bytes; a larger one can not be read. With the shortest DIDs it has a hundred
/// thousand, with the longest that there are in practice a few hundred.
pub const BACKFILL_PAGE_BYTES_MAX: usize = 4 << 20;
/// At least so much time lies between two questions to the same service.
pub const BACKFILL_PAGE_INTERVAL: Duration = Duration::from_millis(200);
/// Entries that a backfill hands to the sequencer in a second. One that is new takes it less than a tenth
/// of a millisecond, also without optimisation and on a busy machine, so this is a fifth of its time at
/// the most, and events do not wait for it.
pub const BACKFILL_ACCOUNTS_A_SECOND: usize = 2_500;
/// Entries that are handed to it at once, which takes it a few milliseconds. Events wait behind them.
pub const BACKFILL_IMPORT_MAX: usize = 50;
/// Between two lookups of documents for a backfill: hosts that are not trusted list accounts slower
/// than others for it, and live events do not.
pub const BACKFILL_LOOKUP_INTERVAL: Duration = Duration::from_millis(20);
/// The delay before a lookup is offered again to a directory that has too much to do.
pub const BACKFILL_LOOKUP_RETRY: Duration = Duration::from_secs(1);
/// Accounts that a host may list which is not trusted; the rest is left out.
pub const BACKFILL_UNTRUSTED_ACCOUNTS_MAX: u64 = 100_000;
/// The first delay after a page could not be read; it doubles with each further failure.
pub const BACKFILL_BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest such delay.
pub const BACKFILL_BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);
/// The longest delay that a service may ask for with Retry-After; a longer one is cut to it.
pub const BACKFILL_RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// Attempts at a page that is answered, and not to be understood; then its list is given up.
pub const BACKFILL_UNREADABLE_TRIES: u32 = 3;
/// Attempts at a page of a host's list; then the host is given up, as thousands of others wait.
pub const BACKFILL_HOST_TRIES: u32 = 3;
/// Lists that could not be read, and why, of which the status tells; the rest is only counted.
pub const BACKFILL_FAILURES_SHOWN: usize = 100;
/// How often a running backfill says in the log how far it is.
pub const BACKFILL_REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// How often the end of a backfill is offered to a control store that is away.
pub const BACKFILL_KEEP_RETRY: Duration = Duration::from_secs(5);

const _: () = assert!(BACKFILL_IMPORT_MAX < BATCH_EVENTS_MAX);
const _: () = assert!(BACKFILL_IMPORT_MAX <= IDENTITY_REFRESH_QUEUE_MAX);
const _: () = assert!(BACKFILL_BACKOFF_MAX.as_secs() < BACKFILL_RETRY_AFTER_MAX.as_secs());
