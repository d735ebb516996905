//! Bounds of what is shown, and of the lists that queries are answered with.

use std::time::Duration;

/// What is kept of the DID of a host's last refused event, in characters.
pub const REFUSAL_DID_CHARS_MAX: usize = 128;
/// For so many further reasons there is room at once where a host's last refusal of each is kept.
pub const HOST_REFUSALS_STEP: usize = 8;
/// Accounts whose last refused event is remembered, for their pages; beyond, the oldest of the host that
/// has the most is forgotten. Some 300 bytes each.
pub const REFUSED_ACCOUNTS_MAX: usize = 10_000;
/// Changes of a host's state that its page shows.
pub const TIMELINE_ENTRIES_MAX: usize = 8;
/// What is kept of the reason of each, in characters.
pub const TIMELINE_WHY_CHARS_MAX: usize = 200;
/// How often the status page's numbers are sampled.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// Samples that are kept: ten minutes.
pub const SAMPLES_MAX: usize = 300;
/// Samples of delays that are kept: one minute.
pub const DELAY_SAMPLES: usize = 30;
/// Samples after which the hosts' own rates are taken: ten seconds.
pub const SAMPLES_PER_HOST_RATE: u64 = 5;
/// What a page shows is at most this old, and is computed once for all who look meanwhile.
pub const SNAPSHOT_AGE_MAX: Duration = Duration::from_secs(1);
/// Hosts on a page of their list.
pub const HOSTS_PAGE_SIZE: usize = 100;
/// The longest text that the list of hosts is searched for, in bytes: a hostname.
pub const HOSTS_FILTER_BYTES_MAX: usize = 253;
/// Accounts that wait for a place at their host are counted up to this.
pub const WAITING_SHOWN_MAX: usize = 1_000;

/// Hosts of one page of listHosts; who asks for more is answered 400.
pub const LIST_HOSTS_MAX: usize = 1_000;
/// Hosts of one page of listHosts where no number is given.
pub const LIST_HOSTS_DEFAULT: usize = 200;
/// Accounts of one page of listRepos; who asks for more is answered 400.
pub const LIST_REPOS_MAX: usize = 1_000;
/// Accounts of one page of listRepos where no number is given.
pub const LIST_REPOS_DEFAULT: usize = 500;
/// Accounts that listRepos looks at for one page that has some, more or less; beyond, it ends early.
pub const LIST_REPOS_SCAN_MAX: usize = 4_000;
/// Accounts that listRepos looks at for one page that has none yet: some seconds at the worst, where
/// the disk is asked for each of them.
pub const LIST_REPOS_EMPTY_SCAN_MAX: usize = 50_000;
/// Accounts of one page of listReposByCollection; who asks for more is answered 400.
pub const LIST_COLLECTION_MAX: usize = 2_000;
/// Accounts of one page of listReposByCollection where no number is given.
pub const LIST_COLLECTION_DEFAULT: usize = 500;
/// Accounts, hidden ones included, that listReposByCollection looks at in one scan; beyond, a page that
/// has some ends early, and another scan begins for one that has none.
pub const LIST_COLLECTION_SCAN_MAX: usize = 10_000;
/// The same where nothing but gaps is found, in numbers of the collection.
pub const LIST_COLLECTION_SPAN_MAX: u64 = 1 << 18;
/// Accounts that listRepos reads at once, at least.
pub const LIST_REPOS_CHUNK: usize = 100;
/// Accounts that are looked up together: the blocks in which they are found, of 4 KiB each, are all in
/// memory meanwhile, beside the cache where it has no room for them.
pub const LOOKUPS_MAX: usize = 128;

const _: () = assert!(LIST_COLLECTION_MAX < LIST_COLLECTION_SCAN_MAX);
