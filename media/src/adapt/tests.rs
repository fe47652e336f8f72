use super::*;

const CAMERA: Source = Source { width: 1280, height: 720, fps: 30.0, hint: ContentHint::Motion };
const SCREEN: Source = Source { width: 1920, height: 1080, fps: 30.0, hint: ContentHint::Detail };

fn encoding(decision: Decision) -> Encoding {
    match decision {
        Decision::Encode(encoding) => encoding,
        Decision::Pause => panic!("paused"),
    }
}

fn adapter() -> (Adapter, Instant) {
    (Adapter::new(Bitrate::from_kbps(50)), Instant::now())
}

fn height_at(kbps: u64) -> u32 {
    let (mut adapter, now) = adapter();
    encoding(adapter.decide(now, Bitrate::from_kbps(kbps + 50), CAMERA)).height
}

#[test]
fn each_rate_has_its_size() {
    let heights = [900, 899, 600, 599, 250, 249, 0].map(height_at);
    assert_eq!(heights, [720, 540, 540, 360, 360, 180, 180]);
}

#[test]
fn audio_comes_out_of_the_target_first() {
    let (mut adapter, now) = adapter();
    let decision = encoding(adapter.decide(now, Bitrate::from_kbps(1050), CAMERA));
    assert_eq!(decision.bitrate, Bitrate::from_kbps(1000));
    let decision = encoding(adapter.decide(now, Bitrate::from_kbps(40), CAMERA));
    assert_eq!((decision.bitrate, decision.fps), (LEAST_VIDEO, 15.0));
}

#[test]
fn a_single_stall_of_the_machine_is_no_slow_encoder() {
    let (mut adapter, mut now) = adapter();
    let mut height = |encode_ms: &[u64]| {
        let mut last = 0;
        for ms in encode_ms {
            adapter.handle_encode_time(Duration::from_millis(*ms));
            now += Duration::from_millis(33);
            last = encoding(adapter.decide(now, Bitrate::from_kbps(3000), CAMERA)).height;
        }
        last
    };
    assert_eq!(height(&[6; 90]), 720);
    assert_eq!(height(&[700, 6, 6, 400, 6, 6]), 720);
    assert_eq!(height(&[30; 60]), 540, "slow all the time");
}

#[test]
fn down_at_once_and_up_only_for_a_lasting_rise() {
    let (mut adapter, mut now) = adapter();
    let mut height = |kbps: u64, after_ms: u64| {
        now += Duration::from_millis(after_ms);
        encoding(adapter.decide(now, Bitrate::from_kbps(kbps + 50), CAMERA)).height
    };
    assert_eq!(height(1000, 0), 720);
    assert_eq!(height(870, 3001), 720, "just below is within the margin");
    assert_eq!(height(400, 33), 360);
    assert_eq!(height(2000, 33), 360);
    assert_eq!(height(400, 1900), 360, "a short rise is forgotten");
    assert_eq!(height(2000, 33), 360);
    assert_eq!(height(2000, 1999), 360);
    assert_eq!(height(2000, 1), 720, "and goes all the way");
}

#[test]
fn what_probes_find_at_the_begin_is_used_soon() {
    let (mut adapter, mut now) = adapter();
    let mut height = |kbps: u64, after_ms: u64| {
        now += Duration::from_millis(after_ms);
        encoding(adapter.decide(now, Bitrate::from_kbps(kbps + 50), CAMERA)).height
    };
    assert_eq!(height(140, 0), 180);
    assert_eq!(height(600, 100), 180);
    assert_eq!(height(600, 249), 180);
    assert_eq!(height(600, 1), 360);
    assert_eq!(height(3000, 2600), 360);
    assert_eq!(height(3000, 250), 360, "no longer the begin");
    assert_eq!(height(3000, 1750), 720);
}

#[test]
fn a_rate_that_sways_around_a_threshold_changes_nothing() {
    let (mut adapter, mut now) = adapter();
    let mut changes = 0;
    let mut last = 720;
    for i in 0..3000u64 {
        now += Duration::from_millis(33);
        let kbps = 950 + if i / 100 % 2 == 0 { 70 } else { 0 } - 80 * (i / 37 % 2);
        let height = encoding(adapter.decide(now, Bitrate::from_kbps(kbps + 50), CAMERA)).height;
        changes += u32::from(height != last);
        last = height;
    }
    assert_eq!(changes, 0);
}

