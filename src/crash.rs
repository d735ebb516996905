//! Named points at the edges of everything that is written durably. A test can have the process killed
//! at one of them, as by `kill -9`: no destructor runs, nothing is flushed.
//!
//! They exist where debug assertions are on, which is in tests. A release has none of it: [`point`] is
//! empty there, and the variables are not read.
//!
//! - `ZLAY_CRASH_AT=NAME:N` kills the process when it passes the point `NAME` for the `N`-th time.
//! - `ZLAY_CRASH_PASSED=FILE` appends the name of each point to a file when it is passed first.
//!
//! `just crashes` kills a relay at every point of the table, and fails where one was not reached.

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A point.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Point {
            $($(#[$doc])* $name,)*
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Point] = &[$(Point::$name),*];

            /// The name of the point.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Point::$name => $text,)*
                }
            }
        }
    };
}

points! {
    /// The event store is opened, or made, and nothing of this run is in it.
    StoreMade = "store.made",
    /// What the last run left is looked through, and the format is written.
    StoreRecovered = "store.recovered",
    /// Takedowns of an earlier version are to get what they lack.
    TakedownsBefore = "takedowns.before_write",
    /// They have it.
    TakedownsWritten = "takedowns.written",
    /// The accounts of a store of an earlier version are counted, which is to be written.
    RecountBefore = "recount.before_write",
    /// It is written.
    RecountWritten = "recount.written",
    /// A new event store is to be told what the control store has kept.
    SeedBefore = "seed.before_write",
    /// It was told.
    SeedWritten = "seed.written",
    /// The event store is to be told to which control store it belongs.
    ControlIdBefore = "control_id.before_write",
    /// It was told.
    ControlIdWritten = "control_id.written",
    /// The seq is to jump, because the last events were lost.
    RaiseBefore = "raise.before_write",
    /// It has jumped.
    RaiseWritten = "raise.written",
    /// A batch is complete in memory.
    BatchBefore = "batch.before_write",
    /// A batch is written, and synced where that is asked for.
    BatchWritten = "batch.written",
    /// A batch with a piece of a large event is written.
    PieceWritten = "piece.written",
    /// A batch with a part of a backfill is complete in memory.
    ImportBefore = "import.before_write",
    /// It is written; who has sent it was not told.
    ImportWritten = "import.written",
    /// What is durable is to be published.
    PublishBefore = "publish.before",
    /// Takedowns are heeded, and the frames that say so are not published.
    PublishHidden = "publish.hidden",
    /// Everything is published, and those who wait for it were not answered.
    PublishAfter = "publish.after",
    /// What leaves the window is known.
    RetentionBefore = "retention.before_mark",
    /// It is written that it has left.
    RetentionMarked = "retention.marked",
    /// Files of the log are to be deleted.
    FreeBefore = "retention.before_free",
    /// Some are, and others are to be moved first.
    FreeSome = "retention.freed_some",
    /// All are.
    FreeAfter = "retention.freed",
    /// Files with pieces of large events are to be deleted.
    FreeLargeBefore = "retention.before_free_large",
    /// They are.
    FreeLargeAfter = "retention.freed_large",
    /// The store is to be closed.
    CloseBefore = "close.before",
    /// Its log is synced.
    CloseSynced = "close.synced",
    /// It is written that the end was clean.
    CloseMarked = "close.marked",
    /// What was in memory is in files.
    CloseFlushed = "close.flushed",
    /// The control store of the data directory is made, and empty.
    ControlMade = "control.made",
    /// Its format is written, and it has no number.
    ControlFormatted = "control.formatted",
    /// It has its number.
    ControlNumbered = "control.numbered",
    /// The tables of the database are up to date, in a transaction that is not committed.
    MigrationBefore = "migration.before_commit",
    /// It is committed.
    MigrationCommitted = "migration.committed",
    /// A host is to be added to the control store.
    AddHostBefore = "control.add_host.before",
    /// It was.
    AddHostAfter = "control.add_host.after",
    /// What the operator says of a host is to be kept.
    SetTermsBefore = "control.set_terms.before",
    /// It is.
    SetTermsAfter = "control.set_terms.after",
    /// What was seen of hosts is to be kept, by the keeper.
    ObserveBefore = "control.observe.before",
    /// It is.
    ObserveAfter = "control.observe.after",
    /// A domain is to be banned.
    BanDomainBefore = "control.ban_domain.before",
    /// It is.
    BanDomainAfter = "control.ban_domain.after",
    /// A domain is to be banned no longer.
    UnbanDomainBefore = "control.unban_domain.before",
    /// It is not.
    UnbanDomainAfter = "control.unban_domain.after",
    /// A takedown is to be kept.
    TakeDownBefore = "control.take_down.before",
    /// It is kept, and not in force.
    TakeDownAfter = "control.take_down.after",
    /// The end of a takedown is to be kept.
    ReverseBefore = "control.reverse_takedown.before",
    /// It is kept, and the takedown is in force.
    ReverseAfter = "control.reverse_takedown.after",
    /// A setting is to be kept.
    SetSettingBefore = "control.set_setting.before",
    /// It is.
    SetSettingAfter = "control.set_setting.after",
    /// How far a long job is, is to be kept.
    SetNoteBefore = "control.set_note.before",
    /// It is.
    SetNoteAfter = "control.set_note.after",
    /// What was decided is to be noted.
    AuditBefore = "control.audit.before",
    /// It is.
    AuditAfter = "control.audit.after",
    /// The last seq and the cursors are to be mirrored, by the keeper.
    MirrorBefore = "control.mirror.before",
    /// They are.
    MirrorAfter = "control.mirror.after",
}

