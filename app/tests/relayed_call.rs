//! Two machines that reach the server but not each other: the call goes through its relay. Three
//! network namespaces, the server's between the other two and forwarding nothing.
#![cfg(target_os = "linux")] // network namespaces

mod common;

use std::time::Duration;

use anyhow::Result;
use common::SOON;
use common::netns::{Host, if_possible, may_without};
use common::process::{Desktop, Process};

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(40);

struct Lab {
    server: Host,
    left: Host,
    right: Host,
}

impl Lab {
    fn new() -> Result<Self> {
        let server = Host::new(&[])?;
        let enter: Vec<String> = if may_without() { vec![] } else { server.enter() };
        let (left, right) = (Host::new(&enter)?, Host::new(&enter)?);
        server.ip("link set lo up")?;
        for (name, host, net) in [("left", &left, "10.78.1"), ("right", &right, "10.78.2")] {
            let pid = host.pid();
            server.ip(&format!("link add {name} type veth peer name cable netns {pid}"))?;
            server.ip(&format!("address add {net}.1/24 dev {name}"))?;
            server.ip(&format!("link set {name} up"))?;
            host.ip(&format!("address add {net}.2/24 dev cable"))?;
            host.ip("link set lo up")?;
            host.ip("link set cable up")?;
            // As behind a router: the way leads on, only not to the other one.
            host.ip(&format!("route add default via {net}.1"))?;
        }
        Ok(Self { server, left, right })
    }

    async fn serve(&self, more: &[&str]) -> Result<(Process, tempfile::TempDir)> {
        let state = tempfile::tempdir()?;
        let folder = state.path().display().to_string();
        let mut args =
            vec!["serve", "--listen", "0.0.0.0:8080", "--tls", "off", "--state-dir", &folder];
        args.extend(more);
        let mut process = Process::visavis_through(&self.server.enter(), &args)?;
        let started = |output: &[String], _: &[String]| {
            output.iter().any(|line| line.contains("Relaying")).then_some(())
        };
        process.until("a line about the relay", SOON, started).await?;
        Ok((process, state))
    }

    /// Both call; sound and pictures arrive, and each end says that its path is relayed.
    async fn call(&self, more: &[&str]) -> Result<()> {
        let arguments = |server| [&["tea", "--server", server][..], more].concat();
        let mut left = Desktop::start(&self.left.enter(), &arguments("http://10.78.1.1:8080"))?;
        left.state(&["waiting"], SOON).await?;
        let mut right = Desktop::start(&self.right.enter(), &arguments("http://10.78.2.1:8080"))?;
        left.sees_and_hears(UP).await?;
        right.sees_and_hears(UP).await?;
        for (name, end) in [("left", &mut left), ("right", &mut right)] {
            end.process
                .stats(&format!("{name}: a relayed path"), UP, |line| {
                    (line.get("pair")?.as_str()? == "relay/udp").then_some(())
                })
                .await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn two_that_cannot_reach_each_other_meet_at_the_relay_over_udp() -> Result<()> {
    let Some(lab) = if_possible(Lab::new())? else { return Ok(()) };
    let _server = lab.serve(&["--turn-transports", "udp"]).await?;
    lab.call(&["--ice", "relay"]).await
}

#[tokio::test]
async fn where_the_relay_answers_over_tcp_only_the_call_comes_up_all_the_same() -> Result<()> {
    let Some(lab) = if_possible(Lab::new())? else { return Ok(()) };
    let _server = lab.serve(&["--turn-transports", "tcp"]).await?;
    lab.call(&["--ice", "relay"]).await
}
