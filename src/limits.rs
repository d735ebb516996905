//! Every bound, named, with its unit and who suffers when it is reached. What a variable of the
//! configuration changes is in `config`; here is what no operator should have to think about.

use std::time::Duration;

use crate::metrics::histogram::Scale;

/// A whole websocket message, in bytes, in and out: the protocol's hard maximum
/// (<https://atproto.com/specs/sync#limits>). A host that sends more loses its connection.
pub const FRAME_BYTES_MAX: usize = 5_000_000;
/// `blocks` of a `#commit`, in bytes. A larger commit is rejected.
pub const COMMIT_BLOCKS_BYTES_MAX: usize = 2_000_000;
/// `blocks` of a `#sync`, in bytes. A larger event is rejected.
pub const SYNC_BLOCKS_BYTES_MAX: usize = 10_000;
/// `ops` of a `#commit`. A commit with more is rejected.
pub const COMMIT_OPS_MAX: usize = 200;
/// One record block, in bytes. A commit with a larger one is rejected.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// `status` of an `#account`, in bytes: it is kept for as long as the account is. A longer one is
/// rejected; the words in use have a dozen.
pub const ACCOUNT_STATUS_BYTES_MAX: usize = 1_024;
/// How far in the future a `rev` may lie.
pub const REV_DRIFT_MAX: Duration = Duration::from_secs(5 * 60);

/// Nesting of CBOR containers; deeper input is malformed.
pub const CBOR_DEPTH_MAX: usize = 32;
/// Entries of one tree node. More can only come from keys mined for it; the commit is rejected.
pub const MST_NODE_ENTRIES_MAX: usize = 1_024;
/// A key of the tree, in bytes.
pub const MST_KEY_BYTES_MAX: usize = 1_024;
/// The keys of all nodes of one commit, written out in full, in bytes: compressed they can be a
/// hundred times smaller. A commit with more is rejected.
pub const MST_KEYS_BYTES_MAX: usize = 16 << 20;

