//! A process from outside, as `/proc` shows it: any relay can be measured like this, whatever it is
//! written in (<https://man7.org/linux/man-pages/man5/proc.5.html>).

use std::{fs, io, path::PathBuf, time::Duration};

/// What a process has used so far; cheap to ask for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Processor time of all its threads, those that have ended included, in its own code and in
    /// the kernel on its behalf. The kernel counts in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Address space, in bytes: what was asked for, whether or not it was ever touched.
    pub vmsize: u64,
    /// Page faults that needed no disk.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// Threads that run now.
    pub threads: u64,
}

/// How a process's memory is made up. The kernel walks every page for it, which takes
/// milliseconds and holds up the process's own `mmap` meanwhile: not for a loop.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Memory {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// The same with every shared page divided by those who share it.
    pub pss: u64,
    /// Resident memory that is no file's: heap and stacks.
    pub anonymous: u64,
    /// Of that, in pages of 2 MiB.
    pub huge: u64,
}

impl Usage {
    /// What `pid` has used.
    pub fn of(pid: u32) -> io::Result<Usage> {
        let ticks = rustix::param::clock_ticks_per_second();
        parse_stat(
            &read(pid, "stat")?,
            ticks,
            rustix::param::page_size() as u64,
        )
        .ok_or_else(|| unreadable("stat"))
    }
}

impl Memory {
    /// The memory of `pid`; reading another user's takes a privilege.
    pub fn of(pid: u32) -> io::Result<Memory> {
        parse_rollup(&read(pid, "smaps_rollup")?).ok_or_else(|| unreadable("smaps_rollup"))
    }
}

/// How many files a process has open.
pub fn open_files(pid: u32) -> io::Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/fd"));
    Ok(fs::read_dir(path)?.count() as u64)
}

/// How many mappings a process has; the kernel allows `vm.max_map_count` of them, 65,530 by default,
/// and a thread takes two.
pub fn mappings(pid: u32) -> io::Result<u64> {
    Ok(read(pid, "maps")?.lines().count() as u64)
}

/// Processor time that this machine wanted since it started and others on the same hardware got. The kernel counts in
/// steps of 10 ms; none where it is not told.
pub fn stolen() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    parse_stolen(&text, rustix::param::clock_ticks_per_second()).ok_or_else(|| {
        let message = "/proc/stat is not as expected";
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn parse_stolen(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let mut all = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let stolen: u64 = all.nth(7)?.parse().ok()?;
    Some(of_ticks(stolen, ticks_per_second))
}

fn of_ticks(ticks: u64, per_second: u64) -> Duration {
    Duration::from_micros(ticks * 1_000_000 / per_second.max(1))
}

fn read(pid: u32, file: &str) -> io::Result<String> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn unreadable(file: &str) -> io::Error {
    let message = format!("/proc/PID/{file} is not as expected");
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// `/proc/PID/stat`; fields are counted from 1, and the second is a name in parentheses that may
/// itself hold spaces and parentheses.
fn parse_stat(text: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Usage> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(Usage {
        cpu: of_ticks(ticks, ticks_per_second),
        minor_faults: field(10)?,
        major_faults: field(12)?,
        threads: field(20)?,
        vmsize: field(23)?,
        rss: field(24)? * page_bytes,
    })
}

fn parse_rollup(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib = line.trim().strip_suffix("kB")?.trim();
        Some(kib.parse::<u64>().ok()? << 10)
    };
    Some(Memory {
        rss: field("Rss:")?,
        pss: field("Pss:")?,
        anonymous: field("Anonymous:")?,
        huge: field("AnonHugePages:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_got_is_the_eighth_number_of_the_first_line() {
        let text =
            "cpu  1419454 139877 342940 1097214 28223 0 60041 9545 1 2\ncpu0 1 2 3 4 5 6 7 8\n";
        assert_eq!(parse_stolen(text, 100), Some(Duration::from_millis(95_450)));
        assert_eq!(parse_stolen("cpu 1 2 3", 100), None);
        assert_eq!(parse_stolen("intr 1", 100), None);
        stolen().unwrap();
    }

    #[test]
    fn stat_is_read_behind_a_name_with_parentheses() {
        let text = "4242 (a) b (c) S 1 4242 1 0 -1 4194304 100 7 2 8 30 5 9 9 20 0 17 0 12345 \
                    1048576 300 18446744073709551615 1 1 0 0\n";
        let usage = parse_stat(text, 100, 4096).unwrap();
        assert_eq!(usage.cpu, Duration::from_millis(350));
        assert_eq!((usage.minor_faults, usage.major_faults), (100, 2));
        assert_eq!((usage.threads, usage.vmsize), (17, 1 << 20));
        assert_eq!(usage.rss, 300 * 4096);
        assert_eq!(parse_stat("1 (x) S 1", 100, 4096), None);
    }

    #[test]
    fn the_rollup_is_in_bytes() {
        let text = "55c6c7a74000-7ffdbda5a000 ---p 00000000 00:00 0   [rollup]\n\
                    Rss:                1608 kB\nPss:                 300 kB\n\
                    Pss_Dirty:           112 kB\nAnonymous:           112 kB\n\
                    AnonHugePages:      2048 kB\n";
        let memory = parse_rollup(text).unwrap();
        assert_eq!((memory.rss, memory.pss), (1608 << 10, 300 << 10));
        assert_eq!((memory.anonymous, memory.huge), (112 << 10, 2 << 20));
        assert_eq!(parse_rollup("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        let before = Usage::of(pid).unwrap();
        // Every page is written, so that all of it is resident; and it is more than an allocator would
        // take from what others have given back.
        let block = vec![1_u8; 65 << 20];
        let after = Usage::of(pid).unwrap();
        assert!(block.iter().all(|byte| *byte == 1));
        assert!(after.minor_faults > before.minor_faults && after.threads >= 1);
        assert!(after.vmsize > after.rss && after.cpu >= before.cpu);
        let memory = Memory::of(pid).unwrap();
        assert!(memory.anonymous >= 65 << 20 && memory.rss >= memory.pss);
        assert!(mappings(pid).unwrap() > 10);
        assert!(open_files(pid).unwrap() >= 3);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Usage::of(u32::MAX).unwrap_err();
        assert!(error.to_string().contains("/proc/4294967295/stat"));
    }
}
