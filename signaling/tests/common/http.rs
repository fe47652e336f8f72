//! Requests written by hand, so that every header is ours.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::LIMIT;

/// The request that opens a WebSocket at `path`, with more headers.
pub fn handshake(path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += "Host: tea.example\r\n";
    }
    request + "\r\n"
}

pub struct Head {
    pub status: u16,
    pub text: String,
    /// Keeps the connection as long as this lives.
    pub stream: TcpStream,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.text.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// What follows the head, until the end.
    pub async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        timeout(LIMIT, self.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        String::from_utf8(rest).unwrap()
    }
}

/// Sends `bytes` and reads an answer's head.
pub async fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Head {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_ref()).await.unwrap();
    head(stream).await.expect("an answer")
}

/// Reads an answer's head, or finds the connection ended.
pub async fn head(mut stream: TcpStream) -> Option<Head> {
    let read = async {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(_) => return None,
            }
        }
        Some(String::from_utf8(bytes).unwrap())
    };
    let text = timeout(LIMIT, read).await.expect("an answer or an end in time")?;
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Head { status, text, stream })
}

/// Asks for `path` and reads the whole answer: its status and its body.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = format!("GET {path} HTTP/1.0\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {address}\r\n");
    }
    let head = send(address, request + "\r\n").await;
    (head.status, head.rest().await)
}
