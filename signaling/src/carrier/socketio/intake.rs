//! What a Socket.IO client said and the hub has not taken yet.
//!
//! Handlers of events may not wait, or events would overtake each other; handing in may. So
//! there is a queue between the two. It is bounded by what it costs to keep: who runs ahead of
//! the hub by more than that is dropped.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::{mpsc, watch};

use crate::protocol::{ByeReason, ClientEvent, EventError};

/// Keeping an event costs about so much beside its text, in bytes.
const EVERY: usize = 64;

/// The way in: for the handlers. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    items: mpsc::UnboundedSender<(Item, usize)>,
    waiting: Arc<AtomicUsize>,
    overflown: Arc<AtomicBool>,
    capacity: usize,
    gone: Arc<watch::Sender<Option<ByeReason>>>,
}

/// The way out: for the socket's one task.
#[derive(Debug)]
pub(super) struct Outtake {
    items: mpsc::UnboundedReceiver<(Item, usize)>,
    waiting: Arc<AtomicUsize>,
    gone: watch::Receiver<Option<ByeReason>>,
}

/// What comes out, in the order in which it went in.
#[derive(Debug)]
pub(super) enum Item {
    /// An event, or why it could not be understood.
    Event(Result<ClientEvent, EventError>),
    /// More was said than may wait; what followed is lost.
    Overflow,
    /// The client is gone.
    Gone(ByeReason),
}

/// An empty queue for `capacity` bytes of JSON, [`EVERY`] added to each event.
pub(super) fn queue(capacity: usize) -> (Intake, Outtake) {
    let (items, out) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let (gone, gone_out) = watch::channel(None);
    let overflown = Arc::new(AtomicBool::new(false));
    let intake =
        Intake { items, waiting: Arc::clone(&waiting), overflown, capacity, gone: Arc::new(gone) };
    (intake, Outtake { items: out, waiting, gone: gone_out })
}

impl Intake {
    /// The client said something of so many bytes.
    pub(super) fn event(&self, event: Result<ClientEvent, EventError>, bytes: usize) {
        if self.overflown.load(Ordering::Relaxed) {
            return;
        }
        let cost = bytes + EVERY;
        let item = if self.waiting.fetch_add(cost, Ordering::Relaxed) + cost > self.capacity {
            self.overflown.store(true, Ordering::Relaxed);
            Item::Overflow
        } else {
            Item::Event(event)
        };
        // Nobody takes it: the connection has ended already.
        let _ = self.items.send((item, cost));
    }

    /// The client is gone.
    pub(super) fn gone(&self, reason: ByeReason) {
        self.gone.send_replace(Some(reason));
        let _ = self.items.send((Item::Gone(reason), 0));
    }
}

impl Outtake {
    /// The next item; nothing, when there will be none.
    pub(super) async fn next(&mut self) -> Option<Item> {
        let (item, cost) = self.items.recv().await?;
        self.waiting.fetch_sub(cost, Ordering::Relaxed);
        Some(item)
    }

    /// Learns at once that the client is gone, whatever waits.
    pub(super) fn gone(&self) -> watch::Receiver<Option<ByeReason>> {
        self.gone.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 1 << 20;

    #[tokio::test]
    async fn what_goes_in_comes_out_in_order() {
        let (intake, mut outtake) = queue(CAPACITY);
        for _ in 0..3 {
            intake.event(Ok(ClientEvent::Ping), 10);
        }
        intake.gone(ByeReason::Left);
        assert_eq!(*outtake.gone().borrow(), Some(ByeReason::Left));
        for _ in 0..3 {
            assert!(matches!(outtake.next().await, Some(Item::Event(Ok(ClientEvent::Ping)))));
        }
        assert!(matches!(outtake.next().await, Some(Item::Gone(ByeReason::Left))));
        drop(intake);
        assert!(outtake.next().await.is_none());
    }

    #[tokio::test]
    async fn a_flood_that_nobody_takes_ends_in_one_overflow() {
        let (intake, mut outtake) = queue(CAPACITY);
        for _ in 0..10 * CAPACITY / EVERY {
            intake.event(Ok(ClientEvent::Ping), 0);
        }
        drop(intake);
        let mut taken = 0;
        while let Some(Item::Event(_)) = outtake.next().await {
            taken += 1;
        }
        assert_eq!(taken, CAPACITY / EVERY);
        assert!(outtake.next().await.is_none());
    }

    #[tokio::test]
    async fn a_flood_that_is_taken_is_none() {
        let (intake, mut outtake) = queue(CAPACITY);
        for _ in 0..10 {
            for _ in 0..CAPACITY / EVERY {
                intake.event(Ok(ClientEvent::Ping), 0);
            }
            for _ in 0..CAPACITY / EVERY {
                assert!(matches!(outtake.next().await, Some(Item::Event(_))));
            }
        }
    }
}
