//! Which of a device's formats to use. Pure.

use cpal::{
    BufferSize, SampleFormat, StreamConfig, SupportedBufferSize, SupportedStreamConfigRange,
};

use crate::sound::SAMPLE_RATE;

/// Frames a callback, asked for at 48 kHz: 5 ms, which a server makes 20 of (a buffer of two blocks,
/// and as much in the device). Left to itself, it takes seconds.
pub(crate) const BLOCK: u32 = 240;

/// What a stream is opened with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Format {
    pub(crate) config: StreamConfig,
    pub(crate) sample: SampleFormat,
}

/// The nearest to 48 kHz `f32` with `channels`; None where no sample format is understood.
pub(crate) fn choose(
    ranges: impl IntoIterator<Item = SupportedStreamConfigRange>,
    channels: u16,
) -> Option<Format> {
    let best = ranges
        .into_iter()
        .filter_map(|range| Some((cost(&range, channels)?, range)))
        .min_by_key(|(cost, _)| *cost)?
        .1;
    let sample_rate = rate(&best);
    let wanted = (BLOCK * sample_rate).div_ceil(SAMPLE_RATE);
    let frames = match *best.buffer_size() {
        SupportedBufferSize::Range { min, max } => wanted.clamp(min, max.max(min)),
        SupportedBufferSize::Unknown => wanted,
    };
    let config = StreamConfig {
        channels: best.channels(),
        sample_rate,
        buffer_size: BufferSize::Fixed(frames),
    };
    Some(Format { config, sample: best.sample_format() })
}

/// Rate before sample format before channels: resampling costs most, channels least.
fn cost(range: &SupportedStreamConfigRange, channels: u16) -> Option<(u32, u32, u16, u16)> {
    let sample = match range.sample_format() {
        SampleFormat::F32 => 0,
        SampleFormat::I16 => 1,
        SampleFormat::I32 => 2,
        _ => return None,
    };
    if range.channels() == 0 || rate(range) == 0 {
        return None;
    }
    // Dropping channels (0 too few) goes before inventing them.
    let too_few = u16::from(range.channels() < channels);
    Some((rate(range).abs_diff(SAMPLE_RATE), sample, too_few, range.channels().abs_diff(channels)))
}

fn rate(range: &SupportedStreamConfigRange) -> u32 {
    SAMPLE_RATE.clamp(range.min_sample_rate(), range.max_sample_rate().max(range.min_sample_rate()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(channels: u16, rates: (u32, u32), sample: SampleFormat) -> SupportedStreamConfigRange {
        let buffer = SupportedBufferSize::Range { min: 64, max: 8192 };
        SupportedStreamConfigRange::new(channels, rates.0, rates.1, buffer, sample)
    }

    fn chosen(ranges: &[SupportedStreamConfigRange], channels: u16) -> (u16, u32, SampleFormat) {
        let Format { config, sample } = choose(ranges.iter().copied(), channels).expect("a format");
        (config.channels, config.sample_rate, sample)
    }

    #[test]
    fn a_server_that_converts_everything_gets_48_khz_f32() {
        let mut ranges = Vec::new();
        for sample in [SampleFormat::U8, SampleFormat::I16, SampleFormat::F32] {
            ranges.extend((1..32).map(|channels| range(channels, (1, 384_000), sample)));
        }
        assert_eq!(chosen(&ranges, 1), (1, 48_000, SampleFormat::F32));
        assert_eq!(chosen(&ranges, 2), (2, 48_000, SampleFormat::F32));
    }

    #[test]
    fn a_right_rate_goes_before_a_comfortable_sample_format() {
        let ranges = [
            range(2, (44_100, 44_100), SampleFormat::F32),
            range(4, (48_000, 48_000), SampleFormat::I16),
        ];
        assert_eq!(chosen(&ranges, 1), (4, 48_000, SampleFormat::I16));
    }

    #[test]
    fn another_rate_is_taken_where_there_is_no_choice_with_5_ms_blocks() {
        let ranges = [range(1, (16_000, 44_100), SampleFormat::I32)];
        let format = choose(ranges, 2).expect("a format");
        assert_eq!(format.config.sample_rate, 44_100);
        assert_eq!(format.config.buffer_size, BufferSize::Fixed(221));
    }

    #[test]
    fn more_channels_are_preferred_to_fewer() {
        let ranges = [1, 6].map(|channels| range(channels, (48_000, 48_000), SampleFormat::F32));
        assert_eq!(chosen(&ranges, 2), (6, 48_000, SampleFormat::F32));
    }

    #[test]
    fn a_device_with_foreign_samples_only_has_no_format() {
        assert_eq!(choose([range(2, (48_000, 48_000), SampleFormat::U8)], 2), None);
        assert_eq!(choose([], 2), None);
    }

    #[test]
    fn the_block_stays_within_what_the_device_can_do() {
        let buffer = SupportedBufferSize::Range { min: 1024, max: 4096 };
        let coarse = SupportedStreamConfigRange::new(2, 48_000, 48_000, buffer, SampleFormat::F32);
        let format = choose([coarse], 2).expect("a format");
        assert_eq!(format.config.buffer_size, BufferSize::Fixed(1024));
    }
}
