//! A server as a process of its own, on a core of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{machine, usage};

/// For a server to end after it was asked to.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A running server; dropping it kills it.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts `program` on `core` and waits for the line that names its address.
    pub fn start(
        program: &Path,
        args: &[String],
        core: Option<usize>,
        load_core: usize,
    ) -> Result<Self> {
        // A child inherits where its parent thread may run.
        if let Some(core) = core {
            machine::stay_on(core)?;
        }
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()));
        if core.is_some() {
            machine::stay_on(load_core)?;
        }
        let mut child = child?;
        let out = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(out).lines();
        let mut address = None;
        for line in &mut lines {
            if let Some(found) = address_in(&line?) {
                address = Some(found);
                break;
            }
        }
        let Some(address) = address else {
            let status = child.wait()?;
            bail!("{} did not say where it listens ({status})", program.display());
        };
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.pid())
    }

    pub fn memory(&self) -> Result<u64> {
        usage::memory(self.pid())
    }

    pub fn open_files(&self) -> Result<usize> {
        usage::open_files(self.pid())
    }

    /// Asks it to stop (SIGTERM) and waits; how long that took.
    pub fn stop(mut self) -> Result<Duration> {
        let started = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        while self.child.try_wait()?.is_none() {
            if started.elapsed() > STOP_LIMIT {
                bail!("the server did not stop within {STOP_LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(started.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already, or soon.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    rest.split(|c: char| c.is_whitespace() || c == '/').next()?.parse().ok()
}

/// Our server's arguments: a free port, and of `wanted` what this build understands.
pub fn arguments(program: &Path, wanted: &[(&str, &str)]) -> Result<Vec<String>> {
    let help = Command::new(program).arg("--help").output();
    let help = help.with_context(|| format!("cannot start {}", program.display()))?;
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let known: Vec<&str> = help
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .filter(|word| word.starts_with("--"))
        .collect();
    let mut args = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    for (flag, value) in wanted {
        if known.contains(flag) {
            args.extend([(*flag).to_owned(), (*value).to_owned()]);
        }
    }
    Ok(args)
}

/// Every limit that the load would run into, taken off.
pub const UNLIMITED: &[(&str, &str)] = &[
    ("--message-rate", "0"),
    ("--max-connections", "100000"),
    ("--max-connections-per-address", "100000"),
    ("--connection-rate", "0"),
    ("--joins-per-minute", "0"),
    ("--max-rooms", "0"),
];
