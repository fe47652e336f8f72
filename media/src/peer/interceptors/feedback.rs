//! Transport-wide feedback as the stack parses it
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1), packet by packet.

use std::time::Duration;

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
};

use crate::rtp::send_history::Status;

/// The reference time counts these,
const TICK: Duration = Duration::from_millis(64);

/// modulo so many.
const TICKS: u64 = 1 << 24;

/// Remembers where the reference time was, since it wraps.
#[derive(Default)]
pub(super) struct Reader {
    last: Option<u64>,
}

impl Reader {
    /// The status of each packet from `base_sequence_number` on. No more than the message says
    /// there are, whatever its run lengths add up to.
    pub fn read(&mut self, message: &TransportLayerCc) -> Vec<Status> {
        let ticks = self.unwrap(u64::from(message.reference_time) % TICKS);
        let mut clock = TICK * u32::try_from(ticks).unwrap_or(u32::MAX);
        let mut deltas = message.recv_deltas.iter();
        let count = usize::from(message.packet_status_count);
        let symbols = message.packet_chunks.iter().flat_map(symbols).take(count);
        symbols
            .map(|symbol| match symbol {
                SymbolTypeTcc::PacketNotReceived => Status::Lost,
                SymbolTypeTcc::PacketReceivedWithoutDelta => Status::Unknown,
                SymbolTypeTcc::PacketReceivedSmallDelta
                | SymbolTypeTcc::PacketReceivedLargeDelta => match deltas.next() {
                    Some(delta) => {
                        let step = Duration::from_micros(delta.delta.unsigned_abs());
                        clock = if delta.delta < 0 {
                            clock.saturating_sub(step)
                        } else {
                            clock.saturating_add(step)
                        };
                        Status::Arrived(clock)
                    }
                    None => Status::Unknown,
                },
            })
            .collect()
    }

    /// The reference time nearest to the one before.
    fn unwrap(&mut self, ticks: u64) -> u64 {
        // One round ahead, so that one before the first is not below zero.
        let last = self.last.unwrap_or(TICKS + ticks);
        let step = (TICKS + ticks - last % TICKS) % TICKS;
        let next = if step < TICKS / 2 { last + step } else { (last + step).saturating_sub(TICKS) };
        self.last = Some(next);
        next
    }
}

fn symbols(chunk: &PacketStatusChunk) -> Box<dyn Iterator<Item = SymbolTypeTcc> + '_> {
    match chunk {
        PacketStatusChunk::RunLengthChunk(run) => {
            Box::new((0..run.run_length).map(|_| run.packet_status_symbol))
        }
        PacketStatusChunk::StatusVectorChunk(vector) => {
            Box::new(vector.symbol_list.iter().copied())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    };

    fn run(symbol: SymbolTypeTcc, run_length: u16) -> PacketStatusChunk {
        PacketStatusChunk::RunLengthChunk(RunLengthChunk {
            type_tcc: StatusChunkTypeTcc::RunLengthChunk,
            packet_status_symbol: symbol,
            run_length,
        })
    }

    fn delta(micros: i64) -> RecvDelta {
        RecvDelta { type_tcc_packet: SymbolTypeTcc::PacketReceivedSmallDelta, delta: micros }
    }

    fn ms(status: Status) -> Option<f64> {
        match status {
            Status::Arrived(at) => Some((at - TICK * (1 << 24)).as_secs_f64() * 1000.0),
            _ => None,
        }
    }

    #[test]
    fn deltas_add_up_from_the_reference_time() {
        let mut message = TransportLayerCc {
            reference_time: 10,
            packet_status_count: 5,
            packet_chunks: vec![
                run(SymbolTypeTcc::PacketReceivedSmallDelta, 2),
                PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                    type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                    symbol_size: SymbolSizeTypeTcc::TwoBit,
                    symbol_list: vec![
                        SymbolTypeTcc::PacketNotReceived,
                        SymbolTypeTcc::PacketReceivedLargeDelta,
                        SymbolTypeTcc::PacketReceivedWithoutDelta,
                        SymbolTypeTcc::PacketReceivedSmallDelta,
                    ],
                }),
            ],
            recv_deltas: vec![delta(1000), delta(2000), delta(-500)],
            ..TransportLayerCc::default()
        };
        let statuses = Reader::default().read(&message);
        let arrivals: Vec<_> = statuses.iter().copied().map(ms).collect();
        assert_eq!(arrivals, [Some(641.0), Some(643.0), None, Some(642.5), None]);
        assert_eq!((statuses[2], statuses[4]), (Status::Lost, Status::Unknown));
        // More received than there are times for.
        message.recv_deltas.clear();
        assert_eq!(Reader::default().read(&message)[0], Status::Unknown);
    }

    #[test]
    fn run_lengths_do_not_make_more_packets_than_there_are() {
        let message = TransportLayerCc {
            packet_status_count: 100,
            packet_chunks: vec![run(SymbolTypeTcc::PacketNotReceived, 8191); 500],
            ..TransportLayerCc::default()
        };
        assert_eq!(Reader::default().read(&message).len(), 100);
    }

    #[test]
    fn the_reference_time_wraps() {
        let mut reader = Reader::default();
        let first = reader.unwrap(TICKS - 2);
        assert_eq!(reader.unwrap(3), first + 5);
        assert_eq!(reader.unwrap(TICKS - 1), first + 1);
        assert_eq!(reader.unwrap(0), first + 2);
    }
}
