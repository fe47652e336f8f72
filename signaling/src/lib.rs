//! Rooms for two: the signaling server with its page, and the client the app calls with.
//!
//! [`Server`] serves rooms and the page; [`client::Client`] keeps a connection to a server;
//! [`probe()`] finds out whether one answers at an address.

pub mod access;
pub mod backoff;
pub mod check;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod fingerprint;
pub mod ice_servers;
pub mod invite;
pub mod link;
pub mod logging;
pub mod moment;
pub mod origin;
pub mod proposal;
pub mod protocol;
pub mod proxy;
pub mod qr;
pub mod room;
pub mod runtime;
pub mod token;
pub mod turn;

mod admission;
mod carrier;
mod files;
mod hub;
mod interfaces;
mod listen;
mod metrics;
mod outbox;
mod page;
mod probe;
mod roots;
mod server;
mod state_dir;
mod subnet;
mod tls;

pub use admission::{ConnectionLimits, Refusal};
pub use carrier::{CarrierKind, Guest, Liveness};
pub use client::{Client, ClientHandle, ClientOptions, ClientUpdate, Trust};
pub use fingerprint::Fingerprint;
pub use invite::{Invite, PublicAddress};
pub use link::{CallLink, LinkError, Scheme, ServerUrl, Target};
pub use listen::{BindError, all_interfaces};
pub use metrics::{Metrics, TurnFigures};
pub use page::{PageError, PageFolder};
pub use probe::{Probe, probe, probe_server};
pub use protocol::RoomName;
pub use room::{Counts, Limits, RoomPolicy};
pub use server::{Readiness, Server, ServerHandle, ServerOptions, ServerStopped};
pub use state_dir::StateDir;
pub use subnet::Subnet;
pub use tls::{TlsError, TlsMode, TlsOptions};
