//! Two machines that reach the server but not each other: the call goes through its relay. Three
//! network namespaces, the server's between the other two and forwarding nothing.
#![cfg(target_os = "linux")] // network namespaces

mod common;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use common::SOON;
use common::lab::{Routed, routed};
use common::process::{Desktop, Process};
use serde_json::Value;

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);

struct Lab(Routed);

/// The one in the middle forwards nothing.
fn lab() -> Result<Option<Lab>> {
    Ok(routed(false)?.map(Lab))
}

impl Lab {
    async fn serve(&self, more: &[&str]) -> Result<(Process, tempfile::TempDir)> {
        let state = tempfile::tempdir()?;
        Ok((self.serve_from(state.path(), more).await?, state))
    }

    /// With its keys in this folder.
    async fn serve_from(&self, state: &Path, more: &[&str]) -> Result<Process> {
        let folder = state.display().to_string();
        let mut args =
            vec!["serve", "--listen", "0.0.0.0:8080", "--tls", "off", "--state-dir", &folder];
        args.extend(more);
        let mut process = Process::visavis_through(&self.0.middle.enter(), &args)?;
        let started = |output: &[String], _: &[String]| {
            output.iter().any(|line| line.contains("Relaying")).then_some(())
        };
        process.until("a line about the relay", SOON, started).await?;
        Ok(process)
    }

    /// Both call; sound and pictures arrive, and each end says that its path is relayed.
    async fn call(&self, more: &[&str]) -> Result<[Desktop; 2]> {
        let arguments = |server| [&["tea", "--server", server][..], more].concat();
        let mut left = Desktop::start(&self.0.left.enter(), &arguments("http://10.78.1.1:8080"))?;
        left.state(&["waiting"], SOON).await?;
        let right = Desktop::start(&self.0.right.enter(), &arguments("http://10.78.2.1:8080"))?;
        let mut ends = [left, right];
        relayed(&mut ends).await?;
        Ok(ends)
    }
}

/// Sound and pictures arrive at both, through the relay.
async fn relayed(ends: &mut [Desktop; 2]) -> Result<()> {
    for end in ends.iter_mut() {
        end.sees_and_hears(UP).await?;
    }
    for end in ends.iter_mut() {
        end.process
            .stats("a relayed path", UP, |line| {
                (line.get("pair")?.as_str()? == "relay/udp").then_some(())
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn two_that_cannot_reach_each_other_meet_at_the_relay_over_udp() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let _server = lab.serve(&["--turn-transports", "udp"]).await?;
    lab.call(&["--ice", "relay"]).await.map(drop)
}

#[tokio::test]
async fn where_the_relay_answers_over_tcp_only_the_call_comes_up_all_the_same() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let _server = lab.serve(&["--turn-transports", "tcp"]).await?;
    lab.call(&["--ice", "relay"]).await.map(drop)
}

/// How many pictures the connection has sent; a new one begins at none.
async fn sent(end: &mut Desktop) -> Result<u64> {
    let frames = |line: &Value| line.pointer("/video_out/frames")?.as_u64();
    end.process.stats("pictures sent", SOON, frames).await
}

/// The restarted server knows nothing of the old allocations, and takes no old credentials.
async fn comes_back(transport: &str) -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let with = |secret| ["--turn-transports", transport, "--turn-secret", secret];
    let (mut server, state) = lab.serve(&with("the first")).await?;
    let mut ends = lab.call(&["--ice", "relay"]).await?;
    let before = [sent(&mut ends[0]).await?, sent(&mut ends[1]).await?];
    server.kill()?;
    for end in &mut ends {
        end.state(&["reconnecting"], SOON).await?;
    }
    let _server = lab.serve_from(state.path(), &with("the second")).await?;
    for end in &mut ends {
        end.state(&["in_call"], UP).await?;
    }
    relayed(&mut ends).await?;
    for (end, before) in ends.iter_mut().zip(before) {
        // Which of the two it was depends on how busy the machine is.
        let how = if sent(end).await? > before { "a restart" } else { "a new connection" };
        eprintln!("over {transport}, by {how}");
    }
    Ok(())
}

#[tokio::test]
async fn a_relayed_call_comes_back_when_its_server_was_killed_and_restarted() -> Result<()> {
    comes_back("udp").await
}

#[tokio::test]
async fn so_does_one_that_is_relayed_over_tcp() -> Result<()> {
    comes_back("tcp").await
}
