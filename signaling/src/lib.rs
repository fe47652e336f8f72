//! Rooms for two: the signaling server with its page, and the client the app calls with.
//!
//! [`Server`] serves rooms and the page; [`Client`] keeps a connection to a server; [`probe()`]
//! finds out whether one answers at an address.

pub mod protocol;
pub mod room;
