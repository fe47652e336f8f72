//! No screen saver and no sleep while there is somebody at the other end.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
use linux::hold;
#[cfg(any(target_os = "macos", windows))]
use other::hold;

use tokio::task::AbortHandle;

/// Keeps the machine awake until dropped, as far as the system lets it. What the system refuses
/// is only logged: a call does not depend on it.
#[derive(Debug)]
pub struct Awake(AbortHandle);

impl Awake {
    /// Must run on the runtime.
    pub fn keep() -> Self {
        Self(tokio::spawn(hold()).abort_handle())
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Shown by the system to whoever asks what keeps it awake.
#[cfg(any(target_os = "linux", target_os = "macos", windows))]
const REASON: &str = "A video call";

#[cfg(any(target_os = "macos", windows))]
mod other {
    use super::REASON;

    pub(super) async fn hold() {
        let held = keepawake::Builder::default()
            .display(true)
            .idle(true)
            .sleep(true)
            .reason(REASON)
            .app_name("Visavis")
            .app_reverse_domain("app.visavis")
            .create();
        match held {
            Ok(_held) => std::future::pending().await,
            Err(error) => tracing::debug!(%error, "the machine is not kept awake"),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
async fn hold() {}
