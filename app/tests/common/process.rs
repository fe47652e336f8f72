//! Our own programs as a person starts them: output kept, every wait with a limit, killed on drop.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::SOON;

/// Our program.
pub const VISAVIS: &str = env!("CARGO_BIN_EXE_visavis");

const POLL: Duration = Duration::from_millis(50);

/// Names the folder of the server's key: never this user's own.
pub const STATE_VARIABLE: &str = "VISAVIS_STATE_DIR";

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `visavis` with these arguments.
    pub fn visavis(args: &[&str]) -> Result<Self> {
        Self::visavis_through(&[], args)
    }

    /// As `visavis`, started by a program and its arguments that become it in the end (`nsenter`).
    pub fn visavis_through(launcher: &[String], args: &[&str]) -> Result<Self> {
        let mut command = match launcher.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(VISAVIS);
                command
            }
            None => Command::new(VISAVIS),
        };
        command.args(args);
        Self::start(command, &format!("visavis {}", args.join(" ")))
    }

    /// Starts a command; `name` is for error messages.
    pub fn start(mut command: Command, name: &str) -> Result<Self> {
        if !command.get_envs().any(|(variable, _)| variable == STATE_VARIABLE) {
            command.env(STATE_VARIABLE, concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
        }
        let mut child = command
            .env("NO_COLOR", "1")
            // Keys of servers: not into the home of whoever runs the tests.
            .env("VISAVIS_STATE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/server-state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let output = keep_lines(child.stdout.take().context("no stdout")?);
        let errors = keep_lines(child.stderr.take().context("no stderr")?);
        Ok(Self { name: name.to_owned(), child, output, errors })
    }

    /// Waits for the first thing `pick` finds in the lines so far, of either stream.
    pub async fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut pick: impl FnMut(&[String], &[String]) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = pick(&lock(&self.output), &lock(&self.errors)) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("ended ({status}) before there was {what}")));
            }
            if Instant::now() >= end {
                return Err(self.failure(&format!("no {what} within {limit:?}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for a statistics line from now on in which `pick` finds something.
    pub async fn stats<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut pick: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let mut from = lock(&self.output).len();
        self.until(what, limit, |output, _| {
            let fresh = output.get(from..).unwrap_or_default();
            from = output.len();
            fresh
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok())
                .find_map(|line| pick(&line))
        })
        .await
    }

    /// As Ctrl+C does.
    pub fn interrupt(&self) -> Result<()> {
        self.signal("INT")
    }

    /// Sends a signal, named as for `kill`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().to_string();
        let status =
            Command::new("kill").args([&format!("-{signal}"), &pid]).status().context("kill")?;
        if status.success() { Ok(()) } else { bail!("kill -{signal} {pid}: {status}") }
    }

    /// As a crash does: no goodbye.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn output(&self) -> Vec<String> {
        lock(&self.output).clone()
    }

    /// What it has written to standard error so far.
    pub fn errors(&self) -> Vec<String> {
        lock(&self.errors).clone()
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self.failure(&format!("still running after {limit:?}")))
    }

    /// An error with the program's last words.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let tail = |lines: &[String]| lines[lines.len().saturating_sub(25)..].join("\n    ");
        let (output, errors) = (tail(&lock(&self.output)), tail(&lock(&self.errors)));
        anyhow!("{}: {what}\n  stdout:\n    {output}\n  stderr:\n    {errors}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `visavis serve` on a free port.
pub struct Server {
    process: Process,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// Its key, which outlives it.
    state: tempfile::TempDir,
}

impl Server {
    pub async fn start() -> Result<Self> {
        Self::with(&[]).await
    }

    /// With a folder served as the page.
    pub async fn with_page(folder: &Path) -> Result<Self> {
        Self::with(&["--page", &folder.display().to_string()]).await
    }

    /// With further flags.
    pub async fn with(more: &[&str]) -> Result<Self> {
        let state = tempfile::Builder::new().prefix("visavis-server-").tempdir()?;
        let (process, url) = Self::listen("127.0.0.1:0", state.path(), more).await?;
        Ok(Self { process, url, state })
    }

    /// Kills it and starts another one at the same address.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.start_again().await
    }

    /// As a crash does: no goodbye.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Another one at the same address, with the same key.
    pub async fn start_again(&mut self) -> Result<()> {
        let address = self.url.trim_start_matches("http://").to_owned();
        (self.process, _) = Self::listen(&address, self.state.path(), &[]).await?;
        Ok(())
    }

    async fn listen(listen: &str, state: &Path, more: &[&str]) -> Result<(Process, String)> {
        let state = state.display().to_string();
        let args = [&["serve", "--listen", listen, "--state-dir", &state], more].concat();
        let mut process = Process::visavis(&args)?;
        let pick = |output: &[String], errors: &[String]| {
            output.iter().chain(errors).find_map(|line| address(line))
        };
        let url = process.until("its address", SOON, pick).await?;
        Ok((process, url))
    }

    /// The same server under another name, and so, to a browser, another origin.
    pub fn other_origin(&self) -> String {
        self.url.replace("127.0.0.1", "localhost")
    }
}

