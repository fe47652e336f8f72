//! Microphone and speaker against a real sound server: a private PulseAudio with null sinks.
#![cfg(target_os = "linux")]

mod pulse;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pulse::Pulse;
use visavis_media::devices;
use visavis_media::sound::{
    Capture, Playback, SAMPLE_RATE, SoundError, SoundEvent, SoundEvents, Wake, mic, speaker,
};
use visavis_media::source::DeviceSelector;

const LIMIT: Duration = Duration::from_secs(30);

/// The sound server is chosen by an environment variable: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nothing() -> Wake {
    Arc::new(|| {})
}

fn events() -> (SoundEvents, mpsc::Receiver<SoundEvent>) {
    let (sender, receiver) = mpsc::channel();
    let events = move |event| {
        let _ = sender.send(event);
    };
    (Arc::new(events), receiver)
}

fn named(name: &str) -> DeviceSelector {
    DeviceSelector::Name(name.into())
}

fn tone(hertz: f64, level: f64, len: usize) -> Vec<f32> {
    let step = std::f64::consts::TAU * hertz / f64::from(SAMPLE_RATE);
    (0..len).map(|n| (level * (step * n as f64).sin()) as f32).collect()
}

/// How much of a sine of `hertz` is in there: its amplitude.
fn amplitude(samples: &[f32], hertz: f64) -> f64 {
    let step = std::f64::consts::TAU * hertz / f64::from(SAMPLE_RATE);
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let (sin, cos) = (step * n as f64).sin_cos();
        re += f64::from(*sample) * cos;
        im += f64::from(*sample) * sin;
    }
    2.0 * re.hypot(im) / samples.len() as f64
}

/// Reads on until a stretch of 200 ms carries the tone at its level, and not its third harmonic.
fn hear(mut more: impl FnMut(&mut Vec<f32>), hertz: f64, level: f64) {
    let deadline = Instant::now() + LIMIT;
    let window = SAMPLE_RATE as usize / 5;
    let mut heard = Vec::new();
    let mut best: f64 = 0.0;
    loop {
        more(&mut heard);
        if heard.len() >= window {
            let stretch = &heard[heard.len() - window..];
            let got = amplitude(stretch, hertz);
            best = best.max(got);
            let clean = amplitude(stretch, 3.0 * hertz) < 0.02 * level;
            if (got - level).abs() < 0.02 * level && clean {
                return;
            }
        }
        assert!(Instant::now() < deadline, "no {hertz} Hz at {level}; loudest was {best:.3}");
    }
}

/// Takes what the microphone delivered, waiting for its wake hook.
fn take(capture: &mut Capture, heard: &mut Vec<f32>) {
    thread::park_timeout(Duration::from_millis(100));
    while let Ok(sample) = capture.samples.pop() {
        heard.push(sample);
    }
}

#[test]
fn devices_are_listed_by_their_real_names_without_monitors() {
    let _alone = alone();
    let _pulse = Pulse::start();
    let list = devices::list();
    let names = |devices: &[devices::Device]| -> Vec<(String, String, bool)> {
        devices.iter().map(|d| (d.id.clone(), d.name.clone(), d.default)).collect()
    };
    let entry = |id: &str, name: &str, default| (id.to_owned(), name.to_owned(), default);
    assert_eq!(names(&list.microphones), [entry("mic", "Desk Microphone", true)]);
    assert_eq!(
        names(&list.speakers),
        [entry("spk", "Loud Speaker", true), entry("micfeed", "Microphone Feed", false)]
    );
}

#[test]
fn a_machine_without_sound_has_empty_lists_and_a_clear_error() {
    let _alone = alone();
    let _nowhere = pulse::point_at("/nonexistent/visavis/native");
    let cards = std::fs::read_dir("/proc/asound").into_iter().flatten().flatten();
    if cards.into_iter().any(|card| card.file_name().to_string_lossy().starts_with("card")) {
        println!("this machine has sound hardware: its lists are rightly not empty");
        return;
    }
    let list = devices::list();
    assert_eq!((list.microphones.len(), list.speakers.len()), (0, 0), "{list:?}");
    let error = mic::open(&DeviceSelector::Default, 1, nothing(), events().0).err();
    assert_eq!(error, Some(SoundError::NoDevice { kind: "microphone" }));
    let error = speaker::open(&named("Loud"), nothing(), events().0).err();
    assert_eq!(error, Some(SoundError::NoDevice { kind: "speaker" }));
}

