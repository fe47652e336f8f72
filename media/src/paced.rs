//! Threads that stand in for a device's clock: they keep real time by absolute deadlines, so
//! that delays do not add up.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A running thread; dropping it ends the thread and waits for that.
pub(crate) struct PacedThread {
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl PacedThread {
    /// Runs `body` until it returns; it must when its [`Stop`] says so.
    pub fn spawn(name: &str, body: impl FnOnce(&Stop) + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread =
            thread::Builder::new().name(name.into()).spawn(move || body(&Stop(stopped)))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for PacedThread {
    fn drop(&mut self) {
        self.stop = None;
        // A body may drop its own guard through a callback; it cannot wait for itself.
        if let Some(thread) =
            self.thread.take().filter(|it| it.thread().id() != thread::current().id())
        {
            // An Err is a panic, which the hook has reported.
            let _ = thread.join();
        }
    }
}

/// Tells the thread's body when to end.
pub(crate) struct Stop(Receiver<Infallible>);

impl Stop {
    /// Sleeps to `deadline`, or returns false at once when the thread must end.
    pub fn sleep_until(&self, deadline: Instant) -> bool {
        let rest = deadline.saturating_duration_since(Instant::now());
        matches!(self.0.recv_timeout(rest), Err(RecvTimeoutError::Timeout))
    }
}

/// The deadlines of something that happens `rate.0` times in `rate.1` seconds.
pub(crate) struct Schedule {
    start: Instant,
    rate: (u32, u32),
    index: u64,
}

/// Later than this (a suspended computer, a stopped process) nothing is caught up with.
const LATEST: Duration = Duration::from_secs(1);

impl Schedule {
    /// The first deadline is `start`.
    pub fn new(start: Instant, rate: (u32, u32)) -> Self {
        Self { start, rate: (rate.0.max(1), rate.1.max(1)), index: 0 }
    }

    /// The next deadline.
    pub fn deadline(&self) -> Instant {
        let (events, seconds) = self.rate;
        let nanos =
            u128::from(self.index) * u128::from(seconds) * 1_000_000_000 / u128::from(events);
        self.start + Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX))
    }

    /// Goes on to the deadline after this one.
    pub fn advance(&mut self) {
        self.index += 1;
    }

    /// After a long standstill starts anew from `now`; shorter delays are caught up with.
    pub fn forget_standstill(&mut self, now: Instant) {
        if now.saturating_duration_since(self.deadline()) > LATEST {
            *self = Self::new(now, self.rate);
        }
    }

    /// Passes over deadlines a whole period or more ago and returns how many; after a long
    /// standstill starts anew from `now` instead.
    pub fn skip_missed(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.deadline()) > LATEST {
            *self = Self::new(now, self.rate);
            return 0;
        }
        let before = self.index;
        loop {
            self.advance();
            if self.deadline() > now {
                self.index -= 1;
                return self.index - before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ntsc_hour_does_not_drift() {
        let base = Instant::now();
        let mut schedule = Schedule::new(base, (30_000, 1001));
        for _ in 0..30_000 {
            schedule.advance();
        }
        assert_eq!(schedule.deadline() - base, Duration::from_secs(1001));
    }

    #[test]
    fn a_late_thread_passes_over_what_it_missed() {
        let base = Instant::now();
        let at = |millis| base + Duration::from_millis(millis);
        let mut schedule = Schedule::new(base, (50, 1));
        assert_eq!(schedule.skip_missed(at(19)), 0);
        assert_eq!(schedule.deadline(), base);
        assert_eq!(schedule.skip_missed(at(65)), 3);
        assert_eq!(schedule.deadline(), at(60));
        assert_eq!(schedule.skip_missed(at(30)), 0, "early is not late");
        assert_eq!(schedule.deadline(), at(60));
        schedule.forget_standstill(at(1060));
        assert_eq!(schedule.deadline(), at(60), "a second is caught up with");
        assert_eq!(schedule.skip_missed(at(9000)), 0, "a night's sleep is not caught up with");
        assert_eq!(schedule.deadline(), at(9000));
        schedule.forget_standstill(at(20_000));
        assert_eq!(schedule.deadline(), at(20_000));
    }

    #[test]
    fn a_dropped_guard_ends_its_thread() {
        let (tell, told) = channel();
        let guard = PacedThread::spawn("test", move |stop| {
            let far = Instant::now() + Duration::from_secs(3600);
            let _ = tell.send(stop.sleep_until(far));
        })
        .unwrap();
        drop(guard);
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(false));
    }
}
