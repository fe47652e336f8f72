//! A PulseAudio of the test's own: no session, no hardware, null sinks; gone with the test.
#![allow(unsafe_code)] // Environment variables are changed while only the test's own thread runs.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const INSTALL: &str = "install the packages pulseaudio and pulseaudio-utils to run this test";

pub struct Pulse {
    server: Child,
    /// Keep the null sinks awake: an idle one stalls a stream's first two seconds.
    awake: Vec<Player>,
    folder: PathBuf,
    _pointed: Pointed,
}

/// Points this process at a sound server until dropped.
pub struct Pointed {
    before: Option<OsString>,
}

pub fn point_at(socket: &str) -> Pointed {
    let before = std::env::var_os("PULSE_SERVER");
    // SAFETY: the tests of this binary that read it hold one lock, as does this.
    unsafe { std::env::set_var("PULSE_SERVER", format!("unix:{socket}")) };
    Pointed { before }
}

impl Drop for Pointed {
    fn drop(&mut self) {
        // SAFETY: as above.
        match self.before.take() {
            Some(before) => unsafe { std::env::set_var("PULSE_SERVER", before) },
            None => unsafe { std::env::remove_var("PULSE_SERVER") },
        }
    }
}

impl Pulse {
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("visavis-pulse-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("folder");
        let socket = folder.join("native");
        let sink = |name: &str, description: &str| {
            format!(
                "module-null-sink sink_name={name} rate=48000 \
                 sink_properties=device.description='{description}'"
            )
        };
        let mut command = Command::new("pulseaudio");
        command.args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--disallow-exit"]);
        command.args(["--use-pid-file=no", "--log-target=stderr", "--log-level=error"]);
        let modules = [
            format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display()),
            sink("spk", "Loud\\ Speaker"),
            sink("micfeed", "Microphone\\ Feed"),
            "module-remap-source source_name=mic master=micfeed.monitor \
             source_properties=device.description='Desk\\ Microphone'"
                .into(),
        ];
        for module in &modules {
            command.args(["-L", module]);
        }
        let server = command
            .env("HOME", &folder)
            .env("XDG_RUNTIME_DIR", &folder)
            .env_remove("PULSE_SERVER")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("pulseaudio does not start ({error}): {INSTALL}"));
        let pointed = point_at(&socket.to_string_lossy());
        let mut pulse = Self { server, awake: Vec::new(), folder, _pointed: pointed };
        pulse.wait_until_ready();
        pulse.control(&["set-default-sink", "spk"]);
        pulse.control(&["set-default-source", "mic"]);
        for sink in ["spk", "micfeed"] {
            let silence = vec![0.0; 48_000];
            let player = pulse.play(sink, 1, &silence, Duration::from_secs(120));
            pulse.awake.push(player);
        }
        pulse
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.try_control(&["info"]) {
            if let Ok(Some(status)) = self.server.try_wait() {
                panic!("pulseaudio ended at once with {status}");
            }
            assert!(Instant::now() < deadline, "pulseaudio does not get ready within 20 s");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_control(&self, arguments: &[&str]) -> bool {
        Command::new("pactl")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("pactl does not start ({error}): {INSTALL}"))
            .success()
    }

    /// Runs `pactl`.
    pub fn control(&self, arguments: &[&str]) {
        assert!(self.try_control(arguments), "pactl {arguments:?} failed");
    }

    /// Plays samples of so many channels by turns into a sink, over and over, at most for `limit`. 200 ms ahead, so that
    /// a busy machine leaves no holes.
    pub fn play(&self, sink: &str, channels: u16, samples: &[f32], limit: Duration) -> Player {
        let mut child = Command::new("pacat")
            .args(["--playback", "--raw", "--format=float32le", "--rate=48000"])
            .args([&format!("--channels={channels}"), "--latency-msec=200", "-d", sink])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("pacat does not start ({error}): {INSTALL}"));
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut input = child.stdin.take().expect("piped");
        thread::spawn(move || {
            let end = Instant::now() + limit;
            while Instant::now() < end && input.write_all(&bytes).is_ok() {}
        });
        Player(child)
    }

    /// Records from a source one channel (`front-left`, ...), or all mixed to one (`mono`).
    pub fn record(&self, source: &str, channel: &str) -> Recorder {
        let mut child = Command::new("parec")
            .args(["--raw", "--format=float32le", "--rate=48000", "--channels=1"])
            .args([&format!("--channel-map={channel}"), "--latency-msec=10", "-d", source])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("parec does not start ({error}): {INSTALL}"));
        let mut output = child.stdout.take().expect("piped");
        let (sender, samples) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4 * 480];
            while output.read_exact(&mut bytes).is_ok() {
                let block = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                if sender.send(block.collect()).is_err() {
                    return;
                }
            }
        });
        Recorder { _child: Player(child), samples }
    }

    pub fn kill(&mut self) {
        self.server.kill().expect("kill");
        self.server.wait().expect("wait");
    }

    /// Stops the server without ending it.
    pub fn freeze(&self) {
        let pid = self.server.id().to_string();
        let stopped = Command::new("kill").args(["-STOP", &pid]).status().expect("kill");
        assert!(stopped.success());
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.awake.clear();
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A running helper process.
pub struct Player(Child);

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Recorder {
    _child: Player,
    samples: mpsc::Receiver<Vec<f32>>,
}

impl Recorder {
    /// Appends what was recorded since the last call, without waiting.
    pub fn read(&mut self, heard: &mut Vec<f32>) {
        while let Ok(block) = self.samples.try_recv() {
            heard.extend(block);
        }
    }
}