/// The read buffer of a host's websocket, in bytes; there is one per host. A message that does not
/// fit in, which few do, has a buffer of its own while it is read and proven.
pub const HOST_READ_BUFFER_BYTES: usize = 8 << 10;
/// The first room for such a message, in bytes, if it says that it is so long. The room doubles as
/// the message arrives.
pub const HOST_LARGE_MESSAGE_BYTES_FIRST: usize = 64 << 10;
/// What rustls may buffer for a host, in bytes.
pub const HOST_TLS_BUFFER_BYTES: usize = 16 << 10;
/// Resolving a host's name and connecting to one address of it.
pub const HOST_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// TLS and websocket handshakes with a host, together.
pub const HOST_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// A host that has been silent this long is pinged.
pub const HOST_PING_INTERVAL: Duration = Duration::from_secs(30);
/// Silent intervals after which a connection counts as dead.
pub const HOST_SILENT_INTERVALS_MAX: u32 = 4;
/// A message, from its first byte to its last, and the silence before it. A host that drips
/// bytes loses its connection.
pub const HOST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(150);
/// Pieces of one message; the connection of a host that sends one in more is ended. A proxy may cut
/// the largest message into some thousand of the size of a page.
pub const HOST_MESSAGE_PIECES_MAX: u32 = 4_096;
/// Pings and pongs of one host in an hour; all of them may come at once. The connection of a host
/// that sends more is ended: it would keep a core busy with answers.
pub const HOST_CONTROL_FRAMES_AN_HOUR_MAX: u64 = 3_600;
/// A write (a ping, a pong) to a host that does not read.
pub const HOST_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lasted this long was no failure, also when nothing happened on it.
pub const HOST_SETTLED: Duration = Duration::from_secs(60);
/// A connection that ended sooner than this after the host had said something was brief. One now and
/// then is everyday life; a host that is cut or goes away again and again is left alone a little
/// longer each time, up to the delay of [`HOST_BRIEF_FAILURES_MAX`] failures.
pub const HOST_BRIEF: Duration = Duration::from_secs(10);
/// As how many failures in a row brief connections count at most: a host that says something each
/// time is tried every few seconds, and never shown as offline.
pub const HOST_BRIEF_FAILURES_MAX: u32 = 4;
/// The first delay after a failure; it doubles with each further one.
pub const HOST_BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest delay between two attempts: hosts are retried for ever.
pub const HOST_BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// Consecutive failures after which a host is shown as offline; it is retried all the same.
pub const HOST_FAILURES_OFFLINE: u32 = 8;
/// Consecutive failures after which the log says that a host has trouble: fewer are everyday life
/// with thousands of hosts.
pub const HOST_FAILURES_LOGGED: u32 = 5;
/// How often the crawler says in the log how many hosts are connected.
pub const HOST_REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How often the crawler looks for host threads that a panic has ended, to start them anew.
pub const HOST_REVIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Connections lost at the same frame before that frame is skipped.
pub const HOST_POISON_DROPS_MAX: u32 = 3;
/// How nice the threads of hosts are (<https://man7.org/linux/man-pages/man7/sched.7.html>): with
/// this, each gets about a tenth of what others of the relay get when there is not enough for all.
pub const HOST_NICE: i32 = 10;
/// Threads of a crew at least: one makes pages of lists, another reads the store for subscribers that are
/// far behind. It has one for each core up to [`CREW_MAX`]. So what strangers take of the machine does not
/// grow with their number.
pub const CREW_MIN: usize = 4;
/// See [`CREW_MIN`].
pub const CREW_MAX: usize = 16;
/// How nice the threads are that read the past for subscribers: what happens now goes before, and hosts come
/// after, or a subscriber that has fallen behind would never catch up with a relay that is busy.
pub const REPLAY_NICE: i32 = 5;
/// How nice the threads are that make pages of lists. Any nicer, and one page in a hundred waits for tens of
/// milliseconds for its turn beside the threads of hosts.
pub const LIST_NICE: i32 = REPLAY_NICE;
/// Workspaces for proving that are kept while nobody needs them, of about ten kilobytes each; beyond,
/// they are freed, and made anew when that many hosts are busy at once again.
pub const WORKSPACES_KEPT_MAX: usize = 64;
/// Events of one host that wait for an identity; beyond, the host is not read.
pub const HOST_PARKED_EVENTS_MAX: usize = 4_096;
/// Bytes of one host's events that wait for an identity; beyond, the host is not read.
pub const HOST_PARKED_BYTES_MAX: usize = 16 << 20;
/// Bytes of events of all hosts that wait for an identity. Beyond, a host is read only while it has
/// less than [`HOST_PARKED_BYTES_FAIR`] of them: a directory that is down must not fill the memory,
/// and a few hosts with many unknown accounts must not stop the others.
pub const PARKED_BYTES_MAX: usize = 256 << 20;
/// Bytes of one host's events that may wait whatever the other hosts do.
pub const HOST_PARKED_BYTES_FAIR: usize = 128 << 10;
/// Events of one host in a second, and one more for every
/// [`HOST_ACCOUNTS_PER_EVENT_A_SECOND`] accounts of it. What is over this limit, or one of the next
/// two, waits: the host is not read meanwhile.
pub const HOST_EVENTS_A_SECOND_MAX: u64 = 50;
/// Accounts that give their host one more event a second.
pub const HOST_ACCOUNTS_PER_EVENT_A_SECOND: u64 = 1_000;
/// An event counts once more towards the limits of its host for every so many bytes: one of the
/// largest as much as seventy-seven. Nearly all have a few thousand bytes.
pub const HOST_BYTES_PER_EVENT: usize = 64 << 10;
/// Events of one host in an hour, and one more for every account of it.
pub const HOST_EVENTS_AN_HOUR_MAX: u64 = 2_500;
/// Events of one host in a day, and [`HOST_EVENTS_A_DAY_PER_ACCOUNT`] more for every account.
pub const HOST_EVENTS_A_DAY_MAX: u64 = 20_000;
/// Events a day that each account gives to its host.
pub const HOST_EVENTS_A_DAY_PER_ACCOUNT: u64 = 10;
/// Events in a second of a host of a trusted domain, which has no other limit.
pub const TRUSTED_HOST_EVENTS_A_SECOND_MAX: u64 = 5_000;
/// A host that is over a limit for this long is shown as throttled.
pub const HOST_THROTTLED_SHOWN: Duration = Duration::from_secs(1);
/// And until nothing of it has waited for this long.
pub const HOST_THROTTLED_CALM: Duration = Duration::from_secs(3);
/// How often the number of accounts by which a host's limits grow is looked up.
pub const HOST_ACCOUNTS_INTERVAL: Duration = Duration::from_secs(60);
/// How often it is kept of connected hosts that they are.
pub const HOST_SEEN_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// A host that waits is tried at once when somebody asks for that, but not more often than this.
pub const HOST_WAKE_INTERVAL: Duration = Duration::from_secs(5);
/// A host whose events are older than this is shown as catching up.
pub const HOST_BEHIND_SHOWN: Duration = Duration::from_secs(5 * 60);
/// What is kept of the DID of a host's last refused event, in characters.
pub const REFUSAL_DID_CHARS_MAX: usize = 128;
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
/// Hosts that are dialed at the same time; the others wait their turn.
pub const HOST_DIALS_MAX: usize = 64;
/// The same of hosts that could not be connected to the last time. They wait for each other only:
/// handshakes that hang would else keep everybody waiting.
pub const HOST_REDIALS_MAX: usize = 32;

