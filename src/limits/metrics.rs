//! Bounds of histograms, and of what may go on before somebody is told.

use std::time::Duration;

use crate::metrics::histogram::Scale;

/// Events that wait this long without a batch being written: ingest stands still, and liveness
/// fails.
pub const INGEST_STALL_MAX: Duration = Duration::from_secs(60);

/// How long the control store may be out of reach before the relay says that it is not ready.
pub const CONTROL_DOWN_MAX: Duration = Duration::from_secs(30);
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
/// [`super::HOST_PING_INTERVAL`] even where the host says nothing. So a quiet network never counts as
/// one that stands still; a process for which this is true for so long is restarted.
pub const HOSTS_STALL_MAX: Duration = Duration::from_secs(5 * 60);
