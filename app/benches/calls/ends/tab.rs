//! A tab with our page in a Chromium of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::{ROOM, Stage, check_clock, now};
use crate::common::chromium::{self, Chromium, Options, base64};
use crate::common::netns::Host;
use crate::common::pulse::Pulse;
use crate::trace::{Counters, SAMPLE_EVERY, Sample, Trace};
use crate::usage::Usage;
use crate::xvfb::Display;

/// Beside what it holds, a page keeps this many seconds of samples before they are fetched.
const FETCH: Duration = Duration::from_secs(5);

pub struct Tab {
    tab: std::sync::Arc<chromium::Tab>,
    browser: Chromium,
    _display: Option<Display>,
    before: Option<Usage>,
    first: Option<Figures>,
    /// At the end of the measured time.
    after: Option<(Usage, Figures)>,
    samples: Vec<Sample>,
    pictures: Option<u32>,
    series: bool,
    fetching: Option<tokio::task::JoinHandle<Result<Vec<Sample>>>>,
    done: std::sync::Arc<tokio::sync::Notify>,
}

/// As `bench.counters` gives them.
#[derive(Clone, Deserialize)]
struct Figures {
    at: f64,
    video: f64,
    audio: f64,
    concealed: f64,
    samples: f64,
    freezes: f64,
    codec: String,
}

#[derive(Deserialize)]
struct Kept {
    at: f64,
    number: u32,
    numbers: Vec<u32>,
    width: usize,
    height: usize,
    luma: String,
}

impl Tab {
    pub async fn start(host: &Host, server: &str, stage: &Stage) -> Result<Self> {
        let options = Options {
            camera: Some(&stage.clip),
            microphone: Some(&stage.speech),
            ..Options::default()
        };
        Self::start_with(host, server, stage, options).await
    }

    /// Without a camera, with the devices of a sound server, and with a window: without one it plays nothing.
    pub async fn start_with_sound(
        host: &Host,
        server: &str,
        stage: &Stage,
        sound: &Pulse,
    ) -> Result<Self> {
        let display = Display::start().await?;
        let name = Some(display.name());
        let options = Options { sound: Some(sound), display: name, ..Options::default() };
        let tab = Self::start_with(host, server, stage, options).await?;
        Ok(Self { _display: Some(display), ..tab })
    }

    async fn start_with(
        host: &Host,
        server: &str,
        stage: &Stage,
        options: Options<'_>,
    ) -> Result<Self> {
        // Without TLS a page has no camera unless its origin is trusted by name.
        let trusted = format!("--unsafely-treat-insecure-origin-as-secure={server}");
        let browser = Chromium::start(Options {
            beside_others: true,
            host: Some(host),
            flags: &[&trusted],
            ..options
        })
        .await?;
        let page = format!("{server}/room/{ROOM}?join");
        let tab = browser.open_with(include_str!("../tab.js"), &page).await?;
        tab.until("the page", "!!window.visavis", crate::SOON).await?;
        Ok(Self {
            tab: tab.into(),
            browser,
            _display: None,
            before: None,
            first: None,
            after: None,
            samples: Vec::new(),
            pictures: stage.samples.then_some(stage.pictures),
            series: stage.series,
            fetching: None,
            done: std::sync::Arc::default(),
        })
    }

    pub async fn state(&self, state: &str, limit: Duration) -> Result<()> {
        self.tab.state(state, limit).await
    }

    pub async fn begin(&mut self) -> Result<()> {
        let asked = now();
        let there = self.tab.eval("performance.timeOrigin + performance.now()").await?;
        check_clock(there.as_f64().context("no clock")?, asked, now())?;
        if self.series {
            self.tab.eval("bench.everySecond(), 0").await?;
        }
        if let Some(pictures) = self.pictures {
            self.tab.eval(&format!("bench.sample({SAMPLE_EVERY}, {pictures}), 0")).await?;
            self.fetch();
        }
        self.before = Some(Usage::of_tree(self.browser.pid())?);
        self.first = Some(self.counters().await?);
        Ok(())
    }

    /// Takes samples out of the page now and then, so that its memory stays what it is without them.
    fn fetch(&mut self) {
        let (tab, done) = (std::sync::Arc::clone(&self.tab), std::sync::Arc::clone(&self.done));
        self.fetching = Some(tokio::spawn(async move {
            let mut samples = Vec::new();
            loop {
                let over = tokio::time::timeout(FETCH, done.notified()).await.is_ok();
                samples.extend(read(tab.eval("bench.take()").await?)?);
                if over {
                    samples.extend(read(tab.eval("bench.onShow()").await?)?);
                    return Ok(samples);
                }
            }
        }));
    }

    async fn counters(&self) -> Result<Figures> {
        Ok(serde_json::from_value(self.tab.eval("bench.counters()").await?)?)
    }

    pub async fn describe(&self) -> String {
        self.tab.failure("the tab").await.to_string()
    }

    pub async fn over(&mut self) -> Result<()> {
        let usage = Usage::of_tree(self.browser.pid())?;
        self.after = Some((usage, self.counters().await?));
        if let Some(fetching) = self.fetching.take() {
            self.done.notify_one();
            self.samples = fetching.await??;
        }
        Ok(())
    }

    pub async fn end(mut self) -> Result<Trace> {
        let (usage, last) = self.after.take().context("never over")?;
        let mut trace = Trace {
            cpu_cores: self.before.as_ref().map_or(0.0, |before| usage.cores_since(before)),
            pss_mib: usage.pss_mib,
            codec: last.codec.clone(),
            samples: std::mem::take(&mut self.samples),
            ..Trace::default()
        };
        let series: Vec<Figures> = serde_json::from_value(self.tab.eval("bench.series").await?)?;
        let first = self.first.take().context("never begun")?;
        trace.own_freezes = Some(last.freezes - first.freezes);
        let all = [first].into_iter().chain(series).chain([last]);
        trace.counters = all.map(|figures| counters(&figures)).collect();
        let captured: Vec<(f64, u32)> =
            serde_json::from_value(self.tab.eval("bench.captured").await?)?;
        trace.captured = captured.into_iter().map(|(at, number)| (us(at), number)).collect();
        let shown: Vec<(f64, Option<u32>, u32, u32)> =
            serde_json::from_value(self.tab.eval("bench.shown").await?)?;
        for (at, number, width, height) in shown {
            trace.shown.push((us(at), number));
            trace.sizes.push((us(at), width, height));
        }
        let since_ready = async |mark: &str| {
            let ms =
                self.tab.eval(&format!("bench.{mark} && bench.{mark} - bench.readyAt")).await?;
            anyhow::Ok(ms.as_f64())
        };
        trace.connect_ms = since_ready("connectedAt").await?;
        trace.first_frame_ms = since_ready("firstAt").await?;
        Ok(trace)
    }
}

fn us(ms: f64) -> u64 {
    (ms * 1000.0) as u64
}

fn counters(figures: &Figures) -> Counters {
    /// Of decoded sound, which Chromium counts in samples.
    const RATE: f64 = 48_000.0;
    Counters {
        at: us(figures.at),
        video: figures.video,
        audio: figures.audio,
        concealed: figures.concealed / RATE,
        played: figures.samples / RATE,
    }
}

fn read(kept: Value) -> Result<Vec<Sample>> {
    let kept: Vec<Kept> = serde_json::from_value(kept)?;
    kept.into_iter()
        .map(|kept| {
            Ok(Sample {
                at: us(kept.at),
                shown: kept.number,
                stands_for: kept.numbers,
                width: kept.width,
                height: kept.height,
                luma: base64(&kept.luma)?,
            })
        })
        .collect()
}
