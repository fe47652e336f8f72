//! Rooms for two: the signaling server with its page, and the client the app calls with.
//!
//! [`Server`] serves rooms and the page; [`client::Client`] keeps a connection to a server;
//! [`probe()`] finds out whether one answers at an address.

pub mod backoff;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod ice_servers;
pub mod link;
pub mod moment;
pub mod protocol;
pub mod room;
pub mod token;
pub mod turn;

mod carrier;
mod hub;
mod listen;
mod outbox;
mod page;
mod probe;
mod server;
mod state_dir;

pub use carrier::{CarrierKind, Guest, Liveness};
pub use client::{Client, ClientHandle, ClientOptions, ClientUpdate};
pub use link::{CallLink, LinkError, ServerUrl, Target};
pub use listen::{BindError, all_interfaces};
pub use probe::{Probe, probe};
pub use protocol::RoomName;
pub use room::{Counts, Limits, RoomPolicy};
pub use server::{Server, ServerHandle, ServerOptions, ServerStopped};
pub use state_dir::StateDir;
