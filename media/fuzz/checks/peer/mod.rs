//! As `checks`, for what is private to `peer`.

pub mod packets;
pub mod sdp;
pub mod stun;
