//! What becomes of the sound we send: an interceptor, wire-most, that reads transport-wide
//! numbers out of departing packets and the other end's feedback about them. Changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use super::overflow::Overflow;
use crate::rtp::loss_runs::LossRuns;
use crate::stats::Counters;

/// What happened to sound before congestion control knew of the queue: a second of it.
const BEFORE: usize = 50;

/// Tells [`Counters::audio_loss`].
pub(super) struct AudioLoss {
    counters: Arc<Counters>,
    ssrc: u32,
    /// Id of the header extension that carries the transport-wide number.
    extension: Option<u8>,
    runs: LossRuns,
    overflow: Overflow,
    overflowing: bool,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl AudioLoss {
    pub(super) fn new(counters: Arc<Counters>, ssrc: u32) -> Self {
        Self {
            counters,
            ssrc,
            extension: None,
            runs: LossRuns::default(),
            overflow: Overflow::default(),
            overflowing: false,
            read: VecDeque::new(),
            write: VecDeque::new(),
        }
    }

    fn handle_sent(&mut self, packet: &rtc::rtp::Packet) {
        if packet.header.ssrc == self.ssrc
            && let Some(number) = self.extension.and_then(|id| packet.header.get_extension(id))
            && let [high, low] = number[..]
        {
            self.runs.handle_sent(u16::from_be_bytes([high, low]));
        }
    }

    fn handle_feedback(&mut self, now: Instant, feedback: &TransportLayerCc) {
        let symbols = feedback.packet_chunks.iter().flat_map(symbols);
        let arrived = symbols.map(|symbol| symbol != SymbolTypeTcc::PacketNotReceived);
        let count = usize::from(feedback.packet_status_count);
        let first = feedback.base_sequence_number;
        let told = self.runs.handle_feedback(first, arrived.take(count));
        // What told congestion control of the queue has passed here before it knew.
        let state = self.counters.sending().map(|sending| sending.state);
        let overflowing = self.overflow.handle_state(now, state, self.counters.rtt());
        let before = std::mem::replace(&mut self.overflowing, overflowing);
        if overflowing {
            self.runs.forget(told + if before { 0 } else { BEFORE });
        }
        if let Some(loss) = self.runs.loss() {
            self.counters.set_audio_loss(loss);
        }
    }
}

fn symbols(chunk: &PacketStatusChunk) -> Box<dyn Iterator<Item = SymbolTypeTcc> + '_> {
    match chunk {
        PacketStatusChunk::RunLengthChunk(run) => {
            Box::new(std::iter::repeat_n(run.packet_status_symbol, usize::from(run.run_length)))
        }
        PacketStatusChunk::StatusVectorChunk(vector) => {
            Box::new(vector.symbol_list.iter().copied())
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for AudioLoss {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &msg.message.packet {
            for packet in packets {
                if let Some(feedback) = packet.as_any().downcast_ref::<TransportLayerCc>() {
                    self.handle_feedback(msg.now, feedback);
                }
            }
        }
        self.read.push_back(msg);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, msg: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &msg.message.packet {
            self.handle_sent(packet);
        }
        self.write.push_back(msg);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for AudioLoss {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        if info.ssrc == self.ssrc {
            let uri = rtc::sdp::extmap::TRANSPORT_CC_URI;
            let extension = info.rtp_header_extensions.iter().find(|found| found.uri == uri);
            self.extension = extension.and_then(|found| u8::try_from(found.id).ok());
        }
    }

    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::interceptor::RTPHeaderExtension;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        RunLengthChunk, StatusVectorChunk, SymbolSizeTypeTcc,
    };

    const SSRC: u32 = 5;

    fn sent(tap: &mut AudioLoss, ssrc: u32, number: u16) {
        let mut packet = rtc::rtp::Packet::default();
        packet.header.ssrc = ssrc;
        let number = number.to_be_bytes().to_vec();
        packet.header.set_extension(3, number.into()).expect("fits");
        tap.handle_sent(&packet);
    }

    #[test]
    fn every_kind_of_feedback_is_understood() {
        let counters = Arc::new(Counters::new());
        let mut tap = AudioLoss::new(Arc::clone(&counters), SSRC);
        tap.bind_local_stream(&StreamInfo {
            ssrc: SSRC,
            rtp_header_extensions: vec![RTPHeaderExtension {
                uri: rtc::sdp::extmap::TRANSPORT_CC_URI.to_owned(),
                id: 3,
            }],
            ..StreamInfo::default()
        });
        for number in 0..100 {
            sent(&mut tap, SSRC, number);
            sent(&mut tap, SSRC + 1, 1000 + number);
        }
        let lost = SymbolTypeTcc::PacketNotReceived;
        let come = SymbolTypeTcc::PacketReceivedSmallDelta;
        let vector = StatusVectorChunk {
            symbol_size: SymbolSizeTypeTcc::TwoBit,
            // The last one is padding: no packet.
            symbol_list: vec![lost, come, come, lost, come, come, lost],
            ..StatusVectorChunk::default()
        };
        let run = RunLengthChunk {
            packet_status_symbol: come,
            run_length: 94,
            ..RunLengthChunk::default()
        };
        tap.handle_feedback(
            Instant::now(),
            &TransportLayerCc {
                base_sequence_number: 0,
                packet_status_count: 100,
                packet_chunks: vec![
                    PacketStatusChunk::RunLengthChunk(run),
                    PacketStatusChunk::StatusVectorChunk(vector),
                ],
                ..TransportLayerCc::default()
            },
        );
        assert_eq!(counters.audio_loss().map(|loss| loss.rate), Some(0.01));
    }
}
