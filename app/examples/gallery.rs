//! Opens the real window with made-up people, devices and moving pictures: to look at every
//! view without a camera or a call.
//!
//! `cargo run --example gallery -- VIEW [--chinese] [--size WIDTHxHEIGHT] [--seconds N]`, VIEW
//! being one of lobby, quiet, failed, stranger, joining, waiting, call, muted, phone, connecting,
//! reconnecting. VIEW `clips` writes the two people as `warm.y4m` and `cool.y4m`, for a call of
//! the real program to be looked at.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use visavis::settings::{RecentRoom, Settings};
use visavis::snapshot::{
    Command, DeviceState, Notice, Peer, Phase, Pictures, Shared, Snapshot, Stranger,
};
use visavis::text::Language;
use visavis::ui::{WindowInit, WindowOptions, run};
use visavis_media::devices::{Device, DeviceList};
use visavis_media::frame::{Frame, FramePool};
use visavis_signaling::Fingerprint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.view == "clips" {
        write_clip("warm.y4m", &nodding(1280, 720, &WARM))?;
        return Ok(write_clip("cool.y4m", &nodding(1280, 720, &COOL))?);
    }
    let shared = Shared::new(options.snapshot());
    let pictures = Pictures::default();
    let running = Arc::new(AtomicBool::new(true));
    let painter = {
        let (pictures, running) = (pictures.clone(), Arc::clone(&running));
        let (phone, moving) = (options.view == "phone", options.view != "quiet");
        std::thread::spawn(move || {
            if !moving {
                return;
            }
            let (width, height) = if phone { (720, 1280) } else { (1280, 720) };
            let cool = std::thread::spawn(move || nodding(width, height, &COOL));
            let warm = nodding(1280, 720, &WARM);
            let Ok(cool) = cool.join() else { return };
            let started = Instant::now();
            for (number, (own, other)) in
                (0_u32..).zip(warm.iter().cycle().zip(cool.iter().cycle()))
            {
                if !running.load(Ordering::Relaxed) {
                    return;
                }
                pictures.local.put(Arc::clone(own));
                pictures.remote.put(Arc::clone(other));
                let due = Duration::from_secs_f32((number + 1) as f32 / 30.0);
                std::thread::sleep(due.saturating_sub(started.elapsed()));
            }
        })
    };
    if let Some(seconds) = options.seconds {
        let shared = shared.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs_f32(seconds));
            shared.close();
        });
    }
    let (shown, answering) = (Arc::new(std::sync::atomic::AtomicU64::new(0)), shared.clone());
    let counter = Arc::clone(&shown);
    let first = Arc::new(OnceLock::new());
    let start = Arc::clone(&first);
    let init = WindowInit {
        snapshot: shared,
        commands: Box::new(move |command| answer(&answering, command)),
        pictures,
        on_shown: Some(Arc::new(move |_| {
            start.get_or_init(Instant::now);
            counter.fetch_add(1, Ordering::Relaxed);
        })),
    };
    let window = WindowOptions { size: options.size, full_screen: false };
    if let Err(error) = run(init, &window) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    running.store(false, Ordering::Relaxed);
    if let Some(first) = first.get() {
        let (frames, seconds) = (shown.load(Ordering::Relaxed), first.elapsed().as_secs_f32());
        println!(
            "{frames} remote frames shown in {seconds:.1} s: {:.1}/s",
            frames as f32 / seconds
        );
    }
    painter.join().map_err(|_| "the painter of test pictures failed")?;
    Ok(())
}

fn write_clip(path: &str, frames: &[Arc<Frame>]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "YUV4MPEG2 W1280 H720 F30:1 Ip A1:1 C420jpeg")?;
    for frame in frames {
        writeln!(file, "FRAME")?;
        for plane in frame.planes() {
            file.write_all(plane)?;
        }
    }
    file.flush()
}

/// Does just enough of what an engine does for the controls to be tried.
fn answer(shared: &Shared, command: Command) {
    println!("{command:?}");
    let mut snapshot = (*shared.latest()).clone();
    let on = |on: bool| {
        if on { DeviceState::On("Made up".into()) } else { DeviceState::Off }
    };
    match command {
        Command::SetMicrophone(wanted) => snapshot.microphone = on(wanted),
        Command::SetCamera(wanted) => snapshot.camera = on(wanted),
        Command::HangUp => snapshot.phase = Phase::Lobby,
        Command::Host { room } => {
            let invite = Some(format!(
                "https://192.168.1.23:8443/room/{room}#fp={}",
                Fingerprint::of_public_key(b"")
            ));
            snapshot.phase = Phase::Waiting { room, invite };
        }
        Command::SetLanguage(language) => {
            let settings = (*snapshot.settings).clone();
            snapshot.settings = Arc::new(Settings { language, ..settings });
        }
        Command::Dismiss(id) => snapshot.notices.retain(|notice| notice.id != id),
        _ => {}
    }
    shared.publish(snapshot);
}

