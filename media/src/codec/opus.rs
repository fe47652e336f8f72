//! Opus (RFC 6716) at 48 kHz, 20 or 60 ms a packet: voice in mono, music in stereo. Two channels are
//! samples by turns, left first.

use super::CodecError;
use crate::sound::{FRAME_SAMPLES, SAMPLE_RATE};
use crate::units::Bitrate;
use bytes::Bytes;
use opus::{Application, Channels, Signal};
use std::collections::VecDeque;

/// Bounds of what voice needs; Opus itself takes 6 to 510 kbit/s.
const LOWEST: Bitrate = Bitrate::from_kbps(6);
const HIGHEST: Bitrate = Bitrate::from_kbps(256);

/// One frame at most (RFC 6716, section 3.4); three at our rates are shorter, and must fit into a
/// packet of the network.
const LARGEST_ENCODED: usize = 1100;

/// The longest packet: 120 ms (RFC 6716, section 3.2.5).
pub const LONGEST_PACKET_SAMPLES: usize = 6 * FRAME_SAMPLES;

/// The most bytes 120 ms can take: six frames of 1275 and their lengths.
const LARGEST_PACKET: usize = 6 * 1277 + 2;

/// Encodes voice with in-band error correction, or music.
pub struct OpusEncoder {
    library: opus::Encoder,
    packet: Box<[u8; LARGEST_ENCODED]>,
}

impl OpusEncoder {
    /// Starts an encoder of a voice in one channel.
    pub fn new(bitrate: Bitrate) -> Result<Self, CodecError> {
        Self::of(Channels::Mono, Application::Voip, bitrate)
    }

    /// Starts an encoder that is given two channels, and mixes them to one voice until
    /// [`set_music`](Self::set_music) says otherwise.
    pub fn stereo(bitrate: Bitrate) -> Result<Self, CodecError> {
        let mut this = Self::of(Channels::Stereo, Application::Audio, bitrate)?;
        this.set_music(false)?;
        Ok(this)
    }

    fn of(channels: Channels, use_as: Application, bitrate: Bitrate) -> Result<Self, CodecError> {
        let library = opus::Encoder::new(SAMPLE_RATE, channels, use_as)
            .map_err(|error| start_error("encoder", &error))?;
        let mut this = Self { library, packet: Box::new([0; LARGEST_ENCODED]) };
        let encoder = &mut this.library;
        encoder.set_complexity(COMPLEXITY).map_err(|error| setting("complexity", &error))?;
        encoder.set_signal(Signal::Voice).map_err(|error| setting("voice", &error))?;
        encoder.set_inband_fec(true).map_err(|error| setting("in-band FEC", &error))?;
        encoder.set_vbr(true).map_err(|error| setting("VBR", &error))?;
        encoder.set_vbr_constraint(true).map_err(|error| setting("constrained VBR", &error))?;
        encoder.set_dtx(false).map_err(|error| setting("DTX", &error))?;
        this.set_bitrate(bitrate)?;
        Ok(this)
    }

    /// Whether the two channels of a [`stereo`](Self::stereo) encoder are kept, from the next packet
    /// on; the decoder follows without a break. Music has no in-band error correction: for that the
    /// encoder would change to its mode for voices.
    pub fn set_music(&mut self, music: bool) -> Result<(), CodecError> {
        let (channels, signal) = match music {
            true => (Channels::Stereo, Signal::Music),
            false => (Channels::Mono, Signal::Voice),
        };
        let encoder = &mut self.library;
        encoder
            .set_force_channels(Some(channels))
            .map_err(|error| setting("the number of channels", &error))?;
        encoder.set_signal(signal).map_err(|error| setting("voice or music", &error))?;
        encoder.set_inband_fec(!music).map_err(|error| setting("in-band FEC", &error))
    }

