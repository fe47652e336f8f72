//! The machine: its cores, its limits, how busy others keep it.

use std::{fs, time::Instant};

use anyhow::{Context, Result};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Two cores of this machine: one for the server, one for whoever loads it.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    pub server: usize,
    pub load: usize,
}

impl Cores {
    /// The first two this process may use. On one core both share it, and the figures say little.
    pub fn pick() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("sched_getaffinity")?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = usable.next().context("no core")?;
        Ok(Self { server, load: usable.next().unwrap_or(server) })
    }
}

/// Keeps the calling thread, and what it starts from now on, on `core`.
pub fn stay_on(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).context("sched_setaffinity")
}

/// Lets this process and its children open as many files as the system permits; how many.
pub fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raising the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// CPU seconds the whole machine has spent, and when.
pub struct Busy {
    at: Instant,
    seconds: f64,
}

impl Busy {
    pub fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let fields: Vec<f64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal
        let ticks: f64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|&index| fields.get(index)).sum();
        Ok(Self { at: Instant::now(), seconds: ticks / 100.0 })
    }

    /// Cores kept busy by everybody since `self`.
    pub fn cores(&self) -> Result<f64> {
        let now = Self::now()?;
        Ok((now.seconds - self.seconds) / (now.at - self.at).as_secs_f64())
    }
}

/// One line: cores, processor, kernel.
pub fn description() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    // Not those this process may use: it has confined itself.
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}
