//! What congestion control lets the sending pipelines do.

use std::time::Duration;

use crate::congestion::State;
use crate::units::Bitrate;

/// How things stand on the way out; renewed with every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// What may be sent, with everything.
    pub target: Bitrate,
    /// Of it, for pictures' payload: without sound, repairs and headers.
    pub video: Bitrate,
    /// At which rate pictures that wait leave.
    pub pace: Bitrate,
    /// Whether a picture encoded now would leave soon.
    pub may_encode: bool,
    /// The queue that stands in the path.
    pub queue: Duration,
    /// What congestion control is doing.
    pub state: State,
}

impl Sending {
    /// The state's name in the statistics.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Normal => "normal",
            State::Drain => "drain",
            State::Competing => "competing",
            State::LossTest => "loss-test",
            State::Silent => "silent",
        }
    }
}
