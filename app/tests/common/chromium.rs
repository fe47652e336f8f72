//! Drives Debian's Chromium over the DevTools protocol: one browser, a fresh profile, several tabs.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::devtools::{Link, string};
use super::pulse::{PULSE_SERVER, Pulse};

const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// One at a time in a test binary: two would starve each other of a small machine's memory and cores.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How a browser is started.
#[derive(Default)]
pub struct Options<'a> {
    /// A Y4M file played as the camera; else Chromium's own test picture.
    pub camera: Option<&'a Path>,
    /// A WAV file played as the microphone; else Chromium's beep.
    pub microphone: Option<&'a Path>,
    /// Do not grant camera and microphone to everyone; `Chromium::set_permission` then decides.
    pub ask_permission: bool,
    /// Runs beside other browsers; else one waits for the other to end.
    pub beside_others: bool,
    /// Runs on this host; else on the machine itself.
    #[cfg(target_os = "linux")]
    pub host: Option<&'a super::netns::Host>,
    /// Uses the microphone and speaker of a sound server, and whatever camera there is.
    pub sound: Option<&'a Pulse>,
    /// Has its window on this X display (`:1`); else none.
    pub display: Option<&'a str>,
    /// Further command-line flags.
    pub flags: &'a [&'a str],
}

impl Options<'_> {
    /// The words that start a program where the browser is to run.
    fn enter(&self) -> Vec<OsString> {
        #[cfg(target_os = "linux")]
        if let Some(host) = self.host {
            return host.enter().into_iter().map(OsString::from).collect();
        }
        Vec::new()
    }

    /// A connection to the browser's port, which is open on its own host's loopback only.
    fn connect(&self, url: &str) -> Result<TcpStream> {
        let address = url.split('/').nth(2).context("an address without a host")?.parse()?;
        #[cfg(target_os = "linux")]
        if let Some(host) = self.host {
            return super::netlab::connect(host, address);
        }
        TcpStream::connect::<SocketAddr>(address).with_context(|| address.to_string())
    }
}

/// A running browser; killed, and its profile removed, on drop.
pub struct Chromium {
    child: Child,
    link: Arc<Link>,
    _profile: TempDir,
    _one: Option<tokio::sync::MutexGuard<'static, ()>>,
}

/// A tab of the browser, in a window of its own so that it counts as visible.
pub struct Tab {
    link: Arc<Link>,
    session: String,
    target: String,
}