/// Events in the sequencer's inbox; beyond, host threads wait, and TCP with them.
pub const INBOX_EVENTS_MAX: usize = 4_096;
/// Events of one host in the sequencer's inbox; beyond, its thread waits, so that who floods fills
/// neither the inbox nor the batch that others wait for.
pub const INBOX_HOST_EVENTS_MAX: usize = 256;
/// The same in bytes.
pub const INBOX_HOST_BYTES_MAX: usize = 8 << 20;
/// Other messages in the sequencer's inbox; beyond, who sends them waits too.
pub const INBOX_COMMANDS_MAX: usize = 4_096;
/// Bytes of events in the sequencer's inbox; beyond, host threads wait, and TCP with them.
pub const INBOX_BYTES_MAX: usize = 64 << 20;
/// Events of one batch.
pub const BATCH_EVENTS_MAX: usize = 512;
/// Throttled accounts that one batch lets in, or looks at, because there is room for them; the next
/// batch goes on. Those behind them wait some milliseconds longer, and so do the events beside them.
pub const BATCH_LET_IN_MAX: usize = 1_000;
/// Bytes of one batch.
pub const BATCH_BYTES_MAX: usize = 8 << 20;

/// Changes of the collection index in one batch, more or less; the next batch goes on. One event can
/// be as many as an account may have collections.
pub const BATCH_INDEX_CHANGES_MAX: usize = 20_000;

/// Distinct collections in the index; records of any further one are passed on like all others, but
/// nobody finds them by it.
pub const COLLECTIONS_MAX: u64 = 1_000_000;
/// Collections of one account in the index; so with any further one.
pub const ACCOUNT_COLLECTIONS_MAX: usize = 1_000;
/// Collections whose numbers the sequencer keeps in memory; beyond, they are looked up in the store.
pub const COLLECTIONS_CACHED_MAX: usize = 16_384;
/// Numbers of each collection that are passed over after an end that may have lost the last batches:
/// more than can be given between two times that the operating system writes to the disk.
pub const PAIR_NUMBER_JUMP: u64 = 1 << 20;

/// Blocks of the store in memory, in bytes; beyond, lookups go to the disk (or its page cache).
pub const STORE_CACHE_BYTES: usize = 32 << 20;
/// Events gathered in memory before they become a file, in bytes; the grain of retention.
pub const STORE_EVENTS_BUFFER_BYTES: usize = 32 << 20;
/// The same for each other column family.
pub const STORE_OTHER_BUFFER_BYTES: usize = 8 << 20;
/// Files that the store keeps open; beyond, they are opened again when they are read.
pub const STORE_OPEN_FILES_MAX: u16 = 1_024;
/// How long the lock of the data directory is tried for before another process counts as its owner.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Between two such attempts.
pub const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How often events that have left the window are freed.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);
/// Seqs skipped after an end that may have lost the last batches: more than can be assigned
/// between two times that the operating system writes to the disk.
pub const SEQ_JUMP: u64 = 10_000_000;

/// Events that wait this long without a batch being written: ingest stands still, and liveness
/// fails.
pub const INGEST_STALL_MAX: Duration = Duration::from_secs(60);

/// An account that is inactive and sends events all the same is asked about at its host, at most
/// once in this time: the word that it is active again may have been lost.
pub const STATUS_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The time in which [`STATUS_PER_HOST_MAX`] are counted.
pub const STATUS_WINDOW: Duration = Duration::from_secs(60);
/// Questions of that kind to one host; beyond, events of its inactive accounts are rejected unasked.
pub const STATUS_PER_HOST_MAX: u32 = 30;
/// Accounts remembered as asked about; beyond, no further ones are asked about for a while.
pub const STATUS_ACCOUNTS_MAX: usize = 16_384;
/// Events held while their hosts are asked, in bytes; beyond, they are rejected unasked.
pub const STATUS_HELD_BYTES_MAX: usize = 32 << 20;
/// Questions that wait for a thread; beyond, events are rejected unasked.
pub const STATUS_QUEUE_MAX: usize = 256;
/// Threads that ask.
pub const STATUS_THREADS: usize = 4;
/// One question, everything together.
pub const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// The answer, in bytes.
pub const STATUS_BODY_BYTES_MAX: usize = 16 << 10;

