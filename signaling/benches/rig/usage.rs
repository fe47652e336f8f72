//! What a process uses, as `/proc` tells it (proc(5)).

use std::{fs, time::Duration};

use anyhow::{Context, Result};

/// The unit of CPU times in `/proc/PID/stat` on every Linux: `USER_HZ`.
const TICKS_A_SECOND: u64 = 100;

/// CPU time of all threads of `pid` that live, to the nanosecond where the kernel keeps
/// `schedstat`, else to the hundredth of a second.
pub fn cpu(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.with_context(|| format!("the server (process {pid}) is gone"))? {
        let path = task?.path().join("schedstat");
        let Ok(text) = fs::read_to_string(path) else {
            return coarse_cpu(pid);
        };
        let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
        total += Duration::from_nanos(nanos.context("/proc/PID/task/TID/schedstat")?);
    }
    Ok(total)
}

fn coarse_cpu(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name may contain anything; fields count from behind it.
    let (_, fields) = text.rsplit_once(") ").context("/proc/PID/stat")?;
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_A_SECOND))
}

/// Proportional set size in bytes: shared pages counted by share.
pub fn memory(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(path).with_context(|| format!("process {pid} is gone"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
    let kib: u64 = line.trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Open files, sockets included.
pub fn open_files(pid: u32) -> Result<usize> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    Ok(entries.with_context(|| format!("process {pid} is gone"))?.count())
}
