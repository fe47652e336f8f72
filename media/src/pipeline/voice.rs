//! Frames of captured sound to packets: what the plan says of length, rate and copies. No
//! threads, no clock.

use std::time::Instant;

use bytes::Bytes;

use crate::codec::CodecError;
use crate::codec::opus::OpusEncoder;
use crate::peer::{MAX_PAYLOAD, OutgoingPacket};
use crate::rtp::loss_runs::Loss;
use crate::rtp::red::RedSender;
use crate::sound::FRAME_SAMPLES;
use crate::sound::plan::{Plan, Planner};
use crate::units::Bitrate;

/// What a packet of Opus inside RED is called there: as the codec is outside, which the
/// description of RED names ("111/111").
const OPUS: u8 = 111;

/// What is known of the way to the other end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path {
    /// The payload type of RED, where the other end takes it.
    pub red: Option<u8>,
    /// What happened lately to sound.
    pub loss: Option<Loss>,
    /// What congestion control allows for sound and pictures together.
    pub target: Option<Bitrate>,
    /// The other end likes two channels.
    pub stereo: bool,
}

/// Encodes one stream.
pub(super) struct Voice {
    encoder: OpusEncoder,
    channels: usize,
    planner: Planner,
    plan: Plan,
    sent: RedSender,
    /// Frames that wait for the rest of their packet, and the first one's timestamp.
    waiting: Vec<f32>,
    waiting_since: u32,
    /// The voice pauses and the other end was told.
    pausing: bool,
}

impl Voice {
    /// An encoder of one channel or two, for a network that nothing is known of.
    pub fn new(now: Instant, channels: usize) -> Result<Self, CodecError> {
        let mut planner = Planner::new();
        let plan = planner.plan(now, None, None, false);
        let mut encoder = match channels {
            2 => OpusEncoder::stereo(plan.bitrate)?,
            _ => OpusEncoder::new(plan.bitrate)?,
        };
        encoder.set_packet_loss_perc(plan.fec_percent)?;
        Ok(Self {
            encoder,
            channels,
            planner,
            plan,
            sent: RedSender::default(),
            waiting: Vec::with_capacity(3 * FRAME_SAMPLES * channels),
            waiting_since: 0,
            pausing: false,
        })
    }

    /// Takes a frame of 20 ms, channels by turns, that begins at `timestamp`; returns a packet when one is full and
    /// worth sending.
    pub fn push(
        &mut self,
        now: Instant,
        frame: &[f32],
        timestamp: u32,
        path: &Path,
    ) -> Result<Option<OutgoingPacket>, CodecError> {
        if self.waiting.is_empty() {
            // Between packets, so that one is of one piece.
            self.follow(now, path)?;
            self.waiting_since = timestamp;
        }
        self.waiting.extend_from_slice(frame);
        if self.waiting.len() < self.plan.packet_frames * FRAME_SAMPLES * self.channels {
            return Ok(None);
        }
        let encoded = self.encoder.encode(&self.waiting);
        self.waiting.clear();
        Ok(self.packet(self.waiting_since, encoded?, path.red))
    }

    fn packet(
        &mut self,
        timestamp: u32,
        payload: Bytes,
        red: Option<u8>,
    ) -> Option<OutgoingPacket> {
        let was_pausing = std::mem::replace(&mut self.pausing, payload.len() <= 2);
        if self.pausing {
            // The first one tells that there is a pause; a lost one would be concealed.
            self.sent.forget();
            let packet = OutgoingPacket { timestamp, marker: false, payload_type: None, payload };
            return (!was_pausing).then_some(packet);
        }
        let marker = was_pausing;
        let Some(red) = red.filter(|_| !self.plan.red.is_empty()) else {
            self.sent.remember(timestamp, payload.clone());
            return Some(OutgoingPacket { timestamp, marker, payload_type: None, payload });
        };
        let payload = self.sent.pack(OPUS, timestamp, payload, self.plan.red, MAX_PAYLOAD);
        Some(OutgoingPacket { timestamp, marker, payload_type: Some(red), payload })
    }

    fn follow(&mut self, now: Instant, path: &Path) -> Result<(), CodecError> {
        self.planner.set_stereo(path.stereo && self.channels == 2);
        let plan = self.planner.plan(now, path.loss, path.target, path.red.is_some());
        let old = std::mem::replace(&mut self.plan, plan);
        if plan.stereo != old.stereo {
            self.encoder.set_music(plan.stereo)?;
        }
        if plan.bitrate != old.bitrate {
            self.encoder.set_bitrate(plan.bitrate)?;
        }
        if plan.fec_percent != old.fec_percent {
            self.encoder.set_packet_loss_perc(plan.fec_percent)?;
        }
        if plan.dtx != old.dtx {
            self.encoder.set_dtx(plan.dtx)?;
        }
        let how = |plan: &Plan| (plan.packet_frames, plan.red, plan.stereo);
        if how(&plan) != how(&old) {
            tracing::debug!(?plan, "how sound is sent");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
