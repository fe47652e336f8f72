//! The cable between guests and server: has one address while servers come and go, and can be
//! cut or frozen, a connection at a time.

use std::{cell::Cell, cell::RefCell, net::SocketAddr, rc::Rc, time::Duration};

use anyhow::Result;
use rand::Rng;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::spawn_local,
    time::sleep,
};

/// Longer than any server waits for an answer.
const FROZEN: Duration = Duration::from_secs(40);

/// What happens to a connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Both sides find it closed, without a goodbye.
    Cut,
    /// It stays open, but nothing passes any more.
    Freeze,
}

#[derive(Clone)]
pub struct Cable {
    /// Where guests connect.
    pub address: SocketAddr,
    /// Where the server is; nowhere while it is down.
    server: Rc<Cell<Option<SocketAddr>>>,
    links: Rc<RefCell<Vec<oneshot::Sender<Fault>>>>,
}

impl Cable {
    pub async fn lay() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let cable =
            Self { address: listener.local_addr()?, server: Rc::default(), links: Rc::default() };
        let accepting = cable.clone();
        spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((guest, _)) => accepting.link(guest),
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        });
        Ok(cable)
    }

    pub fn plug_into(&self, server: Option<SocketAddr>) {
        self.server.set(server);
    }

    /// Something happens to a connection, if there is one.
    pub fn damage(&self, fault: Fault) -> bool {
        let mut links = self.links.borrow_mut();
        links.retain(|link| !link.is_closed());
        if links.is_empty() {
            return false;
        }
        let index = rand::rng().random_range(0..links.len());
        links.swap_remove(index).send(fault).is_ok()
    }

    fn link(&self, mut guest: TcpStream) {
        // Unplugged: dropped, which refuses it well enough.
        let Some(server) = self.server.get() else {
            return;
        };
        let (fault, happens) = oneshot::channel();
        self.links.borrow_mut().push(fault);
        spawn_local(async move {
            let Ok(mut there) = TcpStream::connect(server).await else {
                return;
            };
            // Small messages, none of which waits for the next.
            let _ = (guest.set_nodelay(true), there.set_nodelay(true));
            let fault = tokio::select! {
                _ = copy_bidirectional(&mut guest, &mut there) => Fault::Cut,
                fault = happens => fault.unwrap_or(Fault::Cut),
            };
            if matches!(fault, Fault::Freeze) {
                sleep(FROZEN).await;
            }
        });
    }
}