    /// Encodes 20 ms of sound, or 60.
    pub fn encode(&mut self, samples: &[f32]) -> Result<Bytes, CodecError> {
        let len = self.library.encode_float(samples, &mut self.packet[..]).map_err(|error| {
            CodecError::Encode {
                codec: "Opus",
                what: format!("{} samples of sound", samples.len()),
                reason: error.description().into(),
            }
        })?;
        Ok(Bytes::copy_from_slice(self.packet.get(..len).unwrap_or_default()))
    }

    /// Changes the target bitrate, clamped to 6..256 kbit/s.
    pub fn set_bitrate(&mut self, bitrate: Bitrate) -> Result<(), CodecError> {
        let bitrate = bitrate.clamp(LOWEST, HIGHEST);
        self.library
            .set_bitrate(opus::Bitrate::Bits(bitrate.bps() as i32))
            .map_err(|error| setting(&bitrate.to_string(), &error))
    }

    /// Whether pauses of the voice become frames without content, of one byte: the first of them
    /// is worth sending, the others are not (RFC 7587 section 3.1.3).
    pub fn set_dtx(&mut self, dtx: bool) -> Result<(), CodecError> {
        self.library.set_dtx(dtx).map_err(|error| setting("DTX", &error))
    }

    /// Tells what share of packets is lost, in percent (clamped to 0..100): the more, the more
    /// of the rate goes into copies of the frame before. With 0 none are sent.
    pub fn set_packet_loss_perc(&mut self, percent: u8) -> Result<(), CodecError> {
        self.library
            .set_packet_loss_perc(i32::from(percent.min(100)))
            .map_err(|error| setting("the packet loss", &error))
    }
}

/// Takes 0.16 ms of a core for 20 ms of sound, where 5 takes 0.12.
const COMPLEXITY: i32 = 9;

/// A decoder that begins within a stream has to learn what its packets refer to: after so many, the
/// worst that is wrong is 26 dB below the sound, and without them 3 dB.
const WARM_UP: usize = 5;

/// Decodes to 48 kHz whatever Opus a peer sends, 2.5 to 120 ms a packet: to mono, or to two channels
/// from the first stereo packet on. Decoding mono to two channels would cost a fifth more, and most
/// peers never send anything else.
pub struct OpusDecoder {
    library: opus::Decoder,
    /// What `library` decodes to.
    channels: usize,
    /// Two channels are wanted.
    wide: bool,
    /// The last packets, while there may be another decoder to come.
    recent: VecDeque<Vec<u8>>,
}

impl OpusDecoder {
    /// Starts a decoder to mono: stereo is mixed down.
    pub fn new() -> Result<Self, CodecError> {
        let library = start_decoder(Channels::Mono)?;
        Ok(Self { library, channels: 1, wide: false, recent: VecDeque::new() })
    }

    /// Starts a decoder to two channels where the peer sends two.
    pub fn stereo() -> Result<Self, CodecError> {
        Ok(Self { wide: true, ..Self::new()? })
    }

    /// In how many channels sound comes out, by turns: 1, or 2 from the first stereo packet on.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Gets ready for a packet, after which [`channels`](Self::channels) is right for it. Decoding it
    /// does the same.
    pub fn follow(&mut self, packet: &[u8]) {
        if self.channels == 2 || !self.wide || !is_stereo(packet) {
            return;
        }
        let Ok(mut library) = start_decoder(Channels::Stereo) else {
            // Mixed down, then.
            return self.wide = false;
        };
        let mut nowhere = vec![0.0; 2 * LONGEST_PACKET_SAMPLES];
        for packet in self.recent.drain(..) {
            // Those that are no Opus were refused before.
            let _ = library.decode_float(&packet, &mut nowhere, false);
        }
        (self.library, self.channels) = (library, 2);
    }

    fn remember(&mut self, packet: &[u8]) {
        if self.channels == 2 || !self.wide {
            return;
        }
        let oldest = (self.recent.len() >= WARM_UP).then(|| self.recent.pop_front()).flatten();
        let mut kept = oldest.unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(packet);
        self.recent.push_back(kept);
    }

