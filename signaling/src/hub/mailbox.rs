//! Where the deliveries of one connection go.

use tokio::sync::mpsc::{self, error::TrySendError};

use super::Outbound;
use crate::room::ConnectionId;

/// To the carrier, or, in a cluster, to the router, which knows where the client is.
#[derive(Debug)]
pub(crate) enum Mailbox {
    /// A carrier's own bounded queue.
    Carrier(mpsc::Sender<Outbound>),
    /// The router's queue, for all connections. It has no bound of its own: credits bound what
    /// each connection can cause, and the router ends those that do not take what they are told.
    Routed(ConnectionId, mpsc::UnboundedSender<(ConnectionId, Outbound)>),
}

/// It does not take what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stuck;

impl Mailbox {
    pub(crate) fn try_send(&self, outbound: Outbound) -> Result<(), Stuck> {
        match self {
            Self::Carrier(outbox) => match outbox.try_send(outbound) {
                Err(TrySendError::Full(_)) => Err(Stuck),
                // Where the queue is closed, the carrier has ended, and is about to tell how.
                Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            },
            Self::Routed(connection, router) => {
                // Without a router the server is at its end.
                let _ = router.send((*connection, outbound));
                Ok(())
            }
        }
    }
}
