//! Bounds of the log, and of `zlay top`.

use std::time::Duration;

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
