//! How much of what a client says is listened to. A subscriber has next to nothing to say: who talks
//! without end must not keep a core busy, and waits in its own socket instead.

use std::time::{Duration, Instant};

use crate::limits::{
    SUBSCRIBER_SAID_BYTES_A_SECOND, SUBSCRIBER_SAID_BYTES_BURST, SUBSCRIBER_SAID_FRAME_BYTES,
};

/// Bytes that are read at once. Less than this is not worth a call.
pub(super) const READ_BYTES: usize = 1_024;

/// Once there are fewer, so many are waited for: it costs a wake-up each time.
const REOPEN_BYTES: usize = 8 * READ_BYTES;

const BURST: i64 = SUBSCRIBER_SAID_BYTES_BURST as i64;

const SECOND_NANOS: u128 = Duration::from_secs(1).as_nanos();

/// Bytes that may be read now; they come again evenly.
#[derive(Debug)]
pub(super) struct Ear {
    /// Less than none where a read was full of short frames.
    bytes: i64,
    at: Instant,
    is_closed: bool,
    /// It was closed, and has not been silent since for so long that all may come at once again.
    is_tired: bool,
}

impl Ear {
    pub(super) fn new(now: Instant) -> Ear {
        Ear {
            bytes: BURST,
            at: now,
            is_closed: false,
            is_tired: false,
        }
    }

    /// Whether the client is listened to now.
    pub(super) fn is_open(&mut self, now: Instant) -> bool {
        let nanos = now.saturating_duration_since(self.at).as_nanos();
        let more = nanos * SUBSCRIBER_SAID_BYTES_A_SECOND as u128 / SECOND_NANOS;
        // Fractions of a byte are waited for.
        if more > 0 {
            let more = i64::try_from(more).unwrap_or(i64::MAX);
            self.bytes = self.bytes.saturating_add(more).min(BURST);
            self.at = now;
        }
        let needed = if self.is_closed {
            REOPEN_BYTES
        } else {
            READ_BYTES
        };
        self.is_closed = self.bytes < needed as i64;
        self.is_tired = self.is_closed || (self.is_tired && self.bytes < BURST);
        !self.is_closed
    }

    /// Whether the client has said too much lately.
    pub(super) fn is_tired(&self) -> bool {
        self.is_tired
    }

    /// When it is open again, where it is not.
    pub(super) fn opens_at(&self) -> Instant {
        let missing = (REOPEN_BYTES as i64 - self.bytes).max(0) as u128;
        let nanos = (missing * SECOND_NANOS).div_ceil(SUBSCRIBER_SAID_BYTES_A_SECOND as u128);
        self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// So much was read, in which so many frames end.
    pub(super) fn heard(&mut self, bytes: usize, frames: usize) {
        let counts = bytes + frames * SUBSCRIBER_SAID_FRAME_BYTES;
        self.bytes -= counts as i64;
    }

    /// Nothing more can come than what has come already, and it must be read to see the end.
    pub(super) fn hear_out(&mut self) {
        self.bytes = BURST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_talks_without_end_is_heard_at_the_pace_of_the_limit() {
        let start = Instant::now();
        let mut ear = Ear::new(start);
        let (mut now, mut read) = (start, 0);
        let seconds = 10;
        while now < start + Duration::from_secs(seconds) {
            if ear.is_open(now) {
                ear.heard(READ_BYTES, 0);
                read += READ_BYTES;
                now += Duration::from_micros(1);
            } else {
                let opens = ear.opens_at();
                assert!(opens > now);
                now = opens;
                assert!(ear.is_open(now));
            }
        }
        let allowed = SUBSCRIBER_SAID_BYTES_BURST
            + usize::try_from(seconds).unwrap() * SUBSCRIBER_SAID_BYTES_A_SECOND;
        assert!(
            read <= allowed && read + READ_BYTES + REOPEN_BYTES >= allowed,
            "{read}"
        );
        // Nothing is saved up beyond the burst.
        let later = now + Duration::from_secs(3_600);
        assert!(ear.is_tired());
        assert!(ear.is_open(later));
        assert_eq!(ear.bytes, BURST);
        assert!(!ear.is_tired());
    }

    /// A ping is ten bytes, and an answer is as much work whatever its length.
    #[test]
    fn many_short_frames_are_as_much_as_a_long_one() {
        let start = Instant::now();
        let (mut short, mut long) = (Ear::new(start), Ear::new(start));
        short.heard(1_000, 100);
        long.heard(1_000 + 100 * SUBSCRIBER_SAID_FRAME_BYTES, 0);
        assert_eq!(short.bytes, long.bytes);
        short.heard(READ_BYTES, READ_BYTES);
        short.heard(READ_BYTES, READ_BYTES);
        assert!(!short.is_open(start), "a read full of empty frames");
        assert!(
            !short.is_open(start + Duration::from_secs(60)),
            "they are all paid for"
        );
    }

    #[test]
    fn short_waits_add_up() {
        let start = Instant::now();
        let mut ear = Ear::new(start);
        ear.heard(SUBSCRIBER_SAID_BYTES_BURST, 0);
        assert!(!ear.is_open(start));
        let opens = (1..).map(|n| start + Duration::from_micros(n));
        let open_at = opens.take(1_000_000).find(|now| ear.is_open(*now));
        let waited = open_at.unwrap().duration_since(start).as_nanos();
        let right = SECOND_NANOS * REOPEN_BYTES as u128 / SUBSCRIBER_SAID_BYTES_A_SECOND as u128;
        assert!(waited >= right && waited < right * 2, "{waited}");
    }
}
