//! What a test asks of a tab with our page: its state, whether the picture moves, whether it hears.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::SOON;
use super::chromium::{Chromium, Tab};

/// Enough different pictures that no frozen or flickering one passes.
const MOVING: usize = 12;
/// -60 dBFS: far above comfort noise, far below any sound we send.
const AUDIBLE: f64 = 0.001;

/// Opens the page in a room, past the lobby.
pub async fn join(chromium: &Chromium, server: &str, room: &str) -> Result<Tab> {
    chromium.open(&format!("{server}/room/{room}?join")).await
}

impl Tab {
    /// Waits until the page says it is in a state.
    pub async fn state(&self, state: &str, limit: Duration) -> Result<()> {
        let expression = format!("window.visavis?.state === '{state}'");
        self.until(&format!("state '{state}'"), &expression, limit).await?;
        Ok(())
    }

    /// Waits until the remote picture shows ever new numbers of the sender's strip, in order.
    pub async fn sees_movement(&self, limit: Duration) -> Result<Vec<u32>> {
        self.eval(include_str!("probe.js")).await?;
        let start = self.eval("Date.now()").await?;
        let expression = format!("probe.since({start}).length >= {MOVING} && probe.since({start})");
        let seen = self.until("moving picture with numbers", &expression, limit).await?;
        let numbers: Vec<u32> = serde_json::from_value(seen)?;
        // A looped clip begins again now and then; a picture that jumps about is none.
        let backwards = numbers.windows(2).filter(|pair| pair[1] < pair[0]).count();
        ensure!(backwards <= 1, "the pictures came out of order: {numbers:?}");
        Ok(numbers)
    }

    /// Waits until sound of the other end arrives that a person would hear.
    pub async fn hears_sound(&self, limit: Duration) -> Result<()> {
        let now = "visavis.stats().then(s => s.audioIn && s.audioIn.seconds > 0 && s.audioIn)";
        let before = self.until("sound that arrives", now, limit).await?;
        let (energy, seconds) = (number(&before, "energy")?, number(&before, "seconds")?);
        let expression = format!(
            "visavis.stats().then(({{audioIn: a}}) => a.seconds > {seconds} + 1 \
             && Math.sqrt((a.energy - {energy}) / (a.seconds - {seconds})) > {AUDIBLE})"
        );
        self.until("audible sound", &expression, limit).await?;
        Ok(())
    }

    /// Pictures and sound of the other end, both.
    pub async fn sees_and_hears(&self) -> Result<()> {
        self.sees_movement(SOON).await?;
        self.hears_sound(SOON).await
    }

    /// Presses a button of the page by its id.
    pub async fn click(&self, id: &str) -> Result<()> {
        let found = self
            .eval_by_hand(&format!(
                "(b => b && (b.click(), true))(document.getElementById('{id}'))"
            ))
            .await?;
        ensure!(found == Value::Bool(true), "the page has no #{id}");
        Ok(())
    }

    /// The words an element shows.
    pub async fn words(&self, id: &str) -> Result<String> {
        let words = self.eval(&format!("document.getElementById('{id}').innerText")).await?;
        Ok(words.as_str().with_context(|| format!("#{id} has no words"))?.to_owned())
    }
}

fn number(value: &Value, key: &str) -> Result<f64> {
    value.get(key).and_then(Value::as_f64).with_context(|| format!("no number '{key}' in {value}"))
}
