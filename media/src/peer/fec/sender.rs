//! Makes the repairs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use super::{app_message, media};
use crate::peer::overflow::Overflow;
use crate::rtp::app_message::{AppMessage, PictureFeedback};
use crate::rtp::fec::{FecEncoder, PAYLOAD_TYPE, PathLoss, sound_strength, strength};
use crate::rtp::h264_depacketize::inspect;
use crate::stats::Counters;
use crate::units::Bitrate;

/// A frame of more packets gets repairs on the way: one window holds no more than 64.
const BLOCK: usize = 32;

/// Frames further apart than this (45 ms at 90 kHz) are no motion that could slow down.
const SELDOM: u32 = 4_050;

/// One stream that is protected.
struct Protected {
    ssrc: u32,
    encoder: FecEncoder,
    /// Once the other end has told of its losses.
    path: Option<PathLoss>,
}

impl Protected {
    fn new(ssrc: u32) -> Self {
        Self { ssrc, encoder: FecEncoder::new(ssrc), path: None }
    }

    fn loss(&self) -> f64 {
        self.path.map_or(0.0, |path| path.loss())
    }
}

/// Adds repair packets to the pictures and the sound that leave, as strong as the path needs.
pub(in crate::peer) struct FecSender {
    counters: Arc<Counters>,
    /// Of the repairs.
    ssrc: u32,
    sequence_number: u16,
    pictures: Protected,
    sound: Protected,
    overflow: Overflow,
    /// The frame under way has a part of a key frame.
    key_frame: bool,
    /// RTP timestamp of the last frame, or block of one, that was finished.
    finished: u32,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl FecSender {
    /// Protects two streams under the SSRC `ssrc`.
    pub(in crate::peer) fn new(
        counters: Arc<Counters>,
        (video_ssrc, audio_ssrc): (u32, u32),
        ssrc: u32,
    ) -> Self {
        Self {
            counters,
            ssrc,
            sequence_number: rand::random::<u16>() >> 1,
            pictures: Protected::new(video_ssrc),
            sound: Protected::new(audio_ssrc),
            overflow: Overflow::default(),
            key_frame: false,
            finished: 0,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    #[cfg(test)]
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The share of pictures' packets that the other end lacks.
    #[cfg(test)]
    pub(super) fn loss(&self) -> f64 {
        self.pictures.loss()
    }

    fn handle_rtcp(&mut self, now: Instant, packet: &dyn rtc::rtcp::Packet) {
        let state = self.counters.sending().map(|sending| sending.state);
        let overflowing = self.overflow.handle_state(now, state, self.counters.rtt());
        let Some(message) = app_message(packet) else {
            return;
        };
        self.counters.set_peer_is_ours();
        if let AppMessage::Losses { ssrc, expected, lost, runs } = message {
            let told = [&mut self.pictures, &mut self.sound].into_iter().find(|it| it.ssrc == ssrc);
            let Some(path) = told.map(|stream| stream.path.get_or_insert_default()) else {
                return;
            };
            if !overflowing {
                path.handle_report(expected, lost, runs);
            }
        } else if let Some(said) = PictureFeedback::from_message(message, self.pictures.ssrc) {
            self.counters.add_picture_feedback(said);
        }
    }

    /// The repairs that are due behind this packet.
    fn repairs(&mut self, packet: &rtc::rtp::Packet) -> Vec<rtc::rtp::Packet> {
        let ssrc = packet.header.ssrc;
        let payloads = if ssrc == self.pictures.ssrc {
            self.for_pictures(packet)
        } else if ssrc == self.sound.ssrc {
            self.for_sound(packet)
        } else {
            Vec::new()
        };
        payloads.into_iter().map(|payload| self.packet(packet.header.timestamp, payload)).collect()
    }

    fn for_pictures(&mut self, packet: &rtc::rtp::Packet) -> Vec<Vec<u8>> {
        let target = self.target();
        let Some(path) = self.pictures.path else {
            return Vec::new();
        };
        let encoder = &mut self.pictures.encoder;
        encoder.handle_media(&media(packet));
        self.key_frame |= inspect(&packet.payload).key;
        let packets = encoder.open_packets();
        if !packet.header.marker && packets < BLOCK {
            return Vec::new();
        }
        let since = packet.header.timestamp.wrapping_sub(self.finished);
        self.finished = packet.header.timestamp;
        let (seldom, rtt) = (since > SELDOM, self.counters.rtt());
        let strength = strength(packets, self.key_frame, seldom, &path, rtt, target);
        self.key_frame &= !packet.header.marker;
        encoder.finish_frame(strength)
    }

    fn for_sound(&mut self, packet: &rtc::rtp::Packet) -> Vec<Vec<u8>> {
        if self.sound.path.is_none() {
            return Vec::new();
        }
        let loss = self.sound.loss().max(self.pictures.loss());
        let target = self.target();
        self.sound.encoder.handle_media(&media(packet));
        self.sound.encoder.finish_frame(sound_strength(loss, target))
    }

    /// What congestion control allows.
    fn target(&self) -> Bitrate {
        self.counters.sending().map(|sending| sending.target).unwrap_or_default()
    }

    fn packet(&mut self, timestamp: u32, payload: Vec<u8>) -> rtc::rtp::Packet {
        let mut repair = rtc::rtp::Packet::default();
        repair.header.version = 2;
        repair.header.payload_type = PAYLOAD_TYPE;
        repair.header.sequence_number = self.sequence_number;
        repair.header.timestamp = timestamp;
        repair.header.ssrc = self.ssrc;
        repair.payload = payload.into();
        self.sequence_number = self.sequence_number.wrapping_add(1);
        repair
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for FecSender {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            packets.iter().for_each(|packet| self.handle_rtcp(msg.now, packet.as_ref()));
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        let repairs = match &msg.message.packet {
            Packet::Rtp(packet) => self.repairs(packet),
            _ => Vec::new(),
        };
        let (now, transport) = (msg.now, msg.transport);
        self.write.push_back(msg);
        self.write.extend(repairs.into_iter().map(|repair| TaggedPacket {
            now,
            transport,
            message: AttributedPacket::new(Packet::Rtp(repair)),
        }));
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for FecSender {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}
