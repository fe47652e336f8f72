//! Speakers.
