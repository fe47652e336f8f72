//! Real streams, and what a peer may send in their place, against the real loop.

use std::sync::Mutex;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;
use crate::codec::h264::{H264Config, H264Encoder};
use crate::peer::MAX_PAYLOAD;
use crate::rtp::h264_packetize::packetize;
use crate::units::Bitrate;

/// Longer than anything here takes on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

struct Sender {
    pool: FramePool,
    encoder: H264Encoder,
    sequence_number: u16,
    timestamp: u32,
    number: u32,
    begun: Instant,
}

impl Sender {
    fn new() -> Self {
        let bitrate = Bitrate::from_kbps(500);
        let config =
            H264Config { width: 320, height: 180, max_fps: 30.0, bitrate, quantizer_floor: 0 };
        Self {
            pool: FramePool::new(),
            encoder: H264Encoder::new(config).expect("an encoder"),
            sequence_number: 65_000,
            timestamp: 0,
            number: 0,
            begun: now(),
        }
    }

    /// The packets of a picture of this size, `ticks` of 90 kHz after the one before.
    fn picture(&mut self, size: (u32, u32), key_frame: bool, ticks: u32) -> Vec<RtpPacket> {
        let mut frame = self.pool.take(size.0, size.1);
        self.number += 1;
        self.timestamp = self.timestamp.wrapping_add(ticks);
        frame.captured_at = self.begun + Duration::from_millis(u64::from(self.number) * 33);
        let shade = (self.number * 5 % 200) as u8;
        frame.planes_mut().into_iter().for_each(|plane| plane.fill(shade));
        let encoded = self.encoder.encode(&frame, key_frame).expect("encodes").expect("no skip");
        let payloads = packetize(&encoded.data, MAX_PAYLOAD);
        let last = payloads.len() - 1;
        let packets = payloads.into_iter().enumerate();
        packets.map(|(index, payload)| self.packet(payload, index == last)).collect()
    }

    fn packet(&mut self, payload: Bytes, marker: bool) -> RtpPacket {
        self.sequence_number = self.sequence_number.wrapping_add(1);
        let (sequence_number, timestamp) = (self.sequence_number, self.timestamp);
        RtpPacket { sequence_number, timestamp, marker, payload }
    }
}

struct End {
    inlet: VideoInlet,
    counters: Arc<Counters>,
    shown: Arc<Mutex<Vec<(u32, u32)>>>,
    said: Arc<Mutex<Vec<PictureFeedback>>>,
    _receiver: VideoReceiver,
}

impl End {
    fn new() -> Self {
        let (inlet, parts) = channel();
        let counters = Arc::new(Counters::new());
        let (shown, said) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (into, out) = (Arc::clone(&shown), Arc::clone(&said));
        let receiver = VideoReceiver::start(
            parts,
            Arc::new(move |frame: Arc<Frame>| {
                into.lock().expect("whole").push((frame.width(), frame.height()));
            }),
            Arc::new(move |feedback| out.lock().expect("whole").push(feedback)),
            Arc::clone(&counters),
            Arc::new(FrameLog::off()),
        );
        Self { inlet, counters, shown, said, _receiver: receiver }
    }

    /// Gives packets as fast as the thread takes them.
    fn give(&self, packets: impl IntoIterator<Item = RtpPacket>) {
        for packet in packets {
            let deadline = now() + LIMIT;
            let mut lost = self.inlet.overflow.load(Relaxed);
            self.inlet.push(now(), VideoCodec::H264, packet.clone());
            while self.inlet.overflow.load(Relaxed) > lost {
                assert!(now() < deadline, "the thread takes no more");
                std::thread::yield_now();
                lost = self.inlet.overflow.load(Relaxed);
                self.inlet.push(now(), VideoCodec::H264, packet.clone());
            }
        }
    }

    fn shown(&self) -> usize {
        self.shown.lock().expect("whole").len()
    }

    fn key_frames_asked(&self) -> usize {
        let said = self.said.lock().expect("whole");
        said.iter().filter(|said| **said == PictureFeedback::KeyFrame).count()
    }

