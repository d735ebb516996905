//! What the kernel counts of this process, from `/proc/self`.

use std::{
    fs::{self, File},
    io::Read,
};

use serde::Serialize;

/// What is cheap to ask for: numbers that the kernel keeps anyway.
#[derive(Clone, Copy, PartialEq, Default, Debug, Serialize)]
pub struct Process {
    /// Memory that is there, not only promised (RSS).
    pub resident_bytes: u64,
    /// Of this: memory of no file, that is heap and stacks.
    pub resident_anon_bytes: u64,
    /// Of this: pages of files, mostly the program itself.
    pub resident_file_bytes: u64,
    /// Of this: shared memory.
    pub resident_shmem_bytes: u64,
    /// The most that was resident at any time.
    pub peak_resident_bytes: u64,
    /// Addresses in use, whether there is memory behind them or not (VmSize).
    pub virtual_bytes: u64,
    /// Memory that was moved to swap.
    pub swapped_bytes: u64,
    /// The kernel's page tables for the process, which are not part of what is resident.
    pub page_table_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Page faults that were answered from memory.
    pub faults_minor: u64,
    /// Page faults that had to wait for a disk.
    pub faults_major: u64,
    /// CPU time of the program, in seconds.
    pub cpu_user_seconds: f64,
    /// CPU time of the kernel on its behalf, in seconds.
    pub cpu_system_seconds: f64,
    /// Open file descriptors.
    pub open_files: u64,
    /// File descriptors that may be open.
    pub open_files_max: u64,
}

impl Process {
    /// Now; none where `/proc` is not to be read.
    pub fn read() -> Option<Process> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let ticks = rustix::param::clock_ticks_per_second();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Some(Process {
            open_files: open_files(),
            open_files_max: limit.unwrap_or(u64::MAX),
            ..Process::parse(&status, &stat, ticks)?
        })
    }

    fn parse(status: &str, stat: &str, ticks_per_second: u64) -> Option<Process> {
        let bytes = |name| kilobytes(status, name).unwrap_or(0);
        // The name of the program is in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // proc_pid_stat(5) counts from 1, and what is left begins with the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |number| Some(field(number)? as f64 / ticks_per_second.max(1) as f64);
        Some(Process {
            resident_bytes: kilobytes(status, "VmRSS")?,
            resident_anon_bytes: bytes("RssAnon"),
            resident_file_bytes: bytes("RssFile"),
            resident_shmem_bytes: bytes("RssShmem"),
            peak_resident_bytes: bytes("VmHWM"),
            virtual_bytes: bytes("VmSize"),
            swapped_bytes: bytes("VmSwap"),
            page_table_bytes: bytes("VmPTE"),
            threads: field(20)?,
            faults_minor: field(10)?,
            faults_major: field(12)?,
            cpu_user_seconds: seconds(14)?,
            cpu_system_seconds: seconds(15)?,
            open_files: 0,
            open_files_max: 0,
        })
    }
}

/// What the kernel must walk through the page tables for (`smaps_rollup`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Rollup {
    /// Resident memory, exactly: what `/proc/self/status` says may be some pages off.
    pub resident_bytes: u64,
    /// Resident memory, where a page that several processes share counts in parts (PSS).
    pub proportional_bytes: u64,
    /// Of what is resident: huge pages of 2 MiB, which the kernel gave unasked.
    pub anon_huge_bytes: u64,
}

impl Rollup {
    /// Now; none where it is not to be read.
    pub fn read() -> Option<Rollup> {
        Rollup::parse(&fs::read_to_string("/proc/self/smaps_rollup").ok()?)
    }

    fn parse(text: &str) -> Option<Rollup> {
        Some(Rollup {
            resident_bytes: kilobytes(text, "Rss")?,
            proportional_bytes: kilobytes(text, "Pss")?,
            anon_huge_bytes: kilobytes(text, "AnonHugePages")?,
        })
    }
}

