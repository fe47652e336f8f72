//! An hour with the signaling server: guests come, talk, leave, vanish; connections are cut and
//! frozen; the server is restarted and killed. At the end memory must have been flat, and no
//! seat, file or message may have leaked. `make soak`, `SOAK_SECONDS=600 make soak`
//!
//! Restarts happen in the first third: the second half watches one process that has settled.
//! Needs Linux.

#[cfg(target_os = "linux")]
#[path = "../rig/mod.rs"]
mod rig;

#[cfg(target_os = "linux")]
mod aftermath;
#[cfg(target_os = "linux")]
mod cable;
#[cfg(target_os = "linux")]
mod guests;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod tally;
#[cfg(target_os = "linux")]
mod trend;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<std::process::ExitCode> {
    // `cargo test --all-targets` starts every benchmark as if it were a test.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("runs only under `cargo bench`");
        return Ok(std::process::ExitCode::SUCCESS);
    }
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the soak reads /proc: it needs Linux");
}
