//! The DevTools protocol over its WebSocket: commands and answers, and what pages say to the console.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// The connection to the browser: commands out, answers to whoever waits, the console kept.
pub struct Link {
    commands: mpsc::UnboundedSender<String>,
    next_id: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    console: Mutex<HashMap<String, Vec<String>>>,
}

impl Link {
    /// Over a connection to the host and port of `url`.
    pub async fn connect(url: &str, stream: TcpStream) -> Result<Arc<Self>> {
        // Screenshots come as one message of several MiB.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let (socket, _) =
            tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await?;
        let (mut sink, mut stream) = socket.split();
        let (commands, mut outgoing) = mpsc::unbounded_channel::<String>();
        let link = Arc::new(Self {
            commands,
            next_id: AtomicU64::new(1),
            waiting: Mutex::default(),
            console: Mutex::default(),
        });
        let reader = Arc::downgrade(&link);
        tokio::spawn(async move {
            while let Some(command) = outgoing.recv().await {
                if sink.send(Message::text(command)).await.is_err() {
                    break;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Some(link) = reader.upgrade() else { return };
                if let Message::Text(text) = message {
                    link.take(&text);
                }
            }
            // Nobody answers any more: whoever waits learns it by the dropped senders.
            if let Some(link) = reader.upgrade() {
                lock(&link.waiting).clear();
            }
        });
        Ok(link)
    }

    /// Sends a command to a tab's session, or to the browser itself, and waits for the result.
    pub async fn command(
        &self,
        session: Option<&str>,
        method: &str,
        params: Value,
    ) -> Result<Value> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        self.commands
            .send(command.to_string())
            .map_err(|_| anyhow!("{method}: Chromium is gone"))?;
        let mut answer = tokio::time::timeout(COMMAND_LIMIT, answer)
            .await
            .with_context(|| format!("{method}: no answer within {COMMAND_LIMIT:?}"))?
            .with_context(|| format!("{method}: Chromium is gone"))?;
        match answer.get("error") {
            Some(error) => bail!("{method}: {error}"),
            None => Ok(answer.get_mut("result").map_or(Value::Null, Value::take)),
        }
    }

    /// What the page of a session said to its console, errors included.
    pub fn console(&self, session: &str) -> String {
        lock(&self.console).get(session).map(|lines| lines.join("\n    ")).unwrap_or_default()
    }

    fn take(&self, text: &str) {
        let Ok(message) = serde_json::from_str::<Value>(text) else {
            return;
        };
        if let Some(id) = message.get("id").and_then(Value::as_u64) {
            if let Some(sender) = lock(&self.waiting).remove(&id) {
                // Whoever asked may have stopped waiting.
                let _ = sender.send(message);
            }
            return;
        }
        let session = message.get("sessionId").and_then(Value::as_str).unwrap_or_default();
        if let Some(line) = console_line(&message) {
            lock(&self.console).entry(session.to_owned()).or_default().push(line);
        }
    }
}

/// A line for the report from one of the three events that carry what a page says.
fn console_line(message: &Value) -> Option<String> {
    let params = message.get("params")?;
    match message.get("method")?.as_str()? {
        "Runtime.consoleAPICalled" => {
            let words = params.get("args")?.as_array()?.iter().map(|arg| {
                let said =
                    arg.get("value").or_else(|| arg.get("description")).unwrap_or(&Value::Null);
                said.as_str().map_or_else(|| said.to_string(), str::to_owned)
            });
            Some(words.collect::<Vec<_>>().join(" "))
        }
        "Runtime.exceptionThrown" => {
            Some(params.pointer("/exceptionDetails/exception/description")?.to_string())
        }
        "Log.entryAdded" => Some(params.pointer("/entry/text")?.to_string()),
        _ => None,
    }
}

/// A field of an answer that must be there.
pub fn string(value: &Value, key: &str) -> Result<String> {
    let found = value.get(key).and_then(Value::as_str);
    Ok(found.with_context(|| format!("Chromium's answer has no {key}: {value}"))?.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
