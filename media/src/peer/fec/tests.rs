//! Both ends, joined by a path that loses what a test says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{
    Attribute, AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;

use super::receiver::RARE_REPORT;
use super::*;
use crate::congestion::State;
use crate::rtp::fec::PAYLOAD_TYPE;
use crate::stats::{Counters, Sending};
use crate::units::Bitrate;

const MEDIA: u32 = 7;
const RTX: u32 = 8;
const SOUND: u32 = 6;

struct Ends {
    sender: FecSender,
    receiver: FecReceiver,
    now: Instant,
    next: u16,
    repairs: usize,
}

impl Ends {
    fn new(rtx_first: bool) -> Self {
        let counters = || Arc::new(Counters::new());
        let mut receiver = FecReceiver::new(counters(), 99);
        let mut streams = [
            StreamInfo {
                ssrc: MEDIA,
                ssrc_rtx: Some(RTX),
                payload_type: 102,
                mime_type: "video/H264".to_owned(),
                ..StreamInfo::default()
            },
            StreamInfo { ssrc: RTX, mime_type: "video/H264".to_owned(), ..StreamInfo::default() },
            StreamInfo { ssrc: SOUND, mime_type: "audio/opus".to_owned(), ..StreamInfo::default() },
        ];
        if rtx_first {
            streams.reverse();
        }
        streams.iter().for_each(|info| receiver.bind_remote_stream(info));
        Self {
            sender: FecSender::new(counters(), (MEDIA, SOUND), 9),
            receiver,
            now: Instant::now(),
            next: 65_500,
            repairs: 0,
        }
    }

    /// Sends a frame of `packets`, of which those named are lost; returns the sequence numbers
    /// that come out, counted from the frame's first.
    fn frame(&mut self, packets: u16, lost: &[u16]) -> Vec<u16> {
        self.now += Duration::from_millis(33);
        let first = self.next;
        self.next = first.wrapping_add(packets);
        for number in 0..packets {
            let mut packet = rtc::rtp::Packet::default();
            packet.header.ssrc = MEDIA;
            packet.header.payload_type = 102;
            packet.header.sequence_number = first.wrapping_add(number);
            packet.header.marker = number + 1 == packets;
            packet.payload = vec![number as u8 + 1; 900].into();
            self.sender.handle_write(tagged(self.now, Packet::Rtp(packet))).expect("taken");
        }
        let sent: Vec<TaggedPacket> = std::iter::from_fn(|| self.sender.poll_write()).collect();
        for msg in sent {
            let Packet::Rtp(packet) = &msg.message.packet else { unreachable!() };
            let media = packet.header.ssrc == MEDIA;
            self.repairs += usize::from(!media);
            let number = packet.header.sequence_number.wrapping_sub(first);
            if !media || !lost.contains(&number) {
                self.receiver.handle_read(msg).expect("taken");
            }
        }
        std::iter::from_fn(|| self.receiver.poll_read())
            .filter_map(|msg| {
                let Packet::Rtp(packet) = &msg.message.packet else { unreachable!() };
                assert_eq!((packet.header.ssrc, packet.header.payload_type), (MEDIA, 102));
                let number = packet.header.sequence_number.wrapping_sub(first);
                if number >= packets {
                    // Of a frame before, restored by this one's repairs.
                    assert!(msg.message.has(&Attribute::RecoveredByFec));
                    return None;
                }
                assert_eq!(packet.payload, vec![number as u8 + 1; 900]);
                assert_eq!(packet.header.marker, number + 1 == packets);
                assert_eq!(msg.message.has(&Attribute::RecoveredByFec), lost.contains(&number));
                Some(number)
            })
            .collect()
    }

    /// Sends a packet of sound; whether it came out, and so many of earlier ones.
    fn sound(&mut self, lost: bool, repair_lost: bool) -> (bool, usize) {
        self.now += Duration::from_millis(20);
        let mut packet = rtc::rtp::Packet::default();
        packet.header.ssrc = SOUND;
        packet.header.payload_type = 111;
        packet.header.sequence_number = self.next;
        packet.payload = vec![self.next as u8; 70].into();
        self.sender.handle_write(tagged(self.now, Packet::Rtp(packet))).expect("taken");
        while let Some(msg) = self.sender.poll_write() {
            let Packet::Rtp(packet) = &msg.message.packet else { unreachable!() };
            let repair = packet.header.ssrc != SOUND;
            self.repairs += usize::from(repair);
            if !if repair { repair_lost } else { lost } {
                self.receiver.handle_read(msg).expect("taken");
            }
        }
        let came: Vec<u16> = std::iter::from_fn(|| self.receiver.poll_read())
            .map(|msg| {
                let Packet::Rtp(packet) = &msg.message.packet else { unreachable!() };
                assert_eq!((packet.header.ssrc, packet.header.payload_type), (SOUND, 111));
                assert_eq!(packet.payload, vec![packet.header.sequence_number as u8; 70]);
                packet.header.sequence_number
            })
            .collect();
        let newest = came.contains(&self.next);
        self.next = self.next.wrapping_add(1);
        (newest, came.len() - usize::from(newest))
    }