/// Recent frames kept in memory for subscribers, in bytes; who is behind them reads from disk.
pub const RING_BYTES_MAX: usize = 32 << 20;
/// After sleeping subscribers were woken, frames gather this long before they are woken again.
pub const WAKE_GATHER: Duration = Duration::from_millis(3);
/// The same where [`WAKE_MANY`] were woken: a wake-up costs as much as sending several frames.
pub const WAKE_GATHER_MANY: Duration = Duration::from_millis(6);
/// So many subscribers are woken less often, which they notice as milliseconds.
pub const WAKE_MANY: usize = 50;
/// How often a subscriber that is being sent frames is listened to, so that its pings are answered.
pub const SUBSCRIBER_LISTEN_INTERVAL: Duration = Duration::from_millis(20);
/// Bytes that a subscriber may say at once, all of which is passed over but for pings: more than any
/// client has to say.
pub const SUBSCRIBER_SAID_BYTES_BURST: usize = 1 << 20;
/// Bytes that it may say in a second beyond that; what comes faster waits in its socket.
pub const SUBSCRIBER_SAID_BYTES_A_SECOND: usize = 64 << 10;
/// Frames of one vectored write to a subscriber.
pub const SUBSCRIBER_WRITE_FRAMES_MAX: usize = 64;
/// Bytes that a subscriber takes at once from the ring or the disk, and so holds in memory when it
/// does not read.
pub const SUBSCRIBER_PAGE_BYTES_MAX: usize = 256 << 10;
/// Subscribers for which the store is read ahead at the same time; the others have each page read when they
/// need it, which is slower.
pub const READ_AHEADS_MAX: usize = 8;
/// Pages that are read ahead of one subscriber, beside the one that is being read.
pub const READ_AHEAD_PAGES: usize = 2;
/// Bytes of such a page: larger than those of [`SUBSCRIBER_PAGE_BYTES_MAX`], because a page begins and
/// ends within a block of the store, which is taken apart for both its neighbours.
pub const READ_AHEAD_PAGE_BYTES: usize = 1 << 20;
/// A subscriber that has taken so many pages in a row from the store is worth a thread.
pub const READ_AHEAD_AFTER_PAGES: u32 = 2;
/// Pongs and pings that wait for one subscriber; beyond, the oldest is dropped.
pub const SUBSCRIBER_URGENT_FRAMES_MAX: usize = 16;
/// Bytes that the kernel holds for one subscriber beyond what is on its way, so that progress is
/// seen and pongs are not queued behind megabytes. Too few cost system calls.
pub const SUBSCRIBER_UNSENT_BYTES_MAX: u32 = 256 << 10;
/// Silence after which, and interval in which, the kernel probes a subscriber's connection.
pub const SUBSCRIBER_KEEPALIVE: Duration = Duration::from_secs(60);
/// A subscriber that takes no byte for this long is cut as too slow.
pub const SUBSCRIBER_STALL_MAX: Duration = Duration::from_secs(60);
/// A subscriber that was sent nothing for this long is pinged.
pub const SUBSCRIBER_PING_INTERVAL: Duration = Duration::from_secs(30);
/// A subscriber that answers nothing to pings for this long is gone.
pub const SUBSCRIBER_SILENT_MAX: Duration = Duration::from_secs(150);
/// How long a closing handshake, or the last error frame, may take.
pub const SUBSCRIBER_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Subscribers of the whole relay; one more is answered 429.
pub const SUBSCRIBERS_MAX: usize = 4_096;
/// Subscribers of one address (an IPv6 /64 counts as one); one more is answered 429.
pub const SUBSCRIBERS_PER_ADDRESS_MAX: usize = 64;

/// The backlog of every listener.
pub const LISTEN_BACKLOG: i32 = 4_096;
/// Connections of the public port that are not (yet) subscribers.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// The same, of one address (an IPv6 /64 counts as one).
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// A request head, from the first byte to the last.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A request head, in bytes; a larger one is answered 431.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Header lines of a request; more are answered 431.
pub const HTTP_HEADERS_MAX: usize = 64;
/// A request body, in bytes; a larger one is answered 413.
pub const HTTP_BODY_BYTES_MAX: usize = 8 << 10;
/// Writing an answer, or all those that were asked for at once, to a client that reads slowly.
pub const HTTP_WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the kernel holds of answers that a client has not read, beyond what is on its way, in bytes.
pub const HTTP_UNSENT_BYTES_MAX: u32 = 256 << 10;
/// An idle connection between two requests.
pub const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the end of a connection is softened: what the client still sends is read and thrown
/// away, because a socket closed over unread bytes takes the last answer with it.
pub const HTTP_LINGER: Duration = Duration::from_secs(1);
/// Bytes thrown away so.
pub const HTTP_LINGER_BYTES_MAX: usize = 256 << 10;
/// Connections over a cap that wait to be told so; more are closed without a word.
pub const HTTP_REFUSALS_MAX: usize = 64;
/// How long a connection over a cap may take to be told so.
pub const HTTP_REFUSAL_TIMEOUT: Duration = Duration::from_millis(250);
/// Above this share of the connections there may be, in percent, none is kept open between two requests:
/// who holds connections without need must not leave none for others.
pub const HTTP_CROWDED_PERCENT: usize = 50;
/// Requests that one connection may make at once; what comes faster than [`HTTP_REQUESTS_A_SECOND`] beyond
/// that waits in its socket.
pub const HTTP_REQUESTS_BURST: u32 = 400;
/// See [`HTTP_REQUESTS_BURST`]. Who has more to ask has more connections, of which he may have only some.
pub const HTTP_REQUESTS_A_SECOND: u32 = 200;
/// What a client over a cap is asked to wait before it tries again.
pub const HTTP_RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long the listener rests after an error, such as running out of file descriptors.
pub const HTTP_ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long connections may take to end at a stop.
pub const HTTP_STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// The stack of a connection of the public port: TLS to a host that asks to be crawled included.
pub const HTTP_STACK_BYTES: usize = 512 << 10;

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

