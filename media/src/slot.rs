//! A cell for the newest value only. Whoever writes never waits; a value that nobody took
//! is replaced, so no slow reader can build a queue of old pictures.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Called after each `put`, on the writer's thread. Must return quickly.
pub type WakeHook = Arc<dyn Fn() + Send + Sync>;

/// The cell. Share it in an `Arc`.
pub struct Slot<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

struct State<T> {
    value: Option<T>,
    hook: Option<WakeHook>,
    replaced: u64,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { value: None, hook: None, replaced: 0 }),
            filled: Condvar::new(),
        }
    }
}

impl<T> Slot<T> {
    /// An empty cell.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores `value`, dropping one that was not taken.
    pub fn put(&self, value: T) {
        let (old, hook) = {
            let mut state = self.lock();
            let old = state.value.replace(value);
            state.replaced += u64::from(old.is_some());
            (old, state.hook.clone())
        };
        self.filled.notify_one();
        drop(old);
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Takes the newest value, if one arrived since the last call.
    pub fn take(&self) -> Option<T> {
        self.lock().value.take()
    }

    /// Waits up to `limit` for a value.
    pub fn wait(&self, limit: Duration) -> Option<T> {
        let state = self.lock();
        let (mut state, _) = self
            .filled
            .wait_timeout_while(state, limit, |state| state.value.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.value.take()
    }

    /// Replaces the hook that runs after each `put`.
    pub fn set_wake(&self, hook: Option<WakeHook>) {
        self.lock().hook = hook;
    }

    /// How many values were replaced before anyone took them.
    pub fn replaced(&self) -> u64 {
        self.lock().replaced
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn only_the_newest_value_is_kept() {
        let slot = Slot::new();
        slot.put(1);
        slot.put(2);
        assert_eq!(slot.take(), Some(2));
        assert_eq!(slot.take(), None);
        assert_eq!(slot.replaced(), 1);
    }

    #[test]
    fn the_hook_runs_once_a_value() {
        let slot = Slot::new();
        let calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&calls);
        slot.set_wake(Some(Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        })));
        slot.put(1);
        slot.put(2);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_waiting_reader_gets_the_value() {
        let slot = Arc::new(Slot::new());
        let writer = Arc::clone(&slot);
        let thread = std::thread::spawn(move || writer.put(7));
        assert_eq!(slot.wait(Duration::from_secs(10)), Some(7));
        thread.join().expect("writer");
        assert_eq!(slot.wait(Duration::from_millis(1)), None);
    }
}
