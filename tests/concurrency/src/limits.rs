//! In the place of `src/limits.rs`: as small as can be, so that everything is full soon.

use std::time::Duration;

pub(crate) const INBOX_EVENTS_MAX: usize = 2;
pub(crate) const INBOX_HOST_EVENTS_MAX: usize = 1;
pub(crate) const INBOX_HOST_BYTES_MAX: usize = 1 << 20;
pub(crate) const INBOX_COMMANDS_MAX: usize = 1;
pub(crate) const TURN_BYTES: usize = 16;
pub(crate) const INBOX_BYTES_MAX: usize = 1 << 20;
pub(crate) const HOST_BYTES_PER_EVENT: usize = 1;
pub(crate) const HOST_LARGE_EVENT_BYTES: usize = 1;
pub(crate) const HOST_LARGE_BYTES_PER_EVENT: usize = 1;
pub(crate) const HOST_ACCOUNTS_PER_EVENT_A_SECOND: u64 = 1;
pub(crate) const HOST_EVENTS_A_DAY_PER_ACCOUNT: u64 = 1;
pub(crate) const HOST_THROTTLED_CALM: Duration = Duration::from_secs(1);
pub(crate) const HOST_THROTTLED_SHOWN: Duration = Duration::from_secs(1);
/// One together, then one after the other.
pub(crate) const WAKE_MANY: usize = 1;
pub(crate) const WAKE_FIRST: usize = 1;
pub(crate) const WAKE_PORTION_A_CORE: usize = 1;