    /// How many samples of each channel a packet holds; an error for one that is not Opus.
    pub fn packet_samples(packet: &[u8]) -> Result<usize, CodecError> {
        if packet.is_empty() {
            return Err(refused("it is empty"));
        }
        if packet.len() > LARGEST_PACKET {
            return Err(refused(format!("{} bytes are more than {LARGEST_PACKET}", packet.len())));
        }
        let samples = opus::packet::get_nb_samples(packet, SAMPLE_RATE)
            .map_err(|error| refused(error.description()))?;
        if samples == 0 || samples > LONGEST_PACKET_SAMPLES {
            return Err(refused(format!("{samples} samples are not 2.5 to 120 ms")));
        }
        Ok(samples)
    }

    /// Decodes a packet and returns how many samples were written: 960 for the usual 20 ms, as many
    /// again for a second channel. `out` must have room for [`LONGEST_PACKET_SAMPLES`] a channel, or
    /// at least for what [`packet_samples`](Self::packet_samples) says of this packet.
    pub fn decode(&mut self, packet: &[u8], out: &mut [f32]) -> Result<usize, CodecError> {
        let samples = Self::packet_samples(packet)?;
        self.follow(packet);
        self.remember(packet);
        let (room, channels) = (out.len(), self.channels);
        let samples = samples * channels;
        let out = out
            .get_mut(..samples)
            .ok_or_else(|| refused(format!("{samples} samples where {room} were expected")))?;
        let written = self
            .library
            .decode_float(packet, out, false)
            .map_err(|error| refused(error.description()))?
            * channels;
        keep_sane(out.get_mut(..written).unwrap_or_default());
        Ok(written)
    }

    /// Recovers what was lost just before `next_packet`, as long as `out` in all its
    /// [`channels`](Self::channels), from the copy it carries; where it carries none, conceals. Decode
    /// `next_packet` itself afterwards.
    pub fn decode_fec(&mut self, next_packet: &[u8], out: &mut [f32]) -> Result<(), CodecError> {
        Self::packet_samples(next_packet)?;
        self.follow(next_packet);
        self.fill(next_packet, true, out)
    }

    /// Continues the sound over 20 ms that are lost for good, or that the sender does not send, in all
    /// its channels.
    pub fn conceal(&mut self, out: &mut [f32]) -> Result<(), CodecError> {
        self.fill(&[], false, out)
    }

    fn fill(&mut self, packet: &[u8], fec: bool, out: &mut [f32]) -> Result<(), CodecError> {
        let written = self.library.decode_float(packet, out, fec).map_err(|error| {
            out.fill(0.0);
            refused(error.description())
        })?;
        if let Some(rest) = out.get_mut(written * self.channels..) {
            rest.fill(0.0);
        }
        keep_sane(out);
        Ok(())
    }
}

/// Opus overshoots -1..1 a little with honest packets and a lot with forged ones.
fn keep_sane(samples: &mut [f32]) {
    for sample in samples {
        *sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
    }
}

/// What the packet says of itself (RFC 6716 section 3.1).
fn is_stereo(packet: &[u8]) -> bool {
    packet.first().is_some_and(|toc| toc & 4 != 0)
}

fn start_decoder(channels: Channels) -> Result<opus::Decoder, CodecError> {
    opus::Decoder::new(SAMPLE_RATE, channels).map_err(|error| start_error("decoder", &error))
}

fn start_error(part: &'static str, error: &opus::Error) -> CodecError {
    CodecError::Start { codec: "Opus", part, code: error.code() as i64 }
}

fn setting(setting: &str, error: &opus::Error) -> CodecError {
    CodecError::Setting { codec: "Opus", setting: setting.into(), code: error.code() as i64 }
}

fn refused(reason: impl Into<String>) -> CodecError {
    CodecError::Decode { codec: "Opus", what: "packet", reason: reason.into() }
}

#[cfg(test)]
mod tests;
