//! Admits connections: keeps the count of `admission` in step with the sockets.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::{
    admission::{Admission, ConnectionLimits, Refusal},
    metrics::Metrics,
};

/// Shared by all listeners.
#[derive(Debug)]
pub(super) struct Gate {
    admission: Mutex<Admission>,
    admitted: AtomicU64,
    metrics: Arc<Metrics>,
}

/// One TCP connection's place; given back when dropped. Lives as long as the socket.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    /// Counts TCP connections, for the log.
    id: u64,
    /// On whose account the connection goes just now.
    client: Mutex<Option<IpAddr>>,
}

impl Gate {
    pub(super) fn new(limits: ConnectionLimits, metrics: Arc<Metrics>) -> Arc<Self> {
        let admission = Mutex::new(Admission::new(limits));
        Arc::new(Self { admission, admitted: AtomicU64::new(0), metrics })
    }

    /// Takes a place for a connection from `peer`, on nobody's account yet.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Pass, Refusal> {
        match self.admission().take_place(peer) {
            Ok(()) => {
                let id = self.admitted.fetch_add(1, Relaxed) + 1;
                Ok(Pass { gate: Arc::clone(self), id, client: Mutex::new(None) })
            }
            Err(refusal) => {
                self.metrics.count_refusal(refusal);
                Err(refusal)
            }
        }
    }

    /// How many TCP connections are open.
    pub(super) fn open(&self) -> usize {
        self.admission().open()
    }

    // Counters are right at every point, so one who panicked in between broke nothing.
    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// Names the TCP connection in the log; a client's own number is another.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// From now on the connection goes on `client`'s account; `new` counts for its rate.
    pub(super) fn charge(&self, client: IpAddr, new: bool) -> Result<(), Refusal> {
        let mut charged = self.charged();
        let mut admission = self.gate.admission();
        if let Some(before) = charged.take() {
            admission.free_share(before);
        }
        match admission.take_share(client, new, Instant::now()) {
            Ok(()) => {
                *charged = Some(client);
                Ok(())
            }
            Err(refusal) => {
                self.gate.metrics.count_refusal(refusal);
                Err(refusal)
            }
        }
    }

    /// The connection goes on nobody's account: a proxy keeps it for whoever comes next.
    pub(super) fn discharge(&self) {
        if let Some(before) = self.charged().take() {
            self.gate.admission().free_share(before);
        }
    }

    fn charged(&self) -> MutexGuard<'_, Option<IpAddr>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.discharge();
        self.gate.admission().free_place();
    }
}
