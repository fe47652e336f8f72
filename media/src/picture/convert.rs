//! What cameras deliver, to I420.
