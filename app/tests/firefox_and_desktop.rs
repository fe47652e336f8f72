//! A tab of Debian's Firefox and `visavis call --headless` call each other. That Firefox has no
//! H.264 in WebRTC: both speak VP8. And a tab of Chromium that does not want H.264 either.
#![cfg(target_os = "linux")] // drives Debian's browsers

mod common;

use std::time::Duration;

use anyhow::Result;
use common::SOON;
use common::chromium::{Chromium, Options};
use common::clip::Media;
use common::firefox::{Firefox, Page};
use common::process::{Desktop, Server};
use serde_json::Value;

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);

/// Pictures enough that no frozen or flickering one passes.
const MOVING: usize = 12;

async fn speaks_vp8(desktop: &mut Desktop) -> Result<()> {
    let codecs = |line: &Value| {
        let codec = |way: &str| line.pointer(way).and_then(Value::as_str) == Some("VP8");
        (codec("/video_in/codec") && codec("/video_out/codec")).then_some(())
    };
    desktop.process.stats("VP8 both ways", SOON, codecs).await
}

async fn call_stands(page: &Page, desktop: &mut Desktop) -> Result<()> {
    page.state("connected", UP).await?;
    desktop.sees_and_hears(UP).await?;
    page.sees_movement(MOVING, UP).await?;
    let heard = "visavis.stats().then(({ audioIn }) => audioIn && audioIn.bytes > 20_000)";
    page.until("sound that arrives", heard, SOON).await?;
    speaks_vp8(desktop).await
}

#[tokio::test]
async fn firefox_calls_and_is_called() -> Result<()> {
    let (server, firefox) = (Server::start().await?, Firefox::start().await?);
    let address = |room: &str| format!("{}/room/{room}?join", server.url);
    let script = include_str!("common/strip_camera.js");

    let page = firefox.open(script, &address("tea")).await?;
    page.state("waiting", SOON).await?;
    let mut desktop = Desktop::call(&server.url, "tea")?;
    call_stands(&page, &mut desktop).await?;
    desktop.process.interrupt()?;
    desktop.process.ended(SOON).await?;
    page.state("left", SOON).await?;

    let mut desktop = Desktop::call(&server.url, "cake")?;
    desktop.state(&["waiting"], SOON).await?;
    let page = firefox.open(script, &address("cake")).await?;
    call_stands(&page, &mut desktop).await
}

/// A browser that knows no H.264: it neither names it nor understands it in what it is told.
const ONLY_VP8: &str = r"
const prefer = RTCRtpTransceiver.prototype.setCodecPreferences;
RTCRtpTransceiver.prototype.setCodecPreferences = function (codecs) {
  return prefer.call(this, codecs.filter(({ mimeType }) => /VP8|rtx/i.test(mimeType)));
};
const take = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
  const gone = [...sdp.matchAll(/a=rtpmap:(\d+) H264\//g)].map(([, number]) => number);
  const repairs = [...sdp.matchAll(/a=fmtp:(\d+) apt=(\d+)/g)];
  gone.push(...repairs.filter(([, , of]) => gone.includes(of)).map(([, number]) => number));
  const kept = sdp.split('\r\n').filter((line) => {
    const [, number] = /^a=(?:rtpmap|fmtp|rtcp-fb):(\d+)/.exec(line) ?? [];
    return !gone.includes(number);
  }).map((line) => (line.startsWith('m=video')
    ? line.split(' ').filter((word) => !gone.includes(word)).join(' ') : line));
  return take.call(this, { type, sdp: kept.join('\r\n') });
};";

#[tokio::test]
async fn chromium_without_h264_gets_vp8() -> Result<()> {
    let media = Media::generate()?;
    let (camera, server) = (media.camera(), Server::start().await?);
    let chromium = Chromium::start(Options { camera: Some(&camera), ..Options::default() }).await?;
    let address = |room: &str| format!("{}/room/{room}?join", server.url);
    for (room, tab_first) in [("tea", true), ("cake", false)] {
        let (tab, mut desktop) = if tab_first {
            let tab = chromium.open_with(ONLY_VP8, &address(room)).await?;
            tab.state("waiting", SOON).await?;
            (tab, Desktop::call(&server.url, room)?)
        } else {
            let mut desktop = Desktop::call(&server.url, room)?;
            desktop.state(&["waiting"], SOON).await?;
            (chromium.open_with(ONLY_VP8, &address(room)).await?, desktop)
        };
        tab.state("connected", UP).await?;
        desktop.sees_and_hears(UP).await?;
        tab.sees_movement(UP).await?;
        speaks_vp8(&mut desktop).await?;
        tab.close().await?;
    }
    Ok(())
}
