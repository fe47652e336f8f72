//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use visavis_media::sound::processing::Processing;
use visavis_media::sound::{AudioSinkSpec, AudioSourceSpec};
use visavis_media::source::{DeviceSelector, VideoSourceSpec};
use visavis_signaling::cli::ServeArgs;
use visavis_signaling::{Fingerprint, PublicAddress};

use crate::samples::SamplesSpec;

/// Exit codes of a run that did not end well; 0 is a good end.
pub mod exit {
    /// Something unforeseen.
    pub const FAILED: u8 = 1;
    /// A wrong command line.
    pub const USAGE: u8 = 2;
    /// No display to open a window on.
    pub const NO_DISPLAY: u8 = 3;
    /// The room is full.
    pub const ROOM_FULL: u8 = 4;
    /// The server cannot be reached, or refused.
    pub const SERVER: u8 = 5;
    /// A file, camera, microphone or speaker asked for cannot be used.
    pub const DEVICE: u8 = 6;
    /// No port to listen on.
    pub const LISTEN: u8 = 7;
}

/// Said below the options.
const AFTER_HELP: &str = "\
Exit codes: 0 ended well, 1 failed, 2 wrong command line, 3 no display, 4 room full,
5 server unreachable or refused, 6 a file or device asked for cannot be used, 7 no port to listen on.";

/// Face-to-face video calls in one program. Without a command: the window.
#[derive(Debug, Parser)]
#[command(name = "visavis", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<CliCommand>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Call a room: `visavis call tea`, `visavis call 'https://192.168.1.7:8443/room/tea#fp=…'`.
    Call(Box<CallArgs>),
    /// Run the signaling server without a window.
    Serve(Box<ServeArgs>),
    /// List cameras, microphones and speakers.
    Devices {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// A call from the command line.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// A room's name, or a link to a room. A name without --server is hosted here.
    #[arg(value_name = "ROOM|URL")]
    pub target: String,
    /// Without a window.
    #[arg(long)]
    pub headless: bool,
    /// camera[:NAME|:N], screen[:DISPLAY|:N], file:CLIP.y4m, testcard or none.
    #[arg(long, value_name = "SOURCE", value_parser = video_source)]
    pub video_source: Option<VideoSourceSpec>,
    /// mic[:NAME], file:SPEECH.wav, testcard or none.
    #[arg(long, value_name = "SOURCE", value_parser = audio_source)]
    pub audio_source: Option<AudioSourceSpec>,
    /// speaker[:NAME], file:OUT.wav or none.
    #[arg(long, value_name = "SINK", value_parser = audio_sink)]
    pub audio_sink: Option<AudioSinkSpec>,
    /// none, or samples:EVERY/PERIOD:FILE, without a window: writes every so-manieth picture of a clip of
    /// so many numbered pictures as it is shown.
    #[arg(long, value_name = "SINK", value_parser = video_sink, requires = "headless")]
    pub video_sink: Option<VideoSinkSpec>,
    /// Take the speaker's sound out of the microphone's [default: as in the window's settings, on].
    #[arg(long, value_name = "on|off")]
    pub echo_cancel: Option<Switch>,
    /// Lower the noise behind the voice [default: likewise].
    #[arg(long, value_name = "on|off")]
    pub noise_suppression: Option<Switch>,
    /// Bring the voice to the usual loudness [default: likewise].
    #[arg(long, value_name = "on|off")]
    pub auto_gain: Option<Switch>,
    /// Send two channels as they are, for music: the three above are off then [default: likewise, off].
    #[arg(long, value_name = "on|off")]
    pub stereo: Option<Switch>,
    /// Let the clocks of sound files and test tones run so many millionths faster than the system's, as sound
    /// cards do: for tests.
    #[arg(
        long,
        value_name = "PPM",
        default_value_t = 0,
        allow_negative_numbers = true,
        hide = true
    )]
    pub sound_clock: i32,
    /// Write when each picture passed each station, as CSV.
    #[arg(long, value_name = "FILE")]
    pub frame_log: Option<PathBuf>,
    /// Write statistics once a second as JSON lines; `-` is standard output.
    #[arg(long, value_name = "FILE|-")]
    pub stats: Option<PathBuf>,
    /// Hang up after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<f64>,
    /// The server of the room, e.g. https://192.168.1.7:8443.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Recognise the server by this fingerprint, where the link names none.
    #[arg(long, value_name = "FINGERPRINT")]
    pub trust_fingerprint: Option<Fingerprint>,
    /// Where others reach this machine, for the link to a room hosted here.
    #[arg(long, value_name = "HOST[:PORT]", env = "VISAVIS_PUBLIC_ADDRESS")]
    pub public_address: Option<PublicAddress>,
    /// Print the invite link as a QR code too, even where standard error is no terminal.
    #[arg(long)]
    pub qr: bool,
    /// The name that the other person sees.
    #[arg(long)]
    pub name: Option<String>,
    /// Which paths to the other person may be used; relay hides this machine's addresses from them.
    #[arg(long, value_name = "all|relay", default_value = "all")]
    pub ice: IcePolicy,
}

impl CallArgs {
    /// What is done to the microphone's sound: as `usual`, but for what was asked for.
    pub fn processing(&self, usual: Processing) -> Processing {
        let choose = |asked: Option<Switch>, usual| asked.map_or(usual, |on| on == Switch::On);
        Processing {
            echo_cancel: choose(self.echo_cancel, usual.echo_cancel),
            noise_suppression: choose(self.noise_suppression, usual.noise_suppression),
            auto_gain: choose(self.auto_gain, usual.auto_gain),
            stereo: choose(self.stereo, usual.stereo),
        }
    }
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// Where received pictures go in a headless run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VideoSinkSpec {
    /// Nowhere.
    None,
    /// Some of them into a file.
    Samples(SamplesSpec),
}

