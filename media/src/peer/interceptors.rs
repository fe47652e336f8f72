//! What we add to the crate's interceptor chain.
//!
//! * [`RtcpTap`], wire-most: round trips, losses and key frame requests out of RTCP.
//! * [`SendSide`], where the stock chain has a pacer, retransmission, transport-wide numbers and
//!   congestion control: all of them at once, since they share one state.
//! * [`RepairRequests`]: asks for what is missing.

mod feedback;
mod repair_requests;
mod send_side;
mod tap;

pub(super) use repair_requests::RepairRequests;
pub(super) use send_side::SendSide;
pub(super) use tap::RtcpTap;