#[test]
fn a_slow_machine_gets_smaller_pictures_for_a_while() {
    let (mut adapter, mut now) = adapter();
    let mut heights = Vec::new();
    for _ in 0..30 * 60 {
        let decision = encoding(adapter.decide(now, Bitrate::from_kbps(2500), CAMERA));
        let pixels = decision.width * decision.height;
        adapter.handle_encode_time(Duration::from_nanos(u64::from(pixels) * 40));
        heights.push(decision.height);
        now += Duration::from_millis(33);
    }
    let large = heights.iter().filter(|height| **height == 720).count();
    assert!(heights[..30].iter().all(|height| *height == 720));
    assert!(large < heights.len() / 4, "{large} of {}", heights.len());
    assert!(heights.iter().all(|height| *height >= 540));
}

#[test]
fn the_shape_stays_and_nothing_grows() {
    assert_eq!(fit(1280, 720, 540), (960, 540));
    assert_eq!(fit(1920, 1080, 720), (1280, 720));
    assert_eq!(fit(720, 1280, 360), (360, 640));
    assert_eq!(fit(640, 480, 720), (640, 480));
    assert_eq!(fit(641, 361, 360), (640, 360));
    assert_eq!(fit(1366, 768, 180), (320, 180));
    assert_eq!(fit(1, 1, 180), (2, 2));
    assert_eq!(fit(0, 5000, 180), (2, 5000));
    for (width, height) in [(u32::MAX, 1), (u32::MAX, u32::MAX), (1023, 767), (3, 9999)] {
        for rung in &LADDER {
            let (w, h) = fit(width, height, rung.short_side);
            assert!(w % 2 == 0 && h % 2 == 0 && w >= 2 && h >= 2);
        }
    }
}

#[test]
fn few_frames_for_a_very_low_rate_and_never_more_than_the_source_has() {
    let (mut adapter, now) = adapter();
    let mut fps = |kbps: u64, fps: f64| {
        let source = Source { fps, ..CAMERA };
        encoding(adapter.decide(now, Bitrate::from_kbps(kbps + 50), source)).fps
    };
    assert_eq!(fps(500, 60.0), 30.0);
    assert_eq!(fps(500, 24.0), 24.0);
    assert_eq!(fps(92, 30.0), 30.0);
    assert_eq!(fps(55, 30.0), 15.0);
    assert_eq!(fps(70, 30.0), 15.0);
    assert_eq!(fps(80, 30.0), 30.0);
    assert_eq!(fps(80, f64::NAN), 30.0);
}

#[test]
fn a_large_picture_goes_where_rate_and_other_end_allow() {
    let large = Source { width: 1920, height: 1080, ..CAMERA };
    let height = |kbps: u64, limits: Limits| {
        let (mut adapter, now) = adapter();
        adapter.set_limits(limits);
        let decided = encoding(adapter.decide(now, Bitrate::from_kbps(kbps + 50), large));
        (decided.height, decided.limitation)
    };
    let level_3_1 = Limits { max_fs: 3_600, max_mbps: 108_000 };
    let level_4 = Limits { max_fs: 8_192, max_mbps: 245_760 };
    assert_eq!(height(3000, Limits::NONE), (1080, Limitation::None));
    assert_eq!(height(3000, level_4), (1080, Limitation::None));
    assert_eq!(height(3000, level_3_1), (720, Limitation::Other));
    assert_eq!(height(1000, level_3_1), (720, Limitation::Other));
    assert_eq!(height(2000, Limits::NONE), (720, Limitation::Bandwidth));
    assert_eq!(height(500, level_3_1), (360, Limitation::Bandwidth));
}

#[test]
fn what_holds_a_picture_back_is_named() {
    let (mut adapter, mut now) = adapter();
    let rich = Bitrate::from_kbps(3000);
    assert_eq!(encoding(adapter.decide(now, rich, CAMERA)).limitation, Limitation::None);
    for _ in 0..120 {
        now += Duration::from_millis(33);
        adapter.handle_encode_time(Duration::from_millis(30));
        adapter.decide(now, rich, CAMERA);
    }
    let slow = encoding(adapter.decide(now, rich, CAMERA));
    assert_eq!((slow.height, slow.limitation), (540, Limitation::Cpu));
    let poor = encoding(adapter.decide(now, Bitrate::from_kbps(300), CAMERA));
    assert_eq!((poor.height, poor.limitation), (360, Limitation::Bandwidth));
}

