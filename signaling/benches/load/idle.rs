//! What a connection costs that says nothing, and what it cost to open it.

use std::{fmt, time::Duration};

use anyhow::{Context, Result};
use tokio::{task::JoinSet, time::sleep};

use crate::rig::{
    server::Server,
    wire::{Dialect, Wire},
};

/// Connections opened at the same time.
const AT_ONCE: usize = 32;

/// Pings have gone to and fro once, and what opening needed is given back.
const SETTLE: Duration = Duration::from_secs(6);

#[derive(Debug, Clone)]
pub struct Figures {
    /// Whether they sit in rooms, in pairs.
    pub seated: bool,
    /// How many connections, and the memory that each added since the first, in bytes.
    pub memory: Vec<(usize, f64)>,
    /// CPU time for a connection opened (and seated), in microseconds.
    pub connect_us: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.seated { "seated" } else { "idle" };
        for (count, bytes) in &self.memory {
            write!(f, "{count} {what}: {:.2} KiB each; ", bytes / 1024.0)?;
        }
        write!(f, "{:.0} us of CPU to connect", self.connect_us)
    }
}

/// Opens as many connections as `steps` say, one step after the other.
pub async fn measure(
    server: &Server,
    dialect: Dialect,
    steps: &[usize],
    seated: bool,
) -> Result<Figures> {
    // The first connection brings pages that are no connection's.
    drop(Wire::open(server.address, None, dialect).await?);
    sleep(Duration::from_millis(500)).await;
    let memory_before = server.memory()?;
    let mut opening_cpu = Duration::ZERO;
    let mut memory = Vec::new();
    let mut readers = JoinSet::new();
    let mut count = 0;
    for &step in steps {
        let cpu = server.cpu()?;
        while count < step {
            let mut opening = JoinSet::new();
            for number in count..(count + AT_ONCE).min(step) {
                let address = server.address;
                opening.spawn_local(async move {
                    let wire = Wire::open(address, None, dialect).await?;
                    if seated {
                        wire.join(&format!("room-{}", number / 2)).await?;
                    }
                    anyhow::Ok(wire)
                });
            }
            while let Some(wire) = opening.join_next().await {
                let wire = wire?.with_context(|| format!("connection {count} of {step}"))?;
                readers.spawn_local(async move { while wire.read(&mut |_| {}).await.is_ok() {} });
                count += 1;
            }
        }
        opening_cpu += server.cpu()? - cpu;
        sleep(SETTLE).await;
        let grown = server.memory()?.saturating_sub(memory_before);
        memory.push((count, grown as f64 / count as f64));
    }
    anyhow::ensure!(
        readers.try_join_next().is_none(),
        "the server closed connections that did no wrong"
    );
    let connect_us = opening_cpu.as_secs_f64() * 1e6 / count as f64;
    Ok(Figures { seated, memory, connect_us })
}
