//! Bounds of the control store.

use std::time::Duration;

use super::SERVICE_EXTENSION;

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

const _: () = assert!(CONTROL_START_TIMEOUT.as_secs() < SERVICE_EXTENSION.as_secs());
const _: () = assert!(CONTROL_TIMEOUT.as_secs() < CONTROL_START_TIMEOUT.as_secs());
const _: () = assert!(CONTROL_START_TIMEOUT.as_secs() < CONTROL_COPY_TIMEOUT.as_secs());