/// Which paths to the other person may be used (W3C `RTCIceTransportPolicy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IcePolicy {
    /// Any.
    All,
    /// Only through the server's relay.
    Relay,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 1e8 => Ok(seconds),
        _ => Err("give a number of seconds above 0".to_owned()),
    }
}

fn video_source(text: &str) -> Result<VideoSourceSpec, String> {
    match split(text) {
        ("camera", rest) => Ok(VideoSourceSpec::Camera(selector(rest))),
        ("screen", rest) => Ok(VideoSourceSpec::Screen(selector(rest))),
        ("file", Some(path)) => Ok(VideoSourceSpec::File(path.into())),
        ("testcard", None) => Ok(VideoSourceSpec::Testcard),
        ("none", None) => Ok(VideoSourceSpec::None),
        _ => {
            Err("use camera, camera:NAME, camera:N, screen, file:CLIP.y4m, testcard or none"
                .to_owned())
        }
    }
}

fn audio_source(text: &str) -> Result<AudioSourceSpec, String> {
    match split(text) {
        ("mic", rest) => Ok(AudioSourceSpec::Mic(selector(rest))),
        ("file", Some(path)) => Ok(AudioSourceSpec::File(path.into())),
        ("testcard", None) => Ok(AudioSourceSpec::Testcard),
        ("none", None) => Ok(AudioSourceSpec::None),
        _ => Err("use mic, mic:NAME, file:SPEECH.wav, testcard or none".to_owned()),
    }
}

fn audio_sink(text: &str) -> Result<AudioSinkSpec, String> {
    match split(text) {
        ("speaker", rest) => Ok(AudioSinkSpec::Speaker(selector(rest))),
        ("file", Some(path)) => Ok(AudioSinkSpec::File(path.into())),
        ("none", None) => Ok(AudioSinkSpec::None),
        _ => Err("use speaker, speaker:NAME, file:OUT.wav or none".to_owned()),
    }
}

fn video_sink(text: &str) -> Result<VideoSinkSpec, String> {
    let samples = |rest| SamplesSpec::parse(rest).map(VideoSinkSpec::Samples);
    match split(text) {
        ("none", None) => Some(VideoSinkSpec::None),
        ("samples", Some(rest)) => samples(rest),
        _ => None,
    }
    .ok_or_else(|| "use none or samples:EVERY/PERIOD:FILE".to_owned())
}

/// What stands before and after the first colon; an empty rest is none.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest).filter(|rest| !rest.is_empty())),
        None => (text, None),
    }
}

fn selector(rest: Option<&str>) -> DeviceSelector {
    match rest {
        None => DeviceSelector::Default,
        Some(rest) => rest
            .parse()
            .map_or_else(|_| DeviceSelector::Name(rest.to_owned()), DeviceSelector::Index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn call(arguments: &[&str]) -> Result<CallArgs, String> {
        let all = ["visavis", "call"].iter().chain(arguments);
        match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
            Some(CliCommand::Call(args)) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sources_are_read_as_documented() {
        let args = call(&["tea", "--video-source", "camera:2", "--audio-source", "file:a:b.wav"])
            .expect("a call");
        assert_eq!(args.video_source, Some(VideoSourceSpec::Camera(DeviceSelector::Index(2))));
        assert_eq!(args.audio_source, Some(AudioSourceSpec::File("a:b.wav".into())));
        let args = call(&["tea", "--video-source", "camera:Logi", "--audio-sink", "speaker"])
            .expect("a call");
        let logi = DeviceSelector::Name("Logi".to_owned());
        assert_eq!(args.video_source, Some(VideoSourceSpec::Camera(logi)));
        let screens = [
            ("screen", DeviceSelector::Default),
            ("screen::1.0", DeviceSelector::Name(":1.0".to_owned())),
            ("screen:1", DeviceSelector::Index(1)),
        ];
        for (text, selector) in screens {
            let args = call(&["tea", "--video-source", text]).expect("a call");
            assert_eq!(args.video_source, Some(VideoSourceSpec::Screen(selector)));
        }
        assert_eq!(args.audio_sink, Some(AudioSinkSpec::Speaker(DeviceSelector::Default)));
    }

    #[test]
    fn each_part_of_the_sound_processing_can_be_switched() {
        let args = call(&["tea", "--echo-cancel", "off", "--auto-gain", "on"]).expect("valid");
        let usual = Processing { auto_gain: false, ..Processing::default() };
        let wanted = Processing { echo_cancel: false, auto_gain: true, ..Processing::default() };
        assert_eq!(args.processing(usual), wanted);
        let args = call(&["tea", "--stereo", "on"]).expect("valid");
        assert_eq!(args.processing(usual), Processing { stereo: true, ..usual });
        assert!(call(&["tea", "--noise-suppression", "loud"]).is_err());
    }

    #[test]
    fn a_wrong_source_says_which_there_are() {
        for wrong in ["file", "file:", "webcam", "testcard:7", ""] {
            let error = call(&["tea", "--video-source", wrong]).expect_err("wrong");
            assert!(error.contains("file:CLIP.y4m"), "{wrong}: {error}");
        }
        assert!(call(&["tea", "--duration", "-1"]).is_err());
        assert!(call(&[]).expect_err("no room").contains("ROOM|URL"));
    }
}
