//! The time, as pure parts are told it.

use std::time::{Duration, Instant, SystemTime};

/// One moment on both clocks: one for waiting, one for what other machines and later runs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Never goes back; means nothing elsewhere.
    pub instant: Instant,
    /// Wall-clock time.
    pub unix: SystemTime,
}

impl Moment {
    /// The present moment.
    pub fn now() -> Self {
        Self { instant: Instant::now(), unix: SystemTime::now() }
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self { instant: self.instant + wait, unix: self.unix + wait }
    }
}

impl std::ops::AddAssign<Duration> for Moment {
    fn add_assign(&mut self, wait: Duration) {
        *self = *self + wait;
    }
}