    /// Congestion control allows so much.
    fn allow(&mut self, target: Bitrate) {
        self.sender.counters().set_sending(Sending {
            target,
            video: target,
            pace: target,
            may_encode: true,
            queue: Duration::ZERO,
            state: State::Normal,
        });
    }

    /// Carries what the receiver has to say to the sender.
    fn feedback(&mut self) -> usize {
        self.receiver.handle_timeout(self.now).expect("no error");
        let said: Vec<TaggedPacket> = std::iter::from_fn(|| self.receiver.poll_write()).collect();
        let count = said.len();
        for msg in said {
            self.sender.handle_read(msg).expect("taken");
        }
        count
    }
}

fn tagged(now: Instant, packet: Packet) -> TaggedPacket {
    let transport = TransportContext::default();
    TaggedPacket { now, transport, message: AttributedPacket::new(packet) }
}

#[test]
fn nobody_gets_repairs_who_has_not_told_of_losses() {
    let mut ends = Ends::new(false);
    for _ in 0..60 {
        assert_eq!(ends.frame(8, &[3]).len(), 7);
    }
    assert_eq!(ends.repairs, 0);
}

#[test]
fn losses_that_were_told_of_are_repaired_from_then_on() {
    for rtx_first in [false, true] {
        let mut ends = Ends::new(rtx_first);
        let mut told = 0;
        for _ in 0..90 {
            ends.frame(8, &[3]);
            told += ends.feedback();
        }
        assert!(told >= 1 && ends.repairs > 0, "told {told} times, {} repairs", ends.repairs);
        for lost in [vec![0, 7], vec![3], vec![1, 2, 3], vec![6, 7]] {
            let mut came = ends.frame(8, &lost);
            came.sort_unstable();
            assert_eq!(came, [0, 1, 2, 3, 4, 5, 6, 7], "without {lost:?}");
        }
        let mut recovered = 0;
        ends.receiver.counters().video_in(|flow| recovered = flow.recovered);
        assert!(recovered >= 8);
        assert!(ends.receiver.counters().fec_coming());
        // What was repaired was lost all the same.
        ends.now += RARE_REPORT;
        assert_eq!(ends.feedback(), 1);
        assert!(ends.sender.loss() > 0.1);
    }
}

#[test]
fn a_retransmission_helps_to_restore_its_neighbours() {
    let mut ends = Ends::new(false);
    for _ in 0..90 {
        ends.frame(8, &[3]);
        ends.feedback();
    }
    assert_eq!(ends.frame(8, &[0, 1, 2, 3, 4]).len(), 3, "more than the repairs can restore");
    let first = ends.next.wrapping_sub(8);
    let mut packet = rtc::rtp::Packet::default();
    packet.header.ssrc = RTX;
    packet.payload = [&first.to_be_bytes()[..], &[1; 900]].concat().into();
    ends.receiver.handle_read(tagged(ends.now, Packet::Rtp(packet))).expect("taken");
    let came = std::iter::from_fn(|| ends.receiver.poll_read()).count();
    assert!((2..=5).contains(&came), "itself and others: {came}");
}

#[test]
fn strange_packets_pass_and_strange_repairs_do_not() {
    let mut ends = Ends::new(false);
    ends.frame(4, &[]);
    for (payload_type, payload) in
        [(96, vec![]), (PAYLOAD_TYPE, vec![]), (PAYLOAD_TYPE, vec![1; 30])]
    {
        let mut packet = rtc::rtp::Packet::default();
        packet.header.ssrc = 12_345;
        packet.header.payload_type = payload_type;
        packet.payload = payload.into();
        ends.receiver.handle_read(tagged(ends.now, Packet::Rtp(packet))).expect("taken");
        let passed = std::iter::from_fn(|| ends.receiver.poll_read()).count();
        assert_eq!(passed, usize::from(payload_type == 96));
    }
}

#[test]
fn sound_goes_twice_on_a_wide_path_that_loses() {
    let mut ends = Ends::new(false);
    ends.allow(Bitrate::from_kbps(2_000));
    for _ in 0..100 {
        assert_eq!(ends.sound(false, false), (true, 0));
        ends.feedback();
    }
    assert_eq!(ends.repairs, 0, "nothing is lost");
    assert_eq!(ends.sound(true, false), (false, 0), "the first comes unannounced");
    for _ in 0..100 {
        ends.sound(false, false);
        ends.feedback();
    }
    assert!(ends.repairs > 20, "{}", ends.repairs);
    assert_eq!(ends.sound(true, false), (true, 0), "at once");
    assert_eq!(ends.sound(true, true), (false, 0));
    assert_eq!(ends.sound(false, false), (true, 1), "with the next one's repair");
    // They are none of pictures', which would wait for theirs before they ask.
    assert!(!ends.receiver.counters().fec_coming());
    let mut recovered = 0;
    ends.receiver.counters().video_in(|flow| recovered = flow.recovered);
    assert_eq!(recovered, 0);
    let before = ends.repairs;
    ends.allow(Bitrate::from_kbps(700));
    ends.sound(false, false);
    assert_eq!(ends.repairs, before, "a narrow link");
}
