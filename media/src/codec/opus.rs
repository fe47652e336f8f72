//! Opus at 48 kHz.
