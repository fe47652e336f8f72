//! Files in, files out.

use super::*;
use hound::{SampleFormat, WavSpec, WavWriter};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("visavis-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_skewed_clock_is_a_whole_second_off_after_the_better_part_of_an_hour() {
    assert_eq!(ClockSkew::default().rate(), (100_000_000, 1_000_000));
    for (ppm, blocks) in [(300, 100.03), (-300, 99.97), (i32::MAX, 101.0), (i32::MIN, 99.0)] {
        let (events, seconds) = ClockSkew::new(ppm).rate();
        assert!((f64::from(events) / f64::from(seconds) - blocks).abs() < 1e-9, "{ppm}");
    }
}

/// A file of `channels` with the tone in the first one only.
fn tone_file(name: &str, rate: u32, channels: u16, bits: u16, format: SampleFormat) -> Scratch {
    let file = Scratch::new(name);
    let spec =
        WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: format };
    let mut writer = WavWriter::create(&file.0, spec).unwrap();
    let full = (1_i64 << (bits - 1)) as f32 - 1.0;
    for at in 0..rate {
        for channel in 0..channels {
            let value = (at as f32 / rate as f32 * 440.0 * TAU).sin() * 0.8;
            let value = if channel == 0 { value } else { 0.0 };
            match format {
                SampleFormat::Float => writer.write_sample(value).unwrap(),
                SampleFormat::Int => writer.write_sample((value * full) as i32).unwrap(),
            }
        }
    }
    writer.finalize().unwrap();
    file
}

fn read(reader: &mut WavReader, blocks: usize) -> Vec<f32> {
    let mut out = Vec::new();
    let mut block = [0.0; BLOCK];
    for _ in 0..blocks {
        reader.read(&mut block).unwrap();
        out.extend_from_slice(&block);
    }
    out
}

/// The amplitude of the part at `frequency`.
fn amplitude(samples: &[f32], frequency: f32) -> f32 {
    let (mut sine, mut cosine) = (0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let turn = (at as f64 * f64::from(frequency) / f64::from(SAMPLE_RATE)).fract() as f32 * TAU;
        sine += sample * turn.sin();
        cosine += sample * turn.cos();
    }
    (sine * sine + cosine * cosine).sqrt() * 2.0 / samples.len() as f32
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
}

#[test]
fn files_of_every_kind_sound_the_same() {
    use SampleFormat::{Float, Int};
    let kinds = [
        (48_000, 1, 16, Int),
        (48_000, 2, 24, Int),
        (44_100, 2, 16, Int),
        (16_000, 1, 8, Int),
        (96_000, 3, 32, Int),
        (22_050, 1, 32, Float),
        (8000, 1, 16, Int),
    ];
    for (rate, channels, bits, format) in kinds {
        let file = tone_file(&format!("{rate}-{bits}.wav"), rate, channels, bits, format);
        let mut reader = WavReader::open(&file.0, 1).unwrap();
        // Across the file's end: 440 whole waves fit into its second.
        let samples = read(&mut reader, 180);
        let heard = &samples[BLOCK * 10..BLOCK * 180 - BLOCK * 10];
        let expected = 0.8 / f32::from(channels);
        let (found, all) = (amplitude(heard, 440.0), rms(heard) * 2.0_f32.sqrt());
        assert!((found - expected).abs() < 0.02, "{rate} Hz: {found} of {expected}");
        assert!((all - found).abs() < 0.01, "{rate} Hz: {all} in all, {found} of it the tone");
    }
}

#[test]
fn the_first_two_channels_stay_apart_where_two_are_wanted() {
    for (rate, channels) in [(48_000, 2), (44_100, 2), (48_000, 3), (48_000, 1)] {
        let kind = SampleFormat::Int;
        let file = tone_file(&format!("two-{rate}-{channels}.wav"), rate, channels, 16, kind);
        let mut reader = WavReader::open(&file.0, 2).unwrap();
        let there = reader.channels();
        assert_eq!(there, usize::from(channels.min(2)));
        let mut heard = vec![Vec::new(); there];
        let mut block = vec![0.0; BLOCK * there];
        for _ in 0..120 {
            reader.read(&mut block).unwrap();
            for frame in block.chunks(there) {
                for (channel, sample) in heard.iter_mut().zip(frame) {
                    channel.push(*sample);
                }
            }
        }
        assert!((amplitude(&heard[0][BLOCK * 10..BLOCK * 100], 440.0) - 0.8).abs() < 0.02);
        assert!(heard[1..].iter().all(|right| rms(right) < 1e-6), "{rate} Hz, {channels}");
    }
}

