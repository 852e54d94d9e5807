//! The memory of this machine, or of the control group that this process runs in.

#![allow(
    clippy::disallowed_methods,
    reason = "read once at the start; /proc and /sys do not hang"
)]

use std::fs;
use std::path::Path;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Returns the memory that this process may use, in bytes: the smallest limit of its control groups, or all there is.
pub(crate) fn memory_bytes() -> usize {
    let all = installed();
    usize::try_from(limit_of_groups().map_or(all, |limit| limit.min(all))).unwrap_or(usize::MAX)
}

/// Reads what is installed. Elsewhere than on Linux: what any machine of today has.
fn installed() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo.lines().find_map(|line| {
        let total = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
        total.parse::<u64>().ok()
    });
    kib.map_or(4 * 1024 * 1024 * 1024, |kib| kib * 1024)
}

/// Reads the limits of version 2 from the process's own group up to the root, and the one of version 1.
fn limit_of_groups() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = Path::new(CGROUPS).join(own.unwrap_or_default());
    // A group above may be tighter than the own one, and the kernel keeps to all of them.
    let of_version_2 = path
        .ancestors()
        .take_while(|dir| dir.starts_with(CGROUPS))
        .filter_map(|dir| limit(&dir.join("memory.max")));
    of_version_2
        // Version 1 says no limit by an enormous number, which is then not the smallest.
        .chain(limit(Path::new(
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        )))
        .min()
}

/// A file that is missing or says `max` is no limit.
fn limit(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_has_memory() {
        assert!(super::memory_bytes() > 64 * 1024 * 1024);
    }
}
