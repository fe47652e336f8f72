//! A virtual display, and the moment something is first drawn on it.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub const WIDTH: usize = 1280;
pub const HEIGHT: usize = 760;

/// An X server without a screen; ended on drop.
pub struct Display {
    server: Child,
    name: String,
    screen: PathBuf,
    _folder: tempfile::TempDir,
}

impl Display {
    pub async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-noreset", "-nolisten", "tcp", "-screen"])
            .args(["0", &format!("{WIDTH}x{HEIGHT}x24"), "-fbdir"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("no Xvfb: apt-get install xvfb")?;
        let out = server.stdout.take().context("no stdout")?;
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(Duration::from_secs(20), line).await???;
        Ok(Self {
            server,
            name: format!(":{}", line.trim()),
            screen: folder.path().join("Xvfb_screen0"),
            _folder: folder,
        })
    }

    /// For `DISPLAY`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// How long from now until a picture with more than one colour across its middle stands on the screen.
    pub async fn first_frame(&self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < limit {
            let row = self.row(HEIGHT / 2)?;
            let (pixels, _) = row.as_chunks::<4>();
            if pixels.iter().any(|pixel| Some(pixel) != pixels.first()) {
                return Ok(begun.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("nothing was drawn within {limit:?}")
    }

    /// A row of the screen, four bytes a pixel: the file is an XWD dump whose pixels come last.
    fn row(&self, row: usize) -> Result<Vec<u8>> {
        let mut file = std::fs::File::open(&self.screen)?;
        let mut bytes = vec![0; WIDTH * 4];
        let from_end = (HEIGHT - row) * WIDTH * 4;
        file.seek(SeekFrom::End(-(from_end as i64)))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // Already dead is as good.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
