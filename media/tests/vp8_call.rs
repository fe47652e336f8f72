//! Two sessions whose offer was relieved of H.264 on the way: they speak VP8, over a path that
//! loses packets, and repair what is lost.

mod relay;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay::{Relay, host_address, without_candidates};
use tokio::sync::mpsc;
use visavis_media::frame::{Frame, FramePool};
use visavis_media::frame_log::FrameLog;
use visavis_media::local::LocalMedia;
use visavis_media::peer::{Ice, PeerEvent};
use visavis_media::session::Session;
use visavis_media::source::VideoSourceSpec;
use visavis_media::stats::VideoFlow;
use visavis_media::strip;
use visavis_media::video_codec::VideoCodec;

const LIMIT: Duration = Duration::from_secs(90);

/// Pictures in the clip, which is played over and over.
const PICTURES: u32 = 90;

struct End {
    session: Session,
    local: Arc<LocalMedia>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
    shown: Arc<Mutex<Vec<u32>>>,
}

impl End {
    async fn start() -> Self {
        let local = LocalMedia::new(Arc::default(), Arc::new(FrameLog::off()), Arc::new(|_| {}));
        let local = Arc::new(local);
        let shown = Arc::<Mutex<Vec<u32>>>::default();
        let seen = Arc::clone(&shown);
        let pictures = Arc::new(move |frame: Arc<Frame>| {
            seen.lock().expect("unpoisoned").extend(strip::read(&frame));
        });
        let (sender, events) = mpsc::unbounded_channel();
        let session = Session::new(Ice::default(), Arc::clone(&local), pictures, sender).await;
        Self { session: session.expect("a session"), local, events, shown }
    }

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

    async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let outcome = tokio::time::timeout(LIMIT, waiting).await;
        assert!(
            outcome.is_ok(),
            "never: {what}; in {:?}; out {:?}",
            self.flow(true),
            self.flow(false)
        );
    }

    fn count(&self) -> usize {
        self.shown.lock().expect("unpoisoned").len()
    }

    fn flow(&self, incoming: bool) -> VideoFlow {
        let mut copy = VideoFlow::default();
        let take = |flow: &mut VideoFlow| copy = flow.clone();
        let counters = self.session.counters();
        if incoming {
            counters.video_in(take);
        } else {
            counters.video_out(take);
        }
        copy
    }
}

/// The offer without H.264 and its repairs, as a browser that lacks it would make it.
fn without_h264(sdp: &str) -> String {
    let number = |line: &str, kind: &str| {
        let rest = line.strip_prefix(kind)?;
        Some(rest.split([' ', '/']).next()?.to_owned())
    };
    let mut gone: Vec<String> = Vec::new();
    for line in sdp.lines().filter(|line| line.contains(" H264/")) {
        gone.extend(number(line, "a=rtpmap:"));
    }
    let repairs: Vec<String> = sdp
        .lines()
        .filter(|line| gone.iter().any(|pt| line.ends_with(&format!("apt={pt}"))))
        .filter_map(|line| number(line, "a=fmtp:"))
        .collect();
    gone.extend(repairs);
    assert_eq!(gone.len(), 2, "{sdp}");
    let kept = sdp.lines().filter_map(|line| {
        let named =
            ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|kind| number(line, kind));
        if named.is_some_and(|pt| gone.contains(&pt)) {
            return None;
        }
        if line.starts_with("m=video") {
            let words = line.split(' ').filter(|word| !gone.iter().any(|pt| pt == word));
            return Some(words.collect::<Vec<_>>().join(" "));
        }
        Some(line.to_owned())
    });
    kept.map(|line| line + "\r\n").collect()
}

/// Numbered pictures, 30 a second.
fn clip() -> PathBuf {
    let (width, height) = (320_u32, 180_u32);
    let mut clip = format!("YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420\n").into_bytes();
    for number in 0..PICTURES {
        let mut frame = FramePool::new().black(width, height);
        for (at, sample) in (0_u32..).zip(frame.planes_mut()[0].iter_mut()) {
            *sample = 40 + ((at % width * 3 + number * 5) ^ (at / width * 2)) as u8 % 160;
        }
        strip::write(&mut frame, number);
        clip.extend_from_slice(b"FRAME\n");
        frame.planes().iter().for_each(|plane| clip.extend_from_slice(plane));
    }
    let path = std::env::temp_dir().join(format!("visavis-vp8-{}.y4m", std::process::id()));
    std::fs::write(&path, clip).expect("a clip");
    path
}

async fn connected(seed: u64) -> (End, End, Relay) {
    let (mut ada, mut bob) = (End::start().await, End::start().await);
    let clip = clip();
    for end in [&ada, &bob] {
        end.local.set_video(&VideoSourceSpec::File(clip.clone()), "");
    }
    // It is open, or read already.
    let _ = std::fs::remove_file(clip);
    let offer = ada.session.offer().await.expect("an offer");
    let offer = without_h264(&without_candidates(&offer));
    let answer = bob.session.answer(&offer).await.expect("an answer");
    assert!(!answer.contains("H264") && answer.contains("VP8"), "{answer}");
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
    (ada, bob, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_h264_both_ends_speak_vp8_and_losses_are_repaired() {
    let (ada, bob, relay) = connected(4).await;
    for end in [&ada, &bob] {
        end.until("pictures", |end| end.count() >= 20).await;
        assert_eq!(end.flow(true).codec, Some(VideoCodec::Vp8));
        assert_eq!(end.flow(false).codec, Some(VideoCodec::Vp8));
    }
    relay.set_loss(100);
    let before = [ada.count(), bob.count()];
    for (end, before) in [&ada, &bob].into_iter().zip(before) {
        // Repairs come by RTX in the payload type of VP8's own.
        end.until("repairs", |end| end.flow(true).retransmitted >= 3).await;
        end.until("pictures in spite of losses", |end| end.count() >= before + 30).await;
    }
    for pair in ada.shown.lock().expect("unpoisoned").windows(2) {
        let step = (pair[1] + PICTURES - pair[0]) % PICTURES;
        assert!(step != 0 && step < PICTURES / 2, "{} after {}", pair[1], pair[0]);
    }
    relay.set_loss(0);
    let before = ada.count();
    ada.until("pictures on a clean path", |end| end.count() >= before + 30).await;
}
