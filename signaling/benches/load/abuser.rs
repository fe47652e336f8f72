//! The abusers, each a process of its own.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use anyhow::Result;
use clap::ValueEnum;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, yield_now},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::rig::wire::{Dialect, Wire};

/// Many: connections, or rooms.
const MANY: usize = 5_000;

/// Loops that keep the server busy at the same time.
const AT_ONCE: usize = 50;

/// Where abusers come from: limits an address must not hit the pair, on 127.0.0.1.
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Silent,
    Slow,
    Deaf,
    Flood,
    Connections,
    Rooms,
    Origins,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Deaf => "deaf",
            Self::Flood => "flood",
            Self::Connections => "connections",
            Self::Rooms => "rooms",
            Self::Origins => "origins",
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Silent => "500 connect and say nothing",
            Self::Slow => "500 send a byte a second",
            Self::Deaf => "50 pairs of which one end never reads, the other talks",
            Self::Flood => "50 pairs flood",
            Self::Connections => "opens 5,000 connections",
            Self::Rooms => "joins 5,000 rooms, over and over",
            Self::Origins => "a storm of upgrades with a foreign Origin",
        }
    }
}

/// What became of the abuse.
#[derive(Default)]
struct Tally(RefCell<BTreeMap<String, usize>>);

impl Tally {
    fn count(&self, what: impl Into<String>) {
        *self.0.borrow_mut().entry(what.into()).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.borrow();
        let mut counts: Vec<_> = counts.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words: Vec<_> =
            counts.iter().take(4).map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&words.join("; "))
    }
}

/// Misbehaves for `length`, then says what came of it.
pub async fn misbehave(kind: Kind, server: SocketAddr, length: Duration) -> Result<()> {
    let tally = Rc::new(Tally::default());
    let mut tasks = JoinSet::new();
    let until = Instant::now() + length;
    let many = match kind {
        Kind::Silent | Kind::Slow => 500,
        Kind::Deaf | Kind::Flood | Kind::Origins | Kind::Connections => AT_ONCE,
        Kind::Rooms => 1,
    };
    for number in 0..many {
        let tally = Rc::clone(&tally);
        tasks.spawn_local(async move {
            // A failure is what the server does about it: start anew.
            while Instant::now() < until {
                let one = one(kind, number, server, &tally);
                if let Ok(Err(error)) = timeout_at(until, one).await {
                    tally.count(in_brief(&error.to_string()));
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    tasks.join_all().await;
    println!("{tally}");
    Ok(())
}

async fn one(kind: Kind, number: usize, server: SocketAddr, tally: &Tally) -> Result<()> {
    match kind {
        Kind::Silent => dribble(server, Duration::MAX, tally).await,
        Kind::Slow => dribble(server, Duration::from_secs(1), tally).await,
        Kind::Deaf => deaf(number, server, tally).await,
        Kind::Flood => flood(number, server, tally).await,
        Kind::Connections => connections(server, tally).await,
        Kind::Rooms => rooms(server, tally).await,
        Kind::Origins => foreign(server, tally).await,
    }
}

/// A request that takes its time.
async fn dribble(server: SocketAddr, pause: Duration, tally: &Tally) -> Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    tally.count("opened");
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nX-Slow: ".bytes();
    for byte in request.chain(std::iter::repeat(b'x')) {
        let mut answer = [0; 512];
        match timeout(pause.min(Duration::from_secs(3600)), stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => {
                tally.count("closed by the server");
                return Ok(());
            }
            Ok(Ok(_)) => tally.count("answered"),
            Err(_) => stream.write_all(&[byte]).await?,
        }
    }
    Ok(())
}

async fn pair(number: usize, server: SocketAddr) -> Result<(Wire, Wire)> {
    let room = format!("abuse-{}-{number}", std::process::id());
    let first = Wire::open(server, Some(FROM), Dialect::Plain).await?;
    first.join(&room).await?;
    let second = Wire::open(server, Some(FROM), Dialect::Plain).await?;
    second.join(&room).await?;
    Ok((first, second))
}

async fn deaf(number: usize, server: SocketAddr, tally: &Tally) -> Result<()> {
    let (talks, _deaf) = pair(number, server).await?;
    tally.count("pairs");
    let text = Dialect::Plain.message(&format!("\"{}\"", "x".repeat(20_000)));
    let mut hear = |text: &[u8]| count_error(tally, text);
    loop {
        tokio::select! {
            read = talks.read(&mut hear) => read?,
            () = sleep(Duration::from_millis(30)) => {
                if talks.is_flushed() {
                    talks.send(text.as_bytes())?;
                }
                talks.flush()?;
            }
        }
    }
}

async fn flood(number: usize, server: SocketAddr, tally: &Tally) -> Result<()> {
    let (talks, listens) = pair(number, server).await?;
    tally.count("pairs");
    let text = Dialect::Plain.message(r#"{"type":"candidate","candidate":"flood"}"#);
    let talk = async {
        loop {
            for _ in 0..32 {
                if !talks.is_flushed() {
                    break;
                }
                talks.send(text.as_bytes())?;
            }
            tally.count("bursts of 32");
            while !talks.is_flushed() {
                talks.writable().await?;
                talks.flush()?;
            }
            yield_now().await;
        }
    };
    let hear = async {
        loop {
            talks.read(&mut |text| count_error(tally, text)).await?;
        }
    };
    let listen = async {
        loop {
            listens.read(&mut |_| {}).await?;
        }
    };
    tokio::select! {
        end = talk => end,
        end = hear => end,
        end = listen => end,
    }
}

async fn connections(server: SocketAddr, tally: &Tally) -> Result<()> {
    let mut readers = JoinSet::new();
    for _ in 0..MANY / AT_ONCE {
        match Wire::open(server, Some(FROM), Dialect::Plain).await {
            Ok(wire) => {
                tally.count("opened");
                readers.spawn_local(async move { while wire.read(&mut |_| {}).await.is_ok() {} });
            }
            Err(error) => {
                tally.count(in_brief(&error.to_string()));
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    // Holds them until the time is over.
    std::future::pending().await
}

async fn rooms(server: SocketAddr, tally: &Tally) -> Result<()> {
    let wire = Wire::open(server, Some(FROM), Dialect::Plain).await?;
    for number in 0..MANY {
        wire.send(Dialect::Plain.join(&format!("many-{number}")).as_bytes())?;
        let mut done = false;
        while !done {
            wire.read(&mut |text| {
                done = true;
                if Dialect::Plain.is(text, "created") {
                    tally.count("rooms entered");
                }
                count_error(tally, text);
            })
            .await?;
        }
    }
    Ok(())
}

async fn foreign(server: SocketAddr, tally: &Tally) -> Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    let request = "GET /ws HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
        Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 512];
    let read = stream.read(&mut answer).await?;
    let line = String::from_utf8_lossy(&answer[..read]);
    tally.count(format!("answered{}", line.get(8..12).unwrap_or(" nothing")));
    Ok(())
}

fn count_error(tally: &Tally, text: &[u8]) {
    if Dialect::Plain.is(&text[..text.len().min(60)], "error") {
        let text = String::from_utf8_lossy(text);
        let code = text.split(r#""code":""#).nth(1).and_then(|rest| rest.split('"').next());
        tally.count(format!("errors {}", code.unwrap_or("?")));
    }
}

/// The same words for the same thing: no port numbers, no long sentences.
fn in_brief(text: &str) -> String {
    text.split(['(', '|']).next().unwrap_or_default().trim().chars().take(60).collect()
}
