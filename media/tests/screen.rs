//! The screen of an Xvfb through a call to another session in this process: what is painted there
//! arrives, with the pointer, and sources are switched without a new negotiation.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use visavis_media::frame::Frame;
use visavis_media::frame_log::FrameLog;
use visavis_media::local::{LocalEvent, LocalMedia};
use visavis_media::peer::{Ice, PeerEvent};
use visavis_media::session::Session;
use visavis_media::source::{DeviceSelector, SourceEvent, VideoSourceSpec};
use visavis_media::stats::VideoFlow;
use visavis_media::strip;
use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, CreateGCAux, Gcontext, Rectangle, Window};
use x11rb::rust_connection::RustConnection;

const LIMIT: Duration = Duration::from_secs(60);
const WIDTH: u16 = 1280;
const HEIGHT: u16 = 720;
const GREY: u32 = 0x80_8080;

/// An X server without a screen, and a client that paints on its root window.
struct Screen {
    server: Child,
    name: String,
    client: RustConnection,
    root: Window,
    context: Gcontext,
}

impl Screen {
    fn start() -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-noreset", "-nolisten", "tcp", "-screen", "0"])
            .arg(format!("{WIDTH}x{HEIGHT}x24"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("no Xvfb: apt-get install xvfb");
        let mut line = String::new();
        let out = server.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("its number");
        let name = format!(":{}", line.trim());
        let (client, number) = x11rb::connect(Some(&name)).expect("a connection");
        let root = client.setup().roots[number].root;
        let context = client.generate_id().expect("an id");
        client.create_gc(context, root, &CreateGCAux::new()).expect("sent");
        let screen = Self { server, name, client, root, context };
        screen.fill(GREY, &[Rectangle { x: 0, y: 0, width: WIDTH, height: HEIGHT }]);
        screen.flush();
        screen
    }

    fn fill(&self, colour: u32, rectangles: &[Rectangle]) {
        let colour = x11rb::protocol::xproto::ChangeGCAux::new().foreground(colour);
        self.client.change_gc(self.context, &colour).expect("sent");
        self.client.poly_fill_rectangle(self.root, self.context, rectangles).expect("sent");
    }

    fn flush(&self) {
        self.client.get_input_focus().expect("sent").reply().expect("a living server");
    }

    /// Paints a strip (docs/testing.md) with this number along the top.
    fn paint(&self, number: u32) {
        let frame = {
            let mut frame = visavis_media::frame::FramePool::new().black(40, 18);
            strip::write(&mut frame, number);
            frame
        };
        let cells: Vec<bool> = frame.planes()[0][..40].iter().map(|luma| *luma > 128).collect();
        let (width, height) = (WIDTH / 40, HEIGHT / 18);
        for (colour, wanted) in [(0xff_ffff, true), (0, false)] {
            let rectangles: Vec<Rectangle> = (0_u16..)
                .zip(&cells)
                .filter(|(_, cell)| **cell == wanted)
                .map(|(at, _)| Rectangle { x: (at * width) as i16, y: 0, width, height })
                .collect();
            self.fill(colour, &rectangles);
        }
        self.flush();
    }

    fn move_pointer(&self, x: i16, y: i16) {
        self.client.warp_pointer(x11rb::NONE, self.root, 0, 0, 0, 0, x, y).expect("sent");
        self.flush();
    }

    fn source(&self) -> VideoSourceSpec {
        VideoSourceSpec::Screen(DeviceSelector::Name(self.name.clone()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// One end: its devices, its session, the newest picture it showed.
struct End {
    session: Session,
    local: Arc<LocalMedia>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
    told: Arc<Mutex<Vec<LocalEvent>>>,
    newest: Arc<Mutex<Option<Arc<Frame>>>>,
}

impl End {
    async fn start() -> Self {
        let told = Arc::<Mutex<Vec<LocalEvent>>>::default();
        let hear = Arc::clone(&told);
        let events = Arc::new(move |event| hear.lock().expect("unpoisoned").push(event));
        let local = LocalMedia::new(Arc::default(), Arc::new(FrameLog::off()), events);
        let local = Arc::new(local);
        let newest = Arc::<Mutex<Option<Arc<Frame>>>>::default();
        let seen = Arc::clone(&newest);
        let pictures = Arc::new(move |frame| *seen.lock().expect("unpoisoned") = Some(frame));
        let (sender, events) = mpsc::unbounded_channel();
        let session = Session::new(Ice::default(), Arc::clone(&local), pictures, sender).await;
        Self { session: session.expect("a session"), local, events, told, newest }
    }

    /// Waits until the newest picture is as wanted.
    async fn sees(&self, what: &str, wanted: impl Fn(&Frame) -> bool) {
        let looking = async {
            loop {
                let newest = self.newest.lock().expect("unpoisoned").clone();
                if newest.is_some_and(|frame| wanted(&frame)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let seen = tokio::time::timeout(LIMIT, looking).await;
        assert!(seen.is_ok(), "never seen: {what}; told {:?}", self.told.lock());
    }

    fn video_out(&self) -> VideoFlow {
        let mut copy = VideoFlow::default();
        self.session.counters().video_out(|flow| copy = flow.clone());
        copy
    }
}

/// Two ends in a call; the first sends the second what it has.
async fn connected() -> (End, End) {
    let (mut ada, mut bob) = (End::start().await, End::start().await);
    let offer = ada.session.offer().await.expect("an offer");
    let answer = bob.session.answer(&offer).await.expect("an answer");
    ada.session.accept_answer(&answer).await.expect("a fitting answer");
    let (mut up, mut other_up) = (false, false);
    while !up || !other_up {
        let next = async {
            tokio::select! {
                event = ada.events.recv() => (true, event),
                event = bob.events.recv() => (false, event),
            }
        };
        let (from_ada, event) = tokio::time::timeout(LIMIT, next).await.expect("a connection");
        match event.expect("living sessions") {
            PeerEvent::Candidate(candidate) => {
                let to = if from_ada { &bob } else { &ada };
                to.session.add_candidate(candidate).await.expect("a candidate");
            }
            PeerEvent::Connected if from_ada => up = true,
            PeerEvent::Connected => other_up = true,
            other => panic!("{other:?}"),
        }
    }
    ada.session.start_sending().await;
    (ada, bob)
}

/// The darkest and the brightest of the 40x40 pixels around a place.
fn around(frame: &Frame, x: usize, y: usize) -> (u8, u8) {
    let width = frame.width() as usize;
    let rows = frame.planes()[0].chunks_exact(width).skip(y - 20).take(40);
    let pixels = rows.flat_map(|row| &row[x - 20..x + 20]);
    pixels.fold((255, 0), |(least, most), &value| (least.min(value), most.max(value)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_screen_shows_arrives_with_the_pointer() {
    let screen = Screen::start();
    screen.move_pointer(320, 400);
    screen.paint(1);
    let (ada, bob) = connected().await;
    ada.local.set_video(&screen.source(), "");
    for number in 1..=5 {
        screen.paint(number * 1000);
        bob.sees("the painted number", |frame| strip::read(frame) == Some(number * 1000)).await;
    }
    // Before the encoder has sharpened it, a picture may be coarse.
    let pointed = |x: usize, y: usize| {
        move |frame: &Frame| {
            let (least, most) = around(frame, x, y);
            most - least > 80
        }
    };
    let plain = |x: usize, y: usize| {
        move |frame: &Frame| {
            let (least, most) = around(frame, x, y);
            most - least < 20
        }
    };
    bob.sees("all of the screen", |frame| (frame.width(), frame.height()) == (1280, 720)).await;
    bob.sees("the pointer", pointed(320, 400)).await;
    screen.move_pointer(900, 500);
    bob.sees("the pointer where it went", pointed(900, 500)).await;
    bob.sees("nothing where it was", plain(320, 400)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_switches_between_camera_screen_and_nothing() {
    let screen = Screen::start();
    let (mut ada, bob) = connected().await;
    for round in 1..=10_u32 {
        match round % 3 {
            1 => {
                screen.paint(round);
                ada.local.set_video(&screen.source(), "");
                bob.sees("the screen", |frame| strip::read(frame) == Some(round)).await;
            }
            2 => {
                ada.local.set_video(&VideoSourceSpec::Testcard, "");
                // Its number is the time.
                let card = |frame: &Frame| strip::read(frame).is_some_and(|number| number > 10);
                bob.sees("the test card", card).await;
            }
            _ => ada.local.set_video(&VideoSourceSpec::None, ""),
        }
    }
    while let Ok(event) = ada.events.try_recv() {
        assert!(matches!(event, PeerEvent::Candidate(_)), "{event:?}");
    }
    let lost = |event: &LocalEvent| matches!(event, LocalEvent::Video(SourceEvent::Lost(_)));
    assert!(!ada.told.lock().expect("unpoisoned").iter().any(lost));
    // One for each source, and one where its size changed with the rate.
    assert!(ada.video_out().key_frames <= 30, "{:?}", ada.video_out());
}

#[test]
fn a_screen_that_is_not_there_is_lost_with_a_reason() {
    for nowhere in [":9998", ":64999", "nonsense", ""] {
        is_lost(nowhere);
    }
}

fn is_lost(nowhere: &str) {
    let told = Arc::<Mutex<Vec<LocalEvent>>>::default();
    let hear = Arc::clone(&told);
    let events = Arc::new(move |event| hear.lock().expect("unpoisoned").push(event));
    let local = LocalMedia::new(Arc::default(), Arc::new(FrameLog::off()), events);
    let nowhere = DeviceSelector::Name(nowhere.to_owned());
    local.set_video(&VideoSourceSpec::Screen(nowhere), "");
    for _ in 0..600 {
        let lost = told.lock().expect("unpoisoned").iter().find_map(|event| match event {
            LocalEvent::Video(SourceEvent::Lost(error)) => Some(error.to_string()),
            _ => None,
        });
        if let Some(reason) = lost {
            assert!(reason.starts_with("the screen cannot be shared: "), "{reason}");
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nothing was told");
}
