//! The server is killed under a call between a desktop and a tab: media never stops, both get their
//! seats back, and nobody else does.
#![cfg(target_os = "linux")] // drives Debian's Chromium

mod common;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use common::SOON;
use common::chromium::{Chromium, Options, Tab};
use common::clip::Media;
use common::process::{Desktop, Server};
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(30);

/// The line is up, and no sentence says otherwise.
const CALM: &str = "visavis.state === 'connected' && document.getElementById('hint').hidden";

/// So that a test can ask a connection for a new path, as the page does when a network is gone.
const KEEP_CONNECTIONS: &str = "
    const Native = RTCPeerConnection;
    window.connections = [];
    window.RTCPeerConnection = class extends Native {
      constructor(...a) { super(...a); window.connections.push(this); }
    };";

async fn call(server: &Server) -> Result<(Chromium, Tab, Desktop, Media)> {
    let media = Media::generate()?;
    let (camera, microphone) = (media.camera(), media.microphone());
    let options =
        Options { camera: Some(&camera), microphone: Some(&microphone), ..Options::default() };
    let chromium = Chromium::start(options).await?;
    let mut desktop = Desktop::call(&server.url, "tea")?;
    desktop.state(&["waiting"], SOON).await?;
    let tab = chromium.open("about:blank").await?;
    tab.before_pages(KEEP_CONNECTIONS).await?;
    tab.go(&format!("{}/room/tea?join", server.url)).await?;
    tab.state("connected", UP).await?;
    desktop.sees_and_hears(UP).await?;
    tab.sees_movement(UP).await?;
    Ok((chromium, tab, desktop, media))
}

/// The phases the desktop has said so far.
fn said(desktop: &Desktop) -> Vec<String> {
    let errors = desktop.process.errors();
    errors.into_iter().filter(|line| line.starts_with("In call") || line == "Connecting").collect()
}

/// The seat, or `full`: what someone gets who asks as soon as the server answers at all.
async fn stranger(url: String) -> Result<(WebSocketStream<MaybeTlsStream<TcpStream>>, Value)> {
    let address = format!("{}/ws", url.replace("http://", "ws://"));
    let ask = async {
        let mut socket = loop {
            if let Ok((socket, _)) = connect_async(&address).await {
                break socket;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        socket.send(Message::text(r#"{"type":"create or join","room":"tea"}"#)).await?;
        Ok((socket, Value::Null))
    };
    tokio::time::timeout(SOON, ask).await.context("no server")?
}

/// Waits until the stranger is told `full`, whatever it was told before.
async fn loses(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Result<()> {
    let told = async {
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let event: Value = serde_json::from_str(text.as_str())?;
            match event.get("type").and_then(Value::as_str) {
                Some("full") => return Ok(()),
                Some("join" | "joined") => bail!("the stranger got into the call: {event}"),
                _ => {}
            }
        }
        bail!("the stranger was told nothing")
    };
    tokio::time::timeout(SOON, told).await.context("the stranger is neither in nor out")?
}

#[tokio::test]
async fn the_server_is_killed_and_the_call_goes_on_meanwhile() -> Result<()> {
    let mut server = Server::start().await?;
    let (_chromium, tab, mut desktop, _media) = call(&server).await?;
    let before = said(&desktop);
    server.kill()?;
    let lost = |_: &[String], errors: &[String]| {
        errors.iter().any(|line| line.contains("reconnecting to the server")).then_some(())
    };
    desktop.process.until("word of the lost server", SOON, lost).await?;
    tab.until("word of the lost server", "!document.getElementById('hint').hidden", SOON).await?;
    // Nobody is there to help, and pictures and sound go on.
    desktop.sees_and_hears(SOON).await?;
    tab.sees_and_hears().await?;
    ensure!(tab.eval("visavis.state").await? == "connected", "the tab no longer calls");
    let racer = tokio::spawn(stranger(server.url.clone()));
    server.start_again().await?;
    let (mut stranger, _) = racer.await??;
    loses(&mut stranger).await?;
    tab.until("the line again", CALM, SOON).await?;
    let back = |_: &[String], errors: &[String]| {
        errors
            .iter()
            .rfind(|line| line.starts_with("In call"))
            .filter(|line| *line == "In call")
            .map(|_| ())
    };
    desktop.process.until("the line again", SOON, back).await?;
    let after = said(&desktop);
    ensure!(
        after.get(before.len()..)
            == Some(&["In call; reconnecting to the server".to_owned(), "In call".to_owned()]),
        "the call was not left alone: {after:?}"
    );
    tab.sees_movement(SOON).await?;
    desktop.sees_and_hears(SOON).await
}

#[tokio::test]
async fn after_a_restart_the_two_still_understand_each_other() -> Result<()> {
    let mut server = Server::start().await?;
    let (_chromium, tab, mut desktop, _media) = call(&server).await?;
    server.restart().await?;
    tab.until("the line again", CALM, SOON).await?;
    let path = "connections.at(-1).remoteDescription.sdp.match(/ice-ufrag:(.*)/)[1]";
    let before = tab.eval(path).await?;
    tab.eval("connections.at(-1).restartIce()").await?;
    let renegotiated =
        format!("{path} !== {before} && connections.at(-1).signalingState === 'stable'");
    tab.until("a new path, offered and answered", &renegotiated, SOON).await?;
    tab.until("the call on it", "connections.at(-1).connectionState === 'connected'", UP).await?;
    ensure!(tab.eval("connections.length").await? == 1, "a new connection was made");
    desktop.sees_and_hears(UP).await?;
    tab.sees_movement(UP).await?;
    tab.reload().await?;
    tab.state("connected", UP).await?;
    desktop.sees_and_hears(UP).await?;
    tab.sees_movement(UP).await?;
    Ok(())
}
