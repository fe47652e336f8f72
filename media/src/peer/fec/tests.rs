//! Both ends, joined by a path that loses what a test says.

use super::*;

const MEDIA: u32 = 7;
const RTX: u32 = 8;

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
        ];
        if rtx_first {
            streams.reverse();
        }
        streams.iter().for_each(|info| receiver.bind_remote_stream(info));
        Self {
            sender: FecSender::new(counters(), MEDIA, 9),
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
        ends.receiver.counters.video_in(|flow| recovered = flow.recovered);
        assert!(recovered >= 8);
        assert!(ends.receiver.counters.fec_coming());
        // What was repaired was lost all the same.
        ends.now += RARE_REPORT;
        assert_eq!(ends.feedback(), 1);
        assert!(ends.sender.path.expect("told").loss() > 0.1);
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