#[test]
fn listing_and_failing_print_nothing() {
    let _alone = alone();
    let child = std::process::Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "a_machine_without_sound_has_empty_lists_and_a_clear_error"])
        .arg("--nocapture")
        .output()
        .expect("child");
    assert!(child.status.success());
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
    assert_eq!(String::from_utf8_lossy(&child.stderr), "");
}

#[test]
fn a_tone_at_the_microphone_comes_out_of_the_ring() {
    let _alone = alone();
    let pulse = Pulse::start();
    let _player = pulse.play("micfeed", 1, &tone(1000.0, 0.5, SAMPLE_RATE as usize), LIMIT);
    let reader = thread::current();
    let wakes = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&wakes);
    let wake: Wake = Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        reader.unpark();
    });
    let (events, told) = events();
    let mut capture = mic::open(&named("desk micro"), 1, wake, events).expect("microphone");
    assert_eq!(capture.name, "Desk Microphone");
    hear(|heard| take(&mut capture, heard), 1000.0, 0.5);

    // Blocks stay small: 10 ms were asked for, so a second of sound takes at least 40 of them.
    let before = wakes.load(Ordering::Relaxed);
    let mut second = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while second.len() < SAMPLE_RATE as usize {
        take(&mut capture, &mut second);
        assert!(Instant::now() < deadline, "the microphone fell silent");
    }
    let blocks = wakes.load(Ordering::Relaxed) - before;
    println!("{blocks} blocks a second");
    assert!(blocks >= 40, "{blocks} blocks a second");
    assert_eq!(told.try_recv().ok(), None);
}

#[test]
fn a_microphones_two_channels_stay_apart() {
    let _alone = alone();
    let pulse = Pulse::start();
    let (left, right) =
        (tone(440.0, 0.4, SAMPLE_RATE as usize), tone(550.0, 0.2, SAMPLE_RATE as usize));
    let both: Vec<f32> = left.into_iter().zip(right).flat_map(|(l, r)| [l, r]).collect();
    let _player = pulse.play("micfeed", 2, &both, LIMIT);
    let reader = thread::current();
    let wake: Wake = Arc::new(move || reader.unpark());
    let mut capture = mic::open(&DeviceSelector::Default, 2, wake, events().0).expect("microphone");
    assert_eq!(capture.channels, 2);
    for (side, own, other, level) in [(0, 440.0, 550.0, 0.4), (1, 550.0, 440.0, 0.2)] {
        let mut last = Vec::new();
        let more = |heard: &mut Vec<f32>| {
            let mut frames = Vec::new();
            take(&mut capture, &mut frames);
            heard.extend(frames.iter().skip(side).step_by(2));
            last.clear();
            last.extend_from_slice(&heard[heard.len().saturating_sub(SAMPLE_RATE as usize / 5)..]);
        };
        hear(more, own, level);
        assert!(amplitude(&last, other) < 0.02, "{other} Hz in the channel of {own} Hz");
    }
}

#[test]
fn what_is_written_comes_out_of_the_speaker() {
    let _alone = alone();
    let pulse = Pulse::start();
    let mut recorders =
        ["front-left", "front-right"].map(|channel| pulse.record("spk.monitor", channel));
    let writer = thread::current();
    let wake: Wake = Arc::new(move || writer.unpark());
    let (events, told) = events();
    let Playback { mut samples, channels, target_fill, name, guard } =
        speaker::open(&DeviceSelector::Default, wake, events).expect("speaker");
    assert_eq!(name, "Loud Speaker");
    println!("target fill {target_fill}");
    assert_eq!(channels, 2);
    assert!((2 * 480..=2 * 1920).contains(&target_fill), "{target_fill}");
    let tones = [tone(440.0, 0.4, SAMPLE_RATE as usize), tone(550.0, 0.2, SAMPLE_RATE as usize)];
    let mut next = tones[0].iter().zip(&tones[1]).cycle();
    let mut play = || {
        thread::park_timeout(Duration::from_millis(100));
        let lying = samples.buffer().capacity() - samples.slots();
        for (left, right) in next.by_ref().take(target_fill.saturating_sub(lying) / 2) {
            samples.push_entire_slice(&[*left, *right]).expect("room");
        }
    };
    let expected = [(440.0, 550.0, 0.4), (550.0, 440.0, 0.2)];
    for (recorder, (own, other, level)) in recorders.iter_mut().zip(expected) {
        let mut last = Vec::new();
        let more = |heard: &mut Vec<f32>| {
            play();
            recorder.read(heard);
            last.clear();
            last.extend_from_slice(&heard[heard.len().saturating_sub(SAMPLE_RATE as usize / 5)..]);
        };
        hear(more, own, level);
        assert!(amplitude(&last, other) < 0.02, "{other} Hz in the channel of {own} Hz");
    }
    assert_eq!(told.try_recv().ok(), None);
    drop(guard);
}

