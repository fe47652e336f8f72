//! One seam over the payload formats, so that what assembles and sends need not tell them apart.

use bytes::Bytes;

use super::h264_depacketize::{self, Contents, Depacketized};
use super::{h264_packetize, vp8};
use crate::video_codec::VideoCodec;

/// Looks into a payload without copying.
pub fn inspect(codec: VideoCodec, payload: &[u8]) -> Contents {
    match codec {
        VideoCodec::H264 => h264_depacketize::inspect(payload),
        VideoCodec::Vp8 => vp8::inspect(payload),
    }
}

/// Joins the payloads of one frame. Any bytes are fine.
pub fn depacketize<'a>(
    codec: VideoCodec,
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Depacketized {
    match codec {
        VideoCodec::H264 => h264_depacketize::depacketize(payloads),
        VideoCodec::Vp8 => vp8::depacketize(payloads),
    }
}

/// Splits encoded pictures of one stream into payloads.
#[derive(Clone, Copy, Debug)]
pub enum Packetizer {
    /// RFC 6184.
    H264,
    /// RFC 7741, which numbers pictures.
    Vp8(vp8::Packetizer),
}

impl Packetizer {
    /// Of a stream whose numbering starts at `seed` (to be random).
    pub fn new(codec: VideoCodec, seed: u16) -> Self {
        match codec {
            VideoCodec::H264 => Self::H264,
            VideoCodec::Vp8 => Self::Vp8(vp8::Packetizer::new(seed)),
        }
    }

    /// The payloads of one encoded picture, in order, each at most `max_payload` bytes (at least
    /// 16). The marker belongs on the last one.
    pub fn packetize(&mut self, picture: &[u8], max_payload: usize) -> Vec<Bytes> {
        match self {
            Self::H264 => h264_packetize::packetize(picture, max_payload),
            Self::Vp8(packetizer) => packetizer.packetize(picture, max_payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, RngCore, SeedableRng};

    use super::super::assemble::{Assembler, RtpPacket};
    use super::*;

    /// A frame of noise that begins as one of its codec does.
    fn frame(codec: VideoCodec, key: bool, random: &mut StdRng) -> Vec<u8> {
        let mut body = vec![0; random.random_range(1..9_000)];
        random.fill_bytes(&mut body);
        match codec {
            VideoCodec::Vp8 => body[0] = body[0] & 0xfe | u8::from(!key),
            VideoCodec::H264 => {
                body.iter_mut().for_each(|byte| *byte = (*byte).max(4));
                let header = [0, 0, 0, 1, if key { 0x65 } else { 0x41 }];
                let sets: &[u8] = if key { &[0, 0, 0, 1, 0x67, 1, 2, 3] } else { &[] };
                body = [sets, &header, &body].concat();
            }
        }
        body
    }

    /// 300 frames, every 25th a key frame, in packets that are lost (some for good), doubled and
    /// out of order within their frame: what comes out is whole, in order, and begins anew with a
    /// key frame after each gap.
    #[test]
    fn frames_of_every_codec_survive_reordering_and_gaps_end_at_key_frames() {
        for codec in VideoCodec::ALL {
            let mut random = StdRng::seed_from_u64(21);
            let (mut now, mut number) = (Instant::now(), 65_000_u16);
            let mut packetizer = Packetizer::new(codec, 7);
            let mut assembler = Assembler::of(codec);
            let (mut sent, mut whole) = (Vec::new(), Vec::new());
            let mut out: Vec<usize> = Vec::new();
            for index in 0..300_usize {
                let data = frame(codec, index.is_multiple_of(25), &mut random);
                let timestamp = index as u32 * 3000;
                let payloads = packetizer.packetize(&data, 1000);
                let count = payloads.len();
                let mut packets: Vec<RtpPacket> = Vec::new();
                for (at, payload) in payloads.into_iter().enumerate() {
                    let marker = at + 1 == count;
                    packets.push(RtpPacket { sequence_number: number, timestamp, marker, payload });
                    number = number.wrapping_add(1);
                }
                let lost = random.random_bool(0.03);
                if lost {
                    packets.remove(random.random_range(0..packets.len()));
                }
                packets.shuffle(&mut random);
                sent.push(data);
                whole.push(!lost);
                for packet in packets {
                    now += Duration::from_millis(1);
                    if random.random_bool(0.1) {
                        assembler.handle_packet(now, packet.clone());
                    }
                    assembler.handle_packet(now, packet);
                }
                now += Duration::from_millis(33);
                while let Some(frame) = assembler.poll_frame(now) {
                    let index = (frame.rtp_timestamp / 3000) as usize;
                    assert!(frame.data == sent[index], "{codec:?}: frame {index} was changed");
                    assert!(whole[index]);
                    assert!(
                        index.is_multiple_of(25) || out.last() == Some(&(index - 1)),
                        "{index}: {out:?}"
                    );
                    assert_eq!(frame.key_frame, index.is_multiple_of(25));
                    out.push(index);
                }
            }
            assert!(out.len() > 100, "{codec:?}: {} frames", out.len());
        }
    }

    #[test]
    fn a_vp8_stream_joined_late_asks_for_a_key_frame() {
        let (now, mut packetizer) = (Instant::now(), Packetizer::new(VideoCodec::Vp8, 0));
        let mut assembler = Assembler::of(VideoCodec::Vp8);
        let payload = packetizer.packetize(&[1, 2, 3], 1000).remove(0);
        let packet = RtpPacket { sequence_number: 9, timestamp: 0, marker: true, payload };
        assembler.handle_packet(now, packet);
        assert!(assembler.poll_frame(now).is_none());
        let due = assembler.poll_timeout().expect("it waits for a key frame");
        assert!(assembler.poll_frame(due).is_none());
        assert!(assembler.poll_event().is_some());
    }
}
