//! Settings, kept in the platform's own place.

/// What is remembered between runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {}
