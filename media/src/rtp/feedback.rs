//! What RTCP reports say about the path.
