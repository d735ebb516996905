//! How far a backfill is: what is kept in the control store, and shown.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    limits::{BACKFILL_FAILURES_SHOWN, BACKFILL_ITEMS_MAX},
    sequencer::event::Skip,
};

/// What a backfill reads.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Who has records of what, from another relay or an index: one list for each collection.
    Collections,
    /// Accounts, from the hosts themselves: one list for each host.
    Accounts,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Collections, Kind::Accounts];

    /// The name in answers, in the log and in the names of notes.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Collections => "collections",
            Kind::Accounts => "accounts",
        }
    }

    /// Under which note its progress is kept.
    pub(super) fn note(self) -> String {
        format!("backfill:{}", self.name())
    }

    /// Under which note the names of its lists are kept, which do not change while it runs.
    pub(super) fn items_note(self) -> String {
        format!("backfill:{}:items", self.name())
    }
}

/// Where a backfill is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It reads, or waits before it asks again; after a restart it goes on.
    Running,
    /// It was told to end, and will not go on.
    Cancelling,
    /// It has been through all lists.
    Done,
    /// It has ended because it was told to.
    Cancelled,
    /// It has ended because of a fault of this relay.
    Failed,
}

/// A list that could not be read to its end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Failure {
    /// The collection or the host.
    pub item: String,
    /// Why.
    pub reason: String,
}

/// What stands in the way now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// What went wrong.
    pub error: String,
    /// When it is tried again, in milliseconds since 1970.
    pub next_try_ms: u64,
}

/// How far a backfill is. All counts are since its beginning, over restarts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Progress {
    /// What it reads.
    pub kind: Kind,
    /// From where: the origin of the source, or the name of the one host; none: from all hosts.
    pub source: Option<String>,
    /// Where it is in its life.
    pub phase: Phase,
    /// How many lists it goes through.
    pub total: u64,
    /// How many lists are behind it, those that could not be read included.
    pub completed: u64,
    /// How many lists there were beyond [`BACKFILL_ITEMS_MAX`].
    pub left_out: u64,
    /// Where the next page of the present list begins; none: at its beginning.
    pub cursor: Option<String>,
    /// Entries of the present list so far.
    pub entries: u64,
    /// The present list was begun anew once: its cursor was not known any more.
    pub anew: bool,
    /// Pages that were read.
    pub pages: u64,
    /// Entries that were new here.
    pub imported: u64,
    /// Entries that said nothing new.
    pub known: u64,
    /// Entries that were not taken, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Lists that could not be read to their end.
    pub failed: u64,
    /// Which these were, the first [`BACKFILL_FAILURES_SHOWN`] of them.
    pub failures: Vec<Failure>,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended; none: it has not.
    pub ended_ms: Option<u64>,
    /// What stands in the way now. Not kept.
    #[serde(skip)]
    pub trouble: Option<Trouble>,
}

/// A backfill that there is or was, and the names of its lists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// How far it is.
    pub progress: Progress,
    /// The names of collections or of hosts, in the order in which they are read.
    pub items: Arc<[String]>,
}

impl Progress {
    /// One that begins.
    pub(super) fn new(kind: Kind, source: Option<String>, items: &Items, now_ms: u64) -> Progress {
        Progress {
            kind,
            source,
            phase: Phase::Running,
            total: items.names.len() as u64,
            completed: 0,
            left_out: items.left_out,
            cursor: None,
            entries: 0,
            anew: false,
            pages: 0,
            imported: 0,
            known: 0,
            skipped: BTreeMap::new(),
            failed: 0,
            failures: Vec::new(),
            started_ms: now_ms,
            ended_ms: None,
            trouble: None,
        }
    }

    /// Whether no other may begin.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Cancelling)
    }

    /// The word for where it is.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Running if self.trouble.is_some() => "waiting",
            Phase::Running => "running",
            Phase::Cancelling => "cancelling",
            Phase::Done => "done",
            Phase::Cancelled => "cancelled",
            Phase::Failed => "failed",
        }
    }

    /// Counts entries that were not taken.
    pub(super) fn skip(&mut self, skip: Skip, count: u64) {
        if count > 0 {
            *self.skipped.entry(skip.name().to_owned()).or_default() += count;
        }
    }

    /// A page is behind it, and the next one begins there.
    pub(super) fn turn(&mut self, entries: usize, next: Option<String>) {
        self.pages += 1;
        self.entries += entries as u64;
        self.cursor = next;
        self.trouble = None;
    }

    /// The present list is behind it.
    pub(super) fn complete(&mut self) {
        self.completed += 1;
        (self.cursor, self.entries, self.anew) = (None, 0, false);
        self.trouble = None;
    }

    /// The present list can not be read on.
    pub(super) fn fail(&mut self, item: &str, reason: String) {
        self.failed += 1;
        if self.failures.len() < BACKFILL_FAILURES_SHOWN {
            let item = item.to_owned();
            self.failures.push(Failure { item, reason });
        }
        self.complete();
    }

    /// It has ended.
    pub(super) fn end(&mut self, phase: Phase, now_ms: u64) {
        self.phase = phase;
        self.ended_ms = Some(now_ms);
        self.trouble = None;
    }

    /// As it is kept.
    pub(super) fn note(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// As it was kept.
    pub(super) fn parse(note: Value) -> Result<Progress, String> {
        serde_json::from_value(note).map_err(|error| error.to_string())
    }
}

