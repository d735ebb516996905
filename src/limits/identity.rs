//! Bounds of the directory of identities.

use std::time::Duration;

/// A lookup of a DID document, everything together: the first attempt, which any thread may make.
pub const IDENTITY_FIRST_TIMEOUT: Duration = Duration::from_secs(4);
/// An attempt at what has failed before, which at most half of the threads make.
pub const IDENTITY_LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Lookups of one host that are passed over because their site is being asked already.
pub const IDENTITY_LOOK_AHEAD: usize = 64;
/// Lookups that a host may cause at once of accounts that turn out not to be its own; and one more for
/// each account that does. Beyond, its lookups wait, and no other host's.
pub const IDENTITY_STRANGERS_BURST: u32 = 240;
/// With all accounts that it has, not more than so many.
pub const IDENTITY_STRANGERS_BURST_MAX: u32 = 96_000;
/// The time after which there may be one more, where the host has no account; with more accounts it
/// is as much shorter as there may be more at once: after eight minutes there may be as many again.
pub const IDENTITY_STRANGERS_REFILL: Duration = Duration::from_secs(2);
/// A DID document, in bytes.
pub const IDENTITY_DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// A document this old is fetched again in the background when its account is next heard of.
pub const IDENTITY_FRESH: Duration = Duration::from_secs(24 * 3600);
/// Names of hosts in documents that are kept once for all documents with them; beyond, this begins
/// anew, and some names are in memory twice.
pub const IDENTITY_HOSTS_MAX: usize = 65_536;
/// How long "there is no such identity" is believed.
pub const IDENTITY_MISSING_FRESH: Duration = Duration::from_secs(120);
/// Lookups that wait for a resolver thread; beyond, hosts with unknown accounts wait.
pub const IDENTITY_QUEUE_MAX: usize = 65_536;
/// Once lookups have become so few again, the hosts that wait go on.
pub const IDENTITY_QUEUE_REFILL: usize = IDENTITY_QUEUE_MAX / 16 * 15;
/// Forced refreshes of one account on behalf of one host: at most one in this time.
pub const IDENTITY_FORCED_INTERVAL: Duration = Duration::from_secs(30);

/// The first delay before a lookup that failed is tried again; it doubles with each further one.
pub const IDENTITY_RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest delay between two attempts at one lookup.
pub const IDENTITY_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long the PLC directory is left alone after it has answered that we ask too much, and not for
/// how long we should not.
pub const IDENTITY_LIMITED_PAUSE: Duration = Duration::from_secs(5);
/// The shortest pause that it can ask for.
pub const IDENTITY_LIMITED_PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest one: events of new accounts wait meanwhile.
pub const IDENTITY_LIMITED_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Accounts that the directory knew lately. If it knows none of them any more, it is not believed
/// that another does not exist.
pub const IDENTITY_WITNESSES: usize = 4;
/// Accounts of the store, the latest, among which such accounts are looked for at the start.
pub const IDENTITY_WITNESSES_SOUGHT: usize = 64;
/// How long a `did:web` host may fail before its events are refused. The PLC directory is asked for
/// ever: without it nothing can be verified, and everybody waits.
pub const IDENTITY_WEB_PATIENCE: Duration = Duration::from_secs(60);
/// How long a `did:web` host may serve something that is no document before its events are refused.
pub const IDENTITY_INVALID_PATIENCE: Duration = Duration::from_secs(10);
/// How long an old document is used before a directory that did not answer is asked again.
pub const IDENTITY_STALE_RETRY: Duration = Duration::from_secs(60);
/// Lookups that wait while background refreshes are still added; beyond, old documents stay old.
pub const IDENTITY_REFRESH_QUEUE_MAX: usize = 1_024;
/// Forced refreshes that one host may cause at once; beyond, its events that need one are refused.
pub const IDENTITY_FORCED_BURST: u32 = 60;
/// The time after which a host may cause one more forced refresh.
pub const IDENTITY_FORCED_REFILL: Duration = Duration::from_secs(1);
/// `#identity` events of one account on behalf of one host that count at once. What comes beyond
/// is forwarded like the others, but the document stays in use for a while longer.
pub const IDENTITY_PURGE_ACCOUNT_BURST: u32 = 16;
/// The time after which one more counts.
pub const IDENTITY_PURGE_ACCOUNT_REFILL: Duration = Duration::from_secs(2);
/// The same for all accounts on behalf of one host together.
pub const IDENTITY_PURGE_HOST_BURST: u32 = 1_200;
/// The time after which one more counts.
pub const IDENTITY_PURGE_HOST_REFILL: Duration = Duration::from_millis(50);
/// Hosts, and accounts, whose recent forced refreshes and `#identity` events are remembered; beyond,
/// no refreshes are made, and documents stay in use a little longer.
pub const IDENTITY_ALLOWANCE_MAX: usize = 65_536;

const _: () = assert!(IDENTITY_REFRESH_QUEUE_MAX < IDENTITY_QUEUE_MAX);
