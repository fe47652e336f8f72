//! The wires over which clients reach the hub, a file each.

pub(crate) mod socketio;
pub(crate) mod ws;

use std::{net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// When a connection counts as dead.
#[derive(Debug, Clone, Copy)]
pub struct Liveness {
    /// Between the server's pings.
    pub ping_every: Duration,
    /// Without an answer to any ping for so long, a client is lost: it is gone, or never reads.
    pub answer_within: Duration,
    /// A frame must be written within this, or the client is lost: it does not read.
    pub write_within: Duration,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(5),
            answer_within: Duration::from_secs(13),
            write_within: Duration::from_secs(10),
        }
    }
}

/// Which wire a client came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarrierKind {
    /// JSON over WebSocket at `/ws`: a broken connection can be resumed.
    WebSocket,
    /// Socket.IO at `/socket.io/`: whose connection is gone is gone.
    SocketIo,
}

impl CarrierKind {
    /// Whether the seat of a broken connection is held, for its owner to take back.
    pub fn resumes(self) -> bool {
        match self {
            Self::WebSocket => true,
            Self::SocketIo => false,
        }
    }
}

/// Who opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guest {
    /// Where the client is, as far as is known: behind a proxy, what the proxy says.
    pub address: IpAddr,
    /// Over which wire.
    pub carrier: CarrierKind,
}
