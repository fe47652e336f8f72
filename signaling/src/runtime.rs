//! What a server runs on: Tokio, whose threads take a short rest before they sleep when messages
//! come thick and fast.
//!
//! Falling asleep and being woken costs a thread more than relaying a message, and at 16,000
//! messages a second every second message would wake one. As network cards do with their
//! interrupts, a busy thread therefore lets what comes gather for half a millisecond. A thread is
//! busy after a dozen wakes in quick succession, until its first sleep of some milliseconds.

use std::{
    cell::RefCell,
    io,
    num::NonZeroUsize,
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

/// How long a busy thread lets messages gather: small beside any network, and long enough for
/// several to come.
const REST: Duration = Duration::from_micros(500);

/// A thread is busy while, on average, it wants to sleep again so soon after it was last about to.
const BUSY: Duration = Duration::from_micros(400);

/// How many wakes the average is over, about.
const WAKES: u32 = 16;

/// A runtime for [`cli::serve`](crate::cli::serve), with as many threads as there are cores.
///
/// # Errors
/// When the system gives no threads or no event queue.
pub fn runtime() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // On one core there is nobody to steal work from, nor to be guarded against.
    let mut builder =
        if cores == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().on_thread_park(rest).build()
}

fn rest() {
    thread_local! {
        static PACE: RefCell<Pace> = const { RefCell::new(Pace::new()) };
    }
    PACE.with_borrow_mut(|pace| {
        if pace.is_busy(Instant::now()) {
            thread::sleep(REST);
            pace.rested(Instant::now());
        }
    });
}

/// How often a thread wants to sleep.
struct Pace {
    /// When it last was about to, or had rested.
    last: Option<Instant>,
    /// From then to the next time, on average.
    average: Duration,
}

impl Pace {
    const fn new() -> Self {
        Self { last: None, average: Duration::from_secs(1) }
    }

    /// The thread is about to sleep: whether it should rest first.
    fn is_busy(&mut self, now: Instant) -> bool {
        let Some(last) = self.last.replace(now) else {
            return false;
        };
        // One long sleep ends a busy time at once: what comes next should not wait.
        let passed = now.saturating_duration_since(last).min(BUSY * WAKES);
        self.average = (self.average.min(BUSY * 2) * (WAKES - 1) + passed) / WAKES;
        self.average < BUSY
    }

    /// The rest does not count: what matters is how long it then waits for something to come.
    fn rested(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `wakes` rested, each coming when the next message after a rest does.
    fn rests(every: Duration, wakes: u32) -> u32 {
        let work = Duration::from_micros(30);
        let start = Instant::now();
        let (mut pace, mut now, mut rests) = (Pace::new(), start, 0);
        for _ in 0..wakes {
            if pace.is_busy(now) {
                rests += 1;
                now += REST;
                pace.rested(now);
            }
            // To the next message, at once if one came meanwhile.
            let came = (now - start).as_nanos() / every.as_nanos();
            let next = start + every * (u32::try_from(came).unwrap() + 1);
            now = if rests > 0 && every < REST { now } else { next } + work;
        }
        rests
    }

    #[test]
    fn an_idle_thread_never_rests() {
        assert_eq!(rests(Duration::from_millis(10), 1000), 0);
        assert_eq!(rests(Duration::from_millis(1), 1000), 0);
    }

    #[test]
    fn a_busy_one_rests_nearly_always() {
        assert!(rests(Duration::from_micros(60), 1000) > 900);
    }

    #[test]
    fn it_is_idle_again_at_the_first_long_sleep() {
        let mut now = Instant::now();
        let mut pace = Pace::new();
        for _ in 0..100 {
            now += Duration::from_micros(50);
            pace.is_busy(now);
        }
        assert!(pace.is_busy(now + Duration::from_micros(50)));
        assert!(!pace.is_busy(now + Duration::from_millis(20)));
    }
}
