//! Two sessions in one process call each other over a path that loses packets: everything
//! between source and sink is real, only the path is ours. The pipelines run on threads and the
//! machine's clock, so the transport's virtual clock has no place here.

mod relay;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay::{Relay, host_address, without_candidates};
use tokio::sync::mpsc;
use visavis_media::frame::{Frame, FramePool};
use visavis_media::frame_log::FrameLog;
use visavis_media::local::LocalMedia;
use visavis_media::peer::{Ice, PeerEvent};
use visavis_media::session::Session;
use visavis_media::sound::{AudioSinkSpec, AudioSourceSpec};
use visavis_media::source::VideoSourceSpec;
use visavis_media::stats::VideoFlow;
use visavis_media::strip;

const LIMIT: Duration = Duration::from_secs(60);

/// Pictures in the clip, which is played over and over.
const PICTURES: u32 = 90;

/// One end: its devices, its session, the numbers of the pictures it showed.
struct End {
    session: Session,
    local: Arc<LocalMedia>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
    shown: Arc<Mutex<Vec<u32>>>,
    heard: PathBuf,
}

impl End {
    async fn start(folder: &Path, name: &str) -> Self {
        let events: visavis_media::local::LocalEvents = Arc::new(|_| {});
        let local = LocalMedia::new(Arc::default(), Arc::new(FrameLog::off()), events);
        let local = Arc::new(local);
        let heard = folder.join(format!("{name}.wav"));
        local.set_video(&VideoSourceSpec::File(folder.join("clip.y4m")), "");
        local.set_microphone(&AudioSourceSpec::Testcard);
        local.set_speaker(&AudioSinkSpec::File(heard.clone()));
        let shown = Arc::<Mutex<Vec<u32>>>::default();
        let seen = Arc::clone(&shown);
        let pictures = Arc::new(move |frame: Arc<Frame>| {
            seen.lock().expect("unpoisoned").extend(strip::read(&frame));
        });
        let (sender, events) = mpsc::unbounded_channel();
        let session = Session::new(Ice::default(), Arc::clone(&local), pictures, sender).await;
        Self { session: session.expect("a session"), local, events, shown, heard }
    }