/// requestCrawl of one address (an IPv6 /64 counts as one) in [`CRAWL_REQUESTS_WINDOW`]; one more
/// is answered 429.
pub const CRAWL_REQUESTS_MAX: u32 = 10;
/// The time in which [`CRAWL_REQUESTS_MAX`] are counted.
pub const CRAWL_REQUESTS_WINDOW: Duration = Duration::from_secs(60);
/// Failed log-ins of one address in [`CRAWL_REQUESTS_WINDOW`]; one more try is answered 429.
pub const ADMIN_FAILURES_MAX: u32 = 10;
/// How long a log-in of the operator's page holds at most: a working day, whatever is done in it.
pub const ADMIN_SESSION_AGE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// How long it holds while nobody uses it; a page that is only open does not.
pub const ADMIN_SESSION_IDLE_MAX: Duration = Duration::from_secs(3_600);
/// Log-ins that hold at once; with one more, the one that was not used for the longest time ends.
pub const ADMIN_SESSIONS_MAX: usize = 32;
/// Bytes of what one log-in is told of the last thing that was done.
pub const ADMIN_SESSION_NOTICE_BYTES_MAX: usize = 1_024;
const _: () = assert!(ADMIN_SESSION_IDLE_MAX.as_secs() < ADMIN_SESSION_AGE_MAX.as_secs());
/// What the operator says of an account waits so long for the sequencer, which is busy writing;
/// then it is answered 503, though it may still be done.
pub const RULING_TIMEOUT: Duration = Duration::from_secs(10);
/// Accounts of one page of those that are taken down.
pub const TAKEDOWNS_PAGE_MAX: usize = 500;
/// Addresses whose requests are counted; when there are more, the counting begins anew.
pub const RATE_ADDRESSES_MAX: usize = 16_384;
/// Entries of one page of the audit log.
pub const AUDIT_PAGE_MAX: usize = 500;
/// Rows of one page of a list of the operator's page: what a person looks through, and a few hundred
/// kilobytes of HTML at most.
pub const CONSOLE_PAGE_ROWS: usize = 200;
/// What was done last, as the first of the operator's pages shows it.
pub const CONSOLE_RECENT_ACTS: usize = 8;
const _: () = assert!(CONSOLE_PAGE_ROWS < AUDIT_PAGE_MAX && CONSOLE_PAGE_ROWS < TAKEDOWNS_PAGE_MAX);
/// Requests that wait to be passed on to one sibling relay; one more is lost, and counted.
pub const SIBLING_QUEUE_MAX: usize = 1_024;
/// One attempt at passing a request on: the sibling checks a new host meanwhile.
pub const SIBLING_TIMEOUT: Duration = Duration::from_secs(20);
/// Attempts at passing one request on.
pub const SIBLING_ATTEMPTS: u32 = 4;
/// The delay after the first that failed; each further one is four times as long.
pub const SIBLING_RETRY: Duration = Duration::from_secs(1);
/// What a sibling relay may answer, in bytes.
pub const SIBLING_ANSWER_BYTES_MAX: usize = 64 << 10;
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

/// How long the control store may be out of reach before the relay says that it is not ready.
pub const CONTROL_DOWN_MAX: Duration = Duration::from_secs(30);
/// How often what was seen of hosts is written into the control store.
pub const KEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often the last seq is mirrored there.
pub const MIRROR_SEQ_INTERVAL: Duration = Duration::from_secs(5);
/// How often cursors are mirrored there: a relay that has lost its data directory reads the hosts from
/// so long before.
pub const MIRROR_CURSORS_INTERVAL: Duration = Duration::from_secs(30);
/// How far beyond the mirrored seq a relay goes on that has lost its data directory.
pub const MIRROR_SEQ_MARGIN: u64 = 1_000_000;
/// And further, for each second since it was mirrored: more than a relay gives in one.
pub const MIRROR_SEQ_MARGIN_A_SECOND: u64 = 20_000;

/// Threads that serve the internal port.
pub const INTERNAL_WORKERS: usize = 2;
/// A write to a client of the internal port that does not read.
pub const INTERNAL_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests of the internal port that wait for something and so have a thread each; one more is
/// answered 429.
pub const INTERNAL_SLOW_MAX: usize = 4;
/// How often a thread of the internal port that has nothing to do looks whether connections wait.
pub const INTERNAL_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// After so many looks in a row at which one waited, and no request came, nobody accepts any more.
pub const INTERNAL_DEAF_LOOKS: u32 = 5;
/// A body that the internal port may read into memory only to drop it; one that is said to be longer costs
/// its connection.
pub const INTERNAL_BODY_BYTES_DROPPED_MAX: usize = 1 << 20;
/// How long the internal port rests before it is set up again after an error.
pub const INTERNAL_RETRY: Duration = Duration::from_millis(500);

