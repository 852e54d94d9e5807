//! Who used the processors how much.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// The kernel tells processor time in hundredths of a second, whatever its own tick is.
const TICK: Duration = Duration::from_millis(10);

/// The processor time that this process has used so far, all threads and the kernel's work for them included.
pub(crate) fn own_cpu() -> Result<Duration> {
    cpu_in(&fs::read_to_string("/proc/self/stat")?)
}

/// The same of another process.
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    cpu_in(&fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?)
}

/// Fields 14 and 15. The second is the program's name in parentheses and may hold anything.
fn cpu_in(stat: &str) -> Result<Duration> {
    let after_name = stat.rsplit_once(')').context("no name in /proc/*/stat")?.1;
    let mut ticks = after_name
        .split_ascii_whitespace()
        .skip(11)
        .map(str::parse::<u32>);
    let mut next = || {
        ticks
            .next()
            .context("too few fields in /proc/*/stat")?
            .context("no number in /proc/*/stat")
    };
    Ok(TICK * (next()? + next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_two_fields() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0";
        assert_eq!(cpu_in(stat).expect("a time"), Duration::from_secs(2));
        assert!(own_cpu().is_ok());
    }
}
