//! The only user of the `redis` crate: leases, the common key, and the channels over which nodes
//! speak to each other. Every command has a time limit.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use super::{ClusterError, RedisUrl, lease::LeaseTimes, router::Owner, scripts, wire::NodeId};
use crate::protocol::RoomName;

/// For connecting and for each command.
const WITHIN: Duration = Duration::from_secs(2);

/// Between attempts to connect.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// Leases in one command; a script keeps Redis from everything else.
const LEASES_AT_ONCE: usize = 200;

/// Frames in one round trip.
const FRAMES_AT_ONCE: usize = 128;

/// No frame begins like it.
const BEAT: &[u8] = b"beat";

/// What is heard on a node's channel.
#[derive(Debug)]
pub(super) enum Heard {
    /// The channel works from now on, or no more.
    Up(bool),
    /// Another node's frame.
    Frame(Vec<u8>),
}

/// The leases and keys in Redis. Cheap to clone.
#[derive(Clone)]
pub(super) struct Store {
    client: Client,
    /// Replaced when the channel had to be, for a connection may be dead without knowing it.
    connection: Arc<Mutex<ConnectionManager>>,
    prefix: Arc<str>,
    scripts: Arc<Scripts>,
    /// A lease that ran out is remembered for so long: longer than seats are held.
    pub(super) remember: Duration,
}

struct Scripts {
    acquire: Script,
    renew: Script,
    release: Script,
    abandon: Script,
}