/// How old the memory breakdown in `/metrics` may be: taking it reads the page tables of every stack.
/// Less than the interval at which metrics are usually read, so that each reading shows a new one.
pub const MEMORY_SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// And older where there are more threads: this many times as long as it takes to take it, which is
/// then at most a hundredth of the time of one core.
pub const MEMORY_SAMPLE_PAUSE: u32 = 100;
/// The same in `/memory.json`, which is asked for by who wants to know it now.
pub const MEMORY_SAMPLE_INTERVAL_FRESH: Duration = Duration::from_secs(1);
/// Heaps of glibc's allocator that threads share. Its default is eight for every core, and what one
/// frees no other can use. Threads wait for each other where there are too few.
pub const ARENAS_MAX: usize = 4;
/// Free blocks of each of 64 sizes up to a kilobyte that a thread keeps for its next allocations. glibc's own
/// choice is 7: threads that live for long keep ever more of them, up to dozens of kilobytes each. With none
/// an event costs no more time.
pub const THREAD_CACHE_BLOCKS_MAX: usize = 0;
/// A block this large gets a mapping of its own, which goes back to the system when it is freed: a
/// few large frames must not leave holes in a heap. Each costs two system calls and page faults.
pub const MMAP_THRESHOLD_BYTES: usize = 256 << 10;
/// Free memory at the end of a heap that goes back to the system; below, it is kept for later.
pub const TRIM_THRESHOLD_BYTES: usize = 8 << 20;
/// What glibc's heaps may keep free between blocks in use, in bytes; beyond, it goes back to the system.
pub const HEAP_RETAINED_MAX: u64 = 8 << 20;
/// How often that is looked at.
pub const HEAP_TRIM_INTERVAL: Duration = Duration::from_secs(10);

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

/// Addresses of one name that are tried.
pub const OUTBOUND_ADDRESSES_MAX: usize = 8;
/// The head of an answer to us, in bytes.
pub const OUTBOUND_HEAD_BYTES_MAX: usize = 16 << 10;
/// Idle time after which a connection to a host is probed.
pub const OUTBOUND_KEEPALIVE_TIME: Duration = Duration::from_secs(60);
/// Time between two probes.
pub const OUTBOUND_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the connection is dead.
pub const OUTBOUND_KEEPALIVE_RETRIES: u32 = 4;
/// The stack of a thread that waits for the system's name resolution.
pub const OUTBOUND_DNS_STACK_BYTES: usize = 256 << 10;

/// What the control store may take to answer where it is a database server. Who has asked (an admin
/// request, the crawler) is then told that it is not available.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the start waits for the database, and for a relay before this one to leave it; then the
/// start fails.
pub const CONTROL_START_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the log says what the start waits for.
pub const CONTROL_START_REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Everything read, or everything replaced, at once: a copy of the store.
pub const CONTROL_COPY_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Requests that wait for the one connection to the database; beyond, who asks waits to be let in.
pub const CONTROL_JOBS_MAX: usize = 256;
/// A connection to the database that was idle for this long is asked whether it still is one.
pub const CONTROL_PING_INTERVAL: Duration = Duration::from_secs(3);
/// The same where there is something to do: what is lost with a dead connection is not done twice.
pub const CONTROL_TRUSTED_IDLE: Duration = Duration::from_millis(500);
/// The delay between the first two attempts to reach the database; it doubles with each further one.
pub const CONTROL_RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest delay between two attempts.
pub const CONTROL_RETRY_MAX: Duration = Duration::from_secs(5);
/// Connecting to one address of the database, where `DATABASE_URL` says nothing else; so with the
/// next four.
pub const CONTROL_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What was sent and not acknowledged for this long ends the connection.
pub const CONTROL_TCP_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence on the connection after which it is probed, by either side.
pub const CONTROL_KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// Time between two probes.
pub const CONTROL_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Probes without an answer after which the connection is dead.
pub const CONTROL_KEEPALIVE_PROBES: u32 = 3;
/// Rows of one statement of a copy.
pub const CONTROL_COPY_ROWS: usize = 4_096;

/// Open files below which the log warns at the start: thousands of hosts, [`STORE_OPEN_FILES_MAX`],
/// [`HTTP_CONNECTIONS_MAX`], and two of each subscriber.
pub const OPEN_FILES_WANTED: u64 = 8_192;

/// Descriptors that connections of strangers leave free beyond [`STORE_OPEN_FILES_MAX`]: for the internal
/// port, the control store, and those who are told that there is no room. Of a machine that allows very
/// few, half.
pub const DESCRIPTORS_KEPT: u64 = 256;

