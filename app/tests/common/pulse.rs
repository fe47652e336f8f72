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

    /// Runs `pactl`; returns what it prints: of `load-module` the module's index.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let mut pactl = self.command("pactl");
        pactl.args(arguments).stderr(Stdio::null());
        let done = pactl.output().context(INSTALL)?;
        ensure!(done.status.success(), "pactl {arguments:?}: {}", done.status);
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    /// Plugs another speaker in; returns what to give [`Pulse::unplug`].
    pub fn plug_speaker(&self, id: &str, name: &str) -> Result<String> {
        let name = format!("sink_properties=device.description='{}'", name.replace(' ', "\\ "));
        let sink = format!("sink_name={id}");
        self.control(&["load-module", "module-null-sink", &sink, "rate=48000", &name])
    }

    /// Takes a device away.
    pub fn unplug(&self, module: &str) -> Result<()> {
        self.control(&["unload-module", module]).map(drop)
    }

    /// What speakers play comes back to the microphone after so many milliseconds, this much
    /// quieter: a room.
    pub fn room(&self, delay_ms: u32, down_db: u32) -> Result<()> {
        let delay = format!("latency_msec={delay_ms}");
        let module = self.control(&[
            "load-module",
            "module-loopback",
            "source=spk.monitor",
            "sink=micfeed",
            &delay,
            "adjust_time=0",
        ])?;
        let inputs = self.control(&["list", "sink-inputs"])?;
        let mut index = None;
        for line in inputs.lines() {
            if let Some(number) = line.strip_prefix("Sink Input #") {
                index = Some(number.to_owned());
            } else if line.trim() == format!("Owner Module: {module}") {
                break;
            }
        }
        let index = index.context("the loopback has no stream")?;
        self.control(&["set-sink-input-volume", &index, &format!("-{down_db}dB")]).map(drop)
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
