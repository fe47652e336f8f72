use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore, SeedableRng};

use super::super::h264_packetize::packetize;
use super::*;

const FRAME_TIME: Duration = Duration::from_millis(33);

/// Makes the packets of a stream with a key frame wherever asked for.
struct Sender {
    sequence_number: u16,
    timestamp: u32,
    random: StdRng,
}

impl Sender {
    fn new(sequence_number: u16, timestamp: u32) -> Self {
        Self { sequence_number, timestamp, random: StdRng::seed_from_u64(3) }
    }

    fn frame(&mut self, key: bool, size: usize) -> (Vec<u8>, Vec<RtpPacket>) {
        let mut data = Vec::new();
        if key {
            data.extend([0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 0, 1, 0x68, 4, 5]);
        }
        data.extend([0, 0, 0, 1, if key { 0x65 } else { 0x41 }]);
        data.extend((0..size).map(|_| self.random.random_range(1..=255u8)));
        let payloads = packetize(&data, 1000);
        let last = payloads.len() - 1;
        let packets = payloads
            .into_iter()
            .enumerate()
            .map(|(i, payload)| self.packet(payload, i == last))
            .collect();
        self.timestamp = self.timestamp.wrapping_add(3000);
        (data, packets)
    }

    fn packet(&mut self, payload: Bytes, marker: bool) -> RtpPacket {
        let sequence_number = self.sequence_number;
        self.sequence_number = sequence_number.wrapping_add(1);
        RtpPacket { sequence_number, timestamp: self.timestamp, marker, payload }
    }

    /// Padding carries the timestamp of the frame before it (it comes after its marker).
    fn padding(&mut self) -> RtpPacket {
        let mut packet = self.packet(Bytes::new(), false);
        packet.timestamp = packet.timestamp.wrapping_sub(3000);
        packet
    }
}

struct Receiver {
    assembler: Assembler,
    now: Instant,
}

impl Receiver {
    fn new() -> Self {
        Self { assembler: Assembler::new(), now: Instant::now() }
    }

    fn give(&mut self, packets: impl IntoIterator<Item = RtpPacket>) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for packet in packets {
            self.assembler.handle_packet(self.now, packet);
            frames.extend(self.poll());
        }
        frames
    }

    fn poll(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.assembler.poll_frame(self.now)).map(|f| f.data).collect()
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn key_frame_needed(&mut self) -> bool {
        self.assembler.poll_event() == Some(AssemblerEvent::KeyFrameNeeded)
    }
}

/// A receiver that has shown the first key frame of `sender`.
fn started(sender: &mut Sender) -> Receiver {
    let mut receiver = Receiver::new();
    let (data, packets) = sender.frame(true, 5000);
    assert_eq!(receiver.give(packets), [data]);
    receiver
}

#[test]
fn a_clean_stream_comes_out_as_it_went_in_across_both_wraps() {
    let mut sender = Sender::new(65_500, u32::MAX - 40_000);
    let mut receiver = started(&mut sender);
    for i in 0..100 {
        let timestamp = sender.timestamp;
        let (data, packets) = sender.frame(i % 40 == 39, 100 + 137 * i);
        let count = packets.len();
        let begun = receiver.now;
        let mut out = None;
        for packet in packets {
            receiver.wait(Duration::from_millis(1));
            receiver.assembler.handle_packet(receiver.now, packet);
            out = out.or(receiver.assembler.poll_frame(receiver.now));
        }
        let frame = out.expect("a whole frame came in");
        assert!(frame.data == data);
        assert_eq!(frame.rtp_timestamp, timestamp);
        assert_eq!(frame.key_frame, i % 40 == 39);
        assert_eq!(frame.packets, count);
        assert_eq!(frame.first_arrival, begun + Duration::from_millis(1));
        assert_eq!(frame.last_arrival, receiver.now);
    }
    assert!(!receiver.key_frame_needed());
    assert_eq!(receiver.assembler.poll_timeout(), None);
    assert_eq!(receiver.assembler.stats().frames_dropped, 0);
}

#[test]
fn reordered_and_doubled_packets_make_the_same_frames() {
    let mut random = StdRng::seed_from_u64(11);
    let mut sender = Sender::new(65_000, 5);
    let mut receiver = started(&mut sender);
    for _ in 0..50 {
        let mut sent = Vec::new();
        let mut packets = Vec::new();
        for _ in 0..3 {
            let (data, more) = sender.frame(false, random.random_range(1..9000));
            sent.push(data);
            packets.extend(more);
        }
        let again: Vec<_> = packets.iter().filter(|_| random.random_bool(0.3)).cloned().collect();
        packets.extend(again);
        packets.shuffle(&mut random);
        assert!(receiver.give(packets) == sent);
    }
    let stats = receiver.assembler.stats();
    assert!(stats.duplicates + stats.late > 0);
    assert_eq!((stats.gaps_given_up, stats.frames_dropped), (0, 0));
}