impl Chromium {
    /// Starts the browser and connects to it.
    pub async fn start(options: Options<'_>) -> Result<Self> {
        let one = if options.beside_others { None } else { Some(ONE.lock().await) };
        let profile = tempfile::Builder::new().prefix("visavis-chromium-").tempdir()?;
        let mut words = options.enter();
        words.push(find_chromium()?.into());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args([
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--no-default-browser-check",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--disable-background-timer-throttling",
            "--disable-backgrounding-occluded-windows",
            "--disable-renderer-backgrounding",
            "--allow-loopback-in-peer-connection",
            "--remote-debugging-port=0",
            "--window-size=1280,760",
            "--lang=en-US",
        ]);
        command.arg(flag("--user-data-dir=", profile.path()));
        match options.sound {
            Some(sound) => command
                .env(PULSE_SERVER, sound.address())
                .arg("--autoplay-policy=no-user-gesture-required"),
            None => command.arg("--use-fake-device-for-media-stream"),
        };
        match options.display {
            Some(display) => command.env("DISPLAY", display).arg("--ozone-platform=x11"),
            None => command.arg("--headless=new"),
        };
        if !options.ask_permission {
            command.arg("--use-fake-ui-for-media-stream");
        }
        if let Some(clip) = options.camera {
            command.arg(flag("--use-file-for-fake-video-capture=", clip));
        }
        if let Some(wav) = options.microphone {
            command.arg(flag("--use-file-for-fake-audio-capture=", wav));
        }
        command.args(options.flags);
        let log = std::fs::File::create(profile.path().join("stderr"))?;
        command.arg("about:blank").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().context("starting Chromium")?;
        let url = match devtools_url(&mut child, profile.path()).await {
            Ok(url) => url,
            Err(error) => {
                // An already dead child cannot be killed; either way it is gone afterwards.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let link = Link::connect(&url, options.connect(&url)?).await?;
        Ok(Self { child, link, _profile: profile, _one: one })
    }

    /// The browser's own process; its helpers are its descendants.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Opens a tab at `url`.
    pub async fn open(&self, url: &str) -> Result<Tab> {
        self.open_with("", url).await
    }

    /// Opens a tab in which `script` runs before every page's own.
    pub async fn open_with(&self, script: &str, url: &str) -> Result<Tab> {
        let blank = json!({"url": "about:blank", "newWindow": true});
        let created = self.link.command(None, "Target.createTarget", blank).await?;
        let target = string(&created, "targetId")?;
        let attach = json!({"targetId": target, "flatten": true});
        let attached = self.link.command(None, "Target.attachToTarget", attach).await?;
        let tab =
            Tab { link: Arc::clone(&self.link), session: string(&attached, "sessionId")?, target };
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.command(domain, json!({})).await?;
        }
        if !script.is_empty() {
            let source = json!({"source": script});
            tab.command("Page.addScriptToEvaluateOnNewDocument", source).await?;
        }
        tab.go(url).await?;
        Ok(tab)
    }

    /// Grants or denies `camera` and `microphone` to an origin; only with `ask_permission`.
    pub async fn set_permission(&self, origin: &str, granted: bool) -> Result<()> {
        let setting = if granted { "granted" } else { "denied" };
        for name in ["camera", "microphone"] {
            let params =
                json!({"permission": {"name": name}, "setting": setting, "origin": origin});
            self.link.command(None, "Browser.setPermission", params).await?;
        }
        Ok(())
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Its helper processes end with it. Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tab {
    async fn command(&self, method: &str, params: Value) -> Result<Value> {
        self.link.command(Some(&self.session), method, params).await
    }

    /// Runs `script` in every page from now on, before the page's own.
    pub async fn before_pages(&self, script: &str) -> Result<()> {
        let params = json!({"source": script});
        self.command("Page.addScriptToEvaluateOnNewDocument", params).await?;
        Ok(())
    }

    /// Goes to another address.
    pub async fn go(&self, url: &str) -> Result<()> {
        let answer = self.command("Page.navigate", json!({"url": url})).await?;
        match answer.get("errorText").and_then(Value::as_str) {
            Some(error) => bail!("{url}: {error}"),
            None => Ok(()),
        }
    }

    /// Reloads, as a person does, and returns once the old document is gone.
    pub async fn reload(&self) -> Result<()> {
        self.eval("window.beforeReload = true").await?;
        self.command("Page.reload", json!({})).await?;
        self.until(
            "the reloaded page",
            "!window.beforeReload && document.readyState === 'complete'",
            super::SOON,
        )
        .await?;
        Ok(())
    }

    /// Closes the tab; the page gets its `pagehide`.
    pub async fn close(self) -> Result<()> {
        self.link.command(None, "Target.closeTarget", json!({"targetId": self.target})).await?;
        Ok(())
    }

    /// The value of an expression, promises awaited.
    pub async fn eval(&self, expression: &str) -> Result<Value> {
        self.evaluate(expression, false).await
    }

    /// As `eval`, but what it does counts as done by a person's hand.
    pub async fn eval_by_hand(&self, expression: &str) -> Result<Value> {
        self.evaluate(expression, true).await
    }

    async fn evaluate(&self, expression: &str, by_hand: bool) -> Result<Value> {
        let params = json!({
            "expression": expression,
            "awaitPromise": true,
            "returnByValue": true,
            "userGesture": by_hand,
        });
        let mut answer = self.command("Runtime.evaluate", params).await?;
        if let Some(details) = answer.get("exceptionDetails") {
            let text = details.pointer("/exception/description").or_else(|| details.get("text"));
            bail!(
                "{expression}: {}",
                text.and_then(Value::as_str).unwrap_or("an exception without words")
            );
        }
        Ok(answer.pointer_mut("/result/value").map_or(Value::Null, Value::take))
    }

    /// Waits until `expression` is truthy and gives its value. Failing, says what it was last, what stands
    /// in the console, and where a screenshot is.
    pub async fn until(&self, what: &str, expression: &str, limit: Duration) -> Result<Value> {
        let end = Instant::now() + limit;
        let mut last = "nothing".to_owned();
        while Instant::now() < end {
            match self.eval(expression).await {
                Ok(value) if truthy(&value) => return Ok(value),
                Ok(value) => last = value.to_string(),
                // A page being replaced has no context for a moment: asked again like any other no.
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(POLL).await;
        }
        Err(self
            .failure(&format!("no {what} within {limit:?}: `{expression}` was last {last}"))
            .await)
    }

    /// An error with what a person needs to understand it.
    pub async fn failure(&self, what: &str) -> anyhow::Error {
        let state =
            match self.eval("window.visavis && visavis.stats().then(s => JSON.stringify(s))").await
            {
                Ok(state) => state.to_string(),
                Err(error) => format!("{error:#}"),
            };
        let picture = match self.screenshot().await {
            Ok(path) => path.display().to_string(),
            Err(error) => format!("none ({error:#})"),
        };
        let console = self.link.console(&self.session);
        anyhow!("{what}\n  page: {state}\n  screenshot: {picture}\n  console:\n    {console}")
    }

    /// Saves what the tab shows; gives the path.
    pub async fn screenshot(&self) -> Result<PathBuf> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let answer = self.command("Page.captureScreenshot", json!({"format": "png"})).await?;
        let name =
            format!("tab-{}-{}.png", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, base64(&string(&answer, "data")?)?)?;
        Ok(path)
    }
}

fn find_chromium() -> Result<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|candidate| candidate.is_file())
        .context("these tests need a real browser and found none in PATH: apt-get install chromium")
}

/// Waits for the file in which Chromium writes its port and path.
async fn devtools_url(child: &mut Child, profile: &Path) -> Result<String> {
    let end = Instant::now() + START_LIMIT;
    while Instant::now() < end {
        if let Ok(text) = std::fs::read_to_string(profile.join("DevToolsActivePort")) {
            let mut lines = text.lines();
            if let (Some(port), Some(path)) = (lines.next(), lines.next()) {
                return Ok(format!("ws://127.0.0.1:{port}{path}"));
            }
        }
        if let Some(status) = child.try_wait()? {
            let log = std::fs::read_to_string(profile.join("stderr")).unwrap_or_default();
            bail!("Chromium ended at once ({status}):\n{log}");
        }
        tokio::time::sleep(POLL).await;
    }
    let log = std::fs::read_to_string(profile.join("stderr")).unwrap_or_default();
    bail!("Chromium did not open its DevTools port within {START_LIMIT:?}:\n{log}")
}

fn flag(name: &str, path: &Path) -> OsString {
    let mut flag = OsString::from(name);
    flag.push(path);
    flag
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// RFC 4648 base64, in which pictures come.
pub fn base64(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => bail!("not base64"),
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Ok(bytes)
}
