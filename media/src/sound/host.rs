//! Sound servers and their devices.
