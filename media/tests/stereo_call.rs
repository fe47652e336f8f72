//! Two sessions in one process, of which one sends music: what the other's description says of
//! stereo (RFC 7587 section 6.1) decides what it hears.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use visavis_media::frame_log::FrameLog;
use visavis_media::local::LocalMedia;
use visavis_media::peer::{Ice, PeerEvent};
use visavis_media::session::Session;
use visavis_media::sound::processing::Processing;
use visavis_media::sound::{AudioSinkSpec, AudioSourceSpec};

const LIMIT: Duration = Duration::from_secs(60);
const RATE: usize = 48_000;
const LEFT: f64 = 440.0;
const RIGHT: f64 = 650.0;

struct End {
    session: Session,
    local: Arc<LocalMedia>,
    events: mpsc::UnboundedReceiver<PeerEvent>,
}

impl End {
    async fn start(stereo: bool, source: AudioSourceSpec, sink: AudioSinkSpec) -> Self {
        let local = LocalMedia::new(Arc::default(), Arc::new(FrameLog::off()), Arc::new(|_| {}));
        let local = Arc::new(local);
        local.set_processing(Processing { stereo, ..Processing::default() });
        local.set_microphone(&source);
        local.set_speaker(&sink);
        let (sender, events) = mpsc::unbounded_channel();
        let session =
            Session::new(Ice::default(), Arc::clone(&local), Arc::new(|_| {}), sender).await;
        Self { session: session.expect("a session"), local, events }
    }

    async fn connected(&mut self) {
        let up =
            async { while self.events.recv().await.expect("alive") != PeerEvent::Connected {} };
        tokio::time::timeout(LIMIT, up).await.expect("a connection");
    }
}

/// Ada plays two tones to Bob, whose answer `edit` changes on its way; waits until the last second of
/// what he heard is as `wanted`. Returns both descriptions.
async fn call(
    name: &str,
    edit: fn(&str) -> String,
    wanted: fn(&[Vec<f64>]) -> bool,
) -> (String, String) {
    let folder = Folder::new(name);
    let (music, heard) = (folder.0.join("music.wav"), folder.0.join("heard.wav"));
    write_chord(&music);
    let mut ada = End::start(true, AudioSourceSpec::File(music), AudioSinkSpec::None).await;
    let bob_hears = AudioSinkSpec::File(heard.clone());
    let mut bob = End::start(false, AudioSourceSpec::None, bob_hears).await;
    let offer = ada.session.offer().await.expect("an offer");
    let answer = edit(&bob.session.answer(&offer).await.expect("an answer"));
    ada.session.accept_answer(&answer).await.expect("a fitting answer");
    ada.connected().await;
    bob.connected().await;
    ada.session.start_sending().await;
    bob.session.start_sending().await;
    let end = Instant::now() + LIMIT;
    loop {
        let channels = last_second(&heard).unwrap_or_default();
        if wanted(&channels) {
            break;
        }
        let loudness = |samples: &Vec<f64>| [LEFT, RIGHT].map(|hertz| amplitude(samples, hertz));
        let told: Vec<_> = channels.iter().map(loudness).collect();
        assert!(Instant::now() < end, "{LEFT} and {RIGHT} Hz in each channel: {told:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for End { session, local, .. } in [ada, bob] {
        session.close();
        let finish = move || local.finish(Duration::from_secs(5));
        tokio::task::spawn_blocking(finish).await.expect("finished");
    }
    (offer, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_likes_stereo_hears_it() {
    let (offer, answer) = call("liked", str::to_owned, |channels| {
        let [left, right] = channels else { return false };
        // 20 dB louder on its own side than on the other.
        [(left, right, LEFT), (right, left, RIGHT)].into_iter().all(|(own, other, hertz)| {
            amplitude(own, hertz) > (10.0 * amplitude(other, hertz)).max(0.25)
        })
    })
    .await;
    assert!(offer.contains(";stereo=1;sprop-stereo=1\r\n"), "{offer}");
    assert!(answer.contains(";stereo=1;sprop-stereo=0\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_does_not_say_so_hears_mono() {
    let silent = |sdp: &str| sdp.replace(";stereo=1;", ";");
    let (_, answer) = call("mono", silent, |channels| {
        let [mono] = channels else { return false };
        [LEFT, RIGHT].into_iter().all(|hertz| (0.1..0.2).contains(&amplitude(mono, hertz)))
    })
    .await;
    assert!(answer.contains("sprop-stereo=0") && !answer.contains("stereo=1"), "{answer}");
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("visavis-stereo-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two seconds of one tone on the left and another on the right, 48 kHz 16 bit.
fn write_chord(path: &Path) {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(path, spec).expect("a file");
    for at in 0..2 * RATE {
        for hertz in [LEFT, RIGHT] {
            let turns = at as f64 * hertz / RATE as f64;
            let sample = 10_000.0 * (turns * std::f64::consts::TAU).sin();
            file.write_sample(sample as i16).expect("written");
        }
    }
    file.finalize().expect("whole");
}

/// Each channel's last second, once there are three.
fn last_second(path: &Path) -> Option<Vec<Vec<f64>>> {
    let mut file = hound::WavReader::open(path).ok()?;
    let channels = usize::from(file.spec().channels);
    let samples: Vec<f64> = file
        .samples::<i16>()
        .map_while(Result::ok)
        .map(|sample| f64::from(sample) / 32_768.0)
        .collect();
    let begin = (samples.len() / channels).checked_sub(RATE).filter(|begin| *begin > 2 * RATE)?;
    let of = |channel| {
        samples.iter().skip(begin * channels + channel).step_by(channels).copied().collect()
    };
    Some((0..channels).map(of).collect())
}

fn amplitude(samples: &[f64], hertz: f64) -> f64 {
    let step = std::f64::consts::TAU * hertz / RATE as f64;
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in samples.iter().enumerate() {
        let (sin, cos) = (step * n as f64).sin_cos();
        re += sample * cos;
        im += sample * sin;
    }
    2.0 * re.hypot(im) / samples.len() as f64
}
