//! What a simulated call is given, and what it notes.

use super::path::PathModel;
use super::receiver::Media;
use crate::congestion::{Limits, State};
use crate::rtp::sender::Kind;
use crate::units::Bitrate;

pub const LIMITS: Limits = Limits {
    min: Bitrate::from_kbps(60),
    start: Bitrate::from_kbps(200),
    max: Bitrate::from_kbps(3200),
};

/// UDP, IP, SRTP, RTP with extensions.
pub const OVERHEAD: usize = 58;
/// What the encoder makes of a scene at most.
pub const MOST_VIDEO: f64 = 2.5e6;

#[derive(Clone)]
pub struct Scenario {
    pub path: PathModel,
    pub way_back: f64,
    /// The way back is as long and as full as the way there: the other end sends as much.
    pub mirrored: bool,
    pub feedback_interval: f64,
    pub feedback_loss: f64,
    /// No feedback comes back between these.
    pub deaf: Option<(f64, f64)>,
    /// Of the receiver's clock.
    pub drift: f64,
    pub tcp: Option<(f64, f64)>,
    /// Video is that little between these.
    pub quiet: Option<(f64, f64, f64)>,
    pub seconds: f64,
}

impl Scenario {
    pub fn new(path: PathModel) -> Self {
        let way_back = path.delay;
        Self {
            path,
            way_back,
            mirrored: false,
            feedback_interval: 0.050,
            feedback_loss: 0.0,
            deaf: None,
            drift: 0.0,
            tcp: None,
            quiet: None,
            seconds: 60.0,
        }
    }
}

/// What left: when, what, and what became of it.
pub struct Logged {
    pub at: f64,
    pub bytes: usize,
    pub media: Media,
    pub kind: Kind,
    pub arrived: Option<f64>,
    pub queued: Option<f64>,
    pub overflow: bool,
}

/// State every 10 ms.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: f64,
    pub target: f64,
    pub queue: f64,
    pub state: State,
}
