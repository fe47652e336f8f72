//! Which packets to ask for again.