/// Which point, and at which pass, kills.
pub const AT: &str = "ZLAY_CRASH_AT";
/// Where it is noted what was passed.
pub const PASSED: &str = "ZLAY_CRASH_PASSED";

/// The process passes a point, which ends it if that was asked for.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_: Point) {}

#[cfg(debug_assertions)]
pub use self::armed::point;

#[cfg(debug_assertions)]
mod armed {
    use std::{
        collections::BTreeSet,
        ffi::OsString,
        fs::File,
        io::Write,
        sync::{
            Mutex, OnceLock, PoisonError,
            atomic::{AtomicU64, Ordering},
        },
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::{AT, PASSED, Point};

    /// What was asked for.
    struct Armed {
        at: Option<Trap>,
        passed: Option<Log>,
    }

    struct Trap {
        point: Point,
        /// Passes that are left, this one included; 0: it is over.
        left: AtomicU64,
    }

    struct Log {
        file: OsString,
        known: Mutex<BTreeSet<Point>>,
    }

    /// The process passes a point, which ends it if that was asked for.
    pub fn point(point: Point) {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let Some(armed) = ARMED.get_or_init(read) else {
            return;
        };
        if let Some(log) = &armed.passed {
            log.note(point);
        }
        if let Some(trap) = &armed.at
            && trap.point == point
            && trap.left.fetch_sub(1, Ordering::AcqRel) == 1
        {
            // It ends here: no thread comes back from a signal that it can not catch. Others may go on
            // for as long as it takes to interrupt them, as when the kernel kills.
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }

    fn read() -> Option<Armed> {
        let at = std::env::var(AT).ok().and_then(|text| parse(&text));
        let passed = std::env::var_os(PASSED).map(|file| Log {
            file,
            known: Mutex::default(),
        });
        (at.is_some() || passed.is_some()).then_some(Armed { at, passed })
    }

    /// `NAME:N`; one that is not understood kills nothing, and the harness says so.
    fn parse(text: &str) -> Option<Trap> {
        let (name, pass) = text.split_once(':')?;
        let point = Point::ALL.iter().find(|point| point.name() == name)?;
        let left: u64 = pass.parse().ok().filter(|pass| *pass > 0)?;
        Some(Trap {
            point: *point,
            left: AtomicU64::new(left),
        })
    }

    impl Log {
        fn note(&self, point: Point) {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.insert(point) {
                // What is not noted is missed by the test that looks for it.
                let file = File::options().create(true).append(true).open(&self.file);
                let _ = file.and_then(|mut file| writeln!(file, "{}", point.name()));
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_trap_is_a_point_and_a_pass() {
            let trap = parse("batch.written:3").unwrap();
            assert_eq!(trap.point, Point::BatchWritten);
            assert_eq!(trap.left.into_inner(), 3);
            for wrong in ["", "batch.written", "batch.written:0", "batch:1", ":1"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }

        #[test]
        fn names_are_told_apart() {
            let names: BTreeSet<&str> = Point::ALL.iter().map(|point| point.name()).collect();
            assert_eq!(names.len(), Point::ALL.len());
        }
    }
}
