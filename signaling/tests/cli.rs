//! The headless server as a process.
#![allow(clippy::unwrap_used)] // Helpers of tests.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use visavis_signaling::{Probe, ServerUrl, probe};

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