    /// Waits for an event that `pick` takes.
    async fn event<T>(&mut self, what: &str, pick: impl Fn(PeerEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("a living session");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    fn shown(&self) -> Vec<u32> {
        self.shown.lock().expect("unpoisoned").clone()
    }

    fn video_in(&self) -> VideoFlow {
        let mut copy = VideoFlow::default();
        self.session.counters().video_in(|flow| copy = flow.clone());
        copy
    }

    fn video_out(&self) -> VideoFlow {
        let mut copy = VideoFlow::default();
        self.session.counters().video_out(|flow| copy = flow.clone());
        copy
    }

    /// Waits until so many pictures were shown.
    async fn shows(&self, count: usize) {
        let waiting = async {
            while self.shown().len() < count {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let done = tokio::time::timeout(LIMIT, waiting).await;
        assert!(
            done.is_ok(),
            "{} pictures, not {count}: {:?}",
            self.shown().len(),
            self.video_in()
        );
    }

    /// Ends the session; returns the sound heard.
    async fn close(self) -> Vec<f32> {
        self.session.close();
        let local = self.local;
        let finish = move || local.finish(Duration::from_secs(5));
        tokio::task::spawn_blocking(finish).await.expect("finished");
        let mut file = hound::WavReader::open(self.heard).expect("a recording");
        let samples =
            file.samples::<i16>().map(|sample| f32::from(sample.expect("whole")) / 32768.0);
        samples.collect()
    }
}

/// A call that stands, and the path it takes.
async fn connected(folder: &Path, seed: u64) -> (End, End, Relay) {
    write_clip(&folder.join("clip.y4m"));
    let mut ada = End::start(folder, "ada").await;
    let mut bob = End::start(folder, "bob").await;
    let offer = ada.session.offer().await.expect("an offer");
    let answer = bob.session.answer(&without_candidates(&offer)).await.expect("an answer");
    let answer = without_candidates(&answer);
    ada.session.accept_answer(&answer).await.expect("a fitting answer");
    let address = |event| match event {
        PeerEvent::Candidate(candidate) => host_address(&candidate.candidate),
        _ => None,
    };
    let ends = [ada.event("candidate", address).await, bob.event("candidate", address).await];
    let relay = Relay::between(ends, seed).await;
    ada.session.add_candidate(relay.candidate(1)).await.expect("a candidate");
    bob.session.add_candidate(relay.candidate(0)).await.expect("a candidate");
    let up = |event| (event == PeerEvent::Connected).then_some(());
    ada.event("connection", up).await;
    bob.event("connection", up).await;
    ada.session.start_sending().await;
    bob.session.start_sending().await;
    ada.shows(10).await;
    bob.shows(10).await;
    (ada, bob, relay)
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("visavis-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// A wave that moves under a numbered strip, 30 pictures a second.
fn write_clip(path: &Path) {
    let (width, height) = (320_u32, 180_u32);
    let pool = FramePool::new();
    let mut clip = format!("YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420\n").into_bytes();
    for number in 0..PICTURES {
        let mut frame = pool.take(width, height);
        let [luma, u, v] = frame.planes_mut();
        for (at, sample) in luma.iter_mut().enumerate() {
            let (x, y) = (at as u32 % width, at as u32 / width);
            // Also from the last picture to the first no other scene.
            *sample = 80 + ((x * 2 + number * 3) % 32 + (y * 2 + number) % 32) as u8;
        }
        u.fill(110);
        v.fill(140);
        strip::write(&mut frame, number);
        clip.extend_from_slice(b"FRAME\n");
        frame.planes().iter().for_each(|plane| clip.extend_from_slice(plane));
    }
    std::fs::write(path, clip).expect("a clip");
}

/// How many were shown and how many there were meanwhile; panics where one came out of order.
fn in_order(numbers: &[u32]) -> (usize, usize) {
    let mut span = 1;
    for pair in numbers.windows(2) {
        let step = (pair[1] + PICTURES - pair[0]) % PICTURES;
        assert!((1..PICTURES / 2).contains(&step), "{} after {}", pair[1], pair[0]);
        span += step as usize;
    }
    (numbers.len(), span)
}

/// The test tone's bursts: blocks of 100 ms that are loud.
fn loud_blocks(samples: &[f32]) -> usize {
    let loud = |block: &&[f32]| {
        block.iter().map(|sample| sample * sample).sum::<f32>() / block.len() as f32 > 0.01
    };
    samples.chunks(4800).filter(loud).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_path_shows_every_picture_with_one_key_frame() {
    let folder = folder("clean");
    let (ada, bob, relay) = connected(&folder, 1).await;
    ada.shows(150).await;
    bob.shows(150).await;
    assert_eq!(relay.dropped(), 0);
    for end in [&ada, &bob] {
        let (shown, played) = in_order(&end.shown());
        assert!(shown * 10 >= played * 9, "{shown} of {played}");
        let flow = end.video_in();
        assert!(flow.retransmitted <= 5 && flow.key_frames <= 2, "{flow:?}");
    }
    for end in [ada, bob] {
        assert!(loud_blocks(&end.close().await) >= 3);
    }
    let _ = std::fs::remove_dir_all(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_twentieth_packet_lost_is_repaired_without_a_storm_of_key_frames() {
    let folder = folder("lossy");
    let (ada, bob, relay) = connected(&folder, 2).await;
    relay.set_loss(50);
    ada.shows(310).await;
    bob.shows(310).await;
    for (end, other) in [(&ada, &bob), (&bob, &ada)] {
        let (received, sent) = (end.video_in(), other.video_out());
        eprintln!(
            "dropped {} of both kinds both ways; in {received:?}; out {sent:?}",
            relay.dropped()
        );
        let (shown, played) = in_order(&end.shown());
        eprintln!("{shown} shown of {played}");
        assert!(received.retransmitted >= 5, "{received:?}");
        assert!(shown * 10 >= played * 9, "{shown} of {played}");
        // One to begin with; a repair that came too late may cost another now and then.
        assert!(sent.key_frames <= 6, "{sent:?}");
        // Each loss is repaired about once, and the relay dropped about as many of the other
        // direction: an end that does not see repairs come asks ten times.
        assert!(sent.retransmitted <= relay.dropped(), "{sent:?}");
    }
    // And once the path is clean again, so is the picture.
    relay.set_loss(0);
    let before = [ada.shown().len(), bob.shown().len()];
    ada.shows(before[0] + 60).await;
    bob.shows(before[1] + 60).await;
    for end in [ada, bob] {
        assert!(loud_blocks(&end.close().await) >= 5);
    }
    let _ = std::fs::remove_dir_all(folder);
}