/// The address in a line like `listening on http://127.0.0.1:40123`, or `127.0.0.1:40123` alone.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let port: u16 = port.parse().ok().filter(|&port| port != 0)?;
    Some(format!("http://127.0.0.1:{port}"))
}

/// `visavis call ROOM --headless` with the testcard as camera and microphone.
pub struct Desktop {
    pub process: Process,
    folder: tempfile::TempDir,
}

impl Desktop {
    pub fn call(server: &str, room: &str) -> Result<Self> {
        Self::start(&[], &[room, "--server", server])
    }

    /// As `call`, through a launcher, with what names the call.
    pub fn start(launcher: &[String], call: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-desktop-").tempdir()?;
        let sink = format!("file:{}", folder.path().join("out.wav").display());
        let log = folder.path().join("frames.csv").display().to_string();
        let mut args = vec!["call"];
        args.extend(call);
        args.extend([
            "--headless",
            "--name",
            "Desktop",
            "--video-source",
            "testcard",
            "--audio-source",
            "testcard",
            "--audio-sink",
            &sink,
            "--frame-log",
            &log,
            "--stats",
            "-",
        ]);
        let process = Process::visavis_through(launcher, &args)?;
        Ok(Self { process, folder })
    }

    /// Waits for the link under which others find the room it hosts.
    pub async fn invite(&mut self, limit: Duration) -> Result<String> {
        self.process
            .until("invite link", limit, |_, errors| {
                let said = |line: &String| Some(line.split_once("Invite: ")?.1.trim().to_owned());
                errors.iter().find_map(said)
            })
            .await
    }

    /// What the desktop played to its speaker.
    pub fn heard(&self) -> PathBuf {
        self.folder.path().join("out.wav")
    }

    /// Waits until the desktop has seat and connection, by its own words.
    pub async fn state(&mut self, states: &[&str], limit: Duration) -> Result<()> {
        let wanted = |line: &Value| states.contains(&line.get("state")?.as_str()?).then_some(());
        self.process.stats(&format!("state {states:?}"), limit, wanted).await
    }

    /// Waits until it shows ever new numbers of the tab's clip, counts them as decoded, and hears the tab.
    pub async fn sees_and_hears(&mut self, limit: Duration) -> Result<()> {
        self.sees(limit).await?;
        let level = |line: &Value| line.pointer("/audio_in/level_dbfs").and_then(Value::as_f64);
        self.process
            .stats("audible sound", limit, |line| level(line).filter(|&db| db > -60.0))
            .await?;
        Ok(())
    }

    /// Waits until it shows ever new numbers of the tab's clip, and counts them as decoded.
    pub async fn sees(&mut self, limit: Duration) -> Result<()> {
        let already = shown(&self.log())?.len();
        // The count may begin anew with a new connection: what it grows by is what counts.
        let (mut last, mut grown) = (None, 0);
        self.process
            .stats("growing count of decoded pictures", limit, |line| {
                let frames = line.pointer("/video_in/frames")?.as_u64()?;
                grown += frames.saturating_sub(last.unwrap_or(frames));
                last = Some(frames);
                (grown > 10).then_some(())
            })
            .await?;
        let log = self.log();
        let numbers = self.process.until("new numbers in the frame log", limit, |_, _| {
            let fresh = shown(&log).ok()?.split_off(already);
            (distinct(&fresh) >= 12).then_some(fresh)
        });
        let numbers = numbers.await?;
        let backwards = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count();
        if backwards > 1 {
            bail!("the desktop showed pictures out of order: {numbers:?}");
        }
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("frames.csv")
    }
}

/// The strip numbers of the pictures shown so far.
fn shown(log: &Path) -> Result<Vec<u32>> {
    let text = match std::fs::read_to_string(log) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let number = |line: &str| {
        let mut fields = line.split(',');
        (fields.next() == Some("shown")).then(|| fields.nth(1)?.trim().parse().ok())?
    };
    Ok(whole.lines().filter_map(number).collect())
}

fn distinct(numbers: &[u32]) -> usize {
    numbers.iter().collect::<std::collections::HashSet<_>>().len()
}

fn keep_lines(stream: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            lock(&kept).push(line);
        }
    });
    lines
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