    /// The stream goes on: what comes now is shown.
    fn lives(&self, sender: &mut Sender) {
        let before = self.shown();
        let deadline = now() + LIMIT;
        self.give(sender.picture((320, 180), true, 3000));
        while self.shown() == before {
            assert!(now() < deadline, "a key frame is not shown any more");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_size_that_changes_with_every_picture_is_shown_in_each() {
    let (mut sender, end) = (Sender::new(), End::new());
    let sizes: Vec<(u32, u32)> = (0..40).map(|n| (64 + n * 16, 64 + (n * 7 % 20) * 16)).collect();
    for size in &sizes {
        end.give(sender.picture(*size, false, 3000));
    }
    let deadline = now() + LIMIT;
    while end.shown() < sizes.len() {
        assert!(now() < deadline, "{} of {} shown", end.shown(), sizes.len());
        std::thread::park_timeout(Duration::from_millis(2));
    }
    assert_eq!(*end.shown.lock().expect("whole"), sizes);
    end.lives(&mut sender);
}

#[test]
fn pictures_too_large_are_refused_with_few_requests_and_the_call_goes_on() {
    let (mut sender, end) = (Sender::new(), End::new());
    // 8K by its header: the decoder is never asked to allocate for it.
    let sps = [0x67, 0x42, 0xe0, 0x33, 0xda, 0x00, 0x78, 0x00, 0x21, 0xd9];
    let begun = now();
    for number in 0..3000u32 {
        sender.timestamp += 3000;
        let header = sender.packet(Bytes::copy_from_slice(&sps), false);
        let slice = sender.packet(Bytes::from(vec![0x65, 0x88, number as u8, 1]), true);
        end.give([header, slice]);
    }
    end.lives(&mut sender);
    let most = begun.elapsed().as_millis() / ASK_AGAIN.as_millis() + 2;
    assert!(end.key_frames_asked() as u128 <= most, "{} requests", end.key_frames_asked());
    assert_eq!(end.shown(), 1);
}

#[test]
fn one_picture_a_second_and_two_hundred_and_forty_are_both_shown() {
    for ticks in [90_000, 375] {
        let (mut sender, end) = (Sender::new(), End::new());
        for _ in 0..240 {
            end.give(sender.picture((320, 180), false, ticks));
        }
        // None waits for a moment that the sender's clock makes up.
        let deadline = now() + LIMIT;
        while end.shown() < 240 {
            assert!(now() < deadline, "{} of 240 at {ticks} ticks", end.shown());
            std::thread::park_timeout(Duration::from_millis(2));
        }
        end.lives(&mut sender);
    }
}

#[test]
fn nothing_but_padding_asks_for_nothing_and_keeps_nothing() {
    let (mut sender, end) = (Sender::new(), End::new());
    // What the first one makes the loop ask for is asked before the second one is shown.
    end.lives(&mut sender);
    end.lives(&mut sender);
    let asked = end.key_frames_asked();
    for _ in 0..20_000 {
        let padding = sender.packet(Bytes::new(), false);
        end.give([padding]);
    }
    end.lives(&mut sender);
    assert_eq!((end.shown(), end.key_frames_asked()), (3, asked));
}

#[test]
fn another_codecs_payloads_end_nothing() {
    let mut random = StdRng::seed_from_u64(5);
    let (mut sender, end) = (Sender::new(), End::new());
    end.lives(&mut sender);
    let begun = now();
    for _ in 0..3000 {
        let mut payload = vec![0; random.random_range(0..200)];
        random.fill_bytes(&mut payload);
        let marker = random.random_bool(0.3);
        sender.timestamp += u32::from(marker) * 3000;
        let packet = sender.packet(payload.into(), marker);
        end.give([packet]);
    }
    end.lives(&mut sender);
    let most = begun.elapsed().as_millis() / ASK_AGAIN.as_millis() + 2;
    assert!(end.key_frames_asked() as u128 <= most, "{} requests", end.key_frames_asked());
}

#[test]
fn between_our_own_a_lost_picture_asks_for_a_reference_and_else_for_a_key_frame() {
    for ours in [true, false] {
        let (mut sender, end) = (Sender::new(), End::new());
        end.lives(&mut sender);
        if ours {
            end.counters.set_peer_is_ours();
        }
        (0..15).for_each(|_| end.give(sender.picture((320, 180), false, 3000)));
        let lost = sender.picture((320, 180), false, 3000);
        drop(lost);
        let deadline = now() + LIMIT;
        let asked = || {
            let said = end.said.lock().expect("whole");
            said.iter().any(|said| match said {
                PictureFeedback::ReferenceWanted { .. } => ours,
                PictureFeedback::KeyFrame => !ours,
                PictureFeedback::ReferenceMarked { .. } => false,
            })
        };
        while !asked() {
            assert!(now() < deadline, "nothing was asked for");
            end.give(sender.picture((320, 180), false, 3000));
            std::thread::park_timeout(Duration::from_millis(10));
        }
        if !ours {
            continue;
        }
        let said: Vec<PictureFeedback> = end.said.lock().expect("whole").clone();
        let before = end.shown();
        for said in said {
            match said {
                PictureFeedback::ReferenceMarked { idr, frame } => {
                    let marked = Reference { idr, frame };
                    sender.encoder.confirm_reference(marked).expect("taken");
                }
                PictureFeedback::ReferenceWanted { idr, good, damaged } => {
                    let good = Reference { idr, frame: good };
                    sender.encoder.recover(good, damaged).expect("taken");
                }
                PictureFeedback::KeyFrame => panic!("a key frame was asked for"),
            }
        }
        end.give(sender.picture((320, 180), false, 3000));
        while end.shown() == before {
            assert!(now() < deadline, "the recovery is not shown");
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let mut key_frames = 0;
        end.counters.video_in(|flow| key_frames = flow.key_frames);
        assert_eq!(key_frames, 1);
    }
}
