//! The loops between devices and the network, each on one named thread. A handle stops its
//! thread when dropped, without waiting for it.

pub mod audio_receive;
pub mod audio_send;
pub mod freeze;
#[cfg(test)]
mod loss_simulation;
pub mod playout;
mod recovery;
mod thin;
pub mod video_receive;
pub mod video_send;
mod voice;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Tells a thread to stop.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A running loop.
pub(crate) struct Worker {
    stop: Stop,
    handle: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts `run` on a thread of this name. A panic there is logged and ends only that loop.
    pub(crate) fn spawn(name: &'static str, run: impl FnOnce(&Stop) + Send + 'static) -> Self {
        let stop = Stop::default();
        let seen = stop.clone();
        let body = move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&seen)));
            if outcome.is_err() {
                tracing::error!(thread = name, "a media thread ended by a fault of the program");
            }
        };
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        if let Err(error) = &handle {
            tracing::error!(thread = name, %error, "no thread could be started");
        }
        Self { stop, handle: handle.ok() }
    }

    /// The thread, for waking it.
    pub(crate) fn thread(&self) -> Option<&Thread> {
        self.handle.as_ref().map(JoinHandle::thread)
    }

    /// Stops the loop and waits for its end, at most `limit`.
    pub(crate) fn finish(mut self, limit: Duration) {
        self.signal();
        let Some(handle) = self.handle.take() else {
            return;
        };
        let deadline = now() + limit;
        while !handle.is_finished() && now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Whether the loop has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the loop without waiting.
    pub(crate) fn signal(&self) {
        self.stop.set();
        if let Some(thread) = self.thread() {
            thread.unpark();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.signal();
    }
}

fn now() -> Instant {
    Instant::now()
}
