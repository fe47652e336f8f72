//! Tabs with a page of the tutorial's shape, or with a tutorial's own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::chromium::{Chromium, Options, Tab};
use super::clip::Media;
use super::npm::packages;
use super::process::Server;

/// From the moment both cameras are there, on a machine with two busy cores.
pub const UP: Duration = Duration::from_secs(30);

/// The versions of socket.io-client the page is tried with; the first is the server's own.
pub const CLIENTS: [&str; 3] = ["1.7", "2.5", "4.8"];

/// A server whose page is the tutorial's, and a browser.
pub struct Stage {
    pub server: Server,
    pub chromium: Chromium,
    page: Page,
    _media: Media,
    _folder: tempfile::TempDir,
}

/// Which page.
enum Page {
    /// Ours, in `tests/tutorial`.
    OfItsShape,
    /// One that is used as it is: it knows nothing of our parameters.
    Unmodified,
}

impl Stage {
    /// With our page of the tutorial's shape.
    pub async fn set() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("visavis-page-").tempdir()?;
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tutorial");
        for file in ["index.html", "page.js"] {
            std::fs::copy(ours.join(file), folder.path().join(file))?;
        }
        std::fs::create_dir(folder.path().join("clients"))?;
        for client in CLIENTS {
            let to = folder.path().join(format!("clients/{client}.js"));
            std::fs::copy(client_script(client), to)?;
        }
        let page = folder.path().to_owned();
        Self::with(&page, Page::OfItsShape, folder).await
    }

    /// With a tutorial's own folder, in `VISAVIS_TUTORIAL`; nothing without it.
    pub async fn of_the_tutorial() -> Result<Option<Self>> {
        let Some(path) = std::env::var_os("VISAVIS_TUTORIAL") else {
            return Ok(None);
        };
        let folder = tempfile::Builder::new().prefix("visavis-page-").tempdir()?;
        Self::with(Path::new(&path), Page::Unmodified, folder).await.map(Some)
    }

    async fn with(path: &Path, page: Page, folder: tempfile::TempDir) -> Result<Self> {
        let media = Media::generate()?;
        let camera = media.camera();
        // What the tutorial's page loads from elsewhere is not to be waited for.
        let flags =
            ["--host-resolver-rules=MAP *.github.io ~NOTFOUND, MAP *.appspot.com ~NOTFOUND"];
        let options = Options { camera: Some(&camera), flags: &flags, ..Options::default() };
        let chromium = Chromium::start(options).await?;
        let server = Server::with_page(path).await?;
        Ok(Self { server, chromium, page, _media: media, _folder: folder })
    }

    /// A tab in `room` with a socket.io-client of this version, and a camera that takes its time.
    pub async fn tab(&self, room: &str, client: &str, delay: Duration) -> Result<Tab> {
        let delay = delay.as_millis();
        let url = &self.server.url;
        match self.page {
            Page::OfItsShape => {
                // The first one is the server's own.
                let client = if client == CLIENTS[0] { "" } else { client };
                let url = format!("{url}/?room={room}&client={client}&delay={delay}");
                self.chromium.open(&url).await
            }
            Page::Unmodified => {
                ensure!(room == "foo", "the tutorial knows one room only");
                self.chromium.open_with(&unmodified(client, delay)?, &format!("{url}/")).await
            }
        }
    }
}

/// What runs before a page that is not to be touched: another client that stays when the page loads
/// the server's, a camera that takes its time, and no questions that stop the page.
fn unmodified(client: &str, delay: u128) -> Result<String> {
    let mut script = format!(
        "window.alert = (words) => console.log('alert: ' + words);
         if (navigator.mediaDevices) {{
           const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
           navigator.mediaDevices.getUserMedia = (wanted) =>
             new Promise((done) => setTimeout(done, {delay})).then(() => ask(wanted));
         }}\n"
    );
    if client != CLIENTS[0] {
        script += &std::fs::read_to_string(client_script(client))?;
        script += "\nObject.defineProperty(window, 'io', {value: window.io, writable: false});\n";
    }
    Ok(script)
}

fn client_script(client: &str) -> PathBuf {
    let folder = packages().join(format!("node_modules/socket.io-client-{client}/dist"));
    let minified = folder.join("socket.io.min.js");
    if minified.exists() { minified } else { folder.join("socket.io.js") }
}

impl Tab {
    /// Waits until the tab's remote picture moves, shows numbers, and decodes on.
    pub async fn tutorial_sees(&self, limit: Duration) -> Result<()> {
        self.sees_movement(limit).await?;
        let decoded =
            "document.getElementById('remoteVideo').getVideoPlaybackQuality().totalVideoFrames";
        let before = self.eval(decoded).await?.as_u64().unwrap_or_default();
        self.until("decoded pictures", &format!("{decoded} > {before} + 10"), limit).await?;
        Ok(())
    }

    /// How often each event was heard by our page.
    pub async fn heard(&self, event: &str) -> Result<usize> {
        let expression = format!("seen.events.filter(([event]) => event === '{event}').length");
        let count = self.eval(&expression).await?;
        Ok(count.as_u64().map_or(0, |count| count as usize))
    }

    /// How often our page began a connection.
    pub async fn starts(&self) -> Result<Value> {
        self.eval("seen.starts").await
    }
}
