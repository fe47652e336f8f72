//! Two machines with a network between them: two network namespaces joined by a pair of virtual
//! Ethernet interfaces. One end hosts, the other joins by the link it says.
#![cfg(target_os = "linux")] // network namespaces

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::SOON;
use common::lab::lab;
use common::process::Desktop;

/// From the moment both are in the room, on a machine with two busy cores.
const UP: Duration = Duration::from_secs(30);

async fn call_stands(left: &mut Desktop, right: &mut Desktop) -> Result<()> {
    left.sees_and_hears(UP).await?;
    right.sees_and_hears(UP).await
}

#[tokio::test]
async fn one_hosts_and_the_other_joins_by_the_link() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let mut left = Desktop::start(&lab.left.enter(), &["tea"])?;
    let link = left.invite(SOON).await?;
    ensure!(
        link.starts_with("https://10.77.0.1:8443/room/tea#fp="),
        "the link does not name the host's address: {link}"
    );
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    call_stands(&mut left, &mut right).await?;
    for (name, end) in [("left", &mut left), ("right", &mut right)] {
        let limit = UP;
        end.process
            .stats(&format!("{name}: a path between the hosts"), limit, |line| {
                (line.get("pair")?.as_str()? == "host/udp").then_some(())
            })
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_guest_leaves_and_joins_again() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let mut left = Desktop::start(&lab.left.enter(), &["tea"])?;
    let link = left.invite(SOON).await?;
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    call_stands(&mut left, &mut right).await?;
    right.process.interrupt()?;
    right.process.ended(SOON).await?;
    left.state(&["waiting"], SOON).await?;
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    call_stands(&mut left, &mut right).await
}

#[tokio::test]
async fn the_cable_is_pulled_and_put_back() -> Result<()> {
    let Some(lab) = lab()? else { return Ok(()) };
    let mut left = Desktop::start(&lab.left.enter(), &["tea"])?;
    let link = left.invite(SOON).await?;
    let mut right = Desktop::start(&lab.right.enter(), &[&link])?;
    call_stands(&mut left, &mut right).await?;
    lab.right.ip("link set cable down")?;
    left.state(&["reconnecting"], UP).await?;
    lab.right.ip("link set cable up")?;
    left.state(&["in_call"], UP).await?;
    call_stands(&mut left, &mut right).await
}
