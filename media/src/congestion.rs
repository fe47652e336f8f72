//! How much may be sent.