/// The shortest time between two looks of `zlay top`: a list of thousands of hosts is a megabyte.
pub const TOP_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest, which is as good as none.
pub const TOP_INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// A value of the block that the log begins with, in characters; what is longer is cut. Lists of domains
/// may be long.
pub const STARTUP_VALUE_CHARS_MAX: usize = 4_096;
/// A message in the log, in characters; what is longer is cut. The longest of ours, an error with what to
/// do about it, has a quarter of this.
pub const LOG_MESSAGE_CHARS_MAX: usize = 2_048;
/// One field of a line in the log, in characters; what is longer is cut.
pub const LOG_FIELD_CHARS_MAX: usize = 512;
/// Fields of one line in the log; further ones are left out.
pub const LOG_FIELDS_MAX: usize = 16;
/// Lines of one place in the source and one reason that may come at once.
pub const LOG_LINES_BURST: u32 = 50;
/// The time after which there may be one more of them: ten a second. Who is bothered by one host
/// reads a few of them and then the count; a disk is not filled by a stranger.
pub const LOG_LINE_INTERVAL: Duration = Duration::from_millis(100);
/// Places and reasons that are told apart, of a few hundred bytes each; all others share one allowance.
/// There are about two hundred places and forty reasons.
pub const LOG_KINDS_MAX: usize = 1_024;
/// How long lines that were left out wait for the next of their kind to say how many they are. Then the
/// count has a line of its own, with [`LOG_REPORT_INTERVAL`] after 30 seconds at the latest.
pub const LOG_REPORT_AFTER: Duration = Duration::from_secs(27);
/// How often such counts are looked for.
pub const LOG_REPORT_INTERVAL: Duration = Duration::from_secs(3);
/// A reason in the log by which lines are told apart, in characters.
pub const LOG_REASON_CHARS_MAX: usize = 64;
/// Bounds for the time from an event to its publishing, in milliseconds: finest from the fastest host
/// nearby to what a person notices, and up to the backlog that a host has kept for a relay (days).
pub const EVENT_DELAY_SCALE: Scale = Scale {
    bounds: &[
        5, 10, 25, 50, 75, 100, 150, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000,
        300_000, 3_600_000, 86_400_000,
    ],
    per_unit: 1_000.0,
};

/// Bounds for proving a commit, in microseconds: most take some hundred, the largest some ten thousand.
pub const VERIFY_SCALE: Scale = Scale {
    bounds: &[
        50, 100, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 50_000, 250_000,
    ],
    per_unit: 1e6,
};
/// Bounds for a write to the disk, in microseconds: memory, a disk of today, a busy one, one that stalls.
pub const BRIEF_SCALE: Scale = Scale {
    bounds: &[
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
        1_000_000, 5_000_000,
    ],
    per_unit: 1e6,
};
/// Bounds for a question to somebody else and for its answer, in microseconds.
pub const REQUEST_SCALE: Scale = Scale {
    bounds: &[
        500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
        2_500_000, 5_000_000, 10_000_000,
    ],
    per_unit: 1e6,
};
/// Bounds for the events of a batch.
pub const BATCH_EVENTS_SCALE: Scale = Scale {
    bounds: &[0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000],
    per_unit: 1.0,
};
/// How often hosts, store, disk and subscribers are looked at for metrics and probes, which then wait
/// for none of them: it costs some hundred microseconds, with thousands of hosts some milliseconds.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(3);
/// How long no thread of a connected host may come back from reading, though each is to do so after
/// [`HOST_PING_INTERVAL`] even where the host says nothing. So a quiet network never counts as one that
/// stands still; a process for which this is true for so long is restarted.
pub const HOSTS_STALL_MAX: Duration = Duration::from_secs(5 * 60);
/// Below this part of the disk, in percent, the relay warns.
pub const DISK_FREE_PERCENT_WARN: u64 = 10;
/// The part of the disk, in percent, that is left to the store itself, where the operator says no other
/// (`RELAY_DISK_RESERVE`). Below it nothing more is taken of hosts.
pub const DISK_RESERVE_PERCENT: u64 = 5;
/// That part is at least this many bytes: everything in memory may become files at any time, after
/// the batch that was the last with room.
pub const DISK_RESERVE_BYTES_MIN: u64 = 128 << 20;
/// And at most this many: the largest two merges that run at once, of 25 files of 32 MiB each, are
/// written before what they replace is deleted.
pub const DISK_RESERVE_BYTES_MAX: u64 = 2 << 30;
/// Below this many free bytes nothing is written any more that the operator asks for; above, what he
/// decides while the disk is full comes out of the reserve.
pub const DISK_DECISION_BYTES_MIN: u64 = 16 << 20;
/// How often a full disk is looked at.
pub const DISK_LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the log says that the disk still is full.
pub const DISK_FULL_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The stack of threads that are neither hosts nor subscribers.
pub const SERVICE_STACK_BYTES: usize = 1 << 20;
/// How long a stop may take before the process ends all the same.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two words to the service manager; less where its watchdog wants them sooner.
pub const SERVICE_REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// How much longer than now the service manager is asked to wait for a start that goes on: some
/// intervals, so that one word that is late does not end it.
pub const SERVICE_EXTENSION: Duration = Duration::from_secs(60);
/// How long a start may ask for more time. Counting a large store anew takes minutes; what takes longer
/// than this hangs, and the service manager ends it.
pub const SERVICE_START_MAX: Duration = Duration::from_secs(3600);
/// A word to a service manager that does not read; then it is dropped.
pub const SERVICE_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

