//! `visavis call ROOM` hosts the room itself: in a network namespace of the test's own, since
//! the port is fixed. The namespace has nothing but `lo`, as a machine without network.
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use common::SOON;
use common::headless::Scene;
use common::process::{Process, VISAVIS};

const UP: Duration = Duration::from_secs(40);

/// A network without any way out; gone with its keeper.
struct Network {
    keeper: Process,
}

impl Network {
    /// None, with the reason on standard error, where the system lets this user make none.
    async fn make() -> Result<Option<Self>> {
        Self::with("ip link set lo up").await
    }

    async fn with(script: &str) -> Result<Option<Self>> {
        let mut command = Command::new("unshare");
        let body = format!("{script} && echo ready && exec sleep 600");
        command.args(["--user", "--map-root-user", "--net", "sh", "-c", &body]);
        let mut keeper = Process::start(command, "unshare --user --net")?;
        match keeper.ended(Duration::from_millis(300)).await {
            Ok(status) => {
                let why = keeper.errors().join(" ");
                eprintln!("skipped: no network namespace can be made here ({status}: {why})");
                return Ok(None);
            }
            Err(_) => {
                let ready = |output: &[String], _: &[String]| {
                    output.iter().any(|line| line == "ready").then_some(())
                };
                keeper.until("network", SOON, ready).await?;
            }
        }
        Ok(Some(Self { keeper }))
    }

    /// A command that runs `program` inside.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.keeper.id().to_string();
        command.args(["--target", &target, "--user", "--net", "--preserve-credentials"]);
        command.arg(program);
        command
    }
}

#[tokio::test]
async fn the_first_hosts_and_the_second_finds_it() -> Result<()> {
    let Some(network) = Network::make().await? else {
        return Ok(());
    };
    let scene = Scene::set()?;
    let mut ada = scene.call_by(network.command(VISAVIS), "Ada", "tea", &[])?;
    let invite = ada.says("Invite: http://127.0.0.1:8080/room/tea", SOON).await?;
    ensure!(invite.starts_with("Waiting for the other person."), "{invite}");
    let mut bob = scene.call_by(network.command(VISAVIS), "Bob", "tea", &[])?;
    bob.says("a Visavis server runs at http://127.0.0.1:8080 already: joining there", SOON).await?;
    ada.received(30, UP).await?;
    bob.received(30, UP).await?;
    bob.hang_up("INT").await?;
    ada.says("Bob left the call.", SOON).await?;
    ada.hang_up("TERM").await
}

#[tokio::test]
async fn a_room_that_is_not_hosted_there_is_refused() -> Result<()> {
    let Some(network) = Network::make().await? else {
        return Ok(());
    };
    let scene = Scene::set()?;
    let mut ada = scene.call_by(network.command(VISAVIS), "Ada", "tea", &[])?;
    ada.state("waiting", SOON).await?;
    let mut bob = scene.call_by(network.command(VISAVIS), "Bob", "coffee", &[])?;
    let status = bob.process.ended(SOON).await?;
    let said = bob.process.errors().join("\n");
    ensure!(status.code() == Some(5) && said.contains("coffee"), "{status}: {said}");
    Ok(())
}

#[tokio::test]
async fn a_port_taken_by_another_program_is_left_to_it() -> Result<()> {
    let Some(network) = Network::make().await? else {
        return Ok(());
    };
    let scene = Scene::set()?;
    let this = std::env::current_exe()?.display().to_string();
    let mut other = network.command(&this);
    other.args(["--ignored", "--exact", "--nocapture", "another_program"]);
    let mut other = Process::start(other, "another program at port 8080")?;
    let ready = |output: &[String], _: &[String]| {
        output.iter().any(|line| line.contains("ready")).then_some(())
    };
    other.until("its port", SOON, ready).await?;
    let mut ada = scene.call_by(network.command(VISAVIS), "Ada", "tea", &[])?;
    ada.says("port 8080 is in use by another program: this call is at http://127.0.0.1:", SOON)
        .await?;
    let invite = ada.says("Invite: ", SOON).await?;
    let (_, link) = invite.split_once("Invite: ").unwrap_or_default();
    ensure!(link.ends_with("/room/tea") && !link.contains(":8080"), "{invite}");
    let mut bob = scene.call_by(network.command(VISAVIS), "Bob", link, &[])?;
    ada.received(30, UP).await?;
    bob.received(30, UP).await
}

/// A machine with several interfaces, of which one is IPv6 only.
#[tokio::test]
async fn several_interfaces_and_both_families_do_no_harm() -> Result<()> {
    let script = "ip link set lo up \
        && ip link add a type dummy && ip addr add 192.0.2.7/24 dev a && ip link set a up \
        && ip link add b type dummy && ip addr add 198.51.100.7/24 dev b && ip link set b up \
        && ip link add c type dummy && ip -6 addr add 2001:db8::7/64 dev c nodad \
        && ip link set c up";
    call_in(script, "192.0.2.7").await
}

#[tokio::test]
async fn a_machine_with_only_ipv6_can_call() -> Result<()> {
    let script = "ip link set lo up \
        && ip link add c type dummy && ip -6 addr add 2001:db8::7/64 dev c nodad \
        && ip link set c up && ip -6 route add default dev c";
    call_in(script, "[2001:db8::7]").await
}

/// Hosts in such a network; the other end comes by the link that was shown.
async fn call_in(script: &str, address: &str) -> Result<()> {
    let Some(network) = Network::with(script).await? else {
        return Ok(());
    };
    let scene = Scene::set()?;
    let mut ada = scene.call_by(network.command(VISAVIS), "Ada", "tea", &[])?;
    let invite = ada.says("Invite: ", SOON).await?;
    let (_, link) = invite.split_once("Invite: ").unwrap_or_default();
    ensure!(link.contains("/room/tea"), "{invite}");
    eprintln!("{link}");
    ensure!(link.contains(address), "{invite}: {address} was expected");
    let mut bob = scene.call_by(network.command(VISAVIS), "Bob", link, &[])?;
    ada.received(30, UP).await?;
    bob.received(30, UP).await
}

/// Has the port and never says a word, for as long as a test may take.
#[test]
#[ignore = "started by another test, in its network"]
fn another_program() -> Result<()> {
    let _port = std::net::TcpListener::bind(("0.0.0.0", 8080))?;
    println!("ready");
    std::thread::sleep(4 * UP);
    Ok(())
}