struct Options {
    view: String,
    chinese: bool,
    size: Option<[f32; 2]>,
    seconds: Option<f32>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let view = arguments.next().unwrap_or_else(|| "lobby".into());
        let mut options = Self { view, chinese: false, size: None, seconds: None };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--chinese" => options.chinese = true,
                "--size" => {
                    let text = value()?;
                    let parts = text.split_once('x').ok_or("--size is WIDTHxHEIGHT")?;
                    let number = |text: &str| text.parse().map_err(|_| format!("bad {text}"));
                    options.size = Some([number(parts.0)?, number(parts.1)?]);
                }
                "--seconds" => {
                    options.seconds = Some(value()?.parse().map_err(|_| "--seconds is a number")?);
                }
                other => return Err(format!("unknown option {other}")),
            }
        }
        Ok(options)
    }

    fn snapshot(&self) -> Snapshot {
        let room = "lusab-babad-gutih-tugad".to_owned();
        let fingerprint = Fingerprint::of_public_key(b"made up");
        let link = format!("https://192.168.1.23:8443/room/{room}#fp={fingerprint}");
        let since = Instant::now().checked_sub(Duration::from_secs(768));
        let since = since.unwrap_or_else(Instant::now);
        let phase = match self.view.as_str() {
            "joining" => Phase::Joining { room: room.clone(), held: false },
            "waiting" => Phase::Waiting { room: room.clone(), invite: Some(link) },
            "alone" => Phase::Waiting { room: room.clone(), invite: None },
            "call" | "muted" | "phone" => {
                Phase::InCall { room: room.clone(), since, server_lost: false }
            }
            "connecting" => Phase::Connecting { room: room.clone() },
            "reconnecting" => Phase::Reconnecting { room: room.clone() },
            _ => Phase::Lobby,
        };
        let muted = self.view == "muted";
        let peer = phase.with_peer().then(|| Peer {
            name: "韩梅梅".into(),
            audio: !muted,
            video: !muted && self.view != "connecting",
            ..Peer::default()
        });
        let camera = match self.view.as_str() {
            "quiet" | "muted" => DeviceState::Off,
            "failed" => DeviceState::Failed(if self.chinese {
                "摄像头“Integrated Camera”正被其他程序占用：请关闭该程序后重试。".into()
            } else {
                "The camera \"Integrated Camera\" is in use by another program: close that \
                 program and try again."
                    .into()
            }),
            _ => DeviceState::On("Integrated Camera (1280x720)".into()),
        };
        let quiet = matches!(self.view.as_str(), "quiet" | "muted");
        let microphone =
            if quiet { DeviceState::Off } else { DeviceState::On("Built-in Audio".into()) };
        let notices = if self.view == "failed" {
            vec![
                Notice { id: 1, error: false, text: "韩梅梅 left the call.".into() },
                Notice {
                    id: 2,
                    error: true,
                    text:
                        "The server http://10.0.0.9:8080 cannot be reached (connection refused). \
                           Check the link and that both machines are on the same network."
                            .into(),
                },
            ]
        } else {
            Vec::new()
        };
        Snapshot {
            phase,
            devices: Arc::new(devices()),
            settings: Arc::new(self.settings()),
            proposed_room: room,
            camera,
            screen: DeviceState::Off,
            microphone,
            speaker: DeviceState::On("Built-in Audio Analog Stereo".into()),
            microphone_dbfs: -25.0,
            pictures_paused: false,
            peer,
            stranger: (self.view == "stranger").then(|| Stranger {
                server: "https://192.168.1.40:8443".into(),
                fingerprint: Fingerprint::of_public_key(b"made up"),
            }),
            notices,
        }
    }

    fn settings(&self) -> Settings {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let room = |target: &str, hosted, ago: u64| RecentRoom {
            target: target.into(),
            server: None,
            hosted,
            when: now.saturating_sub(ago),
        };
        Settings {
            name: "李雷 Lei".into(),
            language: Some(if self.chinese { Language::Chinese } else { Language::English }),
            rooms: vec![
                room("http://192.168.1.40:8080/room/tea", false, 600),
                room("fofor-vuvol-kagor-notof", true, 3 * 3600),
                room("https://calls.example/room/茶室", false, 2 * 86400),
            ],
            ..Settings::default()
        }
    }
}

