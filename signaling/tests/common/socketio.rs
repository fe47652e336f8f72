//! Bare Socket.IO clients: Engine.IO's frames over WebSocket and over polling, written by hand.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config, tungstenite::Message,
};

use super::{LIMIT, Running};

/// A Socket.IO client over WebSocket.
pub struct Guest {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Guest {
    /// Speaks Engine.IO 3, as clients before 3.0 do, or 4.
    pub async fn connect(address: SocketAddr, engine: u8) -> Self {
        let mut guest = Self::open(address, engine).await;
        if engine == 4 {
            guest.text("40").await;
        }
        let connected = guest.packet().await.expect("connected");
        assert!(connected.starts_with("40"), "{connected}");
        guest
    }

    /// The session alone: with Engine.IO 4, nobody is connected yet.
    pub async fn open(address: SocketAddr, engine: u8) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO={engine}&transport=websocket");
        // Small frames at once, as browsers do.
        let (socket, _) = connect_async_with_config(url, None, true).await.unwrap();
        let mut guest = Self { socket };
        let open = guest.packet().await.expect("the session's data");
        assert!(open.starts_with("0{"), "{open}");
        guest
    }

    pub async fn raw(&mut self, message: Message) {
        timeout(LIMIT, self.socket.send(message)).await.unwrap().unwrap();
    }

    pub async fn text(&mut self, text: &str) {
        self.raw(Message::Text(text.into())).await;
    }

    /// `list` is the event's name and its arguments.
    pub async fn emit(&mut self, list: Value) {
        self.text(&format!("42{list}")).await;
    }

    pub async fn join(&mut self, room: &str) {
        self.emit(json!(["create or join", room])).await;
    }

    pub async fn message(&mut self, message: Value) {
        self.emit(json!(["message", message])).await;
    }

    /// The next packet; nothing once the connection is closed.
    pub async fn packet(&mut self) -> Option<String> {
        let packet = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                        self.socket.send(Message::Text("3".into())).await.ok()?;
                    }
                    Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(_)) => {}
                }
            }
        };
        timeout(LIMIT, packet).await.expect("a packet in time")
    }

    /// The next event; nothing once the server has said goodbye.
    pub async fn event(&mut self) -> Option<Value> {
        let packet = self.packet().await?;
        if packet == "41" || packet == "1" {
            return None;
        }
        let list = packet.strip_prefix("42").unwrap_or_else(|| panic!("no event: {packet}"));
        Some(serde_json::from_str(list).unwrap())
    }

    pub async fn expect(&mut self, name: &str) -> Value {
        let event = self.event().await.unwrap_or_else(|| panic!("the end, not {name}"));
        assert_eq!(event[0], name, "{event}");
        event
    }

    pub async fn expect_message(&mut self, message: Value) {
        assert_eq!(self.expect("message").await, json!(["message", message]));
    }

    /// A `log` in the tutorial's shape that contains `words`.
    pub async fn expect_log(&mut self, words: &str) {
        let log = self.expect("log").await;
        assert_eq!(log.as_array().unwrap().len(), 2, "{log}");
        assert_eq!(log[1][0], "Message from server:", "{log}");
        assert!(log[1][1].as_str().unwrap().contains(words), "{log} lacks {words:?}");
    }

    /// Nothing was said to this client before the answer to something meaningless.
    pub async fn expect_nothing(&mut self) {
        self.emit(json!(["what?"])).await;
        self.expect_log("There is no event “what?”").await;
    }

    /// The connection is closed, whatever comes before.
    pub async fn expect_end(&mut self) {
        while self.packet().await.is_some() {}
    }
}

impl Running {
    /// Waits until so many connections are open and no more.
    pub async fn until_connections(&self, count: usize) {
        let counted = async {
            while self.handle.counts().connections != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let counts = || format!("{count} connections, but {:?}", self.handle.counts());
        timeout(LIMIT, counted).await.unwrap_or_else(|_| panic!("{}", counts()));
    }

    pub async fn guest_of(&self, engine: u8) -> Guest {
        Guest::connect(self.address, engine).await
    }

    /// A Socket.IO client that has entered `room`.
    pub async fn seated(&self, room: &str) -> Guest {
        let mut guest = self.guest_of(4).await;
        guest.join(room).await;
        let event = guest.event().await.unwrap();
        assert!(event[0] == "created" || event[0] == "joined", "{event}");
        guest
    }

    /// Two Socket.IO clients in `room`, past `ready`.
    pub async fn couple(&self, room: &str) -> (Guest, Guest) {
        let mut first = self.seated(room).await;
        let mut second = self.seated(room).await;
        first.expect("join").await;
        first.expect("ready").await;
        second.expect("ready").await;
        (first, second)
    }
}

/// A Socket.IO client over long polling, Engine.IO 4.
pub struct Poller {
    address: SocketAddr,
    sid: String,
    packets: Vec<String>,
}

impl Poller {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut poller = Self { address, sid: String::new(), packets: Vec::new() };
        let open = poller.get().await;
        let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        poller.sid = format!("&sid={}", open["sid"].as_str().unwrap());
        poller.post("40").await;
        let connected = poller.packet().await;
        assert!(connected.starts_with("40"), "{connected}");
        poller
    }

    fn path(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling{}", self.sid)
    }

    pub async fn get(&self) -> String {
        let request = format!("GET {} HTTP/1.0\r\n\r\n", self.path());
        body(&exchange(self.address, request.as_bytes()).await).to_owned()
    }

    /// Posts a payload and gives the whole answer.
    pub async fn post(&self, payload: &str) -> String {
        let head = format!(
            "POST {} HTTP/1.0\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            self.path(),
            payload.len()
        );
        exchange(self.address, (head + payload).as_bytes()).await
    }

    /// Posts half a payload and waits for what the server makes of it.
    pub async fn post_half(&self) -> String {
        let head = format!("POST {} HTTP/1.0\r\nContent-Length: 1000\r\n\r\n42[", self.path());
        exchange(self.address, head.as_bytes()).await
    }

    pub async fn emit(&self, list: Value) {
        let answer = self.post(&format!("42{list}")).await;
        assert_eq!(body(&answer), "ok", "{answer}");
    }

    pub async fn packet(&mut self) -> String {
        loop {
            while self.packets.is_empty() {
                let payload = self.get().await;
                self.packets = payload.split('\u{1e}').rev().map(str::to_owned).collect();
            }
            match self.packets.pop() {
                Some(ping) if ping == "2" => {
                    self.post("3").await;
                }
                Some(packet) => return packet,
                None => {}
            }
        }
    }

    pub async fn expect(&mut self, name: &str) -> Value {
        let packet = self.packet().await;
        let list = packet.strip_prefix("42").unwrap_or_else(|| panic!("{packet}, not {name}"));
        let event: Value = serde_json::from_str(list).unwrap();
        assert_eq!(event[0], name, "{event}");
        event
    }
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A server that has said all it has to say may end by a reset.
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or(answer, |(_, body)| body)
}
