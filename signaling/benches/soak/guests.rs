//! Guests: some as the app is, with its client, some bare ones that vanish without a word.

use std::{cell::Cell, rc::Rc, time::Duration};

use anyhow::Result;
use rand::Rng;
use serde_json::json;
use tokio::time::{Instant, interval, sleep, sleep_until};
use visavis_signaling::{
    Client, ClientOptions, ClientUpdate, RoomName, ServerUrl, Trust, protocol::ServerEvent,
};

use crate::{
    cable::Cable,
    rig::wire::{Dialect, Wire},
    tally::{Tally, count},
};

/// How long a guest stays in a room, at most and at least, in seconds.
const STAY: std::ops::Range<f64> = 0.5..20.0;

/// Between two messages of a guest, in milliseconds.
const TALK: std::ops::Range<u64> = 40..500;

pub fn room(number: usize) -> String {
    format!("soak-{number}")
}

/// What guests share.
pub struct Party {
    pub cable: Cable,
    pub rooms: usize,
    pub tally: Tally,
    pub over: Cell<bool>,
}

impl Party {
    fn any_room(&self) -> String {
        room(rand::rng().random_range(0..self.rooms))
    }

    fn message(&self, room: &str) -> serde_json::Value {
        count(&self.tally.sent);
        let length = match rand::rng().random_range(0..8) {
            0 => rand::rng().random_range(2_000..4_000),
            _ => 100,
        };
        json!({"type": "soak", "room": room, "text": "x".repeat(length)})
    }

    fn hear(&self, said_in: Option<&str>, room: &str) {
        count(&self.tally.heard);
        if said_in != Some(room) {
            count(&self.tally.strays);
        }
    }
}

fn between(range: std::ops::Range<f64>) -> Duration {
    Duration::from_secs_f64(rand::rng().random_range(range))
}

/// Comes and goes as the app does, until the party is over.
pub async fn app(party: Rc<Party>) -> Result<()> {
    let server = ServerUrl::from(party.cable.address);
    while !party.over.get() {
        let name = party.any_room();
        app_stays(&party, server.clone(), &name).await?;
        sleep(between(0.0..1.0)).await;
    }
    Ok(())
}

async fn app_stays(party: &Party, server: ServerUrl, name: &str) -> Result<()> {
    let tally = &party.tally;
    let options = ClientOptions {
        server,
        room: name.parse::<RoomName>()?,
        give_up_after: None,
        trust: Trust::default(),
        access_token: None,
        greeting: vec![],
    };
    let (handle, mut updates) = Client::start(options);
    count(&tally.stays);
    let leave_at = Instant::now() + between(STAY);
    let mut talk = interval(Duration::from_millis(rand::rng().random_range(TALK)));
    let (mut alone, mut seated) = (true, false);
    while !party.over.get() {
        tokio::select! {
            update = updates.recv() => match update {
                Some(ClientUpdate::Event(event)) => match event {
                    ServerEvent::Created { .. } => {
                        alone = true;
                        if !seated {
                            count(&tally.seats);
                        }
                        seated = true;
                    }
                    ServerEvent::Joined { .. } => {
                        (alone, seated) = (false, true);
                        count(&tally.seats);
                    }
                    ServerEvent::Join { .. } => alone = false,
                    ServerEvent::Resumed { peer, .. } => {
                        alone = peer.is_none();
                        count(&tally.resumed);
                    }
                    ServerEvent::Message { message, .. } => {
                        let message = message.to_value().unwrap_or_default();
                        party.hear(message["room"].as_str(), name);
                    }
                    ServerEvent::Full { .. } => {
                        count(&tally.full);
                        break;
                    }
                    ServerEvent::Error { code, message } => {
                        // To speak as the other one leaves is no wrong.
                        eprintln!("error: {code:?}: {message}");
                        count(&tally.errors);
                    }
                    _ => {}
                },
                // Too much may wait to be sent: silent until the seat is back.
                Some(ClientUpdate::Lost { .. }) => alone = true,
                Some(ClientUpdate::Refused { .. }) | None => break,
                Some(_) => {}
            },
            _ = talk.tick(), if !alone => {
                // A full queue is one of a connection just cut.
                let _ = handle.send(party.message(name));
            }
            () = sleep_until(leave_at) => break,
        }
    }
    if rand::rng().random_bool(0.8) {
        handle.close().await;
    }
    count(&tally.closed);
    Ok(())
}

/// Comes, talks, and vanishes without a goodbye, until the party is over.
pub async fn bare(party: Rc<Party>) -> Result<()> {
    while !party.over.get() {
        let name = party.any_room();
        // Cut, or no server there just now: part of the game.
        let _ = bare_stays(&party, &name).await;
        sleep(between(0.0..1.0)).await;
    }
    Ok(())
}

async fn bare_stays(party: &Party, name: &str) -> Result<()> {
    let tally = &party.tally;
    let wire = Wire::open(party.cable.address, None, Dialect::Plain).await?;
    wire.send(Dialect::Plain.join(name).as_bytes())?;
    count(&tally.stays);
    let leave_at = Instant::now() + between(STAY);
    let mut talk = interval(Duration::from_millis(rand::rng().random_range(TALK)));
    let (mut alone, mut full) = (true, false);
    while !party.over.get() && !full {
        let mut on = |text: &[u8]| {
            let event: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
            match event["type"].as_str() {
                Some("created") => alone = true,
                Some("join" | "joined") => alone = false,
                Some("full") => full = true,
                Some("message") => party.hear(event["message"]["room"].as_str(), name),
                Some("error") => {
                    eprintln!("error: {event}");
                    count(&tally.errors);
                }
                _ => {}
            }
        };
        let speak = tokio::select! {
            read = wire.read(&mut on) => {
                read?;
                false
            }
            _ = talk.tick() => true,
            () = sleep_until(leave_at) => break,
        };
        if speak && !alone {
            wire.send(Dialect::Plain.message(&party.message(name).to_string()).as_bytes())?;
        } else {
            wire.flush()?;
        }
    }
    if full {
        count(&tally.full);
    }
    count(&tally.vanished);
    Ok(())
}
