//! A PulseAudio of the test's own with null sinks: what is played into `micfeed` is what the
//! microphone hears, what the speaker plays is heard at `spk.monitor`. Gone with the test.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::SOON;
use super::process::Process;

const INSTALL: &str = "install the packages pulseaudio and pulseaudio-utils to run this test";

/// Names the sound server to a program.
pub const PULSE_SERVER: &str = "PULSE_SERVER";

pub struct Pulse {
    server: Process,
    /// Keep the null sinks awake: an idle one stalls a stream's first two seconds.
    _awake: Vec<Process>,
    folder: tempfile::TempDir,
}

impl Pulse {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-pulse-").tempdir()?;
        let mut command = Command::new("pulseaudio");
        command.args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit"]);
        command.args(["--use-pid-file=no", "--log-target=stderr", "--log-level=error"]);
        let socket = folder.path().join("native");
        let sink = |name: &str, description: &str| {
            format!(
                "module-null-sink sink_name={name} rate=48000 \
                 sink_properties=device.description='{description}'"
            )
        };
        for module in [
            format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display()),
            sink("spk", "Loud\\ Speaker"),
            sink("micfeed", "Microphone\\ Feed"),
            "module-remap-source source_name=mic master=micfeed.monitor \
             source_properties=device.description='Desk\\ Microphone'"
                .to_owned(),
        ] {
            command.arg("-L").arg(module);
        }
        command.env("HOME", folder.path()).env("XDG_RUNTIME_DIR", folder.path());
        command.env_remove(PULSE_SERVER);
        let server = Process::start(command, "pulseaudio").context(INSTALL)?;
        let mut this = Self { server, _awake: Vec::new(), folder };
        this.ready().await?;
        this.control(&["set-default-sink", "spk"])?;
        this.control(&["set-default-source", "mic"])?;
        for sink in ["spk", "micfeed"] {
            let mut silence = this.command("pacat");
            silence.args(["--playback", "--raw", "--latency-msec=200", "-d", sink, "/dev/zero"]);
            let silence = Process::start(silence, "pacat").context(INSTALL)?;
            this._awake.push(silence);
        }
        Ok(this)
    }

    async fn ready(&mut self) -> Result<()> {
        let end = Instant::now() + SOON;
        while self.control(&["info"]).is_err() {
            ensure!(Instant::now() < end, self.server.failure("not ready"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut pactl = self.command("pactl");
        pactl.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let status = pactl.status().context(INSTALL)?;
        ensure!(status.success(), "pactl {arguments:?}: {status}");
        Ok(())
    }

    /// A command whose sound server this is.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env(PULSE_SERVER, self.address());
        command
    }

    /// For [`PULSE_SERVER`].
    pub fn address(&self) -> String {
        format!("unix:{}", self.folder.path().join("native").display())
    }

    /// Plays a WAV file into a sink, 200 ms ahead, so that a busy machine leaves no holes.
    pub fn play(&self, sink: &str, wav: PathBuf) -> Result<Process> {
        let mut paplay = self.command("paplay");
        paplay.args(["--latency-msec=200", "-d", sink]).arg(wav);
        Process::start(paplay, "paplay").context(INSTALL)
    }

    /// Records a source into a WAV file until dropped.
    pub fn record(&self, source: &str, wav: PathBuf) -> Result<Process> {
        let mut parec = self.command("parec");
        parec.args(["--rate=48000", "--channels=1", "--format=s16le", "--file-format=wav"]);
        parec.args(["--latency-msec=50", "-d", source]).arg(wav);
        Process::start(parec, "parec").context(INSTALL)
    }
}
