//! A client that costs little: WebSocket (RFC 6455) on a bare TCP stream, and on it either JSON
//! as our `/ws` has it or Socket.IO (Engine.IO 4). Single-threaded.

use std::{
    cell::{Cell, RefCell},
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// Opening, or joining, takes no longer.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// Any key serves (RFC 6455, section 10.3 is about browsers); a fixed one lets frames be prepared.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x3c, 0xa5];

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// JSON at `/ws`.
    Plain,
    /// Socket.IO over WebSocket only.
    SocketIo,
}

impl Dialect {
    fn path(self) -> &'static str {
        match self {
            Self::Plain => "/ws",
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket",
        }
    }

    pub fn join(self, room: &str) -> String {
        match self {
            Self::Plain => format!(r#"{{"type":"create or join","room":"{room}"}}"#),
            Self::SocketIo => format!(r#"42["create or join","{room}"]"#),
        }
    }

    /// `message` is JSON.
    pub fn message(self, message: &str) -> String {
        match self {
            Self::Plain => format!(r#"{{"type":"message","message":{message}}}"#),
            Self::SocketIo => format!(r#"42["message",{message}]"#),
        }
    }

    /// Whether `text` is the event `name`.
    pub fn is(self, text: &[u8], name: &str) -> bool {
        let pattern = match self {
            Self::Plain => format!(r#""type":"{name}""#),
            Self::SocketIo => format!(r#"42["{name}""#),
        };
        text.windows(pattern.len()).any(|window| window == pattern.as_bytes())
    }
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
    pub dialect: Dialect,
    /// Read, but not a whole frame yet.
    rest: RefCell<Vec<u8>>,
    /// Framed, but not taken by the system yet.
    unsent: RefCell<Vec<u8>>,
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

impl Wire {
    /// Connects, from the address `from` if one is given, and makes the handshakes.
    pub async fn open(to: SocketAddr, from: Option<IpAddr>, dialect: Dialect) -> Result<Self> {
        timeout(STEP_LIMIT, Self::open_unlimited(to, from, dialect))
            .await
            .context("no handshake in time")?
    }

    async fn open_unlimited(
        to: SocketAddr,
        from: Option<IpAddr>,
        dialect: Dialect,
    ) -> Result<Self> {
        let stream = connect(to, from).await?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {to}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            dialect.path()
        );
        let wire = Self {
            stream,
            dialect,
            rest: RefCell::default(),
            unsent: RefCell::new(request.into_bytes()),
        };
        wire.flush()?;
        let mut head = Vec::new();
        let end = loop {
            wire.stream.readable().await?;
            let mut part = [0; 1024];
            match wire.stream.try_read(&mut part) {
                Ok(0) => bail!("closed during the handshake"),
                Ok(read) => head.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let status = String::from_utf8_lossy(&head[..end.min(12)]).into_owned();
        ensure!(status.ends_with(" 101"), "refused: {status}");
        wire.rest.borrow_mut().extend_from_slice(&head[end..]);
        if dialect == Dialect::SocketIo {
            wire.wait_for(|text| text.starts_with(b"0{")).await?;
            wire.send(b"40")?;
            wire.wait_for(|text| text.starts_with(b"40{")).await?;
        }
        Ok(wire)
    }

    /// Takes a seat: whether it is the first one.
    pub async fn join(&self, room: &str) -> Result<bool> {
        self.send(self.dialect.join(room).as_bytes())?;
        let first = Cell::new(false);
        let joined = self.wait_for(|text| {
            first.set(self.dialect.is(text, "created"));
            first.get() || self.dialect.is(text, "joined")
        });
        timeout(STEP_LIMIT, joined).await.context("no seat in time")??;
        Ok(first.get())
    }

    /// Reads until `wanted` says that a text frame is the one.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let mut found = false;
        // What came with the handshake's answer counts too.
        self.parse(&[], &mut |text| found |= wanted(text))?;
        while !found {
            self.read(&mut |text| found |= wanted(text)).await?;
        }
        Ok(())
    }

    /// Sends one text frame, or keeps what the system does not take for [`Self::flush`].
    pub fn send(&self, text: &[u8]) -> io::Result<()> {
        self.frame(1, text);
        self.flush()
    }

    /// Bytes as they are.
    pub fn send_raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.borrow_mut().extend_from_slice(bytes);
        self.flush()
    }

    /// Whether everything was taken by the system.
    pub fn is_flushed(&self) -> bool {
        self.unsent.borrow().is_empty()
    }

    /// Hands what waits to the system, as much as it takes now.
    pub fn flush(&self) -> io::Result<()> {
        let mut unsent = self.unsent.borrow_mut();
        while !unsent.is_empty() {
            match self.stream.try_write(&unsent) {
                Ok(taken) => drop(unsent.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Until the system may take more.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    fn frame(&self, opcode: u8, payload: &[u8]) {
        let mut unsent = self.unsent.borrow_mut();
        unsent.push(0x80 | opcode);
        // The masks of lengths that fit their fields: payloads here are below 2^32.
        match payload.len() {
            length @ 0..=125 => unsent.push(0x80 | u8::try_from(length).unwrap_or(0)),
            length @ 126..=0xffff => {
                unsent.push(0x80 | 126);
                unsent.extend(u16::try_from(length).unwrap_or(0).to_be_bytes());
            }
            length => {
                unsent.push(0x80 | 127);
                unsent.extend((length as u64).to_be_bytes());
            }
        }
        unsent.extend(MASK);
        unsent.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// Waits for bytes and hands on the text frames among them; answers pings.
    pub async fn read(&self, on: &mut impl FnMut(&[u8])) -> Result<()> {
        loop {
            self.stream.readable().await?;
            let done = SCRATCH.with_borrow_mut(|scratch| match self.stream.try_read(scratch) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => self.parse(&scratch[..read], on).map(|()| true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error.into()),
            })?;
            if done {
                return Ok(());
            }
        }
    }

    fn parse(&self, bytes: &[u8], on: &mut impl FnMut(&[u8])) -> Result<()> {
        let mut rest = self.rest.take();
        if rest.is_empty() {
            let used = self.parse_whole(bytes, on)?;
            rest.extend_from_slice(&bytes[used..]);
        } else {
            rest.extend_from_slice(bytes);
            let used = self.parse_whole(&rest, on)?;
            rest.drain(..used);
        }
        // Thousands of these wait idly.
        if !rest.is_empty() {
            self.rest.replace(rest);
        }
        Ok(())
    }

    /// Takes whole frames off the front: how many bytes they had.
    fn parse_whole(&self, bytes: &[u8], on: &mut impl FnMut(&[u8])) -> Result<usize> {
        let mut at = 0;
        while let Some((opcode, from, to)) = frame_at(bytes, at) {
            let payload = &bytes[from..to];
            match opcode {
                1 if self.dialect == Dialect::SocketIo && payload == b"2" => self.send(b"3")?,
                1 => on(payload),
                8 => bail!("the server closed: {}", close_reason(payload)),
                9 => {
                    self.frame(10, payload);
                    self.flush()?;
                }
                _ => {}
            }
            at = to;
        }
        Ok(at)
    }
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let stream = match from {
        Some(from) => {
            let socket = TcpSocket::new_v4()?;
            socket.bind((from, 0).into())?;
            socket.connect(to).await?
        }
        None => TcpStream::connect(to).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opcode and payload of the frame at `at`, if it is all there. Servers do not mask.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let head = bytes.get(at..at + 2)?;
    let (from, length) = match head[1] & 0x7f {
        126 => (at + 4, u64::from(u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?))),
        127 => (at + 10, u64::from_be_bytes(bytes.get(at + 2..at + 10)?.try_into().ok()?)),
        length => (at + 2, u64::from(length)),
    };
    let to = from.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(from..to)?;
    Some((head[0] & 0x0f, from, to))
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "without a code".to_owned(),
    }
}
