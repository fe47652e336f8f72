//! RTP packets to H.264 access units.