#[test]
fn the_first_key_frame_may_arrive_upside_down() {
    let mut sender = Sender::new(3, 0);
    let (data, mut packets) = sender.frame(true, 8000);
    packets.reverse();
    assert_eq!(Receiver::new().give(packets), [data]);
}

#[test]
fn padding_between_frames_is_no_gap() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    for _ in 0..10 {
        let padding: Vec<_> = (0..3).map(|_| sender.padding()).collect();
        assert!(receiver.give(padding).is_empty());
        let (data, packets) = sender.frame(false, 2500);
        assert_eq!(receiver.give(packets), [data]);
    }
    // Padding that is late holds the frame back only until it comes.
    let padding = sender.padding();
    let (data, packets) = sender.frame(false, 10);
    assert!(receiver.give(packets).is_empty());
    assert_eq!(receiver.give([padding]), [data]);
}

#[test]
fn a_frame_without_a_marker_ends_where_the_next_begins() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    let (data, mut packets) = sender.frame(false, 2500);
    packets.iter_mut().for_each(|packet| packet.marker = false);
    assert!(receiver.give(packets).is_empty());
    let (next, packets) = sender.frame(false, 10);
    assert_eq!(receiver.give(packets), [data, next]);
}

#[test]
fn a_repair_in_time_loses_nothing() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    let (first, mut packets) = sender.frame(false, 4500);
    let lost = packets.remove(2);
    assert!(receiver.give(packets).is_empty());
    let (second, packets) = sender.frame(false, 100);
    receiver.wait(FRAME_TIME);
    assert!(receiver.give(packets).is_empty());
    receiver.wait(Duration::from_millis(160));
    assert_eq!(receiver.give([lost]), [first, second]);
    assert!(!receiver.key_frame_needed());
}

#[test]
fn a_gap_that_stays_asks_for_a_key_frame_and_shows_nothing_before_it() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    receiver.assembler.set_rtt(Duration::from_millis(200));
    let (_, mut packets) = sender.frame(false, 4500);
    let lost = packets.remove(1);
    receiver.give(packets);
    let deadline = receiver.assembler.poll_timeout().expect("a gap has a deadline");
    assert_eq!(deadline, receiver.now + Duration::from_millis(300));
    receiver.wait(Duration::from_millis(299));
    assert!(receiver.poll().is_empty());
    assert!(!receiver.key_frame_needed());
    receiver.wait(Duration::from_millis(1));
    assert!(receiver.poll().is_empty());
    assert!(receiver.key_frame_needed());
    assert!(!receiver.key_frame_needed(), "said once");
    // The request was made at 300 ms; the gap is given up at 650 ms.
    let deadline = receiver.assembler.poll_timeout().expect("a gap has a deadline");
    assert_eq!(deadline, receiver.now + Duration::from_millis(350));
    receiver.wait(Duration::from_millis(350));
    assert!(receiver.poll().is_empty());
    assert!(receiver.key_frame_needed(), "and once more");
    // Neither the late packet nor whole frames after it are shown.
    assert!(receiver.give([lost]).is_empty());
    for _ in 0..5 {
        receiver.wait(FRAME_TIME);
        let packets = sender.frame(false, 900).1;
        assert!(receiver.give(packets).is_empty());
    }
    let (data, packets) = sender.frame(true, 4000);
    assert_eq!(receiver.give(packets), [data]);
    let (data, packets) = sender.frame(false, 4000);
    assert_eq!(receiver.give(packets), [data]);
    assert_eq!(receiver.assembler.stats().gaps_given_up, 1);
    assert_eq!(receiver.assembler.stats().frames_dropped, 6);
}

#[test]
fn a_repair_that_comes_after_the_request_still_loses_nothing() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    let (first, mut packets) = sender.frame(false, 4500);
    let (second, first_lost) = (packets.remove(3), packets.remove(1));
    receiver.give(packets);
    receiver.wait(DEFAULT_REPAIR_TIME);
    assert!(receiver.poll().is_empty() && receiver.key_frame_needed());
    receiver.wait(FRAME_TIME);
    // One repair opens the next gap of the same frame, for which nothing more is asked.
    assert!(receiver.give([first_lost]).is_empty());
    receiver.wait(Duration::from_millis(100));
    assert!(receiver.poll().is_empty() && !receiver.key_frame_needed());
    assert_eq!(receiver.give([second]), [first]);
    let (next, packets) = sender.frame(false, 100);
    assert_eq!(receiver.give(packets), [next]);
    assert_eq!(receiver.assembler.poll_timeout(), None);
    assert_eq!(receiver.assembler.stats().gaps_given_up, 0);
}

