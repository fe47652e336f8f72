//! Forward error correction in the interceptor chain: [`FecSender`] makes repair packets for the
//! pictures and the sound that leave, [`FecReceiver`] restores what the network lost.
//!
//! Nothing of it is negotiated in SDP. Each receiver tells in RTCP what it lost of which stream
//! ([`AppMessage::Losses`]); only who hears that sends repairs for it. A browser neither says nor gets
//! anything.

mod receiver;
mod sender;

use rtc::rtcp::raw_packet::RawPacket;

use crate::rtp::app_message::AppMessage;
use crate::rtp::fec::Media;
pub(super) use receiver::FecReceiver;
pub(super) use sender::FecSender;

/// The message in an RTCP packet, if it is one of ours.
fn app_message(packet: &dyn rtc::rtcp::Packet) -> Option<AppMessage> {
    AppMessage::parse(&packet.as_any().downcast_ref::<RawPacket>()?.0)
}

fn media(packet: &rtc::rtp::Packet) -> Media<'_> {
    Media {
        sequence_number: packet.header.sequence_number,
        timestamp: packet.header.timestamp,
        marker: packet.header.marker,
        payload_type: packet.header.payload_type,
        payload: &packet.payload,
    }
}

#[cfg(test)]
mod tests;
