//! Bounds of what the operator sees and does.

use std::time::Duration;

/// Failed log-ins of one address in [`super::CRAWL_REQUESTS_WINDOW`]; one more try is answered 429.
pub const ADMIN_FAILURES_MAX: u32 = 10;
/// How long a log-in of the operator's page holds at most: a working day, whatever is done in it.
pub const ADMIN_SESSION_AGE_MAX: Duration = Duration::from_secs(12 * 3_600);
/// How long it holds while nobody uses it; a page that is only open does not.
pub const ADMIN_SESSION_IDLE_MAX: Duration = Duration::from_secs(3_600);
/// Log-ins that hold at once; with one more, the one that was not used for the longest time ends.
pub const ADMIN_SESSIONS_MAX: usize = 32;
/// Bytes of what one log-in is told of the last thing that was done.
pub const ADMIN_SESSION_NOTICE_BYTES_MAX: usize = 1_024;
/// What the operator says of an account waits so long for the sequencer, which is busy writing;
/// then it is answered 503, though it may still be done.
pub const RULING_TIMEOUT: Duration = Duration::from_secs(10);
/// Accounts of one page of those that are taken down.
pub const TAKEDOWNS_PAGE_MAX: usize = 500;
/// Entries of one page of the audit log.
pub const AUDIT_PAGE_MAX: usize = 500;
/// Rows of one page of a list of the operator's page: what a person looks through, and a few hundred
/// kilobytes of HTML at most.
pub const CONSOLE_PAGE_ROWS: usize = 200;
/// What was done last, as the first of the operator's pages shows it.
pub const CONSOLE_RECENT_ACTS: usize = 8;

const _: () = assert!(ADMIN_SESSION_IDLE_MAX.as_secs() < ADMIN_SESSION_AGE_MAX.as_secs());
const _: () = assert!(CONSOLE_PAGE_ROWS < AUDIT_PAGE_MAX && CONSOLE_PAGE_ROWS < TAKEDOWNS_PAGE_MAX);
