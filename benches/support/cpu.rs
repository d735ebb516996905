//! How long threads were on a CPU, as the kernel counts it.

use std::{fs, time::Duration};

/// What the running threads of this process have used since they began, whose names begin with one
/// of `names`. Of a thread that runs at this moment the last milliseconds may be missing.
pub(crate) fn used(names: &[&str]) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let nanos = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        if !names.iter().any(|wanted| name.starts_with(wanted)) {
            return None;
        }
        // The first number is the nanoseconds on a CPU.
        let used = fs::read_to_string(path.join("schedstat")).ok()?;
        used.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
