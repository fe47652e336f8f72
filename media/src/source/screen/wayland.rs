//! The screen of a Wayland session: the desktop's portal asks the user, PipeWire brings the pictures.

mod portal;
mod stream;

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::Capture;
use crate::frame::{Frame, FramePool};
use crate::paced::Stop;
use portal::Grant;
use stream::Stream;

/// So long after the user's consent it may take until the stream runs.
const RUNS_WITHIN: Duration = Duration::from_secs(10);

/// How often a waiting for the user looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the user chose to share.
pub(super) struct Display {
    /// Before the grant, which closes what it comes from.
    stream: Stream,
    grant: Grant,
    runtime: Runtime,
    /// Until when it must run. A picture may come later: some desktops wait for a change.
    runs_by: Instant,
}

impl Display {
    /// Asks the user, unless they have answered before. None when it is no longer wanted.
    pub fn open(pool: FramePool, stop: &Stop) -> Result<Option<Self>, String> {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let Some((grant, remote)) = runtime.block_on(portal::ask(unwanted(stop)))? else {
            return Ok(None);
        };
        match Stream::open(remote, grant.node(), pool) {
            Ok(stream) => {
                let runs_by = Instant::now() + RUNS_WITHIN;
                Ok(Some(Self { stream, grant, runtime, runs_by }))
            }
            Err(reason) => {
                runtime.block_on(grant.close());
                Err(reason)
            }
        }
    }

    fn look(&mut self) -> Result<bool, String> {
        if self.grant.ended() {
            return Err("sharing was ended in the desktop".to_owned());
        }
        let changed = self.stream.poll()?;
        if !self.stream.runs() && Instant::now() > self.runs_by {
            return Err("PipeWire brings no pictures: see whether its session manager \
                        (wireplumber) runs"
                .to_owned());
        }
        Ok(changed)
    }
}

impl Capture for Display {
    fn name(&self) -> &str {
        "screen"
    }

    fn changed(&mut self) -> Result<bool, String> {
        let changed = self.look();
        if changed.is_err() {
            // Whoever ended it is asked again next time.
            portal::forget();
        }
        changed
    }

    fn capture(&mut self) -> Result<Frame, String> {
        self.stream.take().ok_or_else(|| "there is no picture yet".to_owned())
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // The desktop shows that something is shared until it is told.
        self.runtime.block_on(self.grant.close());
    }
}

/// Ends when the source is to stop: a channel of threads, which a task cannot await.
async fn unwanted(stop: &Stop) {
    while stop.sleep_until(Instant::now()) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
