//! How long a client stays that never reads.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    rig::{machine::Cores, server::Server, wire::Wire},
    subject::Subject,
};

/// Beyond any reasonable server.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Nobody says anything to it but the server's pings.
    pub idle: Option<Duration>,
    /// Its peer keeps talking, so that the server's writes block.
    pub talked_to: Option<Duration>,
}

/// Seats a pair of which one end never reads, and waits until the server closes that socket.
pub async fn measure(subject: &Subject, cores: Cores) -> Result<Figures> {
    let idle = once(&subject.start(cores, false)?, subject, false).await?;
    let talked_to = once(&subject.start(cores, false)?, subject, true).await?;
    Ok(Figures { idle, talked_to })
}

async fn once(server: &Server, subject: &Subject, talk: bool) -> Result<Option<Duration>> {
    let stays = Wire::open(server.address, None, subject.dialect).await?;
    stays.join("deaf").await?;
    let with_one = server.open_files()?;
    let deaf = Wire::open(server.address, None, subject.dialect).await?;
    deaf.join("deaf").await?;
    let started = Instant::now();
    let text = subject.dialect.message(&format!("\"{}\"", "x".repeat(8_000)));
    while server.open_files()? > with_one {
        if started.elapsed() > LIMIT {
            return Ok(None);
        }
        if talk && stays.is_flushed() {
            stays.send(text.as_bytes())?;
        }
        stays.flush()?;
        // Pings are answered meanwhile.
        let _ = timeout(Duration::from_millis(2), stays.read(&mut |_| {})).await;
        sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed();
    drop(deaf);
    Ok(Some(took))
}
