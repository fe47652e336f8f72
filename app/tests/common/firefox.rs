//! Drives Debian's Firefox over WebDriver BiDi, its remote protocol: one browser with a fresh
//! profile, one tab.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::devtools::{Link, string};

const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A camera that delivers a picture and a microphone that sounds, without asking; no first-run
/// pages, and no calls home.
const SETTINGS: &str = r#"
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.autoplay.default", 0);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("app.update.disabledForTesting", true);
user_pref("browser.aboutwelcome.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("toolkit.telemetry.server", "");
user_pref("media.gmp-manager.url", "http://127.0.0.1:9/");
user_pref("services.settings.server", "http://127.0.0.1:9/");
"#;

/// A running browser; killed, and its profile removed, on drop.
pub struct Firefox {
    child: Child,
    link: Arc<Link>,
    _profile: TempDir,
}

/// Its tab.
pub struct Page {
    link: Arc<Link>,
    context: String,
}

impl Firefox {
    /// Starts the browser and connects to it.
    pub async fn start() -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("visavis-firefox-").tempdir()?;
        std::fs::write(profile.path().join("user.js"), SETTINGS)?;
        let log = std::fs::File::create(profile.path().join("stderr"))?;
        let mut command = Command::new(find()?);
        command
            .args(["--headless", "--no-remote", "--remote-debugging-port=0", "--profile"])
            .arg(profile.path())
            .arg("about:blank")
            // Its sandbox wants user namespaces, which not every machine has.
            .env("MOZ_DISABLE_CONTENT_SANDBOX", "1")
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().context("starting Firefox")?;
        let link = match connect(&mut child, profile.path()).await {
            Ok(link) => link,
            Err(error) => {
                // An already dead child cannot be killed; either way it is gone afterwards.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        Ok(Self { child, link, _profile: profile })
    }

    /// Opens a tab at `url` in which the function `script` is called before every page's own
    /// scripts.
    pub async fn open(&self, script: &str, url: &str) -> Result<Page> {
        let preload = json!({"functionDeclaration": script});
        self.link.command(None, "script.addPreloadScript", preload).await?;
        let created = json!({"type": "window"});
        let created = self.link.command(None, "browsingContext.create", created).await?;
        let page = Page { link: Arc::clone(&self.link), context: string(&created, "context")? };
        let target = json!({"context": page.context, "url": url, "wait": "complete"});
        page.link.command(None, "browsingContext.navigate", target).await?;
        Ok(page)
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // Its helper processes end with it. Already dead is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page {
    /// The value of an expression, promises awaited.
    pub async fn eval(&self, expression: &str) -> Result<Value> {
        let wrapped = format!(
            "Promise.resolve({expression}\n).then((value) => JSON.stringify(value) ?? 'null')"
        );
        let params = json!({
            "expression": wrapped,
            "target": {"context": self.context},
            "awaitPromise": true,
        });
        let answer = self.link.command(None, "script.evaluate", params).await?;
        if let Some(text) = answer.pointer("/exceptionDetails/text") {
            bail!("{expression}: {text}");
        }
        let value = answer.pointer("/result/value").and_then(Value::as_str);
        let value = value.with_context(|| format!("{expression}: {answer}"))?;
        Ok(serde_json::from_str(value)?)
    }

    /// Waits until `expression` is neither false nor null nor 0, and gives its value.
    pub async fn until(&self, what: &str, expression: &str, limit: Duration) -> Result<Value> {
        let end = Instant::now() + limit;
        let mut last = "nothing".to_owned();
        while Instant::now() < end {
            match self.eval(expression).await {
                Ok(value) if ![json!(false), json!(null), json!(0)].contains(&value) => {
                    return Ok(value);
                }
                Ok(value) => last = value.to_string(),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(POLL).await;
        }
        let state = self.eval("window.visavis && visavis.stats()").await;
        bail!("no {what} within {limit:?}: `{expression}` was last {last}\n  page: {state:?}")
    }

    /// Waits until the page says it is in a state.
    pub async fn state(&self, state: &str, limit: Duration) -> Result<()> {
        let expression = format!("window.visavis?.state === '{state}'");
        self.until(&format!("state '{state}'"), &expression, limit).await?;
        Ok(())
    }

    /// Waits until the remote picture has shown so many numbers of the sender's strip, in order.
    pub async fn sees_movement(&self, count: usize, limit: Duration) -> Result<Vec<u32>> {
        self.eval(include_str!("probe.js")).await?;
        let start = self.eval("Date.now()").await?;
        let expression = format!("probe.since({start}).length >= {count} && probe.since({start})");
        let seen = self.until("moving picture with numbers", &expression, limit).await?;
        let numbers: Vec<u32> = serde_json::from_value(seen)?;
        let backwards = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count();
        ensure!(backwards == 0, "the pictures came out of order: {numbers:?}");
        Ok(numbers)
    }
}

fn find() -> Result<PathBuf> {
    let names = ["firefox-esr", "firefox"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|candidate| candidate.is_file())
        .context("this test needs Firefox and found none in PATH: apt-get install firefox-esr")
}

/// Waits for the file in which Firefox writes its port, and begins a session.
async fn connect(child: &mut Child, profile: &Path) -> Result<Arc<Link>> {
    let end = Instant::now() + START_LIMIT;
    let log = || std::fs::read_to_string(profile.join("stderr")).unwrap_or_default();
    while Instant::now() < end {
        let text = std::fs::read_to_string(profile.join("WebDriverBiDiServer.json"));
        let port = text.ok().and_then(|text| {
            serde_json::from_str::<Value>(&text).ok()?.get("ws_port").and_then(Value::as_u64)
        });
        if let Some(port) = port {
            let address = format!("127.0.0.1:{port}");
            let stream = TcpStream::connect(&address).context("Firefox's own port")?;
            let link = Link::connect(&format!("ws://{address}/session"), stream).await?;
            link.command(None, "session.new", json!({"capabilities": {}})).await?;
            return Ok(link);
        }
        if let Some(status) = child.try_wait()? {
            bail!("Firefox ended at once ({status}):\n{}", log());
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("Firefox did not open its remote protocol within {START_LIMIT:?}:\n{}", log())
}
