//! What processes use, as `/proc` tells it (proc(5)).

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result};

/// The unit of CPU times in `/proc` on every Linux: `USER_HZ`.
const TICKS_A_SECOND: f64 = 100.0;

/// What a process and all its descendants have used.
pub struct Usage {
    at: Instant,
    cpu_seconds: f64,
    /// Proportional set size: shared pages counted by share, MiB.
    pub pss_mib: f64,
}

impl Usage {
    /// Of the process `pid` and its descendants now.
    pub fn of_tree(pid: u32) -> Result<Self> {
        let mut usage = Self {
            at: Instant::now(),
            cpu_seconds: cpu_seconds(pid).with_context(|| format!("process {pid} is gone"))?,
            pss_mib: pss_mib(pid).unwrap_or(0.0),
        };
        for child in descendants(pid) {
            // One that ended meanwhile used next to nothing since the last look.
            usage.cpu_seconds += cpu_seconds(child).unwrap_or(0.0);
            usage.pss_mib += pss_mib(child).unwrap_or(0.0);
        }
        Ok(usage)
    }

    /// Cores kept busy since `before`.
    pub fn cores_since(&self, before: &Self) -> f64 {
        (self.cpu_seconds - before.cpu_seconds) / (self.at - before.at).as_secs_f64()
    }
}

/// What the whole machine has used.
pub struct Machine {
    at: Instant,
    busy_seconds: f64,
}

impl Machine {
    /// Up to now.
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
        // user nice system idle iowait irq softirq steal (guest is part of user)
        let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&index| fields.get(index)).sum();
        Ok(Self { at: Instant::now(), busy_seconds: busy / TICKS_A_SECOND })
    }

    /// Cores kept busy since `before`, by anybody.
    pub fn busy_cores_since(&self, before: &Self) -> f64 {
        (self.busy_seconds - before.busy_seconds) / (self.at - before.at).as_secs_f64()
    }
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; after it utime and stime are fields 12 and 13.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map(str::parse::<f64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) / TICKS_A_SECOND)
}

fn pss_mib(pid: u32) -> Option<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}