impl Store {
    /// Connects, and sees whether Redis answers.
    pub(super) async fn connect(url: &RedisUrl, prefix: &str) -> Result<Self, ClusterError> {
        let failed = |error: RedisError| ClusterError::Unreachable {
            server: url.server(),
            error: error.to_string(),
        };
        let client = Client::open(url.as_str()).map_err(failed)?;
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config());
        let connection = connection.map_err(failed)?;
        let scripts = Scripts {
            acquire: Script::new(scripts::ACQUIRE),
            renew: Script::new(scripts::RENEW),
            release: Script::new(scripts::RELEASE),
            abandon: Script::new(scripts::ABANDON),
        };
        let store = Self {
            client,
            connection: Arc::new(Mutex::new(connection)),
            prefix: prefix.into(),
            scripts: Arc::new(scripts),
            remember: Duration::from_secs(60),
        };
        let ping = async { redis::cmd("PING").query_async::<()>(&mut store.connection()).await };
        match timeout(2 * WITHIN, ping).await {
            Ok(result) => result.map_err(failed)?,
            Err(_) => {
                let error = format!("no answer within {} s", (2 * WITHIN).as_secs());
                return Err(ClusterError::Unreachable { server: url.server(), error });
            }
        }
        Ok(store)
    }

    fn connection(&self) -> ConnectionManager {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reconnect(&self) {
        if let Ok(fresh) = ConnectionManager::new_lazy_with_config(self.client.clone(), config()) {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    fn lease_key(&self, room: &RoomName) -> String {
        format!("{}:lease:{room}", self.prefix)
    }

    fn channel(&self, node: NodeId) -> String {
        format!("{}:node:{node}", self.prefix)
    }

    /// What everybody has under `name`: `value`, if nobody had anything yet.
    pub(super) async fn agree(&self, name: &str, value: &str) -> Result<String, RedisError> {
        let key = format!("{}:{name}", self.prefix);
        let mut connection = self.connection();
        let (agreed,) = redis::pipe()
            .cmd("SET")
            .arg(&key)
            .arg(value)
            .arg("NX")
            .ignore()
            .cmd("GET")
            .arg(&key)
            .query_async(&mut connection)
            .await?;
        Ok(agreed)
    }

    pub(super) async fn acquire(
        &self,
        room: &RoomName,
        node: NodeId,
        known: u64,
        times: LeaseTimes,
    ) -> Result<Owner, RedisError> {
        let answer: (String, u64, u8) = self
            .scripts
            .acquire
            .key(self.lease_key(room))
            .key(format!("{}:fence", self.prefix))
            .arg(node.to_string())
            .arg(known)
            .arg(millis(times.lifetime))
            .arg(millis(self.remember))
            .invoke_async(&mut self.connection())
            .await?;
        let (owner, fence, moved) = answer;
        let bad = || RedisError::from((redis::ErrorKind::Parse, "a lease is of no node"));
        let node = NodeId::parse(&owner).ok_or_else(bad)?;
        Ok(Owner { node, fence, moved: moved != 0 })
    }

    /// Which leases are still ours.
    pub(super) async fn renew(
        &self,
        leases: &[(RoomName, u64)],
        node: NodeId,
        times: LeaseTimes,
    ) -> Result<Vec<(RoomName, u64, bool)>, RedisError> {
        let mut renewed = Vec::with_capacity(leases.len());
        for chunk in leases.chunks(LEASES_AT_ONCE) {
            let mut call = self.scripts.renew.prepare_invoke();
            call.arg(node.to_string()).arg(millis(times.lifetime)).arg(millis(self.remember));
            for (room, fence) in chunk {
                call.key(self.lease_key(room)).arg(*fence);
            }
            let answers: Vec<u8> = call.invoke_async(&mut self.connection()).await?;
            let answers = chunk.iter().zip(answers);
            renewed.extend(answers.map(|((room, fence), ok)| (room.clone(), *fence, ok != 0)));
        }
        Ok(renewed)
    }

    pub(super) async fn release(
        &self,
        room: &RoomName,
        node: NodeId,
        fence: u64,
    ) -> Result<(), RedisError> {
        let mut call = self.scripts.release.prepare_invoke();
        call.key(self.lease_key(room)).arg(node.to_string()).arg(fence);
        call.invoke_async(&mut self.connection()).await
    }

    pub(super) async fn abandon(
        &self,
        leases: &[(RoomName, u64)],
        node: NodeId,
    ) -> Result<(), RedisError> {
        for chunk in leases.chunks(LEASES_AT_ONCE) {
            let mut call = self.scripts.abandon.prepare_invoke();
            call.arg(node.to_string()).arg(millis(self.remember));
            for (room, fence) in chunk {
                call.key(self.lease_key(room)).arg(*fence);
            }
            call.invoke_async::<()>(&mut self.connection()).await?;
        }
        Ok(())
    }

    /// Publishes frames in order, until there are no more to come. What cannot be published is
    /// dropped: the links send it again.
    pub(super) async fn publish(self, mut frames: mpsc::Receiver<(NodeId, Vec<u8>)>) {
        let mut batch = Vec::new();
        while frames.recv_many(&mut batch, FRAMES_AT_ONCE).await > 0 {
            let mut pipe = redis::pipe();
            for (to, frame) in batch.drain(..) {
                pipe.publish(self.channel(to), frame).ignore();
            }
            let mut connection = self.connection();
            let sent = timeout(WITHIN, pipe.query_async::<()>(&mut connection)).await;
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "frames were not published"),
                Err(_) => tracing::debug!("frames were not published in time"),
            }
        }
    }

    /// Hears the channel of `node`, for ever; connects anew whenever it does not work.
    /// `silence` is how long another node may be silent: that the channel is deaf is known in
    /// half of it, for then others' silence says nothing.
    pub(super) async fn listen(self, node: NodeId, silence: Duration, heard: mpsc::Sender<Heard>) {
        loop {
            if self.listen_once(node, silence, &heard).await.is_err() {
                return;
            }
            sleep(RECONNECT_AFTER).await;
            self.reconnect();
        }
    }

    /// Until the channel does not work; an error if nobody wants to hear any more.
    async fn listen_once(
        &self,
        node: NodeId,
        silence: Duration,
        heard: &mpsc::Sender<Heard>,
    ) -> Result<(), mpsc::error::SendError<Heard>> {
        let channel = self.channel(node);
        let subscribed = async {
            let mut pubsub = self.client.get_async_pubsub().await?;
            pubsub.subscribe(&channel).await?;
            Ok::<_, RedisError>(pubsub)
        };
        let mut messages = match timeout(WITHIN, subscribed).await {
            Ok(Ok(pubsub)) => pubsub.into_on_message(),
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot subscribe at Redis");
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        // A node writes to itself, to know that its channel works.
        let mut beats = interval(silence / 8);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_up, mut last) = (false, Instant::now());
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else {
                        break;
                    };
                    // Any of them shows that the channel works.
                    last = Instant::now();
                    if !is_up {
                        is_up = true;
                        heard.send(Heard::Up(true)).await?;
                    }
                    if message.get_payload_bytes() != BEAT {
                        let frame = message.get_payload_bytes().to_vec();
                        heard.send(Heard::Frame(frame)).await?;
                    }
                }
                _ = beats.tick() => {
                    if last.elapsed() > silence / 2 {
                        break;
                    }
                    let (mut connection, channel) = (self.connection(), channel.clone());
                    tokio::spawn(async move {
                        let mut beat = redis::cmd("PUBLISH");
                        beat.arg(channel).arg(BEAT);
                        // If it fails it is not heard, which is all that matters.
                        let _ = timeout(WITHIN, beat.query_async::<()>(&mut connection)).await;
                    });
                }
            }
        }
        if is_up {
            heard.send(Heard::Up(false)).await?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

fn config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(WITHIN))
        .set_response_timeout(Some(WITHIN))
        .set_number_of_retries(1)
        .set_max_delay(RECONNECT_AFTER)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