/// The names of the lists of one backfill.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Items {
    pub(super) names: Arc<[String]>,
    pub(super) left_out: u64,
}

impl Items {
    /// Each name once, in order, at most [`BACKFILL_ITEMS_MAX`] of them; those of `first` are not left
    /// out before others.
    pub(super) fn of(first: Vec<String>, others: Vec<String>) -> Items {
        let distinct = |mut names: Vec<String>| {
            names.sort();
            names.dedup();
            names
        };
        let mut names = distinct(first);
        let mut others = distinct(others);
        others.retain(|name| names.binary_search(name).is_err());
        names.extend(others);
        let left_out = names.len().saturating_sub(BACKFILL_ITEMS_MAX);
        names.truncate(BACKFILL_ITEMS_MAX);
        names.sort();
        Items {
            names: names.into(),
            left_out: left_out as u64,
        }
    }

    /// As they are kept.
    pub(super) fn note(&self) -> Value {
        self.names.iter().map(String::as_str).collect()
    }

    /// As they were kept.
    pub(super) fn parse(note: Value) -> Option<Arc<[String]>> {
        serde_json::from_value::<Vec<String>>(note)
            .ok()
            .map(Arc::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn progress()(
            kind in proptest::sample::select(Kind::ALL.to_vec()),
            phase in proptest::sample::select(vec![
                Phase::Running, Phase::Cancelling, Phase::Done, Phase::Cancelled, Phase::Failed,
            ]),
            texts: (Option<String>, Option<String>),
            counts: [u64; 8],
            anew: bool,
            skipped in proptest::collection::btree_map(".{0,9}", any::<u64>(), 0..4),
            failures in proptest::collection::vec((".{0,9}", ".{0,9}"), 0..4),
            ended_ms: Option<u64>,
        ) -> Progress {
            let [total, completed, left_out, entries, pages, imported, known, failed] = counts;
            let failures = failures.into_iter();
            Progress {
                kind,
                source: texts.0,
                phase,
                total,
                completed,
                left_out,
                cursor: texts.1,
                entries,
                anew,
                pages,
                imported,
                known,
                skipped,
                failed,
                failures: failures.map(|(item, reason)| Failure { item, reason }).collect(),
                started_ms: total,
                ended_ms,
                trouble: None,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back_as_it_was(progress in progress()) {
            let text = progress.note().to_string();
            let note = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Progress::parse(note), Ok(progress));
        }

        #[test]
        fn lists_are_merged_each_name_once_and_in_order(
            first in proptest::collection::vec("[a-d]{1,2}", 0..9),
            others in proptest::collection::vec("[a-d]{1,2}", 0..9),
        ) {
            let items = Items::of(first.clone(), others.clone());
            let all: std::collections::BTreeSet<String> =
                first.into_iter().chain(others).collect();
            let names: Vec<String> = all.into_iter().collect();
            prop_assert_eq!(&*items.names, &names[..]);
            prop_assert_eq!(items.left_out, 0);
            prop_assert_eq!(Items::parse(items.note()), Some(items.names));
        }
    }

    #[test]
    fn what_is_asked_for_is_not_left_out_for_what_is_found() {
        let found = (0..BACKFILL_ITEMS_MAX).map(|n| format!("a{n}")).collect();
        let items = Items::of(vec!["z".to_owned(), "b".to_owned()], found);
        assert_eq!((items.names.len(), items.left_out), (BACKFILL_ITEMS_MAX, 2));
        assert_eq!(items.names.last().map(String::as_str), Some("z"));
        assert!(items.names.is_sorted());
    }

    #[test]
    fn a_list_that_fails_is_behind_it_and_a_few_are_named() {
        let items = Items::of(vec!["a".to_owned()], Vec::new());
        let mut progress = Progress::new(Kind::Accounts, None, &items, 5);
        progress.turn(3, Some("c".to_owned()));
        assert_eq!((progress.entries, progress.pages), (3, 1));
        for n in 0..BACKFILL_FAILURES_SHOWN + 5 {
            progress.fail(&n.to_string(), "why".to_owned());
        }
        let count = BACKFILL_FAILURES_SHOWN as u64 + 5;
        assert_eq!((progress.completed, progress.failed), (count, count));
        assert_eq!(progress.failures.len(), BACKFILL_FAILURES_SHOWN);
        assert_eq!((&progress.cursor, progress.entries), (&None, 0));
        progress.end(Phase::Done, 9);
        assert!(!progress.is_running());
        assert_eq!(progress.state(), "done");
    }
}
