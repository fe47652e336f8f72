//! The audio jitter buffer.
