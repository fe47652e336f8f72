//! Clips from Y4M files.