#[test]
fn a_recording_has_two_channels_once_they_differ() {
    let file = Scratch::new("wide.wav");
    let read = || {
        let mut reader = hound::WavReader::open(&file.0).unwrap();
        let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
        (reader.spec().channels, samples)
    };
    let mut sink = WavSink::create(&file.0).unwrap();
    for _ in 0..3 {
        sink.write(&[0.5; 2 * BLOCK]).unwrap();
    }
    assert_eq!(read().0, 1);
    for _ in 0..2 {
        sink.write(&[0.25, -0.25].repeat(BLOCK)).unwrap();
    }
    sink.write(&[0.5; 2 * BLOCK]).unwrap();
    drop(sink);
    let (channels, samples) = read();
    assert_eq!((channels, samples.len()), (2, 2 * 6 * BLOCK));
    let (mono, rest) = samples.split_at(2 * 3 * BLOCK);
    let (stereo, end) = rest.split_at(2 * 2 * BLOCK);
    assert!(mono.iter().chain(end).all(|sample| *sample == 16_384));
    assert!(stereo.as_chunks().0.iter().all(|frame| *frame == [8192, -8192]));
    assert!(!Path::new(&format!("{}.part", file.0.display())).exists());
}

#[cfg(unix)]
#[test]
fn a_recording_that_cannot_be_written_again_stays_mono() {
    let file = Scratch::new("stays.wav");
    // What it would be written to is in the way.
    let beside = Scratch(PathBuf::from(format!("{}.part", file.0.display())));
    std::fs::create_dir(&beside.0).unwrap();
    let mut sink = WavSink::create(&file.0).unwrap();
    sink.write(&[0.5; 2 * BLOCK]).unwrap();
    sink.write(&[0.5, 0.0].repeat(BLOCK)).unwrap();
    drop(sink);
    let mut reader = hound::WavReader::open(&file.0).unwrap();
    assert_eq!((reader.spec().channels, reader.duration()), (1, 2 * BLOCK as u32));
    let last = reader.samples::<i16>().last().unwrap().unwrap();
    assert_eq!(last, 8192, "mixed down");
    std::fs::remove_dir(&beside.0).unwrap();
}

#[test]
fn what_a_lower_rate_cannot_hold_is_filtered_away() {
    let file = Scratch::new("alias.wav");
    let spec = WavSpec {
        channels: 1,
        sample_rate: 96_000,
        bits_per_sample: 32,
        sample_format: SampleFormat::Float,
    };
    let mut writer = WavWriter::create(&file.0, spec).unwrap();
    for at in 0..96_000 {
        writer.write_sample((at as f32 / 96_000.0 * 30_000.0 * TAU).sin()).unwrap();
    }
    writer.finalize().unwrap();
    let samples = read(&mut WavReader::open(&file.0, 1).unwrap(), 50);
    assert!(rms(&samples[BLOCK * 10..]) < 0.01);
}

#[test]
fn a_truncated_file_is_played_up_to_there() {
    let file = tone_file("cut.wav", 48_000, 1, 16, SampleFormat::Int);
    let bytes = std::fs::read(&file.0).unwrap();
    std::fs::write(&file.0, &bytes[..44 + 2 * 480 * 10 + 1]).unwrap();
    let mut reader = WavReader::open(&file.0, 1).unwrap();
    let samples = read(&mut reader, 30);
    assert!(samples[..4800] == samples[4800..9600], "it begins again");
    assert!(rms(&samples[9600..]) > 0.5);
}

#[test]
fn what_cannot_be_played_or_written_is_named() {
    let refusal = |name: &str, bytes: &[u8]| {
        let file = Scratch::new(name);
        std::fs::write(&file.0, bytes).unwrap();
        let error = WavReader::open(&file.0, 1).err().expect("refused").to_string();
        assert!(error.contains(name), "{error}");
        error
    };
    assert!(refusal("text.wav", b"this is no sound at all, only text").contains("no WAV"));
    refusal("empty.wav", b"");
    let silent = tone_file("silent.wav", 48_000, 1, 16, SampleFormat::Int);
    let header = std::fs::read(&silent.0).unwrap();
    refusal("header.wav", &header[..44]);
    let missing = WavReader::open(Path::new("/no/such.wav"), 1).err().expect("missing").to_string();
    assert!(missing.contains("/no/such.wav"), "{missing}");
    let wake: Wake = Arc::new(|| {});
    let nowhere = open_sink(Path::new("/no/such/place.wav"), ClockSkew::default(), wake)
        .err()
        .expect("no directory");
    assert!(nowhere.to_string().contains("/no/such/place.wav"), "{nowhere}");
}

