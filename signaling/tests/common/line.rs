//! A line to a server that can be cut: connections end without any goodbye.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

pub struct Line {
    pub address: SocketAddr,
    cut: Arc<Notify>,
    _task: JoinSet<()>,
}

impl Line {
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(Notify::new());
        let mut task = JoinSet::new();
        let cutting = Arc::clone(&cut);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let cutting = Arc::clone(&cutting);
                connections.spawn(async move {
                    let Ok(mut server) = TcpStream::connect(server).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = cutting.notified() => {}
                    }
                });
            }
        });
        Self { address, cut, _task: task }
    }

    /// Cuts the connections there are.
    pub fn cut(&self) {
        self.cut.notify_waiters();
    }
}