#[test]
fn an_unknown_name_is_told_with_what_there_is() {
    let _alone = alone();
    let _pulse = Pulse::start();
    let error = speaker::open(&named("Gramophone"), nothing(), events().0).err().expect("error");
    assert_eq!(
        error.to_string(),
        "there is no speaker \"Gramophone\": `visavis devices` lists \
         \"Loud Speaker\", \"Microphone Feed\""
    );
    let error =
        mic::open(&DeviceSelector::Index(3), 1, nothing(), events().0).err().expect("error");
    assert_eq!(
        error.to_string(),
        "there is no microphone \"3\": `visavis devices` lists \"Desk Microphone\""
    );
    // Monitors are hidden, not just listed last.
    assert!(mic::open(&named("spk.monitor"), 1, nothing(), events().0).is_err());
}

/// Opens both and waits until their callbacks run.
fn open_both() -> (Capture, Playback, [mpsc::Receiver<SoundEvent>; 2]) {
    let (mic_events, mic_told) = events();
    let (speaker_events, speaker_told) = events();
    let running = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
    let (of_mic, of_speaker) = (Arc::clone(&running), Arc::clone(&running));
    let mic_wake: Wake = Arc::new(move || {
        of_mic.0.fetch_add(1, Ordering::Relaxed);
    });
    let speaker_wake: Wake = Arc::new(move || {
        of_speaker.1.fetch_add(1, Ordering::Relaxed);
    });
    let capture = mic::open(&DeviceSelector::Default, 1, mic_wake, mic_events).expect("mic");
    let playback =
        speaker::open(&DeviceSelector::Default, speaker_wake, speaker_events).expect("speaker");
    let deadline = Instant::now() + LIMIT;
    while running.0.load(Ordering::Relaxed) < 20 || running.1.load(Ordering::Relaxed) < 20 {
        assert!(Instant::now() < deadline, "the streams do not start");
        thread::park_timeout(Duration::from_millis(20));
    }
    (capture, playback, [mic_told, speaker_told])
}

#[test]
fn both_ends_are_lost_once_when_the_server_is_killed() {
    let _alone = alone();
    let mut pulse = Pulse::start();
    let (capture, playback, told) = open_both();
    pulse.kill();
    for (told, kind) in told.iter().zip(["microphone", "speaker"]) {
        let event = told.recv_timeout(LIMIT).expect("an event");
        let SoundEvent::Lost(SoundError::Device { kind: of, .. }) = event else {
            panic!("{event:?}")
        };
        assert_eq!(of, kind);
        assert_eq!(told.recv_timeout(Duration::from_millis(300)).ok(), None, "told once");
    }
    drop((capture, playback));
}

#[test]
fn a_frozen_server_is_a_stall_and_dropping_does_not_hang() {
    let _alone = alone();
    let pulse = Pulse::start();
    let (capture, playback, told) = open_both();
    pulse.freeze();
    for told in &told {
        assert_eq!(told.recv_timeout(LIMIT), Ok(SoundEvent::Stalled));
    }
    let (done, dropped) = mpsc::channel();
    thread::spawn(move || {
        drop((capture, playback));
        let _ = done.send(());
    });
    dropped.recv_timeout(LIMIT).expect("dropping hangs");
    // Opening and listing come back too, with the reason.
    let error = mic::open(&DeviceSelector::Default, 1, nothing(), events().0).err().expect("error");
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert_eq!(devices::list().speakers, []);
}

#[test]
fn a_device_that_is_removed_is_lost_although_the_server_moves_the_stream() {
    let _alone = alone();
    let pulse = Pulse::start();
    let (_capture, _playback, [mic_told, speaker_told]) = open_both();
    pulse.control(&["unload-module", "module-remap-source"]);
    let event = mic_told.recv_timeout(LIMIT).expect("an event");
    let SoundEvent::Lost(error) = event else { panic!("{event:?}") };
    assert_eq!(
        error.to_string(),
        "the microphone \"Desk Microphone\" cannot be used: it was unplugged"
    );
    assert_eq!(speaker_told.try_recv().ok(), None, "the speaker is still there");
}
