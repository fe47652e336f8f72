//! Microphones.