fn devices() -> DeviceList {
    let device = |name: &str, default| Device { id: name.into(), name: name.into(), default };
    DeviceList {
        cameras: vec![device("Integrated Camera", true), device("Logitech BRIO", false)],
        microphones: vec![
            device("内置麦克风 Built-in Audio", true),
            device("USB Headset Mono", false),
        ],
        speakers: vec![device("Built-in Audio Analog Stereo", true)],
    }
}

/// Colours of a made-up person, as Y, Cb, Cr.
struct Palette {
    top: [f32; 3],
    bottom: [f32; 3],
    light: [f32; 3],
    clothes: [f32; 3],
}

const WARM: Palette = Palette {
    top: [88.0, 118.0, 140.0],
    bottom: [38.0, 124.0, 132.0],
    light: [150.0, 104.0, 146.0],
    clothes: [78.0, 126.0, 158.0],
};

const COOL: Palette = Palette {
    top: [66.0, 148.0, 120.0],
    bottom: [36.0, 138.0, 124.0],
    light: [120.0, 128.0, 129.0],
    clothes: [92.0, 150.0, 112.0],
};

const SKIN: [f32; 3] = [165.0, 112.0, 148.0];
const HAIR: [f32; 3] = [44.0, 126.0, 132.0];

/// There and back again, drawn once: drawing takes longer than a thirtieth of a second.
fn nodding(width: u32, height: u32, palette: &Palette) -> Vec<Arc<Frame>> {
    let pool = FramePool::new();
    let there: Vec<_> = (0..6)
        .map(|step| Arc::new(portrait(&pool, width, height, step as f32 / 8.0, palette)))
        .collect();
    let back: Vec<_> = there.iter().rev().cloned().collect();
    [there, back].concat()
}

/// A person, nodding a little, before lights out of focus.
fn portrait(pool: &FramePool, width: u32, height: u32, time: f32, palette: &Palette) -> Frame {
    let mut frame = pool.take(width, height);
    let (w, h) = (width as f32, height as f32);
    let (chroma_width, sway) = (frame.chroma_width(), (time * 1.3).sin() * 0.02);
    let [y_plane, u_plane, v_plane] = frame.planes_mut();
    for row in (0..height).step_by(2) {
        for column in (0..width).step_by(2) {
            let (x, y) = ((column as f32 - w / 2.0) / h, row as f32 / h);
            let [luma, cb, cr] = shade(x - sway, y, time, palette);
            let at = (row / 2 * chroma_width + column / 2) as usize;
            if let (Some(u), Some(v)) = (u_plane.get_mut(at), v_plane.get_mut(at)) {
                (*u, *v) = (cb as u8, cr as u8);
            }
            for offset in [0, 1, width, width + 1] {
                if let Some(pixel) = y_plane.get_mut((row * width + column + offset) as usize) {
                    *pixel = luma as u8;
                }
            }
        }
    }
    frame
}

fn shade(x: f32, y: f32, time: f32, palette: &Palette) -> [f32; 3] {
    let mix = |a: [f32; 3], b: [f32; 3], t: f32| {
        let t = t.clamp(0.0, 1.0);
        [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t]
    };
    let inside = |cx: f32, cy: f32, rx: f32, ry: f32, soft: f32| {
        let distance = (((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2)).sqrt();
        ((1.0 - distance) / soft).clamp(0.0, 1.0)
    };
    let mut colour = mix(palette.top, palette.bottom, y);
    for (cx, cy, r, strength) in
        [(-0.62, 0.22, 0.17, 0.6), (0.6, 0.28, 0.13, 0.7), (-0.36, 0.56, 0.2, 0.2)]
    {
        let glow = inside(cx + (time * 0.4).sin() * 0.01, cy, r, r, 0.4);
        colour = mix(colour, palette.light, glow * strength);
    }
    colour = mix(colour, palette.clothes, inside(0.0, 1.02, 0.34, 0.36, 0.02));
    colour = mix(colour, [120.0, 116.0, 144.0], inside(0.0, 0.66, 0.075, 0.13, 0.03));
    colour = mix(colour, HAIR, inside(0.0, 0.39, 0.165, 0.235, 0.03));
    let light = mix([118.0, 116.0, 146.0], SKIN, 0.5 + x * 3.0);
    colour = mix(colour, light, inside(0.0, 0.44, 0.132, 0.19, 0.03));
    for side in [-1.0, 1.0] {
        colour = mix(colour, [28.0, 128.0, 130.0], inside(side * 0.052, 0.42, 0.013, 0.01, 0.3));
    }
    let mouth = 0.01 + 0.006 * (time * 6.0).sin();
    mix(colour, [88.0, 118.0, 168.0], inside(0.0, 0.525, 0.038, mouth, 0.3))
}
