//! What the signaling server costs under load, beside Node with socket.io relaying in rooms, in
//! one run and in turn; with `--abuse`, what a well-behaved pair notices of abusers.
//! `make bench-signaling`, `make bench-signaling BENCH_ARGS=--quick`
//!
//! Open loop: messages are sent by a schedule, and latency counts from the scheduled time, so a
//! server that stalls cannot slow down what measures it. The server has one core, the load
//! another. Needs Linux; Node and npm for the yardstick.

#[cfg(target_os = "linux")]
#[path = "../rig/mod.rs"]
mod rig;

#[cfg(target_os = "linux")]
mod abuse;
#[cfg(target_os = "linux")]
mod abuser;
#[cfg(target_os = "linux")]
mod deaf;
#[cfg(target_os = "linux")]
mod figures;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod subject;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    // `cargo test --all-targets` starts every benchmark as if it were a test.
    if !std::env::args().any(|arg| arg == "--bench" || arg == "--abuser") {
        println!("measures only under `cargo bench`");
        return Ok(());
    }
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this benchmark reads /proc: it needs Linux");
}