/// Mappings of the process. The kernel writes a line for each, so this is not cheap.
pub fn mappings() -> Option<u64> {
    let mut maps = File::open("/proc/self/maps").ok()?;
    let mut buffer = vec![0; 64 << 10];
    let mut lines = 0;
    loop {
        match maps.read(&mut buffer).ok()? {
            0 => return Some(lines),
            read => lines += buffer[..read].iter().filter(|b| **b == b'\n').count() as u64,
        }
    }
}

/// A line such as `VmRSS:   2048 kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number = value.trim().strip_suffix(" kB")?;
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// Open descriptors. Newer kernels (6.2) say the number as the size of the directory.
fn open_files() -> u64 {
    let size = fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    if size > 0 {
        return size;
    }
    // The one through which the directory is read counts as well.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tzlay\nUmask:\t0022\nState:\tS (sleeping)\nVmPeak:\t  901000 kB\n\
        VmSize:\t  900000 kB\nVmHWM:\t  130000 kB\nVmRSS:\t  120000 kB\nRssAnon:\t  100000 kB\n\
        RssFile:\t   19000 kB\nRssShmem:\t    1000 kB\nVmData:\t  800000 kB\nVmStk:\t     132 kB\n\
        VmPTE:\t    1200 kB\nVmSwap:\t       4 kB\nThreads:\t2763\n";
    const STAT: &str = "4711 (a) b) S 1 4711 4711 0 -1 4194304 5000 77 31 2 250 125 0 0 20 0 2763 0 \
        987654 921600000 30000 18446744073709551615 1 1 0 0 0 0 0 4096 17 0 0 0 17 1 0 0 0 0 0 0 0 \
        0 0 0 0 0 0\n";
    const ROLLUP: &str = "55d3c1a4e000-7ffd1b9f5000 ---p 00000000 00:00 0        [rollup]\n\
        Rss:              120480 kB\nPss:              118000 kB\nPss_Dirty:        101000 kB\n\
        Pss_Anon:         100000 kB\nShared_Clean:       3000 kB\nAnonHugePages:      4096 kB\n\
        ShmemPmdMapped:        0 kB\nSwap:                  4 kB\n";

    #[test]
    fn what_the_kernel_writes_is_read() {
        let process = Process::parse(STATUS, STAT, 100).unwrap();
        let expected = Process {
            resident_bytes: 120_000 << 10,
            resident_anon_bytes: 100_000 << 10,
            resident_file_bytes: 19_000 << 10,
            resident_shmem_bytes: 1_000 << 10,
            peak_resident_bytes: 130_000 << 10,
            virtual_bytes: 900_000 << 10,
            swapped_bytes: 4 << 10,
            page_table_bytes: 1_200 << 10,
            threads: 2_763,
            faults_minor: 5_000,
            faults_major: 31,
            cpu_user_seconds: 2.5,
            cpu_system_seconds: 1.25,
            open_files: 0,
            open_files_max: 0,
        };
        assert_eq!(process, expected);
        let rollup = Rollup::parse(ROLLUP).unwrap();
        let expected = Rollup {
            resident_bytes: 120_480 << 10,
            proportional_bytes: 118_000 << 10,
            anon_huge_bytes: 4 << 20,
        };
        assert_eq!(rollup, expected);
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        assert_eq!(Process::parse("VmSize:\t1 kB\n", STAT, 100), None);
        assert_eq!(Process::parse(STATUS, "4711 (zlay) S 1", 100), None);
        assert_eq!(Rollup::parse("Rss: 1 kB\nPss_Dirty: 1 kB\n"), None);
        assert_eq!(kilobytes("VmRSS:\t12 MB\n", "VmRSS"), None);
    }

    #[test]
    fn this_process_is_read() {
        let file = File::open("/proc/self/status").unwrap();
        let process = Process::read().unwrap();
        assert!(process.resident_bytes >= process.resident_anon_bytes);
        assert!(process.virtual_bytes > process.resident_bytes);
        assert!(process.threads > 0 && process.faults_minor > 0 && process.open_files > 3);
        assert!(process.open_files <= process.open_files_max);
        assert!(Rollup::read().unwrap().proportional_bytes > 0);
        assert!(mappings().unwrap() > 10);
        drop(file);
    }
}