#[test]
fn a_gap_can_be_skipped_up_to_the_next_frame_that_is_whole() {
    for lost in [0..1, 2..3, 4..5, 3..7, 0..5] {
        let mut sender = Sender::new(65_530, 0);
        let mut receiver = started(&mut sender);
        // Five packets, five packets, one.
        let (_, first) = sender.frame(false, 4500);
        let (second, more) = sender.frame(false, 4500);
        let (third, last) = sender.frame(false, 100);
        assert_eq!((first.len(), more.len()), (5, 5));
        let packets = first.into_iter().chain(more).chain(last).enumerate();
        let came = packets.filter(|(number, _)| !lost.contains(number)).map(|(_, packet)| packet);
        assert!(receiver.give(came).is_empty());
        receiver.assembler.skip_gap();
        // Without its neighbour nobody knows that the second frame begins where it does.
        let expected = if lost.end >= 5 { vec![third] } else { vec![second, third] };
        assert!(receiver.poll() == expected, "without {lost:?}");
        let (next, packets) = sender.frame(false, 2000);
        assert_eq!(receiver.give(packets), [next]);
        assert!(!receiver.key_frame_needed());
    }
}

#[test]
fn a_whole_key_frame_overtakes_a_gap() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    let (_, mut packets) = sender.frame(false, 4500);
    packets.remove(0);
    assert!(receiver.give(packets).is_empty());
    let (key, packets) = sender.frame(true, 4000);
    assert_eq!(receiver.give(packets), [key]);
    assert!(!receiver.key_frame_needed());
    assert_eq!(receiver.assembler.poll_timeout(), None);
}

#[test]
fn a_lost_last_packet_is_told_from_a_missing_frame_by_nobody_so_both_wait() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    let (_, mut packets) = sender.frame(false, 2500);
    packets.pop();
    receiver.give(packets);
    let packets = sender.frame(false, 100).1;
    assert!(receiver.give(packets).is_empty());
    receiver.wait(DEFAULT_REPAIR_TIME);
    assert!(receiver.poll().is_empty());
    assert!(receiver.key_frame_needed());
}

#[test]
fn the_request_is_repeated_while_packets_come_but_not_while_a_key_frame_arrives() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    receiver.assembler.require_key_frame(receiver.now);
    assert!(receiver.key_frame_needed());
    let mut asked = 0;
    for _ in 0..60 {
        receiver.wait(FRAME_TIME);
        let packets = sender.frame(false, 100).1;
        assert!(receiver.give(packets).is_empty());
        asked += u32::from(receiver.key_frame_needed());
    }
    assert!((3..=4).contains(&asked), "asked {asked} times in two seconds");
    // A large key frame trickles in over a second.
    let (data, packets) = sender.frame(true, 40_000);
    let mut out = Vec::new();
    for packet in packets {
        receiver.wait(Duration::from_millis(25));
        out.extend(receiver.give([packet]));
        assert!(!receiver.key_frame_needed());
    }
    assert_eq!(out, [data]);
}

#[test]
fn a_damaged_key_frame_is_asked_for_again() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = Receiver::new();
    let (_, mut packets) = sender.frame(true, 9000);
    packets.remove(4);
    assert!(receiver.give(packets).is_empty());
    let mut asked = false;
    for _ in 0..10 {
        receiver.wait(FRAME_TIME);
        let packets = sender.frame(false, 300).1;
        assert!(receiver.give(packets).is_empty());
        asked |= receiver.key_frame_needed();
    }
    assert!(asked);
    let (data, packets) = sender.frame(true, 4000);
    assert_eq!(receiver.give(packets), [data]);
}

#[test]
fn who_joins_in_the_middle_asks_soon() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = Receiver::new();
    for _ in 0..5 {
        let packets = sender.frame(false, 300).1;
        assert!(receiver.give(packets).is_empty());
        receiver.wait(FRAME_TIME);
    }
    assert!(receiver.key_frame_needed());
}

