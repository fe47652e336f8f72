//! The socket.io-client packages of `signaling/tests/socketio_clients`, installed once.
#![allow(clippy::unwrap_used)] // A failure here fails the test.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The packages' names there: old ones and new ones.
pub const CLIENTS: [&str; 5] = [
    "socket.io-client-1.4",
    "socket.io-client-1.7",
    "socket.io-client-2.5",
    "socket.io-client-3.1",
    "socket.io-client-4.8",
];

/// The folder with `node_modules` and `story.js`: exactly what `package-lock.json` says.
pub fn packages() -> PathBuf {
    const FILES: [&str; 3] = ["package.json", "package-lock.json", "story.js"];
    let ours =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../signaling/tests/socketio_clients"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../npm/socketio-clients");
    fs::create_dir_all(&place).unwrap();
    // Of several tests, and test runs, one installs.
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let installed = place.join("installed");
    let wanted = fs::read_to_string(ours.join("package-lock.json")).unwrap();
    for file in FILES {
        fs::copy(ours.join(file), place.join(file)).unwrap();
    }
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return place;
    }
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.current_dir(&place).stdin(Stdio::null()).args(["ci", "--no-audit", "--no-fund"]);
    // No native parts and no scripts of strangers: the clients do without.
    let output = command
        .args(["--ignore-scripts", "--omit=optional"])
        .output()
        .expect("these tests need Node.js with npm: apt-get install nodejs npm");
    assert!(output.status.success(), "npm: {}", String::from_utf8_lossy(&output.stderr));
    fs::write(installed, wanted).unwrap();
    place
}
