//! What a process uses of its machine.

use anyhow::{Context, Result};

use super::Host;

impl Host {
    /// Kibibytes of memory that the process has in use.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn resident_kib(&self) -> Result<i64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    }

    /// The processor time that the process has used so far, in seconds, without that of its children.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn processor_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // Behind the name, which may hold anything, `utime` and `stime` are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').context("the name's end")?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }
}
