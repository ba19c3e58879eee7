//! The CPU time and memory of a process, as the kernel counts them (proc_pid_stat(5), proc_pid_status(5)).

use std::{fs, thread, time::Duration};

use anyhow::Context as _;

/// CPU time of all threads, in user mode and in the kernel.
#[derive(Clone, Copy)]
pub struct Cost(Duration);

impl Cost {
    /// The CPU time until now.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).context(path.clone())?;
        let cost = || {
            // The name of the program is in parentheses, and may contain anything.
            let (_, fields) = stat.rsplit_once(')')?;
            let mut fields = fields.split_whitespace().skip(11);
            let mut ticks = || fields.next()?.parse::<u64>().ok();
            Some(Self(TICK * u32::try_from(ticks()? + ticks()?).ok()?))
        };
        cost().with_context(|| format!("{path}: {stat:?}"))
    }

    /// The CPU time between `earlier` and `self`.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// USER_HZ, which is 100 on every supported architecture.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory, in bytes.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).context(path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .with_context(|| format!("{path}: no VmRSS"))?;
    Ok(1024 * kibibytes.trim().parse::<u64>()?)
}

/// The number of cores and the load.
pub fn machine() -> anyhow::Result<String> {
    let cores = thread::available_parallelism()?;
    let load = fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!("load {load} on {cores} cores"))
}
