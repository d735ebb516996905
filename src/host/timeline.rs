//! What became of one host lately: the last changes of its state, for its page.

use std::collections::VecDeque;

use super::state::State;
use crate::limits::{TIMELINE_ENTRIES_MAX, TIMELINE_WHY_CHARS_MAX};

/// The last changes, oldest first; takes no memory before the first one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Timeline(VecDeque<Entry>);

/// A state that a host came into, and was in until the next entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Which one.
    pub kind: Kind,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it was told last, in milliseconds since 1970: of one that can not be reached, the last
    /// attempt.
    pub last_ms: u64,
    /// How often it was told.
    pub times: u32,
    /// Why, as told last.
    pub why: Option<Box<str>>,
}

/// Which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// See [`State::Connected`].
    Connected,
    /// See [`State::Throttled`].
    Throttled,
    /// See [`State::Idle`].
    Idle,
    /// See [`State::BackingOff`].
    BackingOff,
    /// See [`State::Offline`].
    Offline,
}

impl Kind {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Connected => "connected",
            Kind::Throttled => "throttled",
            Kind::Idle => "idle",
            Kind::BackingOff => "backing_off",
            Kind::Offline => "offline",
        }
    }

    /// What it means, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Kind::Connected => "connected",
            Kind::Throttled => "over its limit of events, read with a delay",
            Kind::Idle => "about to be read from now on",
            Kind::BackingOff => "not connected, waiting for the next attempt",
            Kind::Offline => "not reached many times in a row",
        }
    }

    /// Whether there is a connection.
    pub const fn is_connected(self) -> bool {
        matches!(self, Kind::Connected | Kind::Throttled)
    }
}

impl Timeline {
    /// Notes what a host's thread tells.
    pub fn note(&mut self, state: &State, now_ms: u64) {
        let (kind, why) = match state {
            State::Connected { .. } => (Kind::Connected, None),
            State::Throttled { .. } => (Kind::Throttled, None),
            State::Idle { why } => (Kind::Idle, Some(why)),
            State::BackingOff { why, .. } => (Kind::BackingOff, Some(why)),
            State::Offline { why, .. } => (Kind::Offline, Some(why)),
        };
        let why = why.map(|why| why.chars().take(TIMELINE_WHY_CHARS_MAX).collect());
        if let Some(last) = self.0.back_mut().filter(|last| last.kind == kind) {
            last.last_ms = now_ms;
            last.times = last.times.saturating_add(1);
            last.why = why;
            return;
        }
        if self.0.len() == TIMELINE_ENTRIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Entry {
            kind,
            since_ms: now_ms,
            last_ms: now_ms,
            times: 1,
            why,
        });
    }

    /// The changes, the latest first.
    pub fn latest(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().rev()
    }

    /// When a connection was last tried, in milliseconds since 1970, if that is known.
    pub fn attempt_ms(&self) -> Option<u64> {
        let attempt = |entry: &Entry| match entry.kind {
            Kind::Connected => Some(entry.since_ms),
            Kind::BackingOff | Kind::Offline => Some(entry.last_ms),
            Kind::Throttled | Kind::Idle => None,
        };
        self.latest().find_map(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_changes_are_kept_and_attempts_in_a_row_are_one() {
        let failed = |failures| State::BackingOff {
            why: "x".repeat(1 << 20),
            failures,
            next_ms: 0,
        };
        let mut timeline = Timeline::default();
        assert_eq!(timeline.attempt_ms(), None);
        for n in 1..=5 {
            timeline.note(&failed(n), u64::from(n));
        }
        let first: Vec<_> = timeline.latest().cloned().collect();
        let [entry] = &first[..] else {
            panic!("{first:?}")
        };
        assert_eq!((entry.since_ms, entry.last_ms, entry.times), (1, 5, 5));
        let why = entry.why.as_deref().unwrap();
        assert_eq!(why.len(), TIMELINE_WHY_CHARS_MAX);
        assert_eq!(timeline.attempt_ms(), Some(5));
        for n in 10..100 {
            timeline.note(&State::Connected { at_ms: n }, n);
            timeline.note(&State::Idle { why: "gone".into() }, n);
        }
        assert_eq!(timeline.0.len(), TIMELINE_ENTRIES_MAX);
        assert_eq!(timeline.latest().next().unwrap().kind, Kind::Idle);
        assert_eq!(timeline.attempt_ms(), Some(99));
    }

    #[test]
    fn a_host_of_which_nothing_was_told_takes_no_room() {
        assert_eq!(Timeline::default().0.capacity(), 0);
        assert!(size_of::<Timeline>() <= 32);
    }
}