const _: () = assert!(SERVICE_REPORT_INTERVAL.as_secs() * 4 < SERVICE_EXTENSION.as_secs());
const _: () = assert!(CONTROL_START_TIMEOUT.as_secs() < SERVICE_EXTENSION.as_secs());

const _: () = assert!(CONTROL_TIMEOUT.as_secs() < CONTROL_START_TIMEOUT.as_secs());
const _: () = assert!(CONTROL_START_TIMEOUT.as_secs() < CONTROL_COPY_TIMEOUT.as_secs());
const _: () = assert!(HOST_EVENTS_A_SECOND_MAX < TRUSTED_HOST_EVENTS_A_SECOND_MAX);
const _: () = assert!(0 < REPLAY_NICE && REPLAY_NICE < HOST_NICE);
const _: () = assert!(HTTP_REFUSALS_MAX as u64 * 2 < DESCRIPTORS_KEPT);
const _: () = assert!(SUBSCRIBER_SAID_BYTES_A_SECOND < SUBSCRIBER_SAID_BYTES_BURST);
const _: () = assert!(4 * HOST_PING_INTERVAL.as_secs() < HOSTS_STALL_MAX.as_secs());
const _: () = assert!(HOST_THROTTLED_CALM.as_secs() < HOST_PING_INTERVAL.as_secs());
const _: () = assert!(IDENTITY_REFRESH_QUEUE_MAX < IDENTITY_QUEUE_MAX);
const _: () = assert!(HOST_READ_BUFFER_BYTES < HOST_LARGE_MESSAGE_BYTES_FIRST);
const _: () = assert!(HOST_LARGE_MESSAGE_BYTES_FIRST < FRAME_BYTES_MAX);
const _: () = assert!(COMMIT_BLOCKS_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(SYNC_BLOCKS_BYTES_MAX < COMMIT_BLOCKS_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < COMMIT_BLOCKS_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < HOST_PARKED_BYTES_MAX);
const _: () = assert!(HOST_PARKED_BYTES_FAIR < HOST_PARKED_BYTES_MAX);
const _: () = assert!(HOST_PARKED_BYTES_MAX < PARKED_BYTES_MAX);
const _: () = assert!(COMMIT_BLOCKS_BYTES_MAX < MST_KEYS_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX <= INBOX_BYTES_MAX);
const _: () = assert!(BATCH_EVENTS_MAX <= INBOX_EVENTS_MAX);
const _: () = assert!(INBOX_HOST_EVENTS_MAX < BATCH_EVENTS_MAX);
const _: () = assert!(INBOX_HOST_BYTES_MAX < INBOX_BYTES_MAX);
const _: () = assert!(HOST_BRIEF.as_secs() < HOST_SETTLED.as_secs());
const _: () = assert!(HOST_BRIEF_FAILURES_MAX < HOST_FAILURES_LOGGED);
const _: () = assert!(BATCH_BYTES_MAX < RING_BYTES_MAX);
const _: () = assert!(BACKFILL_IMPORT_MAX < BATCH_EVENTS_MAX);
const _: () = assert!(BACKFILL_IMPORT_MAX <= IDENTITY_REFRESH_QUEUE_MAX);
const _: () = assert!(BACKFILL_BACKOFF_MAX.as_secs() < BACKFILL_RETRY_AFTER_MAX.as_secs());
const _: () = assert!(LIST_COLLECTION_MAX < LIST_COLLECTION_SCAN_MAX);
const _: () = assert!(COLLECTIONS_MAX < u32::MAX as u64);
const _: () = assert!(COMMIT_OPS_MAX < ACCOUNT_COLLECTIONS_MAX);
const _: () = assert!(ACCOUNT_COLLECTIONS_MAX < BATCH_INDEX_CHANGES_MAX);
const _: () = assert!(
    (2 * STORE_EVENTS_BUFFER_BYTES + 4 * STORE_OTHER_BUFFER_BYTES + BATCH_BYTES_MAX) as u64
        <= DISK_RESERVE_BYTES_MIN
);
const _: () = assert!(DISK_DECISION_BYTES_MIN < DISK_RESERVE_BYTES_MIN);
const _: () = assert!(WAKE_GATHER.as_millis() <= WAKE_GATHER_MANY.as_millis());
