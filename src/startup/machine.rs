//! What the machine allows this process: files, threads, memory, cores.

use std::{fs, num::NonZero, path::Path, thread};

use rustix::process::{Resource, getrlimit};

use crate::descriptors::OpenFiles;

/// Limits that a relay of the whole network can reach; none where there is no limit, or where the
/// system does not say.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Open files.
    pub open_files: OpenFiles,
    /// Threads: the smallest of the limits of the user, the container and the kernel, and its name.
    pub threads: Option<(u64, &'static str)>,
    /// Memory of the machine, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory of the container (the cgroup), in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Cores that the process may use.
    pub cores: Option<usize>,
}

impl Machine {
    /// Asks the system.
    pub fn read(open_files: OpenFiles) -> Machine {
        let root = Path::new("/");
        let user = getrlimit(Resource::Nproc).current;
        let kernel = number(&root.join("proc/sys/kernel/threads-max"));
        let container = Controller::PIDS.limit(root);
        let threads = [
            (user, "ulimit -u"),
            (container, "pids.max of the cgroup"),
            (kernel, "kernel.threads-max"),
        ];
        Machine {
            open_files,
            threads: smallest(&threads),
            memory_bytes: memory_total(root),
            memory_limit_bytes: Controller::MEMORY.limit(root),
            cores: thread::available_parallelism().ok().map(NonZero::get),
        }
    }
}

fn smallest(limits: &[(Option<u64>, &'static str)]) -> Option<(u64, &'static str)> {
    let known = limits
        .iter()
        .filter_map(|(limit, name)| Some(((*limit)?, *name)));
    known.min_by_key(|(limit, _)| *limit)
}

/// What a cgroup limits, and how the two versions of cgroups call it
/// (<https://docs.kernel.org/admin-guide/cgroup-v2.html>,
/// <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>).
struct Controller {
    name: &'static str,
    file: &'static str,
    file_v1: &'static str,
}

impl Controller {
    const MEMORY: Controller = Controller {
        name: "memory",
        file: "memory.max",
        file_v1: "memory.limit_in_bytes",
    };
    const PIDS: Controller = Controller {
        name: "pids",
        file: "pids.max",
        file_v1: "pids.max",
    };

    /// The smallest limit of the cgroup of this process and those around it.
    fn limit(&self, root: &Path) -> Option<u64> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let limits = groups.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, group) = (parts.next()?, parts.next()?);
            let mounted = root.join("sys/fs/cgroup");
            let (base, file) = match controllers {
                "" => (mounted, self.file),
                _ if controllers.split(',').any(|name| name == self.name) => {
                    (mounted.join(self.name), self.file_v1)
                }
                _ => return None,
            };
            // Inside a container the path may be that of the outside; its own root is there anyway.
            let own = Path::new(group.trim_start_matches('/'));
            let limits = own
                .ancestors()
                .filter_map(|group| number(&base.join(group).join(file)));
            // Version 1 says "none" with the largest number of pages.
            limits.filter(|limit| *limit < 1 << 62).min()
        });
        limits.min()
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn memory_total(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors;

    /// A directory with such files.
    fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn a_group_is_limited_by_those_around_it() {
        let root = files(&[
            ("proc/self/cgroup", "0::/system.slice/zlay.service\n"),
            (
                "sys/fs/cgroup/system.slice/zlay.service/memory.max",
                "max\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "4096\n"),
            ("sys/fs/cgroup/memory.max", "8192\n"),
        ]);
        assert_eq!(Controller::MEMORY.limit(root.path()), Some(4096));
        assert_eq!(Controller::PIDS.limit(root.path()), None);
    }

    #[test]
    fn the_first_version_is_understood() {
        let root = files(&[
            (
                "proc/self/cgroup",
                "9:pids:/a\n4:cpu,memory:/docker/x\n0::/\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes",
                "1024\n",
            ),
            ("sys/fs/cgroup/pids/pids.max", "77\n"),
        ]);
        assert_eq!(Controller::MEMORY.limit(root.path()), Some(1024));
        assert_eq!(Controller::PIDS.limit(root.path()), Some(77));
    }

    #[test]
    fn no_limit_is_none() {
        let unlimited = files(&[
            ("proc/self/cgroup", "4:memory:/x\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(Controller::MEMORY.limit(unlimited.path()), None);
        assert_eq!(Controller::MEMORY.limit(Path::new("/does-not-exist")), None);
    }

    #[test]
    fn the_smallest_limit_has_a_name() {
        let limits = [(None, "a"), (Some(9), "b"), (Some(7), "c")];
        assert_eq!(smallest(&limits), Some((7, "c")));
        assert_eq!(smallest(&[(None, "a")]), None);
    }

    #[test]
    fn this_machine_has_memory_and_cores() {
        let machine = Machine::read(descriptors::raise());
        assert!(machine.memory_bytes.unwrap() > 1 << 20);
        assert!(machine.cores.unwrap() > 0);
    }
}