#[test]
fn a_screen_keeps_its_pixels_and_gives_up_frames() {
    let (mut adapter, now) = adapter();
    let mut at = |kbps: u64| {
        let decided = encoding(adapter.decide(now, Bitrate::from_kbps(kbps + 50), SCREEN));
        assert_eq!((decided.width, decided.height), (1920, 1080), "{kbps} kbit/s");
        assert!(decided.quantizer_floor < FLOOR_OF_FACES);
        (decided.fps, decided.limitation)
    };
    assert_eq!(at(3000), (30.0, Limitation::None));
    let (fps, limitation) = at(600);
    assert!((10.0..20.0).contains(&fps), "{fps}");
    assert_eq!(limitation, Limitation::Bandwidth);
    assert_eq!(at(60).0, FEWEST_OF_SCREEN);
}

#[test]
fn a_screen_is_as_large_as_the_other_end_takes() {
    let (mut adapter, now) = adapter();
    adapter.set_limits(Limits { max_fs: 3_600, max_mbps: 108_000 });
    let decided = encoding(adapter.decide(now, Bitrate::from_kbps(3000), SCREEN));
    assert_eq!((decided.width, decided.height), (1280, 720));
    assert_eq!(decided.limitation, Limitation::Other);
}

#[test]
fn a_slow_encoder_of_a_screen_gets_fewer_pictures_of_the_same_size() {
    let (mut adapter, now) = adapter();
    for _ in 0..200 {
        adapter.decide(now, Bitrate::from_kbps(3000), SCREEN);
        adapter.handle_encode_time(Duration::from_millis(50));
    }
    let decided = encoding(adapter.decide(now, Bitrate::from_kbps(3000), SCREEN));
    assert_eq!((decided.height, decided.limitation), (1080, Limitation::Cpu));
    assert!((13.0..15.0).contains(&decided.fps), "{}", decided.fps);
}

#[test]
fn from_a_screen_to_a_face_each_has_its_own_size_at_once() {
    let (mut adapter, now) = adapter();
    let mut height =
        |source: Source| encoding(adapter.decide(now, Bitrate::from_kbps(1050), source)).height;
    assert_eq!([height(CAMERA), height(SCREEN), height(CAMERA)], [720, 1080, 720]);
}

/// When pictures are paused, in milliseconds, for targets in kbit/s that hold for so long.
fn pauses(targets: &[(u64, u64)]) -> Vec<u64> {
    let (mut adapter, start) = adapter();
    let (mut at, mut paused, mut changes) = (0, false, Vec::new());
    for &(kbps, lasts) in targets {
        for _ in 0..lasts / 50 {
            let now = start + Duration::from_millis(at);
            let decision = adapter.decide(now, Bitrate::from_kbps(kbps), CAMERA);
            if (decision == Decision::Pause) != paused {
                paused = !paused;
                changes.push(at);
            }
            at += 50;
        }
    }
    changes
}

#[test]
fn pictures_pause_on_a_starved_link_and_come_back_by_themselves() {
    assert_eq!(pauses(&[(300, 5_000), (70, 10_000), (100, 10_000)]), [6_500, 17_000]);
    assert!(pauses(&[(300, 1_000), (70, 1_000), (90, 1_000), (70, 1_000)]).is_empty(), "dips");
    // Between the two thresholds it stays as it is.
    assert_eq!(pauses(&[(70, 3_000), (85, 20_000)]), [1_500]);
    assert!(pauses(&[(85, 20_000)]).is_empty());
}

#[test]
fn after_a_pause_the_smallest_picture_comes_first() {
    let (mut adapter, start) = adapter();
    let decide = |adapter: &mut Adapter, ms: u64, kbps: u64| {
        adapter.decide(start + Duration::from_millis(ms), Bitrate::from_kbps(kbps), CAMERA)
    };
    decide(&mut adapter, 0, 60);
    assert_eq!(decide(&mut adapter, 2_000, 60), Decision::Pause);
    decide(&mut adapter, 3_000, 2_000);
    assert_eq!(encoding(decide(&mut adapter, 5_000, 2_000)).height, 180);
    decide(&mut adapter, 5_100, 2_000);
    assert_eq!(encoding(decide(&mut adapter, 7_100, 2_000)).height, 720);
}

#[test]
fn pictures_without_sound_never_pause() {
    let (mut adapter, start) = adapter();
    let at = |adapter: &mut Adapter, ms: u64| {
        adapter.decide(start + Duration::from_millis(ms), Bitrate::from_kbps(60), CAMERA)
    };
    at(&mut adapter, 0);
    assert_eq!(at(&mut adapter, 2_000), Decision::Pause);
    adapter.set_audio(Bitrate::ZERO);
    at(&mut adapter, 3_000);
    let back = encoding(at(&mut adapter, 5_000));
    assert_eq!(back.bitrate, Bitrate::from_kbps(60));
    assert!((5..90).all(|second| at(&mut adapter, second * 1000) != Decision::Pause));
}
