//! What must be known of a sequence parameter set before it reaches the decoder: how much
//! memory it will ask for, and which colours it means (ITU-T H.264, 7.3.2.1.1 and E.1.1).

use crate::frame::Matrix;

/// `profile_idc` of (constrained) baseline.
pub(super) const BASELINE: u32 = 66;

/// Longer ones carry nothing that is read here.
const LONGEST: usize = 512;

const LARGEST_SIDE: u64 = 4096;
const LARGEST_AREA: u64 = 4096 * 2304;

/// The fields of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sps {
    pub profile: u32,
    /// Coded size in pixels, before cropping.
    pub width: u64,
    pub height: u64,
    pub matrix: Matrix,
}

impl Sps {
    /// Refuses pictures that would cost too much memory.
    pub fn check(&self) -> Result<(), String> {
        let Self { width, height, .. } = *self;
        if width > LARGEST_SIDE || height > LARGEST_SIDE || width * height > LARGEST_AREA {
            return Err(format!("pictures of {width}x{height} are larger than 4096x2304"));
        }
        Ok(())
    }
}

/// Reads the NAL unit `unit` (header included); nothing where it is broken.
pub(crate) fn parse(unit: &[u8]) -> Option<Sps> {
    let payload = unescape(unit.get(1..)?);
    let mut bits = Bits { bytes: &payload, at: 0 };
    let profile = bits.read(8)?;
    bits.read(16)?; // constraints, level
    bits.exp_golomb()?; // id
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        let chroma_format = bits.exp_golomb()?;
        if chroma_format == 3 {
            bits.read(1)?;
        }
        bits.exp_golomb()?; // bit depths
        bits.exp_golomb()?;
        bits.read(1)?; // lossless
        if bits.read(1)? == 1 {
            let lists = if chroma_format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if bits.read(1)? == 1 {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.exp_golomb()?; // frame_num length
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?;
        }
        1 => {
            bits.read(1)?;
            bits.exp_golomb()?;
            bits.exp_golomb()?;
            for _ in 0..bits.exp_golomb()?.min(256) {
                bits.exp_golomb()?;
            }
        }
        _ => {}
    }
    bits.exp_golomb()?; // reference pictures
    bits.read(1)?; // gaps allowed
    let width = (u64::from(bits.exp_golomb()?) + 1) * 16;
    let map_units = u64::from(bits.exp_golomb()?) + 1;
    let frame_only = bits.read(1)?;
    let height = map_units * 16 * (2 - u64::from(frame_only));
    if frame_only == 0 {
        bits.read(1)?;
    }
    bits.read(1)?; // direct 8x8
    if bits.read(1)? == 1 {
        for _ in 0..4 {
            bits.exp_golomb()?; // cropping
        }
    }
    // A stream need not say; a cut-off description is no reason to refuse it.
    let matrix = matrix(&mut bits).unwrap_or_default();
    Some(Sps { profile, width, height, matrix })
}

fn matrix(bits: &mut Bits<'_>) -> Option<Matrix> {
    if bits.read(1)? == 0 {
        return None;
    }
    if bits.read(1)? == 1 && bits.read(8)? == 255 {
        bits.read(32)?; // aspect ratio
    }
    if bits.read(1)? == 1 {
        bits.read(1)?; // overscan
    }
    if bits.read(1)? == 0 {
        return None;
    }
    bits.read(4)?; // format, range
    if bits.read(1)? == 0 {
        return None;
    }
    bits.read(16)?; // primaries, transfer
    (bits.read(8)? == 1).then_some(Matrix::Bt709)
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            let code = i64::from(bits.exp_golomb()?);
            let delta = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
            next = (last + delta).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Removes the emulation prevention bytes (7.4.1).
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let mut out = Vec::with_capacity(bytes.len().min(LONGEST));
    for &byte in bytes.iter().take(LONGEST) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.read(zeros)?;
        Some((1 << zeros) - 1 + rest)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes fields the way the standard does.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn bits(mut self, value: u32, count: u32) -> Self {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
            self
        }

        fn ue(self, value: u32) -> Self {
            let len = 32 - (value + 1).leading_zeros();
            self.bits(0, len - 1).bits(value + 1, len)
        }

        fn unit(self) -> Vec<u8> {
            let bytes = self.0.chunks(8).map(|bits| {
                bits.iter().enumerate().fold(0, |byte, (at, &bit)| byte | u8::from(bit) << (7 - at))
            });
            std::iter::once(0x67).chain(bytes).collect()
        }
    }

    fn baseline(columns: u32, rows: u32) -> Writer {
        Writer::default()
            .bits(66, 8)
            .bits(0xe0, 8)
            .bits(31, 8)
            .ue(0)
            .ue(0)
            .ue(2)
            .ue(1)
            .bits(0, 1)
            .ue(columns - 1)
            .ue(rows - 1)
            .bits(1, 1)
            .bits(1, 1)
            .bits(0, 1)
    }

    /// What a stream of 16384x16384 pixels begins with.
    pub fn huge() -> Vec<u8> {
        baseline(1024, 1024).bits(0, 1).bits(1, 1).unit()
    }

    #[test]
    fn sizes_are_read_and_bounded() {
        let found = parse(&baseline(80, 45).bits(0, 1).bits(1, 1).unit()).unwrap();
        assert_eq!((found.width, found.height, found.profile), (1280, 720, BASELINE));
        assert_eq!(found.check(), Ok(()));
        assert!(parse(&huge()).unwrap().check().unwrap_err().contains("16384x16384"));
    }

    #[test]
    fn a_stream_may_say_bt709() {
        let unit = baseline(20, 12)
            .bits(1, 1) // VUI
            .bits(0, 2)
            .bits(1, 1)
            .bits(0b1010, 4)
            .bits(1, 1)
            .bits(0x01_01_01, 24)
            .unit();
        assert_eq!(parse(&unit).unwrap().matrix, Matrix::Bt709);
    }

    #[test]
    fn every_cut_off_set_is_refused_or_read_without_a_panic() {
        let whole = baseline(80, 45).bits(0, 1).bits(1, 1).unit();
        for len in 0..whole.len() - 1 {
            assert_eq!(parse(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(parse(&[0x67; 600]).map(|sps| sps.profile), Some(0x67));
    }
}
