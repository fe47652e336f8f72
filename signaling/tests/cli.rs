//! The headless server as a process.
#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use visavis_signaling::{CallLink, Probe, ServerUrl, probe};

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_visavis-signaling"))
        .args(arguments)
        // Not into the home of whoever runs the tests.
        .env("VISAVIS_STATE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cli-state"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the first line and returns the address in it.
fn address_of(server: &mut Child) -> ServerUrl {
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().strip_prefix("Serving on ").unwrap().parse().unwrap()
}

#[cfg(unix)]
#[tokio::test]
async fn it_prints_its_address_serves_and_stops_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let mut server = start(&["--listen", "127.0.0.1:0"]);
        let url = address_of(&mut server);
        let address = url.authority().parse().unwrap();
        assert!(matches!(probe(address).await, Probe::Visavis { .. }));
        let pid = server.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert!(server.wait().unwrap().success());
        assert_eq!(probe(address).await, Probe::Nothing);
    }
}

#[test]
fn a_port_in_use_is_one_sentence_and_a_failure() {
    let mut first = start(&["--listen", "127.0.0.1:0"]);
    let address = address_of(&mut first).authority();
    let mut second = start(&["--listen", &address]);
    let status = second.wait().unwrap();
    let mut text = String::new();
    second.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("is in use by another program"), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "{text}");
}

#[test]
fn an_address_that_is_none_is_named() {
    let mut server = start(&["--listen", "tea"]);
    let status = server.wait().unwrap();
    let mut text = String::new();
    server.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(text.contains("'tea'"), "{text}");
}

/// The lines of standard output up to one that begins with `begin`, that one included.
#[cfg(unix)]
fn lines_until(server: &mut Child, begin: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in BufReader::new(server.stdout.as_mut().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().starts_with(begin) {
            break;
        }
    }
    lines
}

#[cfg(unix)]
#[test]
fn beyond_this_machine_it_invites_over_tls_with_a_key_that_stays() {
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().display().to_string();
    let invited = || {
        let listen = ["--listen", "0.0.0.0:0", "--tls-listen", "127.0.0.1:0", "--turn", "off"];
        let public = ["--public-address", "tea.example:443", "--state-dir", &state];
        let mut server = start(&[&listen[..], &public[..]].concat());
        let lines = lines_until(&mut server, "Invite: ");
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(
            lines.iter().any(|line| line.starts_with("Serving on https://127.0.0.1:")),
            "{lines:?}"
        );
        let link = lines.last().unwrap().strip_prefix("Invite: ").expect("a link").to_owned();
        let link: CallLink = link.parse().unwrap();
        assert_eq!(link.server.to_string(), "https://tea.example");
        let fingerprint = link.fingerprint.expect("a fingerprint");
        assert!(lines.contains(&format!("Fingerprint: {}", fingerprint.grouped())), "{lines:?}");
        (fingerprint, link.room)
    };
    let (first, second) = (invited(), invited());
    assert_eq!(first.0, second.0, "the key is kept");
    assert_ne!(first.1, second.1, "a room nobody guesses");
}

#[cfg(unix)]
#[test]
fn the_link_is_a_picture_too_where_asked_for() {
    let public = ["--public-address", "tea.example", "--listen", "127.0.0.1:0", "--qr"];
    let mut server = start(&public);
    // The plain port of this machine: whoever runs a proxy before it does TLS there.
    let lines = lines_until(&mut server, "\u{1b}[30;107m");
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(lines.iter().any(|line| line.starts_with("Invite: http://tea.example:")), "{lines:?}");
    assert!(lines.last().unwrap().starts_with("\u{1b}[30;107m"), "{lines:?}");
}

#[test]
fn files_that_are_none_are_one_sentence() {
    let mut server = start(&["--listen", "127.0.0.1:0", "--tls", "/nowhere/c.pem,/nowhere/k.pem"]);
    let status = server.wait().unwrap();
    let mut text = String::new();
    server.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains("/nowhere/c.pem") && text.trim().lines().count() == 1, "{text}");
}