#[test]
fn the_burst_fills_the_first_tenth_of_each_second() {
    let mut second = vec![0.0; SAMPLE_RATE as usize];
    tone(1_700_000_000 * u128::from(SAMPLE_RATE), &mut second);
    let (burst, rest) = second.split_at(4800);
    assert!((amplitude(burst, 1000.0) - TONE).abs() < 0.01);
    assert!(rest.iter().all(|&sample| sample == 0.0));
    let mut turn = [0.0; 20];
    tone(SAMPLE_RATE.into(), &mut turn);
    let mut across = [1.0; 20];
    tone(u128::from(SAMPLE_RATE) - 10, &mut across);
    assert!(across[..10].iter().all(|&sample| sample == 0.0));
    assert!(across[10..] == turn[..10]);
}

fn waker() -> (Wake, Receiver<()>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let wake: Wake = Arc::new(move || {
        let _ = tell.lock().unwrap().send(());
    });
    (wake, told)
}

#[test]
fn a_running_source_fills_its_ring_block_by_block() {
    let file = tone_file("run.wav", 48_000, 1, 16, SampleFormat::Int);
    let (wake, woken) = waker();
    let mut capture =
        open_source(&file.0, 1, ClockSkew::default(), wake, Arc::new(|_| {})).unwrap();
    for _ in 0..3 {
        woken.recv_timeout(LIMIT).unwrap();
    }
    assert!(capture.samples.slots() >= 3 * BLOCK);
    let heard: Vec<f32> = capture.samples.read_chunk(3 * BLOCK).unwrap().into_iter().collect();
    assert!((amplitude(&heard, 440.0) - 0.8).abs() < 0.1);
}

#[test]
fn the_recording_holds_what_was_played_and_is_readable_before_its_end() {
    let file = Scratch::new("record.wav");
    let (wake, woken) = waker();
    let mut playback = open_sink(&file.0, ClockSkew::default(), wake).unwrap();
    // More than is taken before the first wake.
    for _ in 0..2 * 4 * BLOCK {
        playback.samples.push(0.25).unwrap();
    }
    // Written block by block, its header with each: a reader may come in between.
    let readable =
        || hound::WavReader::open(&file.0).is_ok_and(|wav| wav.duration() >= BLOCK as u32);
    let deadline = Instant::now() + LIMIT;
    while !readable() {
        assert!(Instant::now() < deadline, "no readable recording");
        let _ = woken.recv_timeout(Duration::from_millis(20));
    }
    // It asks until there is more.
    let capacity = playback.samples.buffer().capacity();
    let mut silence = 0;
    while silence < 6 {
        woken.recv_timeout(LIMIT).unwrap();
        if playback.samples.slots() == capacity {
            for _ in 0..2 * BLOCK {
                playback.samples.push(0.0).unwrap();
            }
            silence += 1;
        }
    }
    drop(playback);
    let mut reader = hound::WavReader::open(&file.0).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (48_000, 1));
    let samples: Vec<i16> = reader.samples::<i16>().map(Result::unwrap).collect();
    assert!(samples.len() >= 9 * BLOCK && samples.len().is_multiple_of(BLOCK));
    let played = samples.iter().filter(|&&sample| sample == 8192).count();
    assert_eq!(played, 4 * BLOCK, "all of it, and silence else");
    assert!(samples.ends_with(&[0; BLOCK]));
}

#[test]
fn the_null_sink_consumes_and_stops() {
    let (wake, woken) = waker();
    let mut playback = open_null(ClockSkew::default(), wake).unwrap();
    for _ in 0..BLOCK {
        playback.samples.push(0.1).unwrap();
    }
    woken.recv_timeout(LIMIT).unwrap();
    woken.recv_timeout(LIMIT).unwrap();
    assert!(playback.samples.slots() >= RING - BLOCK);
    drop(playback.guard);
    assert!(playback.samples.is_abandoned());
}
