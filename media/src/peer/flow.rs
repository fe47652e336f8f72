//! What lies between a stream's pipeline and the stack's pacer, in numbers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How a stream gets from its pipeline to the pacer, which tells here what room it has.
#[derive(Default)]
pub(crate) struct Flow {
    /// Bytes that wait for room.
    pub(super) upstream: AtomicUsize,
    /// Bytes in the pacer.
    queued: AtomicUsize,
    /// Packets written, and those that came to the pacer: the stack holds the difference.
    pub(super) written: AtomicUsize,
    entered: AtomicUsize,
    pub(super) flushes: AtomicU64,
    changed: Notify,
}

/// What may wait in the pacer: enough that it never runs dry between two looks, and little, since
/// what waits there is numbered and can no longer be dropped.
const WRITE_AHEAD: usize = 3_600;
const WRITE_AHEAD_PACKETS: usize = 3;

/// A packet that the stack dropped does not come to the pacer: then it is not waited for.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

impl Flow {
    /// Bytes of packets that are not numbered.
    pub(super) fn upstream(&self) -> usize {
        self.upstream.load(Ordering::Relaxed)
    }

    /// A packet came to the pacer.
    pub(super) fn note_entered(&self) {
        self.entered.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes in the pacer.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// So many bytes wait in the pacer.
    pub(super) fn set_queued(&self, bytes: usize) {
        self.queued.store(bytes, Ordering::Relaxed);
        if bytes < WRITE_AHEAD {
            self.changed.notify_one();
        }
    }

    /// What waits for room is worthless.
    pub(super) fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn under_way(&self) -> usize {
        let written = self.written.load(Ordering::Relaxed);
        written.wrapping_sub(self.entered.load(Ordering::Relaxed))
    }

    fn has_room(&self) -> bool {
        self.queued() < WRITE_AHEAD && self.under_way() < WRITE_AHEAD_PACKETS
    }

    /// Waits until the pacer has room; false if what waits was flushed meanwhile.
    pub(super) async fn room(&self, flushes: u64) -> bool {
        while self.flushes.load(Ordering::Relaxed) == flushes {
            if self.has_room() {
                return true;
            }
            let changed = self.changed.notified();
            if tokio::time::timeout(LONGEST_WAIT, changed).await.is_err() {
                self.entered.store(self.written.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        false
    }
}
