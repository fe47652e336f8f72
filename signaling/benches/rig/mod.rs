//! What the load benchmark and the soak share: a server as a process of its own, what it uses,
//! and a client that costs little.
#![allow(dead_code)] // Each of the two uses a part.

pub mod machine;
pub mod server;
pub mod usage;
pub mod wire;