#[test]
fn an_endless_frame_is_cut_and_the_stream_goes_on_after_it() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    for _ in 0..3 * MAX_PACKETS {
        let packet = sender.packet(Bytes::from_static(&[0x7c, 0x05, 1]), false);
        receiver.assembler.handle_packet(receiver.now, packet);
        assert!(receiver.assembler.packets.len() <= MAX_PACKETS);
    }
    let big = Bytes::from(vec![0x41; 60_000]);
    for _ in 0..300 {
        let packet = sender.packet(big.clone(), false);
        receiver.assembler.handle_packet(receiver.now, packet);
        assert!(receiver.assembler.bytes <= MAX_BYTES);
    }
    assert!(receiver.assembler.stats().overflows >= 4);
    assert!(receiver.poll().is_empty());
    assert!(receiver.key_frame_needed());
    sender.timestamp += 3000;
    let (data, packets) = sender.frame(true, 4000);
    assert_eq!(receiver.give(packets), [data]);
}

#[test]
fn a_sender_that_starts_over_is_followed_from_its_next_key_frame() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    sender.sequence_number = 40_000;
    let packets = sender.frame(false, 3000).1;
    assert!(receiver.give(packets).is_empty());
    assert!(receiver.key_frame_needed());
    let (data, packets) = sender.frame(true, 3000);
    assert_eq!(receiver.give(packets), [data]);
}

#[test]
fn torn_fragments_in_a_whole_frame_are_not_shown() {
    let mut sender = Sender::new(10, 0);
    let mut receiver = started(&mut sender);
    let packet = sender.packet(Bytes::from_static(&[0x7c, 0x01, 1, 2]), true);
    assert!(receiver.give([packet]).is_empty());
    assert!(receiver.key_frame_needed());
    assert_eq!(receiver.assembler.stats().malformed, 1);
}

/// Seeded loss with repairs: what is shown is always an unbroken run behind a key frame.
#[test]
fn under_loss_every_frame_shown_follows_the_one_before_or_is_a_key_frame() {
    let mut random = StdRng::seed_from_u64(5);
    let mut sender = Sender::new(64_000, 77);
    let mut receiver = Receiver::new();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    let mut late: Vec<(usize, RtpPacket)> = Vec::new();
    let mut want_key = true;
    let (mut shown, mut last) = (0, None);
    for round in 0..3000 {
        let (data, packets) = sender.frame(want_key, random.random_range(50..6000));
        want_key = false;
        sent.push(data);
        let mut arriving: Vec<RtpPacket> = Vec::new();
        for packet in packets {
            if random.random_bool(0.95) {
                arriving.push(packet);
            } else if random.random_bool(0.9) {
                late.push((round + random.random_range(0..5), packet));
            }
        }
        arriving.extend(late.extract_if(.., |(due, _)| *due <= round).map(|(_, packet)| packet));
        for data in receiver.give(arriving) {
            let at = sent.iter().position(|s| *s == data).expect("only sent frames come out");
            let key = data[4] == 0x67;
            assert!(key || last.is_some_and(|last| at == last + 1), "frame {at} after {last:?}");
            assert!(last.is_none_or(|last| at > last));
            last = Some(at);
            shown += 1;
        }
        receiver.wait(FRAME_TIME);
        want_key |= receiver.key_frame_needed();
    }
    assert!(shown > 2000, "{shown} of 3000 frames shown");
}

#[test]
fn no_bytes_from_a_peer_can_end_it() {
    let mut random = StdRng::seed_from_u64(1);
    let mut assembler = Assembler::new();
    let mut now = Instant::now();
    let mut sender = Sender::new(0, 0);
    for round in 0..20_000u32 {
        let mut packet = if random.random_bool(0.5) {
            let (_, mut packets) = sender.frame(random.random_bool(0.1), 1500);
            packets.swap_remove(random.random_range(0..packets.len()))
        } else {
            let mut payload = vec![0; random.random_range(0..40)];
            random.fill_bytes(&mut payload);
            if let Some(first) = payload.first_mut()
                && random.random_bool(0.7)
            {
                *first = [0x78, 0x7c, 0x65, 0x67, 0x41, 0x7d][random.random_range(0..6)];
            }
            RtpPacket {
                sequence_number: (round / 3) as u16 ^ random.random_range(0..8),
                timestamp: random.random_range(0..4),
                marker: random.random_bool(0.3),
                payload: payload.into(),
            }
        };
        if random.random_bool(0.05) {
            packet.sequence_number = random.random();
        }
        assembler.handle_packet(now, packet);
        while assembler.poll_frame(now).is_some() {}
        assembler.poll_event();
        assert!(assembler.packets.len() <= MAX_PACKETS);
        assert_eq!(
            assembler.bytes,
            assembler.packets.values().map(|p| p.payload.len()).sum::<usize>()
        );
        now += Duration::from_millis(random.random_range(0..20));
    }
    assert!(assembler.stats().frames > 0);
}
